"""The two defects of tf2onnx's optimiser, measured with and without their mending.

    python -m allsub_edge.export.defects [BACKBONE] [--cut CUT] [--fusion FUSION]

The field model of a backbone with random weights is converted twice, each time in a process of its
own: as tf2onnx is, and inside ``tf2onnx_mended.mended``. Printed are the Transpose operators that
stay, what the optimiser only logged, and the peak memory of the process, TensorFlow included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final

LIMIT_S: Final = 3600
"""A conversion that takes longer is ended."""


class _Logged(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def convert_here(backbone: str, cut: str, fusion: str, *, mend: bool) -> dict[str, Any]:
    """Convert in this process; returns ``transposes``, ``logged``, ``seconds`` and ``peak_mib``."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import numpy as np
    import tensorflow as tf
    import tf2onnx

    from allsub_edge.export.graph import field_model
    from allsub_edge.export.measure import peak_mib
    from allsub_edge.export.onnx_float import OPSET
    from allsub_edge.export.tf2onnx_mended import mended
    from allsub_edge.training.config import TrainConfig
    from allsub_edge.training.network import build_network

    config = TrainConfig(backbone=backbone, cut=cut, fusion=fusion, weights="none")
    network = build_network(config)
    width = int(network.core.outputs[1].shape[-1])
    domain = {
        "centre": np.zeros(width, np.float32),
        "whiten": np.eye(width, 16, dtype=np.float32),
        "means": np.ones((4, 16), np.float32),
    }
    model = field_model(network, 1.0, domain)
    given = [tf.TensorSpec((None, *t.shape[1:]), t.dtype, name=t.name) for t in model.inputs]
    logged = _Logged()
    logging.getLogger("tf2onnx.optimizer").addHandler(logged)
    before, started = peak_mib(), perf_counter()
    with mended() if mend else contextlib.nullcontext():
        proto, _ = tf2onnx.convert.from_keras(model, input_signature=given, opset=OPSET)
    return {
        "mended": mend,
        "parameters": sum(int(x.count_params()) for x in network.extractors),
        "transposes": sum(node.op_type == "Transpose" for node in proto.graph.node),
        "logged": logged.lines,
        "seconds": round(perf_counter() - started, 1),
        "peak_mib_before": before,
        "peak_mib": peak_mib(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print one JSON object for each way; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("backbone", nargs="?", default="mobilenet_v3_small", help="[%(default)s]")
    parser.add_argument("--cut", default="full", help="[%(default)s]")
    parser.add_argument("--fusion", default="mask_pool", choices=("branches", "mask_pool"))
    parser.add_argument("--way", choices=("mended", "bare"), help="only this one, in this process")
    args = parser.parse_args(argv)
    if args.way:
        found = convert_here(args.backbone, args.cut, args.fusion, mend=args.way == "mended")
        print(json.dumps(found), flush=True)
        return 0
    for way in ("bare", "mended"):
        command = [sys.executable, "-m", "allsub_edge.export.defects", args.backbone]
        command += ["--cut", args.cut, "--fusion", args.fusion, "--way", way]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        print(lines[-1] if lines else f"{way}: exit code {done.returncode}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
