/** The parts without a model, against what the Python package says (tests/vectors). */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { inflateSync } from "node:zlib";

import { CASE_REASONS, decide, summarise } from "../../src/core/case.js";
import { readImageHeader } from "../../src/core/image-file.js";
import { parseManifest, type Calibration } from "../../src/core/manifest.js";
import { openModelFile } from "../../src/core/model-file.js";
import { answer, predictionSet } from "../../src/core/prediction.js";
import { checks, judge, measure, type Quality } from "../../src/core/quality.js";
import { squash } from "../../src/core/resize.js";
import { roundTo } from "../../src/core/rounding.js";

// npm runs scripts in the folder of package.json.
const VECTORS = process.env.ALLSUB_VECTORS ?? "../../tests/vectors";
const vectors = JSON.parse(readFileSync(join(VECTORS, "vectors.json"), "utf8"));
const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

/** An 8-bit RGB PNG without interlacing, by the filters of the PNG specification. */
function readPng(data: Buffer): { rgb: Uint8Array; width: number; height: number } {
  const [width, height] = [data.readUInt32BE(16), data.readUInt32BE(20)];
  assert.deepEqual([...data.subarray(24, 29)], [8, 2, 0, 0, 0]);
  const parts: Buffer[] = [];
  for (let at = 8; at < data.length; at += 12 + data.readUInt32BE(at)) {
    const length = data.readUInt32BE(at);
    if (data.toString("latin1", at + 4, at + 8) === "IDAT") {
      parts.push(data.subarray(at + 8, at + 8 + length));
    }
  }
  const raw = inflateSync(Buffer.concat(parts));
  const stride = 3 * width;
  const rgb = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)]!;
    for (let x = 0; x < stride; x++) {
      const left = x < 3 ? 0 : rgb[y * stride + x - 3]!;
      const up = y ? rgb[(y - 1) * stride + x]! : 0;
      const corner = y && x >= 3 ? rgb[(y - 1) * stride + x - 3]! : 0;
      const p = left + up - corner;
      const [a, b, c] = [Math.abs(p - left), Math.abs(p - up), Math.abs(p - corner)];
      const paeth = a <= b && a <= c ? left : b <= c ? up : corner;
      const guess = [0, left, up, (left + up) >> 1, paeth][filter]!;
      rgb[y * stride + x] = raw[y * (stride + 1) + 1 + x]! + guess;
    }
  }
  return { rgb, width, height };
}

test("area-exact/1 gives the bytes of the resize vectors", () => {
  assert.ok(vectors.resize_vectors.length >= 5);
  for (const { width, height, size, rgb, expected } of vectors.resize_vectors) {
    const got = squash(Uint8Array.from(rgb), width, height, 3, size);
    assert.deepEqual([...got], expected, `${width}x${height} -> ${size}`);
  }
});

test("fields are squashed to the very bytes, from RGB and from RGBA, and measured alike", () => {
  assert.ok(vectors.fields.length >= 8);
  for (const field of vectors.fields) {
    const { rgb, width, height } = readPng(readFileSync(join(VECTORS, field.file)));
    assert.equal(sha256(rgb), field.rgb_sha256, field.file);
    const small = squash(rgb, width, height, 3);
    assert.equal(sha256(small), field.squashed_sha256, field.file);
    const rgba = new Uint8ClampedArray((4 * rgb.length) / 3).fill(255);
    for (let at = 0; at < rgb.length; at++) rgba[Math.floor(at / 3) * 4 + (at % 3)] = rgb[at]!;
    assert.equal(sha256(squash(rgba, width, height, 4)), field.squashed_sha256, field.file);
    const quality = measure(small, new Uint8Array(224 * 224), 0);
    // What needs the mask is compared where the model runs.
    for (const key of ["focus", "background", "brightness", "clipped", "black", "cast"] as const) {
      assert.deepEqual(quality[key], field.quality[key], `${field.file}: ${key}`);
    }
  }
});

test("a wrong size is refused by the resize", () => {
  assert.throws(() => squash(new Uint8Array(11), 2, 2, 3), RangeError);
  assert.throws(() => squash(new Uint8Array(0), 0, 2, 3), RangeError);
});

test("files that no program may answer for are refused with Python's codes", () => {
  assert.ok(vectors.refused.length >= 2);
  for (const { file, code } of vectors.refused) {
    const data = readFileSync(join(VECTORS, file));
    assert.throws(() => readImageHeader(data, file, ["png"]), { code }, file);
  }
});

