"""What ``infer --overlay`` writes: each field with its mask, its verdict and the reasons drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from allsub_edge.classes import CLASSES, CLINICAL_NAMES, NOT_A_MEDICAL_DEVICE
from allsub_edge.errors import UsageError
from allsub_edge.quality import REASONS

if TYPE_CHECKING:
    from allsub_edge.classifier import View
    from allsub_edge.imaging.annotate import Card
    from allsub_edge.prediction import Prediction

SUFFIX: Final[str] = ".overlay.png"

COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "ok": (27, 120, 90),
    "uncertain": (176, 112, 10),
    "unfit": (170, 45, 60),
}
"""Status -> RGB of its band; white text on each has a contrast of at least 4:1."""


_PNG_LEVEL: Final[int] = 1
"""A picture of 0.53 MB in 39 ms; level 6 takes 147 ms for 0.45 MB."""


class Overlays:
    """Writes one picture for each answered field into a folder.

    A field ``f012.jpg`` becomes ``f012.overlay.png``; a second field of that name in the same run
    becomes ``f012-2.overlay.png``, and so on in the order of the fields. Files of an earlier run
    are replaced.
    """

    def __init__(self, folder: str, inputs: list[str]) -> None:
        """Check the folder and make it if absent.

        Raises:
            UsageError: ``bad_output_path``: a file, or a folder whose images are to be read: the
                pictures would be taken for fields.
        """
        self._folder = Path(folder)
        if self._folder.exists() and not self._folder.is_dir():
            raise UsageError("bad_output_path", f"{folder}: is a file: name a folder for --overlay")
        self._real = self._folder.resolve()
        for given in inputs:
            if given and Path(given).is_dir() and self._real.is_relative_to(Path(given).resolve()):
                raise self._within(given)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._used: set[str] = set()

    def refuse_inside(self, path: Path) -> None:
        """Raise UsageError if a field lies in the folder that pictures are written to."""
        if path.resolve().parent == self._real:
            raise self._within(str(path))

    def _within(self, given: str) -> UsageError:
        return UsageError(
            "bad_output_path",
            f"--overlay {self._folder}: lies where fields are read ({given}): "
            "choose a folder outside",
        )

    def write(self, record: Prediction, view: View) -> Path:
        """Write the picture of one field, whole or not at all, and return its path."""
        from allsub_edge.atomic import write_bytes
        from allsub_edge.imaging.annotate import annotate
        from allsub_edge.imaging.draw import encode_png

        target = self._folder / self._name(record.source)
        if target.is_symlink():
            target.unlink()  # it may lead to a field, and writing follows links
        picture = annotate(view.rgb, view.mask, card(record))
        write_bytes(target, encode_png(picture, _PNG_LEVEL))
        return target

    def _name(self, source: str) -> str:
        # 200 bytes leave room for the endings and for the name of the file being written.
        stem = "stdin" if source == "-" else Path(source).stem
        stem = stem.encode("utf-8", "surrogateescape")[:200].decode("utf-8", "ignore") or "field"
        name, count = stem, 1
        # Cards and sticks do not tell upper from lower case.
        while name.casefold() in self._used:
            count += 1
            name = f"{stem}-{count}"
        self._used.add(name.casefold())
        return name + SUFFIX


def card(record: Prediction) -> Card:
    """What to write beside a field that the model answered for."""
    from allsub_edge.imaging.annotate import Bar, Card

    seen = record.quality
    assert seen is not None, "an error record has no picture"
    # What an unfit field was taken for means nothing, so none of it stands out.
    shown = [] if record.reasons else record.prediction_set
    facts = [
        ("focus", f"{seen.focus:.1f}"),
        ("background RGB", " ".join(f"{value:.0f}" for value in seen.background)),
        ("cells", f"{_or_dash(seen.cells)} ({100 * seen.cell_fraction:.1f} % of the field)"),
        ("domain distance", f"{seen.domain_distance:.3g}"),
        ("milliseconds", f"{sum(record.timing_ms.values()):.1f}"),
    ]
    return Card(
        status=record.status.upper(),
        colour=COLOURS[record.status],
        title=record.label or "no label",
        subtitle=CLINICAL_NAMES[record.label] if record.label else f"most probable: {record.top}",
        bars=[Bar(c, record.probabilities[c], c in shown) for c in CLASSES],
        notes=_notes(record),
        facts=facts,
        footer=[
            Path(record.source).name or record.source,
            f"{record.model.name} {record.model.version} ({record.model.sha256[:12]})",
            NOT_A_MEDICAL_DEVICE,
        ],
    )


def _notes(record: Prediction) -> list[str]:
    if record.reasons:
        return [REASONS[code] for code in record.reasons]
    if record.status == "uncertain":
        options = " or ".join(record.prediction_set)
        return [f"cannot be excluded: {options}" if options else "no class is likely enough"]
    return []


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)
