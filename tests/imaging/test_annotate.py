from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from allsub_edge.imaging.annotate import (
    CARD_WIDTH,
    MARGIN,
    OUTLINE,
    PAPER,
    RAIL,
    SCALE,
    Bar,
    Card,
    annotate,
    ascii_text,
    outlined,
    wrapped,
)
from allsub_edge.imaging.render import render_field

COLOUR = (170, 45, 60)
CARD = Card(
    status="UNFIT",
    colour=COLOUR,
    title="no label",
    subtitle="most probable: Pre",
    bars=[Bar("Benign", 0.0, False), Bar("Pre", 0.5, True)],
    notes=["the field is out of focus"],
    facts=[("focus", "1.0")],
    footer=["f012.jpg"],
)
FIELD = render_field(3, "Pre")
MASK = np.zeros((224, 224), np.uint8)
MASK[50:70, 80:110] = 1


def same(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.asarray((picture == np.array(colour, np.uint8)).all(axis=2))


def test_field_and_card_stand_side_by_side() -> None:
    before = FIELD.copy()
    picture = annotate(FIELD, MASK, CARD)
    assert picture.shape == (SCALE * 224, SCALE * 224 + CARD_WIDTH, 3)
    assert picture.dtype == np.uint8
    assert (picture[:, : SCALE * 224] == outlined(FIELD, MASK)).all()
    assert (before == FIELD).all()
    assert (picture == annotate(FIELD, MASK, CARD)).all()


def test_only_the_edge_of_the_mask_is_drawn() -> None:
    bare = outlined(FIELD, np.zeros_like(MASK))
    changed = (outlined(FIELD, MASK) != bare).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert rows.min() >= SCALE * 50 - 4
    assert rows.max() <= SCALE * 70 + 4
    assert columns.min() >= SCALE * 80 - 4
    assert columns.max() <= SCALE * 110 + 4
    assert not changed[SCALE * 53 : SCALE * 67, SCALE * 83 : SCALE * 107].any()
    # The line is smoothed, so its pixels are nearly of its colour.
    away = np.abs(outlined(FIELD, MASK).astype(int) - OUTLINE).max(axis=2)
    assert (away < 40).sum() > 2 * SCALE * (20 + 30) * 0.8


def test_a_bar_is_as_long_as_its_share() -> None:
    def filled(share: float) -> int:
        card = replace(CARD, bars=[Bar("Pre", share, True)])
        right = annotate(FIELD, MASK, card)[60:, SCALE * 224 :]
        return int(same(right, COLOUR).sum(axis=1).max())

    rail = same(annotate(FIELD, MASK, CARD)[60:, SCALE * 224 :], RAIL).sum(axis=1).max()
    assert filled(0.0) == 0
    assert filled(1.0) == rail
    assert filled(0.5) == pytest.approx(rail / 2, abs=2)


def test_the_status_is_on_its_colour() -> None:
    picture = annotate(FIELD, MASK, CARD)
    assert same(picture[:50, SCALE * 224 :], COLOUR).mean() > 0.8
    other = annotate(FIELD, MASK, replace(CARD, status="OK"))
    assert (picture[:50] != other[:50]).any()


def test_long_texts_are_wrapped_and_the_sheet_grows() -> None:
    card = replace(CARD, notes=["a rather long reason " * 6] * 12, footer=["x" * 300])
    picture = annotate(FIELD, MASK, card)
    assert picture.shape[0] > SCALE * 224
    assert same(picture[SCALE * 224 :, : SCALE * 224], (PAPER[0],) * 3).all()
    # Nothing runs over the right margin.
    assert same(picture[60:, -MARGIN + 2 :], PAPER).all()


def test_wrapping_loses_nothing() -> None:
    text = "one two " + "w" * 200 + " three"
    lines = wrapped(text, 0.5, 150)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert len(lines) > 3
    assert wrapped("", 0.5, 150) == []


def test_letters_that_cannot_be_drawn_become_question_marks() -> None:
    assert ascii_text("Möbius\n\udcff") == "M?bius??"
    annotate(FIELD, MASK, replace(CARD, title="日本", footer=["\udcff"]))


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        annotate(FIELD, MASK[:100], CARD)
