"""Random changes of a student input that leave its diagnosis as it is."""

from __future__ import annotations

import math
from typing import Any

from monai.transforms import (
    Compose,
    EnsureTyped,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandGibbsNoised,
    RandHistogramShiftd,
    Transform,
)

KEY = "image"
SHAPE = f"{KEY}_shape"  # of the image while it is flat
UPRIGHT_RAD = 0.35  # 20 degrees


def training_augmentation(*, geometry: bool = True, upright: bool = False, appearance: bool = True) -> Compose:
    """MONAI's random transforms, as a chain on a dictionary with ``image (…, rows, cols)``.

    All axes but the last two are channels: ``(2, slices, rows, cols)`` of a cine, ``(3, rows, cols)`` of a photograph.

    The appearance part knows no vendor and is not the simulator that renders scanners (`transforms/simulate.py`):
    it draws monotone intensity maps, bias fields, noise, blur and ringing at random. Noise comes before blur and
    ringing, as in a scanner: what of k-space is not kept takes its noise along. The bias field multiplies the image as
    it comes, standardised, air and mean included; a coil's field multiplies the signal before that and leaves air as it
    is. So it is a smooth change of contrast from place to place, harsher than a coil makes, in one view of seven.

    Args:
        geometry: mirror and turn in the plane, then shift by up to 4 pixels along the rows' axis and stretch or shrink
            by up to 10 % along that axis alone; alike in all channels. The turn makes it any direction of the heart. A
            plane that lies obliquely to the short axis shows a heart stretched in one direction, and its diagnosis
            stays.
        upright: for pictures that mean something else upside down, as digits do: turn by up to 20 degrees only, and
            do not mirror.
        appearance: change contrast, bias, noise and resolution.
    """
    chain: list[Any] = [EnsureTyped(KEY, track_meta=False)]
    chain += _intensity() if appearance else []
    chain += [_flatten]
    chain += _geometry(upright=upright) if geometry else []
    chain += [*_noise(), *_resolution()] if appearance else []
    return Compose([*chain, _unflatten, EnsureTyped(KEY, track_meta=False)])


def _flatten(data: dict[str, Any]) -> dict[str, Any]:
    """All axes but the last two as channels of one 2-D image, so that each sees the same change."""
    return {**data, KEY: data[KEY].flatten(0, -3), SHAPE: data[KEY].shape}


def _unflatten(data: dict[str, Any]) -> dict[str, Any]:
    shape = data.pop(SHAPE)
    return {**data, KEY: data[KEY].reshape(shape)}


def _geometry(*, upright: bool) -> list[Transform]:
    mirrors: list[Transform] = [] if upright else [RandFlipd(KEY, prob=0.5, spatial_axis=axis) for axis in (0, 1)]
    turn = RandAffined(
        KEY,
        prob=0.9,
        rotate_range=UPRIGHT_RAD if upright else math.pi,
        translate_range=(4,),  # of one element: the rows' axis alone
        scale_range=(0.1,),  # likewise
        padding_mode="border",
        cache_grid=False,
    )
    return [*mirrors, turn]


def _intensity() -> list[Transform]:
    return [
        RandHistogramShiftd(KEY, prob=0.15, num_control_points=(5, 10)),
        RandAdjustContrastd(KEY, prob=0.15, gamma=(0.7, 1.5)),
        RandBiasFieldd(KEY, prob=0.15, coeff_range=(0.0, 0.15)),
    ]


def _noise() -> list[Transform]:
    return [RandGaussianNoised(KEY, prob=0.5, std=1.0)]  # up to one standard deviation of the study


def _resolution() -> list[Transform]:
    return [
        RandGaussianSmoothd(KEY, prob=0.3, sigma_x=(0.3, 1.2), sigma_y=(0.3, 1.2)),
        RandGibbsNoised(KEY, prob=0.5, alpha=(0.1, 0.7)),
    ]
