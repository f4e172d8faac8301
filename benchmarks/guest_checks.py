"""How good a guest ``allsub-edge infer`` is on a small board: memory, first answer, large folders.

    python -m allsub_edge.benchmarks.guest_checks FOLDER [--model FILE]

Every number comes from a process of its own, started as a user starts it. Measured are

- the largest resident memory (``VmHWM`` of /proc, hence Linux; shared libraries count in full) of
  ``infer`` on a folder of few and of very many fields, links to those in FOLDER, and on a folder of
  camera pictures of 12 megapixels, drawn from them as JPEG;
- the time from the start of the process to its first record, the median of several, and beside it
  the processor time of those processes, which a busy machine does not change much.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from allsub_edge.atomic import write_text
from allsub_edge.benchmarks.checks import Check
from allsub_edge.errors import AllsubError, DataError
from allsub_edge.sources.paths import expand

SCHEMA: Final[str] = "allsub-edge/guest-checks/1"

MEMORY_MB: Final[dict[str, float]] = {".onnx": 150.0, ".tflite": 110.0}
"""The most that ``infer`` on a folder may take, by the suffix of the model file; 1 MB = 2^20."""

FIRST_ANSWER_S: Final[float] = 0.5
"""The longest wait from the start of the process to the first record."""

GROWTH_MB: Final[float] = 10.0
"""Memory counts as flat when very many fields take no more than this above a few: a hundredth of
what the smallest field of 224x224 pixels would take if 10 000 were kept."""

_SECONDS: Final[float] = 3600.0

# VmHWM of the process itself, printed when the verb has ended; a parent's getrusage would count
# from what it held at the fork.
_PEAK: Final[str] = (
    "import sys; from allsub_edge.cli.main import main; code = main(sys.argv[1:]); "
    "print(next(x.split()[1] for x in open('/proc/self/status') if 'VmHWM' in x)); sys.exit(code)"
)


def link_fields(fields: Sequence[Path], count: int, folder: Path) -> None:
    """Fill ``folder`` with ``count`` links to fields, over and over."""
    folder.mkdir()
    for number in range(count):
        source = fields[number % len(fields)]
        (folder / f"{number:06d}{source.suffix}").symlink_to(source)


def camera_pictures(fields: Sequence[Path], count: int, folder: Path) -> None:
    """Fill ``folder`` with JPEG files of 4056 x 3040 pixels, enlarged fields."""
    from allsub_edge.benchmarks.field_changes import encoded, enlarged
    from allsub_edge.imaging.decode import decode, read_bytes

    folder.mkdir()
    for number in range(count):
        rgb = decode(read_bytes(fields[number % len(fields)])).rgb
        (folder / f"{number:06d}.jpg").write_bytes(encoded(enlarged(rgb, 4056, 3040), "jpeg"))


def peak_mb(folder: Path, options: Sequence[str]) -> float:
    """Largest resident memory of one ``infer`` on a folder, MB.

    Raises:
        DataError: ``infer_failed``, it did not answer every field.
    """
    with tempfile.NamedTemporaryFile(suffix=".ndjson") as out:
        arguments = ["infer", str(folder), "--format", "ndjson", "--quiet", "-o", out.name]
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, *arguments, *options],
            capture_output=True, text=True, timeout=_SECONDS,
        )  # fmt: skip
    if done.returncode:
        raise DataError("infer_failed", f"infer {folder}: {done.stderr.strip()[-300:]}")
    return int(done.stdout.split()[-1]) / 1024


def first_answer_s(field: Path, options: Sequence[str]) -> tuple[float, float]:
    """Start ``infer`` on one field.

    Returns:
        Seconds from the start to the record, and processor seconds of the whole process.

    Raises:
        DataError: ``infer_failed``, there was none.
    """
    command = [sys.executable, "-m", "allsub_edge", "infer", str(field), "--format", "ndjson"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with subprocess.Popen(
        [*command, "--quiet", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        spent = time.perf_counter() - started
        _, problem = process.communicate(timeout=_SECONDS)
    if not line or process.returncode:
        raise DataError("infer_failed", f"infer {field}: {problem.decode()[-300:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, busy


def measure(
    fields: Sequence[Path],
    model: Path,
    *,
    many: int = 10_000,
    pictures: int = 12,
    repeats: int = 9,
    threads: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """All checks of this module.

    Args:
        fields: image files that ``infer`` can read, absolute paths.
        model: a model file.
        many: fields in the large folder.
        pictures: camera pictures.
        repeats: starts for the first answer; one more goes before, uncounted.
        threads: of ``infer``; None means its own default.
        say: takes a line for each stage.
    """
    options = ["--model", str(model)] + ([] if threads is None else ["--threads", str(threads)])
    limit = MEMORY_MB[model.suffix]
    with tempfile.TemporaryDirectory() as temporary:
        folders = {"few": 100, "many": many}
        peaks = {}
        for name, count in folders.items():
            say(f"{count} fields")
            link_fields(fields, count, Path(temporary) / name)
            peaks[name] = peak_mb(Path(temporary) / name, options)
        say("camera pictures")
        camera_pictures(fields, pictures, Path(temporary) / "camera")
        large = peak_mb(Path(temporary) / "camera", options)
    say("first answers")
    starts = [first_answer_s(fields[0], options) for _ in range(repeats + 1)][1:]
    waits, busy = zip(*starts, strict=True)
    spread = f"{min(waits):.3f} to {max(waits):.3f} in {repeats} starts"
    return [
        Check(f"peak memory, {folders['few']} fields, MB", peaks["few"], limit, False),
        Check(f"peak memory, {many} fields, MB", peaks["many"], limit, False),
        Check("growth between the two, MB", peaks["many"] - peaks["few"], GROWTH_MB, False),
        Check(f"peak memory, {pictures} pictures of 4056x3040, MB", large, limit, False),
        Check(
            "first answer, seconds", statistics.median(waits), FIRST_ANSWER_S, False, note=spread
        ),
        Check("processor time of such a process, seconds", statistics.median(busy)),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a line for each check; 0 when all limits are met, 1 when not, 2 if it cannot.

    Args:
        arguments: of the command line; None means those of the process.
    """
    from allsub_edge.classifier import Classifier
    from allsub_edge.models import default_path

    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", help="fields to answer")
    parser.add_argument("--model", type=Path, help="model file; default: the shipped one")
    parser.add_argument("--fields", type=int, default=10_000, help="very many [%(default)s]")
    parser.add_argument("--pictures", type=int, default=12, help="of a camera [%(default)s]")
    parser.add_argument("--repeats", type=int, default=9, help="first answers [%(default)s]")
    parser.add_argument("--threads", type=int, help="of infer; default: its own")
    parser.add_argument("-o", "--out", type=Path, help="also write the numbers as JSON")
    args = parser.parse_args(arguments)

    def say(text: str) -> None:
        print(f"... {text}", file=sys.stderr, flush=True)

    model = args.model or default_path()
    try:
        fields = [item.path.resolve() for item in expand([args.folder]) if item.path is not None]
        if not fields:
            raise DataError("no_fields", f"{args.folder}: has no field: give a folder with some")
        if model.suffix not in MEMORY_MB:
            raise DataError("no_model", f"{model}: give an .onnx or a .tflite file")
        with Classifier.load(model, threads=args.threads) as classifier:
            info = vars(classifier.info)
        found = measure(
            fields,
            model,
            many=args.fields,
            pictures=args.pictures,
            repeats=args.repeats,
            threads=args.threads,
            say=say,
        )
    except (AllsubError, OSError) as error:
        print(f"guest_checks: error: {error}", file=sys.stderr)
        return 2
    for check in found:
        print(check.row())
    print(f"{info['name']} {info['version']}, {info['engine']}, {info['threads']} threads")
    if args.out is not None:
        values = [check.to_dict() for check in found]
        write_text(
            args.out, json.dumps({"schema": SCHEMA, "model": info, "checks": values}, indent=1)
        )
    return 0 if all(check.met is not False for check in found) else 1


if __name__ == "__main__":
    sys.exit(main())
