"""How prediction sets hold on new groups, when the groups that calibrate them are drawn anew.

    python -m allsub_edge.benchmarks.set_coverage DATA [--model FILE] [--split CSV] [--draws 500]

One split tells little: the calibration role has two to four groups of each class. Here the groups
of the roles calibration and test, which the network did not learn from, are pooled. In each draw
as many groups of every class as the calibration role has are chosen at random; temperature and
thresholds come from them, and all other groups are asked. Compared are floors of the thresholds
(``calibrate.fit_conformal``); a floor of 0 is the quantile alone. ``--spread 0.2`` asks the other
groups with each channel's gain changed at random by up to 20 %, as under another lamp.

The groups are of one data set and one network, so the draws are not independent: this compares
rules, it does not promise coverage elsewhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.benchmarks.unseen import Unseen, fields_of
from allsub_edge.classes import CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.classifier import Classifier
from allsub_edge.errors import AllsubError, DataError
from allsub_edge.training import perturb
from allsub_edge.training.calibrate import fit_conformal, fit_temperature, softmax

Floats = npt.NDArray[np.float32]

FLOORS: Final[tuple[float, ...]] = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class Pool:
    """What the network said about fields that it did not learn from.

    Attributes:
        labels: int64 [N], the true class.
        groups: str [N], the group of look-alikes, unique over the classes.
        logits: float32 [N, 4], up to the temperature.
        asked: float32 [N, 4], the same of the fields as they are asked, perhaps changed.
    """

    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_]
    logits: Floats
    asked: Floats


def draw(
    pool: Pool, held: Sequence[int], alpha: float, floors: Sequence[float], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Calibrate on groups chosen at random, ask the others.

    Args:
        pool: the fields.
        held: for each class, how many groups calibrate; at least one must be left.
        alpha: share of fields whose set may miss their class.
        floors: of the thresholds.
        rng: chooses.

    Returns:
        float64 [floors, 7]: coverage of the four classes, mean set size, share of sets with one
        class, share of all fields whose one class is the wrong one.
    """
    chosen = np.zeros(len(pool.labels), dtype=bool)
    for label, count in enumerate(held):
        names = np.unique(pool.groups[pool.labels == label])
        chosen |= np.isin(pool.groups, rng.choice(names, count, replace=False))
    temperature = np.float32(fit_temperature(pool.labels[chosen], pool.logits[chosen]))
    known = softmax(pool.logits[chosen] / temperature)
    labels, asked = pool.labels[~chosen], softmax(pool.asked[~chosen] / temperature)
    found = np.zeros((len(floors), len(CLASSES) + 3))
    for place, floor in enumerate(floors):
        fitted = fit_conformal(pool.labels[chosen], known, alpha, floor=floor)
        sets = asked >= 1 - np.array([fitted[name] for name in CLASSES]) - 1e-6
        single = (sets.sum(1) == 1) & sets[np.arange(len(labels)), asked.argmax(1)]
        wrong = single & (asked.argmax(1) != labels)
        coverage = [sets[labels == label, label].mean() for label in range(len(CLASSES))]
        found[place] = [*coverage, sets.sum(1).mean(), single.mean(), wrong.mean()]
    return found


def summary(
    drawn: npt.NDArray[np.float64], floors: Sequence[float], alpha: float
) -> list[dict[str, Any]]:
    """What the draws [D, floors, 7] of :func:`draw` say, one JSON-ready mapping for each floor."""
    rows = []
    for place, floor in enumerate(floors):
        coverage = drawn[:, place, : len(CLASSES)]
        size, single, wrong = drawn[:, place, len(CLASSES) :].T
        rows.append(
            {
                "floor": floor,
                "coverage_mean": _by_class(coverage.mean(0)),
                "coverage_5_percent_of_draws_below": _by_class(np.quantile(coverage, 0.05, axis=0)),
                "draws_with_all_classes_covered": round(
                    float((coverage >= 1 - alpha).all(1).mean()), 4
                ),
                "set_size_mean": round(float(size.mean()), 4),
                "set_size_largest": round(float(size.max()), 4),
                "one_class": round(float(single.mean()), 4),
                "one_wrong_class": round(float(wrong.mean()), 5),
            }
        )
    return rows


def _by_class(values: npt.NDArray[np.float64]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(CLASSES, values, strict=True)}


def calibrating_groups(seen: Unseen) -> list[int]:
    """How many groups of each class the split's calibration role has."""
    rows = set(zip(seen.labels, seen.groups, seen.roles, strict=True))
    return [
        sum(role == "calibration" and label == name for label, _, role in rows) for name in CLASSES
    ]


def _logits(classifier: Classifier, fields: npt.NDArray[np.uint8]) -> Floats:
    """Logarithms of the model's probabilities: logits up to a constant and the temperature."""
    rows = [classifier.engine.run(field[None]).probabilities[0] for field in fields]
    logits: Floats = np.log(np.clip(np.stack(rows), 1e-12, 1)).astype(np.float32)
    return logits


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw and print one JSON object for each floor; 0, or 2 when it cannot."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", maxsplit=1)[0], epilog=NOT_A_MEDICAL_DEVICE
    )
    parser.add_argument("data", type=Path, help="the data set that the model was trained on")
    parser.add_argument("--model", help="model file; default: the shipped one")
    parser.add_argument("--split", type=Path, help="its split file; default: made anew")
    parser.add_argument("--draws", type=int, default=500, help="[%(default)s]")
    parser.add_argument("--alpha", type=float, default=0.05, help="[%(default)s]")
    parser.add_argument("--spread", type=float, default=0.0, help="of the gains [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="[%(default)s]")
    args = parser.parse_args(arguments)

    def say(text: str) -> None:
        print(f"... {text}", file=sys.stderr, flush=True)

    rng = np.random.default_rng(args.seed)
    try:
        with Classifier.load(args.model, threads=1) as classifier:
            training = classifier.manifest.training
            seen = fields_of(("calibration", "test"), args.data, training, args.split, say)
            say(f"{len(seen.fields)} fields")
            logits = asked = _logits(classifier, seen.fields)
            if args.spread:
                changed = [perturb.random_gains(f, args.spread, rng) for f in seen.fields]
                asked = _logits(classifier, np.stack(changed))
        held = calibrating_groups(seen)
        if not all(held):
            raise DataError("no_calibration", f"{args.data}: a class has no calibration fields")
    except (AllsubError, OSError) as error:
        print(f"set_coverage: error: {error}", file=sys.stderr)
        return 2
    pool = Pool(
        labels=np.array([CLASSES.index(label) for label in seen.labels]),
        groups=np.array([f"{a}/{b}" for a, b in zip(seen.labels, seen.groups, strict=True)]),
        logits=logits,
        asked=asked,
    )
    say(f"{args.draws} draws, {held} groups of each class calibrate")
    drawn = np.stack([draw(pool, held, args.alpha, FLOORS, rng) for _ in range(args.draws)])
    for row in summary(drawn, FLOORS, args.alpha):
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
