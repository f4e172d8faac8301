from __future__ import annotations

import errno
import os
import shutil
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from allsub_edge.sources.watch import FolderWatch, Found, is_field_name


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(tmp_path: Path, clock: Clock) -> FolderWatch:
    return FolderWatch(str(tmp_path), settle=1.0, patience=10.0, clock=clock)


def put(path: Path, data: bytes = b"x", mtime: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return path


def scan(watch: FolderWatch, clock: Clock, seconds: float = 1.0) -> list[str]:
    """Names of the files that settled, the clock turned on before."""
    clock.now += seconds
    return [Path(found.path).name for found in watch.scan()]


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("f.png", True), ("F.JPG", True), ("a.b.tiff", True), ("f.2026-11-24.jpeg", True),
        (".f.png", False), ("~f.png", False), ("f.png.part", False), ("f.part.png", False),
        ("f.TMP.jpg", False), ("f.tmp", False), ("f.jpg.crdownload", False), ("f.txt", False),
        ("png", False), ("f", False),
    ],
)  # fmt: skip
def test_which_names_are_fields(name: str, taken: bool) -> None:
    assert is_field_name(name) is taken


def test_a_file_is_offered_when_it_stood_still_for_a_while(
    watch: FolderWatch, clock: Clock, tmp_path: Path
) -> None:
    put(tmp_path / "a.png")
    assert scan(watch, clock) == []
    assert scan(watch, clock, 0.5) == [], "two scans, but too close to each other"
    assert scan(watch, clock, 0.5) == ["a.png"]


def test_a_file_that_grows_or_is_written_again_waits(
    watch: FolderWatch, clock: Clock, tmp_path: Path
) -> None:
    for length in range(1, 5):
        put(tmp_path / "a.png", b"x" * length, mtime=50)
        assert scan(watch, clock) == []
    for mtime in range(51, 54):
        put(tmp_path / "a.png", b"xxxx", mtime=mtime)
        assert scan(watch, clock) == []
    assert scan(watch, clock) == ["a.png"]


def test_a_file_renamed_into_place_is_taken(
    watch: FolderWatch, clock: Clock, tmp_path: Path
) -> None:
    part = put(tmp_path / "a.png.part")
    assert [scan(watch, clock) for _ in range(3)] == [[], [], []]
    part.rename(tmp_path / "a.png")
    assert [scan(watch, clock) for _ in range(2)] == [[], ["a.png"]]


def test_what_was_dealt_with_comes_again_only_when_it_changes(
    watch: FolderWatch, clock: Clock, tmp_path: Path
) -> None:
    put(tmp_path / "a.png", mtime=50)
    scan(watch, clock)
    clock.now += 1
    (found,) = watch.scan()
    assert (found.path, found.size, found.last) == (str(tmp_path / "a.png"), 1, False)
    assert found.mtime_ns == 50 * 10**9
    watch.done(found)
    assert watch.waiting == 0
    assert [scan(watch, clock, 60) for _ in range(3)] == [[], [], []]
    put(tmp_path / "a.png", mtime=51)
    assert [scan(watch, clock) for _ in range(2)] == [[], ["a.png"]]


def test_an_unfinished_file_is_offered_once_more_and_for_good(
    watch: FolderWatch, clock: Clock, tmp_path: Path
) -> None:
    put(tmp_path / "a.png", mtime=50)
    scan(watch, clock)
    clock.now += 1
    (found,) = watch.scan()
    watch.not_yet(found)
    assert [scan(watch, clock) for _ in range(8)] == [[]] * 8
    clock.now += 1
    (again,) = watch.scan()
    assert again.last
    # A change begins everything anew.
    put(tmp_path / "a.png", b"longer", mtime=60)
    assert scan(watch, clock) == []
    clock.now += 1
    (changed,) = watch.scan()
    assert not changed.last


def test_a_file_that_changed_after_it_was_found_is_not_taken_for_done(
    watch: FolderWatch, clock: Clock, tmp_path: Path
) -> None:
    put(tmp_path / "a.png", mtime=50)
    scan(watch, clock)
    clock.now += 1
    (found,) = watch.scan()
    put(tmp_path / "a.png", b"new", mtime=51)
    watch.done(found)
    assert [scan(watch, clock) for _ in range(2)] == [[], ["a.png"]]


def test_subfolders_count_and_hidden_ones_do_not(
    watch: FolderWatch, clock: Clock, tmp_path: Path
) -> None:
    put(tmp_path / "p1" / "left" / "a.png", mtime=3)
    put(tmp_path / "b.png", mtime=1)
    put(tmp_path / ".trash" / "c.png")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    put(tmp_path / "p1" / "d.png", mtime=2)
    scan(watch, clock)
    assert scan(watch, clock) == ["b.png", "d.png", "a.png"], "the oldest change first"


