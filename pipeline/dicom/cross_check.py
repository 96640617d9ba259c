"""Headers say several times where and when an image belongs; here they are held against each other.

Vendors number images in many ways, so no one way is asked for. What is asked is that a study keeps to its own: where
most slices (or phases) agree on an order and a few do not, a header of those few lies, and nothing tells which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.dicom.frame_records import Frame
from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.time_order import CLOCKS, COUNTERS, LADDER, field_table, stored_order

Floats = NDArray[np.float64]
Slices = Sequence[Sequence[Frame]]

LOCATION_STEP_MM = 0.05  # SliceLocation of one slice is the same but for rounding
CLOCK_STEP_MS = 1.0  # one of two clocks may be cut to whole milliseconds
CLEARLY = 2.0  # times the distance of a slice's other images from their middle
MOST_STRANGERS = 0.1  # of the images: a few that carry another slice's time are mixed up; many mean another order
TIMES_OF_DAY: tuple[Callable[[Frame], float | None], ...] = (
    lambda frame: frame.acquisition_s,
    lambda frame: frame.content_s,
)


def check_headers(frames: Slices, depths_mm: ArrayLike) -> None:
    """Hold every field that tells of slice or phase against the order that was found.

    Args:
        frames: ``[slice][phase]``, in order.
        depths_mm: ``(slices,)``, positions along the normal, upwards.

    Raises:
        Refusal: CONTRADICTORY_HEADERS, naming the field.
    """
    for name, table in _tables(frames).items():
        if few_deviate(table):
            raise _contradiction(name, "the phases of most slices in one order and of others in another")
        if name not in CLOCKS and few_deviate(table.T):  # times of different breath-holds may overtake each other
            raise _contradiction(name, "the slices of most phases in one order and of others in another")
        if (name in CLOCKS or name in COUNTERS) and runs_otherwise(table):
            raise _contradiction(name, "the phases in another order than a more trusted header")
    for field in TIMES_OF_DAY:
        table_of_day = field_table(frames, field)
        if table_of_day is not None and strangers(table_of_day):
            raise _contradiction("AcquisitionTime or ContentTime", "images at two slices as if they were exchanged")
    _check_locations(frames, np.asarray(depths_mm, dtype=float))
    _check_stack_positions(frames)
    _check_clocks(frames)


def few_deviate(table: Floats) -> bool:
    """Whether half of the rows or more share one ranking of their columns, forwards or backwards, and some do not.

    Example:
        >>> few_deviate(np.array([[1, 2, 3], [4, 5, 6], [7, 9, 8]]))
        True
        >>> few_deviate(np.array([[1, 2, 3], [4, 5, 6], [9, 8, 7]]))
        False
    """
    rankings = Counter(_ranking(row) for row in table)
    most = rankings.most_common(1)[0][1]
    return len(table) > most >= len(table) / 2


def _ranking(row: Floats) -> tuple[int, ...]:
    """Dense ranks; of a row and its reverse the one that starts lower, so that both have the same."""
    ranks = np.unique(row, return_inverse=True)[1]
    return min(tuple(ranks.tolist()), tuple((ranks.max() - ranks).tolist()))


def runs_otherwise(table: Floats) -> bool:
    """Whether a field orders the phases of most slices, but neither as they stand nor starting at another of them.

    Example:
        >>> [runs_otherwise(np.array([row])) for row in ([1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 3, 4], [5, 5, 5, 5])]
        [False, False, True, False]
    """
    rankings = Counter(tuple(np.unique(row, return_inverse=True)[1].tolist()) for row in table)
    ranks, most = rankings.most_common(1)[0]
    if most * 2 <= len(table) or len(set(ranks)) < len(ranks):
        return False
    return bool(np.any(np.diff(ranks) % len(ranks) != 1))


def strangers(times: Floats) -> bool:
    """Whether a few images carry the time of another slice, and that slice carries theirs.

    A clock that ticks on within a slice goes one way; an exchange goes both ways. Where the times of two slices
    overlap at their ends, nothing stands out from its own slice.

    Args:
        times: ``(slices, phases)``, time of day.
    """
    middles = np.median(times, axis=1)
    distance = np.abs(times[:, :, None] - middles)  # (slices, phases, other slice)
    own = np.abs(times - middles[:, None])
    nearest = np.argmin(distance, axis=2)
    foreign = np.min(distance, axis=2) < own
    kept = np.max(np.where(foreign, 0.0, own), axis=1, keepdims=True)
    foreign &= own > CLEARLY * kept
    if not foreign.any() or foreign.mean() > MOST_STRANGERS:
        return False
    moves = {(home, int(nearest[home, phase])) for home, phase in np.argwhere(foreign).tolist()}
    return any((there, home) in moves for home, there in moves)


def _tables(frames: Slices) -> dict[str, Floats]:
    """What orders images, one way or another, by name; ``(slices, phases)`` each."""
    names = sorted({frame.series_uid for one in frames for frame in one})
    numbers = {name: number for number, name in enumerate(names)}
    fields: dict[str, Callable[[Frame], float | None]] = {
        **{name: field for name, field in LADDER.items() if name in CLOCKS or name in COUNTERS},
        "InstanceNumber": stored_order,
        "AcquisitionNumber": lambda frame: frame.acquisition_number,
        "InStackPositionNumber": lambda frame: frame.in_stack_position,
        "SeriesInstanceUID": lambda frame: numbers[frame.series_uid],
    }
    tables = {name: field_table(frames, field) for name, field in fields.items()}
    return {name: table for name, table in tables.items() if table is not None}


def _check_locations(frames: Slices, depths: Floats) -> None:
    """SliceLocation must be one for each slice, and rise or fall from slice to slice (or with its sign dropped)."""
    table = field_table(frames, lambda frame: frame.slice_location_mm)
    if table is None:
        return
    middles = np.median(table, axis=1)
    same = np.all(np.abs(table - middles[:, None]) < LOCATION_STEP_MM, axis=1)
    if same.sum() * 2 <= same.size:
        return
    if not same.all():
        raise _contradiction("SliceLocation", "images of one slice at several places")
    told_apart = np.unique(np.round(middles / LOCATION_STEP_MM)).size == middles.size
    signed = (np.where(np.arange(middles.size) < flip, -middles, middles) for flip in range(middles.size))
    if told_apart and not any(_monotone(values, depths) for values in signed):
        raise _contradiction("SliceLocation", "slices in another order than their positions")


def _monotone(values: Floats, depths: Floats) -> bool:
    steps = np.diff(values) * np.sign(np.diff(depths))
    return bool(np.all(steps > 0) or np.all(steps < 0))


def _check_stack_positions(frames: Slices) -> None:
    """InStackPositionNumber counts the slices from 1: the one header that can tell of a slice missing at an end.

    Raises:
        Refusal: MISSING_SLICE if it counts the slices one by one, but from more than 1.
    """
    table = field_table(frames, lambda frame: frame.in_stack_position)
    if table is None or len({frame.stack_id for one in frames for frame in one}) > 1:
        return
    numbers = table[:, 0]
    if np.all(np.abs(np.diff(numbers)) == 1) and np.all(table == numbers[:, None]) and numbers.min() > 1:
        raise Refusal(Code.MISSING_SLICE, f"the headers number the slices from {int(numbers.min())}")


def _check_clocks(frames: Slices) -> None:
    """TriggerTime and the trigger delay, where both are there and mostly the same, must always be."""
    trigger = field_table(frames, lambda frame: frame.trigger_ms)
    delay = field_table(frames, lambda frame: frame.delay_ms)
    if trigger is None or delay is None:
        return
    apart = np.abs(trigger - delay) > CLOCK_STEP_MS
    if apart.any() and apart.mean() < 0.5:
        raise _contradiction("TriggerTime", "other times than CardiacTriggerDelayTime, in a few images only")


def _contradiction(name: str, what: str) -> Refusal:
    return Refusal(Code.CONTRADICTORY_HEADERS, f"{name} puts {what}")
