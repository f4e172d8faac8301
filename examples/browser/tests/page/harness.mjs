/* A headless Chromium on the built page, and pictures made on the spot. */

import { existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { crc32, deflateSync } from "node:zlib";

import { chromium } from "playwright-core";

import { serve } from "../../scripts/serve.mjs";

const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Path of the browser: CHROMIUM, or where Linux distributions put it. */
export function browserPath() {
  const found = process.env.CHROMIUM ?? BROWSERS.find((path) => existsSync(path));
  if (!found) throw new Error("no Chromium: apt-get install chromium, or name it with CHROMIUM=FILE");
  return found;
}

export async function start() {
  const server = await serve();
  const browser = await chromium.launch({
    executablePath: browserPath(),
    args: [
      // Containers often run as root, where Chromium's own sandbox does not start.
      ...["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
    ],
  });
  const origin = `http://localhost:${server.address().port}`;
  const stop = async () => {
    await browser.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { browser, server, origin, stop };
}

/**
 * A page with its model ready (or refused), every answer kept as `window.answers`.
 *
 * @returns {page, requests, complaints}: all URLs asked for, all that the console says is wrong.
 */
export async function open({ browser, origin }, options = {}) {
  const { route, worker = "block", ...context } = options;
  const made = await browser.newContext({ serviceWorkers: worker, ...context });
  const page = await made.newPage();
  const requests = [];
  const complaints = [];
  made.on("request", (request) => requests.push(request.url()));
  page.on("console", (line) => {
    const blocked = worker === "block" && line.text().startsWith("Service Worker registration");
    if (["error", "warning"].includes(line.type()) && !blocked) complaints.push(line.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.addInitScript(() => {
    window.answers = [];
    document.addEventListener("allsub-edge:answer", ({ detail }) => window.answers.push(detail));
  });
  if (route) await page.route(...route);
  await page.goto(`${origin}/`);
  await page.waitForSelector('#model[data-state="ready"], #model[data-state="refused"]');
  return { page, context: made, requests, complaints };
}

/** Give files to the page, wait for all, and return their answers (mask as a plain array). */
export async function give(page, files) {
  const before = await page.evaluate(() => window.answers.length);
  const named = files.map((file) =>
    typeof file === "string"
      ? { name: basename(file), mimeType: "image/png", buffer: readFileSync(file) }
      : file,
  );
  await page.setInputFiles("#files", named);
  await page.waitForFunction((n) => window.answers.length >= n, before + files.length);
  return page.evaluate(
    (from) =>
      window.answers
        .slice(from)
        .map(({ prediction, mask }) => ({ ...prediction, mask: mask && Array.from(mask) })),
    before,
  );
}

/** An 8-bit PNG, RGB or RGBA by the length of what `colour(x, y)` gives. */
export function png(width, height, colour) {
  const channels = colour(0, 0).length;
  const raw = Buffer.alloc(height * (1 + width * channels));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      raw.set(colour(x, y), y * (1 + width * channels) + 1 + x * channels);
    }
  }
  const chunk = (kind, data) => {
    const body = Buffer.concat([Buffer.from(kind, "latin1"), data]);
    const out = Buffer.alloc(body.length + 8);
    out.writeUInt32BE(data.length);
    body.copy(out, 4);
    out.writeUInt32BE(crc32(body), body.length + 4);
    return out;
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, channels === 4 ? 6 : 2, 0, 0, 0], 8);
  const magic = Buffer.from("\x89PNG\r\n\x1a\n", "latin1");
  const data = [chunk("IHDR", header), chunk("IDAT", deflateSync(raw)), chunk("IEND", Buffer.alloc(0))];
  return Buffer.concat([magic, ...data]);
}

/** A landscape as a holiday photograph shows it: sky, sun, hills, a meadow with flowers. */
export function landscape(width = 640, height = 480) {
  return png(width, height, (x, y) => {
    const grain = ((x * 7919 + y * 104729 + x * y) % 17) - 8;
    const hill = height * (0.55 + 0.08 * Math.sin(x / 70) + 0.03 * Math.sin(x / 23));
    const sun = Math.hypot(x - width * 0.78, y - height * 0.2);
    let colour;
    if (sun < 38) colour = [255, 236, 150];
    else if (y < hill) colour = [90 + y / 4, 150 + y / 5, 235 - y / 12];
    else if (y < hill + 60) colour = [62, 96, 78];
    else if ((x * 31 + y * 17) % 211 < 3) colour = [225, 60, 50];
    else colour = [88 + 30 * Math.sin(x / 9), 140 + y / 10, 46];
    return colour.map((value) => Math.max(0, Math.min(255, Math.round(value + grain))));
  });
}
