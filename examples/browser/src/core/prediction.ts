/** One record per field, with the names and rules of `allsub-edge/prediction/1`. */

import { CLASSES, type ClassName } from "./classes.js";
import type { AppError } from "./errors.js";
import type { Calibration } from "./manifest.js";
import type { Quality } from "./quality.js";
import { roundTo } from "./rounding.js";

export const PREDICTION_SCHEMA = "allsub-edge/prediction/1";

const PROBABILITY_DIGITS = 6;
/** One unit of the last decimal is allowed for, so that rounding never excludes a class. */
const SLACK = 1e-6;

export type Status = "ok" | "uncertain" | "unfit" | "error";

export interface ModelInfo {
  name: string;
  version: string;
  sha256: string;
  engine: string;
  threads: number;
}

/** The JSON record. `label` is what the program stands behind: null unless the status is `ok`. */
export interface Prediction {
  schema: typeof PREDICTION_SCHEMA;
  source: string;
  status: Status;
  label: ClassName | null;
  top: ClassName | null;
  probabilities: Partial<Record<ClassName, number>>;
  prediction_set: ClassName[];
  reasons: string[];
  quality: Quality | null;
  timing_ms: Partial<Record<"decode" | "prepare" | "infer", number>>;
  model: ModelInfo;
  error: { code: string; message: string } | null;
}

/**
 * Classes that cannot be excluded: `probability >= 1 - threshold` (split-conformal, one threshold
 * per class; Sadinle, Lei, Wasserman, JASA 2019). Not calibrated: the most probable class alone.
 *
 * @param probabilities four rounded probabilities in class order.
 */
export function predictionSet(
  probabilities: readonly number[],
  conformal: Calibration["conformal"],
): ClassName[] {
  if (!conformal) return [topClass(probabilities)];
  return CLASSES.filter((name, i) => probabilities[i]! >= 1 - conformal[name] - SLACK);
}

/** The most probable class, the first of equals. */
export function topClass(probabilities: readonly number[]): ClassName {
  return CLASSES[probabilities.indexOf(Math.max(...probabilities))]!;
}

/** Decide on one field: `unfit` with any reason, else `ok` if the set is the top class alone. */
export function answer(
  given: Pick<Prediction, "source" | "reasons" | "quality" | "timing_ms" | "model">,
  probabilities: ArrayLike<number>,
  conformal: Calibration["conformal"],
): Prediction {
  const rounded = Array.from(probabilities, (p) => roundTo(p, PROBABILITY_DIGITS));
  const top = topClass(rounded);
  const set = predictionSet(rounded, conformal);
  const alone = set.length === 1 && set[0] === top;
  const status = given.reasons.length ? "unfit" : alone ? "ok" : "uncertain";
  return {
    schema: PREDICTION_SCHEMA,
    source: given.source,
    status,
    label: status === "ok" ? top : null,
    top,
    probabilities: Object.fromEntries(CLASSES.map((name, i) => [name, rounded[i]])),
    prediction_set: set,
    reasons: given.reasons,
    quality: given.quality,
    timing_ms: given.timing_ms,
    model: given.model,
    error: null,
  };
}

/** The record of a field that could not be read. */
export function failed(
  source: string,
  error: AppError,
  timing_ms: Prediction["timing_ms"],
  model: ModelInfo,
): Prediction {
  return {
    schema: PREDICTION_SCHEMA,
    source,
    status: "error",
    label: null,
    top: null,
    probabilities: {},
    prediction_set: [],
    reasons: [],
    quality: null,
    timing_ms,
    model,
    error: { code: error.code, message: error.message },
  };
}
