from __future__ import annotations

import random
from dataclasses import replace

from allsub_edge.prediction import Prediction
from allsub_edge.report.gallery import LISTED, SHOWN, SHOWN_UNFIT, Gallery
from tests.test_prediction import failed, made


def field(name: str, pro: float, *reasons: str) -> Prediction:
    """A field that says Pro with this probability, else Early."""
    return replace(made(0.0, 1 - pro, 0.0, pro, reasons=reasons), source=name)


def test_contrary_fields_come_first_then_unfit_then_the_least_sure() -> None:
    gallery = Gallery()
    given = [("a", 0.99), ("b", 0.1), ("c", 0.6), ("d", 0.8)]
    for name, pro in given:
        gallery.add(field(name, pro), name.encode())
    gallery.add(field("blurred", 0.9, "out_of_focus"), None)
    shown = gallery.chosen("Pro")
    assert [s.source for s in shown] == ["b", "blurred", "c", "d", "a"]
    assert shown[0].image == b"b"
    assert [s.source for s in gallery.chosen("Early")][:3] == ["c", "d", "a"]


def test_the_choice_is_the_same_as_if_every_field_had_been_kept() -> None:
    dice = random.Random(2)
    fields = [field(f"f{i}", dice.random()) for i in range(2000)]
    gallery, pictures = Gallery(), 0
    for prediction in fields:
        wanted = gallery.wants(prediction)
        pictures += wanted
        gallery.add(prediction, b"x" if wanted else None)
    sure = sorted(f.probabilities["Pro"] for f in fields if f.top == "Pro")
    # All contrary fields of a hopeless case would fill every place, so ask for one without any.
    only = Gallery()
    for prediction in fields:
        if prediction.top == "Pro":
            only.add(prediction, b"x" if only.wants(prediction) else None)
    shown = only.chosen("Pro")
    assert [s.probability for s in shown] == sure[:SHOWN]
    assert all(s.image for s in shown + gallery.chosen("Pro"))
    # What is kept, and the pictures made for it, stay few.
    assert sum(map(len, gallery._kept.values())) == 2 * SHOWN
    assert pictures < 500


def test_unfit_fields_yield_to_fit_ones() -> None:
    gallery = Gallery()
    for i in range(40):
        gallery.add(field(f"u{i}", 0.9, "out_of_focus"), b"x")
    assert len(gallery.chosen(None)) == SHOWN
    for i in range(40):
        gallery.add(field(f"f{i}", 0.9), b"x")
    shown = gallery.chosen("Pro")
    assert [s.status for s in shown].count("unfit") == SHOWN_UNFIT
    assert len(shown) == SHOWN


def test_refused_fields_are_listed_up_to_a_limit_and_counted_beyond() -> None:
    gallery = Gallery()
    for i in range(LISTED + 50):
        gallery.add(replace(failed(), source=f"f{i}"), None)
    assert not gallery.wants(failed())
    assert len(gallery.refused) == LISTED
    assert gallery.refused_count == LISTED + 50
    assert gallery.chosen(None) == []
