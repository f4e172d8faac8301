"""Which operators of a quantised ONNX graph run in integers, as ONNX Runtime joins them.

A file says ``DequantizeLinear, Conv, QuantizeLinear``; what runs is one operator on bytes. Where
no operator between the two can be joined with them, they are work of their own: at the border to
what computes in float32.
"""

from __future__ import annotations

from typing import Any, Final

from allsub_edge.export.graph_view import View

BORDERS: Final = ("QuantizeLinear", "DequantizeLinear")

JOINED: Final = ("Clip", "Relu")
"""Done while the operator before them writes."""


class IntegerParts:
    """Look-ups over the graph of an ``onnx.ModelProto``."""

    def __init__(self, proto: Any) -> None:
        self._view = View(proto)
        self._results: set[str] = set()
        for node in proto.graph.node:
            first = node.input[0] if node.input else ""
            behind = self._view.made_by(first, "DequantizeLinear") is not None
            known = behind or (node.op_type in JOINED and first in self._results)
            if known and node.op_type not in BORDERS and self._ends(node.output[0]):
                self._results.update(node.output)

    def _ends(self, name: str) -> bool:
        """Whether all that is done with a tensor is to quantise it."""
        after = self._view.readers.get(name, [])
        return bool(after) and all(
            node.op_type == "QuantizeLinear"
            or (node.op_type in JOINED and self._ends(node.output[0]))
            for node in after
        )

    def runs_in_integers(self, node: Any) -> bool:
        """Whether what an operator reads and writes are bytes when it runs."""
        return node.output[0] in self._results

    def vanishes(self, node: Any) -> bool:
        """Whether a quantisation or dequantisation is nothing of its own when the graph runs."""
        if node.op_type == "QuantizeLinear":
            return node.input[0] in self._results
        if node.input[0] not in self._view.producer:
            return True
        return all(self.runs_in_integers(n) for n in self._view.readers.get(node.output[0], []))
