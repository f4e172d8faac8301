"""tf2onnx 1.17 with two defects of its optimiser mended, for as long as a conversion lasts.

1. Its transpose optimiser asks a scalar for its largest dimension, when an Add behind a convolution
   adds one number. It crashes, tf2onnx only logs that and goes on, and every Transpose stays: 204
   in MobileNetV3-Small where 2 are needed.
2. Every optimiser pass works on a deep copy of the graph, weights included. The copies refer to
   themselves, so they wait for Python's cyclic collector, which counts objects and not bytes: a
   network of 48 million parameters peaked at 14.3 GB, 3.3 GB with a collection before each copy.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final

from allsub_edge.errors import ModelFileError

_LOGGER: Final = "tf2onnx.optimizer"


class _Failures(logging.Handler):
    """Collects what the optimiser only logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            line += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        self.lines.append(line)


def _add_handler(original: Any) -> Any:
    def handle(self: Any, trans: Any, node: Any) -> Any:
        added = node.inputs[1]
        if added.is_const() and added.get_tensor_value(as_list=False).ndim == 0:
            # What the optimiser does with every other Add that it cannot put into a convolution.
            return self._handle_node_having_branches(trans, node)
        return original(self, trans, node)

    return handle


def _collecting(copy: Any) -> Any:
    def deepcopy(value: Any, *rest: Any) -> Any:
        gc.collect()
        return copy.deepcopy(value, *rest)

    return SimpleNamespace(deepcopy=deepcopy)


@contextmanager
def mended() -> Iterator[None]:
    """Inside, ``tf2onnx.convert`` has neither defect; afterwards tf2onnx is as it was.

    Raises:
        ModelFileError: ``optimiser_failed``, an optimiser pass failed all the same. tf2onnx would
            have gone on with a graph that nobody looked at.
    """
    from tf2onnx import optimizer
    from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

    handler, copy = TransposeOptimizer._add_handler, optimizer.copy
    failures = _Failures()
    logger = logging.getLogger(_LOGGER)
    TransposeOptimizer._add_handler = _add_handler(handler)
    optimizer.copy = _collecting(copy)
    logger.addHandler(failures)
    try:
        yield
    finally:
        TransposeOptimizer._add_handler, optimizer.copy = handler, copy
        logger.removeHandler(failures)
        gc.collect()
    if failures.lines:
        raise ModelFileError(
            "optimiser_failed",
            f"tf2onnx could not optimise the graph: {'; '.join(failures.lines)[:300]}. "
            "Install the versions of constraints.txt",
        )
