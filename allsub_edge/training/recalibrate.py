"""Batch-norm statistics measured anew on the fields at hand.

Before training: starting weights carry the statistics of the images they were trained on; smears
are unlike them, and statistics that went through quantisation are not even right for those.

While training, where batch norms learn too: the running statistics of Keras start at variance 1 and
forget it by a factor of 0.99 a step. After the 300 steps of a short training 5 % of that 1 are
left, which is many times the true variance of a linear convolution, and the network that answered
98 % of its batches right answers one class for everything. Averaging the weights adds to it:
averaged statistics are not those of the averaged weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.training.batches import Channels, even_batches
from allsub_edge.training.network import TwoChannelNetwork


def recalibrate(
    network: TwoChannelNetwork, fields: npt.NDArray[np.uint8], *, batch_size: int = 32
) -> None:
    """Set moving means and variances of the extractors to their averages over ``fields``.

    Each batch runs in training mode, so every layer sees what the ones before it make of their own
    batch statistics, and the plain average over the batches is kept ("precise" statistics; Wu and
    Johnson, "Rethinking batch in batch normalization", 2021). No other weight changes.

    Args:
        network: its ``extractors`` are changed.
        fields: uint8 [N, S, S, 3].
        batch_size: fields per batch; the last one is filled up with copies.
    """
    _average(_norms(network), network, fields, batch_size, _through_extractors)


def settle(
    network: TwoChannelNetwork, fields: npt.NDArray[np.uint8], *, batch_size: int = 32
) -> None:
    """Set the statistics of every batch norm that learns to those of the weights now in it.

    As :func:`recalibrate`, but frozen batch norms keep theirs, since the layers behind them learned
    with those; and afterwards the batch norm before the dense block follows, on what the
    extractors then answer.

    Args:
        network: its batch norms are changed.
        fields: uint8 [N, S, S, 3]; training fields as they are, not augmented.
        batch_size: fields per batch; the last one is filled up with copies.
    """
    learning = [layer for layer in _norms(network) if layer.trainable]
    _average(learning, network, fields, batch_size, _through_extractors)
    _average([_last_norm(network)], network, fields, batch_size, _through_last_norm)


def _norms(network: TwoChannelNetwork) -> list[Any]:
    return [
        layer
        for extractor in network.extractors
        for layer in extractor.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


def _average(
    norms: list[Any],
    network: TwoChannelNetwork,
    fields: npt.NDArray[np.uint8],
    batch_size: int,
    go: Callable[[TwoChannelNetwork, Channels], None],
) -> None:
    """Let ``norms`` average their statistics over the batches that ``go`` sends through them."""
    if not norms or not len(fields):
        return
    kept = [(layer, layer.trainable, layer.momentum) for layer in norms]
    try:
        for layer in norms:
            layer.trainable = True  # a frozen batch norm never updates
        for number, batch in enumerate(even_batches(fields, min(batch_size, len(fields)))):
            for layer in norms:
                # The plain average of all batches; the first one replaces the old statistics.
                layer.momentum = number / (number + 1)
            go(network, network.channels(batch))
    finally:
        for layer, trainable, momentum in kept:
            layer.trainable, layer.momentum = trainable, momentum


def _through_extractors(network: TwoChannelNetwork, channels: Channels) -> None:
    original, second = channels
    if network.config.fusion == "branches" and network.config.shared:
        # One pass over both channels: two would make the later one count more.
        original = np.concatenate([original, second])
    network.extractors[0](original, training=True)
    if len(network.extractors) > 1:
        network.extractors[1](second, training=True)


def _last_norm(network: TwoChannelNetwork) -> Any:
    return network.core.get_layer("features_norm")


def _through_last_norm(network: TwoChannelNetwork, channels: Channels) -> None:
    _, features = network.core.predict_on_batch(channels)
    _last_norm(network)(features, training=True)
