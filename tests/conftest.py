"""What every test shares: where the real smears are, when they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def _shared() -> Path:
    configured = os.environ.get("ALLSUB_SHARED")
    return Path(configured) if configured else Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the data set; tests that need it skip where it is absent."""
    folder = _shared()
    if not (folder / "data" / "all-smears").is_dir():
        pytest.skip(f"no data set at {folder} (set ALLSUB_SHARED to its folder)")
    return folder
