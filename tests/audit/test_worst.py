"""The worst group: what its interval covers, how far values are drawn together, what fresh patients say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from pipeline.audit.arms import proportion_arm, shared_error
from pipeline.audit.statistics import Estimate, wilson_interval
from pipeline.audit.worst import effective_patients, fresh_half, halves, one_sided, shrink, worst_interval


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def share(value: float, n: int) -> Estimate:
    return Estimate(n, n, value, *wilson_interval(value, n), "Wilson")


def plain(value: float, error: float) -> Estimate:
    return Estimate(30, 30, value, value - 1.959964 * error, value + 1.959964 * error, "t")


NOT_ESTIMABLE = Estimate(1, 1, 0.0, reason="too few patients")


@settings(deadline=None)
@given(st.integers(2, 500), st.floats(0, 1))
def test_a_wilson_interval_is_worth_its_own_patients(n: int, value: float) -> None:
    """Also where all, or none, are right."""
    right = round(value * n)
    assert effective_patients(share(right / n, n)) == pytest.approx(n, rel=1e-6)


def test_a_wider_interval_is_worth_fewer_patients_and_none_is_worth_nothing_known() -> None:
    """Twice as wide: about a quarter."""
    low, high = wilson_interval(0.8, 400)
    wide = Estimate(400, 400, 0.8, 0.8 - 2 * (0.8 - low), 0.8 + 2 * (high - 0.8), "bootstrap")
    assert effective_patients(wide) == pytest.approx(100, rel=0.05)
    assert effective_patients(Estimate(9, 9, 0.5, 0.0, 1.0, "nothing known")) == 1.0
    assert math.isnan(effective_patients(NOT_ESTIMABLE))


@pytest.mark.parametrize(("right", "n"), [(0, 12), (7, 12), (12, 12), (131, 144)])
def test_one_sided_bounds_of_a_share_are_exact(right: int, n: int) -> None:
    """As statsmodels' beta method at twice the error."""
    found = one_sided(share(right / n, n), 0.01, "share")
    assert found == pytest.approx(proportion_confint(right, n, alpha=0.02, method="beta"), abs=1e-6)


def test_one_sided_bounds_of_a_mean_stretch_each_half() -> None:
    """2.326 / 1.960 at 1 %; the halves stay as unequal as they were."""
    found = one_sided(Estimate(30, 30, 5.0, 4.0, 8.0, "BCa"), 0.01, "plain")
    assert found == pytest.approx((5 - 2.3263 / 1.9600, 5 + 3 * 2.3263 / 1.9600), abs=1e-3)


def test_the_worst_of_two_by_hand() -> None:
    """Two groups: 0.05 x 2/3 below, half of that above; the lowest bounds of either group."""
    found = worst_interval({"a": plain(1.0, 0.1), "b": plain(1.1, 0.3), "c": NOT_ESTIMABLE}, scale="plain")
    assert found is not None
    low, high = stats.norm.ppf(1 - 0.1 / 3), stats.norm.ppf(1 - 0.05 / 3)
    assert (found.value, found.interval) == (1.0, "simultaneous")
    assert (found.low, found.high) == pytest.approx((1.1 - 0.3 * low, 1.0 + 0.1 * high), abs=1e-5)


def test_the_highest_is_the_lowest_turned_round() -> None:
    """Distances [mm] and their negatives."""
    values = {"a": (4.0, 0.5), "b": (6.0, 1.5), "c": (5.0, 0.2)}
    highest = worst_interval({g: plain(*v) for g, v in values.items()}, scale="plain", higher_is_better=False)
    lowest = worst_interval({g: plain(-v, e) for g, (v, e) in values.items()}, scale="plain")
    assert highest is not None
    assert lowest is not None
    assert (highest.value, highest.low, highest.high) == pytest.approx((-lowest.value, -lowest.high, -lowest.low))


def test_one_group_is_not_the_worst_of_anything() -> None:
    """Nor is there another to learn from."""
    assert worst_interval({"a": share(0.8, 20), "b": NOT_ESTIMABLE}) is None
    assert shrink({"a": share(0.8, 20), "b": NOT_ESTIMABLE}) == {}
    assert fresh_half({"a": np.array([0.5])}, {"a": np.array([0.5])}).group is None


