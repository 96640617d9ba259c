"""Intensities on a common scale: percentile clip and standardisation, per study."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transforms.quantiles import quantiles

_FLAT = 1e-6  # SD below this share of the largest value is rounding, not an image


class ConstantImageError(ValueError):
    """All of an image, but for a few pixels, has one value: there is nothing to see in it."""


def standardise(image: ArrayLike, percentiles: tuple[float, float] = (0.5, 99.5)) -> NDArray[np.float32]:
    """Clip to percentiles, then bring to zero mean and unit SD, over the whole study at once.

    Both phases share one scale: how a region brightens or darkens from end-diastole to end-systole stays visible.

    Args:
        image: any shape, any unit; all of it belongs to one study.
        percentiles: lower and upper, in [0, 100].

    Returns:
        float32, the shape of ``image``, dimensionless.

    Raises:
        ValueError: if the percentiles do not increase within [0, 100], or the image is empty or not finite;
            ``ConstantImageError`` if it is constant.

    Example:
        >>> standardise([0.0, 2.0], percentiles=(0, 100)).tolist()
        [-1.0, 1.0]
    """
    lower, upper = check_percentiles(percentiles)
    values = np.asarray(image, dtype=np.float64)
    if not values.size or not np.isfinite(values).all():
        raise ValueError(
            f"image must hold finite values only; got shape {values.shape} with "
            f"{int((~np.isfinite(values)).sum())} that are not; correct or leave out the study"
        )
    low, high = (float(one) for one in quantiles(values.ravel(), (lower / 100, upper / 100)))
    clipped = np.clip(values, low, high)
    sd = clipped.std()
    if sd <= _FLAT * max(abs(low), abs(high)):
        raise ConstantImageError(
            f"image must vary between its {lower:g}th and {upper:g}th percentile; it is {low:g} throughout; "
            "leave out the study, or export it again"
        )
    return np.ascontiguousarray((clipped - clipped.mean()) / sd, dtype=np.float32)


def check_percentiles(percentiles: tuple[float, float]) -> tuple[float, float]:
    """Refuse percentiles that do not increase within [0, 100]."""
    lower, upper = percentiles
    if not 0 <= lower < upper <= 100:
        raise ValueError(f"percentiles must increase within [0, 100]; got {lower} and {upper}")
    return float(lower), float(upper)
