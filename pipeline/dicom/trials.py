"""Slices that were acquired first, to see how the stack should lie, and stayed in the study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.dicom.frame_records import Frame
from pipeline.dicom.parts import FEWEST_SLICES
from pipeline.dicom.refusal import Refusal
from pipeline.dicom.stack_geometry import check_gaps

MOST_TRIALS = 3

Floats = NDArray[np.float64]
Slices = Sequence[Sequence[Frame]]


def find_trials(slices: Slices, depths: Floats) -> list[int]:
    """Find trial slices: off the grid of a stack that is whole without them.

    A wrong guess would drop a slice. So trials have series of their own, were acquired before all slices of the stack,
    and lie between its ends, where all slices are there without them.

    Args:
        slices: images of each slice, upwards.
        depths: ``(slices,)``, place of each along the normal [mm].

    Returns:
        Which slices are trials, at most three; none if the stack is regular as it is, or is not without them either.
    """
    acquired = [[frame.acquisition_s for frame in one] for one in slices]
    if _is_regular(depths) or any(time is None for one in acquired for time in one):
        return []
    times = [(min(one), max(one)) for one in ([time or 0.0 for time in one] for one in acquired)]
    order = sorted(range(len(slices)), key=lambda index: times[index])
    for count in range(1, min(MOST_TRIALS, len(slices) - FEWEST_SLICES) + 1):
        trials, rest = order[:count], sorted(order[count:])
        between = depths[rest[0]] < depths[trials].min() and depths[trials].max() < depths[rest[-1]]
        before = max(times[index][1] for index in trials) < min(times[index][0] for index in rest)
        apart = not _series(slices, trials) & _series(slices, rest)
        if between and before and apart and _is_regular(depths[rest]):
            return sorted(trials)
    return []


def _is_regular(depths: Floats) -> bool:
    try:
        check_gaps(depths)
    except Refusal:
        return False
    return True


def _series(slices: Slices, which: Sequence[int]) -> set[str]:
    return {frame.series_uid for index in which for frame in slices[index]}
