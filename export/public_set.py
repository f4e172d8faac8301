"""Is what a run learned from the public data set? Manifest and card name it only where it is."""

from __future__ import annotations

from collections import Counter
from typing import Final

from allsub_edge.audit.releases import FIRST
from allsub_edge.training.run import Run
from allsub_edge.training.split import read_split

NAME: Final = "mehradaria/leukemia"
"""On Kaggle."""

PARTS: Final = frozenset({"958d4fc89b94e98cbe35b8f96368512c181be5e084f69726ddc3b21151c76ebf"})
"""``dataset.fingerprint`` of parts of it: the 2509 fields that the shipped model learned from."""


def as_known(run: Run) -> str:
    """How a card begins to name the data of a run; empty where nothing tells that it is this set.

    The fingerprint of the complete first release is not known here. A set with exactly its count
    of fields in each of the four classes is taken for it, and the words say by what.

    Raises:
        DataError: the run is damaged.
    """
    if run.read_json("config.json")["data_fingerprint"] in PARTS:
        return f"Part of the public data set `{NAME}`"
    counts = Counter(row.label for row in read_split(run.split_path).rows)
    if counts == FIRST:
        return f"By its count of fields in each class the public data set `{NAME}`, first release"
    return ""
