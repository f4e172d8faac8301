from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import allsub_edge
from allsub_edge import engines
from allsub_edge.cli.main import main
from allsub_edge.engines import litert
from allsub_edge.errors import ModelFileError, UsageError
from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.render import render_field
from allsub_edge.model_file.container import ModelBytes, embed_manifest, parse
from allsub_edge.model_file.manifest import Manifest
from tests import toy_model, toy_tflite

if not engines.installed("litert"):
    pytest.skip("no LiteRT package is installed", allow_module_level=True)


@pytest.fixture(scope="module")
def model() -> ModelBytes:
    return toy_tflite.model()


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


def test_the_mask_is_the_graph_s_own_arithmetic(model: ModelBytes) -> None:
    fields = random_fields(2)
    mask = engines.open_engine(model, threads=1).run(fields).mask
    np.testing.assert_array_equal(mask, fields[..., 1] < 150)


def test_a_batch_answers_as_its_fields_do_alone(model: ModelBytes) -> None:
    engine = engines.open_engine(model, threads=1)
    fields = np.stack([render_field(seed, "Pro", 224) for seed in (1, 2, 3)])
    together = engine.run(fields)
    for i in range(3):
        alone = engine.run(fields[i : i + 1])
        np.testing.assert_array_equal(alone.probabilities[0], together.probabilities[i])
        np.testing.assert_array_equal(alone.mask[0], together.mask[i])
    assert np.ptp(together.domain_distance) > 0
    assert np.ptp(together.probabilities, axis=0).max() > 0


def test_a_field_that_is_not_contiguous_is_run_as_it_is_seen(model: ModelBytes) -> None:
    engine = engines.open_engine(model, threads=1)
    flipped = random_fields(1)[:, ::-1]
    np.testing.assert_array_equal(engine.run(flipped).mask, engine.run(flipped.copy()).mask)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_the_answer(model: ModelBytes, threads: int) -> None:
    engine = engines.open_engine(model, threads=threads)
    assert engine.threads == threads
    expected = engines.open_engine(model, threads=1).run(random_fields(1)).probabilities
    np.testing.assert_allclose(engine.run(random_fields(1)).probabilities, expected, atol=1e-6)


def test_the_engine_says_which_package_runs(model: ModelBytes) -> None:
    engine = engines.open_engine(model, threads=1)
    assert engine.name == "litert"
    first = next(i for i in litert.LIBRARIES if find_spec(i.module.partition(".")[0]))
    assert any(f"({name})" in engine.version for name in first.distributions)
    assert engine.version[0].isdigit()


def test_the_next_package_steps_in_for_a_missing_or_broken_one(
    model: ModelBytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorflow")
    expected = engines.open_engine(model, threads=1).run(random_fields(1))
    last = litert.LIBRARIES[-1]
    missing = litert.Library("no_such_package.interpreter", ("no-such-package",))
    monkeypatch.setattr(litert, "LIBRARIES", (missing, last))
    engine = engines.open_engine(model, threads=1)
    assert "tensorflow" in engine.version
    again = engine.run(random_fields(1))
    np.testing.assert_array_equal(again.mask, expected.mask)
    np.testing.assert_allclose(again.probabilities, expected.probabilities, atol=1e-6)
    monkeypatch.setattr(litert, "LIBRARIES", (missing,))
    with pytest.raises(UsageError, match="no-such-package") as caught:
        engines.open_engine(model, threads=1)
    assert caught.value.code == "engine_missing"


@pytest.mark.parametrize(
    "fields",
    [
        np.zeros((1, 224, 224, 3), np.float32),
        np.zeros((224, 224, 3), np.uint8),
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
        ({"size": 112}, "field"),
    ],
)
def test_a_wrong_signature_is_refused(spoilt: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        engines.open_engine(toy_tflite.model(**spoilt), threads=1)
    assert caught.value.code == "wrong_signature"
    assert told in caught.value.message
    assert "toy.tflite" in caught.value.message


def test_a_graph_the_engine_cannot_open_gives_one_line() -> None:
    bare = b"\x0c\0\0\0TFL3\x04\0\x04\0\x04\0\0\0" + bytes(64)
    data = embed_manifest(bare, Manifest.from_dict(toy_model.manifest_dict()))
    with pytest.raises(ModelFileError) as caught:
        engines.open_engine(parse(data, source="empty.tflite"), threads=1)
    assert caught.value.code == "engine_refused"
    assert "\n" not in caught.value.message
    assert "empty.tflite" in caught.value.message


def test_each_format_has_its_engine(model: ModelBytes) -> None:
    assert engines.engines_for("tflite") == ["litert"]
    with pytest.raises(UsageError) as caught:
        engines.open_engine(model, engine="onnxruntime")
    assert caught.value.code == "wrong_engine"


def test_a_missing_engine_gives_the_pip_line(
    model: ModelBytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"allsub-edge\[litert\]"):
        engines.open_engine(model)


def test_the_same_verbs_run_both_formats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "toy.tflite"
    path.write_bytes(toy_tflite.complete())
    field = tmp_path / "field.png"
    field.write_bytes(encode_png(render_field(4, "Early")))
    assert main(["check", str(path)]) == 0
    told = capsys.readouterr().out
    assert "litert" in told and "FAIL" not in told and "4 of 4" in told
    assert main(["info", str(path)]) == 0
    assert "tflite" in capsys.readouterr().out
    arguments = ["infer", str(field), "--model", str(path), "--format", "ndjson", "--threads", "1"]
    assert main(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["model"]["engine"].startswith("litert ")
    with allsub_edge.load(path, threads=1) as classifier:
        answer = classifier.predict(field)
    assert answer.probabilities == pytest.approx(record["probabilities"], abs=1e-6)


def test_check_fails_where_an_answer_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = parse(toy_tflite.complete()).manifest.to_dict()
    case = manifest["golden"]["cases"][0]
    case["probabilities"] = case["probabilities"][::-1]
    path = tmp_path / "changed.tflite"
    path.write_bytes(toy_tflite.sealed(manifest))
    assert main(["check", str(path)]) == 1
    assert "FAIL" in capsys.readouterr().out
