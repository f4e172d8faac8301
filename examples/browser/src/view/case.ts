/** Several fields as one case: what they said, counted. */

import { CLASSES, CLINICAL_NAMES } from "../core/classes.js";
import type { CaseSummary } from "../core/case.js";
import { bars } from "./bars.js";
import { el } from "./dom.js";

const plural = (count: number, word: string): string => `${count} ${word}${count === 1 ? "" : "s"}`;

/** Shown from two fields on. */
export function caseView(place: HTMLElement, summary: CaseSummary): void {
  place.hidden = summary.fields < 2;
  if (place.hidden) return;
  const { statuses, labels, mean } = summary;
  const said = CLASSES.filter((name) => labels[name]).map(
    (name) => `${CLINICAL_NAMES[name]}: ${plural(labels[name], "field")}`,
  );
  const rest = [
    statuses.uncertain ? `${plural(statuses.uncertain, "field")} uncertain` : "",
    statuses.unfit ? `${plural(statuses.unfit, "field")} not fit to judge` : "",
    statuses.error ? `${plural(statuses.error, "file")} could not be read` : "",
  ].filter(Boolean);
  place.replaceChildren(
    el("h2", { id: "case-title" }, `Case of ${plural(summary.fields, "field")}`),
    el("ul", { class: "counts" }, ...[...said, ...rest].map((line) => el("li", {}, line))),
  );
  if (mean) {
    place.append(
      el("p", { class: "quiet" }, "Mean probability over the fields that are fit:"),
      bars(mean, []),
    );
  } else {
    place.append(el("p", { class: "quiet" }, "No field is fit to judge, so there is nothing to sum up."));
  }
  place.append(
    el("p", { class: "quiet" }, "Counts and plain means of single fields, not a verdict on a case."),
  );
}
