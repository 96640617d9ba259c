"""Which group differs: against published and other libraries' values, and by how often a whole family is right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pipeline.audit.contrast_tests import auc_p_values, mean_p_values
from pipeline.audit.contrasts import FROM_INTERVAL, PERMUTATION, REST, contrasts, sides
from pipeline.audit.differences import Difference
from pipeline.audit.statistics import Estimate, Sample, wilson_interval
from tests.audit.made import unpaired


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def share(right: int, n: int) -> Estimate:
    return Estimate(n, n, right / n, *wilson_interval(right / n, n), "Wilson")


def difference() -> Difference:
    return unpaired(share(8, 10), share(7, 10))


def test_holm_and_benjamini_hochberg_over_the_family_by_hand() -> None:
    """0.01, 0.02, 0.04 of three: Holm 0.03, 0.04, 0.04; BH 0.03, 0.03, 0.04. The fourth has no p and is no member."""
    pairs = dict.fromkeys("abcd", difference())
    found = contrasts(pairs, p_values={"a": 0.01, "b": 0.02, "c": 0.04, "d": math.nan})
    assert [c.p_holm for c in found[:3]] == pytest.approx([0.03, 0.04, 0.04])
    assert [c.p_bh for c in found[:3]] == pytest.approx([0.03, 0.03, 0.04])
    assert [(c.family, c.test) for c in found] == [(3, PERMUTATION)] * 3 + [(0, None)]
    assert math.isnan(found[3].p_holm)
    assert {c.against for c in found} == {REST}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12))
def test_adjusted_values_are_those_of_statsmodels_and_never_smaller(given_p: list[float]) -> None:
    """In the order of the groups, whatever the order of the p values."""
    names = [str(i) for i in range(len(given_p))]
    pairs = dict.fromkeys(names, difference())
    found = contrasts(pairs, p_values=dict(zip(names, given_p, strict=True)))
    assert [c.p_holm for c in found] == pytest.approx(multipletests(given_p, method="holm")[1].tolist())
    assert all(c.p <= c.p_bh + 1e-12 and c.p_bh <= c.p_holm + 1e-12 for c in found)


def test_both_sides_are_without_the_patients_seen_on_both() -> None:
    """Patient 1 was seen by GE and Canon, and counts for Philips' rest."""
    groups, patients = ["GE", "GE", "Canon", "Philips"], [0, 1, 1, 2]
    found = sides(groups, patients)
    assert [mask.tolist() for mask in found["GE"]] == [[True, False, False, False], [False, False, False, True]]
    assert [mask.tolist() for mask in found["Canon"]] == [[False] * 4, [True, False, False, True]]
    assert [mask.tolist() for mask in found["Philips"]] == [[False, False, False, True], [True, True, True, False]]


def test_a_reference_is_one_of_the_groups_and_not_compared_with_itself() -> None:
    """Others are compared with it alone."""
    found = sides(["GE", "Canon", "Philips"], [0, 1, 2], "Canon")
    assert list(found) == ["GE", "Philips"]
    assert found["GE"][1].tolist() == [False, True, False]
    with pytest.raises(ValueError, match="'Siemens' is not; choose among Canon, GE, Philips"):
        sides(["GE", "Canon", "Philips"], [0, 1, 2], "Siemens")


def test_permuting_normal_values_gives_the_p_value_of_welch() -> None:
    """One group against the rest of three, and against one reference."""
    groups = np.repeat(["Canon", "GE", "Philips"], [30, 40, 50])
    values = rng(1).normal(np.where(groups == "GE", 0.35, 0.0), np.where(groups == "GE", 2.0, 1.0))
    ge = values[groups == "GE"]
    rest = mean_p_values(values, range(120), groups, rng=rng(2))
    one = mean_p_values(values, range(120), groups, rng=rng(2), reference="Canon")
    assert rest["GE"] == pytest.approx(stats.ttest_ind(ge, values[groups != "GE"], equal_var=False).pvalue, abs=0.03)
    assert one["GE"] == pytest.approx(stats.ttest_ind(ge, values[groups == "Canon"], equal_var=False).pvalue, abs=0.03)
    assert list(one) == ["GE", "Philips"]


