"""Files inside a TFLite file, by the convention of TFLite metadata.

A TFLite file is a flatbuffer, and a reader of flatbuffers stops where the buffer's own tables end;
a reader of zip archives starts at the end of a file. So a zip archive behind the flatbuffer travels
unseen by every interpreter, and ``unzip`` or any TFLite metadata reader gets its files out
(https://ai.google.dev/edge/litert/models/metadata). Members are stored uncompressed and with a
fixed date, so that the same content gives the same bytes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Final

MANIFEST_FILE: Final[str] = "allsub_edge_manifest.json"
LABELS_FILE: Final[str] = "labels.txt"
"""One class name a line, in the order of the probabilities."""

_IDENTIFIER: Final[bytes] = b"TFL3"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def looks_like_tflite(data: bytes) -> bool:
    """True if ``data`` starts as a TFLite flatbuffer: identifier, root table and its vtable."""
    if data[4:8] != _IDENTIFIER:
        return False
    root = int.from_bytes(data[:4], "little")
    if root + 4 > len(data):
        return False
    vtable = root - int.from_bytes(data[root : root + 4], "little", signed=True)
    return vtable >= 0 and vtable + 4 <= len(data)


def _archive(data: bytes) -> tuple[int, dict[str, bytes]]:
    """Where the archive starts (the length of ``data`` if there is none), and its files."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return len(data), {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        start = min((item.header_offset for item in members), default=archive.start_dir)
        return start, {item.filename: archive.read(item) for item in members}


def files(data: bytes) -> dict[str, bytes]:
    """The associated files by name; none if there is no archive.

    Raises ValueError where the archive is broken.
    """
    try:
        return _archive(data)[1]
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise ValueError(f"broken archive: {error}") from error


def flatbuffer(data: bytes) -> bytes:
    """The file without its archive."""
    return data[: _archive(data)[0]]


def with_files(data: bytes, added: Mapping[str, bytes], comment: bytes) -> bytes:
    """Copy of the file with these associated files, replacing those of the same name.

    Args:
        data: a TFLite file, with or without an archive; other associated files are kept.
        added: name -> content.
        comment: the archive's comment, the last bytes of the file; at most 65535 bytes.
    """
    start, kept = _archive(data)
    stream = io.BytesIO(data[:start])
    # Appending makes the offsets those of the whole file, as other readers expect them.
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, content in {**kept, **added}.items():
            item = zipfile.ZipInfo(name, _EPOCH)
            item.create_system = 3  # the same bytes on every system
            item.external_attr = 0o644 << 16
            archive.writestr(item, content)
        archive.comment = comment
    return stream.getvalue()
