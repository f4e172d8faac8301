"""The archive pipeline on Beam's in-process runner; run with ``sh examples/beam/run.sh test``."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("apache_beam", reason="needs Beam: sh examples/beam/run.sh test")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "beam"))

import pyarrow.parquet as pq
import score
import shards
import steps

from allsub_edge import models
from allsub_edge.classifier import Classifier
from allsub_edge.errors import ModelFileError
from allsub_edge.imaging.render import render_field
from allsub_edge.prediction import ROW_COLUMNS, Prediction
from tests import toy_model

VECTORS = ROOT / "tests" / "vectors"
FIELDS, REFUSED = 12, 2
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    path.write_bytes(toy_model.complete())
    return path


@pytest.fixture(params=["toy", "shipped"])
def model(request: pytest.FixtureRequest, toy: Path) -> Path:
    if request.param == "toy":
        return toy
    try:
        return models.default_path()
    except ModelFileError as error:
        pytest.skip(error.message)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The vectors as an archive with subfolders, and things that are no fields."""
    folder = tmp_path / "archive"
    shutil.copytree(VECTORS, folder)
    (folder / "notes.txt").write_text("no field")
    (folder / ".hidden").mkdir()
    shutil.copy(VECTORS / "fields" / "pro-224x224.png", folder / ".hidden" / "thumb.png")
    return folder


def run(model: Path, output: Path, *options: str) -> int:
    return score.main(["--model", str(model), "--output", str(output), *options])


def records(output: Path, prefix: str = "*") -> list[dict[str, Any]]:
    found = []
    for path in sorted(output.glob(f"{prefix}-*.jsonl")):
        found += [json.loads(line) for line in path.read_text("ascii").splitlines()]
    return found


def test_the_pipeline_answers_as_the_package_does(
    model: Path, archive: Path, tmp_path: Path
) -> None:
    assert run(model, tmp_path / "out", "--fields", str(archive), "--batch-size", "4") == 1
    got = {record["source"]: record for record in records(tmp_path / "out")}
    assert len(got) == FIELDS + REFUSED
    assert not any(path.name.startswith(".") for path in (tmp_path / "out").iterdir())
    with Classifier.load(model, threads=1) as classifier:
        for name, record in got.items():
            assert Prediction.from_dict(record).source == name
            wanted = next(classifier.predict_many([archive / name])).to_dict()
            assert record["model"] == wanted["model"]
            same = ("status", "label", "top", "prediction_set", "reasons")
            assert {k: record[k] for k in same} == {k: wanted[k] for k in same}
            assert record["probabilities"] == pytest.approx(wanted["probabilities"], abs=TOLERANCE)
            if wanted["error"]:
                assert record["error"] == wanted["error"]
            else:
                assert record["quality"]["focus"] == wanted["quality"]["focus"]
                assert record["quality"]["cell_fraction"] == wanted["quality"]["cell_fraction"]


