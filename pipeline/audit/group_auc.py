"""AUCs of many selections of rows at once: what a permutation test ranks again and again."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.permutation import PatientTable
from pipeline.audit.statistics import MIN_PATIENTS_PER_CLASS, FloatArray, IntArray, Sample

Corrections = list[tuple[float, float]]


def has_every_class(sample: Sample, inside: NDArray[np.bool_]) -> bool:
    """True if these rows hold two patients of every class and two with a row of another class."""
    labels, patients = sample.labels[inside], sample.patients[inside]
    return all(
        len(np.unique(patients[chosen])) >= MIN_PATIENTS_PER_CLASS
        for c in range(sample.probabilities.shape[1])
        for chosen in (labels == c, labels != c)
    )


class SelectedAuc:
    """AUC of any selection of rows, and how much each row moves it; the scores are ordered once.

    Args:
        labels: ``(n,)``, class indices.
        scores: ``(n, C)``. Two classes: the second is the positive one. More: the mean of each against the rest.
        owners: ``(n,)``, patient of each row, coded ``0 … P - 1`` without gaps.
    """

    def __init__(self, labels: IntArray, scores: FloatArray, owners: IntArray) -> None:
        self.labels, self.owners = labels, owners
        self.classes = [1] if scores.shape[1] == 2 else list(range(scores.shape[1]))
        self.ranks = [_Ranks(column) for column in scores.T]
        self.order = np.argsort(owners, kind="stable")
        self.starts = np.searchsorted(owners[self.order], np.arange(int(owners.max(initial=-1)) + 1))

    def corrections(self, eligible: NDArray[np.bool_]) -> Corrections:
        """Roots of k / (k - 1) per class, k being patients with a row of the class, and with one of another.

        Args:
            eligible: ``(n,)``, rows of the patients that every selection is made of.
        """
        sides = [(eligible & (self.labels == c), eligible & (self.labels != c)) for c in self.classes]
        return [(self._correction(own), self._correction(others)) for own, others in sides]

    def _correction(self, chosen: NDArray[np.bool_]) -> float:
        patients = len(np.unique(self.owners[chosen]))
        return math.sqrt(patients / (patients - 1))

    def __call__(self, inside: NDArray[np.bool_], corrections: Corrections) -> tuple[FloatArray, FloatArray]:
        """AUC ``(B,)`` of the rows inside ``(B, n)``, and how much each row moves it ``(B, n)``; mean over classes."""
        value, moved = np.zeros(len(inside)), np.zeros(inside.shape)
        for c, correction in zip(self.classes, corrections, strict=True):
            auc, part = self._one_class(c, inside, correction)
            value += auc / len(self.classes)
            moved += part / len(self.classes)
        return value, moved

    def _one_class(
        self, c: int, inside: NDArray[np.bool_], correction: tuple[float, float]
    ) -> tuple[FloatArray, FloatArray]:
        positive, below = self.labels == c, self.ranks[c].below
        upper, lower = (inside & positive).astype(np.float64), (inside & ~positive).astype(np.float64)
        m, n = upper.sum(axis=1, keepdims=True), lower.sum(axis=1, keepdims=True)
        placed = np.where(positive, below(lower) / n, 1 - below(upper) / m)
        auc = (upper * placed).sum(axis=1, keepdims=True) / m
        return auc[:, 0], (placed - auc) * (upper * correction[0] / m + lower * correction[1] / n)

    def by_patient(self, moved: FloatArray) -> FloatArray:
        """Sums over each patient's rows, ``(B, P)`` of ``(B, n)``."""
        return np.asarray(np.add.reduceat(moved[:, self.order], self.starts, axis=1))


class GroupAuc:
    """AUC of every group and its squared standard error, for many assignments of patients to groups at once.

    Args:
        sample: rows of one model.
        table: the patients that count; each group holds two of every class. Assignments exchange patients within
            strata of the labels, so that every group keeps its number of each.
    """

    def __init__(self, sample: Sample, table: PatientTable) -> None:
        inside = np.isin(sample.patients, table.patients)
        self.rows = np.searchsorted(table.patients, sample.patients[inside])  # patient of each row: 0 … P - 1
        self.selected = SelectedAuc(sample.labels[inside], sample.probabilities[inside], self.rows)
        self.codes = np.unique(table.groups)
        self.corrections = [self.selected.corrections(table.groups[self.rows] == code) for code in self.codes]

    def __call__(self, groups: IntArray) -> tuple[FloatArray, FloatArray]:
        """Values and squared standard errors ``(B, G)`` for groups ``(B, P)``; mean over classes as in the table."""
        owners = groups[:, self.rows]
        values, influence = np.zeros((len(groups), len(self.codes))), np.zeros(owners.shape)
        for position, code in enumerate(self.codes):
            values[:, position], moved = self.selected(owners == code, self.corrections[position])
            influence += moved
        squares = self.selected.by_patient(influence) ** 2
        errors = np.stack([np.where(groups == code, squares, 0.0).sum(axis=1) for code in self.codes], axis=1)
        return values, errors + 1e-12


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
