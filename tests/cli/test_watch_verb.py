from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from allsub_edge.classifier import Classifier
from allsub_edge.cli.main import main
from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.render import render_field
from allsub_edge.records import FILE_NAME, Records, Seen
from allsub_edge.records.intake import Intake
from tests.bounded import SECONDS, bounded

ROOT = Path(__file__).parents[2]
FAST = ["--interval", "0.02", "--settle", "0.05", "--patience", "0.3", "--threads", "1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    return made


def png(seed: int) -> bytes:
    return encode_png(render_field(seed, "Pre", 64))


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def once(folder: Path, model: str, *more: str) -> int:
    data = str(folder.parent / "data")
    return main(
        ["watch", str(folder), "--data-dir", data, "--model", model, "--once", *FAST, *more]
    )


def recorded(folder: Path) -> list[Any]:
    with Records.open(folder.parent / "data", create=False) as records:
        return list(records.select())


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come true in {seconds} s"
        time.sleep(0.02)


class Watcher:
    """A real process of the command."""

    def __init__(self, folder: Path, model: str, *more: str, **options: Any) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "allsub_edge", "watch", str(folder), "--model", model),
                *("--data-dir", str(folder.parent / "data"), *FAST, *more),
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, **options,
        )  # fmt: skip

    def count(self) -> int:
        path = self.folder.parent / "data" / FILE_NAME
        if not path.exists():
            return 0
        with sqlite3.connect(path) as database:
            try:
                number: int = database.execute("SELECT count(*) FROM records").fetchone()[0]
            except sqlite3.OperationalError:  # not begun yet
                return 0
        return number

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def start(folder: Path, model: str) -> Iterator[Callable[..., Watcher]]:
    started: list[Watcher] = []

    def begin(*more: str, **options: Any) -> Watcher:
        started.append(Watcher(folder, model, *more, **options))
        return started[-1]

    yield begin
    for watcher in started:
        if watcher.process.poll() is None:
            watcher.process.kill()
            watcher.process.communicate(timeout=SECONDS)


