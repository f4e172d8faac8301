"""Where an evaluation lies, and reading it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from allsub_edge.atomic import replacing
from allsub_edge.errors import DataError
from allsub_edge.evaluation.evaluate import SCHEMA, Evaluation
from allsub_edge.evaluation.markdown import markdown
from allsub_edge.evaluation.page import page
from allsub_edge.evaluation.whole import lacking

FOLDER: Final[str] = "evaluation"
"""Inside a run folder; beside nothing for a model file."""

REPORT: Final[str] = "report.json"


def default_folder(subject: Path) -> Path:
    """``RUN/evaluation``, or ``NAME-evaluation`` in the working folder for a model file."""
    return subject / FOLDER if subject.is_dir() else Path(f"{subject.stem}-{FOLDER}")


def write(evaluation: Evaluation, folder: Path, *, pictures: bool = True) -> list[Path]:
    """Write ``report.html``, ``report.md`` and ``report.json``, all of them or none."""
    report = evaluation.report
    return write_together(
        folder,
        {
            "report.html": page(report, evaluation.pictures if pictures else []),
            "report.md": markdown(report),
            REPORT: json.dumps(report, indent=1, allow_nan=False) + "\n",
        },
    )


def write_together(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write several UTF-8 files; on a full disk none of them appears or changes."""
    with ExitStack() as stack:
        for name, text in texts.items():
            temporary = stack.enter_context(replacing(folder / name))
            temporary.write_bytes(text.encode("utf-8"))
    return [folder / name for name in texts]


def read(path: Path) -> dict[str, Any]:
    """The report of a run folder, of a folder of ``--out``, or in a JSON file.

    Raises:
        DataError: ``not_evaluated`` or ``bad_report``; says what to do.
    """
    candidates = [path / FOLDER / REPORT, path / REPORT] if path.is_dir() else [path]
    found = next((c for c in candidates if c.is_file()), None)
    if found is None:
        raise DataError(
            "not_evaluated",
            f"{path}: no evaluation here; make it with: allsub-edge evaluate {path} DIR",
        )
    try:
        report = json.loads(found.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            "bad_report", f"{found}: not readable as a report ({error}); evaluate again"
        ) from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise DataError(
            "bad_report",
            f"{found}: not a report of this version ({SCHEMA}); evaluate again with "
            "allsub-edge evaluate",
        )
    absent = lacking(report)
    if absent:
        raise DataError(
            "bad_report",
            f"{found}: a report without {absent}; evaluate again with allsub-edge evaluate",
        )
    return report
