"""Builds one backbone, trains it for two steps, saves it and loads it again; prints what it took.

    python -m tests.training.one_backbone NAME [VARIANT] [SIZE] [BATCH]

A process of its own for each, so that the peak memory is that of one network. VARIANT is
``mask_pool``, ``shared`` or ``separate`` (both fusion ``branches``). Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

VARIANTS = {
    "mask_pool": {"fusion": "mask_pool"},
    "shared": {"fusion": "branches", "shared": True},
    "separate": {"fusion": "branches", "shared": False},
}


def measure(name: str, variant: str, size: int, batch: int) -> dict[str, Any]:
    """Train ``name`` for two steps on rendered fields; raises if anything is not as it should."""
    import keras
    import numpy as np

    from allsub_edge.training.config import TrainConfig
    from allsub_edge.training.labelled import LabelledFields, predict_logits
    from allsub_edge.training.loop import Trainer, load_best
    from allsub_edge.training.network import build_network
    from allsub_edge.training.run import Run

    from .toy import toy_fields

    config = TrainConfig(
        backbone=name, cut="full", size=size, batch_size=batch, epochs=1, head_epochs=0,
        frozen_blocks=0, frozen_batch_norm=False, settle=0, augment="none", ema=0.0, dropout=0.0,
        **VARIANTS[variant],
    )  # fmt: skip
    keras.utils.set_random_seed(1)
    started = time.monotonic()
    network = build_network(config)
    built = time.monotonic()
    fields, masks, labels = toy_fields(each=batch // 2, size=size)
    before = network.model.get_weights()
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        data = LabelledFields(fields, masks, labels)
        history = Trainer(network, run, data, None).fit(lambda *_: times.append(time.monotonic()))
        trained = time.monotonic()
        saved = (run.folder / "best.npz").stat().st_size
        answers = predict_logits(network, fields[:4], batch_size=4)
        network.model.set_weights(before)
        load_best(network, run)
        again = predict_logits(network, fields[:4], batch_size=4)
    assert len(times) == 2 and np.isfinite(history[0]["loss"]), history
    assert np.isfinite(answers).all() and np.array_equal(answers, again)
    moved = [
        not np.array_equal(a, b) for a, b in zip(before, network.model.get_weights(), strict=True)
    ]
    assert np.mean(moved) > 0.9, f"only {sum(moved)} of {len(moved)} arrays changed"
    return {
        "backbone": name,
        "variant": variant,
        "size": size,
        "batch": batch,
        "parameters": network.core.count_params(),
        "build_s": round(built - started, 1),
        "first_step_s": round(times[0] - built, 1),
        "second_step_s": round(times[1] - times[0], 2),
        "save_and_all_s": round(trained - started, 1),
        "saved_mb": round(saved / 1e6, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.training.one_backbone")
    parser.add_argument("name")
    parser.add_argument("variant", nargs="?", choices=VARIANTS, default="mask_pool")
    parser.add_argument("size", nargs="?", type=int, default=96)
    parser.add_argument("batch", nargs="?", type=int, default=4)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print(json.dumps(measure(**vars(parser.parse_args()))))
