from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from allsub_edge.errors import ModelFileError
from allsub_edge.model_file import container, onnx_bytes
from allsub_edge.model_file.manifest import Manifest
from tests import toy_model


def code_of(data: bytes) -> str:
    with pytest.raises(ModelFileError) as caught:
        container.parse(data, source="some.onnx")
    assert "some.onnx" in caught.value.message
    return caught.value.code


def test_reading_gives_back_what_was_embedded(tmp_path: Path) -> None:
    data = toy_model.sealed()
    path = tmp_path / "toy.onnx"
    path.write_bytes(data)
    model = container.read(path)
    assert model.manifest == Manifest.from_dict(toy_model.manifest_dict())
    assert model.sha256 == hashlib.sha256(data).hexdigest()
    assert (model.data, model.format, model.source) == (data, "onnx", str(path))


def test_the_digest_is_the_one_documented() -> None:
    data = toy_model.sealed()
    stated = container.verify(data).removeprefix("sha256:")
    assert data.count(stated.encode()) == 1
    assert hashlib.sha256(data.replace(stated.encode(), b"0" * 64)).hexdigest() == stated


def test_onnx_itself_sees_the_properties_and_the_same_graph() -> None:
    onnx = pytest.importorskip("onnx")
    before = onnx.load_model_from_string(toy_model.graph())
    after = onnx.load_model_from_string(toy_model.sealed())
    properties = {item.key: item.value for item in after.metadata_props}
    assert set(properties) == {container.MANIFEST_KEY, container.DIGEST_KEY}
    assert Manifest.from_json(properties[container.MANIFEST_KEY]).name == "toy"
    assert properties[container.DIGEST_KEY] == container.verify(toy_model.sealed())
    assert after.graph == before.graph
    onnx.checker.check_model(after)


def test_embedding_again_replaces_and_keeps_other_metadata() -> None:
    onnx = pytest.importorskip("onnx")
    proto = onnx.load_model_from_string(toy_model.graph())
    proto.metadata_props.add(key="author", value="somebody")
    first = container.embed_manifest(
        proto.SerializeToString(), Manifest.from_dict(toy_model.manifest_dict())
    )
    changed = Manifest.from_dict(toy_model.manifest_dict(version="0.2"))
    second = container.embed_manifest(first, changed)
    assert container.parse(second).manifest.version == "0.2"
    keys = [key for key, _ in onnx_bytes.metadata(second)]
    assert sorted(keys) == sorted(["author", container.MANIFEST_KEY, container.DIGEST_KEY])


def test_a_file_rewritten_by_onnx_can_be_sealed_again(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    proto = onnx.load_model_from_string(toy_model.sealed())
    proto.doc_string = "edited"
    path = tmp_path / "edited.onnx"
    path.write_bytes(proto.SerializeToString())
    assert code_of(path.read_bytes()) == "damaged"
    assert container.parse(container.seal(path)).manifest.name == "toy"


def test_sealing_is_idempotent() -> None:
    data = toy_model.sealed()
    assert container.seal(data) == data


def test_every_flipped_byte_is_noticed() -> None:
    data = toy_model.sealed()
    size = len(data)
    digest_at = data.index(container.DIGEST_KEY.encode())
    # A spread over the whole file, its edges, and every byte of the digest with its framing.
    positions = {0, 1, size - 1, *range(0, size, size // 150), *range(digest_at - 8, size)}
    for position in sorted(positions):
        broken = bytearray(data)
        broken[position] ^= 0x20
        assert code_of(bytes(broken)) == "damaged", position


def test_a_file_cut_short_or_extended_is_refused() -> None:
    data = toy_model.sealed()
    assert code_of(data[: len(data) // 2]) == "not_a_model_file"
    assert code_of(data[:-1]) == "damaged"
    assert code_of(data + b"\0") == "damaged"
    assert code_of(data + data) == "damaged"


def test_files_of_another_kind_are_refused() -> None:
    assert code_of(b"") == "not_a_model_file"
    assert code_of(b"hello") == "not_a_model_file"
    assert code_of(toy_model.graph()) == "not_a_model_file"


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        container.read(tmp_path / "none.onnx")
    assert caught.value.code == "missing"
    with pytest.raises(ModelFileError) as caught:
        container.read(tmp_path)
    assert caught.value.code == "unreadable"


def test_what_would_never_end_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def code(path: Path | str) -> str:
        with pytest.raises(ModelFileError) as caught:
            container.read(path)
        assert str(path) in caught.value.message
        return caught.value.code

    assert code("/dev/zero") == "unreadable"
    os.mkfifo(tmp_path / "pipe.onnx")
    assert code(tmp_path / "pipe.onnx") == "unreadable"
    assert code("a\0b") == "unreadable"
    with (tmp_path / "huge.onnx").open("wb") as stream:
        stream.truncate(container.MAX_BYTES + 1)  # sparse: takes no room
    assert code(tmp_path / "huge.onnx") == "too_large"
    (tmp_path / "a.onnx").write_bytes(toy_model.sealed())
    monkeypatch.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(MemoryError()))
    assert code(tmp_path / "a.onnx") == "no_memory"


def test_only_onnx_takes_a_manifest() -> None:
    manifest = Manifest.from_dict(toy_model.manifest_dict())
    with pytest.raises(ModelFileError) as caught:
        container.embed_manifest(b"\x1c\0\0\0TFL3 and more", manifest)
    assert caught.value.code == "not_a_model_file"


def test_a_manifest_must_not_hold_the_digest_marker() -> None:
    manifest = Manifest.from_dict(toy_model.manifest_dict(citation=container.DIGEST_KEY))
    with pytest.raises(ModelFileError) as caught:
        container.embed_manifest(toy_model.graph(), manifest)
    assert caught.value.code == "bad_manifest"


def test_a_bad_manifest_under_a_right_digest_names_the_file() -> None:
    raw = toy_model.sealed()
    text = raw.replace(b"allsub-edge/model/1", b"allsub-edge/model/9")
    with pytest.raises(ModelFileError) as caught:
        container.parse(container.seal(text), source="new.onnx")
    assert caught.value.code == "unknown_schema"
    assert caught.value.message.startswith("new.onnx: ")


@pytest.mark.parametrize("data", [b"\x08", b"\x0a\x05ab", b"\x0b", b"\x00\x00", b"\xff" * 20])
def test_the_protobuf_reader_refuses_broken_messages(data: bytes) -> None:
    with pytest.raises(ValueError):
        list(onnx_bytes.entries(data))
