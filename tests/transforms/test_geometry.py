"""Orientation, resampling and cropping: the same place in the patient before and after."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from transforms.geometry import (
    orient_short_axis,
    plane_product,
    product,
    resample_crop,
    resample_slices,
    resampling_matrix,
    seen,
    spacing_mm,
)

SHORT_AXIS = np.array(  # a usual short-axis stack: columns to the left and back, rows down, base to apex, in RAS
    [[-0.72, -0.35, -0.60], [-0.62, -0.06, 0.78], [0.31, -0.93, -0.18]]
)


def affine_of(directions: np.ndarray, spacing: tuple[float, float, float] = (1.4, 1.6, 9.0)) -> np.ndarray:
    """NIfTI affine of directions for cols, rows, slices."""
    affine = np.eye(4)
    affine[:3, :3] = directions / np.linalg.norm(directions, axis=0) * spacing
    affine[:3, 3] = (30.0, -20.0, 10.0)
    return affine


def stored_otherwise(
    volume: np.ndarray, affine: np.ndarray, transpose: bool, flips: tuple[bool, bool, bool]
) -> tuple[np.ndarray, np.ndarray]:
    """The same study with other axes in the file: built by index, apart from the code under test."""
    order = (1, 0, 2) if transpose else (0, 1, 2)
    nifti = np.transpose(volume.T, (*order, *range(3, volume.ndim)))
    matrix = affine @ np.eye(4)[:, [*order, 3]]
    for axis, flip in enumerate(flips):
        if flip:
            mirror = np.eye(4)
            mirror[axis, axis], mirror[axis, 3] = -1, nifti.shape[axis] - 1
            nifti, matrix = np.flip(nifti, axis), matrix @ mirror
    return nifti.T, matrix


def test_spacing_is_the_length_of_the_affines_columns_in_the_arrays_order() -> None:
    assert spacing_mm(affine_of(SHORT_AXIS)) == pytest.approx((9.0, 1.6, 1.4))


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_an_axis_without_length_is_refused(bad: float) -> None:
    affine = np.diag([1.5, bad, 10.0, 1.0])
    with pytest.raises(ValueError, match="spacing must be positive"):
        spacing_mm(affine)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
def test_orientation_does_not_depend_on_how_the_file_stores_its_axes(
    transpose: bool, flips: tuple[bool, bool, bool]
) -> None:
    """All 16 ways to store one stack come out as one array with one affine."""
    volume = np.random.default_rng(0).random((2, 5, 7, 6))
    expected, expected_affine = orient_short_axis(volume, affine_of(SHORT_AXIS))
    got, affine = orient_short_axis(*stored_otherwise(volume, affine_of(SHORT_AXIS), transpose, flips))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_allclose(affine, expected_affine, atol=1e-9)


def test_a_stack_that_is_read_already_stays_as_it_is() -> None:
    """Columns run left, rows down and back, slices towards the apex: nothing is left to turn."""
    volume = np.random.default_rng(0).random((5, 7, 6))
    got, affine = orient_short_axis(volume, affine_of(SHORT_AXIS))
    np.testing.assert_array_equal(got, volume)
    np.testing.assert_array_equal(affine, affine_of(SHORT_AXIS))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_orientation_moves_no_voxel_in_the_patient(seed: int) -> None:
    """Each value lies at the same millimetres before and after; directions are arbitrary, not orthonormal."""
    rng = np.random.default_rng(seed)
    affine = affine_of(rng.normal(size=(3, 3)))
    index = np.moveaxis(np.indices((3, 4, 5)), 0, -1)
    places = index[..., ::-1] @ affine[:3, :3].T + affine[:3, 3]
    oriented, oriented_affine = orient_short_axis(np.moveaxis(places, -1, 0), affine)
    again = np.moveaxis(np.indices(oriented.shape[1:]), 0, -1)
    expected = again[..., ::-1] @ oriented_affine[:3, :3].T + oriented_affine[:3, 3]
    np.testing.assert_allclose(np.moveaxis(oriented, 0, -1), expected, atol=1e-6)


def test_an_axial_affine_is_no_short_axis_and_leaves_the_order_of_slices() -> None:
    """A placeholder affine says nothing of base and apex; in either sense the stored order stands."""
    volume = np.arange(4.0)[:, None, None] * np.ones((4, 2, 2))
    for step in (10.0, -10.0):
        oriented, _ = orient_short_axis(volume, np.diag([-1.5, -1.5, step, 1.0]))
        np.testing.assert_array_equal(oriented[:, 0, 0], np.arange(4.0))


def test_resampling_to_the_same_grid_is_the_identity() -> None:
    np.testing.assert_allclose(resampling_matrix(9, 1.3, 9, 1.3, 4.0), np.eye(9), atol=1e-6)


def test_a_shift_by_whole_samples_moves_and_fills_with_zeros() -> None:
    """Centre at 3 in place of 2: every sample moves one to the front, and beyond the end there is nothing."""
    moved = resampling_matrix(5, 2.0, 5, 2.0, 3.0) @ np.arange(1.0, 6.0)
    np.testing.assert_allclose(moved, [2, 3, 4, 5, 0])


@settings(max_examples=80, deadline=None)
@given(st.integers(20, 60), st.floats(0.6, 2.0), st.integers(1, 20), st.floats(0.5, 4.0), st.floats(0.0, 1.0))
def test_a_constant_stays_constant_where_the_triangle_lies_inside(
    n_in: int, spacing_in: float, n_out: int, spacing_out: float, where: float
) -> None:
    matrix = resampling_matrix(n_in, spacing_in, n_out, spacing_out, where * (n_in - 1))
    places = where * (n_in - 1) + (np.arange(n_out) - (n_out - 1) / 2) * spacing_out / spacing_in
    width = max(1.0, spacing_out / spacing_in)
    inside = (places >= width) & (places <= n_in - 1 - width)
    np.testing.assert_allclose(matrix.sum(axis=1)[inside], 1.0, atol=1e-5)
    assert matrix.sum(axis=1).max() <= 1 + 1e-5
    assert matrix.min() >= 0


def test_refining_agrees_with_scipys_linear_interpolation() -> None:
    """Without coarsening there is no widening: plain linear interpolation, zeros outside."""
    volume = np.random.default_rng(1).random((3, 20, 24)).astype(np.float32)
    got = resample_crop(volume, (9.3, 12.8), (1.5, 1.25), (16, 18), 1.1)
    rows, cols = (c + (np.arange(n) - (n - 1) / 2) * 1.1 / s for c, n, s in ((9.3, 16, 1.5), (12.8, 18, 1.25)))
    grid = np.meshgrid(rows, cols, indexing="ij")
    expected = np.stack([map_coordinates(image, grid, order=1, mode="grid-constant") for image in volume])
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_coarsening_agrees_with_torchs_antialiased_interpolation() -> None:
    """32 to 13 samples; torch renormalises at the border, so only the interior is compared."""
    image = np.random.default_rng(2).random((1, 1, 32, 32)).astype(np.float32)
    got = resample_crop(image, (15.5, 15.5), (1.0, 1.0), (13, 13), 32 / 13)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image), size=(13, 13), mode="bilinear", antialias=True
    ).numpy()
    np.testing.assert_allclose(got[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5)


def test_a_flipped_view_resamples_like_its_copy() -> None:
    volume = np.random.default_rng(3).random((2, 3, 10, 12)).astype(np.float32)[:, :, ::-1, ::-1]
    settings_ = ((4.0, 5.0), (1.0, 1.0), (6, 6), 1.7)
    np.testing.assert_array_equal(resample_crop(volume, *settings_), resample_crop(volume.copy(), *settings_))


@pytest.mark.parametrize("axis", [-3, -2, -1, 0])
def test_a_product_along_an_axis_is_that_of_tensordot(axis: int) -> None:
    values = np.random.default_rng(4).random((4, 4, 4, 4)).astype(np.float32)
    matrix = np.random.default_rng(5).random((3, 4)).astype(np.float32)
    expected = np.moveaxis(np.tensordot(matrix, values, axes=(1, axis)), 0, axis)
    np.testing.assert_allclose(product(matrix, values, axis=axis), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float64])
def test_the_product_in_the_plane_is_the_one_along_each_axis_to_the_last_bit(kind: type) -> None:
    """Prepared studies are compared by their bytes: how the product is written must not change one."""
    values = (1000 * np.random.default_rng(6).random((3, 2, 40, 31))).astype(kind)[..., ::-1]
    rows, cols = resampling_matrix(40, 1.4, 21, 3.0, 17.3), resampling_matrix(31, 1.6, 21, 3.0, 16.1)
    by_row, by_col = seen(rows), seen(cols)
    made = plane_product(rows, cols, values)
    for index in np.ndindex(3, 2):
        near = values[index][by_row, by_col].astype(np.float32)
        expected = product(rows[:, by_row], product(cols[:, by_col], near, axis=-1), axis=-2)
        assert made[index].tobytes() == expected.tobytes()


def test_slices_run_from_the_first_to_the_last_of_the_stack() -> None:
    """Refining 3 slices to 5 puts one half way between neighbours."""
    stack = np.array([0.0, 10.0, 40.0])[:, None, None]
    np.testing.assert_allclose(resample_slices(stack, 5)[:, 0, 0], [0, 5, 10, 25, 40], atol=1e-5)


@pytest.mark.parametrize(("n_in", "n_out"), [(17, 8), (6, 8), (8, 8), (1, 8), (9, 1)])
def test_a_stack_of_equal_slices_stays_so_at_its_ends_too(n_in: int, n_out: int) -> None:
    got = resample_slices(np.full((2, n_in, 3, 3), 7.0), n_out)
    assert got.shape == (2, n_out, 3, 3)
    np.testing.assert_allclose(got, 7.0, rtol=1e-6)


def test_one_slice_of_many_is_the_middle_of_the_stack() -> None:
    stack = np.array([1.0, 5.0, 100.0])[:, None, None]
    np.testing.assert_allclose(resample_slices(stack, 1), [[[5.0]]], rtol=1e-5)


@pytest.mark.parametrize("bad", [(0, 1.0, 3, 1.0), (3, 1.0, 0, 1.0), (3, 0.0, 3, 1.0), (3, 1.0, 3, float("nan"))])
def test_samples_and_spacings_that_are_not_positive_are_refused(bad: tuple[int, float, int, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        resampling_matrix(*bad, 1.0)
