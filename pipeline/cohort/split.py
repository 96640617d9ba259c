"""Splits at patient level, stratified by group x label."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from pipeline.cohort.case import SECTIONS, Case, group_of

DEFAULT_FRACTIONS: Mapping[str, float] = MappingProxyType({"training": 0.6, "validation": 0.2, "test": 0.2})
SMALLEST_SPLIT_CELL = 3  # patients: one for each section

Sections = dict[str, tuple[Case, ...]]


def stratified_split(
    cases: Iterable[Case],
    *,
    group_by: Sequence[str],
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
) -> tuple[Sections, list[str]]:
    """Split patients into sections, cell by cell; a cell is a group x label.

    A patient stays whole. Patients with cases in several cells count in that of their first case, by case id.
    The result depends on the seed and on which cases there are, not on their order, and a cell's split
    does not depend on the other cells.

    Args:
        cases: the cases.
        group_by: columns of a group; the label is added.
        fractions: share of each section, sum 1. Met in each cell by largest remainder, with at least one
            patient for each section that has a share.
        seed: chooses the patients.

    Returns:
        The cases by section, ordered by case id, and the names of the cells with fewer than 3 patients, which
        stay in training as they are.

    Raises:
        ValueError: if the fractions are not shares of the three sections that make 1, with one for training.
    """
    shares = _checked(fractions)
    patients = _by_patient(cases)
    cells: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(patients):
        cells[_cell(patients[patient][0], group_by)].append(patient)

    sections: dict[str, list[Case]] = {section: [] for section in SECTIONS}
    for name, members in cells.items():
        for section, chosen in _split_cell(name, members, shares, seed).items():
            sections[section] += [case for patient in chosen for case in patients[patient]]
    kept = sorted(name for name, members in cells.items() if _too_small(len(members), shares))
    return {section: ordered(found) for section, found in sections.items()}, kept


def carve_validation(
    sections: Mapping[str, Sequence[Case]],
    *,
    group_by: Sequence[str],
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
) -> tuple[Sections, list[str]]:
    """Take the validation section out of training; the test section stays as it is given.

    Args:
        sections: cases by section, validation empty.
        group_by: columns of a group; the label is added.
        fractions: training and validation are used, by their proportion.
        seed: chooses the patients.

    Returns:
        As :func:`stratified_split`.
    """
    two = {section: fractions.get(section, 0.0) for section in ("training", "validation")}
    shares = {section: share / (sum(two.values()) or 1.0) for section, share in two.items()}
    carved, kept = stratified_split(sections["training"], group_by=group_by, fractions=shares, seed=seed)
    return carved | {"test": ordered(sections.get("test", ()))}, kept


def section_counts(n: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """How many of ``n`` go to each section: largest remainder, at least one where there is a share.

    Args:
        n: patients in the cell; at least the number of sections with a share.
        fractions: shares, sum 1.

    Example:
        >>> section_counts(12, {"training": 0.6, "validation": 0.2, "test": 0.2})
        {'training': 7, 'validation': 3, 'test': 2}
        >>> section_counts(3, {"training": 0.9, "validation": 0.05, "test": 0.05})
        {'training': 1, 'validation': 1, 'test': 1}
    """
    counts = largest_remainder(n, fractions)
    for section, share in fractions.items():
        if share > 0 and counts[section] == 0:
            counts[max(counts, key=lambda name: counts[name])] -= 1
            counts[section] = 1
    return counts


def largest_remainder(n: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers that sum to ``n`` and follow the shares; among equal remainders the first wins.

    Args:
        n: how many there are to give away.
        shares: not negative, with a positive sum.

    Example:
        >>> largest_remainder(7, {"Siemens": 37, "Philips": 5, "GE": 0, "Canon": 9})
        {'Siemens': 5, 'Philips': 1, 'GE': 0, 'Canon': 1}
    """
    total = sum(shares.values())
    quotas = {name: round(n * share / total, 9) for name, share in shares.items()}
    counts = {name: math.floor(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: counts[name] - quotas[name])
    for name in by_remainder[: n - sum(counts.values())]:
        counts[name] += 1
    return counts


def kept_note(cell: str) -> str:
    """Note for the datalist on a cell that was too small to be split."""
    return f"{cell}: fewer than {SMALLEST_SPLIT_CELL} patients, all stay in training"


def ordered(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Cases by case id."""
    return tuple(sorted(cases, key=lambda case: case.case_id))


def shuffled(items: Sequence[str], *, seed: int, name: str) -> list[str]:
    """Order ``items`` at random, by the seed and by what they are shuffled for."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return [items[index] for index in generator.permutation(len(items))]


def _split_cell(name: str, members: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    if _too_small(len(members), shares):
        return {"training": list(members)}
    order, start, parts = shuffled(members, seed=seed, name=name), 0, {}
    for section, count in section_counts(len(members), shares).items():
        parts[section] = order[start : start + count]
        start += count
    return parts


def _too_small(n: int, shares: Mapping[str, float]) -> bool:
    divided = sum(share > 0 for share in shares.values()) > 1
    return divided and n < SMALLEST_SPLIT_CELL


def _checked(fractions: Mapping[str, float]) -> dict[str, float]:
    known = set(fractions) <= set(SECTIONS)
    if not known or any(not 0 <= share <= 1 for share in fractions.values()):
        raise ValueError(f"fractions must be shares of {SECTIONS} in [0, 1]; got {dict(fractions)}")
    if not fractions.get("training") or not math.isclose(sum(fractions.values()), 1.0, abs_tol=1e-6):
        raise ValueError(
            f"fractions must sum to 1, with a share for training; got {dict(fractions)}: change the shares"
        )
    return {section: fractions.get(section, 0.0) for section in SECTIONS}


def _by_patient(cases: Iterable[Case]) -> dict[str, list[Case]]:
    patients: dict[str, list[Case]] = defaultdict(list)
    for case in ordered(cases):
        patients[case.patient_id].append(case)
    return patients


def _cell(case: Case, group_by: Sequence[str]) -> str:
    return group_of(case, tuple(dict.fromkeys((*group_by, "label"))))
