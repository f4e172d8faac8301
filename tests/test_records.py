from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from allsub_edge.classifier import Classifier
from allsub_edge.engines import open_engine
from allsub_edge.imaging.render import render_field
from allsub_edge.prediction import Prediction
from allsub_edge.records import FILE_NAME, VERSION, Records, RecordsError, Seen, default_folder
from allsub_edge.records.database import APPLICATION_ID, MIGRATIONS, migrate
from allsub_edge.records.record import stamp
from tests import toy_model

ROOT = Path(__file__).parents[1]
SETTINGS = {"engine": "onnxruntime", "b": 1}


@pytest.fixture(scope="module")
def answer() -> Prediction:
    model = toy_model.model()
    with Classifier(model, open_engine(model, threads=1)) as classifier:
        return classifier.predict(render_field(3), source="/in/f3.png")


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records.open(tmp_path / "data") as opened:
        yield opened


def add(records: Records, answer: Prediction, number: int = 1, **changes: Any) -> tuple[int, bool]:
    values: dict[str, Any] = {
        "case": "C1",
        "field_sha256": f"{number:064x}",
        "settings": SETTINGS,
        "seen": Seen(f"/in/f{number}.png", 100 + number, 7),
    }
    return records.add(answer, **(values | changes))


def integrity(folder: Path) -> str:
    with sqlite3.connect(folder / FILE_NAME) as database:
        return str(database.execute("PRAGMA integrity_check").fetchone()[0])


def refusal(folder: Path, **options: Any) -> RecordsError:
    with pytest.raises(RecordsError) as caught:
        Records.open(folder, **options).close()
    assert str(folder) in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


def test_a_record_holds_what_was_said(records: Records, answer: Prediction) -> None:
    moment = datetime(2026, 11, 24, 9, 30, 0, 123456, timezone(timedelta(hours=2)))
    number, new = add(records, answer, time=moment)
    assert new
    record = records.get(number)
    assert Prediction.from_dict(record.result) == answer
    assert (record.case, record.status, record.label) == ("C1", answer.status, answer.label)
    assert (record.field_sha256, record.model_sha256) == (f"{1:064x}", answer.model.sha256)
    assert record.settings == SETTINGS
    assert record.time == "2026-11-24T07:30:00.123Z"
    assert record.source == "/in/f1.png"
    with pytest.raises(RecordsError, match="no record 99"):
        records.get(99)


def test_the_same_question_is_one_record_and_its_first_answer_stays(
    records: Records, answer: Prediction
) -> None:
    first = add(records, answer)
    other = replace(answer, source="/elsewhere.png")
    turned = {"b": 1, "engine": "onnxruntime"}
    again = add(records, other, settings=turned, seen=Seen("/elsewhere.png", 101, 8))
    assert again == (first[0], False)
    assert records.count() == 1
    assert records.get(first[0]).source == "/in/f1.png"
    assert sorted(records.sources(first[0])) == ["/elsewhere.png", "/in/f1.png"]


def test_case_field_model_and_settings_each_make_another_record(
    records: Records, answer: Prediction
) -> None:
    model = replace(answer, model=replace(answer.model, sha256="0" * 64))
    ids = {
        add(records, answer)[0],
        add(records, answer, case="C2")[0],
        add(records, answer, number=2)[0],
        add(records, model)[0],
        add(records, answer, settings={"engine": "litert"})[0],
    }
    assert len(ids) == 5
    found = records.find(
        case="C1", field_sha256=f"{1:064x}", model_sha256="0" * 64, settings=SETTINGS
    )
    assert found is not None
    assert found.model_sha256 == "0" * 64


def test_a_file_is_known_by_name_size_and_time(records: Records, answer: Prediction) -> None:
    number, _ = add(records, answer)

    def sighted(seen: Seen, case: str = "C1", model: str = answer.model.sha256) -> bool:
        return records.sighted(seen, case=case, model_sha256=model, settings=SETTINGS)

    assert sighted(Seen("/in/f1.png", 101, 7))
    assert not sighted(Seen("/in/f1.png", 102, 7))
    assert not sighted(Seen("/in/f1.png", 101, 8))
    assert not sighted(Seen("/in/f2.png", 101, 7))
    assert not sighted(Seen("/in/f1.png", 101, 7), case="C2")
    assert not sighted(Seen("/in/f1.png", 101, 7), model="0" * 64)
    assert records.note(number, Seen("/in/f2.png", 101, 7))
    assert not records.note(number, Seen("/in/f1.png", 101, 9))
    assert sighted(Seen("/in/f1.png", 101, 9))
    assert not sighted(Seen("/in/f1.png", 101, 7))


