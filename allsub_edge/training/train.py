"""One training from a data folder to a finished run: train, calibrate, evaluate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from allsub_edge.errors import DataError
from allsub_edge.training import calibrate
from allsub_edge.training.batches import even_batches
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.distill import load_teacher
from allsub_edge.training.imitate import IMITATED, imitate
from allsub_edge.training.labelled import LabelledFields, predict_logits, shifted_fields
from allsub_edge.training.loop import Progress, Trainer, has_checkpoint, load_best
from allsub_edge.training.metrics import summarise
from allsub_edge.training.network import TwoChannelNetwork, build_network
from allsub_edge.training.quality_fit import fit_quality
from allsub_edge.training.run import Run
from allsub_edge.training.session import Say, Session, make_masks, open_session
from allsub_edge.training.shortcuts import background_baseline

ALPHA = 0.05
"""Prediction sets miss the true class in at most this share of fields of each class."""

DOMAIN_QUANTILE = 0.99
"""Share of calibration fields whose domain distance the threshold lets pass before the margin."""

DOMAIN_MARGIN = 1.15
"""The threshold is widened by this factor, since calibration slides are few."""


def train(
    data: Path,
    out: Path,
    config: TrainConfig,
    *,
    split_file: Path | None = None,
    progress: Progress | None = None,
    say: Say = print,
) -> Run:
    """Train, calibrate and evaluate; continues where an earlier call on ``out`` stopped.

    Args:
        data: folder with the class folders, or with ``Original`` above them.
        out: run folder; made if absent. A run that was begun here is continued, and ``config``
            must then be the one it was begun with.
        config: what to train.
        split_file: a split to use; made by groups of neighbouring file numbers if absent.
        progress: called after each step.
        say: takes one line for each stage.

    Raises:
        DataError, UsageError: see the message.
    """
    run = Run(out)
    keras.utils.set_random_seed(config.seed)
    needed = ["calibration", "test"]
    if not config.train_on_validation:
        needed.insert(0, "validation")
    session = open_session(data, run, config, split_file, say, needed)
    network = fit(
        session, None if config.train_on_validation else session.part("validation"), progress, say
    )
    say("calibrating")
    fit_after_training(session, network)
    say("evaluating on the test role")
    run.write_json("evaluation.json", evaluate(session, network))
    return run


def fit(
    session: Session,
    validation: LabelledFields | None,
    progress: Progress | None = None,
    say: Say = print,
) -> TwoChannelNetwork:
    """Train the session's network, from where it was left, unless that is done.

    Args:
        session: what to train on; its configuration says how.
        validation: fields that choose the epoch; without them the last one is kept.
        progress: called after each step.
        say: takes one line for each stage.

    Returns:
        The network in float32 with the averaged weights of the best epoch.

    Raises:
        DataError, UsageError: the starting weights, the teacher or the run are not usable.
    """
    config, run = session.config, session.run
    bare = replace(config, weights="none")
    if (run.folder / "done.json").is_file():
        network = build_network(bare)
    else:
        teacher = load_teacher(config, session.split) if config.teacher else None
        began = run.read_json("config.json").get("sources", {}).get("teacher")
        if teacher is not None and began != teacher.sha256:
            raise DataError(
                "teacher_changed",
                f"{config.teacher}: not the weights that {run.folder} began with; bring them back "
                "or begin a new run",
            )
        # A checkpoint replaces every weight, so a run can go on where its starting weights are not.
        start = bare if has_checkpoint(run) else config
        network = build_network(start, precision=config.precision)
        say(
            f"training {config.backbone} ({config.cut}), fusion {config.fusion}, "
            f"{network.model.count_params():,} parameters"
        )
        trained = session.trained()
        if start.weights != "none":
            imitate(network, run, trained, say)
        Trainer(replace(network, config=config), run, trained, validation, teacher).fit(progress)
        (run.folder / IMITATED).unlink(missing_ok=True)
        run.write_json("done.json", {"finished": True})
        if config.precision != "float32":
            network = build_network(bare)
    load_best(network, run)
    return network


def fit_after_training(session: Session, network: TwoChannelNetwork) -> None:
    """Temperature, conformal, domain and quality thresholds; never from test fields."""
    held, trained = session.part("calibration"), session.trained()
    logits = predict_logits(network, held.fields)
    temperature = calibrate.fit_temperature(held.labels, logits)
    probabilities = calibrate.softmax(logits / np.float32(temperature))
    domain = calibrate.fit_domain(trained.labels, features_of(network, trained.fields))
    distance = domain.distance(features_of(network, held.fields))
    session.run.write_arrays("domain.npz", domain.to_arrays())
    session.run.write_json(
        "calibration.json",
        {
            "temperature": temperature,
            "alpha": ALPHA,
            "conformal": calibrate.fit_conformal(held.labels, probabilities, ALPHA),
            "domain_threshold": round(
                float(np.quantile(distance, DOMAIN_QUANTILE)) * DOMAIN_MARGIN, 5
            ),
            "quality": fit_quality(held.fields, make_masks(held.fields, session.config.recipe)),
            "fields": len(held.labels),
        },
    )


def evaluate(session: Session, network: TwoChannelNetwork) -> dict[str, Any]:
    """Metrics on the test role: plain, and with each channel's gain changed at random."""
    test, trained = session.part("test"), session.trained()
    temperature = session.run.read_json("calibration.json")["temperature"]

    def measure(fields: npt.NDArray[np.uint8]) -> dict[str, Any]:
        logits = predict_logits(network, fields)
        return summarise(test.labels, calibrate.softmax(logits / np.float32(temperature)))

    return {
        "protocol": session.split.protocol,
        "role": "test",
        "plain": measure(test.fields),
        "gains_10": measure(shifted_fields(test.fields, 0.10, seed=10)),
        "gains_20": measure(shifted_fields(test.fields, 0.20, seed=20)),
        "shortcut_background_colour": background_baseline(
            trained.fields, trained.labels, test.fields, test.labels
        ),
    }


def features_of(
    network: TwoChannelNetwork, fields: npt.NDArray[np.uint8], batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """Features before the dense block, float32 [N, F], of fields uint8 [N, S, S, 3]."""
    parts = [
        np.asarray(network.core.predict_on_batch(network.channels(batch))[1])
        for batch in even_batches(fields, batch_size)
    ]
    return np.concatenate(parts)[: len(fields)]
