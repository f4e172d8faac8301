/** What the model file says about itself, and which of its limits are applied. */

import type { Classifier } from "../core/classifier.js";
import { checks, REASONS } from "../core/quality.js";
import { el } from "./dom.js";

export function aboutModel(place: HTMLElement, { manifest, info }: Classifier): void {
  const { checked, notChecked } = checks(manifest.calibration);
  const { alpha, conformal } = manifest.calibration;
  const rows: [string, string][] = [
    ["Name", `${manifest.name} ${manifest.version} (${manifest.precision})`],
    ["SHA-256", info.sha256],
    ["Engine", info.engine],
    ["Intended use", manifest.intendedUse],
    ["Licence", manifest.licence],
    ["Citation", manifest.citation],
    [
      "Prediction sets",
      conformal
        ? `made to hold the true class in ${Number((100 * (1 - alpha)).toFixed(2))} % of fields of each class like those it was calibrated on`
        : "not calibrated: always the most probable class",
    ],
    ["A field is refused when", checked.map((code) => REASONS[code]).join("; ") || "never"],
  ];
  if (notChecked.length) rows.push(["Limits not checked by this page", notChecked.join(", ")]);
  const items = rows.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]);
  place.replaceChildren(el("dl", {}, ...items));
}
