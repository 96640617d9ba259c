"""Places, gaps, affines and the view: values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.stack_geometry import (
    SHORT_AXIS_CONE_DEG,
    check_gaps,
    fit_affine,
    off_short_axis,
    places,
    tilt_between,
)

AXIAL = [1.0, 0, 0, 0, 1, 0]


def code_of(call: object, *args: object) -> Code:
    with pytest.raises(Refusal) as caught:
        call(*args)  # type: ignore[operator]
    return caught.value.code


def line(slices: int, step: tuple[float, float, float] = (0.0, 0.0, 10.0)) -> np.ndarray:
    return np.arange(slices)[:, None] * np.asarray(step)


def test_rounding_and_jitter_make_no_places_of_their_own() -> None:
    """20 images in each of 3 places, rounded to a thousandth, in any order."""
    depths = np.repeat([30.0, 10.0, 20.0], 20) + np.random.default_rng(0).uniform(-1e-3, 1e-3, 60)
    assert places(depths).tolist() == [2] * 20 + [0] * 20 + [1] * 20


def test_a_single_place_is_one_even_where_positions_jitter() -> None:
    """Without a second place there is no gap to measure by."""
    assert places([4.0, 4.3, 4.1]).tolist() == [0, 0, 0]
    assert places([4.0]).tolist() == [0]


@pytest.mark.parametrize("depths", [[0, 10, 20, 40, 50, 60], [0, 10, 40, 50, 60, 70], [0, 20, 40, 60, 70, 90]])
def test_a_gap_of_several_steps_is_a_missing_slice(depths: list[float]) -> None:
    """One of 2 steps, one of 3; and where most gaps are double, the smallest tells the step."""
    assert code_of(check_gaps, depths) is Code.MISSING_SLICE


def test_a_gap_of_one_and_a_half_steps_is_no_stack() -> None:
    assert code_of(check_gaps, [0, 10, 20, 35, 45, 55]) is Code.MIXED_GEOMETRY


def test_uneven_gaps_are_a_warning_from_five_percent_on() -> None:
    """Gaps 9 and 11 in turn: standard deviation 1 (0.98 of five), mean 9.8; then 9.8 and 10.2."""
    assert check_gaps([0, 9, 20, 29, 40, 49])[0].startswith("UNEVEN_GAPS: slices are between 9.0 and 11.0 mm apart")
    assert check_gaps([0, 9.8, 20, 29.8, 40, 49.8]) == []


def test_the_affine_is_the_one_worked_out_by_hand() -> None:
    """Axial slices, 2 mm between rows, 3 mm between columns, 10 mm between slices; LPS (7, 8, 9) is RAS (-7, -8, 9)."""
    affine, warnings = fit_affine(line(6) + np.array([7, 8, 9]), [AXIAL] * 6, (2.0, 3.0), (100, 100))
    assert np.allclose(affine, [[-3, 0, 0, -7], [0, -2, 0, -8], [0, 0, 10, 9], [0, 0, 0, 1]])
    assert warnings == []


def test_an_oblique_affine_maps_the_first_pixel_of_each_slice_to_its_position() -> None:
    """Rounded to a thousandth as in headers, the positions come back within a hundredth of a millimetre."""
    random = np.random.default_rng(3)
    row, column = np.linalg.qr(random.normal(size=(3, 3)))[0][:2]
    positions = (random.uniform(-100, 100, 3) + np.arange(12)[:, None] * 9.7 * np.cross(row, column)).round(3)
    affine, _ = fit_affine(positions, [[*row, *column]] * 12, (1.3, 1.4), (200, 200))
    found = (affine @ np.array([[0, 0, s, 1] for s in range(12)]).T)[:3].T * [-1, -1, 1]
    assert np.abs(found - positions).max() < 0.01


@pytest.mark.parametrize(("shift", "said"), [(0.3, []), (3.0, ["SHIFTED_SLICES"])])
def test_a_slice_that_was_planned_a_little_aside_is_a_warning(shift: float, said: list[str]) -> None:
    positions = line(8)
    positions[3, 0] += shift
    _, warnings = fit_affine(positions, [AXIAL] * 8, (1.0, 1.0), (100, 100))
    assert [warning.split(":")[0] for warning in warnings] == said


def test_a_slice_that_lies_far_aside_cannot_share_an_affine() -> None:
    positions = line(8)
    positions[3, 0] += 12
    assert code_of(fit_affine, positions, [AXIAL] * 8, (1.0, 1.0), (100, 100)) is Code.MIXED_GEOMETRY


def test_a_stack_may_lean_up_to_half_a_field_of_view() -> None:
    """8 slices that move 5 mm sideways each are 35 mm off at the end: less than half of 100 mm, more than of 60."""
    positions = line(8, (5.0, 0.0, 10.0))
    affine, _ = fit_affine(positions, [AXIAL] * 8, (1.0, 1.0), (100, 100))
    assert np.allclose(affine[:3, 2], [-5, 0, 10])
    assert code_of(fit_affine, positions, [AXIAL] * 8, (1.0, 1.0), (60, 60)) is Code.MIXED_GEOMETRY


def test_slices_turned_against_each_other_are_a_warning() -> None:
    """One of them by 1.5 degrees about the row."""
    turned = [1, 0, 0, 0, np.cos(np.radians(1.5)), np.sin(np.radians(1.5))]
    _, warnings = fit_affine(line(8), [AXIAL] * 7 + [turned], (1.0, 1.0), (100, 100))
    assert warnings[0].startswith("TILTED_SLICES")


def test_tilt_counts_rotation_in_the_plane() -> None:
    """A matrix turned by 90 degrees has the same normal, but its rows run elsewhere."""
    assert tilt_between(AXIAL, [0, 1, 0, -1, 0, 0]) == pytest.approx(90)
    assert tilt_between(AXIAL, AXIAL) == 0


@pytest.mark.parametrize(
    ("name", "orientation", "expected"),
    [
        ("axial", AXIAL, 66.5),
        ("coronal", [1, 0, 0, 0, 0, -1], 49.6),
        ("sagittal", [0, 1, 0, 0, 0, -1], 49.6),
    ],
)
def test_pure_planes_fall_outside_the_cone(name: str, orientation: list[float], expected: float) -> None:
    """The arccos of 0.40 and 0.65 over the axis' length, 1.0025: 66.5 and 49.6 degrees."""
    assert off_short_axis(orientation) == pytest.approx(expected, abs=0.1)
    assert off_short_axis(orientation) > SHORT_AXIS_CONE_DEG


def test_short_axes_of_hearts_that_lie_otherwise_fall_inside_and_long_axis_views_outside() -> None:
    """Hearts up to 25 degrees off, their stacks 10 more; the planes along the axis of each of them."""
    random = np.random.default_rng(0)
    axis = np.array([0.65, -0.65, -0.40]) / np.linalg.norm([0.65, -0.65, -0.40])
    for _ in range(200):
        aside = np.cross(axis, random.normal(size=3))
        aside /= np.linalg.norm(aside)
        heart = np.cos(np.radians(25)) * axis + np.sin(np.radians(25)) * aside
        row = np.cross(heart, random.normal(size=3))
        row /= np.linalg.norm(row)
        column = np.cross(heart, row)
        assert off_short_axis([*row, *column]) < SHORT_AXIS_CONE_DEG
        assert off_short_axis([*heart, *row]) > SHORT_AXIS_CONE_DEG


def test_the_side_a_normal_points_to_means_nothing() -> None:
    assert off_short_axis(AXIAL) == pytest.approx(off_short_axis([0, 1, 0, 1, 0, 0]))
