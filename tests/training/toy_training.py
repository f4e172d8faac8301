"""Trainings of the toy: one from its seed, one that is killed on its way, and what they kept."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from allsub_edge.training.config import TrainConfig
from allsub_edge.training.labelled import LabelledFields
from allsub_edge.training.loop import Trainer
from allsub_edge.training.network import build_network
from allsub_edge.training.run import Run

from .toy import toy_fields


class _Killed(Exception):
    pass


def toy_trainer(folder: Path, config: TrainConfig) -> Trainer:
    keras.utils.set_random_seed(config.seed)
    return Trainer(
        build_network(config),
        Run(folder),
        LabelledFields(*toy_fields()),
        LabelledFields(*toy_fields(each=2, first_seed=50)),
    )


def train_until(folder: Path, config: TrainConfig, epoch: int, step: int) -> None:
    """Train, or go on, and be killed after this step."""

    def progress(now: int, done: int, steps: int, loss: float) -> None:
        if (now, done) == (epoch, step):
            raise _Killed

    with pytest.raises(_Killed):
        toy_trainer(folder, config).fit(progress)


def kept_weights(folder: Path) -> list[np.ndarray]:
    arrays = Run(folder).read_arrays("best.npz")
    return [arrays[key] for key in sorted(arrays)]
