"""Quantiles by a partial sort."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray


def quantiles(values: NDArray[np.float64], shares: Sequence[float]) -> list[NDArray[Any]]:
    """Quantiles along the last axis, linear between neighbours: bit by bit those of ``np.quantile``.

    That one and ``np.median`` load all of ``numpy.ma`` at their first call, and each study that a hospital starts a
    process for would wait for that.

    Args:
        values: ``(…, n)``, n at least 1, finite.
        shares: in [0, 1].

    Returns:
        One of shape ``(…)`` for each share.
    """
    last = values.shape[-1] - 1
    places = [share * last for share in shares]
    below = [floor(place) for place in places]
    above = [min(place + 1, last) for place in below]
    ordered = np.partition(values, sorted({*below, *above}), axis=-1)
    return [
        _between(ordered[..., lower], ordered[..., upper], place - lower)
        for lower, upper, place in zip(below, above, places, strict=True)
    ]


def median(values: NDArray[np.float64]) -> NDArray[Any]:
    """Median along the last axis of ``(…, n)``."""
    return quantiles(values, [0.5])[0]


def _between(low: NDArray[Any], high: NDArray[Any], share: float) -> NDArray[Any]:
    return np.asarray(high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share)
