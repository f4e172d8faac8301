"""A data folder of rendered fields and toy runs on it, made once for all tests here.

All have the scope of this package: what they patch is as it was when the tests elsewhere run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

from allsub_edge.atomic import write_bytes
from allsub_edge.classes import CLASSES
from allsub_edge.imaging.draw import encode_png
from allsub_edge.imaging.render import render_field
from allsub_edge.training import backbones
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.dataset import read_dataset
from allsub_edge.training.groups import assign_groups
from allsub_edge.training.run import Run
from allsub_edge.training.split import make_split, write_split
from allsub_edge.training.train import train
from tests.training.toy import TOY

EACH = 12

CONFIG = TrainConfig(
    backbone="toy",
    size=64,
    epochs=4,
    patience=4,
    head_epochs=0,
    batch_size=8,
    frozen_blocks=0,
    frozen_batch_norm=False,
    dense=8,
    dropout=0.0,
    learning_rate=5e-3,
    warmup_steps=2,
    augment="none",
    ema=0.5,
)


@pytest.fixture(scope="package")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve rendered fields of each class; an image's content depends on class and number."""
    folder = tmp_path_factory.mktemp("evaluation") / "data"
    for label in CLASSES:
        for number in range(1, EACH + 1):
            image = encode_png(render_field(number, label))
            write_bytes(folder / label / f"WBC-{label}-{number:03d}.png", image)
    return folder


@pytest.fixture(scope="package")
def split_file(data: Path) -> Path:
    samples = read_dataset(data)
    groups = assign_groups(samples, [], block=2)
    shares = {"test": 0.34, "validation": 0.17, "calibration": 0.17}
    path = data.parent / "split.csv"
    write_split(make_split(samples, groups, seed=1, fractions=shares), path)
    return path


@pytest.fixture(scope="package", autouse=True)
def _toy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "toy", TOY)
        # Batches are filled up to this; the test role of the toy data is far smaller.
        patch.setattr("allsub_edge.evaluation.subject.BATCH", 16)
        yield


def _trained(folder: Path, data: Path, split: Path, config: TrainConfig) -> Path:
    train(data, folder, config, split_file=split, say=lambda line: None)
    # Rendered fields are far from smears; without limits every field would be called unfit.
    run = Run(folder)
    stored = run.read_json("calibration.json")
    run.write_json("calibration.json", {**stored, "quality": {}, "domain_threshold": None})
    return folder


@pytest.fixture(scope="package")
def run(data: Path, split_file: Path, _toy: None) -> Path:
    """A finished toy run, fusion mask_pool."""
    return _trained(data.parent / "toy-run", data, split_file, CONFIG)


@pytest.fixture(scope="package")
def branches_run(data: Path, split_file: Path, _toy: None) -> Path:
    """A finished toy run, fusion branches, of another seed."""
    config = dataclasses.replace(CONFIG, fusion="branches", seed=2)
    return _trained(data.parent / "toy-branches", data, split_file, config)


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels, probabilities and groups of 60 fields, with mistakes that lie in few groups."""
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(4), 15)
    groups = [f"{label}-{i // 5}" for i, label in enumerate(labels)]
    logits = rng.normal(0, 1, (60, 4)) + 4 * np.eye(4)[labels]
    logits[7:10] += 6 * np.eye(4)[2]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, probabilities.astype(np.float32), groups
