from __future__ import annotations

import pytest

from allsub_edge.errors import UsageError
from allsub_edge.training.config import TrainConfig, options


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
        ({"white_balance": 1}, "white_balance"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        TrainConfig.from_dict(values)


def test_every_key_explains_itself() -> None:
    assert all(text and name for name, _, text in options())
