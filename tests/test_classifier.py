from __future__ import annotations

import gc
import json
import pickle
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import allsub_edge
from allsub_edge import models
from allsub_edge.classes import CLASSES
from allsub_edge.classifier import Classifier
from allsub_edge.engines.onnx_runtime import OnnxRuntimeEngine
from allsub_edge.errors import FieldError, ModelFileError, UsageError
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import squash
from allsub_edge.prediction import ROW_COLUMNS, Prediction
from tests import toy_model


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    path.write_bytes(toy_model.complete())
    return path


@pytest.fixture(scope="module")
def classifier(model_path: Path) -> Iterator[Classifier]:
    with allsub_edge.load(model_path, threads=1) as opened:
        yield opened


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "field.png"
    cv2.imwrite(str(path), render_field(8, "Pre", 300)[..., ::-1])
    return path


def test_the_answer_is_the_engine_s_on_the_squashed_rgb_field(classifier: Classifier) -> None:
    field = render_field(8, "Pre", 300)
    raw = OnnxRuntimeEngine(toy_model.model(), threads=1).run(squash(field)[None])
    record = classifier.predict(field)
    assert list(record.probabilities) == list(CLASSES)
    np.testing.assert_allclose(list(record.probabilities.values()), raw[0][0], atol=1e-6)
    assert record.quality is not None
    assert record.quality.cell_fraction == pytest.approx(raw.mask.mean(), abs=1e-6)
    assert record.quality.domain_distance == pytest.approx(float(raw[1][0]), abs=1e-6)
    assert record.top == CLASSES[int(raw[0][0].argmax())]


def test_path_bytes_and_array_give_the_same_answer(classifier: Classifier, png: Path) -> None:
    records = [
        classifier.predict(png),
        classifier.predict(str(png)),
        classifier.predict(png.read_bytes()),
        classifier.predict(render_field(8, "Pre", 300)),
    ]
    assert [r.source for r in records] == [str(png), str(png), "<bytes>", "<array>"]
    for record in records:
        assert record.probabilities == records[0].probabilities
        assert record.quality == records[0].quality
        assert tuple(record.timing_ms) == ("decode", "prepare", "infer")
        assert all(value >= 0 for value in record.timing_ms.values())
    # Red and blue exchanged is another field.
    swapped = classifier.predict(np.ascontiguousarray(render_field(8, "Pre", 300)[..., ::-1]))
    assert swapped.probabilities != records[0].probabilities


def test_more_threads_say_the_same(classifier: Classifier, model_path: Path) -> None:
    # With two, part of the quality is measured while the network runs.
    fields = [render_field(seed, label) for seed, label in enumerate(CLASSES)]
    with allsub_edge.load(model_path, threads=2) as opened:
        for field in fields:
            one, two = classifier.predict(field), opened.predict(field)
            assert one.quality == two.quality
            assert one.probabilities == two.probabilities
            assert two.status == one.status


