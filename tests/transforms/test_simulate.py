"""Scanner appearance: the physics by hand, the invariants, the refusals."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from transforms.bssfp import TISSUES, bssfp_signal
from transforms.simulate import (
    REFERENCE,
    VENDOR_APPEARANCE,
    Appearance,
    coil_bias,
    draw_appearance,
    recontrast,
    scan,
    simulate_scanner,
    tissue_signals,
    truncate_kspace,
)

VENDORS = list(VENDOR_APPEARANCE)
PERFECT = Appearance(bias_amplitude=0.0, resolution=1.0, noise_sd=0.0, gain=100.0)


def cine(seed: int = 0, shape: tuple[int, ...] = (2, 3, 32, 40)) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 50.0, size=shape).astype(np.float32)


def test_bssfp_signal_matches_the_value_worked_out_by_hand() -> None:
    """TR = T2 ln 2 and T1 = T2: E1 = E2 = 1/2; at 90 degrees S = (1/2) / (1 - 1/4) = 2/3; TE = TR halves it."""
    tr_ms = 50 * np.log(2)
    signal = bssfp_signal(50.0, 50.0, 0.6, flip_angle_deg=90.0, tr_ms=tr_ms, te_ms=tr_ms)
    assert signal == pytest.approx(0.6 * 2 / 3 / 2)


def test_bssfp_signal_at_short_tr_depends_on_the_ratio_of_t1_and_t2() -> None:
    """For TR << T2: sin a / (1 + cos a + (1 - cos a) T1/T2); at 60 degrees and T1/T2 = 6 that is 0.866 / 4.5."""
    signal = bssfp_signal(1500.0, 250.0, 1.0, flip_angle_deg=60.0, tr_ms=0.01, te_ms=0.005)
    assert signal == pytest.approx(np.sqrt(3) / 2 / 4.5, rel=1e-3)


def test_a_time_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"times must be positive.*T1 0"):
        bssfp_signal(0.0, 50.0, 1.0, flip_angle_deg=60.0, tr_ms=3.0, te_ms=1.5)


def test_relaxation_follows_the_field_between_1_5_and_3_tesla() -> None:
    """Half way, half the change; outside the two, no extrapolation."""
    liver = TISSUES["liver"]
    assert liver.at(2.25) == pytest.approx(((580 + 810) / 2, (46 + 34) / 2, 0.7))
    assert liver.at(0.55) == liver.at(1.5)
    assert liver.at(7.0) == liver.at(3.0)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_blood_is_brighter_than_myocardium_under_every_vendor(vendor: str, strength: float) -> None:
    """And myocardium brighter than lung: what every reader of a bSSFP cine relies on."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        signals = tissue_signals(draw_appearance(vendor, rng, strength=strength))
        assert signals["blood"] > 1.5 * signals["myocardium"] > 4 * signals["lung"]
        assert set(signals) == set(TISSUES)


def test_vendors_differ_in_stored_scale_by_a_factor_of_about_five() -> None:
    """As myocardium does between vendors of the real studies."""
    scale = {v: a.gain * tissue_signals(a)["myocardium"] for v, a in VENDOR_APPEARANCE.items()}
    assert 4 < scale["GE"] / scale["Siemens"] < 8
    assert max(scale, key=lambda vendor: scale[vendor]) == "GE"


def test_strength_zero_gives_every_vendor_the_same_scanner() -> None:
    drawn = {draw_appearance(vendor, np.random.default_rng(3), strength=0.0) for vendor in VENDORS}
    assert len(drawn) == 1


def test_strength_moves_every_setting_from_the_reference_to_the_vendor() -> None:
    """The jitter is the same at all strengths, so that the ratio to strength 0 is the vendor's own shift."""
    none, half, full = (draw_appearance("GE", np.random.default_rng(3), strength=s) for s in (0.0, 0.5, 1.0))
    for name in ("flip_angle_deg", "tr_ms", "bias_amplitude", "noise_sd", "gain", "resolution", "field_strength_t"):
        shift = getattr(VENDOR_APPEARANCE["GE"], name) / getattr(REFERENCE, name)
        assert getattr(full, name) / getattr(none, name) == pytest.approx(shift)
        assert getattr(half, name) / getattr(none, name) == pytest.approx(np.sqrt(shift))


def test_two_studies_of_one_vendor_differ_a_little() -> None:
    rng = np.random.default_rng(0)
    angles = [draw_appearance("Canon", rng).flip_angle_deg for _ in range(200)]
    assert 0.03 < np.std(angles) / np.mean(angles) < 0.07
    assert np.mean(angles) == pytest.approx(VENDOR_APPEARANCE["Canon"].flip_angle_deg, rel=0.02)


@pytest.mark.parametrize(("vendor", "strength", "match"), [("Toshiba", 1.0, "'Toshiba'"), ("GE", -0.1, "-0.1")])
def test_an_unknown_vendor_and_a_negative_strength_are_refused(vendor: str, strength: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        draw_appearance(vendor, np.random.default_rng(0), strength=strength)


@pytest.mark.parametrize(
    ("name", "value"),
    [("flip_angle_deg", 0.0), ("resolution", 1.1), ("noise_sd", -0.1), ("gain", float("nan")), ("te_ms", 3.0)],
)
def test_a_setting_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        replace(REFERENCE, **{name: value})


@pytest.mark.parametrize("shape", [(24, 30), (3, 24, 30), (2, 3, 25, 31)])
def test_a_perfect_scanner_changes_nothing_but_the_gain(shape: tuple[int, ...]) -> None:
    image = cine(shape=shape) / 100
    seen = scan(image, PERFECT, np.random.default_rng(0))
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, 100 * image, rtol=1e-5)


