"""Fused blocks learn from the blocks whose work they do, and only they."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

import keras

from allsub_edge.errors import UsageError
from allsub_edge.training import imitate as imitation
from allsub_edge.training import train as training
from allsub_edge.training.backbones import get_backbone
from allsub_edge.training.config import TrainConfig
from allsub_edge.training.fused_lite import FUSED
from allsub_edge.training.imitate import IMITATED, Unlike, imitate
from allsub_edge.training.labelled import LabelledFields
from allsub_edge.training.network import TwoChannelNetwork, build_network
from allsub_edge.training.run import Run
from allsub_edge.training.session import Session
from allsub_edge.training.split import Split

from .toy import toy_fields

BACKBONE = get_backbone("fused_lite0")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lite0 with weights of no training, but as alive as trained ones."""
    keras.utils.set_random_seed(3)
    whole = get_backbone(BACKBONE.starts_from).build(64, "full", "whole")
    rng = np.random.default_rng(3)
    for layer in whole.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(0.5, 2.0, layer.gamma.shape))
            layer.beta.assign(rng.uniform(-0.5, 1.0, layer.beta.shape))
            layer.momentum = 0.0
    fields, _, _ = toy_fields(each=4)
    whole(fields.astype(np.float32) / 128 - 1, training=True)  # statistics that fit the weights
    path = tmp_path_factory.mktemp("lite0") / "lite0.weights.h5"
    whole.save_weights(path)
    return path


def config_of(weights: Path, **changes: object) -> TrainConfig:
    config = TrainConfig(
        backbone="fused_lite0", size=64, weights=str(weights), augment="none", imitation_epochs=2
    )
    return replace(config, **changes)


def network_of(config: TrainConfig) -> TwoChannelNetwork:
    keras.utils.set_random_seed(config.seed)
    return build_network(config)


def some_fields() -> LabelledFields:
    return LabelledFields(*toy_fields(each=12))


is_new = BACKBONE.is_own


def test_what_lite0_has_is_taken_from_it(weights: Path) -> None:
    old = get_backbone(BACKBONE.starts_from)
    original = old.build(64, "stride16", "original")
    old.load(original, weights, "stride16")
    keras.utils.set_random_seed(1)
    bare = BACKBONE.build(64, "stride16", "extractor")
    keras.utils.set_random_seed(1)
    loaded = BACKBONE.build(64, "stride16", "extractor")
    BACKBONE.load(loaded, weights, "stride16")
    new = {layer.name for layer in loaded.layers if is_new(layer.name)}
    numbers = {int(name.split("_")[2]) for name in new}
    assert numbers == {number for number, block in FUSED.items() if block} == {1, 3, 4}
    assert len(BACKBONE.imitates) == 3
    for layer in loaded.layers:
        source = bare if layer.name in new else original
        theirs = source.get_layer(layer.name).get_weights() if layer.weights else []
        for ours, same in zip(layer.get_weights(), theirs, strict=True):
            np.testing.assert_array_equal(ours, same)


def test_unlike_by_hand() -> None:
    rng = np.random.default_rng(1)
    theirs = rng.normal(size=(3, 4, 5, 2)).astype(np.float32) * [1.0, 100.0]
    variance = theirs.var(axis=(0, 1, 2))
    measure = Unlike(variance)
    assert not np.asarray(measure([theirs, theirs])).any()
    mean = np.broadcast_to(theirs.mean(axis=(0, 1, 2)), theirs.shape)
    assert np.asarray(measure([mean, theirs])).mean() == pytest.approx(1.0, rel=1e-5)
    half = mean + 0.5 * (theirs - mean)
    assert np.asarray(measure([half, theirs])).mean() == pytest.approx(0.25, rel=1e-5)


