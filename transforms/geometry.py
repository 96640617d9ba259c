"""Where a voxel lies: orientation of short-axis stacks, resampling in mm.

Arrays are ``(…, slices, rows, cols)``. Affines are NIfTI's: 4 x 4, columns for cols, rows, slices, in millimetres,
axes towards the patient's Right, Anterior, Superior (RAS), so ``volume[…, s, r, c]`` lies at ``affine @ (c, r, s, 1)``.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Affine = NDArray[np.float64]

# Directions in RAS. The small parts decide between views that the anatomy alone leaves equal.
_ALONG_COLS = np.array([-1.0, -0.02, 0.01])  # patient left
_ALONG_ROWS = np.array([0.003, -0.71, -0.70])  # posterior and inferior
_BASE_TO_APEX = np.array([-1.0, 1.01, -0.99])  # left, anterior, inferior
_AXIAL = 0.999  # cosine: a slice normal nearer to the body axis than 2.6 degrees


def spacing_mm(affine: ArrayLike) -> tuple[float, float, float]:
    """Distance between neighbouring slices, rows and columns.

    Args:
        affine: 4 x 4, RAS [mm]; its directions need not be orthonormal.

    Returns:
        ``(slices, rows, cols)`` [mm].

    Raises:
        ValueError: if a distance is not positive and finite.

    Example:
        >>> spacing_mm(np.diag([1.5, 2.0, 10.0, 1.0]))
        (10.0, 2.0, 1.5)
    """
    lengths = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError(f"voxel spacing must be positive [mm]; got {lengths.tolist()}; correct the image's affine")
    cols, rows, slices = lengths.tolist()
    return slices, rows, cols


def orient_short_axis(volume: NDArray[np.generic], affine: ArrayLike) -> tuple[NDArray[np.generic], Affine]:
    """Show a short-axis stack the way it is read: columns towards the patient's left, base first.

    Of the 8 flips and transpositions in the plane, the one is taken in which columns run most towards the left and
    rows most towards posterior and inferior. Slices run from base to apex, which lies to the left, anterior and
    inferior. No short-axis stack is axial: a slice normal along the body axis means that the orientation was lost
    on the way, and then the stored order of the slices stands.

    Args:
        volume: ``(…, slices, rows, cols)``.
        affine: 4 x 4, RAS [mm].

    Returns:
        The volume (a view) and the affine that belongs to it.

    Raises:
        ValueError: if the affine has an axis without length.
    """
    affine = np.array(affine, dtype=np.float64)
    spacing_mm(affine)
    transpose, flip_rows, flip_cols = _best_view(_directions(affine))
    if transpose:
        volume, affine = np.swapaxes(volume, -1, -2), affine[:, [1, 0, 2, 3]]
    normal = _directions(affine)[:, 2]
    flip_slices = abs(normal[2]) < _AXIAL and float(normal @ _BASE_TO_APEX) < 0
    for axis, flip in ((-1, flip_cols), (-2, flip_rows), (-3, flip_slices)):
        if flip:
            affine = _flipped(affine, -1 - axis, volume.shape[axis])
            volume = np.flip(volume, axis)
    return volume, affine


def resampling_matrix(
    n_in: int, spacing_in: float, n_out: int, spacing_out: float, centre_in: float
) -> NDArray[np.float32]:
    r"""Linear interpolation along one axis as a matrix, with the field of view beyond the data filled with zeros.

    .. math:: M_{ji} = k\left(\frac{i - x_j}{w}\right) \Big/ \sum_{i \in \mathbb{Z}} k\left(\frac{i - x_j}{w}\right),
        \quad k(t) = \max(0, 1 - |t|), \quad w = \max(1, s_{out} / s_{in})

    with :math:`x_j` the place of output sample j in input samples. The triangle widens with coarser sampling, so
    that fine detail is averaged and does not fold over.

    Args:
        n_in: samples of the input.
        spacing_in: distance between them [mm].
        n_out: samples of the output.
        spacing_out: distance between them [mm].
        centre_in: where the middle of the output lies, as an index of the input.

    Returns:
        ``(n_out, n_in)``; a row sums to 1 where its triangle lies within the input.

    Raises:
        ValueError: if a number of samples or a spacing is not positive.

    Example:
        >>> resampling_matrix(3, 1.0, 2, 1.0, 1.0).tolist()
        [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """
    if min(n_in, n_out) < 1 or not (spacing_in > 0 and spacing_out > 0):
        raise ValueError(
            f"samples and spacings must be positive; got {n_in} at {spacing_in} mm and {n_out} at {spacing_out} mm"
        )
    step = spacing_out / spacing_in
    width = max(1.0, step)
    places = centre_in + (np.arange(n_out) - (n_out - 1) / 2) * step
    reach = int(np.ceil(width))
    index = np.floor(places)[:, None] + np.arange(-reach, reach + 2)
    weights = np.maximum(0.0, 1.0 - np.abs(index - places[:, None]) / width)
    weights /= weights.sum(axis=1, keepdims=True)
    inside = (index >= 0) & (index < n_in)
    matrix = np.zeros((n_out, n_in), dtype=np.float32)
    row = np.broadcast_to(np.arange(n_out)[:, None], index.shape)
    matrix[row[inside], index[inside].astype(np.intp)] = weights[inside]
    return matrix


def resample_crop(
    volume: ArrayLike,
    centre: tuple[float, float],
    spacing: tuple[float, float],
    out_shape: tuple[int, int],
    out_spacing: float,
) -> NDArray[np.float32]:
    """Resample in the plane and crop around a centre: one product per axis.

    Args:
        volume: ``(…, rows, cols)``.
        centre: ``(row, col)``, as fractional indices of the input; the middle of the output.
        spacing: ``(rows, cols)`` of the input [mm].
        out_shape: ``(rows, cols)`` of the output.
        out_spacing: of the output, both axes [mm].

    Returns:
        float32 ``(…, *out_shape)``; 0 beyond the input.

    Raises:
        ValueError: if a shape or a spacing is not positive.
    """
    values = np.asarray(volume)
    rows, cols = (
        resampling_matrix(values.shape[axis], spacing[axis], out_shape[axis], out_spacing, centre[axis])
        for axis in (-2, -1)
    )
    return plane_product(rows, cols, values)


def plane_product(rows: NDArray[np.float32], cols: NDArray[np.float32], values: NDArray[Any]) -> NDArray[np.float32]:
    """Apply one matrix along the rows' axis and one along the columns', image by image.

    Only pixels that have a part in the result are read, and no more than one image is held as float32.

    Args:
        rows: ``(n_out, n_in)``.
        cols: likewise.
        values: ``(…, rows, cols)``, any type of number.

    Returns:
        float32 ``(…, n_out, n_out)``.
    """
    by_row, by_col = seen(rows), seen(cols)  # a product with all of the image would cost four times as much
    near, rows, cols = values[..., by_row, by_col], rows[:, by_row], cols[:, by_col]
    made = np.empty((*values.shape[:-2], len(rows), len(cols)), dtype=np.float32)
    for index in np.ndindex(values.shape[:-2]):
        across = np.ascontiguousarray(near[index], dtype=np.float32) @ cols.T
        made[index] = (np.ascontiguousarray(across.T) @ rows.T).T
    return made


def product(matrix: NDArray[Any], values: NDArray[np.float32], *, axis: int) -> NDArray[np.float32]:
    """Apply a matrix along one axis of an array, as one large product instead of many small ones.

    Args:
        matrix: ``(n_out, n_in)``, float32 or float64.
        values: ``n_in`` samples along ``axis``; any strides, flipped views too.
        axis: of ``values``.

    Returns:
        float32; ``n_out`` samples along ``axis``, the other axes as they were.
    """
    before = np.moveaxis(values, axis, -1)
    flat = np.ascontiguousarray(before).reshape(-1, before.shape[-1])
    after = (flat @ matrix.T).reshape(*before.shape[:-1], len(matrix))
    return np.asarray(np.moveaxis(after, -1, axis), dtype=np.float32)


def resample_slices(volume: ArrayLike, n_slices: int) -> NDArray[np.float32]:
    """Bring a stack to a fixed number of slices, evenly from its first to its last.

    Args:
        volume: ``(…, slices, rows, cols)``.
        n_slices: of the output; 1 takes the middle of the stack.

    Returns:
        float32 ``(…, n_slices, rows, cols)``; a stack of one slice is repeated.

    Raises:
        ValueError: if ``n_slices`` is not positive or the stack is empty.
    """
    values = np.asarray(volume, dtype=np.float32)
    n_in = values.shape[-3]
    spacing = (n_in - 1) / (n_slices - 1) if n_in > 1 and n_slices > 1 else 1e-6
    matrix = resampling_matrix(n_in, 1.0, n_slices, spacing, (n_in - 1) / 2)
    matrix /= matrix.sum(axis=1, keepdims=True)  # the ends are means of fewer slices, not darker
    return product(matrix, values, axis=-3)


def seen(matrix: NDArray[np.float32]) -> slice:
    """Input samples that have a part in the output of a resampling matrix ``(n_out, n_in)``."""
    used = np.flatnonzero(matrix.any(axis=0))
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)


def _directions(affine: Affine) -> Affine:
    matrix = affine[:3, :3]
    return np.asarray(matrix / np.linalg.norm(matrix, axis=0))


def _best_view(directions: Affine) -> tuple[bool, bool, bool]:
    """Whether to transpose the plane, then flip rows, then flip columns."""

    def score(view: tuple[bool, bool, bool]) -> float:
        transpose, flip_rows, flip_cols = view
        cols, rows = directions[:, int(transpose)], directions[:, int(not transpose)]
        along_cols, along_rows = float(cols @ _ALONG_COLS), float(rows @ _ALONG_ROWS)
        return (-along_cols if flip_cols else along_cols) + (-along_rows if flip_rows else along_rows)

    views = itertools.product((False, True), repeat=3)
    return max(((bool(t), bool(r), bool(c)) for t, r, c in views), key=score)


def _flipped(affine: Affine, column: int, size: int) -> Affine:
    """The affine after the axis of ``column`` (0 cols, 1 rows, 2 slices) with ``size`` samples was reversed."""
    flipped = affine.copy()
    flipped[:3, 3] += (size - 1) * affine[:3, column]
    flipped[:3, column] *= -1
    return flipped
