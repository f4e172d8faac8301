"""TFLite files of one network in one call; the exporter goes by ``makers`` and ``pipeline``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.errors import ModelFileError, UsageError
from allsub_edge.export.formats import FORMATS
from allsub_edge.export.makers import TfliteMaker

PRECISIONS: Final = tuple(f.precision for f in FORMATS.values() if f.container == "tflite")

MIN_INTEGER_SHARE: Final = 0.9


def tflite_files(
    model: Any,
    calibration: npt.NDArray[np.uint8],
    precisions: Sequence[str] = PRECISIONS,
    *,
    keep_float: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, bytes]:
    """Convert a Keras field model (see ``graph.field_model``).

    Args:
        model: uint8 ``field`` [N, S, S, 3] in; the outputs of the contract out.
        calibration: training fields uint8 [M, S, S, 3]; only integer activations look at them.
        precisions: what to make, out of :data:`PRECISIONS`.
        keep_float: see ``tflite_int8.quantise_extractor``.
        say: takes one line for each stage.

    Returns:
        precision -> a bare TFLite file with TFLite metadata, without manifest: seal it with
        ``container.embed_manifest``.

    Raises:
        UsageError: ``unknown_precision``.
        ModelFileError: ``not_int8``, ``no_extractor``.
    """
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown:
        raise UsageError(
            "unknown_precision",
            f"no TFLite precision {unknown[0]!r}: choose from {', '.join(PRECISIONS)}",
        )
    made: dict[str, bytes] = {}
    entries = {f.precision: f for f in FORMATS.values() if f.container == "tflite"}
    feeds = [{"field": field[None]} for field in calibration]
    with tempfile.TemporaryDirectory() as temporary:
        maker = TfliteMaker(model, feeds, Path(temporary), say)
        for precision in precisions:
            result = maker.make(entries[precision], keep_float)
            static = precision.startswith("int")
            if static and not keep_float and (result.share or 0.0) < MIN_INTEGER_SHARE:
                raise ModelFileError(
                    "not_int8",
                    f"only {100 * (result.share or 0.0):.0f} % of the convolutions run in integers",
                )
            made[precision] = result.data
    return made
