"""What patients have in each of several groups, and how it is exchanged among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.audit.permutation import MIN_PATIENTS_PER_GROUP, coded
from pipeline.audit.statistics import BLOCK_SIZE, FloatArray, IntArray

Mask = NDArray[np.bool_]
SAME = 1e-12  # relative; below it values differ by rounding


@dataclass(frozen=True)
class Cells:
    """What each patient has in each group.

    Args:
        patients: ``(K,)``, codes as given. One whose rows differ in stratum between groups stands there once per
            stratum, with the groups of each.
        values: ``(K, G)``, mean over the rows; 0 where ``present`` is False.
        present: ``(K, G)``.
        names: of the groups.
        at: ``(n, 2)``, patient and group of each row; -1 for rows that are not in the table.
    """

    patients: IntArray
    values: FloatArray
    present: Mask
    names: tuple[str, ...]
    at: IntArray

    @property
    def n_patients(self) -> int:
        """Different patients."""
        return len(np.unique(self.patients))

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups with a patient."""
        return tuple(self.names[position] for position in np.flatnonzero(self.present.any(axis=0)))

    @property
    def codes(self) -> IntArray:
        """Position of the group of each cell, ``(K, G)``: what is permuted where values are looked up by row."""
        return np.tile(np.arange(len(self.names)), (len(self.patients), 1))

    @property
    def varies(self) -> bool:
        """Whether any patient has different values in different groups."""
        own = np.where(self.present, self.values, np.nan)
        spread = np.nanmax(own, axis=1, initial=-np.inf) - np.nanmin(own, axis=1, initial=np.inf)
        return bool(np.any(spread > SAME * np.abs(self.values).max(initial=0.0)))


def cells_of(values: ArrayLike, patients: ArrayLike, groups: ArrayLike, strata: ArrayLike | None = None) -> Cells:
    """What patients have in each of their groups, without those of one group alone and groups of one patient.

    Args:
        values: ``(n,)``; NaN is not counted.
        patients: ``(n,)``, integer codes.
        groups: ``(n,)``, names.
        strata: ``(n,)``; cells are exchanged between groups in which the patient has the same strata.

    Returns:
        The table: rows of one patient and group count once, together.

    Example:
        >>> found = cells_of([1, 0, 1, 0, 1], [7, 7, 7, 8, 8], ["GE", "GE", "Canon", "GE", "Canon"])
        >>> found.names, found.values.tolist(), found.patients.tolist()
        (('Canon', 'GE'), [[1.0, 0.5], [1.0, 0.0]], [7, 8])
    """
    numbers, owners = np.asarray(values, dtype=np.float64), np.asarray(patients, dtype=np.int64)
    used = np.isfinite(numbers)
    names, codes = coded(np.asarray(groups)[used])
    kinds = _kinds(owners[used], codes, None if strata is None else np.asarray(strata)[used])
    _, first, units = np.unique(pairs_of(owners[used], kinds), return_index=True, return_inverse=True)
    sums, counts = np.zeros((2, len(first), len(names)))
    np.add.at(sums, (units, codes), numbers[used])
    np.add.at(counts, (units, codes), 1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), 0.0)
    at = np.full((len(numbers), 2), -1)
    at[used] = np.c_[units, codes]
    return with_groups(Cells(owners[used][first], means, counts > 0, tuple(names.tolist()), at))


def pairs_of(one: IntArray, other: IntArray) -> IntArray:
    """A code ``(n,)`` for each pair of codes; it rises with the first, then with the second."""
    return np.asarray(one * (other.max(initial=0) + 1) + other)


def _kinds(owners: IntArray, groups: IntArray, strata: NDArray[Any] | None) -> IntArray:
    """Combination of strata that each row's patient has in the row's group, ``(n,)``."""
    if strata is None or not len(owners):
        return np.zeros(len(owners), dtype=np.int64)
    studies = np.unique(pairs_of(owners, groups), return_inverse=True)[1]
    names, codes = coded(strata)
    held = np.zeros((studies.max() + 1, len(names)), dtype=bool)
    held[studies, codes] = True
    return np.asarray(np.unique(held, axis=0, return_inverse=True)[1][studies], dtype=np.int64)


def with_groups(cells: Cells, able: Sequence[bool] | None = None) -> Cells:
    """Drop groups that are not able or have fewer than two patients, then patients of one group, until all is well.

    Args:
        cells: the table.
        able: whether each group may stay; None for all.
    """
    present = cells.present if able is None else cells.present & np.array(able, dtype=bool)
    while True:
        kept = present & (present.sum(axis=0) >= MIN_PATIENTS_PER_GROUP) & (present.sum(axis=1) >= 2)[:, None]
        if kept.sum() == present.sum():
            break
        present = kept
    stay = present.any(axis=1)
    position = np.where(stay, np.cumsum(stay) - 1, -1)
    at, inside = np.full(cells.at.shape, -1), cells.at[:, 0] >= 0
    unit, group = cells.at[inside].T
    at[inside] = np.where(present[unit, group][:, None], np.c_[position[unit], group], -1)
    return replace(cells, patients=cells.patients[stay], values=cells.values[stay], present=present[stay], at=at)


def permuted_cells(
    table: NDArray[Any], present: Mask, count: int, rng: np.random.Generator, *, width: int | None = None
) -> Iterator[NDArray[Any]]:
    """Permute each patient's cells among their own groups, in blocks that fit into memory.

    Args:
        table: ``(K, G)``, what is permuted.
        present: ``(K, G)``; other entries stay where they are.
        count: number of permutations.
        rng: source of randomness.
        width: numbers that each permutation will take; None for all of the table.

    Yields:
        ``(block, K, G)``.
    """
    patterns, of_patient = np.unique(present, axis=0, return_inverse=True)
    block = max(1, BLOCK_SIZE // max(1, width or table.size))
    for start in range(0, count, block):
        drawn = np.tile(table, (min(block, count - start), 1, 1))
        for position, pattern in enumerate(patterns):
            inside = np.ix_(np.arange(len(drawn)), np.flatnonzero(of_patient == position), np.flatnonzero(pattern))
            drawn[inside] = rng.permuted(drawn[inside], axis=2)
        yield drawn