@pytest.mark.parametrize("resolution", [1.0, 0.6])
def test_pure_noise_has_the_rayleigh_mean(resolution: float) -> None:
    """Two channels of SD sigma: mean magnitude sigma sqrt(pi / 2), whatever share of k-space carries it."""
    appearance = replace(PERFECT, noise_sd=0.5, resolution=resolution, gain=1.0)
    seen = scan(np.zeros((20, 64, 64)), appearance, np.random.default_rng(0), blood_signal=4.0)
    assert seen.mean() == pytest.approx(2.0 * np.sqrt(np.pi / 2), rel=0.02)


def test_noise_is_a_share_of_the_appearance_s_own_blood_signal() -> None:
    appearance = replace(PERFECT, noise_sd=0.1, gain=1.0)
    seen = scan(np.full((10, 64, 64), 50.0), appearance, np.random.default_rng(0))
    assert seen.std() == pytest.approx(0.1 * tissue_signals(appearance)["blood"], rel=0.02)


def test_truncation_keeps_low_waves_and_takes_away_high_ones() -> None:
    """A wave of 4 cycles in 64 samples lies inside half of k-space, one of 20 outside."""
    x = np.arange(64)
    low, high = (np.tile(np.cos(2 * np.pi * cycles * x / 64), (64, 1)) for cycles in (4, 20))
    np.testing.assert_allclose(truncate_kspace(low + high, 0.5), low, atol=1e-5)
    np.testing.assert_allclose(truncate_kspace((low + high).T, 0.5), low.T, atol=1e-5)


def test_an_edge_rings_and_the_mean_stays() -> None:
    """Gibbs: about 9 % overshoot beside a step."""
    step = np.zeros((128, 128))
    step[:, 32:96] = 1.0
    seen = truncate_kspace(step, 0.5).real
    assert 1.05 < seen.max() < 1.13
    assert seen.mean() == pytest.approx(step.mean(), rel=1e-5)


def test_the_coil_is_smooth_positive_and_has_mean_one() -> None:
    field = coil_bias((40, 60), 0.6, np.random.default_rng(0))
    assert field.mean() == pytest.approx(1.0, rel=1e-5)
    assert field.min() > 0
    assert field.max() / field.min() > 1.5
    assert max(np.abs(np.diff(field, axis=axis)).max() for axis in (0, 1)) < 0.15


def test_all_phases_and_slices_share_one_coil() -> None:
    """A coil that moved with the beat would look like motion."""
    appearance = replace(PERFECT, bias_amplitude=0.5)
    seen = scan(np.ones((3, 2, 16, 16)), appearance, np.random.default_rng(0))
    assert np.ptp(seen, axis=(0, 1)).max() < 1e-3
    assert np.ptp(seen[0, 0]) > 10


def test_recontrast_to_the_reference_is_linear_in_the_image() -> None:
    image = cine()
    same = recontrast(image, REFERENCE)
    dark, bright = np.percentile(image, [1, 95])
    expected = np.maximum(image - dark, 0) / (bright - dark) * tissue_signals(REFERENCE)["fat"]
    np.testing.assert_allclose(same, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("vendor", VENDORS)
def test_recontrast_never_swaps_two_intensities(vendor: str) -> None:
    image = cine()
    after = recontrast(image, VENDOR_APPEARANCE[vendor])
    order = np.argsort(image, axis=None)
    assert after.shape == image.shape
    assert (np.diff(after.ravel()[order]) >= 0).all()


def test_recontrast_takes_tissue_of_the_reference_to_tissue_of_the_vendor() -> None:
    """An image that holds the reference's signals, with its 1st percentile at 0 and its 95th at fat."""
    before, after = tissue_signals(REFERENCE), tissue_signals(VENDOR_APPEARANCE["Canon"])
    levels = [0.0] * 10 + [before["myocardium"]] * 40 + [before["blood"]] * 30 + [before["fat"]] * 20
    image = np.array(levels, dtype=np.float32).reshape(10, 10)
    seen = np.unique(recontrast(image, VENDOR_APPEARANCE["Canon"]))
    np.testing.assert_allclose(seen, [0.0, after["myocardium"], after["blood"], after["fat"]], rtol=1e-4)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 4000.0])
def test_simulation_does_not_depend_on_the_unit_of_the_image(factor: float) -> None:
    seen = simulate_scanner(cine() * factor, "GE", seed=5)
    np.testing.assert_allclose(seen, simulate_scanner(cine(), "GE", seed=5), rtol=1e-2, atol=0.5)


def test_same_image_vendor_and_seed_give_the_same_study_and_another_seed_another() -> None:
    first, again = (simulate_scanner(cine(), "Canon", seed=7) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == cine().shape
    assert first.dtype == np.float32
    assert not np.allclose(first, simulate_scanner(cine(), "Canon", seed=8))
    assert not np.allclose(first, simulate_scanner(cine(), "GE", seed=7))


def test_simulation_leaves_the_image_it_was_given_alone() -> None:
    image = cine()
    before = image.copy()
    simulate_scanner(image, "GE", seed=0)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.zeros((2, 3, 8, 8)), "percentile must differ"),
        (np.full((2, 3, 8, 8), np.nan), "finite"),
        (np.ones((3, 8, 8)), r"\(3, 8, 8\)"),
    ],
)
def test_an_image_that_cannot_be_simulated_on_is_refused(image: np.ndarray, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        simulate_scanner(image, "GE", seed=0)


def test_every_setting_of_every_vendor_is_stated() -> None:
    """Interpolation by ratio needs positive numbers throughout."""
    for appearance in [REFERENCE, *VENDOR_APPEARANCE.values()]:
        assert all(getattr(appearance, field.name) > 0 for field in fields(appearance))