@pytest.mark.parametrize("low", [0.87, 0.78, 0.5])
def test_the_lowest_true_value_lies_in_the_interval(low: float) -> None:
    """Five at 0.87 and one at or below it, 40 patients each: at least 95 %, with three Monte-Carlo errors."""
    draw, covered, repeats = rng(1), 0, 400
    true = np.array([0.87] * 5 + [low])
    for _ in range(repeats):
        shares = draw.binomial(40, true) / 40
        found = worst_interval({str(g): share(float(s), 40) for g, s in enumerate(shares)})
        assert found is not None
        covered += found.low <= low <= found.high
    assert covered / repeats > 0.95 - 3 * math.sqrt(0.05 * 0.95 / repeats)


def test_the_median_halves_the_posterior() -> None:
    """Three groups on a plain scale; the posterior integrated anew, over the weight of the others, by quadrature."""
    values, errors = np.array([0.0, 1.0, 4.0]), np.array([1.0, 0.5, 2.0])
    found = shrink(
        {str(g): plain(float(v), float(e)) for g, (v, e) in enumerate(zip(values, errors, strict=True))}, scale="plain"
    )
    common = 3 / np.sum(1 / errors**2)
    weights = np.linspace(1e-4, 1 - 1e-4, 4001)
    density, below = np.zeros(4001), np.zeros((4001, 3))
    for i, weight in enumerate(weights):
        spread = common * (1 - weight) / weight
        covariance = np.diag(errors**2 + spread) + 100.0**2  # a flat mean
        density[i] = stats.multivariate_normal.pdf(values, np.zeros(3), covariance)
        prior = spread * np.eye(3) + 100.0**2
        gain = prior @ np.linalg.inv(covariance)
        sd = np.sqrt(np.diag(prior - gain @ prior))
        below[i] = stats.norm.cdf([found[str(g)].estimate.value for g in range(3)], gain @ values, sd)
    assert (density @ below / density.sum()) == pytest.approx([0.5] * 3, abs=0.005)


def test_few_patients_are_drawn_to_the_others_and_many_stay_where_they_are() -> None:
    """Ten patients at 0.6 among groups near 0.9; 5,000 keep their value."""
    found = shrink(
        {"a": share(0.9, 300), "b": share(0.92, 300), "c": share(0.6, 10), "d": share(0.88, 5000), "e": NOT_ESTIMABLE}
    )
    assert list(found) == ["a", "b", "c", "d"]
    assert 0.65 < found["c"].estimate.value < 0.9
    assert found["d"].estimate.value == pytest.approx(0.88, abs=0.005)
    assert found["c"].own < found["a"].own < found["d"].own <= 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(sum), min_size=2, max_size=8))
def test_shrunken_shares_stay_between_none_and_all_with_an_interval_of_some_width(
    counts: list[tuple[int, int]],
) -> None:
    """All right everywhere as well: never certainty."""
    found = shrink({str(g): share(a / (a + b), a + b) for g, (a, b) in enumerate(counts)})
    for one in found.values():
        assert 0 <= one.estimate.low < one.estimate.value < one.estimate.high <= 1
        assert 0 < one.own < 1


def test_shrunken_values_are_nearer_to_the_truth_and_their_intervals_hold_it() -> None:
    """Six scanners x 40 patients, true values 0.87 with SD 0.02: root mean square error 0.03 instead of 0.05."""
    draw, raw, drawn, held = rng(2), [], [], []
    for _ in range(120):
        true = np.clip(draw.normal(0.87, 0.02, 6), 0, 0.999)
        shares = draw.binomial(40, true) / 40
        found = [one.estimate for one in shrink({str(g): share(float(s), 40) for g, s in enumerate(shares)}).values()]
        raw.append((shares - true) ** 2)
        drawn.append((np.array([e.value for e in found]) - true) ** 2)
        held.append([e.low <= t <= e.high for e, t in zip(found, true, strict=True)])
    assert math.sqrt(np.mean(raw)) == pytest.approx(0.053, abs=0.006)
    assert math.sqrt(np.mean(drawn)) == pytest.approx(0.031, abs=0.005)
    assert np.mean(held) > 0.92


def test_what_groups_of_the_same_patients_share_draws_none_to_the_others() -> None:
    """Three groups whose errors are shared to 0.8: the posterior of two normal effects, integrated anew."""
    values, error = np.array([0.0, 1.0, 4.0]), 1.0
    found = shrink({str(g): plain(float(v), error) for g, v in enumerate(values)}, scale="plain", shared=0.8)
    covariance = 0.2 * np.eye(3) + 0.8
    weights = np.linspace(1e-4, 1 - 1e-4, 2001)
    density, below = np.zeros(2001), np.zeros((2001, 3))
    for i, weight in enumerate(weights):
        prior = 0.2 * (1 - weight) / weight * np.eye(3) + 100.0**2  # a flat mean
        density[i] = stats.multivariate_normal.pdf(values, np.zeros(3), prior + covariance)
        gain = prior @ np.linalg.inv(prior + covariance)
        sd = np.sqrt(np.diag(prior - gain @ prior))
        below[i] = stats.norm.cdf([found[str(g)].estimate.low for g in range(3)], gain @ values, sd)
    assert (density @ below / density.sum()) == pytest.approx([0.025] * 3, abs=0.002)


