from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

import keras

from allsub_edge.errors import DataError
from allsub_edge.training import backbones
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.labelled import predict_logits
from allsub_edge.training.loop import load_best
from allsub_edge.training.network import build_network
from allsub_edge.training.run import Run

from .toy import TOY, toy_fields
from .toy_training import kept_weights, toy_trainer, train_until

CONFIG = TrainConfig(
    backbone="toy",
    size=64,
    epochs=6,
    head_epochs=1,
    batch_size=8,
    frozen_blocks=1,
    frozen_batch_norm=False,
    dense=8,
    learning_rate=3e-3,
    augment="mild",
    dropout=0.0,
    patience=10,
)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = toy_trainer(tmp_path / "whole", CONFIG).fit()

    train_until(tmp_path / "killed", CONFIG, 0, 2)  # before the first checkpoint
    train_until(tmp_path / "killed", CONFIG, 1, 1)  # in the first step of fine-tuning
    train_until(tmp_path / "killed", CONFIG, 2, 3)
    resumed = toy_trainer(tmp_path / "killed", CONFIG).fit()
    assert [e["epoch"] for e in resumed] == list(range(6))
    assert [e["loss"] for e in resumed] == [e["loss"] for e in whole]
    for a, b in zip(
        kept_weights(tmp_path / "whole"), kept_weights(tmp_path / "killed"), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_a_kill_before_the_last_line_of_the_history_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, epochs=2)
    write = Run.write_json

    def killed(run: Run, name: str, value: list[object]) -> None:
        if name == "history.json" and len(value) == 2:
            raise KeyboardInterrupt
        write(run, name, value)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "write_json", killed)
        toy_trainer(tmp_path, config).fit()
    assert len(Run(tmp_path).read_json("history.json")) == 1
    toy_trainer(tmp_path, config).fit()
    assert [entry["epoch"] for entry in Run(tmp_path).read_json("history.json")] == [0, 1]


def test_training_learns_and_leaves_frozen_parts_alone(tmp_path: Path) -> None:
    # So few steps teach little: with settled statistics the first epoch would be kept.
    trainer = toy_trainer(tmp_path, replace(CONFIG, settle=0))
    extractor = trainer.network.extractors[0]
    first = extractor.get_layer("extractor_original.0.conv").get_weights()[0].copy()
    later = extractor.get_layer("extractor_original.2.conv").get_weights()[0].copy()
    history = trainer.fit()
    assert history[-1]["loss"] < history[0]["loss"]
    assert [e["phase"] for e in history] == ["head", *["fine-tune"] * 5]
    np.testing.assert_array_equal(
        extractor.get_layer("extractor_original.0.conv").get_weights()[0], first
    )
    assert not np.array_equal(
        extractor.get_layer("extractor_original.2.conv").get_weights()[0], later
    )


@pytest.mark.parametrize("fusion", ["mask_pool", "branches"])
def test_the_second_channel_reaches_the_answer(fusion: str) -> None:
    config = TrainConfig(**{**CONFIG.to_dict(), "fusion": fusion})
    keras.utils.set_random_seed(1)
    network = build_network(config)
    assert len(network.extractors) == (2 if fusion == "branches" else 1)
    fields, masks, _ = toy_fields(each=1)
    original, segmented, mask = network.prepare(fields.astype(np.float32))
    second = segmented if fusion == "branches" else mask
    for mine, graph in zip(network.channels(fields), (original, second), strict=True):
        np.testing.assert_array_equal(mine, np.asarray(graph))
    np.testing.assert_array_equal(np.asarray(mask)[..., 0], masks)
    with_cells, _ = network.core([original, second], training=False)
    without, _ = network.core([original, keras.ops.zeros_like(second)], training=False)
    assert float(np.abs(np.asarray(with_cells) - np.asarray(without)).max()) > 1e-3
    np.testing.assert_allclose(
        predict_logits(network, fields, batch_size=3), np.asarray(with_cells), atol=1e-4
    )


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_arrays("best.npz", {"w0000": np.zeros(3, np.float32)})
    with pytest.raises(DataError, match="another network"):
        load_best(build_network(CONFIG), run)
    path = tmp_path / "best.npz"
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole.replace(b"NUMPY", b"NVMPY")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"best\.npz: unreadable"):
            load_best(build_network(CONFIG), run)
    with pytest.raises(DataError, match="--resume"):
        load_best(build_network(CONFIG), Run(tmp_path / "empty"))
