/** A field in, a prediction out. Knows neither a browser nor Node: both bring pixels and ORT. */

import type * as Ort from "onnxruntime-common";

import { CLASSES, FIELD_SIZE } from "./classes.js";
import { AppError, ModelFileError } from "./errors.js";
import { refuseGrey } from "./image-file.js";
import type { Manifest } from "./manifest.js";
import { openModelFile } from "./model-file.js";
import { answer, failed, type ModelInfo, type Prediction } from "./prediction.js";
import { judge, measure } from "./quality.js";
import { squash } from "./resize.js";

/** A decoded field: row-major bytes, upright, `channels` per pixel, red, green and blue first. */
export interface Pixels {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
  channels: 3 | 4;
}

export interface Answer {
  prediction: Prediction;
  /** The field as the model saw it, RGB, 224x224; null if it could not be read. */
  field: Uint8Array | null;
  /** The model's cell mask, 0/1, 224x224; null if the model did not run. */
  mask: Uint8Array | null;
  /** Of the decoded field, upright; null if it could not be read. */
  size: { width: number; height: number } | null;
}

/** What of onnxruntime-web or onnxruntime-node is used. */
export type Runtime = Pick<typeof Ort, "InferenceSession" | "Tensor" | "env">;

const OUTPUTS = ["probabilities", "domain_distance", "mask"] as const;

const tidy = (milliseconds: number): number => Math.round(milliseconds * 1000) / 1000;

export class Classifier {
  private queue: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly manifest: Manifest,
    readonly info: ModelInfo,
    private readonly ort: Runtime,
    private readonly session: Ort.InferenceSession,
  ) {}

  /**
   * Verify a model file and open it with one thread.
   *
   * @param source how messages name the file.
   * @throws ModelFileError as `openModelFile` does, `engine_refused` or `wrong_signature`.
   */
  static async open(
    ort: Runtime,
    bytes: Uint8Array<ArrayBuffer>,
    source = "the model file",
  ): Promise<Classifier> {
    const file = await openModelFile(bytes, source);
    let session: Ort.InferenceSession;
    try {
      session = await ort.InferenceSession.create(file.data, {
        executionProviders: ["wasm"],
        // Without this setting the quantised convolutions become integer kernels, which WebAssembly
        // runs without SIMD where they are depthwise: slower than the same convolutions in float32
        // between the same roundings. A lower level of optimisation would leave those too, but
        // would also run the mask's maxima pixel by pixel, for a sixth more of the whole time.
        extra: { session: { disable_quant_qdq: "1" } },
        logSeverityLevel: 3,
      });
    } catch (error) {
      throw new ModelFileError(
        "engine_refused",
        `${source}: ONNX Runtime cannot open the model (${oneLine(error)}): try a newer ` +
          "version of onnxruntime-web",
      );
    }
    const fits =
      session.inputNames.join() === "field" &&
      OUTPUTS.every((name) => session.outputNames.includes(name));
    if (!fits) {
      throw new ModelFileError(
        "wrong_signature",
        `${source}: the graph does not fit its manifest (inputs ${session.inputNames.join(", ")}; ` +
          `outputs ${session.outputNames.join(", ")}): export the model again`,
      );
    }
    const info = {
      name: file.manifest.name,
      version: file.manifest.version,
      sha256: file.sha256,
      engine: `onnxruntime-web ${ort.env.versions.web ?? ort.env.versions.common}`,
      threads: 1,
    };
    return new Classifier(file.manifest, info, ort, session);
  }

  /**
   * Answer for one field; a field that cannot be read becomes an error record.
   *
   * @param decode gives the pixels; raises FieldError for a field that cannot be read.
   * @throws ModelFileError `bad_output` when the model answers with something not finite.
   */
  predict(source: string, decode: () => Promise<Pixels>): Promise<Answer> {
    // A session runs one field at a time; others wait for their turn.
    const turn = this.queue.then(() => this.predictNow(source, decode));
    this.queue = turn.catch(() => undefined);
    return turn;
  }

  private async predictNow(source: string, decode: () => Promise<Pixels>): Promise<Answer> {
    const timing: Prediction["timing_ms"] = {};
    let last = performance.now();
    const lap = (stage: "decode" | "prepare" | "infer"): void => {
      const now = performance.now();
      timing[stage] = tidy((timing[stage] ?? 0) + now - last);
      last = now;
    };
    let field: Uint8Array;
    let size: Answer["size"];
    try {
      const pixels = await decode();
      size = { width: pixels.width, height: pixels.height };
      refuseGrey(pixels.data, pixels.channels, source);
      lap("decode");
      field = squash(pixels.data, pixels.width, pixels.height, pixels.channels);
      lap("prepare");
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      lap("decode");
      const prediction = failed(source, error, timing, this.info);
      return { prediction, field: null, mask: null, size: null };
    }
    const { probabilities, distance, mask } = await this.run(field, source);
    lap("infer");
    const quality = measure(field, mask, distance);
    const { calibration } = this.manifest;
    const reasons = judge(quality, calibration);
    lap("prepare");
    const given = { source, reasons, quality, timing_ms: timing, model: this.info };
    return { prediction: answer(given, probabilities, calibration.conformal), field, mask, size };
  }

  private async run(
    field: Uint8Array,
    source: string,
  ): Promise<{ probabilities: number[]; distance: number; mask: Uint8Array }> {
    const input = new this.ort.Tensor("uint8", field, [1, FIELD_SIZE, FIELD_SIZE, 3]);
    const out = await this.session.run({ field: input }, [...OUTPUTS]);
    const probabilities = Array.from(out.probabilities!.data as Float32Array);
    const distance = (out.domain_distance!.data as Float32Array)[0]!;
    const mask = out.mask!.data as Uint8Array;
    const finite = [...probabilities, distance].every(Number.isFinite);
    if (!finite || probabilities.length !== CLASSES.length || mask.length !== FIELD_SIZE ** 2) {
      throw new ModelFileError(
        "bad_output",
        `${source}: the model answers with no number: use another model file`,
      );
    }
    return { probabilities, distance, mask };
  }

  /** Free the model. */
  async close(): Promise<void> {
    await this.queue;
    await this.session.release();
  }
}

function oneLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error)
    .split(/\s+/)
    .join(" ")
    .slice(0, 200);
}
