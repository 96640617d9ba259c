"""Who goes to which section: patients dealt from a pool of prepared studies, by seed and fold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.cohort.acdc import simulate_like_mnms
from pipeline.cohort.case import Case
from pipeline.cohort.phantom_anatomy import PATHOLOGIES
from pipeline.cohort.phantom_plan import VENDORS
from pipeline.cohort.split import Sections, largest_remainder, ordered, shuffled

DEVELOPMENT = "development"
PER_VALIDATION = 3  # training patients for each one in validation
PER_HELD_OUT = 4  # of a cross-validation: patients outside the test fold for each one in validation


def deal_table(
    cases: Iterable[Case], counts: NDArray[np.int_], *, test_per_cell: int, seed: int, development_per_cell: int = 0
) -> Sections:
    """Deal a pool by a table of counts: the test section is always the same, the others are drawn.

    Args:
        cases: the pool, one case per patient; their vendors and labels make the cells.
        counts: training patients, ``(vendors, pathologies)`` in the order of ``VENDORS`` and ``PATHOLOGIES``.
        test_per_cell: the first of each cell, by case id, are its test patients.
        seed: draws the others, without replacement. A cell's draws are nested: with smaller counts a seed takes fewer
            of the same patients.
        development_per_cell: further patients of each cell, drawn after those, who are in no other section.

    Returns:
        Cases by section, ``development`` among them. Validation has the proportions of training, see
        :func:`validation_counts`.

    Raises:
        ValueError: if a cell of the pool has too few patients.
    """
    cells = defaultdict(list)
    for case in ordered(cases):
        cells[case.vendor, case.label].append(case)
    held_out = validation_counts(counts)
    sections: dict[str, list[Case]] = {"training": [], "validation": [], "test": [], DEVELOPMENT: []}
    for (i, vendor), (j, label) in ((v, p) for v in enumerate(VENDORS) for p in enumerate(PATHOLOGIES)):
        members, n, m = cells[vendor, label], int(counts[i, j]), int(held_out[i, j])
        needed = n + m + development_per_cell
        if len(members) < test_per_cell + needed:
            raise ValueError(
                f"the pool must hold {test_per_cell} test, {n} training, {m} validation and {development_per_cell} "
                f"development patients of {vendor} x {label}; it holds {len(members)}; raise reservoir_per_cell to "
                f"{needed}, or draw fewer studies"
            )
        drawn = _shuffled_cases(members[test_per_cell:], seed=seed, name=f"{vendor} x {label}")
        sections["training"] += drawn[:n]
        sections["validation"] += drawn[n : n + m]
        sections[DEVELOPMENT] += drawn[n + m : needed]
        sections["test"] += members[:test_per_cell]
    return {section: ordered(members) for section, members in sections.items()}


def validation_counts(counts: NDArray[np.int_]) -> NDArray[np.int_]:
    """A third of each vendor's training patients, at least one, in the proportions of its labels.

    Example:
        >>> validation_counts(np.array([[6, 3, 0], [1, 0, 0], [0, 0, 0]])).tolist()
        [[2, 1, 0], [1, 0, 0], [0, 0, 0]]
    """
    rows = []
    for row in counts:
        total = max(1, round(int(row.sum()) / PER_VALIDATION)) if row.sum() else 0
        shares = {str(j): float(n) for j, n in enumerate(row)}
        rows.append(list(largest_remainder(total, shares).values()) if total else [0] * len(row))
    return np.array(rows, dtype=int)


def deal_folds(cases: Iterable[Case], *, seed: int, fold: int, folds: int) -> Sections:
    """One fold of a cross-validation over patients who have a case under every simulated vendor.

    Patients are shuffled label by label and dealt to the folds in turn. Of those outside the test fold one in four, by
    label, validates. Training has each patient once, vendors by M&Ms' shares; validation and test have each patient
    under every vendor.

    Args:
        cases: of the pool; case ids are ``<patient>-<vendor>``.
        seed: of the repeat: shuffles the patients and draws the vendors of training.
        fold: from 0.
        folds: how many there are.

    Returns:
        Cases by section. Over the folds of a seed every patient is tested once.

    Raises:
        ValueError: if ``fold`` is not one of ``folds``, or a patient lacks a vendor's case.
    """
    if not 0 <= fold < folds:
        raise ValueError(f"fold must be one of 0 … {folds - 1}; got {fold}; give one of these")
    pool = {case.case_id: case for case in cases}
    patients = {case.patient_id: replace(case, case_id=case.patient_id) for case in ordered(pool.values())}
    by_label = defaultdict(list)
    for case in patients.values():
        by_label[case.label].append(case)
    sections: dict[str, list[Case]] = {"training": [], "validation": [], "test": []}
    dealt = 0
    for label, members in sorted(by_label.items()):
        drawn = _shuffled_cases(members, seed=seed, name=f"folds of {label}")
        turns = [(dealt + place) % folds for place in range(len(drawn))]
        others = [case for case, turn in zip(drawn, turns, strict=True) if turn != fold]
        held_out = round(len(others) / PER_HELD_OUT)
        sections["test"] += [case for case, turn in zip(drawn, turns, strict=True) if turn == fold]
        sections["validation"] += others[:held_out]
        sections["training"] += others[held_out:]
        dealt += len(drawn)  # so that the folds' sizes differ by one at most
    return _prepared(simulate_like_mnms(sections, seed=seed), pool)


def _prepared(sections: Mapping[str, Sequence[Case]], pool: Mapping[str, Case]) -> Sections:
    missing = [case.case_id for cases in sections.values() for case in cases if case.case_id not in pool]
    if missing:
        raise ValueError(
            f"every patient must have a prepared study of every vendor; {missing[0]!r} is not in the pool; "
            "its reason stands in set_aside of the pool's datalist: mend it, or leave the patient out of the data"
        )
    return {section: ordered(pool[case.case_id] for case in cases) for section, cases in sections.items()}


def _shuffled_cases(cases: Sequence[Case], *, seed: int, name: str) -> list[Case]:
    known = {case.case_id: case for case in cases}
    return [known[case_id] for case_id in shuffled(sorted(known), seed=seed, name=name)]
