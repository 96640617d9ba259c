"""Exchanging patients between groups, and what is held against the permuted tables.

Every patient counts once, however many rows there are. The statistics are studentised, so that a test keeps its size
where groups differ in number and in spread but not in their value (``python -m benchmarks.audit_size``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.audit.statistics import BLOCK_SIZE, FloatArray, IntArray

MIN_PATIENTS_PER_GROUP = 2
PERMUTATIONS = 9_999
AUC_PERMUTATIONS = 1_999  # each ranks every row again
TIE = 1e-9  # relative; equal statistics of different permutations differ by rounding


@dataclass(frozen=True)
class PatientTable:
    """One value, group and stratum per patient.

    Args:
        patients: ``(P,)``, codes as given, ascending.
        values: ``(P,)``, mean over the patient's rows.
        groups: ``(P,)``, codes into ``names``.
        strata: ``(P,)``, codes.
        names: of the groups.
        in_several: patients seen in several groups; they are not in the table.
    """

    patients: IntArray
    values: FloatArray
    groups: IntArray
    strata: IntArray
    names: tuple[str, ...]
    in_several: int

    def take(self, keep: NDArray[np.bool_]) -> PatientTable:
        """The same table with some of its patients."""
        return replace(
            self,
            patients=self.patients[keep],
            values=self.values[keep],
            groups=self.groups[keep],
            strata=self.strata[keep],
        )


def by_patient(values: ArrayLike, patients: ArrayLike, groups: ArrayLike, strata: ArrayLike | None) -> PatientTable:
    """Average each patient's rows; leave out those seen in several groups, and rows with NaN.

    Args:
        values: ``(n,)``.
        patients: ``(n,)``, integer codes.
        groups: ``(n,)``, names.
        strata: ``(n,)``; None for one stratum.

    Returns:
        The table, in the order of the codes: every patient counts once, however many rows there are.

    Raises:
        ValueError: if the lengths differ.

    Example:
        >>> table = by_patient([1, 0, 1], [0, 0, 1], ["GE", "GE", "Canon"], None)
        >>> table.names, table.values.tolist()
        (('Canon', 'GE'), [0.5, 1.0])
    """
    numbers, owners, named = np.asarray(values, dtype=np.float64), np.asarray(patients), np.asarray(groups)
    labels = np.zeros(len(numbers), dtype=np.int64) if strata is None else np.asarray(strata)
    if not len(numbers) == len(owners) == len(named) == len(labels):
        raise ValueError(
            f"values, patients, groups and strata need one entry per row; got {len(numbers)}, {len(owners)}, "
            f"{len(named)} and {len(labels)}; pass one each"
        )
    present = np.isfinite(numbers)
    if not present.any():
        none = np.zeros(0, dtype=np.int64)
        return PatientTable(none, np.zeros(0), none, none, names=(), in_several=0)
    codes, rows = np.unique(owners[present], return_inverse=True)
    seen, names = _presence(rows, named[present])
    _, stratum = np.unique(_presence(rows, labels[present])[0], axis=0, return_inverse=True)
    means = np.bincount(rows, numbers[present]) / np.bincount(rows)
    single = seen.sum(axis=1) == 1
    several = int(np.count_nonzero(~single))
    return PatientTable(codes, means, seen.argmax(axis=1), stratum, tuple(names.tolist()), several).take(single)


def coded(kinds: NDArray[Any]) -> tuple[NDArray[np.str_], IntArray]:
    """Names as text, in order, and the code of each entry; the text of a million numbers is never made."""
    different, codes = np.unique(kinds.astype(str) if kinds.dtype == object else kinds, return_inverse=True)
    names, places = np.unique(different.astype(str), return_inverse=True)
    return names, np.asarray(places[codes], dtype=np.int64)


def _presence(rows: IntArray, kinds: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.str_]]:
    """Which of the kinds each patient has, ``(P, kinds)``, and their names."""
    names, codes = coded(kinds)
    table = np.zeros((rows.max() + 1, len(names)), dtype=bool)
    table[rows, codes] = True
    return table, names


def comparable(table: PatientTable) -> PatientTable:
    """Keep groups of at least two patients, and strata that several of them share; group codes stay as they are."""
    keep = np.ones(len(table.values), dtype=bool)
    while keep.any():
        counts = np.zeros((table.groups.max() + 1, table.strata.max() + 1), dtype=np.int64)
        np.add.at(counts, (table.groups[keep], table.strata[keep]), 1)
        enough, shared = counts.sum(axis=1) >= MIN_PATIENTS_PER_GROUP, np.count_nonzero(counts, axis=0) >= 2
        still = keep & enough[table.groups] & shared[table.strata]
        if still.sum() == keep.sum():
            break
        keep = still
    return table.take(keep)


def centred_members(table: PatientTable) -> tuple[FloatArray, FloatArray]:
    """Values less the mean of their stratum, ``(P,)``, all 0 without variation; and members of groups, ``(P, G)``."""
    means = np.bincount(table.strata, table.values) / np.maximum(np.bincount(table.strata), 1)
    centred = table.values - means[table.strata]
    centred[np.abs(centred) < 1e-12 * np.abs(table.values).max()] = 0.0
    return centred, (table.groups[:, None] == np.unique(table.groups)).astype(np.float64)


def group_moments(values: FloatArray, members: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of every group.

    Args:
        values: ``(…, P)``, centred, so that squares lose no digits.
        members: ``(P, G)``, 1 where a patient belongs to a group.

    Returns:
        Means and variances ``(…, G)``. The variance has a floor, 1e-12 of the whole, so that ratios stay finite.
    """
    sizes = members.sum(axis=0)
    means = values @ members / sizes
    squares = np.maximum((values**2) @ members - sizes * means**2, 0.0)
    return means, squares / (sizes - 1) + 1e-12 * np.mean(values**2, axis=-1, keepdims=True)