test("a PNG is refused wherever it is cut, and where a needed byte flips", () => {
  const whole = readFileSync(join(VECTORS, vectors.fields[0].file));
  assert.equal(readImageHeader(whole, "whole", ["png"]).width, vectors.fields[0].width);
  for (const length of [0, 1, 20, 40, whole.length >> 1, whole.length - 1]) {
    assert.throws(() => readImageHeader(whole.subarray(0, length), "cut", ["png"]), {
      code: length === 0 ? "empty" : length === 1 ? "not_an_image" : "truncated",
    });
  }
  const flipped = Buffer.from(whole);
  flipped[whole.length >> 1]! ^= 1;
  assert.throws(() => readImageHeader(flipped, "flipped", ["png"]), { code: "truncated" });
});

test("JPEG headers: size, grey, cut, and a thumbnail's end is not the end", () => {
  const segment = (marker: number, ...bytes: number[]) => [
    ...[0xff, marker, (bytes.length + 2) >> 8, (bytes.length + 2) & 255],
    ...bytes,
  ];
  const frame = (channels: number) => [
    ...segment(0xc0, 8, 0, 100, 0, 200, channels, ...Array(3 * channels).fill(0)),
  ];
  const scan = [...segment(0xda, 1, 1, 0, 0, 63, 0), 1, 0xff, 0, 2, 0xff, 0xd0, 3];
  const thumbnail = segment(0xe1, 0xff, 0xd8, 0xff, 0xd9);
  const file = (channels: number) =>
    Uint8Array.from([0xff, 0xd8, ...thumbnail, ...frame(channels), ...scan, 0xff, 0xd9, 7]);
  const header = readImageHeader(file(3), "a", ["jpeg"]);
  assert.deepEqual([header.width, header.height], [200, 100]);
  assert.throws(() => readImageHeader(file(1), "a", ["jpeg"]), { code: "grey" });
  assert.throws(() => readImageHeader(file(3).subarray(0, -3), "a", ["jpeg"]), {
    code: "truncated",
  });
  assert.throws(() => readImageHeader(file(3), "a", ["png"]), { code: "unsupported" });
});

test("numbers are rounded as Python rounds them", () => {
  // python: round(0.03125, 4), round(0.09375, 4), round(2.675, 2), round(1e-7, 6), round(-0.5, 0)
  assert.equal(roundTo(0.03125, 4), 0.0312);
  assert.equal(roundTo(0.09375, 4), 0.0938);
  assert.equal(roundTo(2.675, 2), 2.67);
  assert.equal(roundTo(1e-7, 6), 0);
  assert.equal(roundTo(-0.15625, 4), -0.1562);
  assert.equal(roundTo(109.17904, 4), 109.179);
});

const CALIBRATION: Calibration = {
  alpha: 0.1,
  conformal: { Benign: 0.5, Early: 0.6, Pre: 0.5, Pro: 0.2 },
  domainThreshold: 2,
  quality: { min_focus: 5, max_cast: 0.1, min_of_the_future: 1 },
};
const QUALITY: Quality = {
  ...{ focus: 5, background: [240, 240, 240], cell_fraction: 0, domain_distance: 2, cells: 0 },
  ...{ brightness: 240, clipped: 0, black: 0, cast: 0.1, stain: null, cell_blue: null },
  red_cell_tint: null,
};

test("limits: an equal value is fit, absent limits are not applied, unknown ones are named", () => {
  assert.deepEqual(judge(QUALITY, CALIBRATION), []);
  assert.deepEqual(judge({ ...QUALITY, cast: 0.11, focus: 4.9 }, CALIBRATION), [
    "out_of_focus",
    "colour_cast",
  ]);
  assert.deepEqual(judge({ ...QUALITY, domain_distance: 2.000001 }, CALIBRATION), [
    "out_of_domain",
  ]);
  assert.deepEqual(checks(CALIBRATION), {
    checked: ["out_of_domain", "out_of_focus", "colour_cast"],
    notChecked: ["min_of_the_future"],
  });
});

