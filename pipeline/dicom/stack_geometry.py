"""Where slices lie: places along a normal, the affine of a stack, and whether it crosses the heart's long axis.

Everything is in the patient's coordinates of DICOM, LPS (left, posterior, superior positive) [mm]; only
:func:`fit_affine` returns RAS, as NIfTI has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.dicom.refusal import Code, Refusal

Floats = NDArray[np.float64]

BASE_TO_APEX = (0.65, -0.65, -0.40)
"""Direction of the left ventricle's long axis, LPS: to the left, forwards, down.

Three real studies have normals within 6 degrees of it (the sign of a normal means nothing).
"""
SHORT_AXIS_CONE_DEG = 40.0
"""Half-angle around :data:`BASE_TO_APEX` that still counts as short axis.

Hearts lie up to about 25 degrees off the common axis, and a planned stack a few degrees off the heart. Sagittal
and coronal normals are 50 degrees away, axial ones 66. The normal of a two-, three- or four-chamber view is at right
angles to the heart's own axis, so at least 65 degrees from the common one. A heart on the right side falls outside,
and is refused rather than misread.
"""
LONG_AXIS_FROM_DEG = 60.0

SMALLEST_GAP_MM = 0.5  # images nearer than this are of one place whatever the others do
PLACE_TOLERANCE = 0.2  # of the median gap
UNEVEN_GAPS_CV = 0.05
LARGEST_GAP_DEVIATION = 0.25  # of the median gap
LARGEST_SHIFT_MM = 5.0  # of a slice in its plane, against the line of the others; about what breathing does
NOTICEABLE_SHIFT_MM = 0.5
NOTICEABLE_TILT_DEG = 0.5


def axes_of(orientation: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Direction along a row, down a column, and their cross product, each of length 1.

    Args:
        orientation: six cosines.
    """
    row, column = np.asarray(orientation, dtype=float).reshape(2, 3)
    row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    normal = np.cross(row, column)
    return row, column, normal / np.linalg.norm(normal)


