"""Patients drawn from a known truth: shares of right answers, means that lean, AUCs of two classes and of three.

Rows of a patient are alike by the intraclass correlation. :mod:`benchmarks.audit_coverage` asks how often intervals
hold the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

from pipeline.audit.delong import Areas, areas
from pipeline.audit.statistics import FloatArray, IntArray
from pipeline.tracking.group_metrics import overall_metrics, weighted_auc

DICE = stats.beta(9, 1.2)
DICE_GRID = np.linspace(-6, 6, 2001)
DICE_VALUES = DICE.ppf(ndtr(DICE_GRID))
HD95_SPREAD = 0.7  # of the logarithm
POSITIVE = 0.4  # share of patients, or of rows


@dataclass(frozen=True)
class Setting:
    """What patients are drawn from.

    Attributes:
        kind: of value.
        patients: number of them.
        rows: of each patient; with ``uneven`` any number from 1 to this.
        icc: intraclass correlation.
        level: true share or AUC; for three classes how far the own class stands out.
        uneven: whether patients have unlike numbers of rows.
    """

    kind: str
    patients: int
    rows: int
    icc: float
    level: float
    uneven: bool = False

    def __str__(self) -> str:
        rows = f"1-{self.rows}" if self.uneven else str(self.rows)
        return f"{self.kind:<10}{self.patients:>4} x {rows:<5}ICC {self.icc:<5}{self.level:<5}"


@dataclass(frozen=True)
class Rows:
    """Drawn rows: values, or labels and scores."""

    patients: IntArray
    values: FloatArray
    labels: IntArray
    scores: FloatArray

    @cached_property
    def areas(self) -> Areas:
        """Area under the curve, by patient; found once for all methods."""
        return areas(self.labels, [self.scores], self.patients)

    def statistic(self, weights: FloatArray) -> FloatArray:
        """Values of weighted rows, ``(replicates,)``."""
        if self.scores.size:
            return weighted_auc(self.labels, self.scores, weights)
        return np.asarray(weights @ self.values / weights.sum(axis=1))


def draw(setting: Setting, rng: np.random.Generator) -> Rows:
    """Rows of new patients."""
    sizes = np.full(setting.patients, setting.rows)
    if setting.uneven:
        sizes = rng.integers(1, setting.rows + 1, setting.patients)
    patients = np.repeat(np.arange(setting.patients), sizes)
    nothing = np.empty(0)
    if setting.kind.startswith("auc"):
        labels = labels_for(setting, patients, rng)
        return Rows(patients, nothing, labels, scores_for(setting, labels, patients, rng))
    if setting.kind == "share":
        values = (rng.uniform(size=len(patients)) < chances(setting, rng)[patients]).astype(np.float64)
    else:
        normal = correlated(setting.icc, patients, rng)
        values = np.interp(normal, DICE_GRID, DICE_VALUES) if setting.kind == "dice" else hd95(normal)
    return Rows(patients, values, nothing.astype(np.int64), nothing)


def chances(setting: Setting, rng: np.random.Generator) -> FloatArray:
    """Each patient's chance of a right answer: beta, so that rows correlate by the ICC."""
    if not setting.icc:
        return np.full(setting.patients, setting.level)
    prior = (1 - setting.icc) / setting.icc
    return np.asarray(rng.beta(setting.level * prior, (1 - setting.level) * prior, setting.patients))


def correlated(icc: float, patients: IntArray, rng: np.random.Generator) -> FloatArray:
    """Standard normal rows, those of a patient correlated by ``icc``."""
    own = rng.standard_normal(int(patients.max()) + 1)
    return np.asarray(np.sqrt(icc) * own[patients] + np.sqrt(1 - icc) * rng.standard_normal(len(patients)))


def hd95(normal: FloatArray) -> FloatArray:
    """Lognormal [mm]."""
    return np.asarray(np.exp(2 + HD95_SPREAD * normal))


def labels_for(setting: Setting, patients: IntArray, rng: np.random.Generator) -> IntArray:
    """Labels by row where mixed, else by patient."""
    if setting.kind == "auc-mixed":
        return (rng.uniform(size=len(patients)) < POSITIVE).astype(np.int64)
    count = setting.patients
    own = np.arange(count) % 3 if setting.kind == "auc-3" else np.arange(count) < max(2, round(POSITIVE * count))
    return np.asarray(own.astype(np.int64)[patients])


def scores_for(setting: Setting, labels: IntArray, patients: IntArray, rng: np.random.Generator) -> FloatArray:
    """``(n, C)``: two normal classes, or three logits of which the own class stands out."""
    if setting.kind != "auc-3":
        apart = np.sqrt(2) * ndtri(setting.level)
        score = apart * labels + correlated(setting.icc, patients, rng)
        return np.asarray(np.c_[-score, score])
    logits = np.stack([correlated(setting.icc, patients, rng) for _ in range(3)], axis=1)
    logits[np.arange(len(labels)), labels] += setting.level
    return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


@cache
def three_class_truth(level: float) -> float:
    """Macro AUC of 300,000 independent rows; its error is about 0.0005."""
    rng, count = np.random.default_rng(1), 300_000
    setting = Setting("auc-3", count, 1, 0.0, level)
    labels = labels_for(setting, np.arange(count), rng)
    return overall_metrics(labels, scores_for(setting, labels, np.arange(count), rng))["auc"]


def truth(setting: Setting) -> float:
    """The value that an interval should cover."""
    if setting.kind == "dice":
        return float(DICE.mean())
    if setting.kind == "hd95":
        return float(np.exp(2 + HD95_SPREAD**2 / 2))
    return three_class_truth(setting.level) if setting.kind == "auc-3" else setting.level
