"""The Python API as a program that embeds the package meets it."""

from __future__ import annotations

import csv
import io
import json
import pickle
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

import allsub_edge
from allsub_edge.classes import CLASSES
from allsub_edge.imaging.render import render_field
from tests import toy_model

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="building a toy model needs the extra `export`")
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    path.write_bytes(toy_model.sealed())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "smear"
    made.mkdir()
    for seed in range(6):
        cv2.imwrite(str(made / f"f{seed}.png"), render_field(seed, "Pre")[..., ::-1])
    (made / "cut.png").write_bytes((made / "f0.png").read_bytes()[:500])
    return made


def test_every_public_name_is_there_and_explained() -> None:
    assert set(allsub_edge.LAZY) <= set(allsub_edge.__all__) <= set(dir(allsub_edge))
    for name in allsub_edge.__all__:
        value = getattr(allsub_edge, name)
        assert value.__doc__, name
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = allsub_edge.no_such_name


def test_public_names_have_types() -> None:
    for function in (
        allsub_edge.load,
        allsub_edge.open_source,
        allsub_edge.Classifier.predict,
        allsub_edge.Classifier.predict_many,
        allsub_edge.Case.add,
        allsub_edge.Case.verdict,
    ):
        assert "return" in function.__annotations__
    assert (ROOT / "allsub_edge" / "py.typed").is_file()
    assert typing.get_type_hints(allsub_edge.Prediction)["status"] is str


def test_importing_costs_nothing_until_a_name_is_used() -> None:
    code = (
        "import sys, allsub_edge; heavy = {'cv2', 'numpy', 'onnxruntime'};"
        "assert not heavy & set(sys.modules);"
        "allsub_edge.Records; allsub_edge.open_source; assert not heavy & set(sys.modules);"
        "allsub_edge.Classifier; assert 'cv2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)


def test_a_folder_becomes_a_case(model: Path, folder: Path) -> None:
    case = allsub_edge.Case("S-17")
    records = []
    with (
        allsub_edge.load(model, threads=1) as classifier,
        allsub_edge.open_source(str(folder)) as source,
    ):
        for prediction in classifier.predict_many(allsub_edge.sourced(source)):
            case.add(prediction)
            records.append(prediction)
    verdict = case.verdict()
    assert (verdict.fields.seen, verdict.fields.error) == (7, 1)
    assert [Path(record.source).name for record in records][:2] == ["cut.png", "f0.png"]
    again = [allsub_edge.Prediction.from_dict(json.loads(record.to_json())) for record in records]
    assert again == records == pickle.loads(pickle.dumps(records))
    assert allsub_edge.CaseVerdict.from_dict(json.loads(verdict.to_json())) == verdict
    assert pickle.loads(pickle.dumps(verdict)) == verdict


def test_predict_many_takes_the_next_field_only_when_asked(model: Path) -> None:
    taken: list[int] = []

    def fields() -> Iterator[object]:
        for seed in range(5):
            taken.append(seed)
            yield render_field(seed)

    with allsub_edge.load(model, threads=1) as classifier:
        answers = classifier.predict_many(fields())
        assert taken == []
        next(answers)
        next(answers)
        assert taken == [0, 1]


def test_rows_are_flat_and_alike_as_a_table_wants_them(model: Path, folder: Path) -> None:
    with allsub_edge.load(model, threads=1) as classifier:
        rows = [p.to_row() for p in classifier.predict_many(sorted(folder.iterdir()))]
    rows.append(rows[0])
    assert len({tuple(row) for row in rows}) == 1, "the same columns in the same order"
    for row in rows:
        assert all(v is None or isinstance(v, str | int | float) for v in row.values())
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    back = list(csv.DictReader(io.StringIO(stream.getvalue())))
    read = [row["error_code"] for row in back]
    assert read == ["truncated", *[""] * 6, "truncated"]
    numbers = [float(row[f"p_{name}"]) for row in back[1:7] for name in CLASSES]
    assert sum(numbers) == pytest.approx(6, abs=1e-4)


def test_rows_make_a_data_frame(model: Path, folder: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="no dependency of this project")
    with allsub_edge.load(model, threads=1) as classifier:
        table = pandas.DataFrame(
            p.to_row() for p in classifier.predict_many(sorted(folder.iterdir()))
        )
    assert len(table) == 7
    assert table["p_Pre"].dtype == float
    assert table["status"].value_counts()["error"] == 1