def test_shrunken_values_of_groups_with_the_same_patients_hold_the_truth() -> None:
    """Forty patients on six scanners that do not differ: 95 %, and too few where the groups count as independent."""
    draw, patients, repeats = rng(2), np.arange(40), 150
    covered = {"shared": 0, "apart": 0}
    for _ in range(repeats):
        chance = stats.norm.cdf(draw.normal(3, 3, 40))  # of each patient
        arms = [proportion_arm((draw.random(40) < chance) * 1.0, patients, min_patients=2) for _ in range(6)]
        found = {str(g): arm.estimate for g, arm in enumerate(arms)}
        truth = float(stats.norm.cdf(3 / math.sqrt(1 + 3**2)))
        for kind, shared in (("shared", shared_error(arms)), ("apart", 0.0)):
            one = shrink(found, shared=shared)["0"].estimate
            covered[kind] += one.low <= truth <= one.high
    assert covered["shared"] / repeats > 0.95 - 3 * math.sqrt(0.05 * 0.95 / repeats)
    assert covered["apart"] / repeats < 0.85


def test_halves_never_split_a_patient() -> None:
    """Five patients: two in the first half, three in the second; all are drawn about equally often."""
    patients = np.array([0, 0, 1, 2, 3, 3, 4])
    found = halves(patients, 2000, rng())
    assert found.shape == (2000, 7)
    assert np.array_equal(found[:, [0, 4]], found[:, [1, 5]])
    assert (found[:, [0, 2, 3, 4, 6]].sum(axis=1) == 2).all()
    assert found.mean(axis=0) == pytest.approx([0.4] * 7, abs=0.05)


def test_the_other_half_reads_the_group_that_one_half_picked() -> None:
    """First halves pick a (0.5) and b (0.6), second halves b (0.7) and b (0.8): reading 0.9, 0.8 and 0.8, 0.6."""
    first = {"a": np.array([0.5, 0.9]), "b": np.array([0.8, 0.6])}
    second = {"a": np.array([0.9, 0.9]), "b": np.array([0.7, 0.8])}
    found = fresh_half(first, second)
    assert found.group == "b"
    assert found.frequencies == pytest.approx({"a": 0.25, "b": 0.75})
    assert found.picked == pytest.approx((0.5 + 0.6 + 0.7 + 0.8) / 4)
    assert found.fresh == pytest.approx((0.9 + 0.8 + 0.8 + 0.6) / 4)
    assert found.confirmed == pytest.approx(0.5)


def test_the_worst_distance_is_the_highest_and_a_half_without_value_does_not_count() -> None:
    """The second split has one group only; ties share their split."""
    first = {"a": np.array([5.0, math.nan, 4.0]), "b": np.array([7.0, 3.0, 4.0])}
    second = {"a": np.array([6.0, 6.0, 4.0]), "b": np.array([5.0, 6.0, 4.0])}
    found = fresh_half(first, second, higher_is_better=False)
    assert (found.picked, found.fresh) == pytest.approx(((7 + 6 + 4 + 4) / 4, (5 + 5 + 4 + 4) / 4))
    assert found.frequencies == pytest.approx({"a": 0.5, "b": 0.5})
    assert (
        fresh_half(
            {"a": np.array([math.nan]), "b": np.array([1.0])}, {"a": np.array([1.0]), "b": np.array([1.0])}
        ).group
        is None
    )


def test_fresh_halves_undo_the_luck_that_picked() -> None:
    """Six alike at 0.87: the picked halves read some 0.1 too low, the fresh ones the truth."""
    draw, picked, fresh = rng(3), [], []
    for _ in range(60):
        first, second = {}, {}
        for group in "abcdef":
            right = (draw.random(40) < 0.87).astype(np.float64)
            inside = halves(np.arange(40), 20, draw)
            first[group], second[group] = inside @ right / 20, (1 - inside) @ right / 20
        found = fresh_half(first, second)
        picked.append(found.picked)
        fresh.append(found.fresh)
    assert np.mean(picked) < 0.8
    assert np.mean(fresh) == pytest.approx(0.87, abs=3 * np.std(fresh) / math.sqrt(60))
