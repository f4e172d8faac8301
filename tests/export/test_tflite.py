"""TFLite files of a small field model with the true signature, held against Keras."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the export extra is not installed")
pytest.importorskip("ai_edge_litert", reason="the export extra is not installed")

from allsub_edge.classes import CLASSES
from allsub_edge.engines import open_engine
from allsub_edge.errors import ModelFileError, UsageError
from allsub_edge.export import tflite_float, tflite_graph, tflite_int8, tflite_metadata
from allsub_edge.export.formats import FORMATS
from allsub_edge.export.graph import field_model
from allsub_edge.export.makers import OnnxMaker
from allsub_edge.export.onnx_int8 import Quantisation
from allsub_edge.export.parity import Answer, compare
from allsub_edge.export.tflite import PRECISIONS, tflite_files
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.white_balance import balance
from allsub_edge.model_file.container import embed_manifest, parse, read
from allsub_edge.model_file.golden import make_golden
from allsub_edge.model_file.manifest import Manifest
from allsub_edge.training import backbones
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.network import build_network
from tests.toy_model import manifest_dict
from tests.training.toy import TOY, toy_fields


def small_extractor(size: int, cut: str, name: str) -> Any:
    """The kinds of operators of EfficientNet-Lite: stem, depthwise, projection, sum."""
    import keras

    layers = keras.layers
    inputs = keras.Input((size, size, 3), name=f"{name}_input")
    x = layers.Conv2D(8, 3, strides=4, padding="same", use_bias=False, name=f"{name}.stem")(inputs)
    x = layers.BatchNormalization(name=f"{name}.norm0")(x)
    x = layers.ReLU(6.0, name=f"{name}.relu0")(x)
    shortcut = x
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}.depthwise")(x)
    x = layers.BatchNormalization(name=f"{name}.norm1")(x)
    x = layers.ReLU(6.0, name=f"{name}.relu1")(x)
    x = layers.Conv2D(8, 1, use_bias=False, name=f"{name}.project")(x)
    x = layers.Add(name=f"{name}.add")([x, shortcut])
    x = layers.Conv2D(16, 3, strides=4, padding="same", name=f"{name}.last")(x)
    return keras.Model(inputs, x, name=name)


@dataclass(frozen=True)
class Made:
    model: Any
    fields: np.ndarray
    keras: Answer
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def made() -> Made:
    import keras

    keras.utils.set_random_seed(4)
    config = TrainConfig(backbone="small", dense=8, dropout=0.0)
    with pytest.MonkeyPatch.context() as patch:
        backbone = replace(TOY, name="small", build=small_extractor)
        patch.setitem(backbones.BACKBONES, "small", backbone)
        network = build_network(config)
    fields, _, _ = toy_fields(each=3, size=224)
    # Live statistics and a scaled last layer: fresh ones answer 0.25 to whatever comes in.
    _, features = (np.asarray(x) for x in network.core(list(network.channels(fields))))
    norm, last = network.core.get_layer("features_norm"), network.core.get_layer("logits")
    gamma, beta, _, _ = norm.get_weights()
    norm.set_weights([gamma, beta, features.mean(0), features.var(0) + 1e-6])
    last.set_weights([2 * last.get_weights()[0], last.get_weights()[1]])
    centre = features.mean(0)
    # A direction is not stretched beyond what its feature measures, or rounding would rule it.
    spread = features.std(0) + 0.1 * np.abs(features).mean(0)
    whiten = (np.eye(features.shape[1], 6) / spread[:, None]).astype(np.float32)
    # Beside the classes, so that every distance is well above nought: errors are relative.
    means = ((features - centre) @ whiten).reshape(4, 3, 6).mean(1) + np.float32(0.5)
    model = field_model(network, 1.5, {"centre": centre, "whiten": whiten, "means": means})
    answer = model.predict_on_batch(fields)
    return Made(
        model,
        fields,
        (answer["probabilities"], answer["domain_distance"], answer["mask"]),
        tflite_files(model, fields),
    )


def sealed(made: Made, precision: str) -> bytes:
    raw = manifest_dict(precision=precision)
    bare = embed_manifest(made.files[precision], Manifest.from_dict(raw))
    engine = open_engine(parse(bare), threads=1)
    golden = make_golden(engine.run, 0.02, seeds=(3,))
    return embed_manifest(bare, replace(Manifest.from_dict(raw), golden=golden))


def answers(made: Made, precision: str) -> Answer:
    return tuple(open_engine(parse(sealed(made, precision)), threads=1).run(made.fields))


def test_the_toy_is_alive(made: Made) -> None:
    assert np.ptp(made.keras[0], axis=0).max() > 0.2
    assert np.ptp(made.keras[1]) > 0.1
    assert 0.01 < made.keras[2].mean() < 0.99


# Seen on this model: 3e-6 and 3e-6, 0.0035 and 0.0048, 0.062 and 0.027.
@pytest.mark.parametrize(
    ("precision", "probability", "distance"),
    [
        *(("float32", 1e-4, 1e-4), ("float16", 0.012, 0.015), ("int8", 0.2, 0.1)),
        *(("dynamic-int8", 0.2, 0.1), ("int16x8", 0.2, 0.1), ("int8-per-tensor", 0.2, 0.4)),
    ],
)
def test_the_file_is_the_model(
    made: Made, precision: str, probability: float, distance: float
) -> None:
    parity = compare(made.keras, answers(made, precision))
    assert parity.masks_equal
    assert parity.largest_probability_difference <= probability
    assert parity.largest_distance_difference <= distance


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_mask_is_the_recipe_of_numpy_on_every_pixel(made: Made, precision: str) -> None:
    recipe = get_recipe("cells")
    # Noise has colours and edges that no rendered field has.
    noise = np.random.default_rng(2).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    fields = np.concatenate([made.fields[::3], noise, np.zeros_like(noise[:1])])
    engine = open_engine(parse(sealed(made, precision)), threads=1)
    np.testing.assert_array_equal(engine.run(fields).mask, np.stack([*map(recipe.mask, fields)]))
    assert np.ptp(balance(fields[0])) > 0


def test_int8_is_really_int8_and_only_in_the_extractor(made: Made) -> None:
    names = tflite_int8.extractor_names(made.model)
    assert tflite_int8.integer_share(made.files["int8"]) == 1.0
    assert tflite_int8.integers_outside(made.files["int8"], names) == []
    model = tflite_graph.unpack(made.files["int8"])
    kinds = tflite_graph.kinds(model)
    assert kinds.count("QUANTIZE") == kinds.count("DEQUANTIZE") == 1
    assert kinds.count("CONV_2D") == 3 and kinds.count("DEPTHWISE_CONV_2D") == 1
    for precision in ("float32", "float16"):
        assert tflite_int8.integer_share(made.files[precision]) == 0.0


def test_the_check_sees_integers_outside_the_extractor(made: Made) -> None:
    assert tflite_int8.integers_outside(made.files["int8"], ["another"]) != []


def test_a_layer_can_be_kept_in_float(made: Made, tmp_path: Path) -> None:
    tflite_float.save_graph(made.model, tmp_path)
    calibrated = tflite_int8.calibrate(tmp_path, [{"field": f[None]} for f in made.fields])
    names = tflite_int8.extractor_names(made.model)
    small = tflite_int8.quantise_extractor(calibrated, names, keep_float=[".last"])
    assert tflite_int8.integer_share(small) == 0.75


def test_a_layer_between_integer_ones_stays_in_float_in_onnx(made: Made, tmp_path: Path) -> None:
    """ONNX Runtime would quantise its weights on load, with one scale, if nothing kept it."""
    pytest.importorskip("tf2onnx", reason="the export extra is not installed")
    feeds = [{"field": field[None]} for field in made.fields]
    maker = OnnxMaker(made.model, feeds, Quantisation(), tmp_path, lambda line: None)
    [middle] = [name for name in maker.layers() if "depthwise" in name]
    assert maker.make(FORMATS["onnx-int8"]).share == 1.0
    kept = maker.make(FORMATS["onnx-int8"], [middle])
    assert kept.share == 0.75
    assert {layer.name for layer in maker.errors(kept)} == set(maker.layers())


def test_float16_halves_the_weights_of_convolutions_alone(made: Made) -> None:
    again, count = tflite_float.half_weights(made.files["float32"])
    assert count == 4
    assert tflite_graph.kinds(tflite_graph.unpack(again)).count("DEQUANTIZE") == 4
    # The converter's own float16 has no such limit, and infinities in the white balance.
    assert b"1.15.0" in again and b"1.15.0" not in made.files["float32"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_buffer_lies_where_the_schema_wants_it(made: Made, precision: str) -> None:
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(made.files[precision], 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    places = [b._tab.Vector(b._tab.Offset(4)) for b in buffers if b.DataLength()]
    assert len(places) > 10
    assert all(place % tflite_graph.ALIGNMENT == 0 for place in places)
    entries = [model.Metadata(i).Name() for i in range(model.MetadataLength())]
    assert tflite_graph.CONVERSION_NOTE not in entries


def _table(table: Any, slot: int) -> Any:
    """A table, read by slot number."""
    import flatbuffers

    place = table.Pos + table.Offset(4 + 2 * slot)
    return flatbuffers.table.Table(table.Bytes, table.Indirect(place))


def _text(table: Any, slot: int) -> str:
    return bytes(table.String(table.Pos + table.Offset(4 + 2 * slot))).decode()


def _each(table: Any, slot: int) -> list[Any]:
    import flatbuffers

    offset = table.Offset(4 + 2 * slot)
    start = table.Vector(offset)
    return [
        flatbuffers.table.Table(table.Bytes, table.Indirect(start + 4 * i))
        for i in range(table.VectorLen(offset))
    ]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_other_tools_read_labels_and_normalisation(
    made: Made, precision: str, tmp_path: Path
) -> None:
    import flatbuffers

    model = tflite_graph.unpack(made.files[precision])
    entry = [m for m in model.metadata if bytes(m.name) == tflite_metadata.ENTRY]
    content = bytes(model.buffers[entry[0].buffer].data)
    assert len(entry) == 1 and content[4:8] == tflite_metadata.IDENTIFIER
    start = int.from_bytes(content[:4], "little")
    root = flatbuffers.table.Table(bytearray(content), start)
    graph = _each(root, 3)[0]
    [field] = _each(graph, 2)
    outputs = {_text(tensor, 0): tensor for tensor in _each(graph, 3)}
    # Readers go by position, so the order must be that of the graph's outputs.
    names = {e.tensorIndex: bytes(e.name).decode() for e in model.signatureDefs[0].outputs}
    assert list(outputs) == [names[i] for i in model.subgraphs[0].outputs]
    assert _text(field, 0) == "field"
    assert _text(_each(outputs["probabilities"], 6)[0], 0) == "labels.txt"
    stats = _table(field, 5)
    vector = stats.Vector(stats.Offset(4))
    assert stats.Get(flatbuffers.number_types.Float32Flags, vector) == 255.0
    path = tmp_path / "model.tflite"
    path.write_bytes(sealed(made, precision))
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(CLASSES)


def test_the_same_model_gives_the_same_file(made: Made) -> None:
    assert tflite_files(made.model, made.fields, ["float32"])["float32"] == made.files["float32"]


def test_an_unknown_precision_is_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="float32, float16, dynamic-int8"):
        tflite_files(None, np.zeros((0, 224, 224, 3), np.uint8), ["int4"])


def test_a_model_without_an_extractor_is_refused() -> None:
    import keras

    given = keras.Input((4,))
    core = keras.Model(given, keras.layers.Dense(2)(given), name="core")
    with pytest.raises(ModelFileError) as caught:
        tflite_int8.extractor_names(keras.Model(given, core(given)))
    assert caught.value.code == "no_extractor"


@pytest.fixture(scope="module")
def predecessor(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with tflite-runtime 2.14 and numpy 1.26, in an environment of its own."""
    given = os.environ.get("ALLSUB_TFLITE_PYTHON")
    if given:
        return given
    folder = tmp_path_factory.mktemp("predecessor")
    python = str(folder / "bin" / "python")
    wanted = ["tflite-runtime==2.14.0", "numpy==1.26.4", "opencv-python-headless<4.12"]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
        install = [python, "-m", "pip", "install", "--quiet", *wanted]
        subprocess.run(install, check=True, timeout=600)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"no environment with tflite-runtime 2.14 can be made here: {error}")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_predecessor_runs_the_file(
    made: Made, precision: str, predecessor: str, tmp_path: Path
) -> None:
    """tflite-runtime 2.14: the last engine for 32-bit ARM; it knows older operators only."""
    path = tmp_path / "model.tflite"
    path.write_bytes(sealed(made, precision))
    assert read(path).manifest.precision == precision
    done = subprocess.run(
        [predecessor, "-m", "allsub_edge", "check", str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2.14.0 (tflite-runtime)" in done.stdout
    assert "4 of 4 golden cases passed" in done.stdout
