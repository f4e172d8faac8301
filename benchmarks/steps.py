"""What each change of an exported graph brought, and that the answers stayed the same.

    python -m allsub_edge.benchmarks.steps PLAIN.onnx [--threads 1] [--json OUT.json]

PLAIN is a model file as it was converted: ``allsub-edge export RUN ... --as-converted``. The passes
of ``export.fuse`` are added one after another; all graphs, and the file opened with other settings,
take turns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from allsub_edge.benchmarks import machine, program, workload
from allsub_edge.benchmarks.sampling import summary, take_turns
from allsub_edge.errors import UsageError
from allsub_edge.model_file import container

SCHEMA: Final[str] = "allsub-edge/steps/1"


def _session(data: bytes, threads: int) -> Any:
    import onnxruntime as ort

    from allsub_edge.engines.onnx_runtime import session_options

    return ort.InferenceSession(data, session_options(threads), providers=["CPUExecutionProvider"])


def graphs(model: container.ModelBytes) -> dict[str, bytes]:
    """Name of a step -> the graph with it and all steps before it.

    Raises:
        UsageError: ``already_fused``, no pass changes anything.
    """
    import onnx

    from allsub_edge.export import fuse

    params = fuse.params_of(model.manifest)
    proto = onnx.load_from_string(model.data)
    found = {"as converted": proto.SerializeToString()}
    passes: dict[str, Callable[[], bool]] = {
        "lean preparation": lambda: params is not None and fuse.lean_preparation(proto, params),
        "quad stem": lambda: fuse.quad_stem(proto),
        "joined reshapes": lambda: fuse.tidy(proto),
        "fewer small operators": lambda: fuse.fewer_operators(proto),
    }
    for name, change in passes.items():
        if change():
            found[f"+ {name}"] = proto.SerializeToString()
    if len(found) == 1:
        raise UsageError(
            "already_fused",
            f"{model.source}: no pass changes it: give a file that was converted without them",
        )
    return found


def measure(path: str, threads: int, seconds: float) -> dict[str, Any]:
    """Measure every step of one file in turns.

    Raises:
        ModelFileError, UsageError: the file is not usable for this.
    """
    model = container.read(path)
    made = graphs(model)
    sessions = {name: _session(data, threads) for name, data in made.items()}
    fields = workload.pixels(8)
    names = ["probabilities", "domain_distance", "mask"]
    wanted = [session_answers(sessions["as converted"], field, names) for field in fields]

    def runner(name: str) -> Callable[[int], object]:
        return lambda number: sessions[name].run(names, {"field": fields[number % 8][None]})

    turns = take_turns({name: runner(name) for name in sessions}, min_seconds=seconds, min_count=50)
    rows, before = [], "as converted"
    for name, session in sessions.items():
        got = [session_answers(session, field, names) for field in fields]
        pairs = list(zip(wanted, got, strict=True))
        apart = max(float(np.abs(a[i] - b[i]).max()) for a, b in pairs for i in (0, 1))
        equal = all(np.array_equal(a[2], b[2]) for a, b in pairs)
        whole = turns.ratio("as converted", name)
        rows.append(
            {
                "step": name,
                **summary(turns.samples[name]),
                "ratio_to_before": turns.ratio(before, name)["ratio"],
                "ratio_to_first": whole["ratio"],
                "interval95": whole["interval95"],
                "largest_difference": apart,
                "masks_equal": equal,
            }
        )
        before = name
    return {"schema": SCHEMA, "machine": machine.describe(), "threads": threads, "rows": rows}


def session_answers(session: Any, field: Any, names: list[str]) -> list[Any]:
    """Outputs for one field, as float64 and a mask."""
    p, d, m = session.run(names, {"field": field[None]})
    return [p.astype(np.float64), d.astype(np.float64), m]


def markdown(result: dict[str, Any]) -> str:
    """A table for people."""
    lines = [
        "| graph | p50 ms | p90 ms | against the step before | against the first (95 % interval) "
        "| largest difference of an answer | masks equal |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in result["rows"]:
        low, high = r["interval95"]
        lines.append(
            f"| {r['step']} | {r['p50_ms']:.2f} | {r['p90_ms']:.2f} | {r['ratio_to_before']:.2f} "
            f"| **{r['ratio_to_first']:.2f}** ({low:.2f} to {high:.2f}) "
            f"| {r['largest_difference']:.1g} | {'yes' if r['masks_equal'] else 'NO'} |"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run the program; returns 0, or 2 with one line on stderr."""
    parser = program.parser_of("steps", __doc__)
    parser.add_argument("model", metavar="PLAIN.onnx")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="[%(default)s]")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="[%(default)s]")
    args = parser.parse_args(arguments)
    code: int = program.finish(
        "steps", lambda: measure(args.model, args.threads, args.seconds), markdown, args.json
    )
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
