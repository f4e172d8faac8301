"""The model alone: one field's call on one thread, against `predict` of the published network.

    python -m allsub_edge.benchmarks.model_only MODEL... [--threads 1] [--reference-threads N]

Nothing is decoded, segmented or decided. Ours starts from the bytes of a decoded field, with white
balance and segmentation inside; the published network (Keras, two DenseNet201 branches) is given
both channels ready made. It takes all cores, as Keras does by itself, or as many threads as it is
told to. All take turns. Needs the extra ``train``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from allsub_edge.benchmarks import machine, program, published_way, workload
from allsub_edge.benchmarks.sampling import summary, take_turns
from allsub_edge.errors import UsageError

SCHEMA: Final[str] = "allsub-edge/model-only/1"
PUBLISHED: Final[str] = "two DenseNet201, Keras predict"


def _keras(threads: int | None) -> Callable[[int], object]:
    import keras

    if threads is not None:
        import tensorflow as tf

        # Only before the first operation, and for the whole process.
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(1)  # the time does not depend on the weights, nor on the picture
    model = published_way.build()
    channels = [[(rgb[None] / 255.0).astype(np.float32)] * 2 for rgb in workload.pixels(4)]
    return lambda number: model.predict(channels[number % len(channels)], verbose=0)


def measure(
    paths: list[str],
    threads: int,
    seconds: float,
    count: int,
    reference_threads: int | None = None,
) -> dict[str, Any]:
    """Measure every file and the published network in turns.

    Args:
        paths: model files.
        threads: of each of them.
        seconds: measure each for at least so long.
        count: and at least so often.
        reference_threads: of the published network; None for all cores.

    Raises:
        ModelFileError, UsageError: a file cannot be used, or Keras is not installed.
    """
    from allsub_edge.classifier import Classifier

    names = [Path(path).name for path in paths]
    if len(set(names)) < len(names):
        raise UsageError("usage", "two files have the same name: rename one")
    fields = [rgb[None] for rgb in workload.pixels(8)]
    with ExitStack() as opened:

        def runner(path: str) -> Callable[[int], object]:
            engine = opened.enter_context(Classifier.load(path, threads=threads)).engine
            return lambda number: engine.run(fields[number % len(fields)])

        contenders = {name: runner(path) for name, path in zip(names, paths, strict=True)}
        try:
            contenders[PUBLISHED] = _keras(reference_threads)
        except ImportError:
            raise UsageError(
                "extra_missing", "the published network needs pip install 'allsub-edge[train]'"
            ) from None
        for answer in contenders.values():
            answer(0)
        turns = take_turns(contenders, min_seconds=seconds, min_count=count)
    rows = [
        {"name": name, **summary(turns.samples[name]), **turns.ratio(PUBLISHED, name)}
        for name in contenders
    ]
    return {
        "schema": SCHEMA,
        "machine": machine.describe(),
        "threads": threads,
        "reference_threads": reference_threads,
        "rows": rows,
    }


def markdown(result: dict[str, Any]) -> str:
    """A table for people."""
    given = result["reference_threads"]
    theirs = f"{PUBLISHED}, {'all cores' if given is None else f'{given} thread(s)'},"
    lines = [
        f"| model alone, ms a field, {result['threads']} thread(s) | p50 | p90 | "
        f"{theirs} takes so many times longer (95 % interval) |",
        "|---|---|---|---|",
    ]
    for row in result["rows"]:
        low, high = row["interval95"]
        ratio = f"**{row['ratio']:.1f}** ({low:.1f} to {high:.1f})"
        ours = row["name"] != PUBLISHED
        lines.append(
            f"| {row['name']} | {row['p50_ms']:.2f} | {row['p90_ms']:.2f} | "
            f"{ratio if ours else '-'} |"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run the program; returns 0, or 2 with one line on stderr."""
    parser = program.parser_of("model_only", __doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="[%(default)s]")
    parser.add_argument(
        "--reference-threads", type=int, metavar="N", help="of the published network [all cores]"
    )
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="[%(default)s]")
    parser.add_argument("--count", type=int, default=50, metavar="N", help="[%(default)s]")
    args = parser.parse_args(arguments)
    code: int = program.finish(
        "model_only",
        lambda: measure(
            args.models, args.threads, args.seconds, args.count, args.reference_threads
        ),
        markdown,
        args.json,
    )
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
