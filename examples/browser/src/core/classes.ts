/** The four classes in output order, and the sentence that stands beside every answer. */

export const CLASSES = ["Benign", "Early", "Pre", "Pro"] as const;
export type ClassName = (typeof CLASSES)[number];

export const CLINICAL_NAMES: Readonly<Record<ClassName, string>> = {
  Benign: "benign (hematogones)",
  Early: "early pre-B ALL",
  Pre: "pre-B ALL",
  Pro: "pro-B ALL",
};

export const NOT_A_MEDICAL_DEVICE =
  "Research tool, not a medical device: no diagnosis or treatment may rest on it.";

/** Side of the model's input in pixels. */
export const FIELD_SIZE = 224;
