"""Many fields of one patient -> one verdict; ``allsub_edge.case.rule`` says by what rule.

::

    case = Case("S-17")
    for prediction in classifier.predict_many(paths):
        case.add(prediction)
    print(case.verdict().label)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Final

from allsub_edge.case.rule import CASE_REASONS, INDEPENDENCE, FieldCounts, decide
from allsub_edge.case.verdict import CASE_COLUMNS, SCHEMA, CaseVerdict
from allsub_edge.classes import BENIGN, CLASSES
from allsub_edge.errors import DataError, UsageError
from allsub_edge.prediction import PROBABILITY_DIGITS, ModelInfo, Prediction
from allsub_edge.quality import REASONS
from allsub_edge.report.gallery import Gallery

__all__ = [
    "CASE_COLUMNS",
    "CASE_REASONS",
    "INDEPENDENCE",
    "SCHEMA",
    "Case",
    "CaseVerdict",
    "FieldCounts",
]

MAX_ID: Final[int] = 200


class Case:
    """Collects the fields of one patient; the order of the fields does not change the verdict.

    Kept are counts, a hash per field where fingerprints are given, and what the report shows: a
    bounded number of thumbnails and refused fields (``report.gallery``).

    Args:
        case_id: the case's name: printable, at most 200 characters. It is shown and stored as
            given: use a pseudonym, not a patient's name.

    Raises:
        UsageError: ``bad_case_id``.
    """

    def __init__(self, case_id: str) -> None:
        self.id = case_id.strip()
        if not self.id:
            raise UsageError("bad_case_id", "the case has no name: give one, as in --id S-17")
        if len(self.id) > MAX_ID or not self.id.isprintable():
            raise UsageError(
                "bad_case_id",
                f"the case's name {self.id[:40]!r} is longer than {MAX_ID} characters or has "
                "unprintable ones: give a short plain one",
            )
        self.gallery = Gallery()
        self._statuses: Counter[str] = Counter()
        # Millionths as whole numbers: exact in any order, so the order of fields cannot matter.
        self._sums: Counter[str] = Counter()
        self._votes: Counter[str] = Counter()
        self._in_sets: Counter[str] = Counter()
        self._leukaemia = 0
        self._unfit: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._fingerprints: set[bytes] = set()
        self._model: ModelInfo | None = None

    def is_repeat(self, fingerprint: bytes) -> bool:
        """Whether the field with this fingerprint was asked about before; a repeat is counted.

        The same field twice is one observation, whatever files it was stored in. Ask with a hash
        of the squashed field (``View.rgb``), and leave a repeat out.
        """
        if fingerprint in self._fingerprints:
            self._statuses["repeated"] += 1
            return True
        self._fingerprints.add(fingerprint)
        return False

    def add(self, prediction: Prediction, thumbnail: bytes | None = None) -> None:
        """Take in one field.

        Args:
            prediction: what the model says of it; an unfit or error record is counted as such.
            thumbnail: a small JPEG or PNG for the report (``report.thumbnails``); kept only while
                it is among those the report would show, see ``gallery.wants``.

        Raises:
            DataError: ``mixed_models``, the prediction was made by another model file.
        """
        model = prediction.model
        if self._model is None:
            self._model = model
        elif model.sha256 != self._model.sha256:
            raise DataError(
                "mixed_models",
                f"{prediction.source}: was read by {model.name} {model.version}, the case by "
                f"{self._model.name} {self._model.version}: read all its fields with one model",
            )
        self.gallery.add(prediction, thumbnail)
        self._statuses[prediction.status] += 1
        if prediction.error is not None:
            self._errors[prediction.error.code] += 1
        elif prediction.status == "unfit":
            self._unfit.update(prediction.reasons)
        else:
            assert prediction.top is not None
            for name, value in prediction.probabilities.items():
                self._sums[name] += round(value * 10**PROBABILITY_DIGITS)
            self._votes[prediction.top] += 1
            self._in_sets.update(prediction.prediction_set)
            self._leukaemia += any(n != CLASSES[BENIGN] for n in prediction.prediction_set)

    def verdict(self) -> CaseVerdict:
        """What follows from the fields so far; more may be added afterwards."""
        fields = FieldCounts(**{name: self._statuses[name] for name in asdict(FieldCounts())})
        unit = fields.fit * 10**PROBABILITY_DIGITS
        means = (
            {name: round(self._sums[name] / unit, PROBABILITY_DIGITS) for name in CLASSES}
            if unit
            else {}
        )
        votes = {name: self._votes[name] for name in CLASSES}
        in_sets = {name: self._in_sets[name] for name in CLASSES}
        decision = decide(means, votes, in_sets, self._leukaemia, fields)
        return CaseVerdict(
            case=self.id,
            **decision._asdict(),
            mean_probabilities=means,
            votes=votes,
            in_sets=in_sets,
            leukaemia_in_set=self._leukaemia,
            fields=fields,
            unfit_reasons={code: self._unfit[code] for code in REASONS if self._unfit[code]},
            errors=dict(sorted(self._errors.items())),
            model=self._model,
        )

    def write_report(self, path: str | Path) -> None:
        """Write the one-page HTML report, whole or not at all; see ``report.html``.

        Raises:
            OSError: the file cannot be written.
        """
        from allsub_edge.atomic import write_text
        from allsub_edge.report.html import case_page

        write_text(path, case_page(self.verdict(), self.gallery))
