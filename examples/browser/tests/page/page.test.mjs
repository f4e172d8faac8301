/* The built page in a real headless Chromium. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";

import { give, landscape, open, png, start } from "./harness.mjs";

const VECTORS = process.env.ALLSUB_VECTORS ?? "../../tests/vectors";
const TOLERANCE = 0.02;
const model = readFileSync("dist/model.onnx");
const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const named = (name, buffer, mimeType = "image/png") => ({ name, buffer, mimeType });
const vectors = JSON.parse(readFileSync(join(VECTORS, "vectors.json"), "utf8"));

/** What the Python package answers with the very model of this build. */
function expected() {
  const files = readdirSync(VECTORS).filter((name) => /^expected-.*\.json$/.test(name));
  const all = files.map((name) => JSON.parse(readFileSync(join(VECTORS, name), "utf8")));
  const found = all.find((document) => document.model.sha256 === sha256(model));
  assert.ok(found, `no expected-*.json in ${VECTORS} for this model: run scripts/make_vectors.py`);
  return found.fields;
}

let stage;
before(async () => (stage = await start()));
after(() => stage?.stop());

test("every vector gets the answer of the Python package, and nothing leaves the machine", async () => {
  const { page, requests, complaints, context } = await open(stage);
  const wanted = expected();
  assert.ok(wanted.length >= 8);
  const got = await give(page, wanted.map(({ file }) => join(VECTORS, file)));
  let largest = 0;
  for (const [i, want] of wanted.entries()) {
    const have = got[i];
    assert.equal(have.source, basename(want.file));
    for (const [name, probability] of Object.entries(want.probabilities)) {
      const apart = Math.abs(have.probabilities[name] - probability);
      assert.ok(apart <= TOLERANCE, `${want.file}: ${name} differs by ${apart}`);
      largest = Math.max(largest, apart);
    }
    for (const key of ["status", "label", "top", "prediction_set", "reasons"]) {
      assert.deepEqual(have[key], want[key], `${want.file}: ${key}`);
    }
    assert.equal(sha256(Uint8Array.from(have.mask)), want.mask_sha256, `${want.file}: mask`);
    for (const [key, value] of Object.entries(want.quality)) {
      if (key !== "domain_distance") assert.deepEqual(have.quality[key], value, `${want.file}: ${key}`);
    }
  }
  console.log(`largest difference of a probability over ${wanted.length} vectors: ${largest}`);
  assert.equal(await page.locator(".card").count(), wanted.length);
  assert.match(await page.locator("#case-title").innerText(), new RegExp(`${wanted.length} fields`));
  const foreign = requests.filter((url) => new URL(url).origin !== stage.origin);
  assert.deepEqual(foreign, []);
  assert.ok(requests.some((url) => url.endsWith(".wasm")));
  assert.deepEqual(complaints, []);
  await context.close();
});

