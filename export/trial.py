"""Every format of any backbone with random weights: does it convert, run and stay the same?

    python -m allsub_edge.export.trial BACKBONE [--cut CUT] [--fusion FUSION] [--formats all]
        [--fields 8] [--out DIR]

Nothing is trained. Fresh weights would answer 0.25 four times whatever is wrong, so the batch norms
get the statistics of rendered fields and the last layer is scaled until answers differ. The trained
network's own answers stand in for labels, so the column `accuracy` is agreement. Time of each
format and the peak memory of the whole process are printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES


def live_network(config: Any, fields: npt.NDArray[np.uint8]) -> Any:
    """Build a network whose answers differ from field to field.

    Every batch norm gets the mean and variance of its own input over ``fields``, layer by layer in
    one forward pass in training mode with momentum 0, and the logits are scaled to a standard
    deviation of 2 over the fields.

    Args:
        config: a ``TrainConfig``.
        fields: uint8 [N, S, S, 3], different ones.
    """
    import keras

    from allsub_edge.training.network import build_network

    keras.utils.set_random_seed(config.seed)
    network = build_network(config)
    norms = [
        layer
        for model in (*network.extractors, network.core)
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    before = [(layer.momentum, layer.trainable) for layer in norms]
    for layer in norms:
        layer.momentum, layer.trainable = 0.0, True
    channels = list(network.channels(fields))
    network.core(channels, training=True)
    for layer, (momentum, trainable) in zip(norms, before, strict=True):
        layer.momentum, layer.trainable = momentum, trainable
    logits = np.asarray(network.core(channels, training=False)[0])
    last = network.core.get_layer("logits")
    kernel, _ = last.get_weights()
    spread = logits.std(axis=0).mean()
    scale = 2.0 / max(float(spread), 1e-6)
    last.set_weights([kernel * scale, -logits.mean(axis=0) * scale])
    return network


def trial_subject(config: Any, count: int) -> Any:
    """A ``pipeline.Subject`` around a live network; ``count`` rendered fields for each role."""
    from allsub_edge.export.about import network_entries
    from allsub_edge.export.pipeline import Material, Subject
    from allsub_edge.imaging.render import render_field

    def draw(first: int) -> npt.NDArray[np.uint8]:
        return np.stack([render_field(first + i, CLASSES[i % len(CLASSES)]) for i in range(count)])

    calibration, test = draw(1), draw(1001)
    network = live_network(config, calibration)
    logits, features = (np.asarray(x) for x in network.core(list(network.channels(test))))
    spread = features.std(axis=0) + 0.1 * np.abs(features).mean() + 1e-6
    directions = min(16, features.shape[1])
    whiten = (np.eye(features.shape[1], directions) / spread[:, None]).astype(np.float32)
    centre = features.mean(axis=0)
    domain = {
        "centre": centre,
        "whiten": whiten,
        # Beside the fields, so that every distance is well above nought: errors are relative.
        "means": np.stack([np.full(directions, 0.5 + i, np.float32) for i in range(4)]),
    }
    about = {
        **network_entries(config),
        "calibration": {
            "temperature": 1.0,
            "alpha": 0.1,
            "conformal": None,
            "domain_threshold": None,
            "quality": {},
        },
        "training": {
            "data_fingerprint": "none",
            "split_sha256": "none",
            "protocol": "random weights",
            "seed": config.seed,
        },
        "metrics": {},
        "licence": "Apache-2.0",
    }
    material = Material(calibration, test, logits.argmax(axis=1).astype(np.int64))
    return Subject(network, 1.0, domain, material, about)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns 0, or 1 if a format was not written."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("backbone")
    parser.add_argument("--cut", default="full", help="[%(default)s]")
    parser.add_argument("--fusion", default="branches", choices=("branches", "mask_pool"))
    parser.add_argument("--recipe", default="cells", help="[%(default)s]")
    parser.add_argument("--shared", action="store_true", help="one extractor for both branches")
    parser.add_argument("--formats", default="all", help="as allsub-edge export [%(default)s]")
    parser.add_argument("--fields", type=int, default=8, help="of each role [%(default)s]")
    parser.add_argument("--out", type=Path, help="keep the files here")
    args = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from allsub_edge.export.formats import chosen
    from allsub_edge.export.measure import peak_mib
    from allsub_edge.export.pipeline import Gate, Plan, export_subject
    from allsub_edge.export.table import WRITTEN, text_table
    from allsub_edge.training.config import TrainConfig

    started = perf_counter()
    config = TrainConfig(
        backbone=args.backbone,
        cut=args.cut,
        fusion=args.fusion,
        shared=args.shared,
        recipe=args.recipe,
        dropout=0.0,
        weights="none",
    )
    subject = trial_subject(config, args.fields)
    count = sum(extractor.count_params() for extractor in subject.network.extractors)
    print(
        f"{args.backbone}/{args.cut}, {args.fusion}: {count / 1e6:.1f} million parameters",
        flush=True,
    )
    # Random weights tell nothing about accuracy, so only a wrong mask or a crash is refused.
    plan = Plan(
        name=args.backbone, version="0", formats=chosen(args.formats), gate=Gate(1.0, False)
    )

    def say(line: str) -> None:
        print(f"{perf_counter() - started:6.0f} s  {peak_mib() or 0:6.0f} MiB  {line}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        rows = export_subject(subject, plan, args.out or Path(folder), say)
        print(f"\n{text_table(rows)}")
    say("done")
    return 0 if all(row.status == WRITTEN for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
