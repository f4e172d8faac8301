"""One file that carries a model, its manifest and a digest over all of its bytes.

The digest is the SHA-256 of the whole file with the digest's own 64 hex characters taken as zeros.
It stands behind a marker that is found in the bytes without parsing them, so damage anywhere,
in the graph, the manifest or the framing, is noticed before any parser or engine sees the file.
It guards against damage and careless edits; whoever edits on purpose can also renew it.

ONNX keeps both in its metadata properties, ``allsub_edge_manifest`` and ``allsub_edge_digest``.
TFLite keeps the manifest as an associated file in its appended archive, beside ``labels.txt``, and
the digest in the archive's comment.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from allsub_edge.errors import ModelFileError
from allsub_edge.model_file import onnx_bytes, tflite_bytes
from allsub_edge.model_file.manifest import Manifest

MANIFEST_KEY: Final[str] = "allsub_edge_manifest"
DIGEST_KEY: Final[str] = "allsub_edge_digest"

_MARKER: Final[bytes] = DIGEST_KEY.encode()
# Up to 8 bytes of the format's own framing may stand between the key and its value: two in
# protobuf (tag and length), a few quotes and spaces in JSON.
_SLOT: Final[re.Pattern[bytes]] = re.compile(
    re.escape(_MARKER) + rb"[\x00-\xff]{0,8}?sha256:([0-9a-f]{64})"
)
MAX_BYTES: Final[int] = 2**31
"""Largest model file: protobuf, and with it ONNX, ends there."""

_ZEROS: Final[bytes] = b"0" * 64


@dataclass(frozen=True)
class ModelBytes:
    """A verified model file in memory.

    Attributes:
        data: the bytes that were verified; engines run these, never the path again.
        manifest: what the file says about itself.
        sha256: hex SHA-256 of the file as it is, as ``sha256sum`` prints it.
        format: ``onnx`` or ``tflite``.
        source: the path it was read from, for messages.
    """

    data: bytes
    manifest: Manifest
    sha256: str
    format: str
    source: str


def detect_format(data: bytes) -> str | None:
    """``onnx``, ``tflite`` or None, judged by content."""
    if tflite_bytes.looks_like_tflite(data):
        return "tflite"
    return "onnx" if onnx_bytes.looks_like_onnx(data) else None


def _slot(data: bytes, source: str) -> tuple[int, int]:
    """Where the 64 hex characters of the digest stand."""
    count = data.count(_MARKER)
    if count == 0 and MANIFEST_KEY.encode() not in data:
        what = "is empty" if not data else "has no allsub-edge manifest inside"
        raise ModelFileError(
            "not_a_model_file",
            f"{source}: not an allsub-edge model file, it {what}: "
            "name one that `allsub-edge export` made, or copy it again if it was cut short",
        )
    match = _SLOT.search(data)
    if count != 1 or match is None:
        raise _damaged(source)
    return match.span(1)


def _damaged(source: str) -> ModelFileError:
    return ModelFileError(
        "damaged",
        f"{source}: the model file is damaged or was edited (its digest does not fit its "
        "content): copy or download it again",
    )


def _digest(data: bytes, span: tuple[int, int]) -> str:
    view = memoryview(data)
    total = hashlib.sha256(view[: span[0]])
    total.update(_ZEROS)
    total.update(view[span[1] :])
    return total.hexdigest()


def verify(data: bytes, *, source: str = "the model file") -> str:
    """Check the digest of a model file's bytes.

    Returns:
        The digest, ``sha256:`` and 64 hex characters.

    Raises:
        ModelFileError: ``not_a_model_file`` (no manifest and no digest inside), ``damaged``.
    """
    span = _slot(data, source)
    stated = data[span[0] : span[1]].decode("ascii")
    if stated != _digest(data, span):
        raise _damaged(source)
    return f"sha256:{stated}"


def _load(path: str | os.PathLike[str]) -> bytes:
    """A model file's bytes; raises ModelFileError as ``read`` does."""
    target = Path(path)
    try:
        # A device would never end and a pipe may never begin, so what it is comes before opening.
        status = target.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ModelFileError("unreadable", f"{target}: is {kind}; name a model file")
        if status.st_size > MAX_BYTES:
            raise ModelFileError(
                "too_large",
                f"{target}: {status.st_size / 1e6:.0f} MB are more than the {MAX_BYTES / 1e6:.0f} "
                "MB that a model file may have: check the path",
            )
        return target.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError("missing", f"{target}: no such model file: check the path") from error
    except MemoryError as error:
        raise ModelFileError(
            "no_memory",
            f"{target}: there is too little memory to read the model file: free some, or use a "
            "smaller model",
        ) from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ModelFileError(
            "unreadable", f"{target}: the model file cannot be read ({reason})"
        ) from error


