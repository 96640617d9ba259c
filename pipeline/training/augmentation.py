"""Random changes of a student input that leave its diagnosis as it is."""

from __future__ import annotations

from typing import Any

from monai.transforms import (
    Compose,
    EnsureTyped,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandGibbsNoised,
    RandHistogramShiftd,
    Transform,
)

KEY = "image"
SHAPE = f"{KEY}_shape"  # of the image while it is flat


def training_augmentation(*, geometry: bool = True, appearance: bool = True) -> Compose:
    """MONAI's random transforms, as a chain on a dictionary with ``image (…, rows, cols)``.

    All axes but the last two are channels: ``(2, slices, rows, cols)`` of a cine, ``(3, rows, cols)`` of a photograph.

    The appearance part knows no vendor and is not the simulator that renders scanners (`transforms/simulate.py`):
    it draws monotone intensity maps, bias fields, blur, ringing and noise at random.

    Args:
        geometry: rotate by up to 20 degrees in plane, shift by up to 4 pixels, scale by up to 10 %; alike in all
            channels. No scaling in one direction alone and no flips: the shape is the diagnosis.
        appearance: change contrast, bias, resolution and noise.
    """
    flat = [_flatten, *(_geometry() if geometry else []), *(_resolution() if appearance else [])]
    return Compose(
        [
            EnsureTyped(KEY, track_meta=False),
            *(_intensity() if appearance else []),
            *flat,
            *(_noise() if appearance else []),
            _unflatten,
            EnsureTyped(KEY, track_meta=False),
        ]
    )


def _flatten(data: dict[str, Any]) -> dict[str, Any]:
    """All axes but the last two as channels of one 2-D image, so that each sees the same change."""
    return {**data, KEY: data[KEY].flatten(0, -3), SHAPE: data[KEY].shape}


def _unflatten(data: dict[str, Any]) -> dict[str, Any]:
    shape = data.pop(SHAPE)
    return {**data, KEY: data[KEY].reshape(shape)}


def _geometry() -> list[Transform]:
    turn = RandAffined(
        KEY, prob=0.9, rotate_range=0.35, translate_range=4, scale_range=0.1, padding_mode="border", cache_grid=False
    )
    return [turn]


def _intensity() -> list[Transform]:
    return [
        RandHistogramShiftd(KEY, prob=0.5, num_control_points=(4, 8)),
        RandAdjustContrastd(KEY, prob=0.5, gamma=(0.6, 1.6)),
        RandBiasFieldd(KEY, prob=0.3, coeff_range=(0.0, 0.15)),
    ]


def _resolution() -> list[Transform]:
    return [
        RandGaussianSmoothd(KEY, prob=0.3, sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0)),
        RandGibbsNoised(KEY, prob=0.2, alpha=(0.1, 0.5)),
    ]


def _noise() -> list[Transform]:
    return [RandGaussianNoised(KEY, prob=0.3, std=0.2)]