@pytest.mark.parametrize("year", [1601, 2300, 2486])
def test_times_beyond_63_bits_of_nanoseconds_are_kept_apart(
    records: Records, answer: Prediction, year: int
) -> None:
    moment = int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 10**9
    seen = Seen("/in/a.png", 5, moment)

    def sighted(seen: Seen) -> bool:
        return records.sighted(seen, case="C1", model_sha256=answer.model.sha256, settings=SETTINGS)

    assert not sighted(seen)
    number, _ = add(records, answer, seen=seen)
    assert sighted(seen)
    assert not sighted(replace(seen, mtime_ns=moment + 1))
    assert not records.note(number, replace(seen, mtime_ns=moment + 1))
    assert sighted(replace(seen, mtime_ns=moment + 1))


def test_numbers_too_large_for_the_database_are_refused_in_words(
    records: Records, answer: Prediction
) -> None:
    add(records, answer)
    for number in (2**63, -(2**63) - 1, 10**22, 2**64 + 1):
        with pytest.raises(RecordsError, match=f"no record {number}") as caught:
            records.get(number)
        assert caught.value.code == "no_such_record"
    with pytest.raises(RecordsError) as caught:
        records.note(1, Seen("/in/a.png", 2**63, 0))
    assert caught.value.code == "records_failed"
    assert records.sources(1) == ["/in/f1.png"]


def test_years_of_three_digits_come_before_all_others(records: Records, answer: Prediction) -> None:
    assert stamp(datetime(999, 12, 31, tzinfo=UTC)) == "0999-12-31T00:00:00.000Z"
    assert stamp(datetime(2026, 1, 2, 3, 4, 5, 999_999, UTC)) == "2026-01-02T03:04:05.999Z"
    add(records, answer)
    assert records.count(before=datetime(999, 12, 31, tzinfo=UTC)) == 0
    assert records.purge(before=datetime(5, 1, 1, tzinfo=UTC)) == 0
    assert records.count(since=datetime(999, 12, 31, tzinfo=UTC)) == 1


def test_selecting_and_purging_by_case_and_time(records: Records, answer: Prediction) -> None:
    start = datetime(2026, 11, 1, tzinfo=UTC)
    for number in range(10):
        case = "even" if number % 2 == 0 else "odd"
        add(records, answer, number, case=case, time=start + timedelta(days=number))

    def days(**options: Any) -> list[int]:
        return [int(record.time[8:10]) - 1 for record in records.select(**options)]

    assert days() == list(range(10))
    assert days(case="odd") == [1, 3, 5, 7, 9]
    assert days(since=start + timedelta(days=8)) == [8, 9]
    assert days(before=start + timedelta(days=2), case="even") == [0]
    assert days(status=answer.status) == list(range(10))
    assert days(status="error") == []
    assert records.purge(case="even", before=start + timedelta(days=6)) == 3
    assert days() == [1, 3, 5, 6, 7, 8, 9]
    assert records.count(case="even") == 2
    last = max(record.id for record in records.select())
    assert records.purge(case="even") == 2
    assert records.purge(case="odd") == 5
    assert add(records, answer)[0] > last, "a number is never used twice"


def test_what_was_purged_is_gone_from_the_disk(tmp_path: Path, answer: Prediction) -> None:
    with Records.open(tmp_path) as records:
        for number in range(200):
            add(records, answer, number, case="Ada-Lovelace" if number % 2 else "other")
        records.purge(case="Ada-Lovelace")
        left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert b"other" in left
        assert b"Ada-Lovelace" not in left
        size = (tmp_path / FILE_NAME).stat().st_size
        records.purge(case="other")
        assert (tmp_path / FILE_NAME).stat().st_size < size / 2


def test_selecting_holds_one_record_at_a_time_and_lets_others_write(
    records: Records, answer: Prediction, tmp_path: Path
) -> None:
    for number in range(5):
        add(records, answer, number)
    reading = records.select()
    next(reading)
    with Records.open(tmp_path / "data") as other:
        add(other, answer, 99)
    assert len(list(reading)) >= 4
    assert records.count() == 6


