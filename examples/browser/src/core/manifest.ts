/** What a model file says about itself: the parts of its manifest that an app needs, checked. */

import { CLASSES, FIELD_SIZE, type ClassName } from "./classes.js";
import { ModelFileError } from "./errors.js";

export const MODEL_SCHEMA = "allsub-edge/model/1";
export const RESIZE_RULE = "area-exact/1";

export interface Calibration {
  /** Wanted share of fields whose true class is missing from the prediction set. */
  alpha: number;
  /** Threshold per class on `1 - probability`; null: not calibrated. */
  conformal: Readonly<Record<ClassName, number>> | null;
  /** Largest domain distance of a field the model was made for; null: not known. */
  domainThreshold: number | null;
  /** Quality threshold name -> number. */
  quality: Readonly<Record<string, number>>;
}

export interface Manifest {
  name: string;
  version: string;
  precision: string;
  calibration: Calibration;
  licence: string;
  citation: string;
  intendedUse: string;
  /** Everything the file says, as it stands there. */
  raw: Readonly<Record<string, unknown>>;
}

const INPUT: Readonly<Record<string, unknown>> = {
  name: "field",
  dtype: "uint8",
  layout: "NHWC",
  size: [FIELD_SIZE, FIELD_SIZE],
  colour: "RGB",
};

const REQUIRED = [
  ...["name", "version", "created", "precision", "interface", "classes", "input", "resize"],
  ...["recipe", "white_balance", "fusion", "backbone", "calibration", "training", "metrics"],
  ...["licence", "citation", "intended_use", "golden"],
];

type Json = Record<string, unknown>;

function bad(where: string, problem: string): ModelFileError {
  return new ModelFileError("bad_manifest", `the manifest's ${where} ${problem}`);
}

function object(value: unknown, where: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw bad(where, "must be an object");
  }
  return value as Json;
}

function number(value: unknown, where: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) {
    throw bad(where, "must be a finite number");
  }
  return value;
}

function text(raw: Json, key: string): string {
  const value = raw[key];
  if (typeof value !== "string" || !value) throw bad(key, "must be a text that is not empty");
  return value;
}

function lacking(raw: Json, names: readonly string[], where: string): void {
  const absent = names.filter((name) => !(name in raw));
  if (absent.length) throw bad(where, `lacks ${absent.join(", ")}: export the model again`);
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/**
 * Parse and check a manifest.
 *
 * @throws ModelFileError with the Python package's codes: `unknown_schema`, `bad_manifest`,
 * `wrong_classes`, `unknown_interface`, `unknown_resize`.
 */
export function parseManifest(json: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw bad("content", "is not JSON: export the model again");
  }
  const raw = object(value, "content");
  if (raw.schema !== MODEL_SCHEMA) {
    throw new ModelFileError(
      "unknown_schema",
      `the manifest has schema ${JSON.stringify(raw.schema)}, this program reads ` +
        `"${MODEL_SCHEMA}": use a newer version of it`,
    );
  }
  lacking(raw, REQUIRED, "content");
  if (!same(raw.classes, CLASSES)) {
    throw new ModelFileError(
      "wrong_classes",
      `the model's classes are ${JSON.stringify(raw.classes)}, this program reads ` +
        `${CLASSES.join(", ")} in this order: use a model made for it`,
    );
  }
  if (raw.interface !== "field") {
    throw new ModelFileError(
      "unknown_interface",
      `the model's interface is ${JSON.stringify(raw.interface)}, this program runs "field": ` +
        "use a newer version of it",
    );
  }
  const input = object(raw.input, "input");
  for (const [key, wanted] of Object.entries(INPUT)) {
    if (!same(input[key], wanted)) throw bad(`input.${key}`, `must be ${JSON.stringify(wanted)}`);
  }
  if (raw.resize !== RESIZE_RULE) {
    throw new ModelFileError(
      "unknown_resize",
      `the model wants resize rule ${JSON.stringify(raw.resize)}, this program has ` +
        `"${RESIZE_RULE}": use a newer version of it`,
    );
  }
  return {
    name: text(raw, "name"),
    version: text(raw, "version"),
    precision: text(raw, "precision"),
    calibration: calibration(raw.calibration),
    licence: text(raw, "licence"),
    citation: text(raw, "citation"),
    intendedUse: text(raw, "intended_use"),
    raw,
  };
}

function calibration(value: unknown): Calibration {
  const raw = object(value, "calibration");
  lacking(
    raw,
    ["temperature", "alpha", "conformal", "domain_threshold", "quality"],
    "calibration",
  );
  let conformal: Record<ClassName, number> | null = null;
  if (raw.conformal !== null) {
    const given = object(raw.conformal, "calibration.conformal");
    lacking(given, CLASSES, "calibration.conformal");
    const pairs = CLASSES.map((name) => [name, number(given[name], `conformal.${name}`)] as const);
    if (Object.keys(given).length !== CLASSES.length || pairs.some(([, t]) => t < 0 || t > 1)) {
      throw bad("calibration.conformal", `must map exactly ${CLASSES.join(", ")} to 0..1`);
    }
    conformal = Object.fromEntries(pairs) as Record<ClassName, number>;
  }
  const quality: Record<string, number> = {};
  for (const [key, limit] of Object.entries(object(raw.quality, "calibration.quality"))) {
    quality[key] = number(limit, `calibration.quality.${key}`);
  }
  const domain = raw.domain_threshold;
  return {
    alpha: number(raw.alpha, "calibration.alpha"),
    conformal,
    domainThreshold: domain === null ? null : number(domain, "calibration.domain_threshold"),
    quality,
  };
}
