"""Learning from the answers of trained networks as well as from labels (Hinton et al., 2015).

The teacher sees the very fields the student sees, augmented alike, so its answers fit what the
student is asked ("patient and consistent" distillation; Beyer et al., CVPR 2022).
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, logsumexp

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError, UsageError
from allsub_edge.training.batches import Channels
from allsub_edge.training.config import TrainConfig, comma_separated
from allsub_edge.training.network import TwoChannelNetwork, build_network
from allsub_edge.training.run import Run
from allsub_edge.training.split import Split, read_split


class Answering(Protocol):
    """What a student asks while it learns: one network, or several as one."""

    @property
    def sha256(self) -> str:
        """Of the weights: another one is another teacher."""

    def channels(self, fields: npt.NDArray[np.uint8]) -> Any:
        """What :meth:`logits` wants of fields uint8 [N, S, S, 3]."""

    def logits(self, channels: Any) -> npt.NDArray[np.float32]:
        """Logits float32 [N, 4]."""


@dataclass(frozen=True)
class Teacher:
    """A trained network that answers training fields.

    Attributes:
        run: where it came from.
        network: its network with the weights of its best epoch.
        sha256: of its weights file.
    """

    run: Run
    network: TwoChannelNetwork
    sha256: str

    def channels(self, fields: npt.NDArray[np.uint8]) -> Channels:
        """What :meth:`logits` wants of fields uint8 [N, S, S, 3]."""
        return self.network.channels(fields)

    def logits(self, channels: Channels) -> npt.NDArray[np.float32]:
        """Logits float32 [N, 4]."""
        return np.asarray(self.network.model.predict_on_batch(channels), np.float32)


@dataclass(frozen=True)
class Ensemble:
    """Several teachers that answer with the mean of their probabilities."""

    members: tuple[Teacher, ...]

    @property
    def sha256(self) -> str:
        """Of the members' sums, in their order."""
        return joint_sha256([member.sha256 for member in self.members])

    def channels(self, fields: npt.NDArray[np.uint8]) -> tuple[Channels, ...]:
        """What :meth:`logits` wants of fields uint8 [N, S, S, 3], for each member."""
        return tuple(member.channels(fields) for member in self.members)

    def logits(self, channels: tuple[Channels, ...]) -> npt.NDArray[np.float32]:
        """Logarithm of the mean probabilities, float32 [N, 4]."""
        asked = zip(self.members, channels, strict=True)
        each = [log_softmax(member.logits(given), axis=1) for member, given in asked]
        # Not the logarithm of averaged probabilities: a small one would become minus infinity.
        mean = logsumexp(each, axis=0) - np.log(len(each))
        return np.asarray(mean, np.float32)


def teacher_folders(teacher: str) -> list[Path]:
    """The run folders that ``TrainConfig.teacher`` names, separated by commas; [] for none."""
    return [Path(part) for part in comma_separated(teacher) if part]


def joint_sha256(sums: list[str]) -> str:
    """One checksum for the checksums of several weights files; that of a single one stays."""
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def check_teacher(config: TrainConfig, split: Split) -> list[Run]:
    """Hold the runs that ``config.teacher`` names against what a student may learn from.

    Args:
        config: of the student.
        split: of the student.

    Raises:
        DataError: one is no finished run.
        UsageError: one takes fields of another size, or it learned from fields that the student
            holds out: through its answers those would be learned after all.
    """
    folders = teacher_folders(config.teacher)
    if not folders:
        raise UsageError("bad_teacher", f"teacher {config.teacher!r} names no run folder")
    return [_checked(Run(folder), config, split) for folder in folders]


def _checked(run: Run, config: TrainConfig, split: Split) -> Run:
    theirs = run.config()
    if theirs.size != config.size:
        raise UsageError(
            "bad_teacher",
            f"{run.folder}: a teacher for fields of {theirs.size} px, not {config.size}; give "
            f"--size {theirs.size} or another --teacher",
        )
    done = run.folder / "done.json"
    if not done.is_file() or not (run.folder / "best.npz").is_file():
        raise DataError(
            "incomplete_run",
            f"{run.folder}: a teacher that is not trained to its end; finish it with: "
            f"allsub-edge train --resume {run.folder}",
        )
    _check_roles(run, theirs, config, split)
    return run


def load_teacher(config: TrainConfig, split: Split) -> Teacher | Ensemble:
    """Load the runs that ``config.teacher`` names; arguments, errors as :func:`check_teacher`."""
    loaded = [_loaded(run) for run in check_teacher(config, split)]
    return loaded[0] if len(loaded) == 1 else Ensemble(tuple(loaded))


def _loaded(run: Run) -> Teacher:
    # Imported here because the loop imports this module.
    from allsub_edge.training.loop import load_best

    network = build_network(dataclasses.replace(run.config(), weights="none"))
    load_best(network, run)
    weights = (run.folder / "best.npz").read_bytes()
    return Teacher(run, network, hashlib.sha256(weights).hexdigest())


def _check_roles(run: Run, theirs: TrainConfig, ours: TrainConfig, split: Split) -> None:
    learned = {"train", *(["validation"] if theirs.train_on_validation else [])}
    seen = {row.sha256 for row in read_split(run.split_path).rows if row.role in learned}
    open_roles = {"train", *(["validation"] if ours.train_on_validation else [])}
    leaked = [r for r in split.rows if r.role not in open_roles and r.sha256 in seen]
    if leaked:
        raise UsageError(
            "bad_teacher",
            f"{run.folder}: the teacher learned from {len(leaked)} fields that are held out here "
            f"({leaked[0].file} is for {leaked[0].role}); use the same split: "
            f"--split {run.split_path}",
        )


@keras.saving.register_keras_serializable(package="allsub_edge")
class DistillationLoss(keras.losses.Loss):  # type: ignore[misc]
    """``(1 - weight)`` x cross-entropy with the label + ``weight`` x T^2 x KL(teacher || student).

    The targets are float32 [N, 8]: the label one-hot, then the teacher's logits; predictions are
    logits [N, 4]. Both sides of the divergence are softened by the temperature T; T^2 keeps its
    gradients at the size of the other term.
    """

    def __init__(
        self, weight: float, temperature: float, label_smoothing: float, **options: Any
    ) -> None:
        super().__init__(**options)
        self.weight, self.temperature = weight, temperature
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss [N]; see the class."""
        ops = keras.ops
        label, teacher = y_true[:, : len(CLASSES)], y_true[:, len(CLASSES) :]
        hard = keras.losses.categorical_crossentropy(
            label, y_pred, from_logits=True, label_smoothing=self.label_smoothing
        )
        wanted = ops.log_softmax(teacher / self.temperature, axis=-1)
        found = ops.log_softmax(y_pred / self.temperature, axis=-1)
        soft = ops.sum(ops.exp(wanted) * (wanted - found), axis=-1) * self.temperature**2
        return (1 - self.weight) * hard + self.weight * soft

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "weight": self.weight,
            "temperature": self.temperature,
            "label_smoothing": self.label_smoothing,
        }
