"""The heart is where something beats."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.sunnybrook import read_sunnybrook
from transforms.geometry import orient_short_axis, spacing_mm
from transforms.heart import BELOW_MM, BESIDE_MM, find_heart

SPACING = (10.0, 1.6, 1.6)
STEP = (
    BELOW_MM / 1.6,
    BESIDE_MM / 1.6,
)  # a disc has no stomach below it: the step towards the heart is all that is left


def off_mm(cine: np.ndarray, centre: tuple[float, float]) -> float:
    """Distance of what is found from a disc's centre, the fixed step taken back [mm]."""
    heart = find_heart(cine, SPACING)
    return float(1.6 * np.hypot(heart.row + STEP[0] - centre[0], heart.col + STEP[1] - centre[1]))


def beating(centre: tuple[float, float], phases: int = 12, shape: tuple[int, int, int] = (6, 120, 130)) -> np.ndarray:
    """Bright disc of 45 mm at most, whose radius beats, in a still body with an edge that breathes a little."""
    rows, cols = np.meshgrid(*(np.arange(n) * 1.6 for n in shape[1:]), indexing="ij")
    distance = np.hypot(rows - centre[0] * 1.6, cols - centre[1] * 1.6)
    body = 200.0 + 100.0 * np.sin(rows / 9) * np.sin(cols / 11)
    radius = 37.5 + 7.5 * np.cos(2 * np.pi * np.arange(phases) / phases)
    images = [body + 600.0 / (1 + np.exp((distance - r) / 2)) for r in radius]
    return np.stack([np.stack(images)] * shape[0], axis=1).astype(np.float32)


@pytest.mark.parametrize("phases", [2, 3, 12, 25])
@pytest.mark.parametrize("centre", [(60.0, 65.0), (45.0, 85.0)])
def test_a_beating_disc_is_found_to_within_a_millimetre(phases: int, centre: tuple[float, float]) -> None:
    assert off_mm(beating(centre, phases), centre) < 1.0


def test_confidence_falls_when_something_far_away_moves_too() -> None:
    """All motion at the heart: 1. A second, smaller disc that beats 100 mm away takes its share."""
    cine = beating((35.0, 35.0))
    assert find_heart(cine, SPACING).confidence == 1.0
    cine[::2, :, 95:110, 100:115] += 400.0
    assert find_heart(cine, SPACING).confidence == 1.0  # a flicker at another rhythm is no heartbeat
    cine[:6, :, 95:110, 100:115] += 400.0
    assert 0.5 < find_heart(cine, SPACING).confidence < 1.0


def test_noise_and_a_coils_bias_move_the_centre_by_less_than_five_millimetres() -> None:
    """Noise of a tenth of the blood's signal, and a coil four times as strong at one edge as at the other."""
    cine = beating((55.0, 70.0)) * np.geomspace(0.5, 2.0, 130)
    noisy = cine + np.random.default_rng(0).normal(0, 80.0, cine.shape)
    assert off_mm(noisy, (55.0, 70.0)) < 5.0


def test_a_chest_wall_that_breathes_does_not_draw_the_centre() -> None:
    """A bright strip at the edge moves by a pixel at half the heart's motion."""
    cine = beating((60.0, 65.0))
    cine[6:, :, 4:7] += 300.0
    assert off_mm(cine, (60.0, 65.0)) < 5.0


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_unit_of_the_intensities_does_not_matter(scale: float) -> None:
    heart, other = (find_heart(beating((60.0, 65.0)) * factor, SPACING) for factor in (1.0, scale))
    assert (other.row, other.col) == pytest.approx((heart.row, heart.col), abs=1e-2)


def test_the_centre_moves_with_the_image() -> None:
    """Columns cut off at the left move it by as many."""
    cine = beating((60.0, 75.0))
    whole, cut = find_heart(cine, SPACING), find_heart(cine[..., 15:], SPACING)
    assert whole.col - cut.col == pytest.approx(15.0, abs=0.5)


def test_where_the_cycle_begins_does_not_matter() -> None:
    cine = beating((60.0, 65.0))
    heart, later = find_heart(cine, SPACING), find_heart(np.roll(cine, 5, axis=0), SPACING)
    assert (later.row, later.col) == pytest.approx((heart.row, heart.col), abs=1e-2)


@pytest.mark.parametrize("value", [0.0, 300.0])
def test_a_study_in_which_nothing_moves_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="nothing moves"):
        find_heart(np.full((5, 3, 40, 40), value), SPACING)


@pytest.mark.parametrize("shape", [(1, 3, 40, 40), (3, 40, 40)])
def test_a_single_phase_or_volume_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two phases or more"):
        find_heart(np.zeros(shape), SPACING)


def test_values_that_are_not_finite_are_refused() -> None:
    cine = beating((60.0, 65.0))
    cine[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite values only"):
        find_heart(cine, SPACING)


@pytest.mark.slow
@pytest.mark.real_data
def test_real_hearts_lie_within_a_crop_of_160_mm(real_data: Path) -> None:
    """60 ACDC patients, two phases each: all of both ventricles inside the crop in 98 %, without a mask to help."""
    spacing, contained = (10.0, 1.5625, 1.5625), []
    for folder in sorted((real_data / "acdc" / "training").iterdir()):
        masks = sorted(folder.glob("*_gt.nii.gz"))
        frames = [mask.with_name(mask.name.replace("_gt", "")) for mask in masks]
        cine = np.stack([np.asarray(nib.load(frame).dataobj).T for frame in frames])
        places = np.argwhere(np.stack([np.asarray(nib.load(mask).dataobj).T for mask in masks]))[:, 2:]
        heart = find_heart(cine, spacing)
        contained.append(np.abs((places - (heart.row, heart.col)) * spacing[1:]).max() <= 80.0)
    assert len(contained) == 60
    assert np.mean(contained) >= 0.98


@pytest.mark.slow
@pytest.mark.real_data
def test_real_left_ventricles_of_another_vendor_lie_within_the_crop(real_data: Path) -> None:
    """Sunnybrook, whole cines: every contour, at end-diastole and end-systole."""
    studies = list(read_sunnybrook(real_data / "sunnybrook"))
    assert len(studies) == 3
    for study in studies:
        cine, affine = orient_short_axis(study.cine, study.affine)
        outline, _ = orient_short_axis(study.outline, study.affine)
        heart, spacing = find_heart(cine, spacing_mm(affine)), spacing_mm(affine)
        places = np.argwhere(outline)[:, 2:]
        assert np.abs((places - (heart.row, heart.col)) * spacing[1:]).max() <= 80.0
