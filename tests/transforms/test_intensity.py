"""One intensity scale per study."""

from __future__ import annotations

import numpy as np
import pytest

from transforms.intensity import standardise


def test_mean_and_sd_are_those_worked_out_by_hand() -> None:
    """0, 2, 4: mean 2, SD sqrt(8/3)."""
    got = standardise([0.0, 2.0, 4.0], percentiles=(0, 100))
    np.testing.assert_allclose(got, np.array([-2.0, 0.0, 2.0]) / np.sqrt(8 / 3), rtol=1e-6)
    assert got.dtype == np.float32


@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 0.0), (4000.0, -200.0)])
def test_unit_and_offset_of_the_scanner_leave_no_trace(scale: float, offset: float) -> None:
    """Two studies of unlike scale become one, within single precision."""
    image = np.random.default_rng(0).random((2, 4, 8, 8))
    np.testing.assert_allclose(standardise(image * scale + offset), standardise(image), atol=1e-4)


def test_both_phases_share_one_scale() -> None:
    """End-systole twice as bright stays brighter; each phase on its own would come out the same."""
    phase = np.random.default_rng(1).random((1, 4, 8, 8))
    both = standardise(np.concatenate([phase, 2 * phase]))
    assert both[1].mean() > both[0].mean() + 0.5
    assert abs(both.mean()) < 1e-5
    assert both.std() == pytest.approx(1.0, abs=1e-5)


def test_a_few_hot_pixels_do_not_set_the_scale() -> None:
    image = np.random.default_rng(2).random(10_000)
    hot = image.copy()
    hot[:10] = 1e6
    np.testing.assert_allclose(standardise(hot)[10:], standardise(image)[10:], atol=0.05)


@pytest.mark.parametrize("value", [0.0, 812.5])
def test_a_constant_study_is_refused_by_its_value(value: float) -> None:
    with pytest.raises(ValueError, match=f"it is {value:g} throughout"):
        standardise(np.full((2, 3, 4, 4), value))


def test_a_study_that_only_varies_beyond_the_percentiles_is_refused() -> None:
    image = np.zeros(10_000)
    image[0] = 1.0
    with pytest.raises(ValueError, match="must vary between"):
        standardise(image)


@pytest.mark.parametrize("bad", [np.array([]), np.array([1.0, np.nan]), np.array([1.0, np.inf])])
def test_an_empty_or_not_finite_study_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite values only"):
        standardise(bad)


@pytest.mark.parametrize("bad", [(50.0, 50.0), (99.0, 1.0), (-1.0, 99.0), (1.0, 101.0)])
def test_percentiles_that_do_not_increase_within_0_and_100_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must increase within"):
        standardise([0.0, 1.0], percentiles=bad)
