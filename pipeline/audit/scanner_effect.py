"""Is there any scanner effect? Patients are exchanged between the groups, never rows.

If no scanner matters, a patient's rows could have come from any of them. The groups of the patients are permuted,
within strata (e.g. the label) where the case mix may differ, and the observed statistic is held against the permuted
ones. Each is first given the tail that it would have under the groups' own variances, so that the test keeps its size
where groups differ in number and in spread but not in their value (``python -m benchmarks.audit_size``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.audit.statistics import BLOCK_SIZE, MIN_PATIENTS_PER_CLASS, FloatArray, IntArray, Sample

MIN_PATIENTS_PER_GROUP = 2
PERMUTATIONS = 9_999
AUC_PERMUTATIONS = 1_999  # each ranks every row again
TIE = 1e-9  # relative; equal statistics of different permutations differ by rounding
NOTHING_TO_COMPARE = "fewer than two groups have the patients to be compared"
SEEN_IN_SEVERAL = "patients seen in several groups cannot be exchanged between them, and too few others are left"
NO_VARIATION = "every patient has the same value"


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


@dataclass(frozen=True)
class ScannerEffect:
    """Answer of a permutation test over all groups.

    Args:
        groups: groups in the test.
        left_out: groups without the patients to be compared.
        n_patients: patients in the test.
        in_several: patients left out because they were seen in several groups.
        permutations: number drawn.
        p: share of permutations at least as extreme, the observed one among them; NaN if not estimable.
        reason: why there is no p value; None with one.
    """

    groups: tuple[str, ...]
    left_out: tuple[str, ...]
    n_patients: int
    in_several: int
    permutations: int
    p: float = math.nan
    reason: str | None = None

    @property
    def estimable(self) -> bool:
        """True with a p value."""
        return self.reason is None


def scanner_effect(
    values: ArrayLike,
    patients: ArrayLike,
    groups: ArrayLike,
    *,
    rng: np.random.Generator,
    strata: ArrayLike | None = None,
    permutations: int = PERMUTATIONS,
) -> ScannerEffect:
    """Test whether the mean of any group differs from the others'.

    Args:
        values: ``(n,)``, e.g. right (1) or wrong (0), or Dice; averaged per patient, NaN not counted.
        patients: ``(n,)``, integer codes.
        groups: ``(n,)``, names.
        rng: source of randomness.
        strata: ``(n,)``, e.g. labels: patients are exchanged and compared within a stratum only, so that a scanner that
            sees more of the difficult disease is not blamed for it. A patient with several has their combination.
        permutations: number drawn.

    Returns:
        The p value and what it stands on.

    Raises:
        ValueError: if the lengths differ.

    Example:
        >>> scanner = ["GE"] * 8 + ["Canon"] * 8
        >>> found = scanner_effect([1] * 8 + [0] * 8, range(16), scanner, rng=np.random.default_rng(0))
        >>> found.p < 0.01, found.n_patients
        (True, 16)

    Source: Brown & Forsythe 1974, Technometrics 16:129; see :func:`between_groups`.
    """
    table = by_patient(values, patients, groups, strata)
    kept = comparable(table)
    found = _before(table, kept, permutations)
    if len(found.groups) < 2:
        return replace(found, reason=SEEN_IN_SEVERAL if found.in_several else NOTHING_TO_COMPARE)
    centred, members = centred_members(kept)
    if not centred.any():
        return replace(found, reason=NO_VARIATION)

    def statistic(drawn: FloatArray) -> FloatArray:
        return between_groups(*group_moments(drawn, members), members.sum(axis=0))

    drawn = (statistic(block) for block in permuted(centred, kept.strata, permutations, rng))
    return replace(found, p=float(share_as_extreme(statistic(centred), drawn)))


def scanner_effect_auc(
    sample: Sample, groups: ArrayLike, *, rng: np.random.Generator, permutations: int = AUC_PERMUTATIONS
) -> ScannerEffect:
    """Test whether the AUC of any group differs from the others'; patients are exchanged within their labels.

    Args:
        sample: rows of one model. Two classes: the second is the positive one. More: the mean of each against the rest.
        groups: ``(n,)``, names.
        rng: source of randomness.
        permutations: number drawn.

    Returns:
        The p value and what it stands on. A group takes part with two patients of every class, and two of no such.

    Raises:
        ValueError: if the lengths differ.

    Source: DeLong et al. 1988, Biometrics 44:837; Obuchowski 1997, Biometrics 53:567 (patients with several rows).
    """
    table = by_patient(np.zeros(len(sample.labels)), sample.patients, groups, sample.labels)
    rows = [np.isin(sample.patients, table.patients[table.groups == code]) for code in range(len(table.names))]
    able = [code for code, inside in enumerate(rows) if has_every_class(sample, inside)]
    kept = table.take(np.isin(table.groups, able))
    found = _before(table, kept, permutations)
    if len(found.groups) < 2:
        return replace(found, reason=SEEN_IN_SEVERAL if found.in_several else NOTHING_TO_COMPARE)
    aucs = GroupAuc(sample, kept)
    sizes = np.bincount(kept.groups)[able].astype(np.float64)

    def statistic(codes: IntArray) -> FloatArray:
        values, squared_errors = aucs(codes)
        return between_groups(values, squared_errors * sizes, sizes)

    blocks = permuted(kept.groups, kept.strata, permutations, rng, width=len(aucs.rows))
    return replace(found, p=float(share_as_extreme(statistic(kept.groups[None])[0], map(statistic, blocks))))


def has_every_class(sample: Sample, inside: NDArray[np.bool_]) -> bool:
    """True if these rows hold two patients of every class and two with a row of another class."""
    labels, patients = sample.labels[inside], sample.patients[inside]
    return all(
        len(np.unique(patients[chosen])) >= MIN_PATIENTS_PER_CLASS
        for c in range(sample.probabilities.shape[1])
        for chosen in (labels == c, labels != c)
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
    numbers, owners, named = np.asarray(values, dtype=np.float64), np.asarray(patients), np.asarray(groups).astype(str)
    labels = np.zeros(len(numbers), dtype=np.int64) if strata is None else np.asarray(strata).astype(str)
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


def _presence(rows: IntArray, kinds: NDArray[np.generic]) -> tuple[NDArray[np.bool_], NDArray[np.generic]]:
    """Which of the kinds each patient has, ``(P, kinds)``, and their names."""
    names, codes = np.unique(kinds, return_inverse=True)
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


def _before(table: PatientTable, kept: PatientTable, permutations: int) -> ScannerEffect:
    inside = tuple(kept.names[code] for code in np.unique(kept.groups))
    left_out = tuple(name for name in table.names if name not in inside)
    return ScannerEffect(inside, left_out, len(kept.values), table.in_several, permutations)


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
    from scipy.special import fdtrc

    share = sizes / sizes.sum()
    centre = (values * share).sum(axis=-1, keepdims=True)
    parts = (1 - share) * variances
    spread = parts.sum(axis=-1)
    ratio = (sizes * (values - centre) ** 2).sum(axis=-1) / spread
    upper = ((1 - 2 * share) * variances**2).sum(axis=-1) + (share * variances).sum(axis=-1) ** 2
    lower = (parts**2 / (sizes - 1)).sum(axis=-1)
    tail = fdtrc(spread**2 / upper, spread**2 / lower, ratio)
    return np.asarray(-np.log(np.maximum(tail, np.finfo(np.float64).tiny)))


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


class GroupAuc:
    """AUC of every group and its squared standard error, for many assignments of patients to groups at once.

    Args:
        sample: rows of one model.
        table: the patients that count; each group holds two of every class. Assignments exchange patients within
            strata of the labels, so that every group keeps its number of each.
    """

    def __init__(self, sample: Sample, table: PatientTable) -> None:
        inside = np.isin(sample.patients, table.patients)
        self.labels, self.scores = sample.labels[inside], sample.probabilities[inside]
        self.rows = np.searchsorted(table.patients, sample.patients[inside])  # patient of each row: 0 … P - 1
        self.codes = np.unique(table.groups)
        self.groups = table.groups
        self.order = np.argsort(self.rows, kind="stable")
        self.starts = np.searchsorted(self.rows[self.order], np.arange(len(table.patients)))
        self.ranks = [_Ranks(column) for column in self.scores.T]

    def __call__(self, groups: IntArray) -> tuple[FloatArray, FloatArray]:
        """Values and squared standard errors ``(B, G)`` for groups ``(B, P)``; mean over classes as in the table."""
        owners = groups[:, self.rows]
        values, influence = np.zeros((len(groups), len(self.codes))), np.zeros(owners.shape)
        classes = [1] if self.scores.shape[1] == 2 else range(self.scores.shape[1])
        for c in classes:
            for position, code in enumerate(self.codes):
                auc, moved = self._one_class(c, owners == code, code)
                values[:, position] += auc / len(classes)
                influence += moved / len(classes)
        squares = np.add.reduceat(influence[:, self.order], self.starts, axis=1) ** 2  # (B, P)
        errors = np.stack([np.where(groups == code, squares, 0.0).sum(axis=1) for code in self.codes], axis=1)
        return values, errors + 1e-12

    def _one_class(self, c: int, inside: NDArray[np.bool_], code: int) -> tuple[FloatArray, FloatArray]:
        """AUC of the rows inside ``(B,)``, and how much each row moves it ``(B, n)``."""
        positive, below = self.labels == c, self.ranks[c].below
        upper, lower = (inside & positive).astype(np.float64), (inside & ~positive).astype(np.float64)
        m, n = upper.sum(axis=1, keepdims=True), lower.sum(axis=1, keepdims=True)
        placed = np.where(positive, below(lower) / n, 1 - below(upper) / m)
        auc = (upper * placed).sum(axis=1, keepdims=True) / m
        share = upper * self._correction(positive, code) / m + lower * self._correction(~positive, code) / n
        return auc[:, 0], (placed - auc) * share

    def _correction(self, chosen: NDArray[np.bool_], code: int) -> float:
        """Root of k / (k - 1), k the group's patients with such rows."""
        patients = len(np.unique(self.rows[chosen & (self.groups[self.rows] == code)]))
        return math.sqrt(patients / (patients - 1))


class _Ranks:
    """Order of some scores ``(n,)``, found once."""

    def __init__(self, scores: FloatArray) -> None:
        self.order = np.argsort(scores, kind="stable")
        self.first = np.searchsorted(scores[self.order], scores, side="left")
        self.after = np.searchsorted(scores[self.order], scores, side="right")

    def below(self, weights: FloatArray) -> FloatArray:
        """Weight below each row's score, and half of that at it: ``(B, n)`` for weights ``(B, n)``."""
        total = np.zeros((len(weights), len(self.order) + 1))
        np.cumsum(weights[:, self.order], axis=1, out=total[:, 1:])
        return np.asarray((total[:, self.first] + total[:, self.after]) / 2)
