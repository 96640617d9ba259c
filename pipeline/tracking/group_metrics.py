"""Accuracy and AUC per group, under names that a tracking server accepts.

A group is never dropped: one without a case has ``n = 0``, one that lacks a class has no AUC, and both say so.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
METRICS = ("accuracy", "auc")


@dataclass(frozen=True)
class GroupRow:
    """Metrics of one group.

    Args:
        column: grouping column, e.g. ``vendor``.
        group: value of that column, e.g. ``GE``.
        n: rows in the group.
        accuracy: share of rows whose most probable class is the label; NaN if ``n = 0``.
        auc: see :func:`area_under_curve`; NaN if a class is absent from the group.
        estimable: True if every metric has a value.
    """

    column: str
    group: str
    n: int
    accuracy: float
    auc: float
    estimable: bool


def slug(name: str) -> str:
    """Spell a name with ``a-z 0-9 . _ -`` only, as metric names allow.

    Accents are folded; a name without any usable character becomes a short digest, so that a slug is never empty.

    Example:
        >>> slug("Siemens Avanto 1.5 T")
        'siemens-avanto-1.5-t'
        >>> slug("Hôpital Sainte-Justine (3T)")
        'hopital-sainte-justine-3t'
    """
    folded = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9._]+", "-", folded).strip("-._")
    return plain or f"group-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def weighted_accuracy(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike) -> FloatArray:
    """Share of the weight that lies on rows classified rightly, for many sets of weights at once.

    Args:
        labels: ``(n,)``, class indices.
        probabilities: ``(n, C)``; the largest is the decision, the first of equals.
        weights: ``(replicates, n)``, at least 0, e.g. how often a bootstrap drew each row.

    Returns:
        ``(replicates,)``, in [0, 1]; NaN where all weights are 0.
    """
    correct = np.argmax(np.asarray(probabilities), axis=1) == np.asarray(labels)
    drawn = np.asarray(weights, dtype=np.float64)
    total = drawn.sum(axis=1)
    return np.where(total > 0, drawn @ correct / np.where(total > 0, total, 1.0), np.nan)


def weighted_auc(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike) -> FloatArray:
    r"""Area under the ROC curve for many sets of weights at once.

    .. math:: \mathrm{AUC} = P(s_+ > s_-) + \tfrac12 P(s_+ = s_-)

    Two classes: the second is the positive one. More: the unweighted mean over classes of each against the rest.

    Args:
        labels: ``(n,)``, class indices in ``0 … C - 1``.
        probabilities: ``(n, C)``, any monotone scores.
        weights: ``(replicates, n)``, at least 0.

    Returns:
        ``(replicates,)``, in [0, 1]; NaN where a class has no weight.

    Source: Hanley & McNeil 1982 (ranks); Hand & Till 2001 discuss the averages over classes.
    """
    return weighted_auc_of(labels, probabilities)(np.asarray(weights, dtype=np.float64))


def weighted_auc_of(labels: ArrayLike, probabilities: ArrayLike) -> Callable[[FloatArray], FloatArray]:
    """:func:`weighted_auc` of these rows, sorted once for any number of calls.

    Args:
        labels: ``(n,)``, class indices in ``0 … C - 1``.
        probabilities: ``(n, C)``, any monotone scores.

    Returns:
        Function from weights ``(replicates, n)`` to values ``(replicates,)``.
    """
    codes, scores = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    positives = (1,) if scores.shape[1] == 2 else range(scores.shape[1])
    per_class = [_binary_auc(codes == c, scores[:, c]) for c in positives]
    return lambda weights: np.asarray(np.mean([one(weights) for one in per_class], axis=0))


def _binary_auc(positive: NDArray[np.bool_], scores: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Weight of the negatives below each positive, and half of that of its equals, summed over the positives."""
    lower, upper = (_by_score(np.flatnonzero(side), scores) for side in (~positive, positive))
    below, not_above = (np.searchsorted(scores[lower], scores[upper], side) for side in ("left", "right"))
    steps = [below] if np.array_equal(below, not_above) else [below, not_above]

    def auc(weights: FloatArray) -> FloatArray:
        passed = np.zeros((len(weights), len(lower) + 1))
        np.cumsum(weights[:, lower], axis=1, out=passed[:, 1:])
        drawn = weights[:, upper]
        pairs = drawn.sum(axis=1) * passed[:, -1]
        wins = np.sum([np.einsum("bi,bi->b", drawn, passed[:, step]) for step in steps], axis=0) / len(steps)
        return np.where(pairs > 0, wins / np.where(pairs > 0, pairs, 1.0), np.nan)

    return auc


def _by_score(rows: NDArray[np.intp], scores: FloatArray) -> NDArray[np.intp]:
    return rows[np.argsort(scores[rows], kind="stable")]


