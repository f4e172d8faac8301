"""DenseNet201 in int8: what the paper's own network costs when it is converted with care.

The published network's two branches as one ONNX file that is run once for the field and once for
its segmentation, quantised as our own files are (unsigned activations, signed weights, one scale
for each channel). Weights are random: the time does not depend on them.

    python -m allsub_edge.benchmarks.densenet_int8 densenet201-int8.onnx

makes the file (extra ``export``; 3 minutes on 2 cores).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.errors import UsageError

SIZE = 224


def make(target: Path) -> None:
    """Build, convert and quantise; writes ``target`` whole or not at all."""
    import keras
    import tensorflow as tf
    import tf2onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    from allsub_edge.atomic import replacing
    from allsub_edge.benchmarks.workload import pixels

    keras.utils.set_random_seed(1)
    model = keras.applications.DenseNet201(
        include_top=False, weights=None, pooling="avg", input_shape=(SIZE, SIZE, 3)
    )
    spec = [tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="image")]
    proto, _ = tf2onnx.convert.from_keras(model, input_signature=spec, opset=17)
    feeds = iter(
        [{"image": field[None].astype(np.float32) / np.float32(255)} for field in pixels(2)]
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return next(feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        plain.write_bytes(proto.SerializeToString())
        with replacing(target) as temporary:
            quantize_static(
                str(plain),
                str(temporary),
                Reader(),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )


def open_densenet(
    path: Path, threads: int | None
) -> tuple[Callable[[bytes], npt.NDArray[np.float32]], dict[str, Any]]:
    """Open the file as a contender; both branches, then a dense block by numpy.

    Raises:
        UsageError: ``no_densenet``, the file is not there.
    """
    import onnxruntime as ort

    from allsub_edge.benchmarks.published_way import channels
    from allsub_edge.engines.base import default_threads

    if not path.is_file():
        raise UsageError(
            "no_densenet",
            f"{path}: is not there: python -m allsub_edge.benchmarks.densenet_int8 {path}",
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    head = np.random.default_rng(1).normal(0, 0.01, (2 * 1920, 4)).astype(np.float32)

    def answer(data: bytes) -> npt.NDArray[np.float32]:
        parts = [session.run(None, {name: channel})[0] for channel in channels(data)]
        logits = np.concatenate(parts, axis=1) @ head
        powers = np.exp(logits - logits.max())
        return np.asarray((powers / powers.sum())[0], np.float32)

    return answer, {
        "file": path.name,
        "bytes": path.stat().st_size,
        "engine": f"onnxruntime {ort.__version__}",
        "threads": options.intra_op_num_threads,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m allsub_edge.benchmarks.densenet_int8",
        description="Make DenseNet201 in int8, with random weights; 3 minutes on 2 cores.",
    )
    parser.add_argument("target", type=Path, metavar="OUT.onnx", help="the file to make")
    make(parser.parse_args().target)
