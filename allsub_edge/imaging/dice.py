"""Random integers that are the same on every platform, for every version of NumPy, for ever.

SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014), in
two forms: one number at a time, and a whole array at once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_MASK: Final[int] = (1 << 64) - 1
_STEP: Final[int] = 0x9E3779B97F4A7C15
_MIX_1: Final[int] = 0xBF58476D1CE4E5B9
_MIX_2: Final[int] = 0x94D049BB133111EB


def mix(value: int) -> int:
    """Scramble an integer (its low 64 bits) into 64 bits that look random."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * _MIX_1) & _MASK
    value = ((value ^ (value >> 27)) * _MIX_2) & _MASK
    return value ^ (value >> 31)


class Dice:
    """A stream of integers that follows from its seed alone."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def bits(self) -> int:
        """Return the next 64 random bits."""
        self._state = (self._state + _STEP) & _MASK
        return mix(self._state)

    def between(self, low: int, high: int) -> int:
        """Return an integer of ``low..high``, both ends included; ``high`` at least ``low``."""
        return low + ((self.bits() >> 32) * (high - low + 1) >> 32)

    def array(self, low: int, high: int, shape: tuple[int, ...]) -> NDArray[np.int32]:
        """Return int32 integers of ``low..high`` in ``shape``; takes one number of the stream."""
        count = int(np.prod(shape))
        state = np.uint64(self.bits())
        z = state + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_STEP)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX_1)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX_2)
        z ^= z >> np.uint64(31)
        high_bits = (z >> np.uint64(32)) * np.uint64(high - low + 1) >> np.uint64(32)
        return (high_bits.astype(np.int64) + low).astype(np.int32).reshape(shape)
