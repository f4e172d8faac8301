"""What every engine offers, and how many threads it takes unless told otherwise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from allsub_edge.imaging.resize import FIELD_SIZE

MAX_DEFAULT_THREADS: Final[int] = 4
"""A small network has too little work in one layer to feed more threads than this."""

INPUT_NAME: Final[str] = "field"
INPUT_SHAPE: Final[tuple[int, int, int]] = (FIELD_SIZE, FIELD_SIZE, 3)
OUTPUT_NAMES: Final[tuple[str, str, str]] = ("probabilities", "domain_distance", "mask")


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
