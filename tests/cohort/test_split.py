"""Splits: patients stay whole, every section gets its share of every cell, the seed decides."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cohort.case import SECTIONS, Case
from pipeline.cohort.split import carve_validation, largest_remainder, section_counts, stratified_split


def a_case(case_id: str, *, patient: str | None = None, vendor: str = "GE", label: str = "NOR") -> Case:
    return Case(case_id, patient or case_id, label, "site", vendor, vendor)


def cell(n: int, vendor: str = "GE", label: str = "NOR") -> list[Case]:
    return [a_case(f"{vendor}-{label}-{i:03d}", vendor=vendor, label=label) for i in range(n)]


@st.composite
def cohorts(draw: st.DrawFn) -> list[Case]:
    """Patients with one to three cases, in cells of any size."""
    patients = draw(st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from("XYZ"), st.integers(1, 3)), max_size=40))
    return [
        a_case(f"{patient}-{study}", patient=f"p{patient}", vendor=vendor, label=label)
        for patient, (vendor, label, n) in enumerate(patients)
        for study in range(n)
    ]


@settings(deadline=None)
@given(cases=cohorts(), seed=st.integers(0, 99), rest=st.tuples(st.floats(0.05, 0.45), st.floats(0.05, 0.45)))
def test_a_split_holds_every_case_once_and_every_patient_in_one_section(
    cases: list[Case], seed: int, rest: tuple[float, float]
) -> None:
    """And in each cell of at least 3 patients every section has one; smaller cells stay in training, named."""
    fractions = {"training": 1 - sum(rest), "validation": rest[0], "test": rest[1]}
    sections, kept = stratified_split(cases, group_by=("vendor",), fractions=fractions, seed=seed)
    placed = [case for section in SECTIONS for case in sections[section]]
    assert Counter(case.case_id for case in placed) == Counter(case.case_id for case in cases)

    patients = {section: {case.patient_id for case in sections[section]} for section in SECTIONS}
    assert sum(map(len, patients.values())) == len({case.patient_id for case in cases})

    for name in {f"{case.vendor} x {case.label}" for case in cases}:
        members = {case.patient_id for case in cases if f"{case.vendor} x {case.label}" == name}
        shares = {section: len(members & patients[section]) for section in SECTIONS}
        if len(members) < 3:
            assert shares == {"training": len(members), "validation": 0, "test": 0}
        else:
            assert min(shares.values()) >= 1
        assert (name in kept) == (len(members) < 3)


@settings(deadline=None)
@given(cases=cohorts(), seed=st.integers(0, 99), order=st.randoms(use_true_random=False))
def test_a_split_does_not_depend_on_the_order_of_the_cases(cases: list[Case], seed: int, order: random.Random) -> None:
    """Folders are listed in any order by a file system."""
    mixed = order.sample(cases, len(cases))
    assert stratified_split(mixed, group_by=("vendor",), seed=seed) == stratified_split(
        cases, group_by=("vendor",), seed=seed
    )


def test_another_seed_chooses_other_patients_in_the_same_numbers() -> None:
    """Of 50 patients 10 are tested; two seeds agree on all ten with a chance of 1 in 10^10."""
    one, other = (stratified_split(cell(50), group_by=("vendor",), seed=seed)[0] for seed in (0, 1))
    assert {section: len(one[section]) for section in SECTIONS} == {"training": 30, "validation": 10, "test": 10}
    assert len(other["test"]) == 10
    assert one["test"] != other["test"]


def test_a_cells_split_does_not_depend_on_the_other_cells() -> None:
    """A hospital that joins must not move the test patients of the others."""
    alone, _ = stratified_split(cell(20), group_by=("vendor",), seed=3)
    together, _ = stratified_split([*cell(20), *cell(9, "Canon")], group_by=("vendor",), seed=3)
    for section in SECTIONS:
        assert alone[section] == tuple(case for case in together[section] if case.vendor == "GE")


def test_cells_are_group_by_label() -> None:
    """Each of 4 cells of 5 patients gives 3, 1, 1; by vendor alone a label could be missing from the test."""
    cases = [case for vendor in ("GE", "Canon") for label in ("NOR", "HCM") for case in cell(5, vendor, label)]
    sections, kept = stratified_split(cases, group_by=("vendor",), seed=0)
    assert kept == []
    for section, n in (("training", 3), ("validation", 1), ("test", 1)):
        assert set(Counter((case.vendor, case.label) for case in sections[section]).values()) == {n}


def test_a_cell_of_two_patients_stays_in_training_and_is_named() -> None:
    """Two patients with three studies each are six cases, and still two patients."""
    cases = [a_case(f"{p}-{i}", patient=p, vendor="Canon", label="DCM") for p in ("p", "q") for i in range(3)]
    sections, kept = stratified_split([*cases, *cell(3)], group_by=("vendor",), seed=0)
    assert kept == ["Canon x DCM"]
    assert {case.case_id for case in cases} <= {case.case_id for case in sections["training"]}
    assert [len(sections[section]) for section in SECTIONS] == [7, 1, 1]


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (3, (1, 1, 1)),
        (4, (2, 1, 1)),
        (5, (3, 1, 1)),
        (10, (6, 2, 2)),
        (11, (7, 2, 2)),
        (12, (7, 3, 2)),
        (13, (8, 3, 2)),
    ],
)
def test_counts_follow_the_largest_remainder(n: int, expected: tuple[int, int, int]) -> None:
    """12 x (0.6, 0.2, 0.2) = (7.2, 2.4, 2.4): the odd one goes to validation, the first of the two 0.4."""
    counts = section_counts(n, {"training": 0.6, "validation": 0.2, "test": 0.2})
    assert tuple(counts.values()) == expected


@given(n=st.integers(0, 500), shares=st.lists(st.floats(0.01, 1), min_size=1, max_size=6))
def test_largest_remainder_gives_all_and_is_never_off_by_one_or_more(n: int, shares: list[float]) -> None:
    """The two properties that define a quota method."""
    named = {str(index): share for index, share in enumerate(shares)}
    counts = largest_remainder(n, named)
    assert sum(counts.values()) == n
    for name, share in named.items():
        assert abs(counts[name] - n * share / sum(shares)) < 1 + 1e-6


def test_a_share_of_nothing_gets_nothing() -> None:
    """M&Ms has no GE patient with DCM, so none is to be simulated."""
    assert largest_remainder(1000, {"GE": 0, "Canon": 1})["GE"] == 0


def test_validation_is_carved_out_of_training_and_the_test_part_stays() -> None:
    """0.6 to 0.2 of 12 patients are 9 and 3."""
    given_test = tuple(cell(4, "Canon"))
    sections, kept = carve_validation(
        {"training": cell(12), "validation": [], "test": given_test}, group_by=("vendor",)
    )
    assert [len(sections[section]) for section in SECTIONS] == [9, 3, 4]
    assert sections["test"] == given_test
    assert kept == []


@pytest.mark.parametrize(
    "fractions",
    [
        {"training": 0.5, "validation": 0.2, "test": 0.2},
        {"training": 1.2, "validation": -0.1, "test": -0.1},
        {"validation": 0.5, "test": 0.5},
        {"training": 0.6, "testing": 0.4},
        {"training": float("nan"), "test": 0.5},
    ],
)
def test_fractions_that_are_no_shares_are_refused(fractions: dict[str, float]) -> None:
    """With what came, so that the wrong one is seen."""
    with pytest.raises(ValueError, match="fractions must") as error:
        stratified_split(cell(5), group_by=("vendor",), fractions=fractions)
    assert str(fractions) in str(error.value)