def test_a_second_run_does_only_what_is_new(toy: Path, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(toy, out, "--fields", str(archive))
    first = records(out)
    before = sorted(out.iterdir())
    assert run(toy, out, "--fields", str(archive)) == 0
    assert sorted(out.iterdir()) == before
    changed = archive / "fields" / "pre-224x224.png"
    shutil.copy(archive / "fields" / "early-160x120.png", changed)
    shutil.copy(changed, archive / "added.png")
    run(toy, out, "--fields", str(archive))
    added = [record for record in records(out) if record not in first]
    assert sorted(record["source"] for record in added) == ["added.png", "fields/pre-224x224.png"]


def test_another_model_answers_again(toy: Path, archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(toy_model.sealed(toy_model.manifest_dict(version="0.2")))
    for model in (toy, other, other):
        run(model, tmp_path / "out", "--fields", str(archive))
    versions = [record["model"]["version"] for record in records(tmp_path / "out")]
    assert {v: versions.count(v) for v in versions} == {
        "0.1": FIELDS + REFUSED,
        "0.2": FIELDS + REFUSED,
    }


def test_an_interrupted_run_is_taken_up(
    toy: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls, squash = tmp_path / "out", [], steps.squash

    def failing(rgb: Any) -> Any:
        calls.append(rgb.shape)
        if len(calls) == 8:
            raise RuntimeError("the power went")
        return squash(rgb)

    options = ("--fields", str(archive), "--shard-size", "2", "--batch-size", "1")
    with monkeypatch.context() as patch:
        patch.setattr(steps, "squash", failing)
        with pytest.raises(RuntimeError, match="the power went"):
            run(toy, out, *options)
    survived = records(out)
    assert 2 <= len(survived) < FIELDS
    run(toy, out, *options)
    assert len(records(out)) == FIELDS + REFUSED
    assert len({shards.identity(record) for record in records(out)}) == FIELDS + REFUSED
    assert all(record in records(out) for record in survived)


def test_parquet_holds_the_same(toy: Path, archive: Path, tmp_path: Path) -> None:
    plain, columns = tmp_path / "plain", tmp_path / "columns"
    run(toy, plain, "--fields", str(archive))
    parquet = ("--fields", str(archive), "--format", "parquet", "--shard-size", "4")
    assert run(toy, columns, *parquet) == 1
    rows = []
    for path in sorted(columns.glob("*.parquet")):
        rows += pq.read_table(path).to_pylist()
    assert len(list(columns.glob("*.parquet"))) > 2
    timed = {"decode_ms", "prepare_ms", "infer_ms"}
    for record in records(plain):
        row = next(r for r in rows if r["source"] == record["source"])
        wanted = Prediction.from_dict(record).to_row()
        for name in set(ROW_COLUMNS) - timed - {n for n in ROW_COLUMNS if n.startswith("p_")}:
            close = pytest.approx(wanted[name]) if isinstance(wanted[name], float) else wanted[name]
            assert row[name] == close
        assert row["content_sha256"] == record["content_sha256"]
        if record["error"] is None:
            assert row["p_Pre"] == pytest.approx(record["probabilities"]["Pre"], abs=TOLERANCE)
    assert run(toy, columns, *parquet) == 0
    assert len(rows) == FIELDS + REFUSED


def test_a_manifest_gives_cases_and_missing_files_are_tried_again(
    toy: Path, archive: Path, tmp_path: Path
) -> None:
    table = archive / "list.csv"
    table.write_text(
        "path,case\nfields/pro-224x224.png,P1\nlate.png,P2\nfields/early-224x224.png,\n"
    )
    out, options = tmp_path / "out", ("--manifest", str(table))
    assert run(toy, out, *options) == 1
    assert run(toy, out, *options) == 1
    (missing,) = records(out, "unread")
    assert missing["source"] == "late.png" and missing["case"] == "P2"
    assert missing["error"]["code"] == "missing"
    shutil.copy(archive / "fields" / "pre-224x224.png", archive / "late.png")
    assert run(toy, out, *options) == 0
    assert records(out, "unread") == []
    cases = {record["source"]: record["case"] for record in records(out)}
    assert cases == {
        "fields/pro-224x224.png": "P1",
        "late.png": "P2",
        "fields/early-224x224.png": None,
    }


def test_a_manifest_that_gives_a_field_two_cases_is_refused(
    toy: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = archive / "twice.csv"
    table.write_text("path,case\nfields/pro-224x224.png,P1\nfields/pro-224x224.png,P2\n")
    assert run(toy, tmp_path / "out", "--manifest", str(table)) == 2
    assert "gives fields/pro-224x224.png two cases" in capsys.readouterr().err


def test_many_fields_fill_shards(toy: Path, tmp_path: Path) -> None:
    import cv2

    (tmp_path / "in").mkdir()
    for seed in range(23):
        field = render_field(seed, "Early", 64)
        cv2.imwrite(str(tmp_path / "in" / f"{seed}.png"), field[..., ::-1])
    options = ("--fields", str(tmp_path / "in"), "--shard-size", "5")
    assert run(toy, tmp_path / "out", *options) == 0
    sizes = [len(p.read_text().splitlines()) for p in (tmp_path / "out").glob("fields-*.jsonl")]
    assert sum(sizes) == 23 and max(sizes) == 5


def test_set_up_errors_are_said(toy: Path, archive: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(toy.read_bytes().replace(b'"version": "0.1"', b'"version": "9.9"'))
    with pytest.raises(ModelFileError, match="damaged"):
        run(broken, tmp_path / "out", "--fields", str(archive))
    table = tmp_path / "list.csv"
    table.write_text("file\na.png\n")
    with pytest.raises(score.DataError, match="column path"):
        run(toy, tmp_path / "out", "--manifest", str(table))
    (tmp_path / "nothing").mkdir()
    assert run(toy, tmp_path / "out", "--fields", str(tmp_path / "nothing")) == 1
