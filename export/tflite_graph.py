"""TFLite files opened for editing, by the schema that TensorFlow generates from ``schema.fbs``."""

from __future__ import annotations

from typing import Any, Final

ALIGNMENT: Final = 16
"""``schema.fbs`` wants the data of every buffer at a multiple of this (``force_align``)."""

CONVERSION_NOTE: Final = b"CONVERSION_METADATA"
"""Where the converter notes its environment; the manifest is where a file explains itself."""


def unpack(data: bytes) -> Any:
    """A TFLite file as the schema's ``ModelT``."""
    from tensorflow.lite.python import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(bytearray(data), 0)


def pack(model: Any) -> bytes:
    """A ``ModelT`` as a file, with every buffer's data aligned.

    TensorFlow's own packing leaves three quarters of the buffers of a model at odd addresses, which
    costs time on some chips and a fault on others.
    """
    import flatbuffers

    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data):
            buffer.Pack = _aligned(buffer)
    model.metadata = [m for m in model.metadata or [] if bytes(m.name) != CONVERSION_NOTE]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _aligned(buffer: Any) -> Any:
    from tensorflow.lite.python import schema_py_generated as schema

    content = bytes(buffer.data)

    def write(builder: Any) -> Any:
        builder.StartVector(1, len(content), ALIGNMENT)
        head = builder.Head() - len(content)
        builder.head = head
        builder.Bytes[head : head + len(content)] = content
        offset = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, offset)
        return schema.BufferEnd(builder)

    return write


def kinds(model: Any) -> list[str]:
    """Operator names of the main graph, such as ``CONV_2D``, in the order in which they run."""
    from tensorflow.lite.python import schema_py_generated as schema

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    codes = [
        names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes
    ]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


def tensor_name(model: Any, index: int) -> str:
    """Name of a tensor of the main graph."""
    name: str = bytes(model.subgraphs[0].tensors[index].name).decode()
    return name


def operator_code(model: Any, name: str, version: int) -> int:
    """Index of an operator's code in the model, added if it is not there."""
    from tensorflow.lite.python import schema_py_generated as schema

    number = getattr(schema.BuiltinOperator, name)
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == number and code.version == version:
            return index
    code = schema.OperatorCodeT()
    # Readers from before schema version 3a know only the one-byte field, which ends at 127.
    code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def drop_unused_codes(model: Any) -> None:
    """Forget operators that nothing uses any more: a reader must know every one that is listed."""
    used = sorted({op.opcodeIndex for graph in model.subgraphs for op in graph.operators})
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    place = {old: new for new, old in enumerate(used)}
    for graph in model.subgraphs:
        for operator in graph.operators:
            operator.opcodeIndex = place[operator.opcodeIndex]


def operator_versions(data: bytes) -> dict[str, int]:
    """Operator name -> highest version that a file asks for."""
    from tensorflow.lite.python import schema_py_generated as schema

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    found: dict[str, int] = {}
    for code in unpack(data).operatorCodes:
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        found[name] = max(found.get(name, 0), int(code.version))
    return dict(sorted(found.items()))


def add_buffer(model: Any, content: bytes) -> int:
    """Append a buffer; returns its index."""
    import numpy as np
    from tensorflow.lite.python import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1
