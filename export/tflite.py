"""Every TFLite file of one network, from one SavedModel."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.errors import ModelFileError, UsageError
from allsub_edge.export.tflite_float import half_weights, save_graph, to_tflite
from allsub_edge.export.tflite_int8 import (
    calibrate,
    extractor_names,
    integer_share,
    quantise_extractor,
)
from allsub_edge.export.tflite_metadata import with_metadata

PRECISIONS: Final = ("float32", "float16", "int8")

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
        calibration: training fields uint8 [M, S, S, 3]; only ``int8`` looks at them.
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
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "graph"
        save_graph(model, folder)
        plain = b""
        if "float32" in precisions or "float16" in precisions:
            say("converting to TFLite float32")
            plain = to_tflite(folder)
        if "float32" in precisions:
            made["float32"] = plain
        if "float16" in precisions:
            made["float16"], _ = half_weights(plain)
        if "int8" in precisions:
            say(f"quantising TFLite with {len(calibration)} training fields")
            small = quantise_extractor(
                calibrate(folder, calibration), extractor_names(model), keep_float
            )
            share = integer_share(small)
            if share < MIN_INTEGER_SHARE and not keep_float:
                raise ModelFileError(
                    "not_int8", f"only {100 * share:.0f} % of the convolutions run in integers"
                )
            made["int8"] = small
    return {name: with_metadata(made[name]) for name in precisions}
