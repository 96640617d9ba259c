"""When images of one slice follow each other: a ladder of header fields, from the most trusted to the least.

ContentTime is not on it: it is when an image was written, and in real studies images are written out of order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.dicom.frame_records import Frame
from pipeline.dicom.refusal import Code, Refusal

Floats = NDArray[np.float64]
Field = Callable[[Frame], float | None]

LONGEST_CYCLE_MS = 3000.0  # 20 beats a minute
SHORTEST_STEP_MS = 2.0
SMALLEST_ANNOUNCED = 10  # phases; some scanners write 0 or 1
LARGEST_STEP_MS = 250.0  # ten phases at 24 beats a minute
STEP_RANGE = (0.5, 1.5)  # of the mean step: less is a double, more a hole
MOST_SLICES = 0.75  # what as many have in common is the way of the scanner
SAME_TIME_MS = 1e-3
LARGEST_TICK = 0.25  # of a step
STRAY = (0.02, 8.0)  # of a step, and times the median residual: off the line through a slice's times, not rounding


@dataclass(frozen=True)
class PhaseOrder:
    """Images of a stack in the order of time.

    Attributes:
        frames: ``[slice][phase]``.
        rung: the field that decided.
        times_ms: ``(phases, slices)``, NaN where the field is no time.
        warnings: each begins with its code.
    """

    frames: tuple[tuple[Frame, ...], ...]
    rung: str
    times_ms: Floats
    warnings: tuple[str, ...]


def stored_order(frame: Frame) -> float:
    """Number of an image in its series: InstanceNumber, then the number in its file."""
    return (frame.instance_number or 0) + frame.number / 1e6


CLOCKS: dict[str, Field] = {
    "TriggerTime": lambda frame: frame.trigger_ms,
    "CardiacTriggerDelayTime": lambda frame: frame.delay_ms,
    "NominalPercentageOfCardiacPhase": lambda frame: frame.cycle_percent,
}
COUNTERS: dict[str, Field] = {
    "TemporalPositionIndex": lambda frame: frame.temporal_index,
    "TemporalPositionIdentifier": lambda frame: frame.temporal_position,
}
ACQUIRED = "AcquisitionTime"
STORED = "InstanceNumber"
LADDER: dict[str, Field] = {
    **CLOCKS,
    **COUNTERS,
    ACQUIRED: lambda frame: None if frame.acquisition_s is None else frame.acquisition_s * 1000,
    STORED: stored_order,
}
MILLISECONDS = ("TriggerTime", "CardiacTriggerDelayTime", ACQUIRED)


def field_table(slices: Sequence[Sequence[Frame]], field: Field) -> Floats | None:
    """Values of a field, ``(slices, phases)``; ``None`` where an image lacks it."""
    values = [[field(frame) for frame in one] for one in slices]
    if any(value is None for row in values for value in row):
        return None
    return np.asarray(values, dtype=float)


def order_phases(slices: Sequence[Sequence[Frame]]) -> PhaseOrder:
    """Put the images of each slice in the order of time.

    A rung of the ladder counts if every image has it and no two of a slice share it. Where that holds in most
    slices but not in all, a header lies.

    Args:
        slices: images of each slice, equally many, in any order.

    Returns:
        The order.

    Raises:
        Refusal: CONTRADICTORY_HEADERS; DUPLICATE_POSITION where every time occurs several times in each slice, or
            slices have a multiple of the phases that the headers announce; NO_TIMES where no rung counts; and those
            of :func:`check_steps`.
    """
    announced, phases = _announced(slices), len(slices[0])
    if announced and phases > announced >= SMALLEST_ANNOUNCED and phases % announced == 0:
        raise Refusal(Code.DUPLICATE_POSITION, f"headers announce {announced} phases, slices have {phases}")
    shared = False
    for name, field in LADDER.items():
        table = field_table(slices, field)
        if table is None:
            continue
        shared |= name in CLOCKS and _all_shared(table)
        if shared or not _counts(name, table):
            continue
        order = np.argsort(table, axis=1, kind="stable")
        frames = tuple(tuple(one[i] for i in row) for one, row in zip(slices, order, strict=True))
        times = np.take_along_axis(table, order, axis=1)
        warnings = check_steps(name, times, announced=announced) if name != ACQUIRED else []
        return PhaseOrder(frames, name, _milliseconds(name, times, frames).T, tuple(warnings))
    if shared:
        raise Refusal(Code.DUPLICATE_POSITION, "every time in the heartbeat is that of several images of a slice")
    raise Refusal(Code.NO_TIMES)


def _all_shared(table: Floats) -> bool:
    """Whether in every slice every time is there equally often, but more than once: several acquisitions in one."""
    counts = [Counter(row.tolist()) for row in table]
    return all(len(count) > 1 and min(count.values()) > 1 and len(set(count.values())) == 1 for count in counts)


def _counts(name: str, table: Floats) -> bool:
    """Whether a rung orders every slice.

    Raises:
        Refusal: CONTRADICTORY_HEADERS if it orders most slices, but not all.
    """
    ordered = np.sort(table, axis=1)
    good = np.all(np.diff(ordered, axis=1) > 0, axis=1)
    if name in MILLISECONDS:
        good &= _like_a_heartbeat(ordered)
    if name in COUNTERS:
        rows = Counter(map(tuple, ordered))
        good &= np.asarray([tuple(row) == rows.most_common(1)[0][0] for row in ordered])
    if name == ACQUIRED and not good.all():
        return False  # clocks tick once a second in some headers
    if good.sum() * 2 > good.size and not good.all():
        bad = int(np.argmin(good))
        raise Refusal(
            Code.CONTRADICTORY_HEADERS, f"{name} orders the phases of most slices, but not of slice {bad + 1}"
        )
    return bool(good.all())


def _like_a_heartbeat(ordered: Floats) -> NDArray[np.bool_]:
    """Which slices have times that fit into one heartbeat: scanners use TriggerTime for other things, too."""
    steps = np.ptp(ordered, axis=1) / (ordered.shape[1] - 1)
    within = np.ptp(ordered, axis=1) <= LONGEST_CYCLE_MS
    return np.asarray(within & (steps >= SHORTEST_STEP_MS) & (steps <= LARGEST_STEP_MS))


def check_steps(name: str, times: Floats, *, announced: int | None = None) -> list[str]:
    """Check that phases follow each other evenly, as reconstructions of a heart cycle do.

    Args:
        name: of the field.
        times: ``(slices, phases)``, upwards in each slice.
        announced: how many phases the headers say there are.

    Returns:
        Warnings: ``UNEVEN_TIMES`` where most slices are uneven, but have as many phases as announced.

    Raises:
        Refusal: CONTRADICTORY_HEADERS where some slices have a double, a hole, or a time off the line of the others;
            otherwise MISSING_PHASE where most slices have a hole, DUPLICATE_POSITION where most have times that nearly
            meet, NO_TIMES where nothing but uneven instance numbers is there.
    """
    steps = np.diff(times, axis=1)
    relative = steps / steps.mean(axis=1, keepdims=True)
    uneven = np.any((relative < STEP_RANGE[0]) | (relative > STEP_RANGE[1]), axis=1)
    off = uneven | _strays(times)
    if off.any() and off.mean() < MOST_SLICES:
        raise Refusal(
            Code.CONTRADICTORY_HEADERS, f"{name} is uneven in slice {int(np.argmax(off)) + 1}, not in all others"
        )
    if not uneven.any():
        return []
    said = f"{name} is uneven in {int(uneven.sum())} of {uneven.size} slices"
    if announced == times.shape[1] and name != STORED:
        return [f"UNEVEN_TIMES: {said}, but the headers announce as many phases as there are"]
    raise _uneven(name, np.median(relative, axis=0), said)


def _uneven(name: str, relative: Floats, said: str) -> Refusal:
    """Why times are uneven in most slices: ``relative`` are the steps ``(phases - 1,)``, in mean steps."""
    if name == STORED:
        return Refusal(Code.NO_TIMES, f"{said}, and there is nothing else")
    if np.any(relative < STEP_RANGE[0]):
        return Refusal(Code.DUPLICATE_POSITION, f"{said}, as if several acquisitions were mixed")
    return Refusal(Code.MISSING_PHASE, f"{said}, with a hole after phase {int(np.argmax(relative)) + 1}")


def _strays(times: Floats) -> NDArray[np.bool_]:
    """Slices in which single times lie off the line that the others of the slice lie on."""
    index = np.arange(times.shape[1])
    first, second = np.triu_indices(index.size, 1)
    slopes = np.median((times[:, second] - times[:, first]) / (second - first), axis=1)
    lines = times - slopes[:, None] * index
    residuals = np.abs(lines - np.median(lines, axis=1, keepdims=True)) / slopes[:, None]
    largest = STRAY[0] + STRAY[1] * np.median(residuals, axis=1, keepdims=True)
    return np.asarray(np.any(residuals > largest + _tick_ms(times) / slopes[:, None], axis=1))


def _tick_ms(times: Floats) -> float:
    """Tick of the clock that times are rounded to: steps of a slice are of two lengths, one tick apart.

    Where times are rounded twice there are more lengths; what they span in most slices is the study's way, too.

    Example:
        >>> _tick_ms(np.array([[0.0, 40.0, 82.5, 122.5]]))
        2.5
    """
    steps = np.diff(times, axis=1)
    low, high = steps.min(axis=1, keepdims=True), steps.max(axis=1, keepdims=True)
    two = np.all((steps - low < SAME_TIME_MS) | (high - steps < SAME_TIME_MS), axis=1)
    spans = (high - low)[:, 0]
    ticks = spans[two & (spans > SAME_TIME_MS)]
    tick = max(float(np.median(ticks)) if ticks.size else 0.0, float(np.median(spans)))
    return min(tick, LARGEST_TICK * float(np.median(steps)))


def _announced(frames: Sequence[Sequence[Frame]]) -> int | None:
    """CardiacNumberOfImages of most images."""
    counted = Counter(frame.n_cardiac_images for one in frames for frame in one)
    return counted.most_common(1)[0][0]


def _milliseconds(name: str, times: Floats, frames: Sequence[Sequence[Frame]]) -> Floats:
    """Times ``(slices, phases)`` [ms]; NaN where the field is no time."""
    if name == ACQUIRED:
        return times - times[:, :1]
    if name in MILLISECONDS:
        return times
    if name in CLOCKS:  # percent of a heart cycle
        return times / 100 * rr_intervals(frames)[:, None]
    return np.full_like(times, np.nan)


def rr_intervals(frames: Sequence[Sequence[Frame]]) -> Floats:
    """Length of the heart cycle in each slice [ms], ``(slices,)``; NaN where no header tells it."""
    known = [[frame.rr_ms for frame in one if frame.rr_ms is not None] for one in frames]
    return np.asarray([np.median(values) if values else np.nan for values in known])