def test_right_or_wrong_gives_the_mid_p_value_of_fisher() -> None:
    """12 of 20 against 57 of 60: twice the hypergeometric tail, the observed table counting half."""
    right = np.r_[np.ones(12), np.zeros(8), np.ones(57), np.zeros(3)]
    found = mean_p_values(right, range(80), ["GE"] * 20 + ["rest"] * 60, rng=rng(), permutations=99_999)
    tail = stats.hypergeom(80, 69, 20)
    exact = 2 * (tail.cdf(11) + tail.pmf(12) / 2)
    assert found["GE"] == pytest.approx(exact, abs=4 * math.sqrt(2 * exact / 99_999) + 2e-5)
    assert found["GE"] == pytest.approx(found["rest"], abs=1e-3)


def test_a_group_without_errors_does_not_hide_one_with_many() -> None:
    """Both tails together would give 0.2: a group that is all right has a small variance and a large t by chance."""
    right = np.r_[np.ones(6), np.zeros(4), np.ones(95), np.zeros(5)]
    assert mean_p_values(right, range(110), ["GE"] * 10 + ["Canon"] * 100, rng=rng())["GE"] < 0.02


@pytest.mark.parametrize("values", [[1.0, 1, 1, 1, 1], [math.nan] * 5, [1.0, 0, math.nan, math.nan, 1]])
def test_what_cannot_be_compared_has_no_p_value(values: list[float]) -> None:
    """No variation; nothing known; one patient on one side."""
    found = mean_p_values(values, range(5), ["a", "a", "b", "b", "b"], rng=rng(), permutations=99)
    assert all(math.isnan(p) for p in found.values())


def test_auc_contrasts_find_the_scanner_that_reads_at_random() -> None:
    """Three scanners x 40 patients, AUC 0.92 but for one; a fourth has no healthy patient and no p value."""
    draw, groups = rng(4), np.repeat(["Canon", "GE", "Philips", "Siemens"], [40, 40, 40, 6])
    labels = np.r_[np.tile([0, 1], 60), np.ones(6, dtype=int)]
    scores = draw.normal(np.where(groups == "GE", 0.0, 2.0) * labels)
    sample = Sample(labels, np.c_[-scores, scores], np.arange(126))
    found = auc_p_values(sample, groups, rng=draw, permutations=999)
    assert found["GE"] < 0.01
    assert math.isnan(found["Siemens"])
    against = auc_p_values(sample, groups, rng=draw, permutations=999, reference="Canon")
    assert against["GE"] < 0.01
    assert against["Philips"] > 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "icc"), [(1, 0.5), (10, 0.3)])
def test_identical_scanners_are_rarely_called_different_by_any_contrast(rows: int, icc: float) -> None:
    """Six x 30 patients, 0.85 right: Holm over six contrasts errs in at most 5 % of the runs, and not in none."""
    draw, groups, called, repeats = rng(6), np.repeat(np.arange(6), 30).astype(str), 0, 250
    spread = (1 - icc) / icc
    for _ in range(repeats):
        right = draw.binomial(rows, draw.beta(0.85 * spread, 0.15 * spread, 180)) / rows
        p_values = mean_p_values(right, range(180), groups, rng=draw, permutations=399)
        called += 6 * min(p_values.values()) <= 0.05  # the smallest of Holm's
    assert 0 < called / repeats < 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)


def test_p_values_are_taken_from_the_intervals_where_none_are_given() -> None:
    """And said so."""
    (found,) = contrasts({"GE": unpaired(share(30, 50), share(180, 200))}, against="Canon")
    assert (found.test, found.against, found.family) == (FROM_INTERVAL, "Canon", 1)
    assert found.p == found.p_holm == found.p_bh < 0.001