def angle_between(a: ArrayLike, b: ArrayLike) -> float:
    """Angle between two directions [degrees], 0 to 180.

    Example:
        >>> angle_between([1, 0, 0], [0, 2, 0])
        90.0
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(first, second)), first @ second)))


def tilt_between(a: ArrayLike, b: ArrayLike) -> float:
    """Largest angle between the axes of two orientations [degrees]; rotation in the plane counts, too."""
    return max(angle_between(one, other) for one, other in zip(axes_of(a), axes_of(b), strict=True))


def off_short_axis(orientation: ArrayLike) -> float:
    """Angle between a normal and the common long axis of hearts [degrees], 0 to 90, whichever side it points to."""
    angle = angle_between(axes_of(orientation)[2], BASE_TO_APEX)
    return min(angle, 180 - angle)


def places(depths_mm: ArrayLike) -> NDArray[np.intp]:
    """Number the places along a normal: images nearer than a fifth of the median gap are at one place.

    Args:
        depths_mm: ``(n,)``, positions along the normal.

    Returns:
        ``(n,)``, place of each image, from 0, upwards.

    Example:
        >>> places([20.0, 0.0, 10.001, 10.0]).tolist()
        [2, 0, 1, 1]
    """
    depths = np.asarray(depths_mm, dtype=float)
    order = np.argsort(depths, kind="stable")
    gaps = np.diff(depths[order])
    between = gaps[gaps > SMALLEST_GAP_MM]
    tolerance = max(SMALLEST_GAP_MM, PLACE_TOLERANCE * float(np.median(between))) if between.size else SMALLEST_GAP_MM
    numbers = np.zeros(depths.size, dtype=np.intp)
    numbers[order[1:]] = np.cumsum(gaps > tolerance)
    return numbers


def check_gaps(depths_mm: ArrayLike) -> list[str]:
    """Check that slices follow each other at one distance. A slice that is missing at an end cannot be seen here.

    Args:
        depths_mm: ``(slices,)``, upwards.

    Returns:
        Warnings: ``UNEVEN_GAPS`` where the distances vary by more than 5 % (coefficient of variation).

    Raises:
        Refusal: MISSING_SLICE where a gap is a multiple of the others; MIXED_GEOMETRY where one is more than a
            quarter off in another way.
    """
    gaps = np.diff(np.asarray(depths_mm, dtype=float))
    usual = _usual_gap(gaps)
    ratios = gaps / usual
    steps = np.rint(ratios)
    if np.any(steps > 1) and np.all(np.abs(ratios - steps) < LARGEST_GAP_DEVIATION):
        at = int(np.argmax(steps > 1))
        raise Refusal(
            Code.MISSING_SLICE,
            f"slices {at + 1} and {at + 2} of {gaps.size + 1} are {gaps[at]:.1f} mm apart, others {usual:.1f} mm",
        )
    if np.any(np.abs(ratios - 1) > LARGEST_GAP_DEVIATION):
        raise Refusal(Code.MIXED_GEOMETRY, f"slices are between {gaps.min():.1f} and {gaps.max():.1f} mm apart")
    if gaps.std() / gaps.mean() > UNEVEN_GAPS_CV:
        return [f"UNEVEN_GAPS: slices are between {gaps.min():.1f} and {gaps.max():.1f} mm apart"]
    return []


def _usual_gap(gaps: Floats) -> float:
    """Median of the gaps that are as small as the smallest: the distance of neighbours, even where many are missing."""
    return float(np.median(gaps[gaps < gaps.min() * (1 + LARGEST_GAP_DEVIATION)]))


def fit_affine(
    positions: ArrayLike, orientations: ArrayLike, pixel_spacing: tuple[float, float], shape: tuple[int, int]
) -> tuple[Floats, list[str]]:
    """Affine of a stack whose slices lie on a line.

    Args:
        positions: ``(slices, 3)``, middle of each slice's first pixel, LPS [mm], in order.
        orientations: ``(slices, 6)``.
        pixel_spacing: between rows, between columns [mm].
        shape: rows, columns.

    Returns:
        ``(4, 4)``, RAS [mm]: ``affine @ (column, row, slice, 1)`` is the middle of a voxel; and warnings:
        ``SHIFTED_SLICES`` where slices lie up to 5 mm off the line, ``TILTED_SLICES`` where they are turned against
        each other. The line is fitted, so that a shift of one slice moves the others little.

    Raises:
        Refusal: MIXED_GEOMETRY if a slice lies further off the line than that, or the line leans so far that the
            last slice is shifted by more than half a field of view against the first.
    """
    places_mm, turned = np.asarray(positions, dtype=float), np.asarray(orientations, dtype=float)
    row, column, _ = axes_of(turned.mean(axis=0))
    origin, step = _line(places_mm)
    index = np.arange(len(places_mm))[:, None]
    shift = float(np.linalg.norm(places_mm - origin - index * step, axis=1).max())
    lean = (len(places_mm) - 1) * np.abs([step @ column, step @ row])
    if shift > LARGEST_SHIFT_MM or np.any(lean > np.multiply(shape, pixel_spacing) / 2):
        raise Refusal(Code.MIXED_GEOMETRY, f"slices are shifted against each other by {max(shift, *lean):.1f} mm")
    warnings = []
    if shift > NOTICEABLE_SHIFT_MM:
        warnings.append(f"SHIFTED_SLICES: slices lie up to {shift:.1f} mm off the line of the stack")
    tilt = max(tilt_between(one, turned.mean(axis=0)) for one in turned)
    if tilt > NOTICEABLE_TILT_DEG:
        warnings.append(f"TILTED_SLICES: slices are turned by up to {tilt:.1f} degrees against the stack")
    affine = np.eye(4)
    affine[:3] = np.column_stack([row * pixel_spacing[1], column * pixel_spacing[0], step, origin])
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, warnings


def _line(positions: Floats) -> tuple[Floats, Floats]:
    """First point and step of the line through equally spaced points, by least squares."""
    index = np.arange(len(positions)) - (len(positions) - 1) / 2
    middle = positions.mean(axis=0)
    step = index @ (positions - middle) / (index @ index)
    return middle + index[0] * step, step
