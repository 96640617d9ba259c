"""Values of one model over its seeds, and differences between two, with seeds and patients drawn again.

Every value is a mean over seeds first and a lowest group second: the lowest group is the one whose *mean* is lowest,
and each draw finds it anew. The lowest group of each single seed would mostly measure noise.

A minimum over groups lies below the truth by noise, and a draw's minimum lies below that again by about as much. So the
intervals are the draws' reflected at the value (Davison & Hinkley 1997, Bootstrap Methods, section 5.2, "basic"): with
four equally good groups of 36 patients they hold the truth in 96 of 100 cohorts, the draws' own percentiles in 72.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.audit.calibration import BINS
from pipeline.audit.statistics import PERCENTILES, patient_weights
from pipeline.benchmark.reading import Measurement
from pipeline.benchmark.records import FloatArray, HeldOut, IntArray
from pipeline.tracking.group_metrics import weighted_auc

REPLICATES = 2_000
AUC_REPLICATES = 500  # ranks are dear: the ends of the interval move in the third digit
PRINTED = 0.0005  # half of the last digit of a difference on the page, 0.1 points
SOURCE = 20_250_101  # of all draws, so that every model meets the same ones


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval, which holds the value."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 if the interval, as it is printed in points, lies above 0, -1 if below, 0 if it holds 0 or is none."""
        return int(self.low >= PRINTED) - int(self.high <= -PRINTED)


@dataclass(frozen=True)
class Runs:
    """One model over its seeds, folds pooled.

    Args:
        seeds: of the runs, ascending.
        held_out: test set of each seed.
        probabilities: ``(n, C)`` for each seed.
    """

    seeds: tuple[int, ...]
    held_out: tuple[HeldOut, ...]
    probabilities: tuple[FloatArray, ...]

    def only(self, seeds: Sequence[int]) -> Runs:
        """The same model, some of its seeds."""
        kept = [position for position, seed in enumerate(self.seeds) if seed in set(seeds)]
        return Runs(*(tuple(part[k] for k in kept) for part in (self.seeds, self.held_out, self.probabilities)))  # type: ignore[arg-type]


