"""The card's table of changed fields: the folds' reports, added up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the training extra is not installed")

from allsub_edge.errors import DataError
from allsub_edge.export.card import _robustness
from tests.evaluation.test_pooled import report


def test_the_folds_reports_become_one_table(tmp_path: Path) -> None:
    paths = []
    for fold in (1, 2):
        paths.append(tmp_path / f"{fold}.json")
        paths[-1].write_text(json.dumps(report(fold)))
    text = _robustness(paths)
    assert text.startswith("## Changed fields") and "48 fields in 8 groups" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| channel gains")]
    assert row.startswith("| channel gains at random, +-10 % | 93.75 %") and "0 of 36" in row
    with pytest.raises(DataError, match="give each fold once"):
        _robustness([paths[0], paths[0]])
