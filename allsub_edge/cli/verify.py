"""``allsub-edge verify``: do two model files answer the same, field by field?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from allsub_edge.classes import NOT_A_MEDICAL_DEVICE
from allsub_edge.cli.threads import add_threads
from allsub_edge.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from allsub_edge.engines.base import Engine
    from allsub_edge.engines.parity import Answer, Parity

HELP: Final[str] = """\
Compare any two model files on the same fields: formats, precisions, interfaces, versions.

Each field goes through both files, one at a time as on a device. Every field on which they name
another class or find another mask is told in one line, then how far they are apart at most. Where
a folder on a field's path is called Benign, Early, Pre or Pro, that is its label, and accuracy and
missed ALL fields are told too. Fields are decoded once; thresholds play no part.

Exit code: 0 same class and mask on every field (and within --max-difference), 1 not, 2 a file, an
engine or the fields cannot be used.

examples:
  allsub-edge verify models/allsub-1-float32.onnx models/allsub-1-int8.onnx --data smears
  allsub-edge verify old.onnx new.onnx --data smears --format json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``verify``."""
    parser.add_argument("a", metavar="A", help="the reference")
    parser.add_argument("b", metavar="B", help="the file that is judged")
    parser.add_argument(
        "--data", required=True, nargs="+", metavar="DIR", help="fields: files, folders, globs"
    )
    parser.add_argument(
        "--max-difference",
        type=float,
        default=1.0,
        metavar="X",
        help="largest difference of a probability that counts as the same [%(default)s: any]",
    )
    parser.add_argument("--engine-a", metavar="NAME", help="see allsub-edge check --engine")
    parser.add_argument("--engine-b", metavar="NAME", help="see allsub-edge check --engine")
    add_threads(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="[text]")


def run(args: argparse.Namespace) -> int:
    """Compare; returns 0, or 1 when the files differ.

    Raises:
        ModelFileError, UsageError: a file or an engine cannot be used, or a bad option.
        FieldError: a field cannot be read; a comparison of some fields would mislead.
    """
    if not 0 <= args.max_difference <= 1:
        raise UsageError("usage", "--max-difference is a probability, from 0 to 1")
    import numpy as np

    from allsub_edge import engines
    from allsub_edge.engines.parity import compare
    from allsub_edge.model_file import container

    files = [container.read(path) for path in (args.a, args.b)]
    opened: list[Engine] = []
    try:
        for file, name in zip(files, (args.engine_a, args.engine_b), strict=True):
            opened.append(engines.open_engine(file, engine=name, threads=args.threads))
        sources: list[str] = []
        answers: list[list[Any]] = [[], []]
        for source, field in _fields(args.data):
            sources.append(source)
            for kept, engine in zip(answers, opened, strict=True):
                out = engine.run(field[None])
                # A mask as bits: thousands of fields then still fit into a device's memory.
                bits = np.packbits(out.mask.reshape(1, -1), axis=1)
                kept.append((out.probabilities, out.domain_distance, bits))
            _progress(len(sources))
        _progress(None)
    finally:
        for engine in opened:
            engine.close()
    first, second = (_joined(parts) for parts in answers)
    labels = _labels(sources)
    parity = compare(first, second)
    report = _report(files, opened, sources, (first, second), labels, parity)
    same = (
        parity.same_top == 1.0
        and parity.masks_equal
        and parity.largest_probability_difference <= args.max_difference
    )
    report["same"] = same
    if args.format == "json":
        from allsub_edge.cli.formats import dump

        print(dump(report))
    else:
        print(_text(report))
    return 0 if same else 1


def _fields(paths: list[str]) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    from allsub_edge.imaging.decode import read_field
    from allsub_edge.imaging.resize import squash
    from allsub_edge.sources.paths import expand

    for item in expand(paths):
        if item.path is None:
            if item.error is not None:
                raise item.error
            continue
        yield item.source, squash(read_field(item.path).rgb)


def _joined(parts: list[Any]) -> Answer:
    import numpy as np

    probabilities, distance, mask = (np.concatenate(part) for part in zip(*parts, strict=True))
    return probabilities, distance, mask


def _labels(sources: list[str]) -> npt.NDArray[np.int64]:
    """Index of the class that a folder on the path names; -1 where none does."""
    from pathlib import PurePath

    import numpy as np

    from allsub_edge.classes import CLASSES

    found = []
    for source in sources:
        named = [part for part in PurePath(source).parts[:-1] if part in CLASSES]
        found.append(CLASSES.index(named[-1]) if named else -1)
    return np.array(found, dtype=np.int64)


def _report(
    files: list[Any],
    opened: list[Engine],
    sources: list[str],
    answers: tuple[Answer, Answer],
    labels: npt.NDArray[np.int64],
    parity: Parity,
) -> dict[str, Any]:
    import numpy as np

    from allsub_edge.classes import BENIGN, CLASSES
    from allsub_edge.statistics import Rate

    first, second = answers
    apart = np.abs(first[0] - second[0]).max(axis=1)
    masks = (first[2] == second[2]).all(axis=1)
    tops = [answer[0].argmax(axis=1) for answer in answers]
    differing = np.flatnonzero((tops[0] != tops[1]) | ~masks)
    report: dict[str, Any] = {
        "schema": "allsub-edge/verify/1",
        **{
            key: {
                "file": file.source,
                "sha256": file.sha256,
                "name": f"{file.manifest.name} {file.manifest.version}",
                "precision": file.manifest.precision,
                "interface": file.manifest.interface,
                "engine": f"{engine.name} {engine.version}",
                "threads": engine.threads,
            }
            for key, file, engine in zip("ab", files, opened, strict=True)
        },
        "parity": {key: value for key, value in parity.to_dict().items() if key != "new_missed"},
        "farthest": sources[int(apart.argmax())],
        "differing": [
            {
                "source": sources[i],
                **{
                    key: {"top": CLASSES[top[i]], "probability": float(answer[0][i, top[i]])}
                    for key, top, answer in zip("ab", tops, answers, strict=True)
                },
                "probability_difference": float(apart[i]),
                "mask_equal": bool(masks[i]),
            }
            for i in differing.tolist()
        ],
        "labelled": None,
    }
    known = labels >= 0
    if known.any():
        total = int(known.sum())
        sick = known & (labels != BENIGN)
        called = [top == BENIGN for top in tops]
        report["labelled"] = {
            "fields": total,
            **{
                f"accuracy_{key}": Rate(int((top == labels)[known].sum()), total).to_dict()
                for key, top in zip("ab", tops, strict=True)
            },
            "missed_by_b_alone": int((sick & called[1] & ~called[0]).sum()),
            "missed_by_a_alone": int((sick & called[0] & ~called[1]).sum()),
        }
    return report


def _text(report: dict[str, Any]) -> str:
    from allsub_edge.cli.formats import printable

    lines = []
    for key in "ab":
        one = report[key]
        lines.append(
            f"{key.upper()}  {one['file']}: {one['name']}, {one['precision']}, {one['interface']}, "
            f"{one['engine']}, threads: {one['threads']}"
        )
    for item in report["differing"]:
        a, b = item["a"], item["b"]
        lines.append(
            f"differs  {a['top']:<6} {100 * a['probability']:5.1f} %  ->  {b['top']:<6} "
            f"{100 * b['probability']:5.1f} %  mask "
            f"{'equal' if item['mask_equal'] else 'DIFFERENT'}  {printable(item['source'])}"
        )
    parity = report["parity"]
    lines.append(
        f"{_count(parity['fields'])}: same class on {100 * parity['same_top']:.2f} %, "
        f"probabilities differ by at most {parity['largest_probability_difference']:.2g} "
        f"({printable(report['farthest'])}), domain distance by "
        f"{100 * parity['largest_distance_difference']:.2g} %, masks "
        f"{'equal' if parity['masks_equal'] else 'DIFFERENT'}"
    )
    labelled = report["labelled"]
    if labelled is not None:
        for key in "ab":
            rate = labelled[f"accuracy_{key}"]
            low, high = rate["interval95"]
            lines.append(
                f"accuracy {key.upper()}  {100 * rate['value']:.2f} % ({100 * low:.2f} to "
                f"{100 * high:.2f}; {rate['count']} of {rate['total']})"
            )
        lines.append(
            f"ALL called Benign by B alone: {labelled['missed_by_b_alone']}, by A alone: "
            f"{labelled['missed_by_a_alone']}"
        )
    lines.append("the same" if report["same"] else "NOT the same")
    lines.append(NOT_A_MEDICAL_DEVICE)
    return "\n".join(lines)


def _count(fields: int) -> str:
    return "1 field" if fields == 1 else f"{fields} fields"


def _progress(done: int | None) -> None:
    """A counter on stderr where a person looks at it; None clears it."""
    import sys

    if sys.stderr.isatty():
        text = "\r\x1b[K" if done is None else f"\r{_count(done)}"
        print(text, end="", file=sys.stderr, flush=True)
