"""A file is read, judged and recorded: once, whatever happens in between."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

from allsub_edge.classifier import Classifier
from allsub_edge.errors import FieldError
from allsub_edge.imaging.decode import read_bytes
from allsub_edge.imaging.memory import no_memory
from allsub_edge.prediction import Prediction
from allsub_edge.records.record import Record, Seen, Settings, storable
from allsub_edge.records.store import Records

UNFINISHED: Final[frozenset[str]] = frozenset({"empty", "not_an_image", "truncated"})
"""Error codes that a file may also have because it is not completely written yet: nothing so far,
a stretch of zeros that was reserved, a picture without its end."""

PASSING: Final[frozenset[str]] = frozenset({"no_memory", "unreadable"})
"""Error codes that tell of the machine at that moment and not of the file: kept as the file's
answer they would keep it from ever being judged."""


@dataclass(frozen=True)
class Taken:
    """What became of a file.

    Attributes:
        outcome: ``recorded``; ``known`` (its record was there, or another program made it
            meanwhile); ``copy`` (the same, and the file was new by this name); ``unfinished`` (not
            a whole image, nothing was written); ``changed`` (it changed or went away while it was
            read, nothing was written); ``unreadable`` (its bytes cannot be had, or there is too
            little memory for them: see ``problem``; nothing was written).
        prediction: the answer, if it was recorded.
        record: the record that was there, if known or a copy.
        problem: why it is unreadable.
    """

    outcome: str
    prediction: Prediction | None = None
    record: Record | None = None
    problem: str = ""


class Intake:
    """Judges files with one classifier and keeps the answers.

    Args:
        classifier: loaded once, used for every file.
        records: where the answers go.
    """

    def __init__(self, classifier: Classifier, records: Records) -> None:
        self._classifier = classifier
        self._records = records
        self.settings: Settings = {"engine": classifier.engine.name}

    def known(self, seen: Seen, case: str) -> bool:
        """True if this file, by name, size and time, has its record."""
        return self._records.sighted(
            seen, case=case, model_sha256=self._classifier.info.sha256, settings=self.settings
        )

    def take(self, seen: Seen, case: str, *, last: bool = True) -> Taken:
        """Judge one file unless its bytes were judged before.

        Args:
            seen: the file, with size and time of change as they were when it settled.
            case: the case it belongs to.
            last: record an error even if the file looks unfinished.

        Raises:
            RecordsError: the answer could not be written; the file stays untouched.
        """
        if not _unchanged(seen):
            return Taken("changed")
        field: bytes | FieldError
        try:
            field = read_bytes(seen.source)
            digest = sha256(field).hexdigest()
        except FieldError as error:
            if error.code not in ("empty", "too_large"):  # those two have bytes, to know them by
                gone = error.code == "missing"
                return Taken("changed" if gone else "unreadable", problem=error.message)
            field = error
            try:
                with Path(seen.source).open("rb") as stream:
                    digest = file_digest(stream, "sha256").hexdigest()
            except OSError:
                return Taken("changed")
        if not _unchanged(seen):
            return Taken("changed")
        before = self._find(digest, case)
        if before is not None:
            new_name = self._records.note(before.id, seen)
            return Taken("copy" if new_name else "known", record=before)
        try:
            prediction = next(self._classifier.predict_many([(seen.source, field)]))
        except MemoryError:  # later than while decoding, which has its own error
            return Taken("unreadable", problem=no_memory(seen.source).message)
        if prediction.error is not None and prediction.error.code in PASSING:
            return Taken("unreadable", problem=prediction.error.message)
        if prediction.error is not None and prediction.error.code in UNFINISHED and not last:
            return Taken("unfinished")
        _, new = self._records.add(
            prediction, case=case, field_sha256=digest, settings=self.settings, seen=seen
        )
        if new:
            return Taken("recorded", prediction=prediction)
        before = self._find(digest, case)
        copied = before is not None and before.source != storable(seen.source)
        return Taken("copy" if copied else "known", record=before)

    def _find(self, digest: str, case: str) -> Record | None:
        """The record of a field's bytes in a case, or None."""
        return self._records.find(
            case=case,
            field_sha256=digest,
            model_sha256=self._classifier.info.sha256,
            settings=self.settings,
        )


def _unchanged(seen: Seen) -> bool:
    try:
        status = Path(seen.source).stat()
    except (OSError, ValueError):
        return False
    return (status.st_size, status.st_mtime_ns) == (seen.size, seen.mtime_ns)