def test_names_that_are_not_utf8_can_be_stored(records: Records, answer: Prediction) -> None:
    name = os.fsdecode(b"/in/f\xff.png")
    number, _ = add(records, replace(answer, source=name), case=name, seen=Seen(name, 1, 2))
    assert records.get(number).source == "/in/f\\xff.png"
    assert records.sighted(
        Seen(name, 1, 2), case=name, model_sha256=answer.model.sha256, settings=SETTINGS
    )


def test_an_older_database_is_brought_up_to_date(tmp_path: Path, answer: Prediction) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None) as old:
        migrate(old, MIGRATIONS[:1])
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
        old.execute(
            "INSERT INTO records (case_id, source, field_sha256, model_sha256, settings, status, "
            "label, time, result) VALUES ('C1', '/in/old.png', ?, ?, '{}', ?, ?, "
            "'2026-01-02T03:04:05.678Z', ?)",
            ("a" * 64, "b" * 64, answer.status, answer.label, answer.to_json()),
        )
    old.close()
    with Records.open(tmp_path) as records:
        (record,) = records.select()
        assert Prediction.from_dict(record.result) == answer
        assert records.sources(record.id) == ["/in/old.png"]
        # Version 1 did not note size and time: such a file is hashed once more, not judged.
        seen = Seen("/in/old.png", 5, 6)
        question = {"case": "C1", "model_sha256": "b" * 64, "settings": {}}
        assert not records.sighted(seen, **question)
        assert not records.note(record.id, seen)
        assert records.sighted(seen, **question)
    with sqlite3.connect(tmp_path / FILE_NAME) as new:
        assert new.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert integrity(tmp_path) == "ok"


