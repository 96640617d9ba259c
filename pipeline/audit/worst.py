"""The worst group, read with care: it is the worst partly by bad luck.

How often each group is the lowest stands in :func:`pipeline.audit.statistics.worst_group`. Here are an interval of the
lowest true value, every group's value drawn towards the others as far as its patients are few, and what the group that
looks worst in one half of its patients shows in the other half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.audit.statistics import Estimate, FloatArray, IntArray, Z

Scale = Literal["share", "plain"]
ALPHA = 0.05
GRID = 200
MOST_SHARED = 0.99  # correlation; at 1 the groups could not differ
TAILS = (0.025, 0.5, 0.975)


@dataclass(frozen=True)
class Shrunken:
    """A group's value, drawn towards the mean of all groups.

    Args:
        estimate: the median of what its true value may be, with the middle 95 %; ``random effects``.
        own: weight of the group's own patients, in [0, 1]; the rest is that of the other groups.
    """

    estimate: Estimate
    own: float


@dataclass(frozen=True)
class FreshHalf:
    """What groups that look worst in one half of their patients show in the other.

    Args:
        group: the one most often picked; None if there are not two groups to pick from.
        frequencies: group -> share of the splits in which it was picked.
        picked: mean value in the halves that picked.
        fresh: mean value of the same groups in the other halves: free of the luck that picked them.
        confirmed: share of the splits in which the other half would have picked the same.
    """

    group: str | None = None
    frequencies: Mapping[str, float] | None = None
    picked: float = math.nan
    fresh: float = math.nan
    confirmed: float = math.nan


def effective_patients(found: Estimate) -> float:
    r"""Independent patients whose Wilson interval would be as wide: what a share's interval, any method's, is worth.

    .. math:: n = z^2 l (1 - l) / (x - l)^2

    at either end; the mean of both, or that of the one that is not the value itself.

    Args:
        found: value in [0, 1] with a 95 % interval.

    Returns:
        At least 1; NaN without an interval.

    Example:
        >>> round(effective_patients(Estimate(20, 20, 1.0, 0.8389, 1.0, "Wilson")), 1)
        20.0
    """
    if not found.estimable:
        return math.nan
    ends = [end for end in (found.low, found.high) if 0 < end < 1 and abs(end - found.value) > 1e-9]
    counts = [Z**2 * end * (1 - end) / (found.value - end) ** 2 for end in ends]
    return max(1.0, float(np.mean(counts))) if counts else 1.0


def one_sided(found: Estimate, alpha: float, scale: Scale) -> tuple[float, float]:
    """Lower and upper bounds of one estimate, each missing the truth in ``alpha`` of all samples.

    Args:
        found: with a 95 % interval.
        alpha: in (0, 0.5).
        scale: ``share`` for values in [0, 1]: exact for the effective patients; ``plain``: each half stretched by the
            ratio of the normal quantiles.

    Returns:
        The bounds. Wilson's would err too often: near 1 its upper bound is too low, and the many groups add that up.

    Source: Clopper & Pearson 1934, Biometrika 26:404.
    """
    from scipy.special import betaincinv, ndtri

    if scale == "plain":
        ratio = -float(ndtri(alpha)) / Z
        return found.value - (found.value - found.low) * ratio, found.value + (found.high - found.value) * ratio
    n = effective_patients(found)
    right, wrong = found.value * n, (1 - found.value) * n
    low = float(betaincinv(right, wrong + 1, alpha)) if right > 0 else 0.0
    return low, float(betaincinv(right + 1, wrong, 1 - alpha)) if wrong > 0 else 1.0


def worst_interval(
    found: Mapping[str, Estimate], *, scale: Scale = "share", higher_is_better: bool = True
) -> Estimate | None:
    r"""The lowest observed value, with an interval that holds the lowest true value in at least 95 % of samples.

    .. math:: \Big[\min_g l_g(\alpha'),\ \min_g u_g(\alpha'/G)\Big], \quad \alpha' = \alpha\, G / (G + 1)

    Every group's upper bound must hold, so they share their error. Of the lower bounds only that of the truly lowest
    group must: it alone errs with :math:`\alpha'`. With one group far below the others the two add up to
    :math:`\alpha' + \alpha'/G = \alpha`; with groups alike the lower end hardly ever errs.

    Args:
        found: group -> estimate; those without an interval take no part.
        scale: as in :func:`one_sided`.
        higher_is_better: False turns it round: the highest value, e.g. of a distance [mm].

    Returns:
        The estimate, with the counts of the group observed to be the worst; None with fewer than two groups to compare.

    Source: intersection and union of tests, Berger 1982, Technometrics 24:295, and Bonferroni's inequality.
    """
    usable = [e for e in found.values() if e.estimable]
    if len(usable) < 2:
        return None
    level = ALPHA * len(usable) / (len(usable) + 1)
    strict = level / len(usable)
    if higher_is_better:
        worst = min(usable, key=lambda e: e.value)
        low = min(one_sided(e, level, scale)[0] for e in usable)
        high = min(one_sided(e, strict, scale)[1] for e in usable)
    else:
        worst = max(usable, key=lambda e: e.value)
        low = max(one_sided(e, strict, scale)[0] for e in usable)
        high = max(one_sided(e, level, scale)[1] for e in usable)
    return replace(worst, low=low, high=high, interval="simultaneous")


def shrink(found: Mapping[str, Estimate], *, scale: Scale = "share", shared: float = 0.0) -> dict[str, Shrunken]:
    r"""Draw every group's value towards the mean of all, the further the fewer its patients.

    Groups' true values are normal around a common mean, with a spread :math:`\tau` that is not known. Each possible
    :math:`\tau` counts by how well it explains the values seen, so that groups that look alike by chance do not get the
    interval of groups known to be alike. Before seeing them, the mean weight of the others,
    :math:`s_0^2 / (s_0^2 + \tau^2)`, may be anything between 0 and 1.

    Groups of the same patients err together. What they share moves all of them alike: it says nothing on how they
    differ, and no group can lend it to another. It is taken out of their variances, and put back into the result's.

    Args:
        found: group -> estimate; those without an interval take no part.
        scale: ``share``: logits of the value with the effective patients, half a patient added to right and to wrong;
            ``plain``: the value, with a standard error of the interval's width / 3.92.
        shared: mean correlation of the groups' errors, :func:`~pipeline.audit.arms.shared_error`; 0 for groups
            of different patients.

    Returns:
        Group -> shrunken value; empty with fewer than two groups to learn from.

    Source: Rubin 1981, Journal of Educational Statistics 6:377 (the model); Daniels 1999, Canadian Journal of
    Statistics 27:567 (the uniform weight).
    """
    usable = {group: e for group, e in found.items() if e.estimable}
    if len(usable) < 2:
        return {}
    known = list(usable.values())
    if scale == "plain":
        errors = [max((e.high - e.low) / (2 * Z), 1e-9 * (1 + abs(e.value))) for e in known]
        shown, own = _random_effects(np.array([e.value for e in known]), np.array(errors) ** 2, shared)
    else:
        logits, own = _logit_effects(known, shared)
        shown = 1 / (1 + np.exp(-logits))
    return {
        group: Shrunken(replace(e, low=low, value=value, high=high, interval="random effects"), weight)
        for (group, e), (low, value, high), weight in zip(usable.items(), shown.tolist(), own.tolist(), strict=True)
    }


def _logit_effects(found: list[Estimate], shared: float) -> tuple[FloatArray, FloatArray]:
    """Random effects on the logits of shares.

    The variance of a logit rests on the true share. That of all groups stands in for it first, the shrunken one then:
    by its own share, a group with more errors would count for more and pull all others down.
    """
    n = np.array([effective_patients(e) for e in found])
    right = np.array([e.value for e in found]) * n + 0.5
    logits, likely = np.log(right / (n + 1 - right)), np.full(len(n), right.sum() / (n + 1).sum())
    for _ in range(2):
        quantiles, own = _random_effects(logits, 1 / (n * likely * (1 - likely)), shared)
        likely = 1 / (1 + np.exp(-quantiles[:, 1]))
    return quantiles, own


def _random_effects(values: FloatArray, whole: FloatArray, shared: float) -> tuple[FloatArray, FloatArray]:
    """Quantiles ``(G, 3)`` of every group's true value, and the mean weight ``(G,)`` of its own value.

    A grid over the weight of the others; given it, everything is normal.
    """
    common = min(shared, MOST_SHARED) * float(whole.min())
    variances = whole - common
    others = (np.arange(GRID) + 0.5)[:, None] / GRID
    spread = (1 - others) / others * len(variances) / np.sum(1 / variances)  # tau^2, (GRID, 1)
    precision = 1 / (variances + spread)  # (GRID, G)
    total = precision.sum(axis=1, keepdims=True)
    mean = (precision * values).sum(axis=1, keepdims=True) / total
    fit = 0.5 * (np.log(precision).sum(axis=1) - np.log(total[:, 0]) - (precision * (values - mean) ** 2).sum(axis=1))
    chance = np.exp(fit - fit.max())
    chance = chance[:, None] / chance.sum()
    own = spread * precision
    centres = own * values + (1 - own) * mean
    errors = np.sqrt(own * variances + (1 - own) ** 2 / total + common)
    return _mixture_quantiles(chance, centres, errors), (chance * own).sum(axis=0)


def _mixture_quantiles(chance: FloatArray, centres: FloatArray, errors: FloatArray) -> FloatArray:
    """Quantiles at ``TAILS`` of mixtures of normals, ``(G, 3)``, by bisection."""
    from scipy.special import ndtr

    tails = np.array(TAILS)
    low = np.tile((centres - 8 * errors).min(axis=0)[:, None], len(TAILS))
    high = np.tile((centres + 8 * errors).max(axis=0)[:, None], len(TAILS))
    for _ in range(40):
        middle = (low + high) / 2
        below = np.einsum("k,kgt->gt", chance[:, 0], ndtr((middle - centres[..., None]) / errors[..., None]))
        low, high = np.where(below < tails, middle, low), np.where(below < tails, high, middle)
    return np.asarray((low + high) / 2)


def halves(patients: IntArray, splits: int, rng: np.random.Generator) -> FloatArray:
    """Random halves of one group's patients.

    Args:
        patients: ``(n,)``, codes ``0 … P - 1``.
        splits: number of them.
        rng: source of randomness.

    Returns:
        ``(splits, n)``: 1 for rows in the first half, 0 for those in the second, which has the odd patient. As weights,
        they and one minus they give the values that :func:`fresh_half` takes.
    """
    total = int(patients.max()) + 1
    first = rng.permuted(np.tile(np.arange(total) < total // 2, (splits, 1)), axis=1)
    return first[:, patients].astype(np.float64)


def fresh_half(
    first: Mapping[str, FloatArray], second: Mapping[str, FloatArray], *, higher_is_better: bool = True
) -> FreshHalf:
    """Pick the worst group in one half, read it in the other, both ways round, and average over the splits.

    Args:
        first: group -> ``(splits,)``, its value in the first half; NaN where a half has none.
        second: the same in the second half.
        higher_is_better: False picks the highest.

    Returns:
        Means over splits; a split counts for the groups with a value in both of its halves, if there are two.

    Source: data splitting, Cox 1975, Biometrika 62:441.
    """
    groups, sign = sorted(first), 1.0 if higher_is_better else -1.0
    if len(groups) < 2:
        return FreshHalf()
    one, two = (sign * np.stack([half[group] for group in groups]) for half in (first, second))  # (G, splits)
    picking, reading = np.hstack([one, two]), np.hstack([two, one])
    known = np.isfinite(picking) & np.isfinite(reading)
    used = known.sum(axis=0) >= 2
    if not used.any():
        return FreshHalf()
    picking, reading = (np.where(known, half, np.inf)[:, used] for half in (picking, reading))
    lowest, again = (_shares_of_lowest(half) for half in (picking, reading))
    shares = lowest.mean(axis=1)
    return FreshHalf(
        group=groups[int(shares.argmax())],
        frequencies=dict(zip(groups, shares.tolist(), strict=True)),
        picked=sign * float(picking.min(axis=0).mean()),
        fresh=sign * float((lowest * np.where(lowest > 0, reading, 0.0)).sum(axis=0).mean()),
        confirmed=float((lowest * again).sum(axis=0).mean()),
    )


def _shares_of_lowest(values: FloatArray) -> FloatArray:
    """``(G, splits)``: 1 for the lowest of each split; groups that tie share it."""
    lowest = values <= values.min(axis=0) + 1e-12
    return np.asarray(lowest / lowest.sum(axis=0))
