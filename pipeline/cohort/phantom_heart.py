"""The shape of a beating heart: what its anatomy and the drawn volumes make of it in every frame.

The heart is written in polar coordinates about its long axis: the left ventricle is a truncated ellipsoid, its wall
thickens because muscle keeps its volume, the right ventricle is a crescent on the septal side. Heights z [mm] run
from the mitral plane at end-diastole (0) to the apex; the mitral plane descends in systole, the apex stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.cohort.phantom_anatomy import Anatomy

Array = NDArray[np.float32]

_BASE_CUT = 0.3  # the ellipsoid is cut this share of its half axis above its widest section
_RV_LENGTH = 0.92  # of the left ventricle's
_RV_HALF_ANGLE = np.deg2rad(85.0)


@dataclass(frozen=True)
class Pose:
    """Where the heart lies and how it is imaged.

    Attributes:
        rows: matrix size along y.
        cols: matrix size along x.
        slices: number of slices, base first.
        phases: frames in a beat, end-diastole first.
        spacing_mm: pixel size in plane.
        slice_spacing_mm: distance of the slices, without gaps.
        first_slice_mm: height of the first slice's middle.
        es: frame of end-systole.
        centre_mm: heart's axis at half its length, (x, y) from the middle of the image.
        tilt: shift of the axis per height, (x, y), dimensionless.
        septum_rad: direction from the left to the right ventricle, from x towards y.
        long_axis_mm: mitral plane to endocardial apex, at end-diastole.
        fat_mm: fat on the heart.
        body: chest half axes (x, y) [mm], and thickness of the fat under the skin [mm].
    """

    rows: int
    cols: int
    slices: int
    phases: int
    spacing_mm: float
    slice_spacing_mm: float
    first_slice_mm: float
    es: int
    centre_mm: tuple[float, float]
    tilt: tuple[float, float]
    septum_rad: float
    long_axis_mm: float
    fat_mm: float
    body: tuple[float, float, float]

    @property
    def heights_mm(self) -> NDArray[np.float64]:
        """Middles of the slices, ``(slices,)``."""
        return self.first_slice_mm + self.slice_spacing_mm * np.arange(self.slices, dtype=np.float64)


@dataclass(frozen=True)
class HeartState:
    """The heart in one frame: contraction in [0, 1], lengths [mm], and the walls as if at the widest section."""

    contraction: float
    base_mm: float
    length_mm: float
    radius_mm: float
    septal_mm: float
    lateral_mm: float
    rv_depth_mm: float


def contraction_curve(phases: int, es: int) -> NDArray[np.float64]:
    """Share of the stroke ejected per frame: 0 in frame 0, 1 in frame ``es``; fast filling, rest, atrial kick.

    Args:
        phases: frames in the beat.
        es: frame of end-systole, in [1, ``phases``).

    Returns:
        ``(phases,)``, in [0, 1].
    """
    frame = np.arange(phases)
    ejected = 0.5 - 0.5 * np.cos(np.pi * np.minimum(frame / es, 1.0))
    diastole = np.clip((frame - es) / (phases - es), 0.0, 1.0)
    filled = 0.75 * _smooth_step(diastole / 0.55) + 0.25 * _smooth_step((diastole - 0.7) / 0.3)
    return np.asarray(ejected - filled, dtype=np.float64)


def heart_states(anatomy: Anatomy, pose: Pose) -> list[HeartState]:
    """The heart's shape in every frame, with the drawn volumes on the slices at end-diastole and end-systole.

    A stack of slices samples a heart; its volumes are sums of areas times the slice spacing. Radii at the two frames
    that carry masks are solved for those sums, and their corrections carry over smoothly to the frames between.
    """
    curve = contraction_curve(pose.phases, pose.es)
    fixed = [_solve(anatomy, pose, f, pose.heights_mm, pose.slice_spacing_mm) for f in (0.0, 1.0)]
    fine = np.arange(0.5, pose.long_axis_mm)
    free = [_solve(anatomy, pose, f, fine, 1.0) for f in (0.0, 1.0)]
    radius_ratio, depth_ratio = (
        [getattr(a, name) / getattr(b, name) for a, b in zip(fixed, free, strict=True)]
        for name in ("radius_mm", "rv_depth_mm")
    )
    states = []
    for f in curve:
        state = _solve(anatomy, pose, float(f), fine, 1.0)
        radius = state.radius_mm * (radius_ratio[0] + f * (radius_ratio[1] - radius_ratio[0]))
        depth = state.rv_depth_mm * (depth_ratio[0] + f * (depth_ratio[1] - depth_ratio[0]))
        walls = _walls(anatomy, radius, fixed[0].radius_mm, state.length_mm, pose.long_axis_mm)
        states.append(HeartState(float(f), state.base_mm, state.length_mm, float(radius), *walls, float(depth)))
    return states


def _smooth_step(x: NDArray[np.float64]) -> NDArray[np.float64]:
    inside: NDArray[np.float64] = np.clip(x, 0.0, 1.0)
    return inside * inside * (3 - 2 * inside)


def lv_profile(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radius at relative height u, as a share of the widest; 0 outside [0, 1]."""
    inside = (u >= 0) & (u < 1)
    return np.where(inside, np.sqrt(np.maximum(1 - ((1 + _BASE_CUT) * u - _BASE_CUT) ** 2, 0)), 0.0)


