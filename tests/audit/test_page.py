"""The audit's page holds everything and escapes what the user named; the verb's exit codes."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

from allsub_edge.audit.dataset_audit import Audit, audit
from allsub_edge.audit.page import audit_page
from allsub_edge.cli.main import main
from tests.audit.toy_set import write_set

NASTY = "<img src=x onerror=alert(1)>&01.png"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_set(tmp_path_factory.mktemp("set"), each=4)
    (root / "Pre" / NASTY).write_bytes((root / "Pro" / "f01.png").read_bytes())
    (root / "Pro" / "f09.png").write_bytes(b"x")
    return root


@pytest.fixture(scope="module")
def found(root: Path) -> Audit:
    return audit(root, folds=2, block=1)


VOID = ("meta", "img", "br", "circle", "rect", "path")


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        named = dict(attrs)
        self.scripts += tag == "script" or any(name.startswith("on") for name in named)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag


def test_the_page_is_well_formed_self_contained_and_escaped(found: Audit) -> None:
    page = audit_page(found)
    tags = Tags(page)
    assert tags.open == [] and tags.scripts == 0
    assert len(tags.sources) > 20
    assert all(source.startswith("data:image/") for source in tags.sources)
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;01.png" in page and NASTY not in page
    assert "The same field under two classes" in page and "Pro/f09.png" in page
    assert "not a medical device" in page and "10.1002/int.22753" in page
    assert "$" not in re.sub(r"base64,[^\"]*", "", page)


def test_the_numbers_on_the_page_are_those_of_the_json(found: Audit) -> None:
    page, data = audit_page(found), found.to_dict()
    for entry in data["baselines"]:
        for way in ("grouped", "random"):
            rate = entry[way]["accuracy"]
            low, high = rate["interval95"]
            shown = f"{100 * rate['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
            assert shown in page, entry["name"]
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_the_verb_writes_both_files_and_ends_with_1_on_alarms(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, data = tmp_path / "a.html", tmp_path / "a.json"
    outputs = ["--html", str(page), "--json", str(data)]
    code = main(["audit", str(root), "--folds", "2", "--block", "1", *outputs])
    shown = capsys.readouterr()
    assert code == 1 and shown.err == ""
    assert shown.out.startswith("ALARM") and f"written: {page}" in shown.out
    told = json.loads(data.read_text("utf-8"))
    assert told["schema"] == "allsub-edge/audit/1"
    assert [entry["file"] for entry in told["unreadable"]] == ["Pro/f09.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.html", "a.json"}


def test_the_verb_ends_with_0_without_alarms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(write_set(tmp_path, 2)), "--folds", "2", "--block", "1"]) == 0
    assert "ALARM" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--folds", "1"], "whole number from 2 up"),
        (["--block", "20"], "class Benign has 1 groups but 5 are needed"),
        (["--html", "."], "is a folder"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(
    tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(write_set(tmp_path, 2)), *words]) == 2
    shown = capsys.readouterr()
    assert told in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "no/such/folder"]) == 2
    assert "no/such/folder: does not exist; give the folder that holds Benign" in (
        capsys.readouterr().err
    )