def test_a_file_that_went_away_is_forgotten(
    watch: FolderWatch, clock: Clock, tmp_path: Path
) -> None:
    path = put(tmp_path / "a.png", mtime=50)
    scan(watch, clock)
    clock.now += 1
    (found,) = watch.scan()
    watch.done(found)
    path.unlink()
    assert scan(watch, clock) == []
    put(tmp_path / "a.png", mtime=50)
    assert [scan(watch, clock) for _ in range(2)] == [[], ["a.png"]]


def test_earlier_work_is_asked_for_once_for_each_state_of_a_file(
    tmp_path: Path, clock: Clock
) -> None:
    asked: list[tuple[str, int, int]] = []

    def known(path: str, size: int, mtime_ns: int) -> bool:
        asked.append((Path(path).name, size, mtime_ns // 10**9))
        return path.endswith("old.png")

    watch = FolderWatch(str(tmp_path), settle=1.0, known=known, clock=clock)
    put(tmp_path / "old.png", b"12", mtime=5)
    put(tmp_path / "new.png", b"123", mtime=6)
    assert [scan(watch, clock) for _ in range(2)] == [[], ["new.png"]]
    scan(watch, clock)
    assert sorted(asked) == [("new.png", 3, 6), ("old.png", 2, 5)]


def test_a_folder_that_is_away_for_a_while_forgets_nothing(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "share"
    put(folder / "a.png", mtime=50)
    watch = FolderWatch(str(folder), settle=1.0, clock=clock)
    scan(watch, clock)
    clock.now += 1
    (found,) = watch.scan()
    watch.done(found)
    shutil.move(folder, tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        watch.scan()
    shutil.move(tmp_path / "away", folder)
    assert [scan(watch, clock) for _ in range(3)] == [[], [], []]


def deny(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
    """Let reading a folder fail; the tests may run as root, who may read everything."""
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path) == folder:
            raise OSError(number, os.strerror(number), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


def test_a_subfolder_that_cannot_be_read_is_told_of(
    watch: FolderWatch, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "Ada" / "a.png")
    put(tmp_path / "Bob" / "b.png")
    with monkeypatch.context() as patched:
        deny(patched, tmp_path / "Ada", errno.EACCES)
        assert [scan(watch, clock) for _ in range(2)] == [[], ["b.png"]]
        assert watch.unread == {str(tmp_path / "Ada"): "Permission denied"}
    assert [scan(watch, clock) for _ in range(2)] == [["b.png"], ["a.png", "b.png"]]
    assert watch.unread == {}
    # One that went away between two looks is nothing to tell of.
    deny(monkeypatch, tmp_path / "Ada", errno.ENOENT)
    assert scan(watch, clock) == ["b.png"]
    assert watch.unread == {}


def test_a_folder_that_can_be_listed_but_not_entered_is_told_of(
    watch: FolderWatch, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "Ada" / "a.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.path, self.is_dir = entry.name, entry.path, entry.is_dir
            self.is_file = entry.is_file
            self._stat = entry.stat

        def stat(self) -> os.stat_result:
            if "Ada" in self.path:
                raise PermissionError(errno.EACCES, "Permission denied")
            return self._stat()

    scandir = os.scandir

    @contextmanager
    def listing(path: str) -> Iterator[Iterator[Entry]]:
        with scandir(path) as entries:
            yield map(Entry, entries)

    monkeypatch.setattr(os, "scandir", listing)
    scan(watch, clock)
    assert scan(watch, clock) == []
    assert watch.unread == {str(tmp_path / "Ada"): "Permission denied"}


def test_names_that_are_not_utf8_are_taken(
    watch: FolderWatch, clock: Clock, tmp_path: Path
) -> None:
    name = os.fsdecode(b"f\xff.png")
    put(tmp_path / name)
    scan(watch, clock)
    assert scan(watch, clock) == [name]


def test_ten_thousand_files_take_little_memory(tmp_path: Path, clock: Clock) -> None:
    for number in range(10_000):
        (tmp_path / f"a-field-of-some-patient-{number:05d}.png").touch()
    watch = FolderWatch(str(tmp_path), settle=1.0, clock=clock)

    def deal(found: list[Found]) -> int:
        for each in found:
            watch.done(each)
        return len(found)

    # Only what the package allocates: other tests leave threads and uncollected cycles behind.
    own = tracemalloc.Filter(True, "*/allsub_edge/*")

    def taken() -> int:
        traces = tracemalloc.take_snapshot().filter_traces([own]).traces
        return sum(trace.size for trace in traces)

    tracemalloc.start()
    try:
        total, waiting = 0, []
        for _ in range(4):
            clock.now += 1
            found = watch.scan()
            waiting.append(taken())
            total += deal(found)
            del found
        held, peak = taken(), max(waiting)
    finally:
        tracemalloc.stop()
    assert total == 10_000
    assert watch.waiting == 0
    # Measured with all of Python's memory: 2.1 MB held, 6.4 MB while all of them wait.
    assert held > 500_000, "the filter must not hide what is measured"
    assert held < 4_000_000
    assert peak < 12_000_000
