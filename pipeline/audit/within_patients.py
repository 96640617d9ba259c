r"""Groups compared within patients: where patients were seen in several groups, each is their own control.

If no scanner matters, a patient's studies could have come from any of the scanners that saw them: what a patient has in
each group, a cell, is exchanged among the groups of the same patient. Every group is held against the patient's other
groups, :math:`D_{kg} = y_{kg} - \bar y_{k,-g}`, in all patients who have both.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike

from pipeline.audit.cells import Cells, Mask, cells_of, with_groups
from pipeline.audit.group_auc import Corrections, SelectedAuc, has_every_class
from pipeline.audit.permutation import minus_log_tail
from pipeline.audit.statistics import FloatArray, IntArray, Sample

LEAST = 1e-12  # of the whole variation; a floor, so that ratios stay finite


def against_own_others(values: FloatArray, present: Mask) -> tuple[FloatArray, FloatArray]:
    r"""Mean difference of every group from the same patients' other groups, and what each patient adds to its error.

    .. math:: T_g = \frac1{n_g} \sum_k D_{kg}, \quad D_{kg} = \frac{m_k}{m_k - 1} (y_{kg} - \bar y_k), \quad
        u_{kg} = \sqrt{\tfrac{n_g}{n_g - 1}} \, \frac{D_{kg} - T_g}{n_g}

    Args:
        values: ``(B, K, G)``.
        present: ``(K, G)``; :math:`m_k`, groups of patient k, is at least 2, and :math:`n_g`, patients of group g, too.

    Returns:
        :math:`T` ``(B, G)`` and :math:`u` ``(B, K, G)``, 0 where a patient has no part, and for groups without one.
    """
    groups = present.sum(axis=1)[:, None]
    own = np.where(present, values, 0.0)
    apart = np.where(present, (groups * own - own.sum(axis=2, keepdims=True)) / (groups - 1), 0.0)
    sizes = np.maximum(present.sum(axis=0), 2)
    means = apart.sum(axis=1) / sizes
    share = np.sqrt(sizes / (sizes - 1)) / sizes
    return means, np.where(present, (apart - means[:, None]) * share, 0.0)


class OwnOthersAuc:
    """AUC of every group less those of the same patients' other groups, for many assignments of cells at once.

    Each other group is compared in the patients of both, and the differences are averaged. Scores of unlike scanners
    are never ranked together, so that one that shifts all its scores is no worse for it.

    Args:
        sample: rows of one model.
        cells: the patients that count. Two groups are compared if two of their patients have each class.
    """

    def __init__(self, sample: Sample, cells: Cells) -> None:
        inside = cells.at[:, 0] >= 0
        self.cells, (unit, group) = cells, cells.at[inside].T
        within = Sample(sample.labels[inside], sample.probabilities[inside], sample.patients[inside])
        place = unit * len(cells.names) + group  # of the cell in the flattened table
        self.selected = SelectedAuc(within.labels, within.probabilities, unit, place)
        self.rows = len(unit)
        self.partners: dict[int, list[tuple[int, bytes]]] = {}
        self.common: dict[bytes, tuple[Mask, Corrections]] = {}  # the patients of two groups
        for one, other in permutations(range(len(cells.names)), 2):
            both = cells.present[:, one] & cells.present[:, other]
            if has_every_class(within, both[unit]):
                key = both.tobytes()
                self.common.setdefault(key, (both[:, None], self.selected.corrections(both[unit])))
                self.partners.setdefault(one, []).append((other, key))

    def __call__(self, assigned: IntArray) -> tuple[FloatArray, FloatArray]:
        """As :func:`against_own_others`, for the groups ``(B, K, G)`` that the cells are given."""
        found: dict[tuple[int, bytes], tuple[FloatArray, FloatArray]] = {}
        for group, key in {(g, key) for g, pairs in self.partners.items() for _, key in pairs}:
            patients, corrections = self.common[key]
            chosen = (assigned == group) & patients
            found[group, key] = self.selected(chosen.reshape(len(assigned), -1), corrections)
        means = np.zeros((len(assigned), len(self.cells.names)))
        added = np.zeros((len(assigned), *self.cells.present.shape))
        for g, pairs in self.partners.items():
            for other, key in pairs:
                (one, moved), (two, back) = found[g, key], found[other, key]
                means[:, g] += (one - two) / len(pairs)
                added[:, :, g] += (moved - back) / len(pairs)
        return means, added

    @property
    def width(self) -> int:
        """Numbers that one assignment takes."""
        return max(self.rows, self.cells.present.size)


def auc_cells(sample: Sample, groups: ArrayLike) -> Cells:
    """Cells whose groups can be compared by their AUC with another; patients keep their classes in all cells."""
    cells = cells_of(np.zeros(len(sample.labels)), sample.patients, groups, sample.labels)
    while True:
        known = OwnOthersAuc(sample, cells).partners
        kept = with_groups(cells, [g in known for g in range(len(cells.names))])
        if kept.present.sum() == cells.present.sum():
            return kept
        cells = kept


def between_own_groups(means: FloatArray, added: FloatArray, present: Mask) -> FloatArray:
    r"""How unlikely all differences of the groups from the patients' others are together: minus the log of a tail.

    .. math:: F = \frac{\sum_g n_g T_g^2}{\mathrm{tr}\,V}, \quad V = \sum_k w_k w_k^\top, \quad
        w_{kg} = \sqrt{n_g} u_{kg}

    in the tail of an F distribution with :math:`\nu = (\mathrm{tr} V)^2 / \mathrm{tr} V^2` and :math:`(K - 1) \nu`
    degrees of freedom. Where all patients have all groups this is the analysis of variance for repeated measures with
    Greenhouse and Geisser's correction. Permuting the tail keeps its size where one scanner is noisier than others.

    Args:
        means: ``(B, G)``.
        added: ``(B, K, G)``.
        present: ``(K, G)``.

    Returns:
        ``(B,)``, at least 0, larger for larger differences.

    Source: Geisser & Greenhouse 1958, Annals of Mathematical Statistics 29:885; Friedrich, Brunner & Pauly 2017,
    Journal of Multivariate Analysis 153:255 (permuting repeated measures).
    """
    roots = np.sqrt(present.sum(axis=0))
    scaled, weighted = means * roots, added * roots
    covariance = np.swapaxes(weighted, 1, 2) @ weighted
    squares = (scaled**2).sum(axis=1)
    trace = np.trace(covariance, axis1=1, axis2=2) + LEAST * (squares + 1e-300)
    freedom = np.maximum(trace**2 / np.maximum((covariance**2).sum(axis=(1, 2)), LEAST * trace**2), 1.0)
    freedom = np.minimum(freedom, len(roots))
    return minus_log_tail(squares / trace, freedom, (len(present) - 1) * freedom)


def own_ratio(means: FloatArray, added: FloatArray) -> FloatArray:
    """Differences of groups from the patients' others over their standard errors, ``(B, G)``."""
    squares = (added**2).sum(axis=1)
    whole = squares.sum(axis=1, keepdims=True) + (means**2).sum(axis=1, keepdims=True)
    return np.asarray(means / np.sqrt(squares + LEAST * whole + np.finfo(np.float64).tiny))
