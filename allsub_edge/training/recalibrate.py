"""Batch-norm statistics measured anew on the fields at hand, before training begins.

Starting weights carry the statistics of the images they were trained on; smears are unlike them,
and statistics that went through quantisation are not even right for those.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.training.batches import even_batches
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
    norms = [
        layer
        for extractor in network.extractors
        for layer in extractor.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
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
            _pass(network, network.channels(batch))
    finally:
        for layer, trainable, momentum in kept:
            layer.trainable, layer.momentum = trainable, momentum


def _pass(network: TwoChannelNetwork, channels: tuple[Any, Any]) -> None:
    original, second = channels
    if network.config.fusion == "branches" and network.config.shared:
        # One pass over both channels: two would make the later one count more.
        original = np.concatenate([original, second])
    network.extractors[0](original, training=True)
    if len(network.extractors) > 1:
        network.extractors[1](second, training=True)
