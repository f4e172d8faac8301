"""The worst mistakes of an evaluation and its narrowest right answers, as HTML."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from allsub_edge.evaluation import words
from allsub_edge.evaluation.frame import Report, grid
from allsub_edge.report.html import escaped
from allsub_edge.report.thumbnails import thumbnail


def worst(report: Report, pictures: Sequence[tuple[Any, Any]]) -> str:
    """A heading and a figure for each, or a table where there are no pictures; see ``page``."""
    wrong = report["mistakes"]
    head = f"<h2>Worst mistakes, then the narrowest right answers ({wrong} wrong in all)</h2>"
    figures = []
    for row, picture in zip(report["worst"], pictures, strict=False):
        data = b64encode(thumbnail(*picture)).decode("ascii")
        says = (
            f"{row['class']} called {row['top']} {words.percent(row['probability_of_top'], 1)}"
            if not row["right"]
            else f"{row['class']} {words.percent(row['probability_of_top'], 1)}"
        )
        about = escaped(f"{row['file']}: {says}, {row['status']}")
        figures.append(
            f'<figure class="{"agrees" if row["right"] else "wrong"}" title="{about}">'
            f'<img alt="{about}" src="data:image/jpeg;base64,{data}">'
            f"<figcaption><b>{escaped(says)}</b>{escaped(row['file'].rsplit('/', 1)[-1])}<br>"
            f"{escaped(row['status'])}</figcaption></figure>"
        )
    if not figures:
        rows = [
            [
                escaped(row["file"]),
                row["class"],
                row["top"],
                words.percent(row["probability_of_top"], 1),
                row["status"],
            ]
            for row in report["worst"]
        ]
        return head + grid(["field", "is", "called", "probability", "status"], rows, left=3)
    return (
        f'{head}<div class="grid shots">{"".join(figures)}</div><p class="small">Wrong ones have a '
        "red border; lines mark the white cells. The pictures are from the evaluated data set: "
        "pass this page on only where its images may go (--no-pictures leaves them out).</p>"
    )