test("the page could not reach another origin if it tried", async () => {
  let visits = 0;
  const other = createServer((_request, response) => {
    visits++;
    response.writeHead(200, { "access-control-allow-origin": "*" }).end("seen");
  });
  await new Promise((resolve) => other.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${other.address().port}/`;
  const { page, context } = await open(stage);
  const outcome = await page.evaluate(
    (to) =>
      Promise.all([
        fetch(to).then(() => "sent", () => "blocked"),
        new Promise((done) => {
          const image = new Image();
          image.onload = () => done("sent");
          image.onerror = () => done("blocked");
          image.src = `${to}pixel.png`;
        }),
      ]),
    url,
  );
  assert.deepEqual(outcome, ["blocked", "blocked"]);
  assert.equal(visits, 0);
  assert.equal((await fetch(url)).status, 200);
  assert.equal(visits, 1);
  await context.close();
  other.close();
});

test("a photograph that is no smear is refused, with the reason in words", async () => {
  const { page, context } = await open(stage);
  const [answer] = await give(page, [named("holiday.png", landscape())]);
  assert.equal(answer.status, "unfit");
  assert.equal(answer.label, null);
  assert.ok(answer.reasons.length >= 1);
  const card = page.locator(".card");
  assert.match(await card.locator(".verdict").innerText(), /Not fit to judge/);
  assert.equal(await card.locator(".why li").count(), answer.reasons.length);
  // What the model computed is no answer: it is shown to those who ask for it.
  assert.equal(await card.locator(".bars").isVisible(), false);
  await card.locator(".computed summary").click();
  assert.equal(await card.locator(".bars").isVisible(), true);
  assert.equal(await card.locator(".bars .marked").count(), 0);
  await context.close();
});

test("broken, grey, tiny, transparent and foreign files are explained; the rest goes on", async () => {
  const { page, context } = await open(stage);
  const whole = readFileSync(join(VECTORS, vectors.fields[0].file));
  const cases = [
    ...vectors.refused.map(({ file, code }) => [join(VECTORS, file), code]),
    [named("empty.png", Buffer.alloc(0)), "empty"],
    [named("grey.png", png(64, 64, (x, y) => [x + y, x + y, x + y])), "grey"],
    [named("tiny.png", png(20, 64, (x, y) => [x, y, 9])), "too_small"],
    [named("glass.png", png(64, 64, (x, y) => [x, y, 9, 200])), "unsupported"],
    [named("scan.tif", Buffer.from("II*\0........"), "image/tiff"), "unsupported"],
    [named("fine.png", whole), undefined],
  ];
  const answers = await give(
    page,
    cases.map(([file]) => file),
  );
  assert.deepEqual(
    answers.map(({ error }) => error?.code),
    cases.map(([, code]) => code),
  );
  assert.equal(answers.at(-1).status === "error", false);
  const first = page.locator(".card").first();
  assert.match(await first.innerText(), /Could not be read[\s\S]*cut-short\.png: is cut off/);
  await context.close();
});

test("several fields make a case by the package's rule; a field given again is left out", async () => {
  const { page, context } = await open(stage);
  const wanted = expected();
  const fields = wanted.map(({ file }) => join(VECTORS, file));
  await give(page, fields);
  const box = page.locator("#case");
  const fit = wanted.filter(({ status }) => ["ok", "uncertain"].includes(status)).length;
  const unfit = wanted.length - fit;
  // Drawn fields are mostly refused, so the rule gives no label to a case of them.
  assert.match(await box.locator(".verdict").innerText(), /No label for this case/);
  const why = await box.locator(".why").innerText();
  assert.equal(/more fields were unfit than fit/.test(why), unfit > fit);
  assert.match(await box.innerText(), new RegExp(`${unfit} fields not fit to judge`));
  assert.match(await box.innerText(), new RegExp(`of ${fit} fit fields say`));
  await page.setInputFiles("#files", fields.slice(0, 3));
  await page.waitForFunction(() => /already in this case/.test(document.querySelector("#progress").innerText));
  assert.equal(await page.locator(".card").count(), wanted.length);
  assert.match(await page.locator("#case-title").innerText(), /3 given again and left out/);
  await page.click("#clear");
  await give(page, fields.slice(0, 1));
  assert.equal(await box.isVisible(), false);
  await context.close();
});

test("a field is enlarged in its own proportions, by mouse and keyboard, with and without mask", async () => {
  const { page, context } = await open(stage);
  await give(page, [join(VECTORS, "fields/benign-300x200.png")]);
  await page.click(".enlarge");
  const large = page.locator("#large");
  const box = await large.locator(".picture").boundingBox();
  assert.ok(Math.abs(box.width / box.height - 1.5) < 0.01, `${box.width}x${box.height}`);
  assert.ok(box.height > 400 && box.y >= 0 && box.y + box.height <= 720);
  assert.match(await large.locator("h2").innerText(), /^benign-300x200\.png: Not fit to judge/);
  assert.equal(await large.locator("canvas.mask").isVisible(), true);
  await page.click("#large-mask");
  assert.equal(await large.locator("canvas.mask").isVisible(), false);
  await page.keyboard.press("Escape");
  assert.equal(await large.isVisible(), false);
  // The focus is back on the picture: Enter opens it again.
  await page.keyboard.press("Enter");
  assert.equal(await large.isVisible(), true);
  await page.click("#large-close");
  assert.equal(await large.isVisible(), false);
  await context.close();
});

test("a folder that is dropped is explained, and the file beside it is read", async () => {
  const { page, context } = await open(stage);
  const bytes = [...readFileSync(join(VECTORS, vectors.fields[0].file))];
  await page.evaluate((given) => {
    const folder = new File([], "slides");
    // What browsers do with a folder: it has a name, and cannot be read.
    folder.arrayBuffer = () => Promise.reject(new DOMException("no file", "NotFoundError"));
    const files = [folder, new File([new Uint8Array(given)], "field.png")];
    const event = new Event("drop", { bubbles: true, cancelable: true });
    Object.defineProperty(event, "dataTransfer", { value: { files } });
    document.querySelector("#drop").dispatchEvent(event);
  }, bytes);
  await page.waitForFunction(() => window.answers.length === 2);
  const [folder, field] = await page.evaluate(() => window.answers.map((a) => a.prediction));
  assert.equal(folder.error.code, "unreadable");
  assert.match(await page.locator(".card").first().innerText(), /slides: cannot be read; if it is a folder/);
  assert.equal(field.error, null);
  await context.close();
});

test("a model with one flipped byte is refused, whether served or given by hand", async () => {
  const flipped = Buffer.from(model);
  flipped[flipped.length >> 1] ^= 1;
  const served = await open(stage, {
    route: ["**/model.onnx", (route) => route.fulfill({ body: flipped })],
  });
  assert.match(await served.page.locator("#problem").innerText(), /damaged or was edited/);
  await shot(served.page, "model-refused", false);
  assert.equal(await served.page.locator("#choose").isDisabled(), true);
  // A good file given by hand mends it.
  await served.page.setInputFiles("#model-file", [named("good.onnx", model, "")]);
  await served.page.waitForSelector('#model[data-state="ready"]');
  assert.equal(await served.page.locator("#choose").isEnabled(), true);
  assert.equal(await served.page.locator("#problem").innerText(), "");
  await served.context.close();

  const { page, context } = await open(stage);
  const tries = [
    ["flipped.onnx", flipped, /flipped\.onnx: the model file is damaged/],
    ["text.onnx", Buffer.from("no model"), /text\.onnx: not an allsub-edge model file/],
  ];
  for (const [name, data, words] of tries) {
    await page.setInputFiles("#model-file", [named(name, data, "")]);
    await page.waitForFunction(() => document.querySelector("#problem").textContent);
    await page.waitForSelector('#model[data-state="ready"]');
    assert.match(await page.locator("#problem").innerText(), words);
  }
  assert.match(await page.locator("#model").innerText(), /refused\. Model .* stays in use/);
  const [answer] = await give(page, [join(VECTORS, vectors.fields[0].file)]);
  assert.notEqual(answer.status, "error");
  await context.close();
});

test("an absent model is explained", async () => {
  const { page, context } = await open(stage, {
    route: ["**/model.onnx", (route) => route.fulfill({ status: 404, body: "" })],
  });
  assert.match(await page.locator("#problem").innerText(), /no such model file \(answer 404\)/);
  await context.close();
});

test("once loaded it works with the server gone", async () => {
  const own = await start();
  const { page, context } = await open(own, { worker: "allow" });
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForFunction(() => navigator.serviceWorker.controller);
  own.server.closeAllConnections();
  await new Promise((resolve) => own.server.close(resolve));
  await page.reload();
  await page.waitForSelector('#model[data-state="ready"]');
  const [answer] = await give(page, [join(VECTORS, vectors.fields[0].file)]);
  assert.ok(answer.top);
  await context.close();
  await own.stop().catch(() => undefined);
});

test("a picture from the camera is read", async () => {
  const { page, context } = await open(stage, { permissions: ["camera"] });
  await page.click("#camera");
  await page.waitForFunction(() => document.querySelector("#video").videoWidth > 0);
  await page.click("#take");
  await page.waitForFunction(() => window.answers.length === 1);
  const [record] = await page.evaluate(() => window.answers.map(({ prediction }) => prediction));
  assert.equal(record.source, "camera-1");
  assert.notEqual(record.status, "error");
  await page.click("#camera-stop");
  assert.equal(await page.evaluate(() => document.querySelector("#video").srcObject), null);
  await context.close();
});

test("it can be used by keyboard, has names for all controls, and always tells what it is", async () => {
  const { page, context } = await open(stage, { viewport: { width: 800, height: 600 } });
  await give(page, vectors.fields.slice(0, 4).map(({ file }) => join(VECTORS, file)));
  const unnamed = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, canvas[role], video, summary")]
      .filter((e) => !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length))
      .map((e) => e.outerHTML),
  );
  assert.deepEqual(unnamed, []);
  await page.evaluate(() => window.scrollTo(0, document.body.scrollHeight));
  const notice = await page.locator("#notice").boundingBox();
  assert.ok(notice.y >= 0 && notice.y < 10, "the sentence stays on the screen");
  assert.match(await page.locator("#notice").innerText(), /^Research tool, not a medical device/);
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.focus("#choose");
  await page.evaluate(() =>
    document.querySelector("#files").addEventListener("click", (event) => {
      event.preventDefault();
      window.opened = true;
    }),
  );
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => window.opened);
  await page.focus("#show-mask");
  const shown = () => page.locator("canvas.mask").first().isVisible();
  assert.equal(await shown(), true);
  await page.keyboard.press("Space");
  assert.equal(await shown(), false);
  const download = page.waitForEvent("download");
  await page.click("#save");
  const lines = readFileSync(await (await download).path(), "utf8").trimEnd().split("\n");
  assert.equal(lines.length, 4);
  assert.equal(JSON.parse(lines[0]).schema, "allsub-edge/prediction/1");
  await page.click("#clear");
  assert.equal(await page.locator(".card").count(), 0);
  await context.close();
});

/** Contrast of every text with what is behind it, by WCAG 2.2 (relative luminance). */
function faintTexts() {
  const parse = (css) => css.match(/[\d.]+/g).map(Number);
  const channel = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) =>
    0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || element.closest("[hidden], .hidden, :disabled") || !element.checkVisibility()) continue;
    let opacity = 1;
    let behind = null;
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      const [r, g, b, a = 1] = parse(style.backgroundColor);
      if (!behind && a > 0) behind = [r, g, b];
      opacity *= Number(style.opacity);
    }
    behind ??= [255, 255, 255];
    const text = parse(getComputedStyle(element).color).slice(0, 3);
    const mixed = text.map((value, c) => opacity * value + (1 - opacity) * behind[c]);
    const [high, low] = [luminance(mixed), luminance(behind)].sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)}: ${element.outerHTML.slice(0, 120)}`);
  }
  return faint;
}

