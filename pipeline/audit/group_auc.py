"""AUCs of many selections of rows at once: what a permutation test ranks again and again."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.permutation import PatientTable
from pipeline.audit.statistics import MIN_PATIENTS_PER_CLASS, FloatArray, IntArray, Sample

Corrections = list[tuple[float, float]]
Counts = NDArray[np.int32]


def has_every_class(sample: Sample, inside: NDArray[np.bool_]) -> bool:
    """True if these rows hold two patients of every class and two with a row of another class."""
    labels, patients = sample.labels[inside], sample.patients[inside]
    return all(
        len(np.unique(patients[chosen])) >= MIN_PATIENTS_PER_CLASS
        for c in range(sample.probabilities.shape[1])
        for chosen in (labels == c, labels != c)
    )


class SelectedAuc:
    """AUC of any selection of rows, and how much each patient moves it; the scores are ordered once.

    Args:
        labels: ``(n,)``, class indices.
        scores: ``(n, C)``. Two classes: the second is the positive one. More: the mean of each against the rest.
        owners: ``(n,)``, patient of each row, coded ``0 … P - 1`` without gaps.
        places: ``(n,)``, what rows are selected by: codes of parts that are inside as a whole. None for the patients.
    """

    def __init__(self, labels: IntArray, scores: FloatArray, owners: IntArray, places: IntArray | None = None) -> None:
        self.labels, self.owners = labels, owners
        order = np.argsort(owners, kind="stable")
        self.starts = np.searchsorted(owners[order], np.arange(int(owners.max(initial=-1)) + 1))
        parts = (owners if places is None else places)[order]
        self.classes = [1] if scores.shape[1] == 2 else list(range(scores.shape[1]))
        self.sides = [_Sides(labels[order] == c, scores[order, c], parts) for c in self.classes]

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
        """AUC ``(B,)`` of the rows of the places inside ``(B, places)``, and how much each patient moves it ``(B, P)``.

        Both are means over classes.
        """
        value, moved = np.zeros(len(inside)), np.zeros((len(inside), len(self.starts)))
        for sides, correction in zip(self.sides, corrections, strict=True):
            auc, rows = sides(inside.astype(np.int32), correction)
            value += auc / len(self.classes)
            moved += np.add.reduceat(rows, self.starts, axis=1) / len(self.classes)
        return value, moved


class _Sides:
    """Rows of a class and the others, each in the order of their scores, and how many of the other side lie below.

    Args:
        positive: ``(n,)``, rows of the class.
        scores: ``(n,)``.
        places: ``(n,)``, see :class:`SelectedAuc`.
    """

    def __init__(self, positive: NDArray[np.bool_], scores: FloatArray, places: IntArray) -> None:
        upper, lower = (np.flatnonzero(side) for side in (positive, ~positive))
        self.rows = [side[np.argsort(scores[side], kind="stable")] for side in (upper, lower)]
        self.places = [places[side] for side in self.rows]
        one, other = (scores[side] for side in self.rows)
        self.below = [_steps(other, one), _steps(one, other)]

    def __call__(self, inside: Counts, correction: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
        """AUC ``(B,)`` of the places inside (1, others 0), and how much each row moves it, ``(B, n)``."""
        chosen = [np.take(inside, places, axis=1) for places in self.places]
        passed = [_passed(side) for side in chosen]
        m, n = (counts[:, -1:] for counts in passed)
        wins, losses = _found(passed[1], self.below[0]) / n, _found(passed[0], self.below[1]) / m
        auc = (chosen[0] * wins).sum(axis=1, keepdims=True) / m
        moved = np.empty((len(inside), len(self.rows[0]) + len(self.rows[1])))
        moved[:, self.rows[0]] = chosen[0] * (wins - auc) * (correction[0] / m)
        moved[:, self.rows[1]] = chosen[1] * (1 - losses - auc) * (correction[1] / n)
        return np.asarray(auc[:, 0]), moved


def _steps(ordered: FloatArray, asked: FloatArray) -> list[IntArray]:
    """Places of the scores asked for among others in order: below them, and beyond their equals if they have any."""
    below, beyond = (np.searchsorted(ordered, asked, side) for side in ("left", "right"))
    return [below] if np.array_equal(below, beyond) else [below, beyond]


def _passed(chosen: Counts) -> Counts:
    """How many of the first rows are chosen, ``(B, n + 1)`` of ``(B, n)``."""
    counts = np.zeros((len(chosen), chosen.shape[1] + 1), dtype=np.int32)
    np.cumsum(chosen, axis=1, out=counts[:, 1:])
    return counts


def _found(counts: Counts, steps: list[IntArray]) -> Counts | FloatArray:
    """Counts at the steps; the mean over two of them, so that equals count half."""
    found = [np.take(counts, step, axis=1) for step in steps]
    return found[0] if len(found) == 1 else (found[0] + found[1]) / 2


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
        found = [self.selected(groups == code, known) for code, known in zip(self.codes, self.corrections, strict=True)]
        errors = np.stack([(moved**2).sum(axis=1) for _, moved in found], axis=1)
        return np.stack([value for value, _ in found], axis=1), errors + 1e-12
