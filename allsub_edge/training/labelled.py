"""Fields with their labels, the same in other light, and what a network says of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allsub_edge.training.batches import even_batches
from allsub_edge.training.network import TwoChannelNetwork
from allsub_edge.training.perturb import random_gains


@dataclass(frozen=True)
class LabelledFields:
    """Fields uint8 [N, S, S, 3], their white cells uint8 [N, S, S] and labels int64 [N].

    The masks are those of recipe ``cells`` whatever the network uses: augmentation needs the true
    cells when it changes what is behind them.
    """

    fields: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def predict_logits(
    network: TwoChannelNetwork, fields: npt.NDArray[np.uint8], batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """Logits float32 [N, 4] of fields uint8 [N, S, S, 3], batch by batch."""
    parts = [
        np.asarray(network.model.predict_on_batch(network.channels(batch)), dtype=np.float32)
        for batch in even_batches(fields, batch_size)
    ]
    return np.concatenate(parts)[: len(fields)]


def shifted_fields(
    fields: npt.NDArray[np.uint8], spread: float, seed: int
) -> npt.NDArray[np.uint8]:
    """The same fields, each channel's gain drawn from ``1 +- spread`` (fixed by ``seed``)."""
    rng = np.random.default_rng(seed)
    return np.stack([random_gains(f, spread, rng) for f in fields])
