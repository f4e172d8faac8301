import platform

import cv2
import numpy as np
import pytest

from allsub_edge.imaging.hsv import rgb_to_hsv


def every_colour_with_red(red: range) -> np.ndarray:
    """uint8 (len(red) * 256, 256, 3): all colours with these red values."""
    grid = np.empty((len(red), 256, 256, 3), np.uint8)
    grid[..., 0] = np.array(red)[:, None, None]
    grid[..., 1] = np.arange(256)[:, None]
    grid[..., 2] = np.arange(256)
    return grid.reshape(-1, 256, 3)


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"),
    reason="OpenCV's own HSV differs on other processors; x86-64 is the reference",
)
def test_equal_to_opencv_on_every_colour() -> None:
    for start in range(0, 256, 16):
        colours = every_colour_with_red(range(start, start + 16))
        expected = cv2.cvtColor(colours, cv2.COLOR_RGB2HSV)
        assert np.array_equal(rgb_to_hsv(colours), expected)


@pytest.mark.parametrize(
    ("rgb", "hsv"),
    [
        ((0, 0, 0), (0, 0, 0)),
        ((255, 255, 255), (0, 0, 255)),
        ((255, 0, 0), (0, 255, 255)),
        ((0, 255, 0), (60, 255, 255)),
        ((0, 0, 255), (120, 255, 255)),
        ((255, 0, 255), (150, 255, 255)),
        ((100, 50, 50), (0, 128, 100)),
    ],
)
def test_known_colours(rgb: tuple[int, int, int], hsv: tuple[int, int, int]) -> None:
    assert tuple(rgb_to_hsv(np.array(rgb, np.uint8)).tolist()) == hsv


def test_keeps_the_shape_and_reads_any_memory_layout() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    hsv = rgb_to_hsv(rgb)
    assert hsv.shape == rgb.shape and hsv.dtype == np.uint8
    assert np.array_equal(rgb_to_hsv(rgb[::2, :, ::-1]), hsv[::2, :, ::-1])


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
)
def test_refuses_what_is_not_rgb(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 of shape"):
        rgb_to_hsv(wrong)
