import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { defineConfig, type Plugin } from "vite";

// Nothing may leave the machine: the page can reach its own origin and nothing else.
const POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "worker-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

/** Only in builds: the development server injects styles and a socket of its own. */
function contentSecurityPolicy(): Plugin {
  return {
    name: "content-security-policy",
    apply: "build",
    transformIndexHtml: () => [
      {
        tag: "meta",
        attrs: { "http-equiv": "Content-Security-Policy", content: POLICY },
        injectTo: "head-prepend",
      },
    ],
  };
}

/** Writes `sw.js` with the list of all files of this build and a name made from their bytes. */
function offline(): Plugin {
  return {
    name: "offline",
    apply: "build",
    generateBundle(_options, bundle) {
      const hash = createHash("sha256");
      const files = new Set<string>(["./"]);
      for (const [name, item] of Object.entries(bundle)) {
        if (name.endsWith(".html")) continue;
        files.add(`./${name}`);
        hash.update(item.type === "chunk" ? item.code : item.source);
      }
      for (const name of readdirSync("public")) {
        files.add(`./${name}`);
        hash.update(readFileSync(join("public", name)));
      }
      hash.update(readFileSync("index.html"));
      const source = readFileSync("src/sw.js", "utf8")
        .replace("__NAME__", JSON.stringify(`allsub-edge-${hash.digest("hex").slice(0, 16)}`))
        .replace("__FILES__", JSON.stringify([...files]));
      this.emitFile({ type: "asset", fileName: "sw.js", source });
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [contentSecurityPolicy(), offline()],
  build: { target: "es2022", assetsInlineLimit: 0, chunkSizeWarningLimit: 1000 },
});
