"""What a verb that trains settles before TensorFlow is imported, which reads it only then."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("tensorflow", reason="the training extra is not installed")

CODE = """
import os, sys
from allsub_edge.cli.training import prepare_process
prepare_process()
print(os.environ["TF_NUM_INTEROP_THREADS"], "tensorflow" in sys.modules)
"""


@pytest.mark.parametrize("chosen", [None, "3"])
def test_one_operator_runs_at_a_time_unless_the_user_says_otherwise(chosen: str | None) -> None:
    name = "TF_NUM_INTEROP_THREADS"
    environment = {key: value for key, value in os.environ.items() if key != name}
    if chosen is not None:
        environment[name] = chosen
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [chosen or "1", "False"]
