"""``allsub-edge check``: is this model file whole, and does it answer right on this machine?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from allsub_edge.cli.threads import add_threads
from allsub_edge.errors import ModelFileError, UsageError

if TYPE_CHECKING:
    from allsub_edge.model_file.golden import GoldenResult

HELP: Final[str] = """\
Prove that a model file is whole and answers on this machine as it did where it was made.

Verifies the digest, reads the manifest, and replays the golden cases on every installed engine:
ONNX files on onnxruntime; TFLite files on each of ai-edge-litert, tflite-runtime and tensorflow.
Exit code: 0 all passed, 1 a case failed (or there is none), 2 the file is damaged or unusable.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``check``."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="default: the shipped model")
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help="only this one, such as onnxruntime, litert or litert:tflite_runtime "
        "(default: every one installed)",
    )
    add_threads(parser)


def case_line(result: GoldenResult) -> str:
    """One line about one golden case."""
    line = (
        f"{'PASS' if result.passed else 'FAIL'}  {result.label:<7} seed {result.seed:<4} "
        f"probabilities differ by {result.probability_difference:.1e}, "
        f"distance by {result.distance_difference:.1e}, "
        f"mask {'equal' if result.mask_equal else 'DIFFERENT'}"
    )
    return line if result.field_equal else f"{line}, RENDERED FIELD DIFFERENT"


def run(args: argparse.Namespace) -> int:
    """Check one file; returns 0, or 1 when a golden case fails.

    Raises:
        ModelFileError: the file is absent, damaged, of an unknown schema or not ours.
        UsageError: no engine for it is installed.
    """
    from allsub_edge import engines, models
    from allsub_edge.model_file import container, golden

    model = container.read(models.default_path() if args.file is None else args.file)
    manifest = model.manifest
    print(f"digest    whole, sha256 of the file {model.sha256}")
    print(f"manifest  {manifest.name} {manifest.version}, {manifest.precision}, {manifest.schema}")
    names = engines.variants(model.format) if args.engine is None else [args.engine]
    if not names:
        first = engines.ENGINES[engines.engines_for(model.format)[0]]
        raise UsageError(
            "engine_missing",
            f"no engine for {model.format} files is installed: {first.install}",
        )
    replayed, failed = 0, False
    for name in names:
        try:
            engine = engines.open_engine(model, engine=name, threads=args.threads)
        except UsageError as error:
            if args.engine is not None or len(names) == 1:
                raise
            # Another package may do; that this one is broken says nothing about the file.
            print(f"engine    {name} cannot be used here: {error}")
            continue
        except ModelFileError as error:
            if len(names) == 1:
                raise
            print(f"FAIL  {name}: {error}")
            replayed, failed = replayed + 1, True
            continue
        replayed += 1
        try:
            print(f"engine    {engine.name} {engine.version}, threads: {engine.threads}")
            results = golden.replay(manifest.golden, engine.run)
        finally:
            engine.close()
        for result in results:
            print(case_line(result))
        good = sum(result.passed for result in results)
        # No case at all proves nothing, so it does not count as passed.
        failed = failed or not results or good < len(results)
        tolerance = f"tolerance {manifest.golden.tolerance:g}"
        print(f"{good} of {len(results)} golden cases passed ({tolerance})")
    return 1 if failed or not replayed else 0