def rv_profile(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depth of the crescent at relative height u, as a share of the deepest; 0 outside the right ventricle."""
    inside = (u >= 0) & (u < _RV_LENGTH)
    return np.where(inside, np.sqrt(np.maximum(1 - (u / _RV_LENGTH) ** 2, 0)), 0.0)


def septal_share(angle: Array) -> Array:
    """1 in the middle of the septum, 0 opposite; ``angle`` is taken from the septum's direction."""
    return np.asarray(((1 + np.cos(angle)) / 2) ** 2, dtype=np.float32)


def rv_share(angle: Array) -> Array:
    """Depth of the crescent, 1 in the middle of the septum, 0 where it joins the left ventricle."""
    turned = np.clip(angle / _RV_HALF_ANGLE, -1, 1) * (np.pi / 2)
    return np.asarray(np.sqrt(np.cos(turned).clip(0)), dtype=np.float32)


def _walls(anatomy: Anatomy, radius: float, radius_ed: float, length: float, length_ed: float) -> tuple[float, float]:
    """Septal and lateral thickness when the same muscle surrounds another cavity: area x length stays."""
    areas = [(radius_ed + wall) ** 2 - radius_ed**2 for wall in (anatomy.septal_wall_mm, anatomy.lateral_wall_mm)]
    septal, lateral = (float(np.sqrt(radius**2 + area * length_ed / length) - radius) for area in areas)
    return septal, lateral


def _lv_radius(volume_mm3: float, u: NDArray[np.float64], step_mm: float) -> float:
    """Widest radius for which the sections at relative heights ``u``, times the step, sum up to the volume."""
    return float(np.sqrt(volume_mm3 / (np.pi * step_mm * np.sum(lv_profile(u) ** 2))))


def _solve(anatomy: Anatomy, pose: Pose, f: float, heights: NDArray[np.float64], step_mm: float) -> HeartState:
    """Radius and crescent depth that give the volumes at contraction ``f`` as sums over ``heights``."""
    length = pose.long_axis_mm * (1 - 0.25 * f * anatomy.lv_ef_percent / 100)
    base = pose.long_axis_mm - length
    volume = 1000 * (anatomy.lv_edv_ml - f * (anatomy.lv_edv_ml - anatomy.lv_esv_ml))  # mL -> mm3
    radius = _lv_radius(volume, (heights - base) / length, step_mm)
    radius_ed = _lv_radius(1000 * anatomy.lv_edv_ml, heights / pose.long_axis_mm, step_mm)
    walls = _walls(anatomy, radius, radius_ed, length, pose.long_axis_mm)
    state = HeartState(f, base, length, radius, *walls, rv_depth_mm=1.0)
    angle = np.linspace(-np.pi, np.pi, 361, dtype=np.float32)[None, None, :-1]
    share = rv_share(angle) * rv_profile((heights - base) / length)[:, None, None]
    step = step_mm * 2 * np.pi / angle.size
    linear, square = (
        np.sum(epicardium(state, heights, septal_share(angle)) * share) * step,
        0.5 * np.sum(share**2) * step,
    )
    rv_volume = 1000 * (anatomy.rv_edv_ml - f * (anatomy.rv_edv_ml - anatomy.rv_esv_ml))
    depth = (np.sqrt(linear**2 + 4 * square * rv_volume) - linear) / (2 * square)
    return HeartState(f, base, length, radius, *walls, rv_depth_mm=float(depth))


def epicardium(state: HeartState, heights: NDArray[np.float64], septal_share: Array) -> Array:
    """Outer radius [mm] below the mitral plane, 0 above it and beyond the apex."""
    wall = np.float32(state.lateral_mm) + np.float32(state.septal_mm - state.lateral_mm) * septal_share
    u = (heights - state.base_mm) / (state.length_mm + 0.7 * state.lateral_mm)
    return np.asarray((wall + np.float32(state.radius_mm)) * lv_profile(u).astype(np.float32)[:, None, None])