def test_each_field_is_judged_once_and_not_again_after_a_restart(
    folder: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for seed in range(3):
        put(folder / "p" / f"{seed}.png", png(seed))
    asked: list[str] = []
    loaded: list[Any] = []
    predict, load = Classifier._predict, Classifier.load.__func__  # type: ignore[attr-defined]

    def counting(self: Classifier, field: Any, source: str, clock: Any) -> Any:
        asked.append(Path(source).name)
        return predict(self, field, source, clock)

    def loading(cls: type[Classifier], *given: Any, **options: Any) -> Classifier:
        loaded.append(given)
        opened: Classifier = load(cls, *given, **options)
        return opened

    monkeypatch.setattr(Classifier, "_predict", counting)
    monkeypatch.setattr(Classifier, "load", classmethod(loading))
    assert once(folder, model) == 0
    out, err = capsys.readouterr()
    assert sorted(asked) == ["0.png", "1.png", "2.png"]
    assert len(loaded) == 1
    assert len(out.splitlines()) == 3
    assert "recorded 3" in err
    assert once(folder, model) == 0
    assert len(asked) == 3, "known by name, size and time"
    for seed in range(3):
        os.utime(folder / "p" / f"{seed}.png")
    assert once(folder, model) == 0
    assert len(asked) == 3, "known by content"
    put(folder / "p" / "0.png", png(77))
    assert once(folder, model) == 0
    assert asked[3:] == ["0.png"], "a changed field is a new one"
    assert len(recorded(folder)) == 4


def test_the_answer_is_that_of_the_classifier(folder: Path, model: str) -> None:
    path = put(folder / "a.png", png(5))
    assert once(folder, model) == 0
    (record,) = recorded(folder)
    with Classifier.load(model, threads=1) as classifier:
        expected = classifier.predict(path).to_dict()
    assert {**record.result, "timing_ms": 0} == {**expected, "timing_ms": 0}
    assert record.source == str(path)
    assert record.settings == {"engine": "onnxruntime"}


def test_a_copy_is_noted_but_not_judged(
    folder: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(folder / "a.png", png(1))
    assert once(folder, model) == 0
    put(folder / "b.png", png(1))
    assert once(folder, model) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert f"{folder / 'b.png'}: the same bytes as {folder / 'a.png'}" in err
    (record,) = recorded(folder)
    with Records.open(folder.parent / "data") as records:
        assert [Path(name).name for name in records.sources(record.id)] == ["a.png", "b.png"]


def test_a_broken_file_is_recorded_once_and_again_when_it_changes(
    folder: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(folder / "cut.png", png(1)[:1000])
    put(folder / "empty.png", b"")
    put(folder / "text.png", b"hello")
    assert once(folder, model) == 1
    assert once(folder, model) == 0, "nothing new"
    assert len(capsys.readouterr().out.splitlines()) == 3
    codes = {Path(r.source).name: r.result["error"]["code"] for r in recorded(folder)}
    assert codes == {"cut.png": "truncated", "empty.png": "empty", "text.png": "not_an_image"}
    assert len({record.field_sha256 for record in recorded(folder)}) == 3
    put(folder / "cut.png", png(1))
    assert once(folder, model) == 0
    assert Counter(record.status == "error" for record in recorded(folder)) == {True: 3, False: 1}


def test_a_file_too_large_is_recorded_with_its_hash(
    folder: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allsub_edge.imaging.decode.MAX_BYTES", 1000)
    path = put(folder / "a.png", png(1))
    assert once(folder, model) == 1
    (record,) = recorded(folder)
    assert record.result["error"]["code"] == "too_large"
    assert record.field_sha256 == sha256(path.read_bytes()).hexdigest()


def exhausted(*_: Any, **__: Any) -> Any:
    raise MemoryError


@pytest.mark.parametrize(
    "place", ["allsub_edge.imaging.decode.cv2.imdecode", "allsub_edge.classifier.squash"]
)
def test_want_of_memory_is_not_kept_as_an_answer(
    folder: Path, model: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(folder / "a.png", png(1))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(place, exhausted)
        assert once(folder, model) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count(f"{path}: there is too little memory") == 1
    assert recorded(folder) == []
    assert once(folder, model) == 0
    assert [record.status != "error" for record in recorded(folder)] == [True]


def test_two_watchers_do_not_both_claim_a_field(
    folder: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    field = put(folder / "a.png", png(1))
    copy = put(folder.parent / "b.png", png(1))
    predict = Classifier._predict
    others: list[str] = []

    with Classifier.load(model, threads=1) as other, Records.open(folder.parent / "data") as same:
        # The other one is done with the same field, or with a copy of it, in the meantime.
        def overtaken(self: Classifier, given: Any, source: str, clock: Any) -> Any:
            if self is not other:
                status = first.stat()
                seen = Seen(str(first), status.st_size, status.st_mtime_ns)
                others.append(Intake(other, same).take(seen, case).outcome)
            return predict(self, given, source, clock)

        monkeypatch.setattr(Classifier, "_predict", overtaken)
        for case, first in (("C1", field), ("C2", copy)):
            assert once(folder, model, "--case", case) == 0
            out, err = capsys.readouterr()
            assert out == ""
            assert "recorded 0" in err
            assert (f"the same bytes as {copy}" in err) == (first == copy)
    assert others == ["recorded", "recorded"]
    assert [record.source for record in recorded(folder)] == [str(field), str(copy)]


def test_a_file_from_the_far_future_is_judged(folder: Path, model: str) -> None:
    path = put(folder / "a.png", png(1))
    moment = 10_413_792_000 * 10**9  # 2300-01-01
    os.utime(path, ns=(moment, moment))
    if path.stat().st_mtime_ns != moment:
        pytest.skip("this file system knows no such time")
    assert once(folder, model) == 0
    assert once(folder, model) == 0
    assert len(recorded(folder)) == 1


def test_a_subfolder_that_cannot_be_read_is_an_error(
    folder: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(folder / "Ada" / "a.png", png(1))
    put(folder / "Bob" / "b.png", png(2))
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if Path(path) == folder / "Ada":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refusing)
        assert once(folder, model, "--case-from-folder") == 1
    err = capsys.readouterr().err
    assert err.count(f"{folder / 'Ada'}: fields in it cannot be read (Permission denied)") == 1
    assert "1 error" in err
    assert once(folder, model, "--case-from-folder") == 0
    assert sorted(record.case for record in recorded(folder)) == ["Ada", "Bob"]


def test_the_case_comes_from_the_option_or_the_first_subfolder(folder: Path, model: str) -> None:
    put(folder / "a.png", png(1))
    put(folder / "Ada" / "b.png", png(2))
    put(folder / "Ada" / "left" / "c.png", png(3))
    put(folder / "Bob" / "copy of a.png", png(1))
    assert once(folder, model, "--case-from-folder") == 0
    cases = {Path(record.source).name: record.case for record in recorded(folder)}
    expected = {"a.png": "unassigned", "b.png": "Ada", "c.png": "Ada", "copy of a.png": "Bob"}
    assert cases == expected, "the same field in two cases is two records"
    assert once(folder, model, "--case", "C9") == 0
    assert sum(record.case == "C9" for record in recorded(folder)) == 3, "a copy within one case"


def test_ndjson_gives_predictions(
    folder: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(folder / "a.png", png(1))
    assert once(folder, model, "--format", "ndjson", "--quiet") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == recorded(folder)[0].result


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_everything_recorded(
    start: Callable[..., Watcher], folder: Path, model: str, number: int
) -> None:
    for seed in range(40):
        put(folder / f"{seed}.png", png(seed))
    watcher = start()
    until(lambda: watcher.count() >= 3, "three records")
    code, out, err = watcher.end(number)
    assert code == 0, err
    assert "Traceback" not in err
    assert len(out.splitlines()) == watcher.count(), "what was recorded was printed, and no more"
    assert once(folder, model) == 0
    assert len(recorded(folder)) == 40


def test_a_signal_wakes_it_from_sleep(start: Callable[..., Watcher], folder: Path) -> None:
    watcher = start("--interval", "3600")
    put(folder / "a.png", png(1))
    assert watcher.process.stderr is not None
    with bounded(watcher.process):
        assert "watching" in watcher.process.stderr.readline()
    time.sleep(0.2)
    began = time.monotonic()
    assert watcher.end()[0] == 0
    assert time.monotonic() - began < 10


def test_slow_copies_renames_and_late_arrivals_are_all_taken_whole(
    start: Callable[..., Watcher], folder: Path, model: str
) -> None:
    watcher = start("--settle", "0.3", "--patience", "2")
    slow = png(1)
    with (folder / "slow.png").open("wb") as stream:
        for begin in range(0, len(slow), len(slow) // 5):
            stream.write(slow[begin : begin + len(slow) // 5])
            stream.flush()
            time.sleep(0.15)
            put(folder / "late" / f"{begin}.png", png(100 + begin))
    put(folder / "b.png.part", png(2)).rename(folder / "b.png")
    put(folder / "gone.png", png(3)).unlink()
    late = len(list((folder / "late").iterdir()))
    until(lambda: watcher.count() >= late + 2, "all records")
    code, out, err = watcher.end()
    assert (code, "error  " in out) == (0, False), err
    assert len(recorded(folder)) == late + 2
    assert all(record.status != "error" for record in recorded(folder))


def test_a_copy_that_pauses_is_not_called_broken(
    start: Callable[..., Watcher], folder: Path
) -> None:
    watcher = start("--patience", "60")
    data = png(1)
    put(folder / "a.png", data[:2000])
    put(folder / "b.png", png(2))
    until(lambda: watcher.count() == 1, "the whole one")
    time.sleep(0.3)
    assert watcher.count() == 1
    put(folder / "a.png", data)
    until(lambda: watcher.count() == 2, "the other one")
    assert "error" not in {record.status for record in recorded(folder)}


def test_a_watched_folder_may_go_away_and_come_back(
    start: Callable[..., Watcher], folder: Path
) -> None:
    watcher = start()
    put(folder / "a.png", png(1))
    until(lambda: watcher.count() == 1, "the first")
    shutil.move(folder, folder.parent / "elsewhere")
    time.sleep(0.3)
    put(folder.parent / "elsewhere" / "b.png", png(2))
    shutil.move(folder.parent / "elsewhere", folder)
    until(lambda: watcher.count() == 2, "the second")
    code, _, err = watcher.end()
    assert code == 0
    assert err.count("waiting for it") == 1


def test_it_sleeps_when_there_is_nothing_to_do(start: Callable[..., Watcher], folder: Path) -> None:
    put(folder / "a.png", png(1))
    watcher = start("--interval", "0.5", "--threads", "2")
    until(lambda: watcher.count() == 1, "the field")
    time.sleep(0.2)

    def spent() -> float:
        stat = Path(f"/proc/{watcher.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    before = spent()
    time.sleep(2)
    assert spent() - before < 0.1, "of one processor, in two seconds"


def test_a_full_disk_stops_it_clearly_and_loses_nothing(
    start: Callable[..., Watcher], folder: Path, model: str
) -> None:
    for seed in range(60):
        put(folder / f"{seed}.png", png(seed))

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    watcher = start("--once", preexec_fn=small)
    out, err = watcher.process.communicate(timeout=60)
    assert watcher.process.returncode == 2, err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("allsub-edge: error: ")
    assert FILE_NAME in last
    assert "free" in last
    written = len(out.splitlines())
    assert 0 < written < 60
    assert len(recorded(folder)) == written
    assert once(folder, model) == 0
    assert len(recorded(folder)) == 60


@pytest.mark.parametrize(
    "wrong",
    [
        ["--interval", "0"], ["--interval", "nan"], ["--settle", "-1"], ["--patience", "1e9"],
        ["--case", " "], ["--case", "a", "--case-from-folder"], ["--threads", "0"],
    ],
)  # fmt: skip
def test_wrong_options_are_refused_in_one_line(
    wrong: list[str], folder: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(folder.parent / "data")
    assert main(["watch", str(folder), "--data-dir", data, "--model", model, *wrong]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("allsub-edge: error: ")


def test_an_absent_folder_is_refused(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", str(tmp_path / "none"), "--model", model]) == 2
    assert "no such folder" in capsys.readouterr().err
