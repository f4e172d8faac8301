/** The library: open a model file once, then ask it about fields. */

import { readFile, readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import * as ort from "onnxruntime-web/wasm";

import { Classifier } from "../../browser/src/core/classifier.js";
import { FieldError, ModelFileError } from "../../browser/src/core/errors.js";
import type { Manifest } from "../../browser/src/core/manifest.js";
import type { ModelInfo, Prediction } from "../../browser/src/core/prediction.js";
import { decodeImage } from "./decode.js";

export { AppError, FieldError, ModelFileError } from "../../browser/src/core/errors.js";
export type { Manifest, ModelInfo, Prediction };

// More threads would be worker threads, each with its own start-up; one answers in milliseconds.
ort.env.wasm.numThreads = 1;

export interface Reader {
  readonly manifest: Manifest;
  readonly model: ModelInfo;
  /**
   * Answer for the bytes of one JPEG or PNG file. Calls may overlap; they are answered in turn.
   * A field that cannot be read becomes a record with status `error`.
   *
   * @throws ModelFileError `bad_output` when the model answers with something not finite.
   */
  predict(image: Uint8Array, source?: string): Promise<Prediction>;
  /** As `predict`, for a file; one that cannot be opened is a record with status `error` too. */
  predictFile(path: string): Promise<Prediction>;
  /** As `predict`, with the model's cell mask: 224x224 bytes, 0/1; null if it did not run. */
  predictWithMask(
    image: Uint8Array,
    source?: string,
  ): Promise<{ prediction: Prediction; mask: Uint8Array | null }>;
  close(): Promise<void>;
}

/**
 * Verify and open a model file.
 *
 * @param path of an `.onnx` model file; left out, the model that is shipped with this repository.
 * @throws ModelFileError with the Python package's codes, `missing` among them.
 */
export async function openReader(path?: string): Promise<Reader> {
  const file = path ?? (await shippedModel());
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = new Uint8Array(await readFile(file));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw code === "ENOENT"
      ? new ModelFileError("missing", `${file}: no such model file: check the path`)
      : new ModelFileError("unreadable", `${file}: the model file cannot be read (${code})`);
  }
  const classifier = await Classifier.open(ort, bytes, file);
  const ask = (image: Uint8Array, source: string) =>
    classifier.predict(source, () => decodeImage(image, source));
  return {
    manifest: classifier.manifest,
    model: classifier.info,
    predict: async (image, source = "<bytes>") => (await ask(image, source)).prediction,
    predictFile: async (path) =>
      (await classifier.predict(path, async () => decodeImage(await read(path), path))).prediction,
    predictWithMask: async (image, source = "<bytes>") => {
      const { prediction, mask } = await ask(image, source);
      return { prediction, mask };
    },
    close: () => classifier.close(),
  };
}

async function read(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw code === "ENOENT"
      ? new FieldError("missing", `${path}: there is no such file; check the path`)
      : new FieldError("unreadable", `${path}: cannot be read (${code})`);
  }
}

/** The int8 model in the package's folder; of several the last by name, as in Python. */
async function shippedModel(): Promise<string> {
  // From dist/node/src/ up to the repository.
  const folder = fileURLToPath(new URL("../../../../../allsub_edge/models/", import.meta.url));
  const names = await readdir(folder).catch(() => [] as string[]);
  const found = names.filter((name) => name.includes("int8") && name.endsWith(".onnx")).sort();
  if (!found.length) {
    throw new ModelFileError(
      "no_default_model",
      `no *int8*.onnx in ${folder}: name a model file with ALLSUB_MODEL=FILE`,
    );
  }
  return folder + found.at(-1);
}