def test_a_migration_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, answer: Prediction
) -> None:
    with Records.open(tmp_path) as records:
        add(records, answer)
    database = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    broken = (*MIGRATIONS, ("CREATE TABLE later (a)", "DELETE FROM records", "NONSENSE"))
    with pytest.raises(sqlite3.OperationalError):
        migrate(database, broken)
    assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)
    tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
    assert "records" in tables
    assert "later" not in tables
    database.close()
    with Records.open(tmp_path) as records:
        assert records.count() == 1


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    Records.open(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    error = refusal(tmp_path)
    assert (error.code, "upgrade allsub-edge" in error.message) == ("newer", True)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("CREATE TABLE bookmarks (a)")
    before = (tmp_path / FILE_NAME).read_bytes()
    assert refusal(tmp_path).code == "foreign"
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_damage_is_met_when_opening(tmp_path: Path, answer: Prediction) -> None:
    with Records.open(tmp_path) as records:
        for number in range(200):
            add(records, answer, number)
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    middle = len(whole) // 2 // 4096 * 4096
    for damaged in (
        whole[:middle] + os.urandom(4096) + whole[middle + 4096 :],
        whole[: len(whole) // 2],
        b"not a database at all" * 100,
    ):
        path.write_bytes(damaged)
        error = refusal(tmp_path)
        assert error.code == "corrupt"
        assert "backup" in error.message
    path.write_bytes(whole)
    with Records.open(tmp_path) as records:
        assert records.count() == 200


def test_an_empty_file_is_one_that_was_just_begun(tmp_path: Path, answer: Prediction) -> None:
    (tmp_path / FILE_NAME).touch()
    with Records.open(tmp_path) as records:
        assert add(records, answer)[1]


def test_absent_records_are_made_only_when_asked(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none", create=False).code == "no_records"
    assert not (tmp_path / "none").exists()
    Records.open(tmp_path / "a" / "b").close()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o077 == 0, "names of cases are private"


def test_the_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_folder() == Path("/data/allsub-edge")
    for unset in ("", "relative/path"):
        monkeypatch.setenv("XDG_DATA_HOME", unset)
        assert default_folder() == Path("/home/ada/.local/share/allsub-edge")


def test_without_a_home_the_folder_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setenv("XDG_DATA_HOME", "")
    with pytest.raises(RecordsError, match="--data-dir") as caught:
        Records.open()
    assert caught.value.code == "no_home"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_folder() == Path("/data/allsub-edge")


def test_a_full_disk_tears_nothing(tmp_path: Path, answer: Prediction) -> None:
    with Records.open(tmp_path) as records:
        # SQLite's own limit of pages gives the very error of a full disk.
        pages = records._database.execute("PRAGMA page_count").fetchone()[0]
        records._database.execute(f"PRAGMA max_page_count = {pages + 4}").fetchall()
        done = 0
        with pytest.raises(RecordsError) as caught:
            for done in range(100):
                add(records, answer, done)
        assert (caught.value.code, str(tmp_path) in caught.value.message) == ("disk_full", True)
        assert 0 < done < 100
        assert records.count() == done
        records._database.execute("PRAGMA max_page_count = 100000").fetchall()
        assert add(records, answer, done)[1], "it goes on when there is space again"
    assert integrity(tmp_path) == "ok"


FILLS = """
import json, pathlib, resource, sys
from allsub_edge.prediction import Prediction
from allsub_edge.records import Records, RecordsError, Seen
answer = Prediction.from_dict(json.loads(sys.argv[2]))
with Records.open(sys.argv[1]) as records:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    for number in range(1000):
        try:
            records.add(answer, case="C", field_sha256=str(number), settings={}, seen=Seen("s"))
        except RecordsError as error:
            print(number, error.code)
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
"""


def test_a_file_that_may_not_grow_tears_nothing(tmp_path: Path, answer: Prediction) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLS, str(tmp_path), answer.to_json()],
        capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    number, code = done.stdout.split()
    assert code in ("disk_full", "io_error")
    assert int(number) > 10
    assert integrity(tmp_path) == "ok"
    with Records.open(tmp_path) as records:
        assert records.count() == int(number)


def together(work: Callable[[], Any], count: int) -> list[Any]:
    """What ``count`` threads return that run ``work`` at the same time; raises what one raised."""
    with ThreadPoolExecutor(count) as pool:
        return [running.result(60) for running in [pool.submit(work) for _ in range(count)]]


def test_programs_may_begin_the_same_records_together(tmp_path: Path) -> None:
    for number in range(25):
        start = threading.Barrier(5, timeout=30)

        def work(
            folder: Path = tmp_path / str(number), start: threading.Barrier = start
        ) -> tuple[int, str]:
            start.wait()
            with Records.open(folder) as records:
                (mode,) = records._database.execute("PRAGMA journal_mode").fetchone()
                return records.count(), mode

        assert together(work, 5) == [(0, "wal")] * 5


@contextmanager
def held(folder: Path, seconds: float) -> Iterator[None]:
    """Another program holds the write lock of a new, empty database for a while."""
    other = sqlite3.connect(folder / FILE_NAME, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(seconds, other.execute, ["COMMIT"])
    release.start()
    try:
        yield
    finally:
        release.join(30)
        other.close()


def test_opening_waits_for_a_program_that_is_about_to_begin(
    tmp_path: Path, answer: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(tmp_path, 0.3), Records.open(tmp_path) as records:
        assert add(records, answer)[1]
    monkeypatch.setattr("allsub_edge.records.database.BUSY_SECONDS", 0.1)
    (tmp_path / "stuck").mkdir()
    with held(tmp_path / "stuck", 1.0):
        assert refusal(tmp_path / "stuck").code == "busy"


def test_writers_at_the_same_time_make_one_record_each(tmp_path: Path, answer: Prediction) -> None:
    start = threading.Barrier(4, timeout=30)

    def work() -> int:
        with Records.open(tmp_path) as records:
            start.wait()
            return sum(add(records, answer, number)[1] for number in range(25))

    assert sum(together(work, 4)) == 25
    with Records.open(tmp_path) as records:
        assert records.count() == 25


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_records_of_somebody_else_are_refused_clearly(tmp_path: Path) -> None:
    Records.open(tmp_path).close()
    (tmp_path / FILE_NAME).chmod(0o400)
    assert refusal(tmp_path).code == "not_writable"


def test_looking_at_records_needs_no_opencv() -> None:
    code = (
        "import sys, allsub_edge.records, allsub_edge.cli.records, allsub_edge.cli.watch;"
        "bad = {'cv2', 'onnxruntime', 'numpy'} & set(sys.modules); assert not bad, bad"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_database_is_marked_as_ours(tmp_path: Path) -> None:
    Records.open(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        assert database.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
