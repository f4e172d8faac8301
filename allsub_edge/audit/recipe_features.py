"""Features of a frozen extractor for every way to use a recipe as the second channel.

The extractor keeps its ImageNet weights, so what a head can learn from its features is down to what
it is shown. For each field and each change of its channel gains four images pass through it: the
field as it is, the white-balanced field, and the second channel of either recipe. Feature maps of
the first two are pooled over the field and over the cells of either recipe (fusion ``mask_pool``);
the second channels are pooled whole (fusion ``branches``).

The scale-bar corner is painted over first: it must not help any of them.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.atomic import replacing
from allsub_edge.errors import DataError, UsageError
from allsub_edge.imaging.recipes import RECIPES, get_recipe
from allsub_edge.imaging.white_balance import balance
from allsub_edge.training.backbones import get_backbone
from allsub_edge.training.dataset import Progress, Sample, fingerprint
from allsub_edge.training.perturb import hide_scale_bar, random_gains
from allsub_edge.training.starting_weights import resolve

Features = dict[str, npt.NDArray[np.float32]]
"""``raw``, ``balanced``; ``raw@RECIPE``, ``balanced@RECIPE`` pooled over its cells;
``second@RECIPE`` of its second channel: float32 (N, C) each. ``area@RECIPE``: float32 (N, 1), the
share of pixels it takes for cells."""

CONDITIONS: Final[Mapping[str, float]] = {"plain": 0.0, "gains_10": 0.1, "gains_20": 0.2}
"""Name -> by how much each channel's gain is changed at most, uniformly and on its own."""

LAYOUT: Final[int] = 1
"""Raised whenever the same inputs would give other features, so that no old cache is read."""

_CHUNK: Final[int] = 128


@dataclass(frozen=True)
class Extractor:
    """A frozen feature extractor.

    Attributes:
        backbone: name in ``training.backbones``.
        cut: where it ends.
        weights: ``imagenet``, a weights file, or ``none`` (random weights, for tests).
        size: side of the fields in pixels.
    """

    backbone: str
    cut: str
    weights: str
    size: int = 224

    def build(self) -> Any:
        """The Keras model: normalised field -> feature map.

        Raises:
            UsageError: unknown backbone or cut, or one with blocks that learn in training alone.
            DataError: the weights cannot be loaded.
        """
        entry = get_backbone(self.backbone)
        entry.check_cut(self.cut)
        if entry.imitates:
            raise UsageError(
                "unknown_backbone",
                f"{entry.name}: some of its blocks have weights only once it is trained; give "
                f"--backbone {entry.starts_from}",
            )
        source = resolve(self.weights, self.backbone)
        model = entry.build(self.size, self.cut, "extractor")
        if source is not None:
            entry.load(model, source, self.cut)
        model.trainable = False
        return model

    def digest(self) -> str:
        """Sixteen hexadecimal digits that differ when features do."""
        source = resolve(self.weights, self.backbone)
        content = b""
        if source is not None:
            content = Path(source).read_bytes() if Path(source).is_file() else str(source).encode()
        words = f"{LAYOUT} {self.backbone} {self.cut} {self.size} ".encode()
        return hashlib.sha256(words + hashlib.sha256(content).digest()).hexdigest()[:16]


def pooled(maps: npt.NDArray[np.float32], masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Average of feature maps over masks, as ``training.network.MaskedAverage`` computes it.

    Args:
        maps: float32 (N, h, w, C).
        masks: uint8 (N, H, W) of 0 and 1; h divides H.

    Returns:
        float32 (N, C); zeros where a mask is empty.
    """
    count, height, width, _ = maps.shape
    step = masks.shape[1] // height
    weight = masks.reshape(count, height, step, width, step).mean(axis=(2, 4), dtype=np.float32)
    total = np.maximum(weight.sum(axis=(1, 2)), 1e-3)
    return np.asarray(np.einsum("nhwc,nhw->nc", maps, weight) / total[:, None], dtype=np.float32)


def changed(
    fields: npt.NDArray[np.uint8], spread: float, seed: int, first: int
) -> npt.NDArray[np.uint8]:
    """Hide each field's scale bar and change its gains; the draw follows from its place.

    Args:
        fields: uint8 (N, H, W, 3).
        spread: 0 changes nothing.
        seed: of the draws.
        first: place of the first field in the whole set.
    """
    out = np.empty_like(fields)
    for index, field in enumerate(fields):
        hidden = hide_scale_bar(field)
        draw = np.random.default_rng([seed, round(1000 * spread), first + index])
        out[index] = random_gains(hidden, spread, draw) if spread else hidden
    return out


def extract(
    extractor: Extractor,
    fields: npt.NDArray[np.uint8],
    spread: float,
    seed: int,
    *,
    model: Any = None,
    progress: Progress | None = None,
) -> Features:
    """Features of every field under one change of gains.

    Args:
        extractor: what to build, unless ``model`` is given.
        fields: uint8 RGB (N, size, size, 3).
        spread: by how much each gain changes at most.
        seed: of the changes.
        model: a model that was built already.
        progress: called after each chunk.
    """
    entry = get_backbone(extractor.backbone)
    scale, offset = (np.asarray(v, np.float32) for v in (entry.scale, entry.offset))
    model = extractor.build() if model is None else model

    def maps(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        normalised = images.astype(np.float32) * scale + offset
        return np.asarray(model.predict(normalised, batch_size=32, verbose=0), dtype=np.float32)

    parts: list[Features] = []
    for start in range(0, len(fields), _CHUNK):
        chunk = changed(fields[start : start + _CHUNK], spread, seed, start)
        balanced = np.stack([balance(field) for field in chunk])
        seen = {"raw": maps(chunk), "balanced": maps(balanced)}
        part: Features = {name: found.mean(axis=(1, 2)) for name, found in seen.items()}
        for name in RECIPES:
            recipe = get_recipe(name)
            masks = np.stack([recipe.mask(field) for field in chunk])
            second = [recipe.second_channel(f, m) for f, m in zip(chunk, masks, strict=True)]
            part[f"second@{name}"] = maps(np.stack(second)).mean(axis=(1, 2))
            part[f"area@{name}"] = masks.mean(axis=(1, 2), dtype=np.float32)[:, None]
            for way, found in seen.items():
                part[f"{way}@{name}"] = pooled(found, masks)
        parts.append(part)
        if progress is not None:
            progress(min(start + _CHUNK, len(fields)), len(fields))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def cached(
    extractor: Extractor,
    fields: npt.NDArray[np.uint8],
    samples: Sequence[Sample],
    condition: str,
    seed: int,
    folder: Path,
    *,
    model: Any = None,
    progress: Progress | None = None,
) -> Features:
    """:func:`extract`, or what an earlier call with the same data and extractor stored.

    Raises:
        DataError: ``bad_cache``; a stored file cannot be read, or belongs to other fields.
    """
    digest = hashlib.sha256("\n".join(sample.sha256 for sample in samples).encode()).hexdigest()
    name = f"{condition}-{fingerprint(samples)[:16]}-{extractor.digest()}-{seed}.npz"
    path = folder / name
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as stored:
                found = {key: stored[key] for key in stored.files}
            if str(found.pop("order")) == digest:
                return found
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                "bad_cache", f"{path}: cannot be read ({error}); remove it and start again"
            ) from error
    spread = CONDITIONS[condition]
    found = extract(extractor, fields, spread, seed, model=model, progress=progress)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, order=np.array(digest), **found)  # type: ignore[arg-type]
    return found