def test_the_new_blocks_learn_and_nothing_else_changes(weights: Path, tmp_path: Path) -> None:
    network = network_of(config_of(weights))
    before = {layer.name: layer.get_weights() for layer in network.extractors[0].layers}
    said: list[str] = []
    unlike = imitate(network, Run(tmp_path), some_fields(), said.append)
    assert said[0] == "3 blocks learn from those of efficientnet_lite0"
    assert [line.split(":")[0] for line in said[1:]] == [
        f"imitation, epoch {epoch} of 2" for epoch in (1, 2)
    ]
    told = [float(line.split()[-3]) for line in said[1:]]
    # From 2, which two unrelated maps of equal size are apart.
    assert told[1] < told[0] < 200 and len(unlike) == 3
    changed = {
        layer.name
        for layer in network.extractors[0].layers
        if any(
            not np.array_equal(a, b)
            for a, b in zip(layer.get_weights(), before[layer.name], strict=True)
        )
    }
    assert changed == {name for name in before if is_new(name) and before[name]}

    # A second call, after a kill, takes up what the first one left, and learns nothing anew.
    again = network_of(config_of(weights))
    assert imitate(again, Run(tmp_path), some_fields(), said.append) == [] and len(said) == 3
    for a, b in zip(
        network.extractors[0].get_weights(), again.extractors[0].get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_it_is_the_same_again_and_in_both_extractors(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imitation, "BATCH", 16)
    config = config_of(weights, imitation_epochs=1)
    one = network_of(config)
    unlike = imitate(one, Run(tmp_path / "one"), some_fields(), lambda _: None)
    two = network_of(replace(config, fusion="branches"))
    assert imitate(two, Run(tmp_path / "two"), some_fields(), lambda _: None) == unlike
    for extractor in two.extractors:
        for a, b in zip(one.extractors[0].get_weights(), extractor.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_nothing_to_imitate(weights: Path, tmp_path: Path) -> None:
    for config in (
        config_of(weights, imitation_epochs=0),
        config_of(weights, backbone=BACKBONE.starts_from),
    ):
        assert imitate(network_of(config), Run(tmp_path), some_fields()) == []
        assert not (tmp_path / IMITATED).exists()
    with pytest.raises(UsageError, match="imitation_epochs must be at least 0"):
        TrainConfig(imitation_epochs=-1)


def test_fewer_fields_than_a_step_takes(weights: Path, tmp_path: Path) -> None:
    few = LabelledFields(*(part[:3] for part in toy_fields(each=1)))
    unlike = imitate(network_of(config_of(weights)), Run(tmp_path), few, lambda _: None)
    assert np.isfinite(unlike).all()


def test_a_training_begins_with_it_and_leaves_no_file(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = some_fields()
    config = config_of(weights, epochs=1, head_epochs=1, batch_size=48, imitation_epochs=1)
    seen: list[bool] = []

    class Watched(training.Trainer):  # type: ignore[misc]
        def fit(self, progress: object = None) -> list[dict[str, object]]:
            seen.append((self.run.folder / IMITATED).is_file())
            return super().fit(progress)

    monkeypatch.setattr(training, "Trainer", Watched)
    monkeypatch.setattr(Session, "trained", lambda session: fields)
    session = Session(
        Run(tmp_path), config, [], Split([], "grouped"), fields.fields, fields.masks, fields.labels
    )
    session.run.write_json("config.json", {"schema": "allsub-edge/run/1", "config": {}})
    said: list[str] = []
    training.fit(session, None, say=said.append)
    assert seen == [True] and not (tmp_path / IMITATED).exists()
    assert any(line.startswith("imitation, epoch 1 of 1") for line in said)


def test_blocks_that_begin_at_random_are_told(weights: Path, tmp_path: Path) -> None:
    from allsub_edge.errors import AllsubError
    from allsub_edge.training.session import open_session

    for epochs, told in ((0, True), (8, False)):
        said: list[str] = []
        config = config_of(weights, imitation_epochs=epochs)
        with pytest.raises(AllsubError):
            open_session(tmp_path / "absent", Run(tmp_path / "run"), config, None, said.append)
        assert any("3 blocks of fused_lite0 begin at random" in line for line in said) == told


def test_frozen_features_of_it_are_refused(weights: Path) -> None:
    from allsub_edge.audit.recipe_features import Extractor

    with pytest.raises(UsageError, match="give --backbone efficientnet_lite0"):
        Extractor("fused_lite0", "stride16", str(weights)).build()
