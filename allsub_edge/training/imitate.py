"""Blocks that the starting weights do not have learn to give what the blocks there give.

Before a network is trained for its task, each new block is held against the old one on the training
fields, without their labels (as a student's layers against a teacher's in "FitNets", Romero et al.,
ICLR 2015, arXiv 1412.6550). Every block sees what the new blocks before it make, so that what one
gets wrong the next may mend.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.training.augment import Augmenter
from allsub_edge.training.backbones import get_backbone
from allsub_edge.training.batches import epoch_batches, steps_per_epoch
from allsub_edge.training.labelled import LabelledFields
from allsub_edge.training.network import TwoChannelNetwork
from allsub_edge.training.run import Run
from allsub_edge.training.starting_weights import resolve

IMITATED: Final = "imitated.npz"
"""What was learned so, as long as the training after it goes on."""

PEAK: Final = 4e-2
"""Learning rate at the beginning; it falls to nothing as half a cosine. High, because every new
layer has a batch norm behind it: with 3e-3 the same steps left three times as much unlike."""

WARM_UP: Final = 50
"""Steps over which it rises."""

BATCH: Final = 4
"""Fields in a step. Their maps have positions enough, and many steps do more than large ones."""

SOME: Final = 32
"""Fields that show how much each channel varies, and what is reached."""

APART: Final = 1_000_000
"""Added to an epoch's number, so that its draws are not those of the training."""


class Unlike(keras.layers.Layer):  # type: ignore[misc]
    """How far a map is from another: squared differences in units of the channel's variance.

    Call with two [N, h, w, C]; returns float32 [N], 0 for equal maps and 1 for a map that knows no
    more than the mean of each channel.

    Args:
        variance: float32 [C], of the channels of the second map.
    """

    def __init__(self, variance: npt.NDArray[np.float32], **options: Any) -> None:
        super().__init__(dtype="float32", **options)
        self._weight = (1 / np.maximum(variance, 1e-6)).astype(np.float32)

    def call(self, maps: Any) -> Any:
        """Compare; see the class."""
        ours, theirs = maps
        squares = keras.ops.square(ours - keras.ops.stop_gradient(theirs))
        return keras.ops.mean(squares * self._weight, axis=(1, 2, 3))


def imitate(
    network: TwoChannelNetwork,
    run: Run,
    trained: LabelledFields,
    say: Callable[[str], None] = print,
) -> list[float]:
    """Let the new blocks of a network's extractors learn, if it has any.

    Args:
        network: with its starting weights; only those blocks change, in all extractors alike.
        run: holds what was learned, and what an earlier call left there is taken up.
        trained: the fields.
        say: takes one line for each epoch.

    Returns:
        For each new block, how unlike its map is at the end (:class:`Unlike`); nothing if there is
        no such block, no epoch, or what an earlier call left.
    """
    config, backbone = network.config, network.backbone
    if not backbone.imitates or not config.imitation_epochs:
        return []
    first, *others = network.extractors
    if (run.folder / IMITATED).is_file():
        stored = run.read_arrays(IMITATED)
        first.set_weights([stored[key] for key in sorted(stored)])
        unlike: list[float] = []
    else:
        old = get_backbone(backbone.starts_from)
        original = old.build(config.size, config.cut, "original")
        weights = resolve(config.weights, config.backbone)
        assert weights is not None
        old.load(original, weights, config.cut)
        say(f"{len(backbone.imitates)} blocks learn from those of {old.name}")
        unlike = _learn(network, original, trained, say)
        arrays = first.get_weights()
        run.write_arrays(IMITATED, {f"w{i:04d}": w for i, w in enumerate(arrays)})
    for other in others:
        other.set_weights(first.get_weights())
    return unlike


def _learn(
    network: TwoChannelNetwork,
    original: Any,
    trained: LabelledFields,
    say: Callable[[str], None],
) -> list[float]:
    """Train the new blocks of the first extractor; returns what :func:`imitate` does."""
    extractor, blocks = network.extractors[0], network.backbone.imitates
    for layer in extractor.layers:
        layer.trainable = network.backbone.is_own(layer.name)
    ends = [_layers(extractor, block)[-1].name for block in blocks]
    ours = keras.Model(extractor.input, [extractor.get_layer(end).output for end in ends])
    theirs = keras.Model(original.input, [original.get_layer(end).output for end in ends])
    theirs.trainable = False
    _start_alike(extractor, original, blocks)

    epochs = network.config.imitation_epochs
    steps = steps_per_epoch(len(trained.fields), BATCH)
    batches = _batches(network, trained)
    some = network.channels(trained.fields[:: max(1, len(trained.fields) // SOME)][:SOME])[0]
    field = keras.Input(extractor.input.shape[1:])
    made = zip(_listed(ours(field)), _listed(theirs(field)), _variances(theirs, some), strict=True)
    model = keras.Model(
        field, keras.ops.stack([Unlike(variance)([a, b]) for a, b, variance in made], axis=-1)
    )
    model.compile(
        optimizer=keras.optimizers.Adam(PEAK, global_clipnorm=1.0),
        loss=lambda _, unlike: keras.ops.sum(unlike, axis=-1),
        jit_compile=False,
    )
    for epoch in range(epochs):
        losses = []
        for step, shown in enumerate(itertools.islice(batches, steps), epoch * steps):
            rate = PEAK * min(1.0, (step + 1) / WARM_UP)
            rate *= 0.5 * (1 + math.cos(math.pi * step / (epochs * steps)))
            model.optimizer.learning_rate.assign(rate)
            nothing = np.zeros((len(shown), len(ends)), np.float32)
            losses.append(float(np.ravel(model.train_on_batch(shown, nothing))[0]))
        mean = np.mean(losses) / len(ends)
        say(f"imitation, epoch {epoch + 1} of {epochs}: {100 * mean:.1f} % unlike")
    unlike = np.asarray(model.predict_on_batch(some))
    return [float(value) for value in unlike.mean(axis=0)]


def _layers(model: Any, block: str) -> list[Any]:
    """The layers of a block, in order."""
    return [layer for layer in model.layers if re.search(block, layer.name)]


def _start_alike(extractor: Any, original: Any, blocks: tuple[str, ...]) -> None:
    """Give each new block's last batch norm the size of the old one's channels.

    These differ by a factor of a hundred; from 1 they would take most of the steps.
    """
    for block in blocks:
        new, old = (
            [
                layer
                for layer in _layers(model, block)
                if isinstance(layer, keras.layers.BatchNormalization)
            ][-1]
            for model in (extractor, original)
        )
        new.gamma.assign(old.gamma)
        new.beta.assign(old.beta)


def _batches(
    network: TwoChannelNetwork, trained: LabelledFields
) -> Iterator[npt.NDArray[np.float32]]:
    """The first channel float32 [B, S, S, 3] of augmented fields, epoch by epoch."""
    config = network.config
    augmenter = Augmenter(
        config.augmenting(), donors=list(zip(trained.fields, trained.masks, strict=True))
    )
    for epoch in range(config.imitation_epochs):
        for batch in epoch_batches(
            trained.fields,
            trained.masks,
            trained.labels,
            augmenter,
            network.channels,
            seed=config.seed,
            epoch=APART + epoch,
            batch_size=BATCH,
        ):
            yield batch.channels[0]


def _variances(model: Any, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    maps = _listed(model.predict_on_batch(batch))
    return [np.asarray(one, np.float32).var(axis=(0, 1, 2)) for one in maps]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
