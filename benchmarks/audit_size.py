"""How often the audit calls identical scanners different, and how near its worst group comes to the truth.

    python -m benchmarks.audit_size [--repeats 4000] [--permutations 499] [--fairlearn 60] [--only slices contrasts …]

Patients are beta-binomial or normal. Peers: the chi-square test on rows, analysis of variance and Welch's weights on
the same permutations, fairlearn's interval of the largest gap, Wilson's interval of the group that looks worst.
Where the same patients are seen on every scanner: ``python -m benchmarks.audit_crossed``.
``±`` is two Monte-Carlo standard errors. True nulls take all repeats, scanners that do differ and the worst group a
quarter of them, the AUC a fifth. 4,000 take some 16 minutes on one core, beside fairlearn's of some seconds each.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from pipeline.audit.arms import proportion_arm
from pipeline.audit.contrast_tests import auc_p_values, mean_p_values
from pipeline.audit.contrasts import contrasts, sides
from pipeline.audit.differences import Difference, difference_of_arms
from pipeline.audit.permutation import (
    between_groups,
    by_patient,
    centred_members,
    group_moments,
    permuted,
    share_as_extreme,
)
from pipeline.audit.scanner_effect import scanner_effect, scanner_effect_auc
from pipeline.audit.statistics import Estimate, FloatArray, IntArray, Sample, wilson_interval
from pipeline.audit.worst import fresh_half, halves, shrink, worst_interval

SCANNERS, PATIENTS, SLICES, ICC, ACCURACY = 6, 30, 10, 0.3, 0.85
UNEQUAL = (100, 60, 30, 15, 8, 5)
PARTS = ("slices", "contrasts", "statistics", "auc", "fairlearn", "worst")
Draw = Callable[[np.random.Generator], tuple[FloatArray, IntArray]]  # values, group codes: one per patient


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--permutations", type=int, default=499)
    parser.add_argument("--fairlearn", type=int, default=60, help="repeats of the peer, seconds each; 0 leaves it out")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=None)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, repeats, permutations = np.random.default_rng(arguments.seed), arguments.repeats, arguments.permutations
    print(f"{repeats} repeats, {permutations} permutations")
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "slices": lambda: slices(rng, repeats, permutations),
        "contrasts": lambda: called_different(rng, repeats, permutations),
        "statistics": lambda: statistics(rng, repeats, permutations),
        "auc": lambda: areas(rng, max(1, repeats // 5), permutations),
        "fairlearn": lambda: largest_gap(rng, arguments.fairlearn),
        "worst": lambda: worst(rng, max(1, repeats // 4)),
    }
    for name in arguments.only or parts:
        for line in parts[name]():
            print(line, flush=True)


def rate(hits: float, repeats: int) -> str:
    """Per cent with two Monte-Carlo standard errors."""
    n = repeats + 4
    share = (hits + 2) / n  # Agresti & Coull: no certainty at 0 or all
    return f"{100 * hits / repeats:5.1f} % ± {200 * math.sqrt(share * (1 - share) / n):.1f}"


def beta_binomial(
    rng: np.random.Generator, patients: int, rows: int | IntArray, accuracy: float, icc: float = ICC
) -> FloatArray:
    """Share of right rows of each patient, ``(patients,)``; with one row it is right or wrong."""
    spread = (1 - icc) / icc
    return rng.binomial(rows, rng.beta(accuracy * spread, (1 - accuracy) * spread, patients)) / rows


def slices(rng: np.random.Generator, repeats: int, permutations: int) -> Iterator[str]:
    """Six identical scanners with 30 patients of 10 slices: the test on patients beside that on slices."""
    groups, called = np.repeat(np.arange(SCANNERS), PATIENTS), Counter[str]()
    for _ in range(repeats):
        values = beta_binomial(rng, len(groups), SLICES, ACCURACY)
        found = scanner_effect(values, np.arange(len(groups)), groups, rng=rng, permutations=permutations)
        right = np.bincount(groups, values * SLICES).round()
        called["patients"] += found.p <= 0.05
        called["slices"] += chi2_contingency([right, PATIENTS * SLICES - right]).pvalue <= 0.05
    yield f"scanner effect where there is none (6 x 30 patients x 10 slices, ICC {ICC}):"
    ours, rows = (rate(called[unit], repeats) for unit in ("patients", "slices"))
    yield f"  permuted patients {ours}; chi-square on slices {rows}"


def statistics(rng: np.random.Generator, repeats: int, permutations: int) -> Iterator[str]:
    """Why this statistic: size and power beside two others on the same permutations."""
    yield "which statistic to permute: ours | analysis of variance | Welch's weights"
    for name, draw in scenarios().items():
        count = repeats if name.startswith("none") else max(1, repeats // 4)
        called = np.sum([beside_peers(*draw(rng), rng, permutations) <= 0.05 for _ in range(count)], axis=0)
        yield f"  {name:52} " + " | ".join(rate(hits, count) for hits in called)


def scenarios() -> dict[str, Draw]:
    """Equal means first, then one or more that differ."""
    equal, unequal = np.repeat(np.arange(SCANNERS), PATIENTS), np.repeat(np.arange(len(UNEQUAL)), UNEQUAL)
    wide = np.array([1, 1, 1.5, 2, 3, 3])
    rows = np.repeat([1, 2, 5, 10, 20, 20], PATIENTS)

    def normal(groups: IntArray, spread: FloatArray, shift: FloatArray) -> Draw:
        return lambda rng: (rng.normal(shift[groups], spread[groups]), groups)

    def right(accuracies: list[float], patients_rows: int | IntArray, icc: float) -> Draw:
        chances = np.repeat(accuracies, PATIENTS)
        spread = (1 - icc) / icc
        return lambda rng: (
            rng.binomial(patients_rows, rng.beta(chances * spread, (1 - chances) * spread)) / patients_rows,
            equal,
        )

    none, ones = np.zeros(6), np.ones(6)
    return {
        "none: 6 x 30, one row, 0.95 right": right([0.95] * 6, 1, 0.5),
        "none: 1 to 20 rows per patient by scanner, ICC 0.1": right([0.85] * 6, rows, 0.1),
        f"none: {UNEQUAL}": normal(unequal, ones, none),
        f"none: {UNEQUAL}, small ones 3 x as wide": normal(unequal, wide, none),
        f"none: {UNEQUAL}, large ones 3 x as wide": normal(unequal, wide[::-1], none),
        "none: 6 x 30, one 4 x as wide": normal(equal, np.array([1, 1, 1, 1, 1, 4]), none),
        "one of 6 x 30, one row: 0.9 and 0.7 right": right([0.9] * 5 + [0.7], 1, 0.5),
        "one of 6 x 30 x 10, ICC 0.3: 0.85 and 0.70 right": right([0.85] * 5 + [0.7], SLICES, ICC),
        f"one of {UNEQUAL}, with 8: 1.2 SD lower": normal(unequal, ones, np.array([0, 0, 0, 0, -1.2, 0])),
    }


def beside_peers(values: FloatArray, groups: IntArray, rng: np.random.Generator, permutations: int) -> FloatArray:
    """P values ``(3,)``: of the audit, of the plain squares between groups, and of inverse variances as weights."""
    table = by_patient(values, np.arange(len(values)), groups, None)
    centred, members = centred_members(table)
    sizes = members.sum(axis=0)

    def all_three(drawn: FloatArray) -> FloatArray:
        means, variances = group_moments(drawn, members)
        weights = sizes / variances
        middle = (weights * means).sum(axis=-1, keepdims=True) / weights.sum(axis=-1, keepdims=True)
        anova, welch = (sizes * means**2).sum(axis=-1), (weights * (means - middle) ** 2).sum(axis=-1)
        return np.stack([between_groups(means, variances, sizes), anova, welch], axis=-1)

    return share_as_extreme(all_three(centred), map(all_three, permuted(centred, table.strata, permutations, rng)))


def called_different(rng: np.random.Generator, repeats: int, permutations: int) -> Iterator[str]:
    """Six identical scanners: how often any contrast with the rest stays significant after Holm, two ways to get p."""
    groups = np.repeat(np.arange(SCANNERS), 50).astype(str)
    patients, called = np.arange(len(groups)), Counter[str]()
    both = sides(groups, patients)
    for _ in range(repeats):
        right = (rng.random(len(groups)) < 0.9).astype(np.float64)
        pairs = {group: difference(right, one, other) for group, (one, other) in both.items()}
        p_values = mean_p_values(right, patients, groups, rng=rng, permutations=permutations)
        for name, given in (("permutation", p_values), ("interval", None)):
            found = contrasts(pairs, p_values=given)
            called[name] += min(contrast.p_holm for contrast in found) <= 0.05
    yield "six identical scanners (50 patients each, 0.9 right) called different by any Holm contrast:"
    ours, other = (rate(called[kind], repeats) for kind in ("permutation", "interval"))
    yield f"  p by permutation {ours}; p from the intervals {other}"
    called.clear()
    groups = np.repeat(np.arange(SCANNERS), PATIENTS)
    for _ in range(repeats):
        values = beta_binomial(rng, len(groups), SLICES, ACCURACY)
        p_values = mean_p_values(values, np.arange(len(groups)), groups, rng=rng, permutations=permutations)
        called["slices"] += min(p_values.values()) * SCANNERS <= 0.05
    yield f"  30 patients x 10 slices, ICC {ICC}: {rate(called['slices'], repeats)}"


def difference(right: FloatArray, one: NDArray[np.bool_], other: NDArray[np.bool_]) -> Difference:
    """Of two shares of right patients, one row each."""
    arms = [proportion_arm(right[side], np.flatnonzero(side), min_patients=2) for side in (one, other)]
    return difference_of_arms(*arms, n_patients=int(one.sum()), n_rows=int(one.sum()))


def wilson(right: FloatArray) -> Estimate:
    """Share of right patients, one row each."""
    n, value = len(right), float(right.mean())
    return Estimate(n, n, value, *wilson_interval(value, n), "Wilson")


def areas(rng: np.random.Generator, repeats: int, permutations: int) -> Iterator[str]:
    """AUC: identical scanners, and scanners that shift or stretch the scores and keep the AUC."""
    yield "scanner effect on the AUC (4 x 40 patients x 3 slices, half positive); any Holm contrast:"
    groups, rows = np.repeat(np.arange(4), 40), 3
    labels, patients = np.tile([0, 1], 80), np.repeat(np.arange(160), rows)
    for name, shift, spread, distance in (
        ("none", 0.0, 1.0, 1.5),
        ("none: two scanners shift the scores by 1", 1.0, 1.0, 1.5),
        ("none: two scanners stretch the scores 3 x", 0.0, 3.0, 1.5),
        ("one scanner: 0.86 becomes 0.64", 0.0, 1.0, 0.5),
    ):
        called = Counter[str]()
        for _ in range(repeats):
            apart = np.where((groups == 3) & (distance < 1), distance, 1.5)
            latent = apart * labels + rng.normal(0, math.sqrt(0.5), 160)
            scores = np.repeat(latent, rows) + rng.normal(0, math.sqrt(0.5), 160 * rows)
            scores = np.where(np.repeat(groups, rows) % 2, spread * scores + shift, scores)
            positive = 1 / (1 + np.exp(-scores))
            sample = Sample(np.repeat(labels, rows), np.c_[1 - positive, positive], patients)
            named = np.repeat(groups, rows)
            called["effect"] += scanner_effect_auc(sample, named, rng=rng, permutations=permutations).p <= 0.05
            p_values = auc_p_values(sample, named, rng=rng, permutations=permutations)
            called["contrast"] += min(p_values.values()) * 4 <= 0.05
        yield f"  {name:45} {rate(called['effect'], repeats)} | {rate(called['contrast'], repeats)}"


def largest_gap(rng: np.random.Generator, repeats: int) -> Iterator[str]:
    """Fairlearn's interval of the largest gap between six identical scanners: how often it lies above 0."""
    if not repeats:
        return
    from fairlearn.metrics import MetricFrame, true_positive_rate  # type: ignore[import-untyped]

    groups, above = np.repeat(np.arange(SCANNERS), 50), 0
    for _ in range(repeats):
        said = (rng.random(len(groups)) < 0.9).astype(int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = MetricFrame(
                metrics=true_positive_rate,
                y_true=np.ones(len(groups), dtype=int),
                y_pred=said,
                sensitive_features=groups,
                n_boot=100,
                ci_quantiles=[0.025, 0.975],
                random_state=int(rng.integers(2**31)),
            )
        above += frame.difference_ci()[0] > 0
    yield f"  fairlearn's interval of the largest gap lies above 0 in {rate(above, repeats)} of {repeats}"


def worst(rng: np.random.Generator, repeats: int) -> Iterator[str]:
    """Six scanners of 40 patients: interval of the lowest true value, shrunken values, fresh halves."""
    yield "worst of six scanners, 40 patients each, true values around 0.87:"
    for name, draw in (
        ("alike", lambda: np.full(SCANNERS, 0.87)),
        ("SD 0.02", lambda: np.clip(rng.normal(0.87, 0.02, SCANNERS), 0, 0.999)),
        ("SD 0.05", lambda: np.clip(rng.normal(0.87, 0.05, SCANNERS), 0, 0.999)),
        ("one at 0.6", lambda: np.array([0.87] * 5 + [0.6])),
    ):
        sums = Counter[str]()
        for _ in range(repeats):
            true = draw()
            right = rng.random((SCANNERS, 40)) < true[:, None]
            sums.update(_read(right.astype(np.float64), true, rng))
        yield (
            f"  {name:10} lowest covered {rate(sums['ours'], repeats)} (Wilson's of the lowest "
            f"{rate(sums['naive'], repeats)}); width {sums['width'] / repeats:.3f}"
        )
        raw, shrunken = (math.sqrt(sums[kind] / repeats) for kind in ("raw", "shrunken"))
        yield (
            f"  {'':10} RMSE raw {raw:.3f}, shrunken {shrunken:.3f}, its interval covers "
            f"{rate(sums['covered'], repeats)}; picked {sums['picked'] / repeats:.3f}, its truth "
            f"{sums['truth'] / repeats:.3f}, fresh half {sums['fresh'] / repeats:.3f}"
        )


def _read(right: FloatArray, true: FloatArray, rng: np.random.Generator) -> dict[str, float]:
    found = {str(code): wilson(row) for code, row in enumerate(right)}
    interval, drawn = worst_interval(found), [one.estimate for one in shrink(found).values()]
    named = int(right.mean(axis=1).argmin())
    first = {code: halves(np.arange(40), 50, rng) for code in found}
    one = {code: w @ right[int(code)] / 20 for code, w in first.items()}
    other = {code: (1 - w) @ right[int(code)] / 20 for code, w in first.items()}
    fresh, lowest = fresh_half(one, other), float(true.min())
    assert interval is not None
    return {
        "ours": interval.low <= lowest <= interval.high,
        "naive": found[str(named)].low <= lowest <= found[str(named)].high,
        "width": interval.high - interval.low,
        "raw": float(np.mean((right.mean(axis=1) - true) ** 2)),
        "shrunken": float(np.mean([(e.value - t) ** 2 for e, t in zip(drawn, true, strict=True)])),
        "covered": float(np.mean([e.low <= t <= e.high for e, t in zip(drawn, true, strict=True)])),
        "picked": fresh.picked,
        "truth": float(true[named]),
        "fresh": fresh.fresh,
    }


if __name__ == "__main__":
    main()
