"""Hearts painted over a chest as tissue signals on a short-axis grid, and the labels that belong to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.cohort.phantom_heart import (
    Array,
    HeartState,
    Pose,
    epicardium,
    lv_profile,
    rv_profile,
    rv_share,
    septal_share,
)

LV, MYO, RV = 1, 2, 3  # M&Ms' labels

_RV_WALL_MM, _ATRIAL_WALL_MM = 3.0, 2.5
_SUB_SLICES = 4  # heights averaged into one slice: partial volume through the plane


@dataclass(frozen=True)
class HeartGrid:
    """Pixels near the heart: the box they fill in ``(slices, rows, cols)``, and in it, per pixel, polar coordinates.

    Attributes:
        box: index of the part of the image.
        distance: from the long axis [mm].
        angle: from the septum's direction, in [-pi, pi).
        septal_share: of septal thickness, against lateral, in the wall.
        rv_share: of the right ventricle's full depth.
    """

    box: tuple[slice, slice, slice]
    distance: Array
    angle: Array
    septal_share: Array
    rv_share: Array


def pixel_grid(pose: Pose) -> tuple[Array, Array]:
    """Positions ``y (rows, 1)`` and ``x (1, cols)`` [mm] from the middle of the image."""
    y = (np.arange(pose.rows) - (pose.rows - 1) / 2) * pose.spacing_mm
    x = (np.arange(pose.cols) - (pose.cols - 1) / 2) * pose.spacing_mm
    return y[:, None].astype(np.float32), x[None, :].astype(np.float32)


def heart_grid(states: Sequence[HeartState], pose: Pose) -> HeartGrid:
    """Polar coordinates of the pixels that the heart can touch in any of its states."""
    y, x = pixel_grid(pose)
    reach = max(state.radius_mm + state.septal_mm + state.rv_depth_mm for state in states)
    reach += pose.fat_mm + 8 + max(map(abs, pose.tilt)) * pose.long_axis_mm
    rows = np.flatnonzero(np.abs(y[:, 0] - pose.centre_mm[1]) < reach)
    cols = np.flatnonzero(np.abs(x[0] - pose.centre_mm[0]) < reach)
    box = (slice(None), slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    height = (pose.heights_mm - pose.long_axis_mm / 2)[:, None, None]
    dx = x[None, :, box[2]] - (pose.centre_mm[0] + pose.tilt[0] * height)
    dy = y[None, box[1], :] - (pose.centre_mm[1] + pose.tilt[1] * height)
    angle = (np.arctan2(dy, dx) - pose.septum_rad + np.pi) % (2 * np.pi) - np.pi
    distance: Array = np.hypot(dx, dy).astype(np.float32)
    direction: Array = angle.astype(np.float32)
    return HeartGrid(box, distance, direction, septal_share(direction), rv_share(direction))


def render_heart(
    state: HeartState, pose: Pose, grid: HeartGrid, background: Array, signals: Mapping[str, float]
) -> Array:
    """Paint one frame of the heart over the chest; edges are soft within a pixel and within a slice.

    Args:
        state: the heart's shape in this frame.
        pose: where it lies.
        grid: from :func:`heart_grid`.
        background: ``(slices, rows, cols)``, signals of the chest; left as it is.
        signals: tissue -> signal.

    Returns:
        ``(slices, rows, cols)``, in the unit of the signals.
    """
    painted = np.zeros_like(background[grid.box])
    for part in range(_SUB_SLICES):
        offset = pose.slice_spacing_mm * ((part + 0.5) / _SUB_SLICES - 0.5)
        signal = background[grid.box].copy()
        for tissue, radius in _layers(state, pose, pose.heights_mm + offset, grid):
            cover = np.clip((radius - grid.distance) / np.float32(pose.spacing_mm) + np.float32(0.5), 0, 1)
            signal += cover * (np.float32(signals[tissue]) - signal)
        painted += signal / np.float32(_SUB_SLICES)
    painted += _papillary_cover(state, pose, grid) * np.float32(signals["myocardium"] - signals["blood"])
    image = background.copy()
    image[grid.box] = painted
    return image


def heart_labels(state: HeartState, pose: Pose, grid: HeartGrid) -> NDArray[np.uint8]:
    """What lies in the middle of each voxel: 0, LV, MYO or RV, ``(slices, rows, cols)``."""
    u = (pose.heights_mm - state.base_mm) / state.length_mm
    endo = (state.radius_mm * lv_profile(u))[:, None, None]
    epi = epicardium(state, pose.heights_mm, grid.septal_share)
    rv = epi + (state.rv_depth_mm * rv_profile(u))[:, None, None] * grid.rv_share
    distance = grid.distance
    labels = np.zeros((pose.slices, pose.rows, pose.cols), dtype=np.uint8)
    labels[grid.box] = np.select([distance < endo, distance < epi, distance < rv], [LV, MYO, RV], 0)
    return labels


def _layers(state: HeartState, pose: Pose, heights: NDArray[np.float64], grid: HeartGrid) -> list[tuple[str, Array]]:
    """(tissue, outer radius) from the outside in, at the given heights; above the mitral plane the atria."""
    above = (heights < state.base_mm)[:, None, None]
    at_base = np.full_like(heights, state.base_mm)
    kept = np.where(heights < state.base_mm, at_base, heights)
    u = (kept - state.base_mm) / state.length_mm
    endo = (state.radius_mm * lv_profile(u)[:, None, None]).astype(np.float32)
    epi = np.where(above, endo + np.float32(_ATRIAL_WALL_MM), epicardium(state, kept, grid.septal_share))
    depth = (state.rv_depth_mm * rv_profile(u))[:, None, None].astype(np.float32) * grid.rv_share
    rv = epi + depth
    rv_wall = rv + np.float32(_RV_WALL_MM) * (depth > 0)
    fat = np.where(rv_wall > 0, rv_wall + np.float32(pose.fat_mm), np.float32(-1e3))
    missing = np.float32(-1e3)  # no layer, not even the soft rim of one of radius 0
    rings = (("fat", fat), ("myocardium", rv_wall), ("blood", rv), ("myocardium", epi), ("blood", endo))
    return [(tissue, np.where(radius > 0, radius, missing)) for tissue, radius in rings]


def _papillary_cover(state: HeartState, pose: Pose, grid: HeartGrid) -> Array:
    """Soft cover of the two papillary muscles, in the middle third; part of the cavity by convention."""
    u = (pose.heights_mm - state.base_mm) / state.length_mm
    here = np.flatnonzero((u > 0.35) & (u < 0.75))
    size, axis = 0.13 * state.radius_mm + 1.0, 0.68 * state.radius_mm
    cover = np.zeros_like(grid.distance)
    distance, angle = grid.distance[here], grid.angle[here]
    for direction in (np.pi - 0.9, -np.pi + 0.9):
        apart = np.sqrt(np.maximum(distance**2 + axis**2 - 2 * distance * axis * np.cos(angle - direction), 0))
        cover[here] = np.maximum(cover[here], np.clip((size - apart) / pose.spacing_mm + 0.5, 0, 1))
    return cover
