"""The facts of every backbone; no Keras is imported before one is built."""

from __future__ import annotations

from typing import Final

from allsub_edge.training.backbone import Backbone, Cut
from allsub_edge.training.backbone_makers import (
    CAFFE,
    RELU6,
    SIGNED,
    STANDARD,
    application,
    fused,
    lite,
)

_RELU: Final = "plain convolutions and ReLU"
_SWISH: Final = "swish and squeeze-and-excite: long tails and products of activations"
_HARD: Final = "hard-swish and squeeze-and-excite: slower in int8, accuracy known to collapse"
_SEPARABLE: Final = "depthwise convolutions with unbounded ReLU: channels differ much in range"
_CONCATENATED: Final = "branches of different range are concatenated under one scale"
_PREACTIVATED: Final = "sums of unbounded residuals before the batch norm"
_BARE: Final = {"include_preprocessing": False}

ENTRIES: Final[tuple[Backbone, ...]] = (
    lite(
        "efficientnet_lite0",
        224,
        {
            "stride16": Cut(16, 112, 716_928, 243_268_928),
            "full": Cut(32, 1280, 3_413_024, 383_907_552),
        },
    ),
    lite(
        "efficientnet_lite1",
        240,
        {
            "stride16": Cut(16, 112, 1_012_096, 337_461_824),
            "full": Cut(32, 1280, 4_189_344, 501_187_680),
        },
    ),
    lite(
        "efficientnet_lite2",
        260,
        {
            "stride16": Cut(16, 120, 1_186_496, 385_329_728),
            "full": Cut(32, 1280, 4_869_168, 575_229_424),
        },
    ),
    fused(
        "fused_lite0",
        224,
        {
            "stride16": Cut(16, 112, 821_776, 336_646_464),
            "full": Cut(32, 1280, 3_517_872, 477_285_088),
        },
        (1, 3, 4),
    ),
    application(
        "mobilenet_v2",
        "MobileNetV2",
        SIGNED,
        {
            "stride8": ("block_5_add", Cut(8, 32, 59_008, 113_259_776)),
            "stride16": ("block_12_add", Cut(16, 96, 558_656, 209_861_120)),
            "full": ("out_relu", Cut(32, 1280, 2_257_984, 299_494_272)),
        },
        blocks=r"^(expanded_conv(?:_\d+)?|block_\d+)_",
        int8="good",
        int8_reason=RELU6,
    ),
    application(
        "mobilenet_v3_small",
        "MobileNetV3Small",
        SIGNED,
        {
            "stride16": ("expanded_conv_7_add", Cut(16, 48, 195_144, 35_147_552)),
            "full": ("", Cut(32, 576, 939_120, 54_896_576)),
        },
        options=_BARE,
        blocks=r"^(expanded_conv(?:_\d+)?)_",
        inside=True,
        int8="poor",
        int8_reason=_HARD,
    ),
    application(
        "mobilenet_v3_large",
        "MobileNetV3Large",
        SIGNED,
        {
            "stride16": ("expanded_conv_11_add", Cut(16, 112, 803_640, 152_106_144)),
            "full": ("", Cut(32, 960, 2_996_352, 214_080_960)),
        },
        options=_BARE,
        blocks=r"^(expanded_conv(?:_\d+)?)_",
        inside=True,
        int8="poor",
        int8_reason=_HARD,
    ),
    application(
        "efficientnet_b0",
        "EfficientNetB0",
        STANDARD,
        {
            "stride16": ("block5c_add", Cut(16, 112, 867_968, 243_416_128)),
            "full": ("top_activation", Cut(32, 1280, 4_049_564, 384_534_752)),
        },
        blocks=r"^(block\d+[a-z])_",
        inside=True,
        int8="poor",
        int8_reason=_SWISH,
    ),
    application(
        "efficientnet_v2_b0",
        "EfficientNetV2B0",
        STANDARD,
        {
            "stride16": ("block5e_add", Cut(16, 112, 1_392_036, 527_293_440)),
            "full": ("top_activation", Cut(32, 1280, 5_919_312, 716_806_176)),
        },
        options=_BARE,
        blocks=r"^(block\d+[a-z])_",
        inside=True,
        int8="poor",
        int8_reason=_SWISH,
    ),
    application(
        "vgg16",
        "VGG16",
        CAFFE,
        {
            "stride16": ("block5_conv3", Cut(16, 512, 14_714_688, 15_346_630_656)),
            "full": ("block5_pool", Cut(32, 512, 14_714_688, 15_346_630_656)),
        },
        blocks=r"^(block\d+)_",
        int8="good",
        int8_reason=_RELU,
    ),
    application(
        "vgg19",
        "VGG19",
        CAFFE,
        {
            "stride16": ("block5_conv4", Cut(16, 512, 20_024_384, 19_508_428_800)),
            "full": ("block5_pool", Cut(32, 512, 20_024_384, 19_508_428_800)),
        },
        blocks=r"^(block\d+)_",
        int8="good",
        int8_reason=_RELU,
    ),
    application(
        "xception",
        "Xception",
        SIGNED,
        {
            "stride16": ("block13_sepconv1_act", Cut(16, 728, 14_060_376, 4_029_405_216)),
            "full": ("block14_sepconv2_act", Cut(32, 2048, 20_861_480, 4_550_831_072)),
        },
        size=299,
        min_size=71,
        blocks=r"^(block\d+)_",
        int8="fair",
        int8_reason=_SEPARABLE,
    ),
    application(
        "inception_v3",
        "InceptionV3",
        SIGNED,
        {
            "stride16": ("mixed7", Cut(16, 768, 8_975_264, 2_419_260_768)),
            "full": ("mixed10", Cut(32, 2048, 21_802_784, 2_835_873_120)),
        },
        size=299,
        min_size=75,
        blocks=r"^(mixed\d+)$",
        int8="fair",
        int8_reason=_CONCATENATED,
    ),
    application(
        "inception_resnet_v2",
        "InceptionResNetV2",
        SIGNED,
        {
            "stride16": ("block17_20_ac", Cut(16, 1088, 26_891_360, 5_604_330_336)),
            "full": ("conv_7b_ac", Cut(32, 1536, 54_336_736, 6_467_425_120)),
        },
        size=299,
        min_size=75,
        blocks=r"^(mixed_\w+|block\d+_\d+)",
        int8="fair",
        int8_reason=_CONCATENATED,
    ),
    application(
        "resnet50_v2",
        "ResNet50V2",
        SIGNED,
        {
            "stride16": ("conv4_block6_preact_relu", Cut(16, 1024, 7_456_256, 2_654_912_512)),
            "full": ("post_relu", Cut(32, 2048, 23_564_800, 3_480_207_360)),
        },
        blocks=r"^(conv\d+_block\d+)_",
        int8="fair",
        int8_reason=_PREACTIVATED,
    ),
    application(
        "nasnet_mobile",
        "NASNetMobile",
        SIGNED,
        {
            "stride16": ("normal_concat_8", Cut(16, 528, 1_059_124, 380_012_736)),
            "full": ("", Cut(32, 1056, 4_269_716, 562_582_816)),
        },
        blocks=r"^((?:normal|reduction)_concat_\w+)$",
        int8="fair",
        int8_reason=_SEPARABLE,
    ),
    application(
        "nasnet_large",
        "NASNetLarge",
        SIGNED,
        {
            "stride16": ("normal_concat_12", Cut(16, 2016, 20_185_746, 6_720_708_192)),
            "full": ("", Cut(32, 4032, 84_916_818, 10_279_764_000)),
        },
        size=331,
        blocks=r"^((?:normal|reduction)_concat_\w+)$",
        int8="fair",
        int8_reason=_SEPARABLE,
    ),
    application(
        "densenet121",
        "DenseNet121",
        STANDARD,
        {
            "stride16": ("pool4_relu", Cut(16, 1024, 4_322_880, 2_626_011_136)),
            "full": ("relu", Cut(32, 1024, 7_037_504, 2_833_137_664)),
        },
        blocks=r"^(conv\d+_block\d+)_",
        int8="fair",
        int8_reason=_CONCATENATED,
    ),
    application(
        "densenet201",
        "DenseNet201",
        STANDARD,
        {
            "stride16": ("pool4_relu", Cut(16, 1792, 9_632_832, 3_637_559_296)),
            "full": ("relu", Cut(32, 1920, 18_321_984, 4_289_445_888)),
        },
        blocks=r"^(conv\d+_block\d+)_",
        int8="fair",
        int8_reason=_CONCATENATED,
    ),
)
