/** One field's answer. */

import { CLINICAL_NAMES } from "../core/classes.js";
import type { Answer } from "../core/classifier.js";
import type { Prediction, Status } from "../core/prediction.js";
import { REASONS } from "../core/quality.js";
import { bars } from "./bars.js";
import { el, percent } from "./dom.js";
import { picture } from "./picture.js";

/** A sign beside each status, so that colour is never the only difference. */
const SIGNS: Readonly<Record<Status, string>> = { ok: "✓", uncertain: "?", unfit: "!", error: "×" };

function names(classes: Prediction["prediction_set"]): string {
  return classes.map((name) => CLINICAL_NAMES[name]).join(" or ");
}

function verdict(p: Prediction): string {
  if (p.status === "ok") return names([p.label!]);
  if (p.status === "uncertain") return "Uncertain";
  return p.status === "unfit" ? "Not fit to judge" : "Could not be read";
}

function setSentence(p: Prediction): string {
  if (!p.prediction_set.length) return "No class fits: every one can be excluded.";
  return `Cannot be excluded: ${names(p.prediction_set)}.`;
}

function time(p: Prediction): string {
  const { decode = 0, prepare = 0, infer } = p.timing_ms;
  const total = decode + prepare + (infer ?? 0);
  const parts = [`decode ${decode.toFixed(1)}`, `prepare ${prepare.toFixed(1)}`];
  if (infer !== undefined) parts.push(`model ${infer.toFixed(1)}`);
  return `${total.toFixed(1)} ms (${parts.join(", ")})`;
}

/** What was measured, as a list of terms. */
function measured(p: Prediction): HTMLElement | null {
  if (!p.quality) return null;
  const { focus, background, cell_fraction, domain_distance } = p.quality;
  const rows = [
    ["Inside the cell mask", percent(cell_fraction)],
    ["Focus", focus.toFixed(1)],
    ["Background (R, G, B)", background.map((value) => value.toFixed(0)).join(", ")],
    ["Distance from training fields", domain_distance.toFixed(2)],
  ] as const;
  const items = rows.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]);
  return el("dl", {}, ...items);
}

export function card({ prediction: p, field, mask }: Answer): HTMLElement {
  const body = el(
    "div",
    { class: "body" },
    el("h3", {}, p.source),
    el(
      "p",
      { class: "verdict" },
      el("span", { class: "sign", "aria-hidden": "true" }, SIGNS[p.status]),
      el("span", {}, verdict(p)),
    ),
  );
  if (p.error) body.append(el("p", { class: "why" }, p.error.message));
  if (p.reasons.length) {
    const items = p.reasons.map((code) => el("li", {}, REASONS[code] ?? code));
    body.append(el("ul", { class: "why", "aria-label": "Why not" }, ...items));
  }
  if (p.top) {
    if (p.status === "unfit") {
      body.append(el("p", { class: "quiet" }, "What the model said all the same; do not rely on it:"));
    }
    body.append(bars(p.probabilities, p.status === "unfit" ? [] : p.prediction_set));
    if (p.status !== "unfit") body.append(el("p", { class: "set" }, setSentence(p)));
  }
  body.append(
    el("p", { class: "quiet" }, time(p)),
    el(
      "details",
      {},
      el("summary", {}, "Measurements and record"),
      measured(p),
      el("pre", { tabindex: "0" }, JSON.stringify(p, null, 1)),
    ),
  );
  const shown =
    field && mask
      ? picture(field, mask, `${p.source} as the model saw it, ${percent(p.quality!.cell_fraction)} cells`)
      : el("div", { class: "picture none", "aria-hidden": "true" }, "no picture");
  return el("article", { class: `card ${p.status}` }, shown, body);
}
