"""The layers equal the numpy versions, pixel for pixel, in Keras, ONNX Runtime and LiteRT."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from allsub_edge.errors import UsageError
from allsub_edge.imaging.hsv import rgb_to_hsv
from allsub_edge.imaging.recipes import RECIPES, get_recipe
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.white_balance import balance

pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
tf2onnx = pytest.importorskip("tf2onnx")
onnxruntime = pytest.importorskip("onnxruntime")
litert = pytest.importorskip("ai_edge_litert.interpreter")

from allsub_edge.training.layers import (
    RecipeMask,
    RgbToHsv,
    SecondChannel,
    WhiteBalance,
)

LABELS = ("Benign", "Early", "Pre", "Pro")
SIDE = 224
Answers = dict[str, np.ndarray]
Runner = Callable[[np.ndarray], Answers]
ENGINES = ("keras", "onnx", "tflite")


def arrays() -> dict[str, np.ndarray]:
    """Fields that a model file must agree on: smears, tints, noise and the ends of the range."""
    rng = np.random.default_rng(3)
    found = {label: render_field(seed, label) for seed, label in enumerate(LABELS)}
    for gains in ((2.0, 0.5, 1.0), (0.1, 1.0, 1.0), (0.3, 0.2, 0.25), (1.0, 1.6, 1.6)):
        tinted = np.clip(np.rint(found["Early"] * np.array(gains)), 0, 255)
        found[f"gains {gains}"] = tinted.astype(np.uint8)
    for top in (3, 40, 256):
        found[f"noise below {top}"] = rng.integers(0, top, (SIDE, SIDE, 3), dtype=np.uint8)
    coarse = rng.integers(0, 256, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
    found["tiles"] = coarse.repeat(8, axis=0).repeat(8, axis=1)
    violet = rng.integers((120, 40, 170), (190, 130, 256), (SIDE, SIDE, 3))
    found["violet noise"] = violet.astype(np.uint8)
    for level in (0, 1, 29, 128, 255):
        found[f"flat {level}"] = np.full((SIDE, SIDE, 3), level, np.uint8)
    edge = np.full((SIDE, SIDE, 3), 240, np.uint8)
    edge[:6, :9], edge[-30:, -2:], edge[100:110, :4] = (120, 50, 190), (90, 40, 160), (99, 20, 180)
    found["cells on the border"] = edge
    return found


ARRAYS = arrays()


def in_numpy(rgb: np.ndarray) -> Answers:
    answers = {"balanced": balance(rgb)}
    for name, recipe in RECIPES.items():
        answers[f"{name}_mask"] = recipe.mask(rgb)[..., None]
        answers[f"{name}_second"] = recipe.second_channel(rgb)
    return answers


def network() -> "keras.Model":
    field = keras.Input((SIDE, SIDE, 3), name="field")
    balanced = WhiteBalance()(field)
    cells = RecipeMask("cells", balanced=True)(balanced)
    published = RecipeMask("aria2022")(field)
    outputs = {
        "balanced": balanced,
        "cells_mask": cells,
        "cells_second": SecondChannel("cells", balanced=True)([balanced, cells]),
        "aria2022_mask": published,
        "aria2022_second": SecondChannel("aria2022")(field, published),
    }
    # An identity by name, so that each engine calls the outputs what Keras calls them.
    named = {name: keras.layers.Identity(name=name)(value) for name, value in outputs.items()}
    return keras.Model(field, named)


def to_onnx(model: "keras.Model", path: Path) -> Runner:
    proto, _ = tf2onnx.convert.from_keras(model, opset=17, output_path=str(path))
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
    assert next(entry.version for entry in proto.opset_import if entry.domain == "") == 17
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (given,) = [entry.name for entry in session.get_inputs()]
    names = [entry.name for entry in session.get_outputs()]
    return lambda batch: dict(zip(names, session.run(None, {given: batch}), strict=True))


def to_tflite(model: "keras.Model", folder: Path) -> Runner:
    import tensorflow as tf

    model.export(str(folder), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = litert.Interpreter(model_content=converter.convert(), num_threads=1)
    runner = interpreter.get_signature_runner("serving_default")
    (given,) = runner.get_input_details()
    return lambda batch: dict(runner(**{given: batch}))


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Runner]:
    folder = tmp_path_factory.mktemp("layers")
    model = network()
    # Through a file, so that what is converted is what a saved model holds.
    model.save(folder / "layers.keras")
    model = keras.models.load_model(folder / "layers.keras")
    return {
        "keras": lambda batch: {
            name: np.asarray(value) for name, value in model.predict_on_batch(batch).items()
        },
        "onnx": to_onnx(model, folder / "layers.onnx"),
        "tflite": to_tflite(model, folder / "saved"),
    }


def assert_equal(answers: Answers, expected: Answers) -> None:
    assert answers.keys() == expected.keys()
    for name, value in expected.items():
        assert answers[name].dtype == np.float32
        assert np.array_equal(answers[name][0], value), name


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", list(ARRAYS))
def test_equal_to_numpy(engines: dict[str, Runner], engine: str, name: str) -> None:
    rgb = ARRAYS[name]
    assert_equal(engines[engine](rgb[None].astype(np.float32)), in_numpy(rgb))


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_to_numpy_on_real_smears(
    engines: dict[str, Runner], engine: str, shared: Path
) -> None:
    folder = shared / "data" / "all-smears" / "Original"
    for label in LABELS:
        for path in sorted((folder / label).glob("*.jpg"))[::75][:5]:
            rgb = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
            assert_equal(engines[engine](rgb[None].astype(np.float32)), in_numpy(rgb))


def test_the_arrays_exercise_the_recipes() -> None:
    """An equality of empty masks would prove nothing."""
    for name, recipe in RECIPES.items():
        found = [int(recipe.mask(rgb).sum()) for rgb in ARRAYS.values()]
        assert sum(count > 300 for count in found) >= 5, name
        assert sum(count == 0 for count in found) >= 4, name


@pytest.mark.parametrize("engine", ENGINES)
def test_each_field_of_a_batch_stands_alone(engines: dict[str, Runner], engine: str) -> None:
    fields = [ARRAYS["Pro"], ARRAYS["gains (2.0, 0.5, 1.0)"], ARRAYS["flat 0"]]
    answers = engines[engine](np.stack(fields).astype(np.float32))
    for index, rgb in enumerate(fields):
        assert_equal({k: v[index : index + 1] for k, v in answers.items()}, in_numpy(rgb))


def test_raw_and_balanced_contracts_agree() -> None:
    rgb = ARRAYS["gains (1.0, 1.6, 1.6)"]
    field = rgb[None].astype(np.float32)
    mask = np.asarray(RecipeMask("cells")(field))
    assert mask.shape == (1, SIDE, SIDE, 1)
    assert np.array_equal(mask[0, ..., 0], get_recipe("cells").mask(rgb))
    second = np.asarray(SecondChannel("cells")([field, mask]))
    assert np.array_equal(second[0], get_recipe("cells").second_channel(rgb))


def test_stays_float32_under_mixed_precision() -> None:
    rgb = ARRAYS["violet noise"]
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        balanced = WhiteBalance()(rgb[None].astype(np.float32))
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    assert np.array_equal(np.asarray(balanced)[0], balance(rgb))


def test_other_sizes() -> None:
    rgb = render_field(2, "Pre", 256)[:, :120]
    field = rgb[None].astype(np.float32)
    assert np.array_equal(np.asarray(WhiteBalance()(field))[0], balance(rgb))
    mask = np.asarray(RecipeMask("cells")(field))[0, ..., 0]
    assert np.array_equal(mask, get_recipe("cells").mask(rgb))


@pytest.mark.parametrize("shape", [(226, 224, 3), (None, 224, 3), (260, 256, 3), (224, 224, 1)])
def test_white_balance_refuses_other_shapes(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match="WhiteBalance needs"):
        WhiteBalance()(keras.Input(shape))


def test_recipe_layers_refuse_a_wrong_recipe() -> None:
    with pytest.raises(UsageError):
        RecipeMask("otsu")
    with pytest.raises(ValueError, match="raw field"):
        SecondChannel("aria2022", balanced=True)


@pytest.mark.slow
def test_hsv_equal_on_every_colour(tmp_path: Path) -> None:
    field = keras.Input((1024, 1024, 3), name="field")
    model = keras.Model(field, {"hsv": keras.layers.Identity(name="hsv")(RgbToHsv()(field))})
    runners = [to_onnx(model, tmp_path / "hsv.onnx"), to_tflite(model, tmp_path / "hsv")]
    colours = np.arange(1 << 20, dtype=np.uint32)
    rgb = np.empty((1 << 20, 3), np.uint8)
    for slab in range(16):
        for channel, shift in enumerate((16, 8, 0)):
            rgb[:, channel] = (colours + (slab << 20) >> shift) & 255
        square = rgb.reshape(1024, 1024, 3)
        expected = rgb_to_hsv(square)
        for run in runners:
            assert np.array_equal(run(square[None].astype(np.float32))["hsv"][0], expected)
