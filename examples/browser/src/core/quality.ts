/** Is this field fit to judge? What was measured, and the reasons that follow from it. */

import type { Calibration } from "./manifest.js";
import { countCells, focus, meanColour, shareWithin, whitePoint } from "./measures.js";
import { roundTo } from "./rounding.js";

/** What was measured on one field, with the names and rules of the record; null: not measurable. */
export interface Quality {
  /** Sharpness, 0 or more. */
  focus: number;
  /** Red, green, blue of the empty background, 0..255. */
  background: [number, number, number];
  /** Share of the pixels inside the cell mask, 0..1. */
  cell_fraction: number;
  /** The model's distance from its training fields. */
  domain_distance: number;
  /** Pieces of the mask of at least 64 pixels. */
  cells: number;
  /** Mean of the background's channels, 0..255. */
  brightness: number;
  /** Share of pixels that are 255 in every channel. */
  clipped: number;
  /** Share of pixels below 30 in every channel. */
  black: number;
  /** Largest channel of the background over the smallest, minus 1. */
  cast: number;
  /** How purple the cells are: mean red + blue - 2 green, as shares of the background. */
  stain: number | null;
  /** Share of the background's blue that the cells let through. */
  cell_blue: number | null;
  /** Mean red - blue, as shares of the background, of what is stained outside the mask. */
  red_cell_tint: number | null;
}

const MIN_CELL_AREA = 64;
const BLACK_BELOW = 30;
const STAINED_BELOW = 0.9;
const ENOUGH = 0.01;

/** Measure one field as the model saw it: `rgb` and `mask` of 224x224 pixels. */
export function measure(rgb: Uint8Array, mask: Uint8Array, domainDistance: number): Quality {
  const background = whitePoint(rgb);
  const floor = background.map((value) => Math.max(value, 1)) as [number, number, number];
  const cells = meanColour(rgb, (pixel) => mask[pixel] !== 0);
  const empty = floor.map((value) => Math.ceil(STAINED_BELOW * value));
  const rest = meanColour(
    rgb,
    (pixel) => mask[pixel] === 0 && empty.some((least, c) => rgb[3 * pixel + c]! < least),
  );
  const [r, g, b] = cells.mean.map((value, c) => value / floor[c]!) as [number, number, number];
  const tint = rest.mean[0] / floor[0] - rest.mean[2] / floor[2];
  return {
    focus: roundTo(focus(rgb, background[1]), 4),
    background,
    cell_fraction: roundTo(cells.count / mask.length, 6),
    domain_distance: roundTo(domainDistance, 6),
    cells: countCells(mask, MIN_CELL_AREA),
    brightness: roundTo((background[0] + background[1] + background[2]) / 3, 4),
    clipped: roundTo(shareWithin(rgb, 255, 255), 6),
    black: roundTo(shareWithin(rgb, 0, BLACK_BELOW - 1), 6),
    cast: roundTo(Math.max(...floor) / Math.min(...floor) - 1, 4),
    stain: cells.count ? roundTo(r + b - 2 * g, 4) : null,
    cell_blue: cells.count ? roundTo(b, 4) : null,
    red_cell_tint: rest.count >= ENOUGH * mask.length ? roundTo(tint, 4) : null,
  };
}

/** Reason code -> sentence for people, in the order in which reasons are listed. */
export const REASONS: Readonly<Record<string, string>> = {
  out_of_domain: "the field does not look like the smears the model was trained on",
  too_few_cells: "too few stained white cells in the field",
  out_of_focus: "the field is out of focus",
  too_dark: "the field is too dark: more light or a longer exposure",
  too_bright: "the field is over-exposed: less light or a shorter exposure",
  wrong_stain: "the cells are not coloured as in the smears the model was trained on",
  colour_cast: "the empty background has a colour of its own: set the white balance",
};

type Measure = Exclude<keyof Quality, "background">;

/** Limit in the manifest, what it limits, the reason that follows. An equal value is still fit. */
const LIMITS: readonly (readonly [limit: string, measure: Measure, reason: string])[] = [
  ["min_cell_fraction", "cell_fraction", "too_few_cells"],
  ["min_cells", "cells", "too_few_cells"],
  ["min_focus", "focus", "out_of_focus"],
  ["min_brightness", "brightness", "too_dark"],
  ["max_black", "black", "too_dark"],
  ["max_clipped", "clipped", "too_bright"],
  ["min_stain", "stain", "wrong_stain"],
  ["max_stain", "stain", "wrong_stain"],
  ["min_cell_blue", "cell_blue", "wrong_stain"],
  ["max_cell_blue", "cell_blue", "wrong_stain"],
  ["min_red_cell_tint", "red_cell_tint", "wrong_stain"],
  ["max_red_cell_tint", "red_cell_tint", "wrong_stain"],
  ["max_cast", "cast", "colour_cast"],
];

const inOrder = (found: ReadonlySet<string>): string[] =>
  Object.keys(REASONS).filter((reason) => found.has(reason));

/** Why a field is not fit, by the limits that the manifest holds; empty if it is fit. */
export function judge(quality: Quality, calibration: Calibration): string[] {
  const found = new Set<string>();
  const { domainThreshold } = calibration;
  if (domainThreshold !== null && !(quality.domain_distance <= domainThreshold)) {
    found.add("out_of_domain");
  }
  for (const [name, measure, reason] of LIMITS) {
    const limit = calibration.quality[name];
    const value = quality[measure];
    if (limit === undefined || value === null) continue;
    if (!(name.startsWith("min_") ? value >= limit : value <= limit)) found.add(reason);
  }
  return inOrder(found);
}

/** Which reasons the manifest holds limits for, and which of its limits are not known here. */
export function checks(calibration: Calibration): { checked: string[]; notChecked: string[] } {
  const known = new Set(LIMITS.map(([name]) => name));
  const held = LIMITS.filter(([name]) => name in calibration.quality).map(([, , reason]) => reason);
  if (calibration.domainThreshold !== null) held.push("out_of_domain");
  return {
    checked: inOrder(new Set(held)),
    notChecked: Object.keys(calibration.quality).filter((key) => !known.has(key)),
  };
}
