/**
 * Several fields as one case: counts and plain means, nothing calibrated.
 *
 * Conformal sets promise something about single fields; they promise nothing about a case, so this
 * summary has no label of its own and says only what the fields said.
 */

import { CLASSES, type ClassName } from "./classes.js";
import type { Prediction, Status } from "./prediction.js";

export interface CaseSummary {
  fields: number;
  /** How many records have each status. */
  statuses: Record<Status, number>;
  /** How many fields got each label (status `ok`). */
  labels: Record<ClassName, number>;
  /** Mean probability per class over the fields that are fit (`ok` or `uncertain`), or null. */
  mean: Record<ClassName, number> | null;
}

export function summarise(predictions: readonly Prediction[]): CaseSummary {
  const statuses: Record<Status, number> = { ok: 0, uncertain: 0, unfit: 0, error: 0 };
  const labels = Object.fromEntries(CLASSES.map((name) => [name, 0])) as Record<ClassName, number>;
  for (const { status, label } of predictions) {
    statuses[status]++;
    if (label) labels[label]++;
  }
  const fit = predictions.filter(({ status }) => status === "ok" || status === "uncertain");
  const mean = Object.fromEntries(
    CLASSES.map((name) => [
      name,
      fit.reduce((sum, p) => sum + (p.probabilities[name] ?? 0), 0) / fit.length,
    ]),
  ) as Record<ClassName, number>;
  return { fields: predictions.length, statuses, labels, mean: fit.length ? mean : null };
}
