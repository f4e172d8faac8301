"""The phases of a training, and the learning rate of every step in them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from allsub_edge.training.config import TrainConfig

HEAD: Final = "head"
FINE_TUNE: Final = "fine-tune"
INTEGERS: Final = "integers"

REST: Final = 0.01
"""Share of a phase's peak learning rate that is left at its end."""


@dataclass(frozen=True)
class Phase:
    """Epochs that are trained alike.

    Attributes:
        name: :data:`HEAD` (the extractor is frozen), :data:`FINE_TUNE`, or :data:`INTEGERS`
            (fine-tuning with the rounding of an integer file).
        first: its first epoch, counted from 0 over the whole training.
        last: the epoch after its last one.
        peak: highest learning rate.
    """

    name: str
    first: int
    last: int
    peak: float


def phases(config: TrainConfig) -> list[Phase]:
    """The phases of a training that have epochs, in order."""
    head, tuned = config.head_epochs, config.epochs
    every = [
        Phase(HEAD, 0, head, config.head_learning_rate),
        Phase(FINE_TUNE, head, tuned, config.learning_rate),
        Phase(INTEGERS, tuned, tuned + config.integer_epochs, config.integer_learning_rate),
    ]
    return [phase for phase in every if phase.last > phase.first]


def phase_of(config: TrainConfig, epoch: int) -> Phase:
    """The phase that an epoch is in."""
    return next(phase for phase in phases(config) if epoch < phase.last)


def learning_rate(config: TrainConfig, epoch: int, step: int, steps: int) -> float:
    """Linear warm-up and cosine decay to :data:`REST` within each phase.

    Args:
        config: of the training.
        epoch: from 0.
        step: within the epoch, from 0.
        steps: of an epoch.
    """
    phase = phase_of(config, epoch)
    done = (epoch - phase.first) * steps + step
    total = max(1, (phase.last - phase.first) * steps)
    warm = min(1.0, (done + 1) / max(1, min(config.warmup_steps, total // 2)))
    return phase.peak * warm * (REST + (1 - REST) * 0.5 * (1 + math.cos(math.pi * done / total)))
