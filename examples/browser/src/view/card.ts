/** One field's answer. */

import { CLINICAL_NAMES } from "../core/classes.js";
import type { Answer } from "../core/classifier.js";
import type { Prediction, Status } from "../core/prediction.js";
import { REASONS } from "../core/quality.js";
import { bars } from "./bars.js";
import { el, percent } from "./dom.js";
import { enlarge } from "./enlarge.js";
import { picture } from "./picture.js";

/** A sign beside each status, so that colour is never the only difference. */
const SIGNS: Readonly<Record<Status, string>> = { ok: "✓", uncertain: "?", unfit: "!", error: "×" };

export function names(classes: Prediction["prediction_set"]): string {
  return classes.map((name) => CLINICAL_NAMES[name]).join(" or ") || "none of the four";
}

/** The line that says it all: a sign and a few words. */
export function verdict(status: Status, words: string): HTMLElement {
  return el(
    "p",
    { class: "verdict" },
    el("span", { class: "sign", "aria-hidden": "true" }, SIGNS[status]),
    el("span", { class: "words" }, words),
  );
}

export function shortAnswer(p: Prediction): string {
  if (p.status === "ok") return names([p.label!]);
  if (p.status === "uncertain") return "Uncertain";
  return p.status === "unfit" ? "Not fit to judge" : "Could not be read";
}

function setSentence(p: Prediction): string {
  if (!p.prediction_set.length) return "No class is likely enough: each can be excluded.";
  if (p.status === "ok") return `Prediction set: ${names(p.prediction_set)} alone.`;
  const told = `Cannot be excluded: ${names(p.prediction_set)}.`;
  if (p.prediction_set.includes(p.top!)) return told;
  return `${told} The likeliest, ${names([p.top!])}, is below its own threshold.`;
}

function time(p: Prediction): string {
  const { decode = 0, prepare = 0, infer } = p.timing_ms;
  const total = decode + prepare + (infer ?? 0);
  const parts = [`decoding ${decode.toFixed(0)}`, `preparing ${prepare.toFixed(0)}`];
  if (infer !== undefined) parts.push(`model ${infer.toFixed(0)}`);
  return `${total.toFixed(0)} ms: ${parts.join(", ")}`;
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

/** Probabilities of a field that is fit; of another one only on request, and never as an answer. */
function shares(p: Prediction): HTMLElement[] {
  if (!p.top) return [];
  if (p.status !== "unfit") {
    return [bars(p.probabilities, p.prediction_set), el("p", { class: "set" }, setSentence(p))];
  }
  const summary = el("summary", {}, "What the model computed all the same");
  const warning = el("p", { class: "quiet" }, "Not an answer: the field is unlike those it knows.");
  return [el("details", { class: "computed" }, summary, warning, bars(p.probabilities, []))];
}

export function card(answer: Answer): HTMLElement {
  const { prediction: p } = answer;
  const body = el("div", { class: "body" }, el("h3", {}, p.source), verdict(p.status, shortAnswer(p)));
  if (p.error) body.append(el("p", { class: "why" }, p.error.message));
  if (p.reasons.length) {
    const items = p.reasons.map((code) => el("li", {}, REASONS[code] ?? code));
    body.append(el("ul", { class: "why", "aria-label": "Why not" }, ...items));
  }
  body.append(
    ...shares(p),
    el(
      "details",
      {},
      el("summary", {}, "Measurements and record"),
      measured(p),
      el("pre", { tabindex: "0" }, JSON.stringify(p, null, 1)),
    ),
    el("p", { class: "quiet time" }, time(p)),
  );
  return el("article", { class: `card ${p.status}` }, thumbnail(answer), body);
}

/** The field as a button that enlarges it. */
function thumbnail(answer: Answer): HTMLElement {
  const { prediction: p, field, mask } = answer;
  if (!field || !mask) return el("div", { class: "picture none", "aria-hidden": "true" }, "no picture");
  const label = `${p.source} as the model saw it, ${percent(p.quality!.cell_fraction)} cells`;
  const button = el("button", { type: "button", class: "enlarge", "aria-label": `Enlarge ${p.source}` });
  button.append(picture(field, mask, label), el("span", { class: "hint", "aria-hidden": "true" }, "⤢"));
  button.addEventListener("click", () => enlarge(answer, shortAnswer(p), label));
  return button;
}
