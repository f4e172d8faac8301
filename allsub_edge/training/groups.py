"""Groups of fields that must stay on one side of a split.

The public set names no patients, but neighbouring file numbers are often one slide. So the
numbers of each class are cut into blocks, and a block is the least that a split may move:

- Within one class, files with the same beginning of the name are ordered by number. A gap in the
  numbers always starts a new block. Stretches without a gap are cut into blocks of half to one
  and a half times the wanted size, so that no small leftover stays; the borders are placed where
  the fewest pairs of duplicates cross them (dynamic programming, exact).
- Blocks that still share a pair, however far apart their numbers lie, become one group: slides of
  the public set were photographed more than once, part of them in reverse order.
- Files without a number, or alone with the beginning of their name, say nothing about their
  neighbours. They are ordered by hash and cut the same way, and only the pairs protect them.

On the 2509 fields of the public set used for development, blocks of 20 give 126 blocks, none of
whose borders parts a pair of near neighbours. The 80 pairs more than 20 numbers apart join them
into 102 groups. Nothing chains into one giant group: the two largest are 141 fields of Pro
(373-393 and 416-535) and 140 of Early (464-523 and 564-643, the second in reverse order); the
next have 60.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from allsub_edge.classes import CLASSES
from allsub_edge.errors import DataError
from allsub_edge.training.dataset import Sample, split_name
from allsub_edge.training.duplicates import Pair


@dataclass(frozen=True)
class _Stretch:
    """Samples of one class that follow each other without a gap."""

    name: str
    members: list[int]


def assign_groups(
    samples: Sequence[Sample], pairs: Sequence[Pair], *, block: int = 20
) -> list[str]:
    """Give every sample its group.

    Args:
        samples: records as :func:`allsub_edge.training.dataset.read_dataset` gives them.
        pairs: duplicates, as indices into ``samples``.
        block: wanted number of neighbouring files in a block, at least 1.

    Returns:
        One group id for each sample, such as ``Pre-0240``: the class and the first number of the
        group's first block. Where files of one class begin differently, that beginning stands in
        between; blocks in hash order are called ``Pre-x`` and the first eight digits of a hash.

    Raises:
        DataError: ``label_conflict``; a pair lies in two classes.
        ValueError: ``block`` is below 1.
    """
    if block < 1:
        raise ValueError(f"block must be at least 1, not {block}")
    for pair in pairs:
        one, other = samples[pair.a], samples[pair.b]
        if one.label != other.label:
            raise DataError(
                "label_conflict",
                f"{one.file} and {other.file} show the same field ({pair.kind}, score "
                f"{pair.score:.2f}) under two classes; keep the right one",
            )
    names: list[str] = []
    block_of = np.empty(len(samples), np.intp)
    for stretch in _stretches(samples):
        start = 0
        for size in _cut(stretch.members, pairs, block):
            members = stretch.members[start : start + size]
            block_of[members] = len(names)
            names.append(_name(samples[members[0]], stretch.name))
            start += size
    roots = _joined(len(names), [(int(block_of[p.a]), int(block_of[p.b])) for p in pairs])
    return [names[roots[int(index)]] for index in block_of]


def _stretches(samples: Sequence[Sample]) -> list[_Stretch]:
    stretches: list[_Stretch] = []
    for label in CLASSES:
        numbered: dict[str, list[int]] = {}
        rest: list[int] = []
        for index, sample in enumerate(samples):
            if sample.label == label:
                if sample.number is None:
                    rest.append(index)
                else:
                    numbered.setdefault(split_name(sample.file)[0], []).append(index)
        # A name such as 3f9c...e7 ends with a digit by chance; alone with its beginning, its
        # number orders nothing.
        for prefix in [prefix for prefix, found in numbered.items() if len(found) == 1]:
            rest += numbered.pop(prefix)
        for prefix in sorted(numbered):
            order = sorted(numbered[prefix], key=lambda i: (samples[i].number or 0, i))
            name = prefix if len(numbered) > 1 else ""
            gaps = [
                place
                for place in range(1, len(order))
                if (samples[order[place]].number or 0) - (samples[order[place - 1]].number or 0) > 1
            ]
            for start, stop in zip([0, *gaps], [*gaps, len(order)], strict=True):
                stretches.append(_Stretch(name, order[start:stop]))
        if rest:
            stretches.append(_Stretch("#", sorted(rest, key=lambda i: (samples[i].sha256, i))))
    return stretches


def _name(first: Sample, stretch: str) -> str:
    if stretch == "#":
        return f"{first.label}-x{first.sha256[:8]}"
    beginning = f"{stretch.strip(' -_([')}-" if stretch else ""
    return f"{first.label}-{beginning}{first.number:04d}"


def _cut(members: Sequence[int], pairs: Sequence[Pair], block: int) -> list[int]:
    """Sizes of the blocks: few crossed pairs first, then sizes near ``block``."""
    least, most = (block + 1) // 2, (3 * block) // 2
    total = len(members)
    if total < 2 * least:
        return [total]
    crossed = _crossings(members, pairs, most)
    cost = np.full(total + 1, np.inf)
    cost[0] = 0.0
    size_to = np.zeros(total + 1, np.intp)
    for end in range(least, total + 1):
        for size in range(least, min(most, end) + 1):
            # Off by half a block costs a quarter of what one crossed pair costs.
            here = cost[end - size] + crossed[end] + ((size - block) / block) ** 2
            if here < cost[end]:
                cost[end], size_to[end] = here, size
    sizes: list[int] = []
    end = total
    while end:
        sizes.append(int(size_to[end]))
        end -= sizes[-1]
    return sizes[::-1]


def _crossings(members: Sequence[int], pairs: Sequence[Pair], most: int) -> list[int]:
    """How many pairs a border before each place would part.

    Pairs further apart than one block can span cross a border wherever it is put, so they do not
    count; neither do the two ends of the stretch.
    """
    place = {index: at for at, index in enumerate(members)}
    count: Counter[int] = Counter()
    for pair in pairs:
        if pair.a in place and pair.b in place:
            low, high = sorted((place[pair.a], place[pair.b]))
            if high - low < most:
                count.update(range(low + 1, high + 1))
    return [count[at] for at in range(len(members) + 1)]


def _joined(size: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """For each of ``size`` items the lowest item that links lead to (union-find)."""
    parent = list(range(size))

    def top(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in links:
        low, high = sorted((top(one), top(other)))
        parent[high] = low
    return [top(item) for item in range(size)]
