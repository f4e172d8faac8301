"""Whether a field keeps its label at every size and format; see :mod:`field_changes`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from allsub_edge.benchmarks.checks import Check
from allsub_edge.benchmarks.field_changes import files_of_all_sizes
from allsub_edge.benchmarks.unseen import Subject
from allsub_edge.statistics import Rate


def sizes(
    subjects: Sequence[Subject], count: int, sharpenings: int, say: Callable[[str], None]
) -> list[Check]:
    """The same field at several sizes; what the file as it is gets is the reference.

    Args:
        subjects: who is asked about which unseen fields.
        count: how many of all those fields, evenly spread, are tried.
        sharpenings: how they are enlarged, see ``field_changes.enlarged``.
        say: takes a line now and then.
    """
    every = [(c, field) for c, unseen in subjects for field in unseen.fields]
    chosen = np.unique(np.linspace(0, len(every) - 1, count).astype(int)).tolist()
    same: Counter[str] = Counter()
    same_top: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    other = labelled = 0
    for done, place in enumerate(chosen):
        if done % 20 == 0:
            say(f"field {done} of {len(chosen)} at all sizes")
        classifier, field = every[place]
        reference = classifier.predict(field)
        left = set()
        for name, data in files_of_all_sizes(field, sharpenings):
            answer = classifier.predict(data)
            same[name] += answer.label == reference.label
            same_top[name] += answer.top == reference.top
            if answer.label != reference.label:
                left.add(name.split()[1])
                other += None not in (answer.label, reference.label)
        if reference.label is not None:
            labelled += 1
            kept["png"] += "png" not in left
            kept["every"] += not left
    total = len(chosen)
    found = [
        Check(
            f"{name}: the label that the file has",
            Rate(same[name], total),
            note=f"same likeliest class {same_top[name]}",
        )
        for name in same
    ]
    # PNG changes the size and nothing else; JPEG adds noise of its own, which may move a field over
    # the edge of a limit. What must not happen is that it gets another label.
    return [
        *found,
        Check("fields with a label: the same one at every size", Rate(kept["png"], labelled), 1.0),
        Check("fields with a label: the same one as JPEG too", Rate(kept["every"], labelled)),
        Check("another label at some size or format", Rate(other, total * len(same)), 0.0, False),
    ]
