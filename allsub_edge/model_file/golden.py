"""Golden cases: rendered fields whose answers the model file carries along.

A device replays them to show that its engine, chip and libraries give the answers the maker saw.
The fields are rendered from a seed, so no image travels with the model. The functions take any
callable that runs fields, so that this module knows no engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.classes import CLASSES
from allsub_edge.errors import ModelFileError
from allsub_edge.imaging.render import RENDERER, render_field
from allsub_edge.imaging.resize import FIELD_SIZE
from allsub_edge.model_file.manifest import Golden, GoldenCase

Field = npt.NDArray[np.uint8]
Run = Callable[[Field], tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]]
"""uint8 [N, 224, 224, 3] -> probabilities [N, 4], domain_distance [N], mask [N, 224, 224]."""

SEEDS: Final[tuple[int, ...]] = (1, 2)
"""Seeds that ``make_cases`` uses by default, each once per class."""


@dataclass(frozen=True)
class GoldenResult:
    """How one golden case went on this device.

    Attributes:
        seed, label: the case.
        field_equal: the renderer made the very field the case was made from.
        probability_difference: largest absolute difference of the four probabilities.
        distance_difference: ``|got - expected| / max(|expected|, 1)`` of the domain distance.
        mask_equal: the mask has the very pixels.
        passed: everything equal, and both differences within the tolerance.
    """

    seed: int
    label: str
    field_equal: bool
    probability_difference: float
    distance_difference: float
    mask_equal: bool
    passed: bool


def _sha256(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, dtype=np.uint8).tobytes()).hexdigest()


def _run_one(run: Run, field: Field) -> tuple[npt.NDArray[Any], float, npt.NDArray[Any]]:
    probabilities, distance, mask = run(field[None])
    return probabilities[0], float(distance[0]), mask[0]


def make_cases(
    run: Run, seeds: Iterable[int] = SEEDS, labels: Sequence[str] = CLASSES
) -> tuple[GoldenCase, ...]:
    """Render one field for each seed and label, run it alone, and note the answers.

    Raises:
        ModelFileError: ``bad_output``, when the model answers with something not finite.
    """
    cases = []
    for seed in seeds:
        for label in labels:
            field = render_field(seed, label, FIELD_SIZE)
            probabilities, distance, mask = _run_one(run, field)
            if not (np.isfinite(probabilities).all() and np.isfinite(distance)):
                raise ModelFileError(
                    "bad_output", f"the model answers the rendered field {seed} with no number"
                )
            cases.append(
                GoldenCase(
                    seed=int(seed),
                    label=label,
                    field_sha256=_sha256(field),
                    # Seven digits hold a float32 probability and keep the manifest short.
                    probabilities=tuple(round(float(p), 7) for p in probabilities),
                    domain_distance=distance,
                    mask_sha256=_sha256(mask),
                )
            )
    return tuple(cases)


def make_golden(
    run: Run, tolerance: float, seeds: Iterable[int] = SEEDS, labels: Sequence[str] = CLASSES
) -> Golden:
    """The ``golden`` entry of a manifest, made with this version's renderer."""
    return Golden(RENDERER, tolerance, make_cases(run, seeds, labels))


def replay(golden: Golden, run: Run) -> list[GoldenResult]:
    """Run every golden case and compare; an empty list means there was nothing to replay.

    Raises:
        ModelFileError: ``unknown_renderer``, when this version cannot render those fields.
    """
    if golden.cases and golden.renderer != RENDERER:
        raise ModelFileError(
            "unknown_renderer",
            f"the golden cases were made with {golden.renderer}, this version has {RENDERER}: "
            "install the version of allsub-edge that made the model, or a newer model",
        )
    results = []
    for case in golden.cases:
        field = render_field(case.seed, case.label, FIELD_SIZE)
        probabilities, distance, mask = _run_one(run, field)
        apart = float(np.abs(probabilities - np.asarray(case.probabilities)).max())
        relative = abs(distance - case.domain_distance) / max(abs(case.domain_distance), 1.0)
        field_equal = _sha256(field) == case.field_sha256
        mask_equal = _sha256(mask) == case.mask_sha256
        # `<=` is False for NaN, so an answer that is no number fails.
        close = apart <= golden.tolerance and relative <= golden.tolerance
        results.append(
            GoldenResult(
                seed=case.seed,
                label=case.label,
                field_equal=field_equal,
                probability_difference=apart,
                distance_difference=relative,
                mask_equal=mask_equal,
                passed=bool(close and field_equal and mask_equal),
            )
        )
    return results
