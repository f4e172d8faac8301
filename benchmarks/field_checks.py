"""What a model file does with fields it must refuse, fields it never saw, and changed ones.

    python -m allsub_edge.benchmarks.field_checks DATA --not-in-domain DIR [--model FILE]

DATA is the data set that the model was trained on. Its split is made anew, or read from --split,
and must be the very one that the manifest names: only then are its test fields unseen. A model
that learned from every group has none; then the exported folds of its cross-fit answer for it,
each on its own test fields: --fold FILE SPLIT, once for each. Measured by the code that a device
runs, with the thresholds in the files:

- images that are no such smear: how many get no label; photographs among them on their own;
- unseen fields: how many are refused as unfit, and the share of right labels;
- unseen fields blurred, over- and under-exposed: how many get a wrong label;
- prediction sets on unseen fields: for each class how often its fields' sets hold it, and how
  many classes a set holds on average;
- the same field at several sizes, as JPEG and as PNG: whether the label stays.

Intervals are Wilson's at 95 %, which take the fields of a slide as independent; beside the coverage
stands how many groups it was measured on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np

from allsub_edge.atomic import write_text
from allsub_edge.benchmarks.checks import Check
from allsub_edge.benchmarks.field_changes import CHANGES, SHARPENINGS
from allsub_edge.benchmarks.size_checks import sizes
from allsub_edge.benchmarks.unseen import Subject, unseen_fields
from allsub_edge.classes import CLASSES, NOT_A_MEDICAL_DEVICE
from allsub_edge.classifier import Classifier
from allsub_edge.errors import AllsubError, DataError
from allsub_edge.prediction import Prediction
from allsub_edge.quality import OUT_OF_DOMAIN
from allsub_edge.sources.paths import expand
from allsub_edge.statistics import Rate

SCHEMA: Final[str] = "allsub-edge/field-checks/1"


def outside(classifier: Classifier, folder: Path) -> list[Check]:
    """Images that are no such smear; a file that cannot be decoded gets no label either.

    Raises:
        DataError: ``no_images``, nothing to measure on.
    """
    kinds: dict[str, list[Prediction]] = {}
    for item in expand([str(folder)]):
        if item.path is not None:
            kind = item.path.relative_to(folder).parts[0]
            (answer,) = classifier.predict_many([item.path])
            kinds.setdefault(kind, []).append(answer)
    if not kinds:
        raise DataError("no_images", f"{folder}: has no image: give the folder with some in it")

    def without_label(answers: Sequence[Prediction]) -> Rate:
        return Rate(sum(a.label is None for a in answers), len(answers))

    every = [answer for answers in kinds.values() for answer in answers]
    unfit = Rate(sum(a.status in ("unfit", "error") for a in every), len(every))
    found = [
        Check("not such a smear: no label", without_label(every), 0.95),
        Check("not such a smear: refused as unfit or unreadable", unfit),
    ]
    for kind, answers in sorted(kinds.items()):
        limit = 1.0 if kind == "photos" else None
        name = f"not such a smear: no label, {kind}"
        found.append(Check(name, without_label(answers), limit, note=_distances(answers)))
    return found


def _distances(answers: Sequence[Prediction]) -> str:
    """How far images lie from what the model learned from, and how many that alone refuses."""
    found = [a.quality.domain_distance for a in answers if a.quality is not None]
    if not found:
        return ""
    far = sum(OUT_OF_DOMAIN in a.reasons for a in answers)
    return f"distance {np.median(found):.1f} in the median; {far} too far"


def seen_as_they_are(
    answers: Sequence[Prediction], truth: Sequence[str], groups: Sequence[str]
) -> list[Check]:
    """Refusals, labels and prediction sets of unseen fields, their classes and their groups."""
    total = len(answers)
    unfit = [a for a in answers if a.status == "unfit"]
    reasons = Counter(reason for a in unfit for reason in a.reasons)
    labels = [(a.label, true) for a, true in zip(answers, truth, strict=True) if a.label]
    right = Rate(sum(label == true for label, true in labels), len(labels))
    found = [
        Check(
            "unseen fields: refused as unfit",
            Rate(len(unfit), total),
            0.02,
            at_least=False,
            note=", ".join(f"{reason} {n}" for reason, n in reasons.items()),
        ),
        Check("unseen fields: get a label", Rate(len(labels), total)),
        Check("unseen fields: labels that are right", right),
    ]
    for name in CLASSES:
        mine = [i for i, label in enumerate(truth) if label == name]
        inside = sum(name in answers[i].prediction_set for i in mine)
        found.append(
            Check(
                f"prediction set holds the true class, {name}",
                Rate(inside, len(mine)),
                0.95,
                note=f"{len({groups[i] for i in mine})} groups",
            )
        )
    sizes = Counter(len(a.prediction_set) for a in answers)
    mean = sum(size * n for size, n in sizes.items()) / total
    shown = ", ".join(f"{n} of {size}" for size, n in sorted(sizes.items()))
    found.append(Check("classes in a prediction set, mean", mean, 1.1, at_least=False, note=shown))
    return found


def changed(subjects: Sequence[Subject], say: Callable[[str], None]) -> list[Check]:
    """Wrong labels on unseen fields that were spoilt."""
    found = []
    for name, change in CHANGES.items():
        say(f"unseen fields {name}")
        given = wrong = total = 0
        for classifier, unseen in subjects:
            answers = classifier.predict_many(change(field) for field in unseen.fields)
            for answer, true in zip(answers, unseen.labels, strict=True):
                total += 1
                given += answer.label is not None
                wrong += answer.label not in (None, true)
        note = f"{given} labels given"
        rate = Rate(wrong, total)
        found.append(Check(f"{name}: wrong label", rate, 0.01, at_least=False, note=note))
    return found


def measure(
    classifier: Classifier,
    subjects: Sequence[Subject],
    not_in_domain: Path,
    *,
    size_fields: int = 120,
    sharpenings: int = SHARPENINGS,
    say: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """All checks of this module, in the order of its description.

    Args:
        classifier: what is asked about images that are no such smear.
        subjects: who is asked about which unseen fields.
        not_in_domain: folder of those images, a subfolder for each kind.
        size_fields: how many unseen fields are tried at all sizes.
        sharpenings: how they are enlarged, see ``field_changes.enlarged``.
        say: takes a line for each stage.

    Raises:
        DataError: ``no_images``.
    """
    say(f"images in {not_in_domain.name}")
    found = outside(classifier, not_in_domain)
    say(f"{sum(len(unseen.fields) for _, unseen in subjects)} unseen fields")
    found += seen_as_they_are(
        [answer for asked, unseen in subjects for answer in asked.predict_many(unseen.fields)],
        [label for _, unseen in subjects for label in unseen.labels],
        [group for _, unseen in subjects for group in unseen.groups],
    )
    found += changed(subjects, say)
    if size_fields:
        found += sizes(subjects, size_fields, sharpenings, say)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a line for each check; 0 when all limits are met, 1 when not, 2 if it cannot.

    Args:
        arguments: of the command line; None means those of the process.
    """
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", maxsplit=1)[0],
        epilog=NOT_A_MEDICAL_DEVICE,
    )
    parser.add_argument("data", type=Path, help="the data set that the model was trained on")
    parser.add_argument(
        "--not-in-domain", type=Path, required=True, metavar="DIR",
        help="images that are no such smear, a subfolder for each kind; those in photos/ must "
        "all go without a label",
    )  # fmt: skip
    parser.add_argument("--model", help="model file; default: the shipped one")
    parser.add_argument("--threads", type=int, default=1, help="of the engine [%(default)s]")
    parser.add_argument(
        "--split", type=Path, help="its split file; default: made anew (a minute or two)"
    )
    parser.add_argument(
        "--fold", nargs=2, action="append", default=[], metavar=("FILE", "SPLIT"),
        help="an exported fold of the model's cross-fit and its split file; may be repeated",
    )  # fmt: skip
    parser.add_argument("--role", default="test", help="which fields are unseen [%(default)s]")
    parser.add_argument(
        "--size-fields", type=int, default=120, metavar="N",
        help="fields that are tried at all sizes; 0: none [%(default)s]",
    )  # fmt: skip
    parser.add_argument("--bicubic", action="store_true", help="enlarge so alone, which blurs")
    parser.add_argument("-o", "--out", type=Path, help="also write the numbers as JSON")
    args = parser.parse_args(arguments)

    def say(text: str) -> None:
        print(f"... {text}", file=sys.stderr, flush=True)

    try:
        with ExitStack() as opened:

            def load(file: str | None) -> Classifier:
                return opened.enter_context(Classifier.load(file, threads=args.threads))

            classifier = load(args.model)
            asked = [(load(file), Path(split)) for file, split in args.fold]
            subjects = [
                (who, unseen_fields(args.data, who.manifest.training, split, args.role, say))
                for who, split in asked or [(classifier, args.split)]
            ]
            found = measure(
                classifier,
                subjects,
                args.not_in_domain,
                size_fields=args.size_fields,
                sharpenings=0 if args.bicubic else SHARPENINGS,
                say=say,
            )
            model = vars(classifier.info)
            folds = [vars(who.info) for who, _ in asked]
    except (AllsubError, OSError) as error:
        print(f"field_checks: error: {error}", file=sys.stderr)
        return 2
    for check in found:
        print(check.row())
    print(f"{model['name']} {model['version']}, {model['sha256'][:16]}, {model['engine']}")
    print(NOT_A_MEDICAL_DEVICE)
    if args.out is not None:
        values = [check.to_dict() for check in found]
        content = {"schema": SCHEMA, "model": model, "folds": folds, "checks": values}
        write_text(args.out, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return 0 if all(check.met is not False for check in found) else 1


if __name__ == "__main__":
    sys.exit(main())