def seal(source: bytes | str | os.PathLike[str]) -> bytes:
    """Fill in the digest of a model file (its bytes or its path) and return the new bytes.

    Raises:
        ModelFileError: no place for a digest inside: ``embed_manifest`` comes first.
    """
    data = source if isinstance(source, bytes) else _load(source)
    name = "the model" if isinstance(source, bytes) else os.fspath(source)
    span = _slot(data, name)
    return data[: span[0]] + _digest(data, span).encode("ascii") + data[span[1] :]


def embed_manifest(model: bytes, manifest: Manifest) -> bytes:
    """Put a manifest into an ONNX or TFLite model and seal it; an older manifest is replaced.

    Raises:
        ModelFileError: ``not_a_model_file`` if ``model`` is neither; ``bad_manifest`` if the
            manifest's own text contains the digest marker.
    """
    kind = detect_format(model)
    document = manifest.to_json().encode("ascii")
    seat = b"sha256:" + _ZEROS
    if kind == "onnx":
        written = onnx_bytes.with_metadata(model, {MANIFEST_KEY: document, DIGEST_KEY: seat})
    elif kind == "tflite":
        labels = "".join(f"{name}\n" for name in manifest.classes).encode("ascii")
        added = {tflite_bytes.MANIFEST_FILE: document, tflite_bytes.LABELS_FILE: labels}
        written = tflite_bytes.with_files(model, added, _MARKER + b" " + seat)
    else:
        raise ModelFileError(
            "not_a_model_file", "the bytes given are neither an ONNX nor a TFLite model"
        )
    if written.count(_MARKER) != 1:
        raise ModelFileError(
            "bad_manifest",
            f"the text {DIGEST_KEY!r} may stand only once in a model file: take it out of the "
            "manifest or the graph",
        )
    return seal(written)


def _manifests(data: bytes, kind: str) -> list[bytes]:
    """Every manifest inside; raises ValueError where the file's framing is broken."""
    if kind == "tflite":
        found = tflite_bytes.files(data).get(tflite_bytes.MANIFEST_FILE)
        return [] if found is None else [found]
    return [value for key, value in onnx_bytes.metadata(data) if key == MANIFEST_KEY]


def parse(data: bytes, *, source: str = "the model file") -> ModelBytes:
    """Verify a model file's bytes and read its manifest; raises as ``read`` does."""
    verify(data, source=source)
    kind = detect_format(data)
    if kind is None:
        raise ModelFileError(
            "unsupported_format",
            f"{source}: this version reads model files in the ONNX and TFLite formats only",
        )
    try:
        found = _manifests(data, kind)
    except ValueError as error:
        raise ModelFileError("not_a_model_file", f"{source}: {error}") from error
    if len(found) != 1:
        raise ModelFileError(
            "not_a_model_file", f"{source}: has {len(found)} manifests inside, not one"
        )
    try:
        manifest = Manifest.from_json(found[0])
    except ModelFileError as error:
        raise ModelFileError(error.code, f"{source}: {error.message}") from error
    return ModelBytes(data, manifest, hashlib.sha256(data).hexdigest(), kind, source)


def read(path: str | os.PathLike[str]) -> ModelBytes:
    """Read and verify a model file.

    Raises:
        ModelFileError: ``missing``, ``unreadable``, ``too_large`` (above MAX_BYTES),
            ``no_memory``, ``not_a_model_file``, ``damaged``, ``unsupported_format``, and the codes
            of ``Manifest.from_dict``.
    """
    return parse(_load(path), source=os.fspath(path))
