from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest

from allsub_edge.cli import training
from allsub_edge.cli.main import main
from allsub_edge.errors import UsageError
from allsub_edge.training.augment_config import AugmentConfig
from allsub_edge.training.backbones import BACKBONES
from allsub_edge.training.config import TrainConfig, options, read_toml


def test_a_configuration_survives_storing() -> None:
    config = TrainConfig(fusion="branches", epochs=3, learning_rate=1e-3)
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_older_runs_take_defaults_for_new_keys() -> None:
    assert TrainConfig.from_dict({"epochs": 3}).backbone == TrainConfig().backbone


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"epochz": 3}, "epochz"),
        ({"epochs": "three"}, "epochs"),
        ({"fusion": "sum"}, "fusion"),
        ({"size": 225}, "size"),
        ({"epochs": 0}, "epochs"),
        ({"ema": 1.0}, "ema"),
        ({"white_balance": 1}, "white_balance must be true or false"),
        ({"augment": "wild"}, "wild.*none, mild, medium, strong"),
        ({"augmentation": {"gian": 0.2}}, "unknown option 'gian'"),
        ({"augmentation": {"gain": 2.0}}, "gain must be at least 0 and below 1"),
        ({"augmentation": 3}, "augmentation must be a table"),
        ({"precision": "int4"}, "precision must be one of float32"),
        ({"teacher_weight": 1.5}, "teacher_weight"),
        ({"recalibrate": -1}, "recalibrate"),
        ({"seed": -1}, "seed"),
        ({"dense": 0}, "dense"),
        ({"patience": 0}, "patience"),
        ({"warmup_steps": -5}, "warmup_steps"),
        ({"frozen_blocks": -1}, "frozen_blocks"),
        ({"weight_decay": float("nan")}, "weight_decay must be a finite number"),
        ({"validation_gain": 1.0}, "validation_gain"),
        ({"head_learning_rate": float("inf")}, "head_learning_rate must be a finite number"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        TrainConfig.from_dict(values)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("epochz", "epochs"), ("batch-size", "batch_size"), ("lerning_rate", "learning_rate")],
)
def test_a_typo_is_answered_with_the_key_that_was_meant(written: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"'{written}'; did you mean {meant}\?"):
        TrainConfig.from_dict({written: 3})
    with pytest.raises(UsageError, match="'xyzzy'; known are backbone, cut"):
        TrainConfig.from_dict({"xyzzy": 3})


TOML = """
backbone = "mobilenet_v2"
epochs = 3
learning_rate = 1
weights = "start.weights.h5"
white_balance = false

[augmentation]
gain = 0.3
jpeg = [40, 90]
"""


def test_toml_gives_keys_and_changes_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(TOML)
    config = TrainConfig.from_dict(read_toml(path))
    assert (config.backbone, config.epochs, config.learning_rate) == ("mobilenet_v2", 3, 1.0)
    assert config.weights == str(tmp_path / "start.weights.h5")
    changed, preset = config.augmenting(), AugmentConfig.preset("strong")
    assert (changed.gain, changed.jpeg) == (0.3, (40, 90))
    assert replace(changed, gain=preset.gain, jpeg=preset.jpeg) == preset
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("epochz = 3", "'epochz'; did you mean epochs"),
        ("epochs = 'three'", "epochs must be a whole number, not 'three'"),
        ("epochs = \nseed = 1", r"not TOML.*line 1"),
        ("[augmentation]\ngian = 0.1", "unknown option 'gian'"),
        ("[training]\nepochs = 3", "'training'"),
        ("seed = 1\nseed = 2", "not TOML"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"my\.toml: .*{named}") as caught:
        read_toml(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"absent\.toml: cannot be read"):
        read_toml(tmp_path / "absent.toml")
    path.write_bytes(b"seed = \xff")
    with pytest.raises(UsageError, match=r"my\.toml: not TOML"):
        read_toml(path)


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("epochs = 3\nbatch_size = 4\nwhite_balance = false\n")
    parser = argparse.ArgumentParser()
    training.add_configuration(parser)
    args = parser.parse_args(["--config", str(path), "--epochs", "5", "--white-balance"])
    assert training.given(args) == {"epochs": 5, "batch_size": 4, "white_balance": True}
    assert training.given(parser.parse_args([])) == {}


def test_the_table_of_backbones_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list-backbones"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in BACKBONES)
    assert "0.72 M" in printed and "x / 127.5 - 1" in printed


def test_every_key_explains_itself() -> None:
    assert all(text and name for name, _, text in options())


def test_the_same_file_named_from_another_folder_is_no_difference() -> None:
    one = TrainConfig(weights="../w/lite0.h5", teacher="runs/a,runs/b")
    other = replace(one, weights="/data/w/lite0.h5", teacher="a, /data/b")
    assert one.differences(other) == []
    assert one.differences(replace(other, weights="lite1.h5", epochs=3)) == ["weights", "epochs"]
    assert one.differences(replace(other, teacher="b,a")) == ["teacher"]
