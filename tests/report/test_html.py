from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from allsub_edge.case import Case
from allsub_edge.classes import CITATION, NOT_A_MEDICAL_DEVICE
from allsub_edge.imaging.decode import decode
from allsub_edge.imaging.render import render_with_truth
from allsub_edge.prediction import Problem
from allsub_edge.report.html import PRINTED, case_page, escaped
from allsub_edge.report.thumbnails import SIDE, thumbnail
from tests.test_prediction import failed, made

NASTY = "<script>alert('x')</script>\" onerror=\"alert(1).jpg"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
VOID = {"meta", "img", "rect", "path"}


class Page(HTMLParser):
    """Collects elements, attributes and text, and holds the nesting sound."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def picture() -> bytes:
    return thumbnail(*render_with_truth(4, "Pro"))


def filled(picture: bytes, fields: int = 10, name: str = "S-17") -> Case:
    case = Case(name)
    for i in range(fields):
        case.add(replace(made(0.0, 0.05, 0.0, 0.95), source=f"smear/f{i}.jpg"), picture)
    case.add(replace(made(0.0, 0.9, 0.0, 0.1), source="smear/other.jpg"), picture)
    blurred = made(0.0, 0.0, 0.0, 1.0, reasons=("out_of_focus",))
    case.add(replace(blurred, source=NASTY), picture)
    broken = Problem("truncated", f"{NASTY}: is cut off; copy or export it again")
    case.add(replace(failed(), source=NASTY, error=broken))
    return case


def page_of(case: Case) -> str:
    return case_page(case.verdict(), case.gallery, datetime(2026, 3, 1, 9, 30, tzinfo=UTC))


def test_the_page_says_what_the_verdict_says(picture: bytes) -> None:
    text = Page(page_of(filled(picture))).text
    for said in (
        "Case S-17",
        "Pro: pro-B ALL",
        "10 of 11 fit fields say Pro: agreement 91 %, 95 % interval 62 to 98 %",
        "Not excluded: Pro.",
        "13 seen: 11 fit (11 ok, 0 uncertain), 1 unfit, 1 not readable",
        "the field is out of focus: 1",
        "is cut off; copy or export it again",
        "but Early 90 %",
        "ab" * 32,
        "toy 0.1",
        "onnxruntime 1.2, threads: 2",
        "2026-03-01 09:30:00 +0000",
        "not independent",
        NOT_A_MEDICAL_DEVICE,
        CITATION,
    ):
        assert said in text


def test_the_page_needs_nothing_but_itself(picture: bytes) -> None:
    page = Page(page_of(filled(picture)))
    assert not page.tags.keys() & {"script", "link", "iframe", "object", "base", "form", "a"}
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert tag == "img"
            assert value.startswith("data:image/jpeg;base64,")
    assert "url(" not in page_of(filled(picture))


def test_names_cannot_become_markup(picture: bytes) -> None:
    plain = Page(page_of(filled(picture)))
    assert plain.tags["script"] == 0
    assert NASTY in plain.text
    case = Page(page_of(filled(picture, name="</title><img src=x>")))
    assert case.tags["img"] == plain.tags["img"]
    assert "Case </title><img src=x>" in case.text


def test_unprintable_names_are_spelled_out() -> None:
    assert escaped("a\u202egpj.exe\n\udcff&") == "a\\u202egpj.exe\\n\\udcff&amp;"


def test_every_picture_is_described(picture: bytes) -> None:
    page = Page(page_of(filled(picture)))
    alts = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert len(alts) == page.tags["img"] == page.tags["figure"] == 12
    assert alts[0] == "smear/other.jpg: but Early 90 %"
    assert alts[1] == f"{NASTY}: unfit (the field is out of focus)"
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert labels[6:] == ["mean probability 87.3 %", "10 of 11 fields"]


def test_uncertain_and_empty_cases_say_why(picture: bytes) -> None:
    few = Case("S-18")
    few.add(made(0.0, 0.0, 0.0, 1.0))
    text = Page(page_of(few)).text
    assert "No label: most probable Pro, uncertain" in text
    assert "too few fields were fit to judge" in text
    assert "no picture" in text
    empty = Page(page_of(Case("S-19")))
    assert "No verdict: nothing fit to judge" in empty.text
    assert "No class is excluded" in empty.text
    assert empty.tags["img"] == 0


def test_the_report_is_written_whole(picture: bytes, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "case.html"
    filled(picture).write_report(path)
    assert Page(path.read_text(encoding="utf-8")).tags["figure"] == 12
    assert [entry.name for entry in path.parent.iterdir()] == ["case.html"]


def test_a_thousand_fields_make_no_larger_page_than_a_hundred(picture: bytes) -> None:
    small, large = (len(page_of(filled(picture, n))) for n in (100, 1000))
    assert large < small + 1000


def crowded(picture: bytes, refused: int) -> Case:
    """Every part of the page at its longest: 24 pictures, all reasons, a long name."""
    case = filled(picture, 60, "a case with a long name " * 8)
    reasons = ("out_of_domain", "too_few_cells", "out_of_focus", "too_dark", "wrong_stain")
    spoilt = made(0.1, 0.2, 0.3, 0.4, reasons=reasons)
    for number in range(refused):
        case.add(replace(spoilt, source=f"{number}-{'long-name-' * 9}.jpg"), picture)
    return case


def test_paper_names_few_refused_fields_and_says_how_many_more(picture: bytes) -> None:
    few, many = page_of(crowded(picture, 2)), page_of(crowded(picture, 290))
    assert 'class="screen"' not in few
    assert 'class="small paper"' not in few
    assert many.count('<tr class="screen">') == 200 - PRINTED
    assert "and 92 more that are not listed" in Page(many).text
    assert "and 288 more; the file of this report names 196 of them" in Page(many).text
    assert many.count("<tr><td>") == PRINTED


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to print with")
def test_the_longest_case_prints_on_one_page(picture: bytes, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    (tmp_path / "r.html").write_text(page_of(crowded(picture, 290)), encoding="utf-8")
    pdf = tmp_path / "r.pdf"
    subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--no-pdf-header-footer"),
            *(f"--print-to-pdf={pdf}", (tmp_path / "r.html").as_uri()),
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) == 1


def test_a_thumbnail_shows_the_field_and_the_outline() -> None:
    rgb, truth = render_with_truth(4, "Pro")
    seen = decode(thumbnail(rgb, truth)).rgb.astype(int)
    assert seen.shape == (SIDE, SIDE, 3)
    bare = decode(thumbnail(rgb, np.zeros_like(truth))).rgb.astype(int)
    green = (seen[..., 1] - seen[..., [0, 2]].max(axis=2)) > 90
    assert green.sum() > 50
    assert not ((bare[..., 1] - bare[..., [0, 2]].max(axis=2)) > 90).any()
    # Away from the cells both show the same field.
    far = (np.abs(seen - bare).max(axis=2) < 12).mean()
    assert far > 0.5
