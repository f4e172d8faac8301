"""Blocks of neighbouring numbers, and what joins them."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from allsub_edge.errors import DataError
from allsub_edge.training.dataset import Sample, split_name
from allsub_edge.training.duplicates import Pair
from allsub_edge.training.groups import assign_groups


def made(label: str, numbers: list[int], prefix: str = "WBC-") -> list[Sample]:
    return [
        Sample(f"{label}/{prefix}{n:03d}.jpg", label, n, f"{label}{prefix}{n}".encode().hex())
        for n in numbers
    ]


def test_a_gap_always_starts_a_group_and_names_carry_the_first_number() -> None:
    samples = made("Pre", [*range(1, 21), *range(40, 60), 70])
    groups = assign_groups(samples, [])
    assert Counter(groups) == {"Pre-0001": 20, "Pre-0040": 20, "Pre-0070": 1}
    assert groups[20] == "Pre-0040"


@pytest.mark.parametrize("count", [10, 21, 25, 39, 47, 101, 151])
@pytest.mark.parametrize("block", [1, 3, 20])
def test_no_small_leftovers_and_every_group_contiguous(count: int, block: int) -> None:
    samples = made("Pro", list(range(5, 5 + count)))
    groups = assign_groups(samples, [], block=block)
    sizes = Counter(groups)
    if count >= block:
        assert all((block + 1) // 2 <= size <= 3 * block // 2 for size in sizes.values())
    assert len(sizes) == max(1, round(count / block))
    assert sum(a != b for a, b in pairwise(groups)) == len(sizes) - 1


def test_borders_avoid_pairs() -> None:
    samples = made("Early", list(range(1, 41)))
    # Without pairs the border lies between 20 and 21; these pairs cover it and its surroundings.
    pairs = [Pair(i, i + 1, "shifted", 0.9) for i in range(15, 24)]
    groups = assign_groups(samples, pairs)
    assert len(set(groups)) == 2
    assert all(groups[pair.a] == groups[pair.b] for pair in pairs)
    assert assign_groups(samples, [])[19] != assign_groups(samples, [])[20]


def test_far_pairs_join_their_blocks_alone() -> None:
    samples = made("Pro", list(range(1, 101)))
    groups = assign_groups(samples, [Pair(5, 65, "shifted", 0.9), Pair(64, 99, "near", 0.95)])
    assert groups[5] == groups[65] == groups[99] == "Pro-0001"
    assert Counter(groups) == {"Pro-0001": 60, "Pro-0021": 20, "Pro-0041": 20}


def test_classes_never_share_a_group() -> None:
    samples = made("Benign", list(range(1, 6))) + made("Pro", list(range(1, 6)))
    assert assign_groups(samples, []) == ["Benign-0001"] * 5 + ["Pro-0001"] * 5


def test_one_field_under_two_classes_is_refused_by_name() -> None:
    samples = made("Benign", [1]) + made("Pro", [7])
    with pytest.raises(DataError, match=r"Benign/WBC-001\.jpg and Pro/WBC-007\.jpg") as caught:
        assign_groups(samples, [Pair(0, 1, "near", 0.97)])
    assert caught.value.code == "label_conflict"


def test_different_beginnings_are_different_slides() -> None:
    samples = made("Pre", [1, 2, 3], "Sap_013 (") + made("Pre", [1, 2, 3], "Sap_020 (")
    groups = assign_groups(samples, [])
    assert groups == ["Pre-Sap_013-0001"] * 3 + ["Pre-Sap_020-0001"] * 3


def test_names_without_order_are_grouped_by_hash() -> None:
    named = [f"{i}" * 64 for i in (9, 3, 7, 1, 5, 2)]
    samples = [
        Sample(f"Pre/{chr(97 + i) * (i + 1)}.jpg", "Pre", None, sha) for i, sha in enumerate(named)
    ]
    # A name that ends with a digit by chance, alone with its beginning, has no neighbours either.
    samples.append(Sample("Pre/3fe9c7.jpg", "Pre", split_name("3fe9c7.jpg")[1], "0" * 64))
    groups = assign_groups(samples, [], block=3)
    by_hash = [g for _, g in sorted(zip([s.sha256 for s in samples], groups, strict=True))]
    assert sum(a != b for a, b in pairwise(by_hash)) == 1
    assert len(set(groups)) == 2
    assert all(group.startswith("Pre-x") for group in groups)


def test_block_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        assign_groups(made("Pre", [1]), [], block=0)