def pooled(measurements: Sequence[Measurement], *, folds: int = 1) -> Runs:
    """Put the folds of every seed together, so that each patient is tested once in it.

    Args:
        measurements: of one model with one setting of the dials.
        folds: number of folds of a whole seed; seeds that have not finished theirs are left out.

    Returns:
        The runs, rows in the order of patient, group and label. Without a whole seed, no seeds.

    Raises:
        ValueError: if a patient is tested in two folds of one seed, or classes or groups differ.
    """
    by_seed: dict[int, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        by_seed[measurement.cell.seed].append(measurement)
    whole = {seed: _pool(parts) for seed, parts in sorted(by_seed.items()) if len(parts) == folds}
    names = {(held_out.classes, held_out.groups) for held_out, _ in whole.values()}
    if len(names) > 1:
        raise ValueError(
            f"every seed must have the same classes and groups; got {sorted(names)}; make them separate plans"
        )
    return Runs(tuple(whole), tuple(h for h, _ in whole.values()), tuple(p for _, p in whole.values()))


def _pool(parts: Sequence[Measurement]) -> tuple[HeldOut, FloatArray]:
    tests, cell = [part.held_out for part in parts], parts[0].cell
    patients = np.concatenate([np.unique(test.patients) for test in tests])
    shared, classes = len(patients) - len(np.unique(patients)), {test.classes for test in tests}
    if shared or len(classes) > 1:
        raise ValueError(
            f"folds must have the same classes and different patients; those of {cell.plan}, {cell.model}, seed "
            f"{cell.seed} have classes {sorted(classes)} and share {shared} patients; run the seed's folds anew"
        )
    groups = tuple(sorted({name for test in tests for name in test.groups}))
    joined = [np.concatenate([getattr(test, name) for test in tests]) for name in ("labels", "patients")]
    index = np.concatenate([np.array([groups.index(name) for name in test.groups])[test.group_index] for test in tests])
    order = np.lexsort((joined[0], index, joined[1]))
    held_out = HeldOut(tests[0].classes, groups, joined[0][order], index[order], joined[1][order])
    return held_out, np.concatenate([part.probabilities for part in parts])[order]


@lru_cache(maxsize=12)
def row_weights(held_out: HeldOut, replicates: int = REPLICATES) -> FloatArray:
    """How often each row comes when patients are drawn with replacement; not to be written to.

    Patients are drawn inside each stratum: those seen in the same groups with the same labels. All rows of a patient
    come together, also where they are the same heart in several groups.

    Args:
        held_out: test set; the draws are a function of its content.
        replicates: number of draws.

    Returns:
        ``(1 + replicates, n)``; row 0 is the sample as it is, all ones.
    """
    weights = np.ones((1 + replicates, len(held_out.labels)))
    rng = np.random.default_rng([SOURCE, int(held_out.digest, 16)])
    for rows in _strata(held_out):
        codes = np.unique(held_out.patients[rows], return_inverse=True)[1]
        weights[1:, rows] = np.concatenate(list(patient_weights(codes, replicates, rng)))
    return weights


def _strata(held_out: HeldOut) -> list[IntArray]:
    """Rows of each stratum."""
    cells: dict[int, set[int]] = defaultdict(set)
    codes = held_out.group_index * len(held_out.classes) + held_out.labels
    for patient, code in zip(held_out.patients.tolist(), codes.tolist(), strict=True):
        cells[patient].add(code)
    strata: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, patient in enumerate(held_out.patients.tolist()):
        strata[tuple(sorted(cells[patient]))].append(row)
    return [np.array(strata[key]) for key in sorted(strata)]


def seed_weights(n_seeds: int, replicates: int = REPLICATES) -> FloatArray:
    """Share of each seed when seeds are drawn with replacement.

    Returns:
        ``(1 + replicates, n_seeds)``, rows summing to 1; row 0 has equal shares.
    """
    drawn = patient_weights(np.arange(n_seeds), replicates, np.random.default_rng([SOURCE, n_seeds]))
    return np.concatenate([np.ones((1, n_seeds)), *drawn]) / n_seeds


def per_group(runs: Runs, metric: str = "groups") -> FloatArray:
    """Mean over seeds of a value and of all its draws, before anything is lowest.

    Args:
        runs: at least one seed.
        metric: ``all``, ``groups`` (accuracies of the groups, sorted by name), ``cells`` (group x label), ``aucs`` (of
            the groups) or ``calibration``.

    Returns:
        ``(1 + replicates, K)``; row 0 is the sample as it is; NaN for a group without cases or, for an AUC, a class.

    Raises:
        ValueError: without a whole seed.

    Source: Owen 2007, The pigeonhole bootstrap, arXiv:0712.1111 (rows and columns of a table drawn independently).
    """
    if not runs.seeds:
        raise ValueError("a value needs one whole seed; got none; run the rest of the plan")
    replicates = AUC_REPLICATES if metric == "aucs" else REPLICATES
    shares = seed_weights(len(runs.seeds), replicates)
    total = np.zeros((1 + replicates, 1))
    for position, (held_out, probabilities) in enumerate(zip(runs.held_out, runs.probabilities, strict=True)):
        weights = row_weights(held_out, replicates)
        total = total + shares[:, [position]] * _VALUES[metric](held_out, probabilities, weights)
    return np.asarray(total)


def _accuracies(part: str, held_out: HeldOut, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    correct = probabilities.argmax(axis=1) == held_out.labels
    members = _members(part, held_out)
    counts = weights @ members
    hits = weights @ (members * correct[:, None])
    return np.where(counts > 0, hits / np.where(counts > 0, counts, 1.0), np.nan)


def _members(part: str, held_out: HeldOut) -> NDArray[np.float64]:
    """``(n, K)`` of 0 and 1."""
    n_classes, n_groups = len(held_out.classes), len(held_out.groups)
    codes, count = {
        "all": (np.zeros_like(held_out.labels), 1),
        "groups": (held_out.group_index, n_groups),
        "cells": (held_out.group_index * n_classes + held_out.labels, n_groups * n_classes),
    }[part]
    return np.asarray(np.eye(count)[codes])


def _aucs(held_out: HeldOut, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    inside = [held_out.group_index == group for group in range(len(held_out.groups))]
    return np.stack([weighted_auc(held_out.labels[i], probabilities[i], weights[:, i]) for i in inside], axis=1)


def _calibration(held_out: HeldOut, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Expected calibration error of the decision, bins of equal width."""
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    excess = (probabilities.argmax(axis=1) == held_out.labels) - confidence
    share = np.abs(weights @ (np.eye(BINS)[bins] * excess[:, None])).sum(axis=1) / weights.sum(axis=1)
    return np.asarray(share[:, None])


_VALUES: dict[str, Callable[[HeldOut, FloatArray, FloatArray], FloatArray]] = {
    "all": partial(_accuracies, "all"),
    "groups": partial(_accuracies, "groups"),
    "cells": partial(_accuracies, "cells"),
    "aucs": _aucs,
    "calibration": _calibration,
}


def _lowest(table: FloatArray) -> FloatArray:
    lowest = np.where(np.isnan(table), np.inf, table).min(axis=1)
    return np.where(np.isinf(lowest), np.nan, lowest)


METRICS: dict[str, tuple[str, Callable[[FloatArray], FloatArray]]] = {
    "accuracy": ("all", _lowest),
    "worst_group_accuracy": ("groups", _lowest),
    "worst_cell_accuracy": ("cells", _lowest),
    "worst_group_auc": ("aucs", _lowest),
    "gap": ("groups", lambda table: -_lowest(-table) - _lowest(table)),
    "ece": ("calibration", _lowest),
}


def draws(runs: Runs, metric: str) -> FloatArray:
    """One of ``METRICS``: its value, then that of every draw of seeds and patients; ``(1 + replicates,)``."""
    part, reduce = METRICS[metric]
    return reduce(per_group(runs, part))


def estimate(runs: Runs, metric: str) -> Estimate:
    """One of ``METRICS`` with its 95 % interval; with a single seed the interval is over patients only."""
    return _interval(draws(runs, metric))


def group_accuracies(runs: Runs) -> dict[str, Estimate]:
    """Accuracy of each group, by name, with its 95 % interval."""
    table = per_group(runs)
    return {name: _interval(table[:, column]) for column, name in enumerate(runs.held_out[0].groups)}


def difference(one: Runs, other: Runs, metric: str) -> Estimate:
    """One model minus another, on the seeds that both have and the same draws of seeds and patients.

    Raises:
        ValueError: if they share no seed, or were tested on different patients.
    """
    return mean_difference([difference_draws(one, other, metric)])


def mean_difference(found: Sequence[FloatArray]) -> Estimate:
    """Mean of some differences, each as :func:`difference_draws` gives it, seeds and patients drawn for all at once.

    Seeds are drawn alike for all that have equally many; patients for all that were tested on the same.
    """
    return _interval(np.mean(found, axis=0), least=-1.0)


def difference_draws(one: Runs, other: Runs, metric: str) -> FloatArray:
    """One model minus another, then the same in every draw; ``(1 + replicates,)``.

    Raises:
        ValueError: if they share no seed, or were tested on different patients.
    """
    seeds = sorted(set(one.seeds) & set(other.seeds))
    one, other = one.only(seeds), other.only(seeds)
    tested = [[held_out.digest for held_out in runs.held_out] for runs in (one, other)]
    if not seeds or one.held_out != other.held_out:
        raise ValueError(
            f"two models are compared on the same seeds and patients; these share the seeds {seeds} with test sets "
            f"{tested[0]} and {tested[1]}; run both from one plan"
        )
    return draws(one, metric) - draws(other, metric)


def without_classes(runs: Runs) -> Runs | None:
    """The same answers, groups ``vendor x class`` taken together as ``vendor``; None if groups are of another kind."""
    joined = tuple(_vendors(held_out) for held_out in runs.held_out)
    return replace(runs, held_out=tuple(h for h in joined if h is not None)) if None not in joined else None


def _vendors(held_out: HeldOut) -> HeldOut | None:
    parts = [name.rpartition(" x ") for name in held_out.groups]
    groups = tuple(sorted({vendor for vendor, _, _ in parts}))
    both = {f"{vendor} x {label}" for vendor in groups for label in held_out.classes}
    if set(held_out.groups) != both:
        return None
    index = np.array([groups.index(vendor) for vendor, _, _ in parts])[held_out.group_index]
    return replace(held_out, groups=groups, group_index=index)


def over_seeds(values: Sequence[float], *, least: float = 0.0) -> Estimate:
    """Mean of one share per seed with Student's 95 % interval, in ``[least, 1]``; of a single seed without width.

    Example:
        >>> over_seeds([0.5, 0.5])
        Estimate(value=0.5, low=0.5, high=0.5)
    """
    mean, n = float(np.mean(values)), len(values)
    reach = stats.t.ppf(PERCENTILES[1] / 100, n - 1) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else 0.0
    return Estimate(mean, max(least, mean - float(reach)), min(1.0, mean + float(reach)))


def lowest_group(runs: Runs) -> str:
    """Name of the group whose accuracy, as a mean over seeds, is lowest; the first by name of equals."""
    return str(runs.held_out[0].groups[int(np.nanargmin(per_group(runs)[0]))])


def _interval(values: FloatArray, least: float = 0.0) -> Estimate:
    """Reflect the percentiles of the draws at the value; stay in ``[least, 1]``, and hold the value."""
    value = float(values[0])
    low, high = np.clip(2 * value - np.percentile(values[1:], PERCENTILES)[::-1], least, 1.0)
    return Estimate(value, float(min(low, value)), float(max(high, value)))
