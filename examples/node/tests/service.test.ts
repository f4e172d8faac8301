/** The vectors through the library and the service, against what the Python package answers. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";

import sharp, { type Sharp } from "sharp";

import { decodeImage } from "../src/decode.js";
import { openReader, type Prediction, type Reader } from "../src/index.js";
import { createService, type Service } from "../src/service.js";

// npm runs scripts in the folder of package.json.
const VECTORS = process.env.ALLSUB_VECTORS ?? "../../tests/vectors";
const MODEL = process.env.ALLSUB_MODEL;
const TOLERANCE = 0.02;
const MAX_BYTES = 2 ** 20;
const json = (path: string) => JSON.parse(readFileSync(path, "utf8"));
const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");
const vectors = json(join(VECTORS, "vectors.json"));
const image = (file: string) => readFileSync(join(VECTORS, file));

let reader: Reader;
let service: Service;
let url: string;

before(async () => {
  reader = await openReader(MODEL);
  service = createService(reader, { maxBytes: MAX_BYTES, maxWaiting: 4 });
  await new Promise<void>((resolve) => service.server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(service.server.address() as AddressInfo).port}`;
});
after(() => service.stop());

/** What the Python package answers with the very model in use. */
function expected() {
  const names = readdirSync(VECTORS).filter((name) => /^expected-.*\.json$/.test(name));
  const found = names
    .map((name) => json(join(VECTORS, name)))
    .find((document) => document.model.sha256 === reader.model.sha256);
  assert.ok(found, `no expected-*.json in ${VECTORS} for this model: run scripts/make_vectors.py`);
  return found.fields;
}

function compare(got: Prediction, want: any): number {
  for (const key of ["status", "label", "top", "prediction_set", "reasons"] as const) {
    assert.deepEqual(got[key], want[key], `${want.file}: ${key}`);
  }
  for (const [key, value] of Object.entries(want.quality)) {
    if (key === "domain_distance") continue;
    assert.deepEqual((got.quality as any)[key], value, `${want.file}: ${key}`);
  }
  const apart = Object.entries(want.probabilities as Record<string, number>).map(([name, p]) =>
    Math.abs((got.probabilities as Record<string, number>)[name]! - p),
  );
  assert.ok(Math.max(...apart) <= TOLERANCE, `${want.file}: differs by ${Math.max(...apart)}`);
  return Math.max(...apart);
}

test("the function gives every vector the answer and the mask of the Python package", async () => {
  const wanted = expected();
  assert.ok(wanted.length >= 8);
  let largest = 0;
  for (const want of wanted) {
    const { prediction, mask } = await reader.predictWithMask(image(want.file), want.file);
    assert.equal(sha256(mask!), want.mask_sha256, `${want.file}: mask`);
    largest = Math.max(largest, compare(prediction, want));
  }
  console.log(`largest difference of a probability over ${wanted.length} vectors: ${largest}`);
});

test("the service gives the same, several at once", async () => {
  const wanted = expected();
  for (let at = 0; at < wanted.length; at += 4) {
    await Promise.all(
      wanted.slice(at, at + 4).map(async (want: any) => {
        const response = await fetch(`${url}/predict?source=${encodeURIComponent(want.file)}`, {
          method: "POST",
          body: image(want.file),
        });
        assert.equal(response.status, 200);
        const prediction = (await response.json()) as Prediction;
        assert.equal(prediction.source, want.file);
        assert.equal(prediction.schema, "allsub-edge/prediction/1");
        compare(prediction, want);
      }),
    );
  }
});

test("refused files become error records with Python's codes", async () => {
  for (const { file, code } of vectors.refused) {
    const response = await fetch(`${url}/predict`, {
      method: "POST",
      headers: { "x-source": file },
      body: image(file),
    });
    assert.equal(response.status, 422);
    const { status, source, error } = (await response.json()) as Prediction;
    assert.deepEqual([status, source, error?.code], ["error", file, code]);
  }
});

