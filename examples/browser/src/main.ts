/** The page: wires files, the camera and the model to the views. */

import * as ort from "onnxruntime-web/wasm";
import wasmUrl from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";

import { startCamera, stopCamera } from "./camera.js";
import { FIELDS_NEEDED, summarise } from "./core/case.js";
import { NOT_A_MEDICAL_DEVICE } from "./core/classes.js";
import { Classifier, type Answer, type Pixels } from "./core/classifier.js";
import { AppError, ModelFileError } from "./core/errors.js";
import { sha256 } from "./core/model-file.js";
import { canvasIsExact, decodeFile, grabFrame } from "./pixels.js";
import { aboutModel } from "./view/about.js";
import { card, shortAnswer } from "./view/card.js";
import { caseView } from "./view/case.js";
import { byId, plural } from "./view/dom.js";
import { listenToEnlarged } from "./view/enlarge.js";
import "./style.css";

// One thread: more need cross-origin isolation, which a plain static server does not give.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: wasmUrl };

const started = performance.now();
const answers: Answer[] = [];
/** Hashes of the fields of this case, as the model saw them: one field twice is one observation. */
const seen = new Set<string>();
let repeats = 0;
let classifier: Classifier | null = null;

const model = byId("model");
const problem = byId("problem");
const progress = byId("progress");
const choose = byId<HTMLButtonElement>("choose");
const files = byId<HTMLInputElement>("files");
const cameraButton = byId<HTMLButtonElement>("camera");
const panel = byId("camera-panel");
const video = byId<HTMLVideoElement>("video");
const modelFile = byId<HTMLInputElement>("model-file");

/** Tell a problem in one line; the first line of an unexpected one. */
function complain(error: unknown): void {
  problem.textContent = error instanceof Error ? error.message.split("\n")[0]! : String(error);
  if (!(error instanceof AppError)) console.error(error);
}

async function fetchModel(): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch("./model.onnx").catch(() => null);
  if (!response?.ok) {
    throw new ModelFileError(
      "missing",
      `model.onnx: no such model file (${response ? `answer ${response.status}` : "no answer"}): ` +
        "build the page again with `npm run build`, or use another model file below",
    );
  }
  return new Uint8Array(await response.arrayBuffer());
}

async function openModel(source: string, load: () => Promise<Uint8Array<ArrayBuffer>>): Promise<void> {
  const before = performance.now();
  setReady(false);
  model.textContent = "Loading the model …";
  model.dataset.state = "loading";
  problem.textContent = "";
  try {
    const opened = await Classifier.open(ort, await load(), source);
    await classifier?.close();
    classifier = opened;
    // Answers of two models must not mix in one case.
    clear();
    const { name, version, precision } = opened.manifest;
    model.textContent = `Model ${name} ${version} (${precision}), checked and ready.`;
    model.dataset.state = "ready";
    model.dataset.openMs = (performance.now() - before).toFixed(1);
    aboutModel(byId("about"), opened);
  } catch (error) {
    complain(error);
    model.dataset.state = classifier ? "ready" : "refused";
    model.textContent = classifier
      ? `The file was refused. Model ${classifier.manifest.name} stays in use.`
      : "No model: the file was refused.";
    if (!classifier) byId<HTMLDetailsElement>("other").closest("details")!.open = true;
  }
  setReady(classifier !== null);
}

function setReady(ready: boolean): void {
  choose.disabled = !ready;
  cameraButton.disabled = !ready || !navigator.mediaDevices?.getUserMedia;
}

/** Read one field; gives its answer, or null for one that this case has already. */
async function read(source: string, decode: () => Promise<Pixels>): Promise<Answer | null> {
  const asked = classifier!;
  const given = await asked.predict(source, decode);
  const hash = given.field && (await sha256(new Uint8Array(given.field)));
  // Another model was opened meanwhile: the case is now its own.
  if (asked !== classifier) return null;
  if (hash && seen.has(hash)) {
    repeats++;
    caseView(byId("case"), summarise(answers.map(({ prediction }) => prediction)), repeats);
    return null;
  }
  if (hash) seen.add(hash);
  answers.push(given);
  byId("cards").append(card(given));
  caseView(byId("case"), summarise(answers.map(({ prediction }) => prediction)), repeats);
  byId("nothing").hidden = true;
  byId<HTMLButtonElement>("save").disabled = false;
  byId<HTMLButtonElement>("clear").disabled = false;
  if (answers.length === 1) {
    model.dataset.firstAnswerMs = (performance.now() - started).toFixed(1);
  }
  // For pages that embed this one, and for its tests.
  document.dispatchEvent(new CustomEvent("allsub-edge:answer", { detail: given }));
  return given;
}

