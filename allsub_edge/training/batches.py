"""Training batches, augmented in the background and the same whenever they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.training.augment import Augmenter, sample_rng

Fields = npt.NDArray[np.uint8]


Channels = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""The two inputs of the network's core."""

Prepare = Callable[[Fields], Channels]
"""Fields uint8 [B, S, S, 3] to channels; ``TwoChannelNetwork.channels``."""


@dataclass(frozen=True)
class Batch:
    """One step's input: the channels of B fields and their labels int64 [B].

    ``teacher`` holds what a teacher wants of the same fields, if there is one.
    """

    channels: Channels
    labels: npt.NDArray[np.int64]
    teacher: Any = None


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in ``count`` fields, at least one."""
    return max(1, count // batch_size)


def even_batches(fields: Fields, batch_size: int) -> Iterator[Fields]:
    """Fields [N, S, S, 3] in batches of one size.

    The last one is filled up with copies of its last field, which the caller cuts off: a network
    is compiled anew for every batch size, at ten seconds each.
    """
    for start in range(0, len(fields), batch_size):
        batch = fields[start : start + batch_size]
        short = batch_size - len(batch)
        yield np.concatenate([batch, np.repeat(batch[-1:], short, axis=0)]) if short else batch


def epoch_batches(
    fields: Fields,
    masks: Fields,
    labels: npt.NDArray[np.int64],
    augmenter: Augmenter,
    prepare: Prepare,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    teacher: Callable[[Fields], Any] | None = None,
    ahead: int = 3,
) -> Iterator[Batch]:
    """Shuffle and augment the training fields once.

    The order depends on ``(seed, epoch)`` and each field's augmentation on
    ``(seed, epoch, index)`` alone, so a resumed training sees what an unbroken one would have.
    Batches are made by one thread, up to ``ahead`` of them before they are needed: OpenCV lets
    go of the interpreter's lock, so this hides behind the training step.

    Args:
        fields: uint8 [N, S, S, 3].
        masks: uint8 [N, S, S], cell masks of the recipe.
        labels: int64 [N].
        augmenter: how to change a field.
        prepare: what the network's core is given of the changed fields.
        seed: of the training.
        epoch: number of this epoch.
        batch_size: fields per batch. What does not fill a batch is left out of this epoch; the
            order changes with the epoch, so that hits other fields each time.
        teacher: what a teacher is given of the same changed fields.
        ahead: batches prepared in advance.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(fields))

    def make(chosen: npt.NDArray[np.int64]) -> Batch:
        changed = [
            augmenter(fields[i], sample_rng(seed, epoch, int(i)), mask=masks[i]) for i in chosen
        ]
        stacked = np.stack(changed)
        return Batch(prepare(stacked), labels[chosen], teacher(stacked) if teacher else None)

    starts = range(0, steps_per_epoch(len(order), batch_size) * batch_size, batch_size)
    chosen = [order[start : start + batch_size] for start in starts]
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: list[Future[Batch]] = [pool.submit(make, part) for part in chosen[:ahead]]
        for part in chosen[ahead:]:
            yield waiting.pop(0).result()
            waiting.append(pool.submit(make, part))
        for future in waiting:
            yield future.result()
