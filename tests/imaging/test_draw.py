from __future__ import annotations

import numpy as np
import pytest

from allsub_edge.imaging.decode import decode
from allsub_edge.imaging.draw import encode_png, overlay, side_by_side, stacked

RED = np.full((40, 50, 3), (200, 10, 20), np.uint8)


def test_overlay_tints_inside_and_lines_the_edge() -> None:
    mask = np.zeros((40, 50), np.uint8)
    mask[10:20, 10:20] = 1
    before = RED.copy()
    seen = overlay(RED, mask, (0, 255, 0))
    assert np.array_equal(RED, before)
    assert seen[5, 5].tolist() == [200, 10, 20]
    assert seen[10, 15].tolist() == seen[19, 19].tolist() == [0, 255, 0]
    assert seen[15, 15].tolist() == [175, 40, 17]
    assert (seen == (0, 255, 0)).all(axis=2).sum() == 36


def test_a_cell_at_the_border_has_no_line_there() -> None:
    seen = overlay(RED, np.ones((40, 50), np.uint8))
    assert not (seen == (0, 255, 0)).all(axis=2).any()


def test_pictures_are_joined_with_gaps() -> None:
    grey = np.full((40, 30), 7, np.uint8)
    row = side_by_side([RED, grey], gap=4)
    assert row.shape == (40, 84, 3)
    assert np.array_equal(row[:, :50], RED)
    assert (row[:, 50:54] == 255).all()
    assert (row[:, 54:] == 7).all()
    column = stacked([RED, RED], gap=2)
    assert column.shape == (82, 50, 3)
    assert np.array_equal(side_by_side([RED]), RED)


def test_pictures_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        side_by_side([RED, RED[:30]])
    with pytest.raises(ValueError, match="no picture"):
        side_by_side([])
    with pytest.raises(ValueError, match="differ"):
        overlay(RED, np.zeros((5, 5), np.uint8))
    with pytest.raises(ValueError, match="PNG"):
        encode_png(RED.astype(np.float32))


def test_png_keeps_the_order_of_channels() -> None:
    assert np.array_equal(decode(encode_png(RED)).rgb, RED)
