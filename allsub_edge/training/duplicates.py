"""Fields that show the same cells: identical files, re-encoded copies, and overlapping shots.

A split that puts one of them into training and the other into the hold-out measures memory. In
the public set they are not only neighbours by file number: slides were revisited, so a field may
overlap one taken a hundred numbers earlier. Every pair within a class is therefore compared.

Method, on the green channel (where stained nuclei are darkest), with the corner of the burned-in
scale bar left out and the slow background removed:

1. exact: equal SHA-256.
2. near: normalised correlation of 28x28 thumbnails without shift; all pairs, all classes.
3. shifted: phase correlation of 56x56 thumbnails (Kuglin and Hines 1975) proposes one shift for
   each pair of a class; where its peak stands out, the normalised correlation of the overlap is
   measured at 112x112. Correlation over the overlap decides, the peak only proposes.

Measured on the 2509 fields of the public set used for development: 23 exact, 42 near and 241
shifted pairs, 492 fields among them, none across classes; 105 pairs lie more than 10 numbers apart,
the furthest 747. Of the pairs that are not exact, 93 % score above 0.8. The 20 below that were
looked at: all show the same cells except perhaps one at 0.60 (blurred, neighbouring numbers); the
strongest false pair scored 0.51. About 50 s on one core. Trying still fainter peaks (5.0 instead
of 5.5) takes 20 % longer and adds 7 shifted pairs, so a few remain unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from allsub_edge.training.dataset import Sample

Array = npt.NDArray[np.float32]

_SIDE: Final[int] = 224
_COARSE: Final[int] = 56
_FINE: Final[int] = 112
_THUMB: Final[int] = 28

NEAR: Final[float] = 0.90
"""Least correlation without shift of a near-duplicate."""
OVERLAP: Final[float] = 0.55
"""Least correlation over the overlap of a shifted pair."""
LEAST_SHARE: Final[float] = 0.25
"""Least overlap, as a share of the field, on which a correlation is believed."""
# Least height of a phase correlation peak in standard deviations of its surface; chance peaks are
# about 5 high.
_PEAK: Final[float] = 5.5
# Least correlation at 56x56, where the shift is only known to half a pixel.
_COARSE_OVERLAP: Final[float] = 0.25
_CHUNK: Final[int] = 1024


@dataclass(frozen=True)
class Pair:
    """Two samples that show the same cells.

    Attributes:
        a: index of the first sample, always below ``b``.
        b: index of the second.
        kind: ``exact``, ``near`` or ``shifted``.
        score: 1.0 for exact; else the correlation (up to 1.0) that decided.
    """

    a: int
    b: int
    kind: str
    score: float


def find_pairs(
    fields: npt.NDArray[np.uint8],
    samples: Sequence[Sample],
    *,
    reach: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Pair]:
    """Find all pairs of samples that share cells, each pair once, sorted by (a, b).

    Args:
        fields: uint8 RGB (N, 224, 224, 3), in the order of ``samples``.
        samples: their records.
        reach: look for shifted pairs only up to this distance in the order of the samples of one
            class; None compares all pairs of a class, whose time grows with the square.
        progress: called with (done, total) as the search for shifted pairs goes on.

    Raises:
        ValueError: ``fields`` has another shape or type, or another length than ``samples``.
    """
    if fields.dtype != np.uint8 or fields.shape != (len(samples), _SIDE, _SIDE, 3):
        raise ValueError(
            f"fields must be uint8 ({len(samples)}, {_SIDE}, {_SIDE}, 3), "
            f"not {fields.dtype} {fields.shape}"
        )
    found = {(pair.a, pair.b): pair for pair in _exact(samples)}
    fine = _reduced(fields[..., 1], _FINE)
    for a, b, score in _near(_reduced(fine, _THUMB)):
        found.setdefault((a, b), Pair(a, b, "near", score))
    for a, b, score in _shifted(fine, samples, reach, progress):
        found.setdefault((a, b), Pair(a, b, "shifted", score))
    return [found[key] for key in sorted(found)]


def _exact(samples: Sequence[Sample]) -> Iterator[Pair]:
    copies: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        copies.setdefault(sample.sha256, []).append(index)
    for same in copies.values():
        for place, a in enumerate(same):
            for b in same[place + 1 :]:
                yield Pair(a, b, "exact", 1.0)


def _near(thumbs: Array) -> Iterator[tuple[int, int, float]]:
    flat = _levelled(thumbs).reshape(len(thumbs), -1)[:, _unmarked(_THUMB)]
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6
    for start in range(0, len(flat), _CHUNK):
        likeness = flat[start : start + _CHUNK] @ flat[start:].T
        for row, column in np.argwhere(likeness >= NEAR):
            if column > row:
                score = min(1.0, float(likeness[row, column]))
                yield start + int(row), start + int(column), score


def _shifted(
    fine: Array,
    samples: Sequence[Sample],
    reach: int | None,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, int, float]]:
    coarse = _levelled(_reduced(fine, _COARSE))
    fine = _levelled(fine)
    spectra = _whitened(coarse)
    classes: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        classes.setdefault(sample.label, []).append(index)
    done = 0
    for members in classes.values():
        for place, a in enumerate(members):
            end = None if reach is None else place + 1 + reach
            rest = np.array(members[place + 1 : end], dtype=np.intp)
            for start in range(0, len(rest), _CHUNK):
                others = rest[start : start + _CHUNK]
                for other, dy, dx in _proposals(spectra, a, others):
                    score = _verified(coarse, fine, a, other, dy, dx)
                    if score >= OVERLAP:
                        yield a, other, min(1.0, score)
            done += 1
            if progress is not None:
                progress(done, len(samples))


def _whitened(coarse: Array) -> npt.NDArray[np.complex64]:
    """Spectra of unit amplitude, damped where thumbnails carry mostly noise."""
    window = np.hanning(_COARSE + 2)[1:-1]
    weight = np.outer(window, window).astype(np.float32)
    weight *= _unmarked(_COARSE).reshape(_COARSE, _COARSE)
    spectra = np.fft.rfft2(coarse * weight).astype(np.complex64)
    amplitude = np.abs(spectra)
    # A little of the greatest amplitude keeps empty frequencies from counting as much as full ones.
    spectra /= amplitude + 1e-3 * amplitude.max(axis=(1, 2), keepdims=True) + 1e-6
    down, across = np.fft.fftfreq(_COARSE)[:, None], np.fft.rfftfreq(_COARSE)[None]
    spectra *= np.exp(-(down**2 + across**2) / (2 * 0.25**2)).astype(np.float32)
    return spectra


def _proposals(
    spectra: npt.NDArray[np.complex64], a: int, others: npt.NDArray[np.intp]
) -> Iterator[tuple[int, int, int]]:
    """The shift (in coarse pixels, modulo the side) of each outstanding correlation peak."""
    surface = np.fft.irfft2(spectra[a] * spectra[others].conj(), s=(_COARSE, _COARSE))
    surface = surface.reshape(len(others), -1)
    top = surface.argmax(axis=1)
    height = surface[np.arange(len(others)), top]
    for hit in np.flatnonzero(height > _PEAK * (surface.std(axis=1) + 1e-12)):
        yield int(others[hit]), int(top[hit]) // _COARSE, int(top[hit]) % _COARSE


def _verified(coarse: Array, fine: Array, a: int, b: int, dy: int, dx: int) -> float:
    """Best correlation over the overlap for the shift and its wrapped readings."""
    best = 0.0
    for down in (dy, dy - _COARSE):
        for across in (dx, dx - _COARSE):
            if _overlap(coarse[a], coarse[b], down, across) < _COARSE_OVERLAP:
                continue
            for fine_down in range(2 * down - 1, 2 * down + 2):
                for fine_across in range(2 * across - 1, 2 * across + 2):
                    best = max(best, _overlap(fine[a], fine[b], fine_down, fine_across))
    return best


def _overlap(one: Array, other: Array, dy: int, dx: int) -> float:
    """Correlation where ``one[y, x]`` meets ``other[y - dy, x - dx]``; 0 where too few meet."""
    side = len(one)
    height, width = side - abs(dy), side - abs(dx)
    if height <= 0 or width <= 0 or height * width < LEAST_SHARE * side * side:
        return 0.0
    here = slice(max(0, dy), max(0, dy) + height), slice(max(0, dx), max(0, dx) + width)
    there = slice(max(0, -dy), max(0, -dy) + height), slice(max(0, -dx), max(0, -dx) + width)
    clear = _unmarked(side).reshape(side, side)
    both = clear[here] & clear[there]
    first, second = one[here][both], other[there][both]
    if len(first) == 0:
        return 0.0
    first = first - first.mean()
    second = second - second.mean()
    scale = float(np.sqrt(np.dot(first, first) * np.dot(second, second)))
    return float(np.dot(first, second)) / (scale + 1e-3)


_CLEAR: Final[dict[int, npt.NDArray[np.bool_]]] = {}


def _unmarked(side: int) -> npt.NDArray[np.bool_]:
    """Flat mask of the pixels outside the scale bar's corner (lowest eighth, rightmost quarter)."""
    if side not in _CLEAR:
        mask = np.ones((side, side), dtype=np.bool_)
        mask[-side // 8 :, -side // 4 :] = False
        _CLEAR[side] = mask.ravel()
    return _CLEAR[side]


def _reduced(images: npt.NDArray[np.uint8] | Array, side: int) -> Array:
    """Block means of (N, H, H) images as float32 (N, side, side)."""
    factor = images.shape[1] // side
    result = np.zeros((len(images), side, side), np.float32)
    for row in range(factor):
        for column in range(factor):
            result += images[:, row::factor, column::factor]
    result /= factor * factor
    return result


def _levelled(images: Array) -> Array:
    """Take each image's slow background away: its mean over a quarter-sized moving square.

    Without this, two empty fields with the same shading correlate.
    """
    side = images.shape[1]
    radius = side // 8
    around = ((0, 0), (radius + 1, radius), (radius + 1, radius))
    result = np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        mean = np.pad(images[start : start + _CHUNK], around, mode="reflect").astype(np.float64)
        for axis in (1, 2):
            total = np.cumsum(mean, axis=axis)
            ahead = np.take(total, np.arange(2 * radius + 1, total.shape[axis]), axis=axis)
            behind = np.take(total, np.arange(total.shape[axis] - 2 * radius - 1), axis=axis)
            mean = (ahead - behind) / (2 * radius + 1)
        result[start : start + _CHUNK] = images[start : start + _CHUNK] - mean
    return result
