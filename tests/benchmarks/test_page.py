"""``benchmarks.page``: tables land between their marks, and none is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from allsub_edge.benchmarks import page
from allsub_edge.errors import DataError

PAGE = "before\n<!-- one -->\nold\n<!-- /one -->\nbetween\n<!-- two -->\n<!-- /two -->\nafter\n"


def test_only_what_stands_between_the_marks_changes() -> None:
    filled = page.fill(PAGE, {"one": "| a |\n", "two": r"\1 stays"})
    assert filled == (
        "before\n<!-- one -->\n\n| a |\n\n<!-- /one -->\nbetween\n"
        "<!-- two -->\n\n\\1 stays\n\n<!-- /two -->\nafter\n"
    )
    assert page.fill(filled, {"one": "| a |", "two": r"\1 stays"}) == filled


@pytest.mark.parametrize("tables", [{"one": "x"}, {"one": "x", "two": "y", "three": "z"}])
def test_a_table_that_is_missing_or_not_asked_for_is_an_error(tables: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"two|three"):
        page.fill(PAGE, tables)


def test_a_mark_that_is_not_closed_is_an_error() -> None:
    with pytest.raises(DataError, match="/one"):
        page.fill("<!-- one -->\n", {"one": "x"})


def test_the_page_of_this_project_has_closed_marks() -> None:
    path = Path(__file__).parents[2] / "docs" / "performance.md"
    text = path.read_text(encoding="utf-8")
    names = page.re.findall(r"^<!-- ([a-z0-9-]+) -->$", text, page.re.MULTILINE)
    assert names
    assert page.fill(text, dict.fromkeys(names, "x"))