def overall_metrics(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Accuracy and AUC over all rows, every row counting once; NaN where there is nothing to compute.

    Args:
        labels: ``(n,)``, class indices in ``0 … C - 1``.
        probabilities: ``(n, C)``.

    Returns:
        ``{"accuracy": …, "auc": …}``.

    Raises:
        ValueError: if the shapes disagree or a label has no probability column.

    Example:
        >>> overall_metrics([0, 1, 1], [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])["auc"]
        1.0
    """
    codes, scores = _checked(labels, probabilities)
    once = np.ones((1, len(codes)))
    return {
        "accuracy": float(weighted_accuracy(codes, scores, once)[0]),
        "auc": float(weighted_auc(codes, scores, once)[0]),
    }


def group_rows(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: Mapping[str, Sequence[str]],
    known_groups: Mapping[str, Sequence[str]] | None = None,
) -> list[GroupRow]:
    """Metrics of every group of every column, by name.

    Args:
        labels: ``(n,)``, class indices in ``0 … C - 1``.
        probabilities: ``(n, C)``.
        groups: column -> group name of each row, ``(n,)``.
        known_groups: column -> groups to list even without a case, first and in this order; others follow by name.

    Returns:
        One row per column and group.

    Raises:
        ValueError: if the shapes disagree or a label has no probability column.

    Example:
        >>> rows = group_rows([0, 1], [[0.8, 0.2], [0.3, 0.7]], {"vendor": ["GE", "GE"]}, {"vendor": ["GE", "Canon"]})
        >>> [(row.group, row.n, row.accuracy) for row in rows]
        [('GE', 2, 1.0), ('Canon', 0, nan)]
    """
    codes, scores = _checked(labels, probabilities)
    rows = []
    for column, values in groups.items():
        if len(values) != len(codes):
            raise ValueError(
                f"each row needs one group: column {column!r} has {len(values)} names for {len(codes)} rows; "
                "pass one each"
            )
        names = np.array([str(value) for value in values], dtype=object)
        listed = list(dict.fromkeys([*(known_groups or {}).get(column, ()), *sorted(set(names))]))
        rows += [_row(column, group, codes, scores, names == group) for group in listed]
    return rows


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], FloatArray]:
    codes, scores = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if codes.ndim != 1 or scores.ndim != 2 or len(codes) != len(scores):
        raise ValueError(
            f"labels must be (n,) and probabilities (n, classes); got {codes.shape} and {scores.shape}; "
            "pass one row per case"
        )
    strange = sorted({int(code) for code in codes if not 0 <= code < scores.shape[1]})
    if strange:
        raise ValueError(
            f"labels must lie in 0 … {scores.shape[1] - 1}, the probability columns; got {strange}; "
            "map the labels to class indices or add the missing columns"
        )
    return codes.astype(np.int64), scores


def _row(
    column: str,
    group: str,
    labels: NDArray[np.int64],
    probabilities: FloatArray,
    inside: NDArray[np.bool_],
) -> GroupRow:
    metrics = overall_metrics(labels[inside], probabilities[inside])
    estimable = not any(math.isnan(value) for value in metrics.values())
    return GroupRow(column=column, group=group, n=int(np.count_nonzero(inside)), **metrics, estimable=estimable)


def flat_metrics(
    split: str, rows: Iterable[GroupRow], *, average: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Name every metric for a tracking server: flat, slugged, without NaN.

    ``<split>/<metric>/<column>/<slug>``, ``<split>/n/<column>/<slug>``, ``<split>/<metric>/worst/<column>`` (the lowest
    of the groups where that metric can be estimated) and ``<split>/<metric>/average``.

    Args:
        split: e.g. ``validation``.
        rows: from :func:`group_rows`.
        average: metric -> value over all cases, from :func:`overall_metrics`.

    Returns:
        Name -> value.

    Raises:
        ValueError: if two groups would share a name; one would overwrite the other.

    Example:
        >>> flat_metrics("test", [GroupRow("vendor", "GE", 4, 0.75, float("nan"), False)])
        {'test/n/vendor/ge': 4.0, 'test/accuracy/vendor/ge': 0.75, 'test/accuracy/worst/vendor': 0.75}
    """
    rows = list(rows)
    _check_names(rows)
    named: dict[str, float] = {}
    for row in rows:
        tail = f"{slug(row.column)}/{slug(row.group)}"
        named[f"{split}/n/{tail}"] = float(row.n)
        named |= {f"{split}/{metric}/{tail}": getattr(row, metric) for metric in METRICS}
    named |= worst_metrics(split, rows)
    named |= {f"{split}/{metric}/average": float(value) for metric, value in (average or {}).items()}
    return {name: float(value) for name, value in named.items() if not math.isnan(value)}


def worst_metrics(split: str, rows: Iterable[GroupRow]) -> dict[str, float]:
    """Lowest value of each metric in each column, over the groups where it can be estimated."""
    lowest: dict[str, float] = {}
    for row in rows:
        for metric in METRICS:
            value, name = getattr(row, metric), f"{split}/{metric}/worst/{slug(row.column)}"
            if not math.isnan(value):
                lowest[name] = min(value, lowest.get(name, math.inf))
    return lowest


def _check_names(rows: Sequence[GroupRow]) -> None:
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for row in rows:
        key, name = (slug(row.column), slug(row.group)), (row.column, row.group)
        other = first.setdefault(key, name)
        if other != name:
            raise ValueError(
                f"groups need different metric names: {other[1]!r} (column {other[0]!r}) and {row.group!r} "
                f"(column {row.column!r}) are both {'/'.join(key)!r}; rename one of them"
            )
