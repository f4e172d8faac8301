"""The option ``--threads`` of every verb that answers fields."""

from __future__ import annotations

import argparse
from typing import Final

MAX_THREADS: Final[int] = 256
"""As ``engines.base`` has it, which would import numpy for a mere ``--help``."""


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Declare ``--threads``; its value is an int, or None where it was not given."""
    parser.add_argument(
        "--threads", type=_threads, metavar="N", help="default: the usable cores, at most 4"
    )


def _threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 1 to {MAX_THREADS}, not {text!r}"
        )
    return int(text)
