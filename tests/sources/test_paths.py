from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from allsub_edge.sources.paths import Item, expand, natural_order


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def shown(items: Iterator[Item], base: Path) -> list[str]:
    return [
        item.error.code if item.error else Path(item.path or "").relative_to(base).as_posix()
        for item in items
    ]


def test_a_folder_gives_its_images_in_natural_order(tmp_path: Path) -> None:
    touch(
        tmp_path, "f10.jpg", "f2.JPG", "f1.Png", "a.TIFF", "b.tif", "c.bmp", "d.jpeg",
        "notes.txt", ".hidden.png", ".folder/x.png", "g/2.png", "g/10.png", "f3.jpg.bak",
    )  # fmt: skip
    assert shown(expand([str(tmp_path)]), tmp_path) == [
        "a.TIFF", "b.tif", "c.bmp", "d.jpeg", "f1.Png", "f2.JPG", "f10.jpg", "g/2.png", "g/10.png",
    ]  # fmt: skip
    assert "g/2.png" not in shown(expand([str(tmp_path)], recursive=False), tmp_path)


def test_inputs_keep_their_order_and_bad_ones_their_place(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.png", "empty/readme.txt")
    given = ["b.png", "nope.png", "empty", "*.gif", "a.png", "", "b.png"]
    os.chdir(tmp_path)
    items = list(expand(given))
    assert [item.error.code if item.error else item.source for item in items] == [
        "b.png", "missing", "no_fields", "missing", "a.png", "missing", "b.png",
    ]  # fmt: skip
    assert all((item.path is None) == (item.error is not None) for item in items)
    for item, name in zip(items, given, strict=True):
        if item.error is not None:
            assert name in item.error.message
            assert "\n" not in item.error.message


@pytest.fixture(autouse=True)
def _stay_here() -> Iterator[None]:
    here = Path.cwd()
    yield
    os.chdir(here)


def test_globs_that_the_shell_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "s/f10.jpg", "s/f9.jpg", "s/deep/x.jpg", "s/note.txt", "s/f[1].jpg")
    base = str(tmp_path)
    assert shown(expand([f"{base}/s/f?*.jpg"]), tmp_path) == ["s/f9.jpg", "s/f10.jpg", "s/f[1].jpg"]
    assert shown(expand([f"{base}/**/*.jpg"]), tmp_path) == [
        "s/deep/x.jpg", "s/f9.jpg", "s/f10.jpg", "s/f[1].jpg",
    ]  # fmt: skip
    # A file of that very name wins over the pattern.
    assert shown(expand([f"{base}/s/f[1].jpg"]), tmp_path) == ["s/f[1].jpg"]
    # A folder that a pattern matches is expanded; with ** each file still comes once.
    assert shown(expand([f"{base}/s/d*"]), tmp_path) == ["s/deep/x.jpg"]
    assert sorted(shown(expand([f"{base}/**"]), tmp_path)) == sorted(
        ["s/deep/x.jpg", "s/f10.jpg", "s/f9.jpg", "s/f[1].jpg", "s/note.txt"]
    )


def test_a_pattern_of_folders_only_says_so(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert shown(expand([f"{tmp_path}/**"]), tmp_path) == ["no_fields"]


def test_a_file_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, "scan.dat", ".hidden.jpg")
    given = [str(tmp_path / "scan.dat"), str(tmp_path / ".hidden.jpg")]
    assert [item.source for item in expand(given) if item.path] == given


def test_a_pattern_does_not_follow_links_to_folders(tmp_path: Path) -> None:
    # Followed, two of them are every name of up to 40 steps: the test would not end.
    touch(tmp_path, "s/1.png", "s/deep/2.png", "s/.hidden/3.png")
    for name in ("up", "again"):
        (tmp_path / "s" / name).symlink_to(tmp_path / "s", target_is_directory=True)
    os.chdir(tmp_path)
    found = [item.source for item in expand(["./**/*.png", "s/**/deep/*.png", "s/up/*.png"])]
    assert found == ["./s/1.png", "./s/deep/2.png", "s/deep/2.png", "s/up/1.png"]
    assert [item.error is None for item in expand(["nowhere/**", "s/**/nothing/*.png"])] == [
        False,
        False,
    ]


