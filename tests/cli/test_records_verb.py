from __future__ import annotations

import csv
import io
import json
import resource
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from allsub_edge.classifier import Classifier
from allsub_edge.cli.main import main
from allsub_edge.cli.records import moment
from allsub_edge.engines import open_engine
from allsub_edge.errors import UsageError
from allsub_edge.imaging.render import render_field
from allsub_edge.prediction import ROW_COLUMNS, Prediction
from allsub_edge.records import Records, Seen
from tests import toy_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def answers() -> list[Prediction]:
    model = toy_model.model()
    with Classifier(model, open_engine(model, threads=1)) as classifier:
        fields = [(f"/in/f{seed}.png", render_field(seed, "Pro", 64)) for seed in range(3)]
        return [*classifier.predict_many(fields), *classifier.predict_many([("/in/x", b"bad")])]


@pytest.fixture
def data(tmp_path: Path, answers: list[Prediction]) -> str:
    """Four records on four days, the last one an error; the second in another case."""
    with Records.open(tmp_path / "data") as records:
        for number, answer in enumerate(answers):
            records.add(
                answer,
                case="B/2" if number == 1 else "A",
                field_sha256=f"{number:064x}",
                settings={"engine": "onnxruntime"},
                seen=Seen(answer.source, number, number),
                time=datetime(2026, 11, number + 1, 12, tzinfo=UTC),
            )
    return str(tmp_path / "data")


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["records", *arguments]) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_list_is_a_table(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "list", "--data-dir", data).splitlines()
    assert lines[0].split() == ["id", "time", "(UTC)", "case", "status", "label", "source"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4"]
    assert lines[2].split()[1:4] == ["2026-11-02", "12:00:00", "B/2"]
    assert lines[4].split()[3:] == ["A", "error", "-", "/in/x"]
    ends = {line.index("/in/") for line in lines[1:]} | {lines[0].index("source")}
    assert len(ends) == 1, "aligned"


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--case", "A"], "134"),
        (["--since", "2026-11-03"], "34"),
        (["--before", "2026-11-02T12:00"], "1"),
        (["--before", "2026-11-02T14:00:01+02:00"], "12"),
        (["--since", "2026-11-02", "--before", "2026-11-04", "--case", "A"], "3"),
        (["--status", "error"], "4"),
        (["--case", "nobody"], ""),
    ],
)
def test_filters(
    options: list[str], ids: str, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(capsys, "list", "--data-dir", data, *options).splitlines()
    assert "".join(line.split()[0] for line in lines[1:]) == ids
    lines = said(capsys, "export", "--data-dir", data, *options).splitlines()
    assert "".join(str(json.loads(line)["id"]) for line in lines) == ids


def test_show_is_the_whole_record(
    data: str, answers: list[Prediction], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = json.loads(said(capsys, "show", "2", "--data-dir", data))
    assert shown["schema"] == "allsub-edge/record/1"
    assert Prediction.from_dict(shown["result"]) == answers[1]
    assert (shown["case"], shown["time"]) == ("B/2", "2026-11-02T12:00:00.000Z")
    assert shown["seen"] == [answers[1].source]
    assert "no record 9" in said(capsys, "show", "9", "--data-dir", data, code=2)
    huge = "9" * 23
    assert f"no record {huge}" in said(capsys, "show", huge, "--data-dir", data, code=2)


def test_export_gives_back_what_was_recorded(
    data: str, answers: list[Prediction], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "all.ndjson"
    assert said(capsys, "export", "--data-dir", data, "-o", str(out)) == ""
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [Prediction.from_dict(line["result"]) for line in lines] == answers
    text = said(capsys, "export", "--data-dir", data, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["id", "case", "time", "field_sha256", "settings", *ROW_COLUMNS]
    assert [row["source"] for row in rows] == [answer.source for answer in answers]
    assert rows[0]["p_Pro"] == str(answers[0].probabilities["Pro"])
    assert rows[3]["error_code"] == "not_an_image"


def test_export_writes_whole_files_or_nothing(
    data: str, answers: list[Prediction], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.ndjson"
    out.write_text("before")
    with Records.open(data) as records:
        for number in range(300):
            records.add(
                answers[0],
                case="many",
                field_sha256=str(number),
                settings={},
                seen=Seen("s", number, number),
            )

    def small() -> None:
        # Above what SQLite's shared memory takes, below what 300 records take.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [
            *(sys.executable, "-m", "allsub_edge", "records", "export"),
            *("--data-dir", data, "-o", str(out)),
        ],
        preexec_fn=small, capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"allsub-edge: error: {out}: cannot be written")
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out.ndjson"]
    assert said(capsys, "export", "--data-dir", data, "-o", str(out)) == ""
    assert len(out.read_text().splitlines()) == 304
    assert "is a folder" in said(capsys, "export", "--data-dir", data, "-o", str(tmp_path), code=2)


def test_purge_asks_and_then_does(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "say which" in said(capsys, "purge", "--data-dir", data, code=2)
    assert "say which" in said(capsys, "purge", "--data-dir", data, "--yes", code=2)
    asked = said(capsys, "purge", "--data-dir", data, "--case", "A", code=2)
    assert "3 records would be deleted" in asked
    assert "--yes" in asked
    assert len(said(capsys, "list", "--data-dir", data).splitlines()) == 5
    until = ["--before", "2026-11-03T00:00"]
    assert said(capsys, "purge", "--data-dir", data, *until, "--yes") == "2 deleted\n"
    assert len(said(capsys, "list", "--data-dir", data).splitlines()) == 3
    assert said(capsys, "purge", "--data-dir", data, "--case", "A", "--yes") == "2 deleted\n"


def test_purging_before_a_year_of_three_digits_deletes_nothing(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for early in ("0999-12-31", "0001-01-01"):
        asked = ["purge", "--data-dir", data, "--before", early, "--yes"]
        assert said(capsys, *asked) == "0 deleted\n"
    assert len(said(capsys, "list", "--data-dir", data, "--since", "0999-12-31").splitlines()) == 5


def test_ages_and_moments() -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert moment("90d", now) == now - timedelta(days=90)
    assert moment("12h", now) == now - timedelta(hours=12)
    assert moment("2026-11-24", now) == datetime(2026, 11, 24, tzinfo=UTC)
    assert moment("2026-11-24T01:00:00+01:00", now) == datetime(2026, 11, 24, tzinfo=UTC)
    for wrong in ("yesterday", "", "5", "99999d", "-1d", "2026-13-01"):
        if wrong == "99999d":
            assert moment(wrong, now).year < 1800
            continue
        with pytest.raises(UsageError):
            moment(wrong, now)


def test_nothing_recorded_yet_is_said_and_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no records" in said(capsys, "list", "--data-dir", str(tmp_path / "x"), code=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("action", ["list", "show", "export", "purge"])
def test_each_action_explains_itself(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["records", action, "--help"]) == 0
    assert "--data-dir" in capsys.readouterr().out