test("status, label and prediction set follow from the rounded probabilities", () => {
  const given = { source: "f", reasons: [], quality: QUALITY, timing_ms: {} };
  const model = { name: "m", version: "1", sha256: "", engine: "e", threads: 1 };
  const say = (p: number[], reasons: string[] = [], conformal = CALIBRATION.conformal) =>
    answer({ ...given, reasons, model }, p, conformal);
  const sure = say([0.02, 0.03, 0.94, 0.01]);
  assert.deepEqual([sure.status, sure.label, sure.prediction_set], ["ok", "Pre", ["Pre"]]);
  const two = say([0.5, 0.4, 0.1, 0]);
  assert.deepEqual([two.status, two.label, two.top], ["uncertain", null, "Benign"]);
  assert.deepEqual(two.prediction_set, ["Benign", "Early"]);
  // Less than one unit of the sixth decimal below 1 - 0.6: still in the set.
  assert.deepEqual(predictionSet([0.5, 0.3999991, 0.1, 0], CALIBRATION.conformal).length, 2);
  assert.deepEqual(predictionSet([0.5, 0.399998, 0.1, 0], CALIBRATION.conformal).length, 1);
  assert.equal(say([0.3, 0.3, 0.3, 0.1]).status, "uncertain");
  const unfit = say([0.02, 0.03, 0.94, 0.01], ["out_of_focus"]);
  assert.deepEqual([unfit.status, unfit.label, unfit.top], ["unfit", null, "Pre"]);
  assert.deepEqual(say([0.3, 0.3, 0.3, 0.1], [], null).prediction_set, ["Benign"]);
  const summary = summarise([sure, two, unfit]);
  assert.deepEqual(summary.statuses, { ok: 1, uncertain: 1, unfit: 1, error: 0 });
  assert.deepEqual(summary.votes, { Benign: 1, Early: 0, Pre: 1, Pro: 0 });
  assert.deepEqual(summary.inSets, { Benign: 1, Early: 1, Pre: 1, Pro: 0 });
  assert.deepEqual([summary.leukaemiaInSet, summary.means!.Benign], [2, 0.26]);
  assert.equal(summarise(Array(4).fill(sure)).label, "Pre");
  assert.deepEqual(summarise([unfit]).reasons, ["no_fit_fields"]);
});

test("the rule for cases decides as the Python package does", () => {
  assert.ok(vectors.case_vectors.length >= 40);
  const told = new Set<string>();
  for (const { expected, in_sets, leukaemia_in_set, means, ...given } of vectors.case_vectors) {
    const counts = { ...given, means, inSets: in_sets, leukaemiaInSet: leukaemia_in_set };
    const { notExcluded, ...decision } = decide(counts);
    assert.deepEqual({ ...decision, not_excluded: notExcluded }, expected, JSON.stringify(counts));
    expected.reasons.forEach((code: string) => told.add(code));
  }
  assert.deepEqual(told, new Set(Object.keys(CASE_REASONS)));
});

const MODEL = new Uint8Array(readFileSync("public/model.onnx"));

test("the model file is verified and its manifest read", async () => {
  const { manifest, sha256: told } = await openModelFile(MODEL);
  assert.equal(told, sha256(MODEL));
  assert.ok(manifest.name && manifest.version);
});

test("one flipped bit anywhere in the model file is noticed", async () => {
  const step = Math.max(1, Math.floor(MODEL.length / 40));
  for (let at = 0; at < MODEL.length; at += step) {
    const flipped = MODEL.slice();
    flipped[at]! ^= 1;
    await assert.rejects(openModelFile(flipped), { code: "damaged" }, `byte ${at}`);
  }
  await assert.rejects(openModelFile(MODEL.slice(0, -1)), { name: "ModelFileError" });
  await assert.rejects(openModelFile(new Uint8Array()), { code: "not_a_model_file" });
  await assert.rejects(openModelFile(new Uint8Array(99)), { code: "not_a_model_file" });
});

test("a manifest of another kind is refused with Python's codes", async () => {
  const raw = (await openModelFile(MODEL)).manifest.raw;
  const changed = (change: object) => () => parseManifest(JSON.stringify({ ...raw, ...change }));
  assert.doesNotThrow(changed({ of_the_future: 1 }));
  assert.throws(changed({ schema: "allsub-edge/model/9" }), { code: "unknown_schema" });
  assert.throws(changed({ classes: ["Pro", "Pre", "Early", "Benign"] }), { code: "wrong_classes" });
  assert.throws(changed({ interface: "two-channel" }), { code: "unknown_interface" });
  assert.throws(changed({ resize: "bilinear/1" }), { code: "unknown_resize" });
  assert.throws(changed({ input: {} }), { code: "bad_manifest" });
  assert.throws(changed({ calibration: {} }), { code: "bad_manifest" });
  assert.throws(() => parseManifest("{"), { code: "bad_manifest" });
  assert.throws(() => parseManifest("{}"), { code: "unknown_schema" });
});
