"""The metadata of an ONNX file, read and written in its bytes without an ONNX library.

An ``.onnx`` file is one serialised protobuf message, ``ModelProto``. Only its top level matters
here, and the wire format (https://protobuf.dev/programming-guides/encoding/) makes that level easy
to walk: every entry is a tag, then a varint, 4 or 8 bytes, or a length and that many bytes. Entries
of a repeated field may stand anywhere, so metadata can be cut out and appended without touching
the graph. Field numbers are those of onnx.proto (onnx/onnx, IR version 3 and later).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

IR_VERSION: Final[int] = 1
GRAPH: Final[int] = 7
METADATA_PROPS: Final[int] = 14
_KEY: Final[int] = 1
_VALUE: Final[int] = 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Entry(NamedTuple):
    """One entry of a message: where it starts and ends, and where its payload starts."""

    number: int
    wire: int
    start: int
    payload: int
    end: int


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("broken varint")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def entries(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Entry]:
    """Walk one message level; raises ValueError where the bytes are not a protobuf message."""
    stop = len(data) if end is None else end
    at = start
    while at < stop:
        tag, payload = _read_varint(data, at, stop)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, after = _read_varint(data, payload, stop)
        elif wire == _BYTES:
            length, payload = _read_varint(data, payload, stop)
            after = payload + length
        elif wire in (_FIXED64, _FIXED32):
            after = payload + (8 if wire == _FIXED64 else 4)
        else:
            raise ValueError(f"unknown wire type {wire}")
        if number == 0 or after > stop:
            raise ValueError("broken entry")
        yield Entry(number, wire, at, payload, after)
        at = after


def looks_like_onnx(data: bytes) -> bool:
    """True if ``data`` walks as a message with an IR version and a graph."""
    try:
        seen = {(entry.number, entry.wire) for entry in entries(data)}
    except ValueError:
        return False
    return (IR_VERSION, _VARINT) in seen and (GRAPH, _BYTES) in seen


def _property(data: bytes, entry: Entry) -> tuple[str, bytes]:
    key, value = b"", b""
    for item in entries(data, entry.payload, entry.end):
        if item.number == _KEY:
            key = data[item.payload : item.end]
        elif item.number == _VALUE:
            value = data[item.payload : item.end]
    return key.decode("utf-8", "replace"), value


def metadata(data: bytes) -> list[tuple[str, bytes]]:
    """Metadata entries (key, value) in file order; raises ValueError if not a message."""
    return [
        _property(data, entry)
        for entry in entries(data)
        if entry.number == METADATA_PROPS and entry.wire == _BYTES
    ]


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(payload)) + payload


def with_metadata(data: bytes, properties: Mapping[str, bytes]) -> bytes:
    """Copy of the file with these metadata properties, replacing those of the same key.

    The graph and all other entries keep their bytes and their order; properties go to the end.
    Raises ValueError if ``data`` is not a message.
    """
    kept = [
        data[entry.start : entry.end]
        for entry in entries(data)
        if entry.number != METADATA_PROPS or _property(data, entry)[0] not in properties
    ]
    added = [
        _field(METADATA_PROPS, _field(_KEY, key.encode()) + _field(_VALUE, value))
        for key, value in properties.items()
    ]
    return b"".join(kept + added)