def test_a_folder_that_may_be_listed_and_not_entered_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.jpg", "shut/b.jpg", "z.jpg")
    stat = os.stat

    def shut(path: object, *more: object, **options: object) -> os.stat_result:
        if "shut/b" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", shut)
    assert shown(expand([str(tmp_path)]), tmp_path) == ["a.jpg", "shut/b.jpg", "z.jpg"]
    assert shown(expand([f"{tmp_path}/**/*.jpg"]), tmp_path) == ["a.jpg", "unreadable", "z.jpg"]


def test_a_link_to_nothing_may_be_named_like_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "x*.jpg").symlink_to("nowhere")
    assert shown(expand([f"{tmp_path}/*"]), tmp_path) == ["missing"]


def test_folders_may_nest_deeper_than_calls(tmp_path: Path) -> None:
    os.chdir(tmp_path)
    for _ in range(sys.getrecursionlimit() + 100):
        Path("d").mkdir()
        os.chdir("d")
    touch(Path(), "1.png")
    os.chdir(tmp_path)
    try:
        for given in ("d", "**/*.png"):
            (item,) = expand([given])
            assert item.error is None and item.source.endswith("/d/1.png")
    finally:
        subprocess.run(["rm", "-r", "d"], check=True)  # shutil would nest as deep


def test_links_do_not_lead_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "s/1.png")
    (tmp_path / "s" / "round.png").symlink_to(tmp_path / "s", target_is_directory=True)
    (tmp_path / "s" / "link.png").symlink_to(tmp_path / "s" / "1.png")
    assert shown(expand([str(tmp_path / "s")]), tmp_path) == ["s/1.png", "s/link.png"]


def test_unreadable_paths_stand_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.png", "b/2.png", "c.png", "d.png")
    real_scan, real_access = os.scandir, os.access

    # Permissions do not bind root, under which many containers run tests.
    def scan(path: str) -> object:
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", path)
        return real_scan(path)

    def access(path: str, mode: int) -> bool:
        return not str(path).endswith("c.png") and real_access(path, mode)

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(os, "access", access)
    given = [str(tmp_path / name) for name in ("a", "b", "c.png", "d.png")] + ["\0", "x" * 5000]
    assert shown(expand(given), tmp_path) == [
        "unreadable", "b/2.png", "unreadable", "d.png", "unreadable", "unreadable",
    ]  # fmt: skip


def test_it_is_lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    seen: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (seen.append(str(path)), real(path))[1])
    items = expand([str(tmp_path / "a"), str(tmp_path / "b")])
    assert not seen
    next(items)
    assert seen == [str(tmp_path / "a")]


def test_ten_thousand_names_take_little(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"field-{number}.jpg").symlink_to("nowhere.jpg")
    items = expand([str(tmp_path)])
    tracemalloc.start()
    try:
        assert next(items).source.endswith("field-0.jpg")
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Measured: 0.7 MB of names, twice that while they are sorted.
    assert held < 1_200_000
    assert peak < 2_500_000


def test_the_order_is_that_of_numbers_and_never_depends_on_the_disk(tmp_path: Path) -> None:
    names = ["f1", "f2", "F2", "f02", "f10", "f10b2", "f10b10", "f9a", "1", "02", "10", "a", "A"]
    names = [f"{name}.png" for name in names]
    wanted = ["1", "02", "10", "A", "a", "f1", "F2", "f02", "f2", "f9a", "f10", "f10b2", "f10b10"]
    for shuffled in (names, names[::-1], sorted(names)):
        natural_order(shuffled)
        assert shuffled == [f"{name}.png" for name in wanted]
