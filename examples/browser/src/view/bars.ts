/** Four probabilities as bars: name, bar, number. The numbers are text, the bars decoration. */

import { CLASSES, CLINICAL_NAMES, type ClassName } from "../core/classes.js";
import { el, percent } from "./dom.js";

/** @param marked classes of the prediction set; their rows are emphasised. */
export function bars(
  shares: Readonly<Partial<Record<ClassName, number>>>,
  marked: readonly ClassName[],
): HTMLElement {
  const rows = CLASSES.map((name) => {
    const share = shares[name] ?? 0;
    const fill = el("span", { class: "fill" });
    // Set by script: the page's policy forbids style attributes.
    fill.style.width = `${100 * share}%`;
    return el(
      "tr",
      marked.includes(name) ? { class: "marked" } : {},
      el("th", { scope: "row" }, CLINICAL_NAMES[name]),
      el("td", { class: "track-cell", "aria-hidden": "true" }, el("span", { class: "track" }, fill)),
      el("td", { class: "number" }, percent(share)),
    );
  });
  return el(
    "table",
    { class: "bars" },
    el("caption", { class: "hidden" }, "Probability of each class"),
    el("tbody", {}, ...rows),
  );
}