let reading: Promise<void> = Promise.resolve();

/** Files that are given while others are being read wait for their turn. */
function readFiles(list: readonly File[]): Promise<void> {
  reading = reading.then(() => readFilesNow(list));
  return reading;
}

async function readFilesNow(list: readonly File[]): Promise<void> {
  if (!classifier || !list.length) return;
  problem.textContent = "";
  const meter = byId<HTMLProgressElement>("meter");
  meter.max = list.length;
  meter.hidden = list.length < 2;
  const before = repeats;
  let done = 0;
  try {
    for (const file of list) {
      meter.value = done;
      progress.textContent = `Reading ${++done} of ${list.length}: ${file.name}`;
      await read(file.name, () => decodeFile(file, file.name));
      // A breath for the browser, so that it can draw and react.
      await new Promise((resume) => setTimeout(resume));
    }
    const again = repeats - before;
    progress.textContent =
      (list.length === 1 ? `${list[0]!.name} read` : `${plural(list.length, "field")} read`) +
      (again ? `; ${again} of them already in this case, left out.` : ".");
  } catch (error) {
    progress.textContent = "";
    complain(error);
  }
  meter.hidden = true;
}

function clear(): void {
  answers.length = 0;
  seen.clear();
  repeats = 0;
  byId("cards").replaceChildren();
  byId("case").hidden = true;
  byId("nothing").hidden = false;
  byId<HTMLButtonElement>("save").disabled = true;
  byId<HTMLButtonElement>("clear").disabled = true;
  progress.textContent = "";
}

function save(): void {
  const lines = answers.map(({ prediction }) => JSON.stringify(prediction) + "\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
  link.download = "allsub-edge.ndjson";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function toggleCamera(on: boolean): Promise<void> {
  problem.textContent = "";
  try {
    if (on) await startCamera(video);
    else stopCamera(video);
    panel.hidden = !on;
    byId(on ? "take" : "camera").focus();
  } catch (error) {
    complain(error);
  }
}

let pictures = 0;

async function takePicture(): Promise<void> {
  problem.textContent = "";
  const source = `camera-${++pictures}`;
  try {
    const given = await read(source, async () => grabFrame(video, source));
    progress.textContent = given
      ? `${source}: ${shortAnswer(given.prediction)}.`
      : `${source} is the same picture as one before, left out.`;
  } catch (error) {
    complain(error);
  }
}

function listen(): void {
  const drop = byId("drop");
  choose.addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    const list = [...(files.files ?? [])];
    files.value = "";
    void readFiles(list);
  });
  for (const type of ["dragover", "dragleave", "drop"] as const) {
    document.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", type === "dragover");
      if (type === "drop") void readFiles([...(event.dataTransfer?.files ?? [])]);
    });
  }
  cameraButton.addEventListener("click", () => void toggleCamera(true));
  byId("camera-stop").addEventListener("click", () => void toggleCamera(false));
  byId("take").addEventListener("click", () => void takePicture());
  byId("clear").addEventListener("click", clear);
  byId("save").addEventListener("click", save);
  const mask = byId<HTMLInputElement>("show-mask");
  mask.addEventListener("change", () => {
    byId("cards").classList.toggle("no-mask", !mask.checked);
  });
  byId("other").addEventListener("click", () => modelFile.click());
  modelFile.addEventListener("change", () => {
    const file = modelFile.files?.[0];
    modelFile.value = "";
    if (file) void openModel(file.name, async () => new Uint8Array(await file.arrayBuffer()));
  });
}

byId("notice").textContent = NOT_A_MEDICAL_DEVICE;
byId("nothing").textContent = `No field yet. Give the fields of one smear: ${FIELDS_NEEDED}.`;
listen();
listenToEnlarged();
if (canvasIsExact()) {
  void openModel("model.onnx", fetchModel);
} else {
  model.textContent = "This browser alters what pages read from pictures.";
  model.dataset.state = "refused";
  problem.textContent =
    "A guard against fingerprinting adds noise to the pixels, so answers would not be the " +
    "field's: allow canvas access for this page, or use another browser.";
}
if (import.meta.env.PROD && "serviceWorker" in navigator) {
  navigator.serviceWorker.register("./sw.js").catch((error: unknown) => console.warn(error));
}
