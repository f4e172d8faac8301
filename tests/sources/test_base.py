from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from allsub_edge.errors import DataError, FieldError, UsageError
from allsub_edge.sources import Capture, Fault, Source, open_camera, open_source, sourced
from allsub_edge.sources.base import PathSource
from allsub_edge.sources.paths import Item, expand


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (10, 2):
        path = tmp_path / f"f{number}.png"
        path.write_bytes(b"x")
        os.utime(path, (0, 1_700_000_000 + number))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "g.jpg").write_bytes(b"x")
    return tmp_path


def test_a_folder_a_file_and_a_glob(folder: Path) -> None:
    def names(spec: str, **options: bool) -> list[str]:
        with open_source(spec, **options) as source:
            assert isinstance(source, Source)
            return [Path(item.source).name for item in source]

    assert names(str(folder)) == ["f2.png", "f10.png", "g.jpg"]
    assert names(str(folder), recursive=False) == ["f2.png", "f10.png"]
    assert names(str(folder / "f10.png")) == ["f10.png"]
    assert names(f"{folder}/f*") == ["f2.png", "f10.png"]


def test_captures_carry_path_and_time(folder: Path) -> None:
    first, *_ = open_source(str(folder))
    assert isinstance(first, Capture)
    assert first.field == folder / "f2.png"
    assert first.taken_at == datetime.fromtimestamp(1_700_000_002, UTC)


def test_a_path_that_fails_is_a_fault(tmp_path: Path) -> None:
    [found] = list(open_source(str(tmp_path / "gone.png")))
    assert isinstance(found, Fault)
    assert found.error.code == "missing"


def test_a_file_that_vanishes_meanwhile_is_left_to_the_reader(tmp_path: Path) -> None:
    item = Item("x.png", tmp_path / "x.png", None)
    assert [capture.taken_at for capture in PathSource([item]) if isinstance(capture, Capture)] == [
        None
    ]


def test_closing_stops(folder: Path) -> None:
    source = PathSource(expand([str(folder)]))
    items = iter(source)
    next(items)
    source.close()
    assert list(items) == []


def test_sourced_is_what_the_classifier_takes() -> None:
    field = np.zeros((4, 4, 3), np.uint8)
    error = FieldError("missing", "gone")
    pairs = list(sourced([Capture("a", field), Fault("b", error), Capture("c", b"d")]))
    assert [name for name, _ in pairs] == ["a", "b", "c"]
    assert pairs[0][1] is field
    assert pairs[1][1] is error
    assert pairs[2][1] == b"d"


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("x.png", {"count": 3}),
        ("-", {"recursive": True}),
        ("names:-", {"every": 1.0}),
        ("video:x.avi", {"recursive": True}),
    ],
)
def test_options_that_a_source_lacks(spec: str, options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="has no option"):
        open_source(spec, **options)


@pytest.mark.parametrize("spec", ["names:", "names0:", "camera:", "camera:x"])
def test_specs_that_name_nothing(spec: str) -> None:
    with pytest.raises(UsageError):
        open_source(spec)
    with pytest.raises(UsageError):
        open_camera("x.png")


def test_a_profile_is_read_before_the_camera_is_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such profile"):
        open_source("camera:0", profile=str(tmp_path / "p.json"))


def test_files_named_like_sources_are_given_with_a_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("camera:0").write_bytes(b"x")
    [found] = list(open_source("./camera:0"))
    assert isinstance(found, Capture)


def test_nothing_heavy_is_imported_for_paths() -> None:
    code = (
        "import sys; from allsub_edge.sources import open_source; list(open_source('.'));"
        "assert not {'cv2', 'numpy', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2]
    )