const VIEWS = [
  ["desktop-light", { colorScheme: "light", viewport: { width: 1280, height: 900 } }],
  ["desktop-dark", { colorScheme: "dark", viewport: { width: 1280, height: 900 } }],
  ["tablet-light", { colorScheme: "light", viewport: { width: 820, height: 1180 }, hasTouch: true }],
  ["tablet-dark", { colorScheme: "dark", viewport: { width: 820, height: 1180 }, hasTouch: true }],
  ["phone-light", { colorScheme: "light", viewport: { width: 390, height: 844 }, hasTouch: true }],
];

async function shot(page, name, fullPage = true) {
  mkdirSync("screenshots", { recursive: true });
  await page.screenshot({ path: `screenshots/${name}.png`, fullPage });
}

for (const [name, options] of VIEWS) {
  test(`${name}: text has contrast, nothing is wider than the screen`, async () => {
    const { page, context } = await open(stage, { ...options, permissions: ["camera"] });
    await shot(page, `${name}-empty`, false);
    await give(page, [
      ...vectors.fields.slice(0, 5).map(({ file }) => join(VECTORS, file)),
      named("holiday.png", landscape()),
      named("broken.png", Buffer.from("This is a text.")),
    ]);
    const fits = async (what) => {
      assert.deepEqual(await page.evaluate(faintTexts), [], what);
      const [wide, screen] = await page.evaluate(() => [
        document.documentElement.scrollWidth,
        document.documentElement.clientWidth,
      ]);
      assert.ok(wide <= screen, `${what}: ${wide} > ${screen}`);
    };
    await fits("as it comes");
    await shot(page, name);
    await page.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = true)));
    await fits("everything open");
    await shot(page, `${name}-open`);
    await page.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = false)));
    await page.locator(".enlarge").nth(1).click();
    await fits("enlarged");
    await shot(page, `${name}-enlarged`, false);
    await page.click("#large-close");
    await page.click("#camera");
    await page.waitForFunction(() => document.querySelector("#video").videoWidth > 0);
    await fits("camera");
    await shot(page, `${name}-camera`, false);
    await context.close();
  });
}
