/** Several fields as one case: the verdict, why there is none, and what the fields said. */

import { CASE_REASONS, INDEPENDENCE, wilson, type CaseSummary } from "../core/case.js";
import { CLASSES, CLINICAL_NAMES } from "../core/classes.js";
import { bars } from "./bars.js";
import { names, verdict } from "./card.js";
import { el, plural } from "./dom.js";

const SHORT = { ok: "", uncertain: "No label for this case", unfit: "Not fit to judge" } as const;

function agreement({ top, votes, fit }: CaseSummary): string {
  if (!top) return "";
  const [low, high] = wilson(votes[top], fit).map((end) => `${Math.round(100 * end)}`);
  return (
    `${votes[top]} of ${plural(fit, "fit field")} say ${CLINICAL_NAMES[top]} ` +
    `(95 % interval ${low} to ${high} %).`
  );
}

function counts({ statuses, votes }: CaseSummary): HTMLElement {
  const said = CLASSES.filter((name) => votes[name]).map(
    (name) => `${CLINICAL_NAMES[name]}: ${plural(votes[name], "field")}`,
  );
  const rest = [
    statuses.uncertain ? `${statuses.uncertain} of them uncertain` : "",
    statuses.unfit ? `${plural(statuses.unfit, "field")} not fit to judge` : "",
    statuses.error ? `${plural(statuses.error, "file")} could not be read` : "",
  ].filter(Boolean);
  const items = [...said, ...rest].map((line) => el("li", {}, line));
  return el("ul", { class: "counts", "aria-label": "What the fields said" }, ...items);
}

/**
 * Shown from two fields on.
 *
 * @param repeats fields that were given again and left out.
 */
export function caseView(place: HTMLElement, summary: CaseSummary, repeats: number): void {
  place.hidden = summary.fields < 2;
  if (place.hidden) return;
  const { status, label, reasons, notExcluded, means, fit } = summary;
  place.className = `case ${status}`;
  const again = repeats ? `, ${repeats} given again and left out` : "";
  place.replaceChildren(
    el("h2", { id: "case-title" }, `Case of ${plural(summary.fields, "field")}${again}`),
    verdict(status, label ? CLINICAL_NAMES[label] : SHORT[status]),
  );
  if (reasons.length) {
    const items = reasons.map((code) => el("li", {}, CASE_REASONS[code]));
    place.append(el("ul", { class: "why", "aria-label": "Why there is no label" }, ...items));
  }
  place.append(counts(summary));
  if (!means) return;
  const remaining =
    notExcluded.length === CLASSES.length
      ? "No class is excluded."
      : `Not excluded: ${names(notExcluded)}.`;
  place.append(
    el("p", {}, `${agreement(summary)} ${remaining}`),
    el("p", { class: "quiet" }, `Mean probability over the ${plural(fit, "fit field")}:`),
    bars(means, label ? [label] : []),
    el("p", { class: "quiet" }, INDEPENDENCE),
  );
}