def test_an_engine_that_fails_leaves_nothing_for_the_next_field(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = render_field(1, "Pre"), render_field(2, "Pro")
    with allsub_edge.load(model_path, threads=2) as opened:
        wanted = opened.predict(second).quality
        with monkeypatch.context() as patch:
            patch.setattr(opened.engine, "run", lambda fields: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                opened.predict(first)
        assert opened.predict(second).quality == wanted


def test_the_record_says_which_model_answered(classifier: Classifier, model_path: Path) -> None:
    import hashlib

    import onnxruntime

    info = classifier.predict(render_field(1)).model
    assert info.sha256 == hashlib.sha256(model_path.read_bytes()).hexdigest()
    assert (info.name, info.version, info.threads) == ("toy", "0.1", 1)
    assert info.engine == f"onnxruntime {onnxruntime.__version__}"


@pytest.mark.parametrize(
    "field",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
        b"",
        b"not an image",
        "no/such/field.png",
        42,
    ],
)
def test_bad_input_raises_field_error(classifier: Classifier, field: object) -> None:
    with pytest.raises(FieldError):
        classifier.predict(field, source="the input")  # type: ignore[arg-type]


def test_many_fields_go_past_the_bad_ones(classifier: Classifier, png: Path) -> None:
    problem = FieldError("no_fields", "folder: holds no images")
    records = list(
        classifier.predict_many([png, b"junk", ("named", render_field(2)), ("folder", problem)])
    )
    assert [r.source for r in records] == [str(png), "<bytes>", "named", "folder"]
    assert [r.status == "error" for r in records] == [False, True, False, True]
    assert records[1].error is not None
    assert records[3].error is not None
    assert (records[3].error.code, records[3].error.message) == ("no_fields", problem.message)
    assert records[3].model == records[0].model


def test_memory_that_runs_out_is_told_of_its_field(
    classifier: Classifier, png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*arguments: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("allsub_edge.classifier.squash", exhausted)
        (record,) = classifier.predict_many([png])
    assert record.error is not None and record.error.code == "no_memory"
    assert classifier.predict(png).error is None


def test_a_view_is_what_the_model_saw(classifier: Classifier) -> None:
    field = render_field(8, "Pre", 300)
    (record, view), (failed, nothing) = classifier.view_many([("a", field), ("b", b"junk")])
    assert view is not None
    np.testing.assert_array_equal(view.rgb, squash(field))
    assert (view.mask.shape, view.mask.dtype) == ((224, 224), np.uint8)
    assert record.quality is not None
    assert record.quality.cell_fraction == pytest.approx(view.mask.mean(), abs=1e-6)
    assert (failed.status, nothing) == ("error", None)


def test_real_records_can_be_pickled_and_rebuilt(classifier: Classifier) -> None:
    records = list(classifier.predict_many([render_field(8, "Pre"), b"junk"]))
    assert pickle.loads(pickle.dumps(records)) == records
    assert [Prediction.from_dict(json.loads(r.to_json())) for r in records] == records
    assert all(tuple(r.to_row()) == ROW_COLUMNS for r in records)


def test_one_field_is_let_go_before_the_next_is_made(classifier: Classifier) -> None:
    before: list[weakref.ref[np.ndarray]] = []  # type: ignore[type-arg]

    def fields() -> Iterator[np.ndarray]:  # type: ignore[type-arg]
        for seed in range(3):
            assert not before or before[-1]() is None
            field = render_field(seed, size=300)
            before.append(weakref.ref(field))
            yield field
            del field

    assert len(list(classifier.predict_many(fields()))) == 3


def test_many_fields_are_read_lazily(classifier: Classifier) -> None:
    taken = []

    def fields() -> Iterator[np.ndarray]:  # type: ignore[type-arg]
        for seed in range(1000):
            taken.append(seed)
            yield render_field(seed, size=64)

    records = classifier.predict_many(fields())
    assert taken == []
    next(records)
    next(records)
    assert taken == [0, 1]


def test_memory_does_not_grow_with_the_number_of_fields(classifier: Classifier) -> None:
    field = render_field(1)
    for _ in classifier.predict_many([field] * 5):
        pass
    tracemalloc.start()
    try:
        for _ in classifier.predict_many(field.copy() for _ in range(10)):
            pass
        gc.collect()
        few = tracemalloc.get_traced_memory()[0]
        for _ in classifier.predict_many(field.copy() for _ in range(100)):
            pass
        gc.collect()
        many = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # A hundred fields are 15 MB; not even one of them may stay behind.
    assert many - few < field.nbytes


def test_thresholds_of_the_manifest_decide(tmp_path: Path) -> None:
    field = render_field(8, "Pre")

    def status(**changes: object) -> tuple[str, list[str]]:
        raw = toy_model.manifest_dict()
        raw["calibration"] |= changes
        path = tmp_path / "changed.onnx"
        path.write_bytes(toy_model.sealed(raw))
        with allsub_edge.load(path, threads=1) as changed:
            record = changed.predict(field)
        return record.status, record.reasons

    assert status(conformal=None) == ("ok", [])
    assert status(conformal=dict.fromkeys(CLASSES, 1.0)) == ("uncertain", [])
    assert status(domain_threshold=0.0) == ("unfit", ["out_of_domain"])
    assert status(quality={"min_cell_fraction": 1.0}) == ("unfit", ["too_few_cells"])
    assert status(quality={"min_focus": 1e9}) == ("unfit", ["out_of_focus"])


def test_a_model_that_answers_no_number_is_an_error_record(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(toy_model.sealed(broken=True))
    with allsub_edge.load(path, threads=1) as broken:
        with pytest.raises(ModelFileError) as caught:
            broken.predict(render_field(1))
        assert caught.value.code == "bad_output"
        assert [r.status for r in broken.predict_many([render_field(1)])] == ["error"]


def test_load_refuses_clearly(tmp_path: Path, model_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        allsub_edge.load(tmp_path / "none.onnx")
    assert caught.value.code == "missing"
    with pytest.raises(UsageError):
        allsub_edge.load(model_path, threads=0)
    with pytest.raises(UsageError):
        allsub_edge.load(model_path, engine="abacus")


def test_the_engine_gets_the_bytes_that_were_verified(model_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "swapped.onnx"
    path.write_bytes(toy_model.complete())
    with allsub_edge.load(path, threads=1) as opened:
        path.write_bytes(b"something else")
        expected = opened.predict(render_field(1)).probabilities
    with allsub_edge.load(model_path, threads=1) as again:
        assert again.predict(render_field(1)).probabilities == expected


def test_the_shipped_model_is_the_int8_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        models.default_path(tmp_path)
    assert caught.value.code == "no_default_model"
    for name in ("net-0.1-float32.onnx", "net-0.1-int8.onnx", "net-0.2-int8.onnx", "int8.md"):
        (tmp_path / name).touch()
    assert models.default_path(tmp_path).name == "net-0.2-int8.onnx"
