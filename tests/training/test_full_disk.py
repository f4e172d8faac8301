"""A disk that fills up in the middle of saving: nothing half-written, and the run goes on after."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

from allsub_edge.errors import DataError
from allsub_edge.training import backbones
from allsub_edge.training.run import Run
from tests.full_disk import full_after

from .test_loop import CONFIG
from .toy import TOY
from .toy_training import kept_weights, toy_trainer


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "toy", TOY)


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_there_stays(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_arrays("best.npz", {"w": np.arange(10)})
    run.write_json("history.json", [1])
    before = _content(tmp_path)
    with full_after(4096):
        with pytest.raises(
            DataError, match=r"best\.npz: could not be written .*--resume"
        ) as caught:
            run.write_arrays("best.npz", {"w": np.zeros(100_000)})
        with pytest.raises(DataError, match=r"history\.json"):
            run.write_json("history.json", list(range(10_000)))
        with pytest.raises(DataError, match=r"new\.npz"):
            run.write_arrays("new.npz", {"w": np.zeros(100_000)})
    assert caught.value.code == "not_written" and "\n" not in str(caught.value)
    assert _content(tmp_path) == before


def test_a_training_that_ran_out_of_space_goes_on(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=3)
    toy_trainer(tmp_path / "whole", config).fit()
    full = tmp_path / "full"

    def fill(epoch: int, step: int, steps: int, loss: float) -> None:
        if epoch == 1:
            # Larger than any of the JSON files, smaller than weights and checkpoint.
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with full_after(before[0]), pytest.raises(DataError, match=r"\.npz: could not be written"):
        toy_trainer(full, config).fit(fill)
    assert not [path for path in full.iterdir() if ".part" in path.name]
    assert len(Run(full).read_json("history.json")) == 1
    resumed = toy_trainer(full, config).fit()
    assert [e["epoch"] for e in resumed] == list(range(3))
    for a, b in zip(kept_weights(tmp_path / "whole"), kept_weights(full), strict=True):
        np.testing.assert_array_equal(a, b)
