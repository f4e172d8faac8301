"""The exponential moving average of a network's weights over the steps of its training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


class WeightAverage:
    """Averages of all weights of a Keras model, with a short memory at the start.

    Attributes:
        weights: the averages, in the model's order; None before the first step.
    """

    def __init__(self, decay: float) -> None:
        """Keep ``decay`` (0..1) of the average at each step; 0 averages nothing."""
        self.decay = decay
        self.weights: list[npt.NDArray[np.float32]] | None = None

    def update(self, model: Any, step: int) -> None:
        """Take in the weights after step ``step`` (from 0)."""
        weights = model.get_weights()
        if self.weights is None or self.decay == 0:
            self.weights = [np.array(w) for w in weights]
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, weight in zip(self.weights, weights, strict=True):
            if np.issubdtype(average.dtype, np.floating):
                average += (1 - decay) * (weight - average)

    def within(self, model: Any, action: Callable[[], Any]) -> Any:
        """Run ``action`` with the averages in the model, then put the current weights back."""
        if self.weights is None:
            return action()
        current = model.get_weights()
        model.set_weights(self.weights)
        try:
            return action()
        finally:
            model.set_weights(current)