/** The fields of one vector in another form. */
const remade = (change: (image: Sharp) => Sharp) =>
  change(sharp(image(vectors.fields[0].file))).toBuffer();

test("alpha is dropped, 16 bits are rounded, Exif turns upright, a damaged JPEG is refused", async () => {
  const plain = await reader.predict(image(vectors.fields[0].file));
  const glass = await reader.predict(await remade((i) => i.ensureAlpha(0.5).png()));
  assert.deepEqual(glass.probabilities, plain.probabilities);
  const { data, info } = await sharp(image(vectors.fields[0].file))
    .raw()
    .toBuffer({ resolveWithObject: true });
  // 257 v is v in 16 bits; 120 more or less rounds back to it.
  const wide = Uint16Array.from(data, (v, at) =>
    Math.max(0, Math.min(65535, 257 * v + ((at * 37) % 241) - 120)),
  );
  const raw = { width: info.width, height: info.height, channels: 3 as const };
  const deep = await sharp(wide, { raw }).toColourspace("rgb16").png().toBuffer();
  assert.equal(deep[24], 16, "the test's own PNG has 16 bits");
  assert.deepEqual(Buffer.from((await decodeImage(deep, "deep.png")).data), data);
  const turned = await remade((i) => i.rotate(90).withMetadata({ orientation: 8 }).png());
  const upright = await reader.predict(turned);
  assert.deepEqual(upright.probabilities, plain.probabilities);
  const jpeg = await remade((i) => i.jpeg());
  assert.equal((await reader.predict(jpeg)).error, null);
  // Past the headers: the coded data lose a stretch.
  const hurt = Buffer.concat([jpeg.subarray(0, jpeg.length / 2), Buffer.from([0xff, 0xd9])]);
  assert.equal((await reader.predict(hurt)).error?.code, "truncated");
  assert.equal((await reader.predict(await remade((i) => i.greyscale().png()))).error?.code, "grey");
});

test("health, wrong paths and methods, empty and oversized bodies", async () => {
  const health: any = await (await fetch(`${url}/health`)).json();
  assert.deepEqual([health.status, health.model.sha256], ["ok", reader.model.sha256]);
  const code = async (path: string, init?: RequestInit) => {
    const response = await fetch(url + path, init);
    return [response.status, ((await response.json()) as any).error.code];
  };
  assert.deepEqual(await code("/nothing"), [404, "not_found"]);
  assert.deepEqual(await code("/predict"), [405, "wrong_method"]);
  assert.deepEqual(await code("/predict", { method: "POST" }), [400, "empty"]);
  // Without a length, so that only counting can notice.
  const refused = await new Promise<number | undefined>((resolve) => {
    const sending = request(`${url}/predict`, { method: "POST" }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    sending.on("error", () => undefined);
    sending.write(Buffer.alloc(MAX_BYTES));
    sending.write(Buffer.alloc(MAX_BYTES));
  });
  assert.equal(refused, 413);
  assert.equal((await fetch(`${url}/health`)).status, 200);
});

test("a damaged or absent model is refused in one line", async () => {
  await assert.rejects(openReader("no-such.onnx"), { code: "missing" });
  await assert.rejects(openReader(join(VECTORS, "vectors.json")), { code: "not_a_model_file" });
});

test("the program starts, answers, and stops on SIGTERM", async () => {
  const child = spawn(process.execPath, ["dist/node/src/main.js", "serve"], {
    env: { ...process.env, PORT: "0" },
  });
  let said = "";
  const exit = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const at = await new Promise<string>((resolve, reject) => {
    child.stderr.on("data", (part) => reject(new Error(String(part))));
    child.stdout.on("data", (part) => {
      said += part;
      const match = /listening on (\S+)/.exec(said);
      if (match) resolve(match[1]!);
    });
  });
  const response = await fetch(`${at}/predict`, {
    method: "POST",
    body: image(vectors.fields[0].file),
  });
  assert.equal(response.status, 200);
  child.kill("SIGTERM");
  assert.equal(await exit, 0);
  assert.match(said, /SIGTERM: answering what is under way/);
});
