from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allsub_edge import engines
from allsub_edge.engines.base import default_threads, usable_cores
from allsub_edge.engines.onnx_runtime import waiting
from allsub_edge.errors import ModelFileError, UsageError
from allsub_edge.model_file.container import ModelBytes
from tests import toy_model


@pytest.fixture(scope="module")
def model() -> ModelBytes:
    return toy_model.model()


def random_fields(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(5).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)


def test_outputs_have_the_documented_shapes_and_types(model: ModelBytes) -> None:
    out = engines.open_engine(model, threads=1).run(random_fields(3))
    assert [(a.dtype.name, a.shape) for a in out] == [
        ("float32", (3, 4)),
        ("float32", (3,)),
        ("uint8", (3, 224, 224)),
    ]
    np.testing.assert_allclose(out.probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("threads", [0, -1, 257, 10**12, 2.5, "2", True])
def test_threads_out_of_range_are_named(model: ModelBytes, threads: Any) -> None:
    with pytest.raises(UsageError, match="a whole number from 1 to 256"):
        engines.open_engine(model, threads=threads)


def test_the_mask_is_the_graph_s_own_arithmetic(model: ModelBytes) -> None:
    fields = random_fields(2)
    mask = engines.open_engine(model, threads=1).run(fields).mask
    np.testing.assert_array_equal(mask, fields[..., 1] < 150)


def test_a_batch_answers_as_its_fields_do_alone(model: ModelBytes) -> None:
    engine = engines.open_engine(model, threads=1)
    fields = random_fields(3)
    together = engine.run(fields)
    for i in range(3):
        alone = engine.run(fields[i : i + 1])
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[i], atol=1e-6)
        np.testing.assert_array_equal(alone.mask[0], together.mask[i])
    assert np.ptp(together.domain_distance) > 0


def test_a_field_that_is_not_contiguous_is_run_as_it_is_seen(model: ModelBytes) -> None:
    engine = engines.open_engine(model, threads=1)
    flipped = random_fields(1)[:, ::-1]
    np.testing.assert_array_equal(
        engine.run(flipped).probabilities, engine.run(flipped.copy()).probabilities
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("spin", [False, True])
def test_threads_and_spinning_do_not_change_the_answer(
    model: ModelBytes, threads: int, spin: bool
) -> None:
    engine = engines.open_engine(model, threads=threads, spin=spin)
    assert engine.threads == threads
    expected = engines.open_engine(model, threads=1).run(random_fields(1)).probabilities
    np.testing.assert_allclose(engine.run(random_fields(1)).probabilities, expected, atol=1e-6)


def test_threads_never_spin_without_a_limit_unless_asked_to() -> None:
    allowed, ends = "session.intra_op.allow_spinning", "session.force_spinning_stop"
    for version in ("1.20.0", "1.25.1", "unheard of"):
        assert waiting(version, spin=False) == {allowed: "0"}
    for version in ("1.26.0", "1.32.0", "2.0.0+cpu"):
        limited = waiting(version, spin=False)
        assert limited[allowed] == limited[ends] == "1"
        assert 0 < int(limited["session.intra_op.spin_duration_us"]) <= 1000
    assert waiting("1.32.0", spin=True) == {allowed: "1"}


def test_threads_default_to_the_usable_cores_at_most_four(model: ModelBytes) -> None:
    assert engines.open_engine(model).threads == default_threads()
    assert 1 <= default_threads() <= min(4, os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")
def test_usable_cores_count_siblings_once_and_respect_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for processor, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        (tmp_path / f"cpu{processor}").write_text(siblings + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert usable_cores(str(tmp_path / "cpu{}")) == 2
    assert usable_cores(str(tmp_path / "absent{}")) == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    assert usable_cores(str(tmp_path / "cpu{}")) == 1


@pytest.mark.parametrize(
    "fields",
    [
        np.zeros((1, 224, 224, 3), np.float32),
        np.zeros((224, 224, 3), np.uint8),
        np.zeros((1, 224, 225, 3), np.uint8),
        np.zeros((0, 224, 224, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(model: ModelBytes, fields: Any) -> None:
    with pytest.raises(ValueError):
        engines.open_engine(model, threads=1).run(fields)


def test_a_closed_engine_says_so(model: ModelBytes) -> None:
    engine = engines.open_engine(model, threads=1)
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError):
        engine.run(random_fields(1))


@pytest.mark.parametrize(
    ("spoilt", "told"),
    [
        ({"input_name": "image"}, "inputs"),
        ({"classes": 3}, "probabilities"),
        ({"drop_mask": True}, "mask"),
        ({"batch": 1}, "batch"),
    ],
)
def test_a_wrong_signature_is_refused(spoilt: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        engines.open_engine(toy_model.model(**spoilt), threads=1)
    assert caught.value.code == "wrong_signature"
    assert told in caught.value.message
    assert "toy.onnx" in caught.value.message


def test_a_graph_the_engine_cannot_open_gives_one_line() -> None:
    onnx = pytest.importorskip("onnx")
    proto = onnx.load_model_from_string(toy_model.sealed())
    proto.opset_import[0].version = 9999
    from allsub_edge.model_file.container import parse, seal

    with pytest.raises(ModelFileError) as caught:
        engines.open_engine(parse(seal(proto.SerializeToString())), threads=1)
    assert caught.value.code == "engine_refused"
    assert "\n" not in caught.value.message
    assert "upgrade" in caught.value.message


def test_unknown_engine_and_bad_threads_are_usage_errors(model: ModelBytes) -> None:
    with pytest.raises(UsageError, match="onnxruntime"):
        engines.open_engine(model, engine="abacus")
    with pytest.raises(UsageError, match="from 1 to 256, not 0"):
        engines.open_engine(model, threads=0)


def test_a_missing_engine_gives_the_pip_line(
    model: ModelBytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="pip install onnxruntime"):
        engines.open_engine(model)
