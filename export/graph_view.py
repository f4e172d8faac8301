"""Look-ups and edits of an ONNX graph that is being rewritten."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from allsub_edge.export import lean


class View:
    """Who makes a tensor, who reads it, and which tensors are constant."""

    def __init__(self, proto: Any) -> None:
        from onnx import numpy_helper

        self.graph = proto.graph
        self.producer = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.constants: dict[str, npt.NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer
        }

    def made_by(self, name: str, kind: str) -> Any | None:
        """The operator that makes ``name`` if it is of this kind."""
        node = self.producer.get(name)
        return node if node is not None and node.op_type == kind else None

    def operands(self, node: Any) -> tuple[str, npt.NDArray[Any]] | None:
        """The tensor and the constant that a Mul or Add joins; None if it is not of that kind."""
        for data, other in (node.input, reversed(node.input)):
            if other in self.constants and data not in self.constants:
                return data, self.constants[other]
        return None

    def before(self, name: str) -> set[str]:
        """Kinds of all operators that ``name`` depends on."""
        kinds: set[str] = set()
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            node = self.producer.get(waiting.pop())
            if node is None or node.output[0] in seen:
                continue
            seen.add(node.output[0])
            kinds.add(node.op_type)
            waiting.extend(node.input)
        return kinds


def size_of(proto: Any) -> tuple[int, int]:
    """Height and width of a field model's first input."""
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    return int(dims[1].dim_value), int(dims[2].dim_value)


def replace_readers(proto: Any, old: str, new: str) -> None:
    """Let every reader of ``old`` read ``new``."""
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def insert(proto: Any, build: lean.Builder, place: Any | None = None) -> None:
    """Put a builder's operators in front of ``place``, an operator, or of all others; its constants
    with the others."""
    from onnx import numpy_helper

    nodes = list(proto.graph.node)
    index = 0 if place is None else nodes.index(place)
    nodes[index:index] = build.nodes
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in build.constants.items()
    )


def attribute(node: Any, name: str) -> list[int]:
    """A list of integers that an operator has as an attribute; empty if it has none so named."""
    from onnx import helper

    for item in node.attribute:
        if item.name == name:
            return [int(value) for value in helper.get_attribute_value(item)]
    return []


def drop_dead(proto: Any) -> None:
    """Drop operators and constants that no output depends on."""
    producer = {name: node for node in proto.graph.node for name in node.output}
    alive: set[str] = set()
    waiting = [output.name for output in proto.graph.output]
    while waiting:
        name = waiting.pop()
        if name in alive:
            continue
        alive.add(name)
        if name in producer:
            waiting.extend(producer[name].input)
            alive.update(producer[name].output)
    nodes = [node for node in proto.graph.node if alive.intersection(node.output)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    for tensor in [t for t in proto.graph.initializer if t.name not in alive]:
        proto.graph.initializer.remove(tensor)
    for value in [v for v in proto.graph.value_info if v.name not in alive]:
        proto.graph.value_info.remove(value)
