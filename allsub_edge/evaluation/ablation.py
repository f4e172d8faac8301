"""What each channel carries: answers without one of them. An ablation at test time.

The network was trained with both channels and meets a blank one for the first time here, so a loss
is an upper bound of what the channel is worth: a network trained without it would do better. The
blanks are chosen so that they look as ordinary as possible:

``original_only``   branches: the segmented channel is black, as for a field without a cell.
                    mask_pool: the mask is 1 everywhere, so the pool over the cells becomes the
                    average over the field.
``segmented_only``  branches: the original channel is empty glass in one colour.
                    mask_pool: everything but the cells is empty glass before the extractor.
``field_mean``      the first half of the pooled features (original, or the field's pool) is
                    replaced by its mean over the calibration role, or over the evaluated fields
                    where there is none, as in a cross-fit.
``cells_mean``      the same for the second half (segmented, or the pool over the cells).

Two more change the picture and leave the network whole, so a model file can be asked too:

``cells_on_glass``  the white cells on empty glass of one colour, nothing else.
``cells_removed``   the white cells painted over, only red cells and glass are left. What is right
                    here beyond chance was not read from a cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.evaluation.answers import Answers
from allsub_edge.evaluation.robustness import Material, Step, outcome
from allsub_edge.evaluation.subject import BATCH, Fields, RunSubject, Subject, filled
from allsub_edge.imaging.white_balance import TARGET
from allsub_edge.training.background import Background, place_cells, prepare_background

Floats = npt.NDArray[np.float32]

NAMES: Final[dict[str, str]] = {
    "both": "both channels",
    "original_only": "original only (segmented channel blanked)",
    "segmented_only": "segmented only (original channel blanked)",
    "field_mean": "features of the original replaced by their mean",
    "cells_mean": "features of the cells replaced by their mean",
    "cells_on_glass": "picture: white cells on empty glass",
    "cells_removed": "picture: white cells painted over",
}

NOTE: Final[str] = (
    "An ablation at test time: the network was trained with both channels, so a loss is an upper "
    "bound of what the missing one is worth."
)


def count(subject: Subject) -> int:
    """Conditions beside ``both``."""
    return len(NAMES) - 1 if isinstance(subject, RunSubject) else 2


def means(subject: Subject, held: int) -> str | None:
    """Over which fields the replaced features are means; None where none are replaced.

    ``held`` is the number of fields of the calibration role, whose place the evaluated fields take
    where there are none.
    """
    if not isinstance(subject, RunSubject):
        return None
    where = (
        f"the {held} fields of the calibration role"
        if held
        else "the evaluated fields themselves, for want of a calibration role"
    )
    return f"Replaced features are means over {where}."


def ablate(
    subject: Subject, material: Material, plain: Answers, reference: Fields, step: Step
) -> list[dict[str, Any]]:
    """Measure every ablation that the subject allows; JSON-ready entries, ``both`` first.

    Args:
        subject: what answers.
        material: the evaluated fields.
        plain: its answers to them.
        reference: fields uint8 [M, 224, 224, 3] whose mean features replace a half; best those of
            the calibration role.
        step: progress.
    """
    ways: dict[str, Callable[[Fields, Fields], Answers]] = {}
    if isinstance(subject, RunSubject):
        ways |= _inside(subject, reference)
    glass = Background(
        np.full_like(material.fields[0], TARGET), np.full(3, TARGET, np.float32), 0.0
    )
    rng = np.random.default_rng(0)

    def on_glass(fields: Fields, masks: Fields) -> Answers:
        placed = [place_cells(f, m, glass, rng) for f, m in zip(fields, masks, strict=True)]
        return subject.answer(np.stack(placed))

    def removed(fields: Fields, masks: Fields) -> Answers:
        painted = [prepare_background(f, m).pixels for f, m in zip(fields, masks, strict=True)]
        return subject.answer(np.stack(painted))

    ways |= {"cells_on_glass": on_glass, "cells_removed": removed}
    entries = [_entry("both", plain, material, plain)]
    for key, way in ways.items():
        parts = []
        for start in range(0, len(material.fields), BATCH):
            chosen = slice(start, start + BATCH)
            parts.append(way(material.fields[chosen], material.masks[chosen]))
            step(len(material.fields[chosen]))
        entries.append(_entry(key, Answers.join(parts), material, plain))
    return entries


def _entry(key: str, answers: Answers, material: Material, plain: Answers) -> dict[str, Any]:
    return {
        "key": key,
        "name": NAMES[key],
        **outcome(answers, material.labels, plain.top),
    }


def _inside(
    subject: RunSubject, reference: Fields
) -> dict[str, Callable[[Fields, Fields], Answers]]:
    """The ablations that reach into the network."""
    branches = subject.config.fusion == "branches"
    split, head = _head(subject)
    means = _mean_features(subject, reference)

    def channels(fields: Fields) -> tuple[Fields, Floats, Floats]:
        small = subject.resized(fields)
        original, second = subject.network.channels(filled(small))
        return small, original, second

    def answered(small: Fields, original: Floats, second: Floats) -> Answers:
        logits, features = subject.core(original, second)
        return subject.records(small, logits[: len(small)], features[: len(small)])

    def original_only(fields: Fields, masks: Fields) -> Answers:
        small, original, second = channels(fields)
        if not branches:
            return answered(small, original, np.ones_like(second))
        black = np.zeros_like(small[:1])
        return answered(small, original, _like(subject.network.channels(black)[1], second))

    def segmented_only(fields: Fields, masks: Fields) -> Answers:
        small, original, second = channels(fields)
        glass = np.full_like(small[:1], TARGET)
        empty = _like(subject.network.channels(glass)[0], original)
        if branches:
            return answered(small, empty, second)
        return answered(small, np.where(second > 0, original, empty), second)

    def with_mean(half: slice) -> Callable[[Fields, Fields], Answers]:
        def way(fields: Fields, masks: Fields) -> Answers:
            small, original, second = channels(fields)
            _, features = subject.core(original, second)
            features = features.copy()
            features[:, half] = means[half]
            logits = np.asarray(head.predict_on_batch(features), np.float32)
            return subject.records(small, logits[: len(small)], features[: len(small)])

        return way

    return {
        "original_only": original_only,
        "segmented_only": segmented_only,
        "field_mean": with_mean(slice(0, split)),
        "cells_mean": with_mean(slice(split, None)),
    }


def _head(subject: RunSubject) -> tuple[int, Any]:
    """(where the second pool's features begin, the model from features to logits)."""
    import keras

    joined = subject.network.core.get_layer("features")
    first = joined.input[0]
    return int(first.shape[-1]), keras.Model(joined.output, subject.network.core.outputs[0])


def _mean_features(subject: RunSubject, reference: Fields) -> Floats:
    total: list[Floats] = []
    for start in range(0, len(reference), BATCH):
        small = subject.resized(reference[start : start + BATCH])
        features = subject.core(*subject.network.channels(filled(small)))[1]
        total.append(features[: len(small)])
    return np.asarray(np.concatenate(total).mean(0), np.float32)


def _like(one: Floats, many: Floats) -> Floats:
    """The first of ``one``, repeated to the shape of ``many``."""
    return np.asarray(np.broadcast_to(one[:1], many.shape), np.float32)
