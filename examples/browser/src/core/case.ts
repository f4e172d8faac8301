/**
 * Several fields of one patient as one verdict, by the rule of the Python package (docs/embedding.md,
 * "A case"): counts of fit fields, held against bars that are stricter for Benign.
 */

import { CLASSES, type ClassName } from "./classes.js";
import type { Prediction, Status } from "./prediction.js";
import { roundTo } from "./rounding.js";

/** What a label must clear; all are shares of the fit fields. */
interface Bar {
  fields: number;
  /** The lower end of the agreement's interval lies above it. */
  agreement: number;
  /** Another class is in at most this share of the prediction sets ... */
  share: number;
  /** ... and the upper end of that share's interval lies below it. */
  upper: number;
}

const LEUKAEMIA_BAR: Bar = { fields: 4, agreement: 1 / 2, share: 1 / 5, upper: 1 / 2 };
const BENIGN_BAR: Bar = { fields: 8, agreement: 2 / 3, share: 1 / 10, upper: 1 / 3 };
const BENIGN: ClassName = CLASSES[0];

export const FIELDS_NEEDED =
  `a case needs ${LEUKAEMIA_BAR.fields} fit ones for a label, ${BENIGN_BAR.fields} for a benign one`;

/** Why a case has no label: code -> sentence, in the order in which they are listed. */
export const CASE_REASONS = {
  no_fit_fields: "no field was fit to judge",
  too_few_fields:
    `too few fields were fit to judge: a label needs ${LEUKAEMIA_BAR.fields}, ` +
    `a benign one ${BENIGN_BAR.fields}`,
  too_many_unfit: "more fields were unfit than fit, so those that count are a selection",
  fields_disagree: "the fields do not agree enough on one class",
  class_not_in_sets: "too many fields exclude even the most probable class",
  class_not_excluded: "another class is not excluded",
  leukaemia_not_excluded: "leukaemia is not excluded firmly enough to say benign",
} as const;
export type CaseReason = keyof typeof CASE_REASONS;

export const INDEPENDENCE =
  "Fields of one smear share patient, stain and camera: they are not independent, and the truth " +
  "is less certain than the interval says.";

type PerClass = Readonly<Record<ClassName, number>>;

export interface CaseCounts {
  /** Mean probability per class over the fit fields, 6 decimals; null without one. */
  means: PerClass | null;
  /** Fit fields whose most probable class it is. */
  votes: PerClass;
  /** Fit fields whose prediction set has it. */
  inSets: PerClass;
  /** Fit fields whose prediction set has any class but Benign. */
  leukaemiaInSet: number;
  /** `ok` and `uncertain` fields. */
  fit: number;
  unfit: number;
}

export interface Decision {
  status: "ok" | "uncertain" | "unfit";
  label: ClassName | null;
  top: ClassName | null;
  reasons: CaseReason[];
  notExcluded: ClassName[];
}

export interface CaseSummary extends CaseCounts, Decision {
  /** All records that were given. */
  fields: number;
  /** How many records have each status. */
  statuses: Record<Status, number>;
}

/** 95 % Wilson score interval of `count` of `total` (Wilson, JASA 1927); total at least 1. */
export function wilson(count: number, total: number): [low: number, high: number] {
  const z = 1.959963984540054;
  const p = count / total;
  const spread = 1 + (z * z) / total;
  const middle = (p + (z * z) / (2 * total)) / spread;
  const half = (z / spread) * Math.sqrt((p * (1 - p)) / total + (z * z) / (4 * total * total));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

function isPossible(count: number, total: number, bar: Bar): boolean {
  return count / total > bar.share || wilson(count, total)[1] >= bar.upper;
}

/** What follows from the counts. */
export function decide({ means, votes, inSets, leukaemiaInSet, fit, unfit }: CaseCounts): Decision {
  if (!fit || !means) {
    const reasons: CaseReason[] = ["no_fit_fields"];
    return { status: "unfit", label: null, top: null, reasons, notExcluded: [...CLASSES] };
  }
  // A tie goes to the later class, hence never to Benign.
  const top = CLASSES.reduce((best, name) => (means[name] >= means[best] ? name : best));
  const benign = top === BENIGN;
  const bar = benign ? BENIGN_BAR : LEUKAEMIA_BAR;
  const possible = new Set(CLASSES.filter((name) => isPossible(inSets[name], fit, LEUKAEMIA_BAR)));
  const unsafe = benign && isPossible(leukaemiaInSet, fit, BENIGN_BAR);
  if (unsafe) {
    const sick = CLASSES.filter((name) => name !== top);
    const seen = sick.filter((name) => inSets[name]);
    for (const name of seen.length ? seen : sick) possible.add(name);
  }
  const few = fit < bar.fields;
  const agreed = wilson(votes[top], fit)[0] > bar.agreement;
  const inEnoughSets = wilson(inSets[top], fit)[0] > bar.agreement;
  const others = [...possible].some((name) => name !== top);
  const holds: Record<CaseReason, boolean> = {
    no_fit_fields: false,
    too_few_fields: few,
    too_many_unfit: unfit > fit,
    fields_disagree: !few && !agreed,
    class_not_in_sets: !few && agreed && !inEnoughSets,
    class_not_excluded: !unsafe && others,
    leukaemia_not_excluded: unsafe,
  };
  const reasons = (Object.keys(CASE_REASONS) as CaseReason[]).filter((code) => holds[code]);
  return {
    status: reasons.length ? "uncertain" : "ok",
    label: reasons.length ? null : top,
    top,
    reasons,
    notExcluded: CLASSES.filter((name) => possible.has(name)),
  };
}

const perClass = (count: (name: ClassName) => number): Record<ClassName, number> =>
  Object.fromEntries(CLASSES.map((name) => [name, count(name)])) as Record<ClassName, number>;

/** Sum up the records of one patient's fields; give a field that was read twice once. */
export function summarise(predictions: readonly Prediction[]): CaseSummary {
  const statuses: Record<Status, number> = { ok: 0, uncertain: 0, unfit: 0, error: 0 };
  for (const { status } of predictions) statuses[status]++;
  const fit = predictions.filter(({ status }) => status === "ok" || status === "uncertain");
  // Millionths as whole numbers: exact in any order, so the order of fields cannot matter.
  const sum = (name: ClassName): number =>
    fit.reduce((total, { probabilities: p }) => total + Math.round(1e6 * (p[name] ?? 0)), 0);
  const counts: CaseCounts = {
    means: fit.length ? perClass((name) => roundTo(sum(name) / (1e6 * fit.length), 6)) : null,
    votes: perClass((name) => fit.filter(({ top }) => top === name).length),
    inSets: perClass((name) => fit.filter((p) => p.prediction_set.includes(name)).length),
    leukaemiaInSet: fit.filter((p) => p.prediction_set.some((name) => name !== BENIGN)).length,
    fit: fit.length,
    unfit: statuses.unfit,
  };
  return { fields: predictions.length, statuses, ...counts, ...decide(counts) };
}
