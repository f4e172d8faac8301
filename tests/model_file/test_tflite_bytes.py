"""The container around TFLite bytes; no TensorFlow and no interpreter is needed for it."""

from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np
import pytest

from allsub_edge.classes import CLASSES
from allsub_edge.errors import ModelFileError
from allsub_edge.model_file import container, tflite_bytes
from allsub_edge.model_file.manifest import Manifest
from tests.toy_model import manifest_dict

# Root offset 12, identifier, a vtable without fields, the root table, then what a model would hold.
BARE = (
    (12).to_bytes(4, "little")
    + b"TFL3"
    + b"\x04\x00\x04\x00"
    + (4).to_bytes(4, "little")
    + np.random.default_rng(3).integers(0, 256, 5000, dtype=np.uint8).tobytes()
)
MANIFEST = Manifest.from_dict(manifest_dict())


def sealed() -> bytes:
    return container.embed_manifest(BARE, MANIFEST)


def code_of(data: bytes) -> str:
    with pytest.raises(ModelFileError) as caught:
        container.parse(data, source="some.tflite")
    assert "some.tflite" in caught.value.message
    return caught.value.code


def test_reading_gives_back_what_was_embedded() -> None:
    data = sealed()
    model = container.parse(data)
    assert (model.manifest, model.format) == (MANIFEST, "tflite")
    assert model.sha256 == hashlib.sha256(data).hexdigest()
    assert data.startswith(BARE) and tflite_bytes.flatbuffer(data) == BARE


def test_any_zip_reader_finds_the_files() -> None:
    with zipfile.ZipFile(io.BytesIO(sealed())) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [tflite_bytes.MANIFEST_FILE, tflite_bytes.LABELS_FILE]
        assert Manifest.from_json(archive.read(tflite_bytes.MANIFEST_FILE)) == MANIFEST
        assert archive.read(tflite_bytes.LABELS_FILE).decode().split() == list(CLASSES)


def test_the_digest_is_the_one_documented() -> None:
    data = sealed()
    stated = container.verify(data).removeprefix("sha256:")
    assert data.endswith(stated.encode())
    assert hashlib.sha256(data.replace(stated.encode(), b"0" * 64)).hexdigest() == stated


def test_the_same_content_gives_the_same_bytes() -> None:
    assert sealed() == sealed()
    assert container.seal(sealed()) == sealed()


def test_embedding_again_replaces_and_keeps_other_files() -> None:
    other = tflite_bytes.with_files(BARE, {"notes.txt": b"by somebody"}, b"")
    first = container.embed_manifest(other, MANIFEST)
    changed = Manifest.from_dict(manifest_dict(version="0.2"))
    second = container.embed_manifest(first, changed)
    assert container.parse(second).manifest.version == "0.2"
    assert tflite_bytes.files(second)["notes.txt"] == b"by somebody"
    assert second.count(b'"version": "0.1"') == 0
    assert container.embed_manifest(second, MANIFEST) == first


def test_every_flipped_byte_is_noticed() -> None:
    data = bytearray(sealed())
    assert len(data) > len(BARE) + 1000
    for position in range(len(data)):
        data[position] ^= 1 << position % 8
        assert code_of(bytes(data)) == "damaged", position
        data[position] ^= 1 << position % 8
    container.verify(bytes(data))


def test_a_file_cut_short_or_extended_is_refused() -> None:
    data = sealed()
    assert code_of(data[: len(BARE)]) == "not_a_model_file"
    assert code_of(data[:-1]) == "damaged"
    assert code_of(data + b"\0") == "damaged"
    assert code_of(data + data) == "damaged"
    assert code_of(BARE) == "not_a_model_file"


def test_a_manifest_must_not_hold_the_digest_marker() -> None:
    manifest = Manifest.from_dict(manifest_dict(citation=container.DIGEST_KEY))
    with pytest.raises(ModelFileError) as caught:
        container.embed_manifest(BARE, manifest)
    assert caught.value.code == "bad_manifest"


def test_an_archive_that_lost_its_manifest_is_refused() -> None:
    data = sealed()
    renamed = data.replace(b"allsub_edge_manifest.json", b"allsub_edge_manifest.txt_")
    assert code_of(container.seal(renamed)) == "not_a_model_file"


def test_an_archive_broken_under_a_right_digest_is_refused() -> None:
    data = bytearray(sealed())
    at = data.index(b'"schema"')
    data[at] ^= 1  # the member's checksum no longer fits
    assert code_of(container.seal(bytes(data))) == "not_a_model_file"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0c\0\0\0TFL3",
        b"\xff\xff\xff\xffTFL3" + bytes(20),
        b"\x0c\0\0\0TFL3" + bytes(4) + b"\x7f\0\0\0" + bytes(20),
        BARE.replace(b"TFL3", b"TFL2"),
    ],
)
def test_what_is_no_flatbuffer_is_no_tflite(data: bytes) -> None:
    assert container.detect_format(BARE) == "tflite"
    assert container.detect_format(data) is None
