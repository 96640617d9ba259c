"""Overlapping training subsets for several teachers."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.subsets import teacher_subset

SCHEMES = ("all", "fold_out", "fraction", "bootstrap")


def _items(sizes: dict[tuple[int, int], int], studies: int = 1) -> list[dict[str, Any]]:
    """Patients of each group x label, each with a number of studies."""
    return [
        {"case_id": f"p{g}{c}-{n}-{s}", "patient_id": f"p{g}{c}-{n}", "group": g, "label": c}
        for (g, c), size in sizes.items()
        for n in range(size)
        for s in range(studies)
    ]


def _subset(items: list[dict[str, Any]], scheme: str, **given_settings: Any) -> list[Any]:
    chosen = {"count": 4, "index": 0, "fraction": 0.5, "seed": 0, **given_settings}
    return teacher_subset(items, scheme=scheme, **chosen)  # type: ignore[arg-type]


def _patients(items: list[Any]) -> set[str]:
    return {item["patient_id"] for item in items}


SIZES = st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 2)), st.integers(1, 9), min_size=1, max_size=8)


@given(sizes=SIZES, count=st.integers(2, 5), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_folds_left_out_are_disjoint_and_every_stratum_keeps_a_patient(
    sizes: dict[tuple[int, int], int], count: int, seed: int
) -> None:
    """Only a stratum's single patient is in no fold; folds differ by one patient at most."""
    items = _items(sizes, studies=2)
    left_out = []
    for index in range(count):
        subset = _subset(items, "fold_out", count=count, index=index, seed=seed)
        assert {(i["group"], i["label"]) for i in subset} == set(sizes)
        assert set(Counter(i["patient_id"] for i in subset).values()) == {2}
        left_out.append(_patients(items) - _patients(subset))
    assert all(not a & b for a, b in combinations(left_out, 2))
    assert set().union(*left_out) == {p for p in _patients(items) if sizes[int(p[1]), int(p[2])] > 1}
    assert max(map(len, left_out)) - min(map(len, left_out)) <= 1


@pytest.mark.parametrize("count", [3, 4, 5])
def test_two_fold_out_teachers_share_k_minus_2_of_k_minus_1_parts_of_their_patients(count: int) -> None:
    """K folds of equal size: each teacher has K - 1 of them, two teachers K - 2 in common."""
    items = _items({(0, 0): 60, (0, 1): 60, (1, 0): 60})
    subsets = [_patients(_subset(items, "fold_out", count=count, index=index)) for index in range(count)]
    for a, b in combinations(subsets, 2):
        assert len(a & b) / len(a) == pytest.approx((count - 2) / (count - 1))


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.8])
def test_two_fractions_share_on_average_that_fraction_of_their_patients(fraction: float) -> None:
    """Overlap of two draws of 30 in 100: mean 0.3 of the draw; SD of one pair 0.07, of 45 pairs about 0.02."""
    items = _items({(0, 0): 60, (1, 1): 40})
    subsets = [_patients(_subset(items, "fraction", count=10, index=i, fraction=fraction)) for i in range(10)]
    assert {len(subset) for subset in subsets} == {round(100 * fraction)}
    shares = [len(a & b) / len(a) for a, b in combinations(subsets, 2)]
    assert sum(shares) / len(shares) == pytest.approx(fraction, abs=0.06)


def test_a_fraction_holds_in_every_stratum_and_leaves_a_small_one_a_patient() -> None:
    """0.5 of 40 and of 8; of 1 patient, 1."""
    items = _items({(0, 0): 40, (1, 0): 8, (1, 1): 1})
    subset = _subset(items, "fraction")
    assert Counter((i["group"], i["label"]) for i in subset) == {(0, 0): 20, (1, 0): 4, (1, 1): 1}


def test_a_bootstrap_repeats_patients_with_all_their_studies_and_keeps_the_strata_sizes() -> None:
    """1 - (1 - 1/n)^n of n patients are there at least once: 63.4 % of 200, SD 2 % over both strata."""
    items = _items({(0, 0): 200, (1, 1): 200}, studies=2)
    subset = _subset(items, "bootstrap")
    assert Counter(i["group"] for i in subset) == {0: 400, 1: 400}
    assert len(_patients(subset)) / 400 == pytest.approx(0.634, abs=0.05)
    studies = Counter(i["case_id"] for i in subset)
    assert all(studies[f"{patient}-0"] == studies[f"{patient}-1"] for patient in _patients(subset))


def test_all_is_everything_in_its_order() -> None:
    items = _items({(0, 0): 3, (1, 2): 2})
    assert _subset(items, "all", index=3) == items


@pytest.mark.parametrize("scheme", SCHEMES[1:])
def test_teachers_and_seeds_differ_and_the_order_of_the_cases_does_not_matter(scheme: str) -> None:
    items = _items({(0, 0): 30, (1, 1): 30})

    def names(listed: list[dict[str, Any]], **given_settings: Any) -> list[str]:
        return sorted(i["case_id"] for i in _subset(listed, scheme, **given_settings))

    assert names(items) == names(items[::-1])
    assert names(items) != names(items, index=1)
    assert names(items) != names(items, seed=1)


def test_a_group_without_a_case_in_the_subset_is_refused() -> None:
    """Group 1 has nothing but second studies of patients who count as group 0: a draw may miss all of them."""
    items = _items({(0, 0): 10})
    without = [i for i in range(10) if "p00-3" not in _patients(_subset(items, "fold_out", count=10, index=i))]
    items += [{"case_id": "z", "patient_id": "p00-3", "group": 1, "label": 0}]
    with pytest.raises(ValueError, match=r"leaves out group indices \[1\]; take another seed"):
        _subset(items, "fold_out", count=10, index=without[0])
    assert len(without) == 1
    assert len(_subset(items, "fold_out", count=10, index=without[0] - 1)) == 10


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scheme": "folds"}, "scheme must be one of all, fold_out, fraction, bootstrap; got 'folds'"),
        ({"count": 1}, "a count of at least 2 and an index from 0 to count - 1; got count 1 and index 0"),
        ({"index": 4}, "got count 4 and index 4"),
        ({"fraction": 0.0}, "fraction must be above 0 and at most 1; got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _subset(_items({(0, 0): 5}), **{"scheme": "fold_out", **wrong})
