"""Every backbone, each way of using it: builds, trains two steps, saves, loads; and the table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

from allsub_edge.training.backbones import BACKBONES

from .one_backbone import VARIANTS
from .test_backbones import QUICK, check_table

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("name", list(BACKBONES))
def test_it_trains_two_steps_and_saves(
    name: str, variant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "tests.training.one_backbone", name, variant]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        print(
            f"\n{name:<20}{variant:<10} {found['parameters'] / 1e6:7.2f} M parameters, "
            f"{found['save_and_all_s']:6.1f} s, peak {found['peak_mib']} MiB"
        )
    assert found["parameters"] >= BACKBONES[name].cuts["full"].parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in QUICK])
def test_the_table_tells_what_the_network_is(name: str) -> None:
    check_table(name)