def between_groups(values: FloatArray, variances: FloatArray, sizes: FloatArray) -> FloatArray:
    r"""How unlikely the differences between the groups are, given each group's own variance: minus the log of a tail.

    .. math:: F = \frac{\sum_g n_g (\bar x_g - \bar x)^2}{\sum_g (1 - n_g / N)\, s_g^2}

    in the tail of an F distribution with Mehrotra's degrees of freedom. The size does not rest on them: permuting is
    exact where patients are exchangeable. Weights of :math:`1 / s_g^2` would mute a group that fails: errors vary more.

    Args:
        values: ``(…, G)``.
        variances: ``(…, G)``, per patient, above 0.
        sizes: ``(G,)``, patients.

    Returns:
        ``(…,)``, at least 0, larger for larger differences.

    Source: Brown & Forsythe 1974, Technometrics 16:129; Mehrotra 1997, Communications in Statistics, Simulation and
    Computation 26:1139; Chung & Romano 2016, Journal of Statistical Planning and Inference 168:97 (permuting a tail).
    """
    share = sizes / sizes.sum()
    centre = (values * share).sum(axis=-1, keepdims=True)
    parts = (1 - share) * variances
    spread = parts.sum(axis=-1)
    ratio = (sizes * (values - centre) ** 2).sum(axis=-1) / spread
    upper = ((1 - 2 * share) * variances**2).sum(axis=-1) + (share * variances).sum(axis=-1) ** 2
    lower = (parts**2 / (sizes - 1)).sum(axis=-1)
    return minus_log_tail(ratio, spread**2 / upper, spread**2 / lower)


def minus_log_tail(ratio: FloatArray, upper: FloatArray, lower: FloatArray) -> FloatArray:
    """Minus the log of the upper tail of an F distribution; ``upper`` and ``lower`` are its degrees of freedom."""
    from scipy.special import fdtrc

    return np.asarray(-np.log(np.maximum(fdtrc(upper, lower, ratio), np.finfo(np.float64).tiny)))


def permuted(
    codes: NDArray[Any], strata: IntArray, count: int, rng: np.random.Generator, *, width: int | None = None
) -> Iterator[NDArray[Any]]:
    """Permute within strata, in blocks that fit into memory.

    Args:
        codes: ``(P,)``, what is permuted.
        strata: ``(P,)``; entries move between patients of one stratum only.
        count: number of permutations.
        rng: source of randomness.
        width: numbers that each permutation will take; None for P.

    Yields:
        ``(block, P)``.
    """
    block = max(1, BLOCK_SIZE // (width or len(codes)))
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    for start in range(0, count, block):
        drawn = np.tile(codes, (min(block, count - start), 1))
        for inside in members:
            drawn[:, inside] = rng.permuted(drawn[:, inside], axis=1)
        yield drawn


def share_as_extreme(observed: FloatArray, drawn: Iterator[FloatArray], *, ties: float = 1.0) -> FloatArray:
    """P values, ``(1 + permutations at least as extreme) / (1 + permutations)``, in the shape of ``observed``.

    Args:
        observed: ``(…,)``, larger is more extreme.
        drawn: blocks ``(block, …)``.
        ties: what a permutation counts that ties with the observed; 0.5 gives mid-p values.

    Source: Phipson & Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9:39.
    """
    margin, extreme, count = TIE * np.abs(observed), np.ones(np.shape(observed)), 1
    for block in drawn:
        beyond, equal = block > observed + margin, np.abs(block - observed) <= margin
        extreme += np.count_nonzero(beyond, axis=0) + ties * np.count_nonzero(equal, axis=0)
        count += len(block)
    return np.asarray(extreme / count)


def two_sided(
    ratio: Callable[[NDArray[Any]], FloatArray], observed: NDArray[Any], drawn: Iterator[NDArray[Any]]
) -> FloatArray:
    """P values, twice the smaller tail, ties counting half: right and wrong tie often, and tests would hardly reject.

    Args:
        ratio: difference over its standard error, ``(B, …)``, of tables ``(B, …)``.
        observed: the table seen, ``(1, …)``.
        drawn: blocks of permuted tables.

    Returns:
        In the shape of one ratio. Both tails together would not do: where errors are rare, a group without any has a
        large ratio and would hide one with many.

    Source: Janssen 1997, Statistics & Probability Letters 36:9 (permuting a ratio).
    """

    def signed(table: NDArray[Any]) -> FloatArray:
        found = ratio(table)
        return np.stack([found, -found], axis=-1)

    tails = share_as_extreme(signed(observed)[0], map(signed, drawn), ties=0.5)
    return np.asarray(np.minimum(1.0, 2 * tails.min(axis=-1)))


def ratio_of_two(values: FloatArray, squared_errors: FloatArray) -> FloatArray:
    """Second column less the first, ``(B, 2)``, over the standard error of their difference, ``(B,)``."""
    return np.asarray((values[:, 1] - values[:, 0]) / np.sqrt(squared_errors.sum(axis=1)))
