"""Is this file still the same model? What a float32 file must fulfil."""

from __future__ import annotations

from allsub_edge.engines.parity import Answer, Parity, Run, collect, compare
from allsub_edge.errors import ModelFileError

__all__ = ["Answer", "Parity", "Run", "collect", "compare", "demand_equal"]


def demand_equal(parity: Parity, what: str, tolerance: float = 1e-3) -> None:
    """Refuse a float32 file that is not the model it was made from.

    Raises:
        ModelFileError: ``not_the_same``.
    """
    good = (
        parity.masks_equal
        and parity.same_top == 1.0
        # Written so that a NaN counts as too far.
        and parity.largest_probability_difference <= tolerance
        and parity.largest_distance_difference <= tolerance * 10
    )
    if not good:
        raise ModelFileError(
            "not_the_same",
            f"{what} does not answer as the trained network does ({parity.to_dict()}); "
            "nothing was written. Report this with the versions of tf2onnx and onnxruntime",
        )
