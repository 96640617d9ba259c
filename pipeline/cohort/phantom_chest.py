"""What lies still around a phantom heart: skin fat, muscle, lungs, liver, spine, aorta, and a mild texture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.cohort.phantom_heart import Array, Pose
from pipeline.cohort.phantom_paint import pixel_grid

_MUSCLE_MM = 11.0
_TEXTURE_SD = 0.05
_TEXTURE_MM = 6.0  # wavelength scale of the texture


def render_chest(pose: Pose, signals: Mapping[str, float], rng: np.random.Generator) -> Array:
    """Signals of the chest without the heart.

    Args:
        pose: where the heart lies; the chest lies around it.
        signals: tissue -> signal.
        rng: places the organs.

    Returns:
        ``(slices, rows, cols)``, at least 0; air is 0.
    """
    y, x = pixel_grid(pose)
    wide, high, fat_mm = pose.body
    heart_x, heart_y = pose.centre_mm
    centre = (heart_x + rng.normal(4, 4), heart_y + rng.normal(12, 4))
    liver_at, spine_at = rng.normal((-48, 66), 6), rng.normal((38, 74), 5)
    out = np.zeros((pose.slices, pose.rows, pose.cols), dtype=np.float32)
    for index, height in enumerate(pose.heights_mm):
        liver = 0.62 + 0.38 * np.clip(height / pose.long_axis_mm, -0.2, 1.1)  # its dome rises towards the apex
        ellipses = [
            ("fat", centre, (wide, high)),
            ("muscle", centre, (wide - fat_mm, high - fat_mm)),
            ("lung", centre, (wide - fat_mm - _MUSCLE_MM, high - fat_mm - _MUSCLE_MM)),
            ("liver", (heart_x + liver_at[0], heart_y + liver_at[1]), (66 * liver, 40 * liver)),
            ("muscle", (heart_x + spine_at[0], heart_y + spine_at[1]), (24.0, 21.0)),
            ("fat", (heart_x + spine_at[0], heart_y + spine_at[1] + 4), (9.0, 8.0)),
            ("blood", (heart_x + spine_at[0] + 24, heart_y + spine_at[1] - 17), (11.0, 11.0)),
        ]
        for tissue, middle, axes in ellipses:
            cover = _ellipse_cover(x - middle[0], y - middle[1], axes, pose.spacing_mm)
            out[index] += cover * (np.float32(signals[tissue]) - out[index])
    return out


def texture(pose: Pose, rng: np.random.Generator) -> Array:
    """Smooth factors around 1, ``(slices, rows, cols)``, the same in every frame."""
    noise = rng.standard_normal((pose.slices, pose.rows, pose.cols), dtype=np.float32)
    fy, fx = np.fft.fftfreq(pose.rows, pose.spacing_mm), np.fft.rfftfreq(pose.cols, pose.spacing_mm)
    keep = np.exp(-0.5 * (2 * np.pi * _TEXTURE_MM / 2) ** 2 * (fy[:, None] ** 2 + fx[None, :] ** 2))
    smooth = np.fft.irfft2(np.fft.rfft2(noise) * keep.astype(np.float32), s=noise.shape[1:])
    return np.asarray(np.clip(1 + _TEXTURE_SD * smooth / smooth.std(), 0.5, 1.5), dtype=np.float32)


def _ellipse_cover(dx: Array, dy: Array, axes: tuple[float, float], spacing_mm: float) -> Array:
    """Soft cover of an ellipse, falling from 1 to 0 across about one pixel."""
    inside = 1 - np.hypot(dx / np.float32(axes[0]), dy / np.float32(axes[1]))
    return np.asarray(np.clip(inside * np.float32(min(axes) / spacing_mm) + np.float32(0.5), 0, 1), dtype=np.float32)
