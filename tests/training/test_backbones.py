"""The table of backbones against the networks themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allsub_edge.errors import DataError, UsageError
from allsub_edge.training.backbones import BACKBONES, get_backbone

pytest.importorskip("tensorflow", reason="the training extra is not installed")

import keras

from allsub_edge.training.config import TrainConfig
from allsub_edge.training.extractor import BEYOND, block_numbers, map_geometry, multiply_adds
from allsub_edge.training.network import MaskedAverage, build_network

from .toy import TOY, toy_fields

PAPER = {
    "efficientnet_b0",
    "efficientnet_v2_b0",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "vgg16",
    "vgg19",
    "xception",
    "inception_v3",
    "resnet50_v2",
    "nasnet_large",
    "inception_resnet_v2",
    "densenet201",
}
BEYOND_PAPER = {
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "fused_lite0",
    "mobilenet_v2",
    "nasnet_mobile",
    "densenet121",
}
# The ones that build in a second or two; the others are in test_every_backbone.py.
QUICK = ("efficientnet_lite0", "fused_lite0", "mobilenet_v2", "vgg16")


def test_every_backbone_is_there() -> None:
    assert set(BACKBONES) == PAPER | BEYOND_PAPER
    for name, backbone in BACKBONES.items():
        assert backbone.name == name and "full" in backbone.cuts and backbone.int8_reason


def test_an_unknown_name_lists_the_valid_ones_and_guesses() -> None:
    with pytest.raises(UsageError, match=r"did you mean mobilenet_v2\?.*densenet201") as caught:
        get_backbone("mobilenetv2")
    assert all(name in str(caught.value) for name in BACKBONES)
    with pytest.raises(UsageError, match="stride8, stride16, full"):
        get_backbone("mobilenet_v2").check_cut("stride4")


@pytest.mark.parametrize("name", QUICK)
def test_the_table_tells_what_the_network_is(name: str) -> None:
    check_table(name)


def check_table(name: str) -> None:
    """Every cut of one backbone: stride, channels, cost, names, blocks."""
    backbone = get_backbone(name)
    for cut, told in backbone.cuts.items():
        model = backbone.build(224, cut, "extractor")
        found = map_geometry(model)
        assert (found.stride, model.output.shape[-1]) == (told.stride, told.channels)
        assert model.count_params() == told.parameters
        assert multiply_adds(model) == told.multiply_adds
        # Keras refuses dots in names on its PyTorch backend.
        assert not [layer.name for layer in model.layers if "." in layer.name or "/" in layer.name]
        numbers = set(block_numbers(model, backbone.blocks).values()) - {BEYOND}
        assert numbers == set(range(len(numbers))) and len(numbers) >= 4


def test_multiply_adds_by_hand() -> None:
    field = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(field)  # 16 places x 27 x 4
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)  # 16 x 9 x 4
    x = keras.layers.SeparableConv2D(6, 3, padding="same")(x)  # 16 x 9 x 4 + 16 x 4 x 6
    x = keras.layers.Conv2D(6, 1, groups=2)(x)  # 16 x 3 x 6
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(field, keras.layers.Dense(5)(x))  # 30
    by_hand = 16 * 27 * 4 + 16 * 36 + 16 * 36 + 16 * 24 + 16 * 18 + 30
    assert multiply_adds(model) == by_hand


def _seen(model: Any, size: int) -> np.ndarray:
    """For each row of the map the first and the last row of the field that changes it."""
    start = np.full((1, size, size, 3), 0.5, np.float32)
    before = np.asarray(model(start))
    rows = [[] for _ in range(before.shape[1])]
    for y in range(size):
        changed = start.copy()
        changed[0, y] = 1.0
        for i in np.nonzero(np.abs(np.asarray(model(changed)) - before).max((0, 2, 3)) > 0)[0]:
            rows[i].append(y)
    return np.array([[r[0], r[-1]] for r in rows])


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [32, 37])
def test_geometry_is_where_the_map_looks(padding: str, size: int) -> None:
    field = keras.Input((size, size, 3))
    options = {"padding": padding, "use_bias": False, "kernel_initializer": "ones"}
    x = keras.layers.Conv2D(2, 3, strides=2, **options)(field)
    x = keras.layers.ZeroPadding2D(((1, 0), (1, 0)))(x)
    x = keras.layers.AveragePooling2D(3, strides=2, padding=padding)(x)
    x = keras.layers.Add()([x, keras.layers.Conv2D(2, 1, kernel_initializer="ones")(x)])
    x = keras.layers.DepthwiseConv2D(3, depthwise_initializer="ones", padding=padding)(x)
    model = keras.Model(field, x)
    found = map_geometry(model)
    assert (found.size, found.stride) == (x.shape[1], 4)
    inner = _seen(model, size)[2:-2]  # away from the border nothing is cut off
    centres = found.centre + found.stride * np.arange(2, 2 + len(inner))
    np.testing.assert_allclose(inner.mean(1), centres)


def test_pooling_by_nearest_centre() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(2, 3, 3, 5)).astype(np.float32)
    mask = (rng.random((2, 21, 21, 1)) < 0.3).astype(np.float32)
    pooled = np.asarray(MaskedAverage(6, 5.0)([features, mask]))
    for n in range(2):
        rows, columns = np.nonzero(mask[n, ..., 0])
        # Centres 5, 11, 17: pixels up to 7 are nearest to the first, up to 13 to the second.
        place = [
            [np.abs(np.array([5, 11, 17]) - p)[::1].argmin() for p in q] for q in (rows, columns)
        ]
        ties = [(q == 8) | (q == 14) for q in (rows, columns)]
        for axis in range(2):  # a pixel half-way between counts for the later position
            place[axis] = np.array(place[axis]) + ties[axis]
        expected = features[n][place[0], place[1]].mean(0)
        np.testing.assert_allclose(pooled[n], expected, rtol=1e-5)
    nothing = np.asarray(MaskedAverage(6, 5.0)([features, np.zeros_like(mask)]))
    assert not nothing.any()


def test_both_ways_of_pooling_agree_where_the_map_divides_the_field() -> None:
    rng = np.random.default_rng(4)
    features = rng.normal(size=(2, 4, 4, 3)).astype(np.float32)
    mask = (rng.random((2, 32, 32, 1)) < 0.3).astype(np.float32)
    patches = MaskedAverage()([features, mask])
    nearest = MaskedAverage(8, 3.5)([features, mask])
    np.testing.assert_allclose(np.asarray(patches), np.asarray(nearest), rtol=1e-5)


def test_the_masks_of_a_map_that_does_not_divide_the_field(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without_padding(size: int, cut: str, name: str) -> Any:
        field = x = keras.Input((size, size, 3))
        for width in (4, 4, 4):
            x = keras.layers.Conv2D(width, 3, strides=2)(x)
        return keras.Model(field, x, name=name)

    toy = replace(TOY, build=without_padding)
    monkeypatch.setitem(BACKBONES, "toy", toy)
    network = build_network(TrainConfig(backbone="toy", size=64))
    pool = network.core.get_layer("mask_pool")
    assert (pool.stride, pool.centre) == (8, 7.0)  # 7 positions, 64 pixels
    assert MaskedAverage.from_config(pool.get_config()).stride == 8
    fields, _, _ = toy_fields(each=1)
    logits, _ = network.core(network.channels(fields))
    assert np.isfinite(np.asarray(logits)).all()


def test_preprocessing_is_that_of_keras_applications() -> None:
    rng = np.random.default_rng(5)
    fields = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    theirs = {
        "resnet50_v2": keras.applications.resnet_v2.preprocess_input,
        "densenet201": keras.applications.densenet.preprocess_input,
        "inception_v3": keras.applications.inception_v3.preprocess_input,
        "xception": keras.applications.xception.preprocess_input,
        "nasnet_mobile": keras.applications.nasnet.preprocess_input,
        "mobilenet_v2": keras.applications.mobilenet_v2.preprocess_input,
        "inception_resnet_v2": keras.applications.inception_resnet_v2.preprocess_input,
    }
    for name, function in theirs.items():
        backbone = get_backbone(name)
        ours = fields * np.float32(backbone.scale) + np.float32(backbone.offset)
        np.testing.assert_allclose(ours, function(fields.copy()), atol=2e-5, err_msg=name)
    for name in ("vgg16", "vgg19"):
        backbone = get_backbone(name)
        ours = fields * np.float32(backbone.scale) + np.float32(backbone.offset)
        turned = keras.applications.vgg16.preprocess_input(fields.copy())[..., ::-1]
        np.testing.assert_allclose(ours, turned, atol=2e-5)


def test_preprocessing_that_was_inside_is_outside() -> None:
    fields = np.random.default_rng(5).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    function = keras.applications.MobileNetV3Small
    theirs = function(include_top=False, weights=None, input_shape=(64, 64, 3))
    backbone = get_backbone("mobilenet_v3_small")
    ours = backbone.build(64, "full", "ours")
    ours.set_weights(theirs.get_weights())
    seen = fields * np.float32(backbone.scale) + np.float32(backbone.offset)
    np.testing.assert_allclose(
        np.asarray(ours(seen)), np.asarray(theirs(fields)), rtol=1e-3, atol=1e-5
    )


def test_a_file_of_the_whole_network_fills_every_cut(tmp_path: Path) -> None:
    whole = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    rng = np.random.default_rng(3)
    whole.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in whole.get_weights()])
    path = tmp_path / "my.weights.h5"
    whole.save_weights(path)
    backbone = get_backbone("mobilenet_v2")
    extractor = backbone.build(64, "stride16", "extractor")
    backbone.load(extractor, path, "stride16")
    for layer in extractor.layers:
        for a, b in zip(
            layer.get_weights(),
            whole.get_layer(layer.name).get_weights() if layer.weights else [],
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(other)
    with pytest.raises(DataError, match=r"other\.weights\.h5: not a weights file of MobileNetV2"):
        backbone.load(extractor, other, "stride16")
    with pytest.raises(DataError, match="no such weights file"):
        backbone.load(extractor, tmp_path / "absent.h5", "stride16")


def test_weights_for_blue_first_are_turned(tmp_path: Path) -> None:
    whole = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = tmp_path / "vgg.weights.h5"
    whole.save_weights(path)
    backbone = get_backbone("vgg16")
    extractor = backbone.build(32, "full", "extractor")
    backbone.load(extractor, path, "full")
    fields = np.random.default_rng(5).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    theirs = whole(keras.applications.vgg16.preprocess_input(fields.copy()))
    ours = extractor(fields * np.float32(backbone.scale) + np.float32(backbone.offset))
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-3, atol=1e-3)


def test_the_supplied_mobilenet_sees_what_it_should(shared: Path) -> None:
    path = shared / "weights" / "mobilenet_v2_notop.weights.h5"
    backbone = get_backbone("mobilenet_v2")
    whole = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(224, 224, 3), pooling="avg"
    )
    whole.load_weights(path)
    extractor = backbone.build(224, "full", "extractor")
    backbone.load(extractor, path, "full")
    fields = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3)).astype(np.float32)
    seen = fields * np.float32(backbone.scale) + np.float32(backbone.offset)
    ours = np.asarray(extractor(seen)).mean((1, 2))
    np.testing.assert_allclose(ours, np.asarray(whole(fields / 127.5 - 1)), rtol=1e-3, atol=1e-4)
    assert ours.std() > 0.01


def test_without_a_network_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: object) -> None:
        raise Exception("URL fetch failure on https://example.invalid: None -- unreachable")

    monkeypatch.setattr(keras.applications, "ResNet50V2", offline)
    backbone = get_backbone("resnet50_v2")
    with pytest.raises(DataError, match=r"unreachable.*~/\.keras/models.*--weights FILE") as caught:
        backbone.load(None, "imagenet", "full")
    assert "\n" not in str(caught.value)


def test_too_small_a_size_is_named() -> None:
    with pytest.raises(UsageError, match="inception_v3 needs a size of at least 75, not 64"):
        build_network(TrainConfig(backbone="inception_v3", size=64))
