"""The training loop: phase by phase, resumable at the end of every epoch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.training.augment import Augmenter
from allsub_edge.training.batches import Batch, epoch_batches, steps_per_epoch
from allsub_edge.training.calibrate import softmax
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.distill import Answering, DistillationLoss
from allsub_edge.training.integers import simulated
from allsub_edge.training.labelled import LabelledFields, predict_logits, shifted_fields
from allsub_edge.training.metrics import log_loss
from allsub_edge.training.network import TwoChannelNetwork
from allsub_edge.training.recalibrate import recalibrate, settle
from allsub_edge.training.run import Run
from allsub_edge.training.schedule import (
    FINE_TUNE,
    HEAD,
    INTEGERS,
    Phase,
    learning_rate,
    phase_of,
    phases,
)
from allsub_edge.training.weight_average import WeightAverage

RANGE_FIELDS: Final = 128
"""So many training fields show the range of each activation before it is rounded."""

TUNED: Final = "tuned.npz"
"""The weights that the integer epochs start from, as long as the training goes on."""

Progress = Callable[[int, int, int, float], None]
"""Called after each step with (epoch, step, steps in the epoch, running loss)."""


@dataclass
class _State:
    """What the loop carries from epoch to epoch and stores in the checkpoint."""

    epoch: int = 0
    best_score: float = math.inf
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """Trains one network; everything that matters is in the run folder after every epoch."""

    def __init__(
        self,
        network: TwoChannelNetwork,
        run: Run,
        training: LabelledFields,
        validation: LabelledFields | None,
        teacher: Answering | None = None,
    ) -> None:
        """Take the parts of a training; without ``validation`` the last epoch is kept.

        With a ``teacher`` its answers are learned beside the labels.
        """
        self.network, self.run, self.teacher = network, run, teacher
        self.training, self.validation = training, validation
        self.config: TrainConfig = network.config
        self.augmenter = Augmenter(
            self.config.augmenting(),
            donors=list(zip(training.fields, training.masks, strict=True)),
        )
        counts = np.bincount(training.labels, minlength=len(CLASSES))
        if (counts == 0).any():
            missing = CLASSES[int(np.argmin(counts))]
            raise DataError("no_fields", f"no training field of class {missing} in the split")
        self._class_weight = len(training.labels) / (len(CLASSES) * counts)
        self._shifted = (
            None
            if validation is None
            else shifted_fields(validation.fields, self.config.validation_gain, seed=20221)
        )
        self._steps = steps_per_epoch(len(training.fields), self.config.batch_size)
        self._state = _State()
        self._average = WeightAverage(self.config.ema)
        self._kept: list[npt.NDArray[np.float32]] = []
        self._phase: Phase | None = None
        self._model: Any = network.model

    def fit(self, progress: Progress | None = None) -> list[dict[str, Any]]:
        """Train to the end or until patience runs out; returns the history.

        Starts from the run's checkpoint when there is one. Afterwards the network holds the
        averaged weights of the best epoch.
        """
        if not self._restore() and self.config.recalibrate:
            recalibrate(self.network, self._some_fields(self.config.recalibrate))
        end = phases(self.config)[-1].last
        while self._state.epoch < end:
            phase = phase_of(self.config, self._state.epoch)
            if self._out_of_patience(phase):
                self._state.epoch = phase.last
                continue
            self._enter(phase)
            entry = self._one_epoch(progress)
            self._state.history.append(entry)
            if entry["score"] < self._state.best_score:
                self._state.best_score = entry["score"]
                self._state.best_epoch = self._state.epoch
                self._save_best()
            self._state.epoch += 1
            self._save_checkpoint()
            self.run.write_json("history.json", self._state.history)
        # A kill between the last checkpoint and this file would leave it an epoch short.
        self.run.write_json("history.json", self._state.history)
        (self.run.folder / TUNED).unlink(missing_ok=True)
        load_best(self.network, self.run)
        return self._state.history

    def _some_fields(self, count: int) -> npt.NDArray[np.uint8]:
        order = np.random.default_rng(self.config.seed).permutation(len(self.training.fields))
        return self.training.fields[order[:count]]

    def _out_of_patience(self, phase: Phase) -> bool:
        tuned = phase.name != HEAD and self._state.best_epoch >= phase.first
        waited = self._state.epoch - 1 - self._state.best_epoch
        return tuned and waited >= self.config.patience

    def _enter(self, phase: Phase) -> None:
        """Compile for a phase; a new one starts with a new optimiser."""
        if self._phase == phase:
            return
        self._phase = phase
        if phase.name == INTEGERS:
            # From the best weights; their score knew no rounding and compares with none here. They
            # are kept apart: a kill after this phase's first best would leave that in their place.
            if not (self.run.folder / TUNED).is_file():
                self.run.write_arrays(TUNED, self.run.read_arrays("best.npz"))
            _load(self.network, self.run, TUNED)
            self._average.weights, self._state.best_score = None, math.inf
            self._model = simulated(
                self.network,
                self._some_fields(RANGE_FIELDS),
                self.config.integer_share,
                self.config.seed,
            )
        self.network.set_phase(head_only=phase.name == HEAD)
        self._model.compile(optimizer=self._optimizer(), loss=self._loss(), jit_compile=False)
        self._model.optimizer.build(self._model.trainable_variables)

    def _optimizer(self) -> Any:
        optimizer = keras.optimizers.AdamW(
            learning_rate=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            global_clipnorm=1.0,
        )
        if self.config.precision == "mixed_float16":
            # Small gradients would vanish in half precision.
            return keras.optimizers.LossScaleOptimizer(optimizer)
        return optimizer

    def _loss(self) -> Any:
        config = self.config
        if self.teacher is not None:
            return DistillationLoss(
                config.teacher_weight, config.teacher_temperature, config.label_smoothing
            )
        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=config.label_smoothing
        )

    def _targets(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Labels one-hot [B, 4]; behind them the teacher's logits, if there is one."""
        label = np.eye(len(CLASSES), dtype=np.float32)[batch.labels]
        if self.teacher is None or batch.teacher is None:
            return label
        return np.concatenate([label, self.teacher.logits(batch.teacher)], axis=1)

    def _one_epoch(self, progress: Progress | None) -> dict[str, Any]:
        config, model, epoch = self.config, self._model, self._state.epoch
        started, losses = time.monotonic(), []
        batches = epoch_batches(
            self.training.fields,
            self.training.masks,
            self.training.labels,
            self.augmenter,
            self.network.channels,
            seed=config.seed,
            epoch=epoch,
            batch_size=config.batch_size,
            teacher=None if self.teacher is None else self.teacher.channels,
        )
        for step, batch in enumerate(batches):
            model.optimizer.learning_rate.assign(learning_rate(config, epoch, step, self._steps))
            weight = self._class_weight[batch.labels].astype(np.float32)
            loss = model.train_on_batch(
                batch.channels,
                self._targets(batch),
                sample_weight=weight if config.class_weights else None,
            )
            losses.append(float(np.ravel(loss)[0]))
            self._average.update(self.network.model, epoch * self._steps + step)
            if progress is not None:
                progress(epoch, step + 1, self._steps, float(np.mean(losses[-50:])))
        score = self._average.within(self.network.model, self._settled_score)
        return {
            "epoch": epoch,
            "phase": phase_of(config, epoch).name,
            "loss": round(float(np.mean(losses)), 5),
            **score,
            "seconds": round(time.monotonic() - started, 1),
        }

    def _settled_score(self) -> dict[str, float]:
        """:meth:`_score` of the weights now in the network, as they would be kept."""
        config = self.config
        tuned = phase_of(config, self._state.epoch).name == FINE_TUNE
        if config.settle and tuned and not config.frozen_batch_norm:
            settle(self.network, self._some_fields(config.settle))
        self._kept = self.network.model.get_weights()
        return self._score()

    def _score(self) -> dict[str, float]:
        """Validation of the weights now in the network; ``score`` decides, lower is better."""
        if self.validation is None or self._shifted is None:
            # Nothing to choose by, so every epoch counts as better than the one before.
            return {"score": -float(self._state.epoch)}
        result: dict[str, float] = {}
        labels, trained = self.validation.labels, replace(self.network, model=self._model)
        for name, fields in (("plain", self.validation.fields), ("shifted", self._shifted)):
            probabilities = softmax(predict_logits(trained, fields))
            result[f"{name}_loss"] = round(log_loss(labels, probabilities), 5)
            result[f"{name}_accuracy"] = round(float((probabilities.argmax(1) == labels).mean()), 5)
        result["score"] = round((result["plain_loss"] + result["shifted_loss"]) / 2, 5)
        return result

    def _save_best(self) -> None:
        self.run.write_arrays("best.npz", {f"w{i:04d}": w for i, w in enumerate(self._kept)})

    def _variables(self) -> list[Any]:
        """Every variable that a resumed training needs, in a fixed order."""
        return [*self._model.variables, *self._model.optimizer.variables]

    def _save_checkpoint(self) -> None:
        arrays = {f"v{i:04d}": np.asarray(v.value) for i, v in enumerate(self._variables())}
        for i, average in enumerate(self._average.weights or []):
            arrays[f"a{i:04d}"] = average
        state = json.dumps(vars(self._state)).encode()
        arrays["state"] = np.frombuffer(state, dtype=np.uint8)
        self.run.write_arrays("checkpoint.npz", arrays)

    def _restore(self) -> bool:
        """Take up the run's checkpoint; False if there is none."""
        if not has_checkpoint(self.run):
            return False
        arrays = self.run.read_arrays("checkpoint.npz")
        state = _State(**json.loads(arrays.pop("state").tobytes()))
        # The optimiser's variables belong to the phase of the last finished epoch.
        self._enter(phase_of(self.config, state.epoch - 1))
        self._state = state
        variables = self._variables()
        stored = [arrays[k] for k in sorted(arrays) if k.startswith("v")]
        if len(stored) != len(variables):
            raise DataError("bad_run", f"{self.run.folder}: the checkpoint is of another network")
        for variable, value in zip(variables, stored, strict=True):
            variable.assign(value)
        averages = [np.array(arrays[k]) for k in sorted(arrays) if k.startswith("a")]
        self._average.weights = averages or None
        return True


def has_checkpoint(run: Run) -> bool:
    """Whether a training of this run can be taken up."""
    return (run.folder / "checkpoint.npz").is_file()


def load_best(network: TwoChannelNetwork, run: Run) -> None:
    """Put the run's best averaged weights into a network of the same configuration.

    Raises:
        DataError: the run has none yet, or they are of another network.
    """
    _load(network, run, "best.npz")


def _load(network: TwoChannelNetwork, run: Run, name: str) -> None:
    arrays = run.read_arrays(name)
    try:
        network.model.set_weights([arrays[k] for k in sorted(arrays)])
    except ValueError as error:
        raise DataError("bad_run", f"{run.folder}: weights of another network ({error})") from error
