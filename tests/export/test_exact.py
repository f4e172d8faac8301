"""What a model file computes in integers is equal to numpy, on every colour and every pixel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")
pytest.importorskip("tf2onnx", reason="the export extra is not installed")

from allsub_edge.classes import CLASSES
from allsub_edge.engines import open_engine
from allsub_edge.export.onnx_float import OPSET
from allsub_edge.export.tflite_float import save_graph, to_tflite
from allsub_edge.imaging.decode import read_field
from allsub_edge.imaging.hsv import rgb_to_hsv
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.render import render_field
from allsub_edge.imaging.resize import squash
from allsub_edge.model_file.container import read
from allsub_edge.sources.paths import expand

MODELS = Path(__file__).parents[2] / "allsub_edge" / "models"
FILES = sorted(p for p in MODELS.iterdir() if p.suffix in (".onnx", ".tflite"))

Hsv = Callable[[np.ndarray], np.ndarray]


def _model() -> Any:
    import keras

    from allsub_edge.training.layers import RgbToHsv

    rgb = keras.Input((256, 256, 3), name="rgb")
    return keras.Model(rgb, RgbToHsv(name="hsv")(rgb))


def _onnx(model: Any, folder: Path) -> Hsv:
    import onnxruntime as ort
    import tensorflow as tf
    import tf2onnx

    given = tf.TensorSpec((None, 256, 256, 3), tf.float32, name="rgb")
    proto, _ = tf2onnx.convert.from_keras(model, input_signature=[given], opset=OPSET)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda rgb: session.run(None, {"rgb": rgb})[0]


def _tflite(model: Any, folder: Path) -> Hsv:
    from ai_edge_litert.interpreter import Interpreter

    save_graph(model, folder)
    interpreter = Interpreter(model_content=to_tflite(folder))
    interpreter.allocate_tensors()
    [given], [made] = interpreter.get_input_details(), interpreter.get_output_details()

    def run(rgb: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], rgb)
        interpreter.invoke()
        return interpreter.get_tensor(made["index"])

    return run


def _wrong(run: Hsv, reds: range) -> int:
    """How many colours with these red values the graph converts otherwise than numpy."""
    green, blue = np.mgrid[0:256, 0:256].astype(np.uint8)
    wrong = 0
    for red in reds:
        rgb = np.stack([np.full_like(green, red), green, blue], axis=-1)
        found = run(rgb[None].astype(np.float32))[0]
        wrong += int((found != rgb_to_hsv(rgb)).any(axis=-1).sum())
    return wrong


@pytest.fixture(scope="module", params=["onnx", "tflite"])
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Hsv:
    make = {"onnx": _onnx, "tflite": _tflite}[request.param]
    return make(_model(), tmp_path_factory.mktemp("hsv"))


def test_hsv_is_exact_in_the_graph_on_some_planes_of_colours(converted: Hsv) -> None:
    assert _wrong(converted, range(0, 256, 51)) == 0
    # A conversion that is a hair off is noticed.
    assert _wrong(lambda rgb: np.floor(converted(rgb) * 0.999), range(100, 101)) > 0


@pytest.mark.slow
def test_hsv_is_exact_in_the_graph_on_every_colour(converted: Hsv) -> None:
    assert _wrong(converted, range(256)) == 0


def _rendered() -> Iterator[np.ndarray]:
    for seed in range(50):
        yield render_field(500 + seed, CLASSES[seed % len(CLASSES)])


def _mask_differences(path: Path, fields: Iterator[np.ndarray]) -> tuple[int, int]:
    """Fields looked at, and pixels of their masks that the file has otherwise than numpy."""
    model = read(path)
    mask = get_recipe(model.manifest.recipe["name"]).mask
    count = pixels = 0
    with contextlib.closing(open_engine(model)) as engine:
        for field in fields:
            count += 1
            pixels += int((engine.run(field[None]).mask[0] != mask(field)).sum())
    return count, pixels


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_mask_is_exact_on_every_pixel_of_rendered_fields(path: Path) -> None:
    assert _mask_differences(path, _rendered()) == (50, 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_mask_is_exact_on_every_pixel_of_real_fields(path: Path, shared: Path) -> None:
    items = [str(item.path) for item in expand([str(shared / "data" / "all-smears" / "Original")])]
    chosen = [items[i] for i in np.linspace(0, len(items) - 1, 200).astype(int)]
    fields = (squash(read_field(Path(name)).rgb) for name in chosen)
    assert _mask_differences(path, fields) == (200, 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_flipped_byte_anywhere_is_noticed(path: Path) -> None:
    """Ends and middles of every sixty-fourth of a shipped file, and some places at random."""
    from allsub_edge.errors import ModelFileError
    from allsub_edge.model_file.container import parse

    data = path.read_bytes()
    places = {0, 1, 7, len(data) - 1, len(data) - 2}
    places |= {int(i) for i in np.linspace(0, len(data) - 1, 65)}
    places |= set(np.random.default_rng(1).integers(0, len(data), 15).tolist())
    # Both ends of the manifest and of what follows it, wherever they stand.
    for word in (b"allsub-edge/model/1", b"probabilities", b"labels.txt", b"PK\x05\x06"):
        at = data.rfind(word)
        places |= {at, at + len(word) - 1} if at >= 0 else set()
    for place in sorted(places):
        spoiled = bytearray(data)
        spoiled[place] ^= 0x10
        with pytest.raises(ModelFileError):
            parse(bytes(spoiled), source=path.name)


def test_the_shipped_onnx_files_pass_the_full_checker() -> None:
    import onnx

    files = [path for path in FILES if path.suffix == ".onnx"]
    assert files
    for path in files:
        onnx.checker.check_model(str(path), full_check=True)
