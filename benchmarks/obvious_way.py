"""The obvious way: the very same network in float32, with OpenCV and numpy around it.

What a capable engineer writes first: decode with OpenCV, white balance and cell mask with OpenCV
and numpy (this project's own functions, which are not slow), normalise, and hand both to a plain
ONNX Runtime session with its default settings. The network is cut out of a float32 model file:
everything between the normalised field and the mask on one side, the probabilities on the other.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.errors import ModelFileError
from allsub_edge.export import lean
from allsub_edge.imaging.recipes import get_recipe
from allsub_edge.imaging.resize import FIELD_SIZE
from allsub_edge.imaging.white_balance import balance


def cut_network(data: bytes) -> tuple[Any, str, str]:
    """The network of a float32 field model without its preparation.

    Args:
        data: an ONNX model file.

    Returns:
        The cut model as a ``ModelProto``, the name of its image input (float32 [N, 3, H, W],
        normalised) and of its mask input (float32 [N, 1, H, W]).

    Raises:
        ModelFileError: ``cannot_cut``: there is no float convolution, or no pooled mask.
    """
    import onnx
    from onnx import helper

    proto = onnx.load_from_string(data)
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    made = {name: node for node in proto.graph.node for name in node.output}
    pools = [node for node in proto.graph.node if node.op_type == "AveragePool"]
    quantised = "DequantizeLinear" in {node.op_type for node in proto.graph.node}
    if not convolutions or quantised or not (pools or lean.MASK_FLOAT in made):
        raise ModelFileError(
            "cannot_cut", "the obvious way needs a float32 ONNX file with fusion mask_pool"
        )
    image = convolutions[0].input[0]
    # As converted, the mask goes into the pool whose window is as wide as the extractor's stride;
    # that of the block means is 4. The exporter's passes leave it under a name of its own.
    mask = lean.MASK_FLOAT
    if mask not in made:
        mask = max(pools, key=_window).input[0]
    if mask not in made and image not in made:
        raise ModelFileError("cannot_cut", "the network's inputs are not computed in the file")
    value = helper.make_tensor_value_info
    shape = ["N", 1, FIELD_SIZE, FIELD_SIZE]
    del proto.graph.input[:]
    proto.graph.input.extend(
        [
            value(image, onnx.TensorProto.FLOAT, ["N", 3, FIELD_SIZE, FIELD_SIZE]),
            value(mask, onnx.TensorProto.FLOAT, shape),
        ]
    )
    kept = [output for output in proto.graph.output if output.name == "probabilities"]
    del proto.graph.output[:]
    proto.graph.output.extend(kept)
    keep_needed(proto, {image, mask}, made)
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto, full_check=True)
    return proto, image, mask


def _window(node: Any) -> int:
    return max(int(i) for a in node.attribute if a.name == "kernel_shape" for i in a.ints)


def keep_needed(proto: Any, given: set[str], made: dict[str, Any]) -> None:
    """Drop the nodes and weights that no output of a graph needs; in place.

    Args:
        proto: the model.
        given: tensors that are fed, so that what makes them is not needed.
        made: name of a tensor -> the node that makes it.
    """
    needed: set[str] = set()
    waiting = [output.name for output in proto.graph.output]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in made and name not in given:
            waiting.extend(made[name].input)
    inner = needed - given
    nodes = [node for node in proto.graph.node if inner.intersection(node.output)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    for tensor in [t for t in proto.graph.initializer if t.name not in needed]:
        proto.graph.initializer.remove(tensor)


def open_obvious(
    path: Path, threads: int | None
) -> tuple[Callable[[bytes], npt.NDArray[np.float32]], dict[str, Any]]:
    """Open the obvious way as a contender; ``threads`` None means ONNX Runtime's own default."""
    import cv2
    import onnxruntime as ort

    from allsub_edge.model_file.container import read

    model = read(path)
    proto, image_name, mask_name = cut_network(model.data)
    recipe = get_recipe(model.manifest.recipe["name"])
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def answer(data: bytes) -> npt.NDArray[np.float32]:
        bgr: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if bgr.shape[:2] != (FIELD_SIZE, FIELD_SIZE):
            bgr = cv2.resize(bgr, (FIELD_SIZE, FIELD_SIZE), interpolation=cv2.INTER_AREA)
        rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
        mask = recipe.mask(rgb)
        # EfficientNet-Lite's normalisation; one BLAS-free pass into planes.
        image = (balance(rgb).astype(np.float32) - 127.0) / 128.0
        feed = {
            image_name: np.ascontiguousarray(image.transpose(2, 0, 1))[None],
            mask_name: mask[None, None].astype(np.float32),
        }
        return np.asarray(session.run(["probabilities"], feed)[0][0], np.float32)

    return answer, {
        "file": path.name,
        "bytes": path.stat().st_size,
        "engine": f"onnxruntime {ort.__version__}, default settings",
        "threads": threads,
    }
