"""The four classes of the public data set, in the one order used everywhere."""

from __future__ import annotations

from typing import Final

CLASSES: Final[tuple[str, ...]] = ("Benign", "Early", "Pre", "Pro")
"""Class names in output order; also the folder names of the public data set."""

CLINICAL_NAMES: Final[dict[str, str]] = {
    "Benign": "benign (hematogones)",
    "Early": "early pre-B ALL",
    "Pre": "pre-B ALL",
    "Pro": "pro-B ALL",
}
"""What a report calls each class."""

BENIGN: Final[int] = CLASSES.index("Benign")
"""Index of the only class that is not leukaemia; calling any other class this is a missed ALL."""

NOT_A_MEDICAL_DEVICE: Final[str] = (
    "Research tool, not a medical device: no diagnosis or treatment may rest on it."
)
"""Every report carries this sentence."""

CITATION: Final[str] = (
    "Ghaderzadeh, Aria, Hosseini, Asadi, Bashash, Abolghasemi: A fast and efficient CNN model "
    "for B-ALL diagnosis and its subtypes classification using peripheral blood smear images. "
    "International Journal of Intelligent Systems 37 (2022), doi 10.1002/int.22753."
)
"""Wherever a result from the public data set is shown, this stands beside it."""
