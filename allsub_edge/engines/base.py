"""What every engine offers, and how many threads it takes unless told otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from allsub_edge.errors import AllsubError, ModelFileError
from allsub_edge.imaging.resize import FIELD_SIZE
from allsub_edge.model_file.manifest import INPUTS, Manifest

MAX_DEFAULT_THREADS: Final[int] = 4
"""A small network has too little work in one layer to feed more threads than this."""

MAX_THREADS: Final[int] = 256
"""More are taken for a slip: engines start them all, and some libraries then never answer."""

INPUT_NAME: Final[str] = "field"
INPUT_SHAPE: Final[tuple[int, int, int]] = (FIELD_SIZE, FIELD_SIZE, 3)
OUTPUT_NAMES: Final[tuple[str, str, str]] = ("probabilities", "domain_distance", "mask")

Feed = dict[str, npt.NDArray[Any]]
"""Input name -> what is fed to the graph, one row for each field."""


class RawOutput(NamedTuple):
    """The outputs of a model for N fields.

    Attributes:
        probabilities: float32 [N, 4], in the order of ``classes.CLASSES``.
        domain_distance: float32 [N], 0 or more; large means unlike the training fields.
        mask: uint8 [N, 224, 224], 1 on cells, 0 elsewhere.
    """

    probabilities: npt.NDArray[np.float32]
    domain_distance: npt.NDArray[np.float32]
    mask: npt.NDArray[np.uint8]


class Engine(Protocol):
    """A model opened by some inference library."""

    @property
    def name(self) -> str:
        """Name in the registry, such as ``onnxruntime``."""

    @property
    def version(self) -> str:
        """Version of the inference library."""

    @property
    def threads(self) -> int:
        """Threads that one inference really uses."""

    def run(self, fields: npt.NDArray[np.uint8]) -> RawOutput:
        """Run N >= 1 fields, uint8 [N, 224, 224, 3], RGB.

        Raises ValueError for another dtype or shape, RuntimeError after ``close``.
        """

    def close(self) -> None:
        """Free the model; may be called twice."""


def check_fields(fields: npt.NDArray[np.uint8]) -> None:
    """Raise ValueError unless ``fields`` is uint8 [N, 224, 224, 3] with N >= 1."""
    if fields.dtype != np.uint8 or fields.ndim != 4 or fields.shape[1:] != INPUT_SHAPE:
        raise ValueError(
            f"fields must be uint8 [N, 224, 224, 3], not {fields.dtype} {fields.shape}"
        )
    if fields.shape[0] == 0:
        raise ValueError("fields must hold at least one field")


def input_types(interface: str) -> dict[str, str]:
    """Input name -> dtype name of a graph with this interface."""
    entry = INPUTS[interface]
    names = entry["names"] if "names" in entry else [entry["name"]]
    return dict.fromkeys(names, entry["dtype"])


def two_channels(fields: npt.NDArray[np.uint8], recipe: str) -> Feed:
    """What a graph with the ``two-channel`` interface takes, by the recipe's numpy version.

    Args:
        fields: uint8 [N, H, W, 3].
        recipe: name of the recipe.

    Returns:
        ``original`` and ``segmented``, float32 [N, H, W, 3], pixels divided by 255.

    Raises:
        UsageError: ``unknown_recipe``.
    """
    from allsub_edge.imaging.recipes import get_recipe

    second = get_recipe(recipe).second_channel
    segmented = np.stack([second(field) for field in fields])
    return {
        "original": fields.astype(np.float32) / np.float32(255),
        "segmented": segmented.astype(np.float32) / np.float32(255),
    }


def feeder(manifest: Manifest, source: str) -> Callable[[npt.NDArray[np.uint8]], Feed]:
    """How fields uint8 [N, 224, 224, 3] become the inputs of a model, by its interface.

    Raises:
        ModelFileError: ``unknown_recipe``, a two-channel model whose recipe this version lacks.
    """
    if manifest.interface == "field":
        return lambda fields: {INPUT_NAME: np.ascontiguousarray(fields)}
    from allsub_edge.imaging.recipes import get_recipe

    name, wanted = manifest.recipe["name"], manifest.recipe["version"]
    try:
        known = get_recipe(name).version == wanted
    except AllsubError:
        known = False
    if not known:
        raise ModelFileError(
            "unknown_recipe",
            f"{source}: this version cannot segment by recipe {name!r} version {wanted}: "
            "upgrade allsub-edge, or feed the model its two channels yourself",
        )
    return lambda fields: two_channels(fields, name)


def usable_cores(
    topology: str = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list",
) -> int:
    """Physical cores this process may run on, at least 1.

    Two hardware threads of one core share its arithmetic units, so they count once. Where the
    system does not tell (no such files), every usable processor counts as a core.
    """
    try:
        processors = sorted(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has it
        return os.cpu_count() or 1
    cores = set()
    for processor in processors:
        try:
            cores.add(Path(topology.format(processor)).read_text(encoding="ascii").strip())
        except OSError:
            cores.add(str(processor))
    return max(1, len(cores))


def default_threads() -> int:
    """Threads an engine takes unless told otherwise: the usable cores, at most 4."""
    return min(MAX_DEFAULT_THREADS, usable_cores())
