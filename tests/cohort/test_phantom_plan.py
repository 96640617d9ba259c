"""Who is in a phantom cohort: counts, dials, quirks, and densities that are known."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.cohort.phantom_anatomy import PATHOLOGIES, Anatomy, class_probabilities, draw_anatomy
from pipeline.cohort.phantom_plan import (
    MNMS_COUNTS,
    VENDORS,
    Settings,
    aligned_counts,
    draw_studies,
    training_counts,
)


def test_the_default_cohort_has_the_counts_of_the_real_studies() -> None:
    counts = training_counts(Settings())
    np.testing.assert_array_equal(counts, [[22, 25, 37], [65, 51, 5], [21, 8, 0], [14, 15, 9]])
    assert counts.sum() == 272


@pytest.mark.parametrize("studies", [11, 14, 60, 271, 272, 600])
def test_a_scaled_cohort_keeps_its_size_its_cells_and_its_proportions(studies: int) -> None:
    counts = training_counts(Settings(studies=studies))
    assert counts.sum() == studies
    np.testing.assert_array_equal(counts > 0, MNMS_COUNTS > 0)
    assert np.abs(counts - MNMS_COUNTS * studies / 272).max() < 2.6


def test_a_cohort_too_small_for_its_cells_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 11.*got 10"):
        training_counts(Settings(studies=10))


def test_without_confounding_every_vendor_has_the_same_shares_of_pathologies() -> None:
    """And the same number of studies as with it: only the link between vendor and pathology goes."""
    counts = training_counts(Settings(confounding=0.0))
    np.testing.assert_array_equal(counts.sum(axis=1), MNMS_COUNTS.sum(axis=1))
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert np.ptp(shares, axis=0).max() < 0.04
    half = training_counts(Settings(confounding=0.5))
    assert MNMS_COUNTS[2, 2] < half[2, 2] < counts[2, 2]


@pytest.mark.parametrize(("share", "minority"), [(0.0, 0), (0.5, 34), (2.0, 134)])
def test_the_minority_share_touches_only_the_minority_vendors(share: float, minority: int) -> None:
    """GE and Canon have 67 studies in the real set; odd cells round within their vendor."""
    counts = training_counts(Settings(minority_share=share))
    np.testing.assert_array_equal(counts[:2], MNMS_COUNTS[:2])
    assert abs(counts[2:].sum() - minority) <= 1


def test_vendors_look_different_and_with_strength_zero_alike() -> None:
    def spread(strength: float) -> float:
        by_vendor: dict[str, list[float]] = {vendor: [] for vendor in VENDORS}
        for study in draw_studies(Settings(strength=strength)):
            by_vendor[study.vendor].append(np.log(study.appearance.noise_sd))
        means = [np.mean(values) for values in by_vendor.values()]
        return float(np.ptp(means) / np.std(by_vendor["Siemens"]))

    assert spread(1.0) > 3
    assert spread(0.0) < 0.7


def test_appearance_leaves_the_hearts_alone() -> None:
    """Cohorts that differ in strength only can be compared heart by heart."""
    plain, strong = (draw_studies(Settings(strength=s, test_per_cell=1)) for s in (0.0, 1.0))
    assert [s.anatomy for s in plain] == [s.anatomy for s in strong]
    assert [s.pose for s in plain] == [s.pose for s in strong]
    assert plain[-1].appearance != strong[-1].appearance


def test_end_diastole_is_the_last_frame_in_most_philips_studies_and_few_others() -> None:
    studies = [s for s in draw_studies(Settings()) if s.part == "Training"]
    last = {v: np.mean([s.ed == s.pose.phases - 1 for s in studies if s.vendor == v]) for v in VENDORS}
    assert last["Philips"] > 0.75
    assert 0.02 < last["Siemens"] < 0.25
    assert all(s.ed == 0 or s.ed > s.es for s in studies)


def test_some_heights_are_missing_and_philips_has_two_centres() -> None:
    studies = draw_studies(Settings())
    assert 0.04 < np.mean([s.height_cm is None for s in studies]) < 0.2
    sites = {v: {s.site for s in studies if s.vendor == v} for v in VENDORS}
    assert sites == {"Siemens": {1}, "Philips": {2, 3}, "GE": {4}, "Canon": {5}}


def test_a_few_training_studies_are_stored_otherwise_and_no_test_study() -> None:
    studies = draw_studies(Settings())
    assert {s.storage for s in studies} == {"plain", "reversed slices", "flipped columns", "flipped rows"}
    assert 0.03 < np.mean([s.storage != "plain" for s in studies if s.part == "Training"]) < 0.15
    assert {s.storage for s in studies if s.part == "Testing"} == {"plain"}


def test_another_seed_gives_other_hearts() -> None:
    first, other = (draw_studies(Settings(seed=s, test_per_cell=0)) for s in (0, 1))
    assert not {s.anatomy for s in first} & {s.anatomy for s in other}
    assert len({s.anatomy for s in first}) == len(first)


def test_probabilities_are_those_of_bayes_for_one_heart_by_hand() -> None:
    """A heart in the middle of HCM's densities is HCM; the probabilities sum to one."""
    typical = Anatomy(1.9, 74, 65, 14.6, 9.2, 77, 61)
    chances = class_probabilities(typical)
    assert sum(chances.values()) == pytest.approx(1)
    assert chances["HCM"] > 0.99
    failing = Anatomy(1.9, 113, 39, 8.6, 7.6, 90, 47)
    assert class_probabilities(failing)["DCM"] > 0.99


def test_stated_probabilities_are_calibrated() -> None:
    """Of many balanced hearts, the share that is what was named equals the mean probability of the name."""
    rng = np.random.default_rng(0)
    hits, stated = [], []
    for pathology in PATHOLOGIES:
        for _ in range(1500):
            chances = class_probabilities(draw_anatomy(pathology, rng, body_surface_m2=1.9))
            named = max(chances, key=lambda name: chances[name])
            hits.append(named == pathology)
            stated.append(chances[named])
    assert np.mean(hits) == pytest.approx(np.mean(stated), abs=0.01)
    assert 0.93 < np.mean(hits) < 0.97


def test_an_unknown_pathology_is_refused() -> None:
    with pytest.raises(ValueError, match="'ARV'"):
        draw_anatomy("ARV", np.random.default_rng(0), body_surface_m2=1.9)


def test_an_aligned_table_gives_each_vendor_its_own_pathology_and_the_minority_its_share() -> None:
    """600 studies at shares 1 : 1 : 1/2 : 1/2 are 200, 200, 100, 100; 0.8 of each its own, 0.1 each of the others."""
    counts = aligned_counts(600, alignment=0.8, minority_share=0.5)
    assert counts.tolist() == [[20, 20, 160], [160, 20, 20], [10, 80, 10], [10, 80, 10]]


def test_an_alignment_of_a_third_leaves_vendor_and_pathology_independent() -> None:
    assert aligned_counts(120, alignment=1 / 3, minority_share=1.0).tolist() == [[10, 10, 10]] * 4


@pytest.mark.parametrize(("alignment", "minority_share"), [(0.2, 1.0), (1.1, 1.0), (0.9, 0.0)])
def test_an_alignment_or_share_out_of_range_is_refused(alignment: float, minority_share: float) -> None:
    with pytest.raises(ValueError, match=f"got {alignment} and {minority_share}"):
        aligned_counts(100, alignment=alignment, minority_share=minority_share)
