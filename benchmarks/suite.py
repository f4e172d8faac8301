"""The benchmark as a whole: every measurement of ``allsub-edge bench`` in one JSON object."""

from __future__ import annotations

import datetime
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from allsub_edge.benchmarks import fresh, machine, stages, workload
from allsub_edge.benchmarks.contenders import Contender, open_contender
from allsub_edge.benchmarks.sampling import summary, take_turns
from allsub_edge.version import __version__

SCHEMA: Final[str] = "allsub-edge/bench/1"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        models: model files.
        seconds: least measured time of each contender's steady state.
        count: least number of fields of each contender's steady state.
        threads: numbers of threads to compare; the first is that of every other measurement.
        batches: batch sizes to compare.
        workloads: keys of ``workload.KINDS``.
        references: words of ``contenders`` beside the models.
        fresh_runs: processes started for each contender.
    """

    models: tuple[Path, ...]
    seconds: float = 3.0
    count: int = 100
    threads: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = (1, 8)
    workloads: tuple[str, ...] = tuple(workload.KINDS)
    references: tuple[str, ...] = ()
    fresh_runs: int = 3


def run(plan: Plan, say: Say = lambda line: None) -> dict[str, Any]:
    """Measure everything of a plan.

    Raises:
        UsageError, ModelFileError: a contender cannot be opened; nothing was measured then.
    """
    words = [f"ours:{path}" for path in plan.models] + list(plan.references)
    threads = plan.threads[0]
    before = machine.health()
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: workload.write(Path(folder), kind) for kind in plan.workloads}
        contenders = [open_contender(word, threads) for word in words]
        try:
            _unique_names(contenders)
            rows = [
                {"name": c.name, "word": c.word.partition(":")[0], **c.details} for c in contenders
            ]
            for row, contender in zip(rows, contenders, strict=True):
                say(f"{contender.name}: a process of its own")
                first = next(iter(files.values()))[0]
                row["fresh"] = fresh.measure(contender.word, first, threads, plan.fresh_runs)
            ratios = _steady(plan, contenders, files, rows, say)
        finally:
            for contender in contenders:
                contender.close()
        for path, row in zip(plan.models, rows, strict=False):
            _details(plan, path, files, row, say)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "health": {"before": before, "after": machine.health()},
        "plan": {
            **{k: v for k, v in asdict(plan).items() if k not in ("models", "references")},
            "models": [path.name for path in plan.models],
        },
        "models": rows,
        "ratios": ratios,
    }


def _unique_names(contenders: list[Contender]) -> None:
    seen: dict[str, int] = {}
    for contender in contenders:
        seen[contender.name] = seen.get(contender.name, 0) + 1
        if seen[contender.name] > 1:
            contender.name = f"{contender.name} ({seen[contender.name]})"


def _steady(
    plan: Plan,
    contenders: list[Contender],
    files: dict[str, list[Path]],
    rows: list[dict[str, Any]],
    say: Say,
) -> list[dict[str, Any]]:
    """Steady state of all contenders in turns, for each workload; returns the ratios."""
    ratios: list[dict[str, Any]] = []
    for row in rows:
        row["steady"] = {}
    for kind, paths in files.items():
        data = [path.read_bytes() for path in paths]

        def runner(contender: Contender, data: list[bytes] = data) -> Callable[[int], object]:
            return lambda number: contender.answer(data[number % len(data)])

        def told(line: str, kind: str = kind) -> None:
            say(f"{kind}: {line}")

        turns = take_turns(
            {c.name: runner(c) for c in contenders},
            min_seconds=plan.seconds,
            min_count=plan.count,
            say=told,
        )
        for row in rows:
            row["steady"][kind] = summary(turns.samples[row["name"]])
        first = contenders[0].name
        ratios += [{"workload": kind, **turns.ratio(other.name, first)} for other in contenders[1:]]
    return ratios


def _details(
    plan: Plan, path: Path, files: dict[str, list[Path]], row: dict[str, Any], say: Say
) -> None:
    """Stages, threads and batches of one model."""
    from allsub_edge.classifier import Classifier

    seconds = min(1.0, plan.seconds)
    say(f"{row['name']}: stages and batches")
    with Classifier.load(path, threads=plan.threads[0]) as classifier:
        row["stages"] = {
            kind: stages.measure_stages(classifier, paths, min(plan.count, 100))
            for kind, paths in files.items()
        }
        if plan.batches:
            row["batches"] = stages.measure_batches(classifier.engine, list(plan.batches), seconds)
    row["graph_preparation"] = stages.preparation_share(path, seconds, plan.threads[0])
    if len(plan.threads) > 1:
        say(f"{row['name']}: threads")
        row["threads_compared"] = _threads(plan, path, seconds)


def _threads(plan: Plan, path: Path, seconds: float) -> dict[str, Any]:
    from allsub_edge.classifier import Classifier

    opened = {str(n): Classifier.load(path, threads=n) for n in plan.threads}
    some = workload.pixels(8)

    def runner(classifier: Classifier) -> Callable[[int], object]:
        return lambda number: classifier.predict(some[number % len(some)])

    try:
        turns = take_turns(
            {name: runner(c) for name, c in opened.items()}, min_seconds=seconds, min_count=50
        )
    finally:
        for classifier in opened.values():
            classifier.close()
    first = str(plan.threads[0])
    return {
        name: {**summary(turns.samples[name]), "speed_up": turns.ratio(first, name)}
        for name in opened
    }


def say_to_stderr(line: str) -> None:
    """Progress for a person: one line that is overwritten."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
