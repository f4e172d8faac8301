"""docs/records.md names every key and column that a program meets."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from allsub_edge.case import CASE_COLUMNS
from allsub_edge.case.rule import CASE_REASONS
from allsub_edge.case.verdict import CaseVerdict
from allsub_edge.prediction import ROW_COLUMNS, Prediction
from allsub_edge.quality import REASONS, Quality
from allsub_edge.records.record import Record

PAGE = (Path(__file__).parents[1] / "docs" / "records.md").read_text("utf-8")


def named(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def test_columns_are_listed_in_order() -> None:
    field, case = (part.partition("\n\n")[0] for part in PAGE.split("CSV columns")[1:])
    assert tuple(named(field)) == ROW_COLUMNS
    assert tuple(named(case)) == CASE_COLUMNS


def test_every_key_and_reason_has_its_row() -> None:
    field, kept, case = re.split(r"\n## ", PAGE)[1:]
    for text, kind in ((field, Prediction), (field, Quality), (kept, Record), (case, CaseVerdict)):
        missing = {item.name for item in fields(kind)} - set(named(text)) - {"schema"}
        assert not missing, f"{kind.__name__}: {missing}"
    assert set(REASONS) <= set(named(field))
    assert set(CASE_REASONS) <= set(named(case))
    for name in ("prediction/1", "record/1", "case/1"):
        assert f"`allsub-edge/{name}`" in PAGE
