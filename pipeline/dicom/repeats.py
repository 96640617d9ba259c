"""One image per slice and phase: a slice that was acquired again is there several times, and one run is read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.dicom.frame_records import Frame
from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.time_order import CLOCKS, COUNTERS

FEWEST_PHASES = 10
SAME_SPAN = 0.7  # runs of one slice cover the same part of the heartbeat; halves of one run do not

Run = tuple[Frame, ...]
Mark = Callable[[Frame], float | None]

ORDER_MARKS: tuple[Mark, ...] = (
    lambda frame: frame.acquisition_s,
    lambda frame: frame.content_s,
    lambda frame: frame.acquisition_number,
)
SPLIT_MARKS: tuple[Callable[[Frame], Hashable], ...] = (
    lambda frame: frame.acquisition_number,
    lambda frame: frame.acquisition_s,
)


@dataclass(frozen=True)
class Chosen:
    """The run of each slice that is read.

    Attributes:
        slices: images of each slice, in no order of time.
        spare: images of runs that are not read.
        warnings: ``REPEATED_SLICE``, one for each slice that was acquired again.
    """

    slices: tuple[Run, ...]
    spare: Run
    warnings: tuple[str, ...]


def choose_runs(slices: Sequence[Sequence[Frame]]) -> Chosen:
    """Of each slice take the last complete run.

    Runs are told apart by series, acquisition number, acquisition time, or by trigger times that start again as
    instance numbers go on.

    Args:
        slices: images at each place, in order.

    Returns:
        The choice. Every slice has as many images as most runs have.

    Raises:
        Refusal: MISSING_PHASE, DUPLICATE_POSITION (also where it cannot be told which run is the last) or
            TRUNCATED_FILE where a slice has no complete run.
    """
    runs = [split_runs(one) for one in slices]
    phases = usual_length(run for one in runs for run in one)
    if phases < FEWEST_PHASES:
        raise Refusal(Code.TOO_FEW_PHASES, f"{phases} phases; at least {FEWEST_PHASES} are needed")
    last = [_last_complete(one, phases, f"slice {i + 1} of {len(runs)}") for i, one in enumerate(runs)]
    spare = tuple(
        frame for one, read in zip(runs, last, strict=True) for run in one if run is not read for frame in run
    )
    warnings = tuple(
        f"REPEATED_SLICE: slice {i + 1} of {len(runs)} was acquired {len(one)} times; the last complete one is read"
        for i, one in enumerate(runs)
        if len(one) > 1
    )
    return Chosen(tuple(last), spare, warnings)


def usual_length(runs: Iterable[Sequence[Frame]]) -> int:
    """How many images most runs have; of two lengths that are equally common the larger."""
    lengths = Counter(len(run) for run in runs)
    return max(lengths, key=lambda length: (lengths[length], length), default=0)


def split_runs(images: Sequence[Frame]) -> list[Run]:
    """Split the images at one place into runs, by series and within a series.

    Args:
        images: all images at a place.

    Returns:
        The runs; a single one where nothing tells that there are more.
    """
    by_series = _split(images, lambda frame: frame.series_uid)
    if len(by_series) > 1 and max(map(len, by_series)) < FEWEST_PHASES:
        by_series = [tuple(images)]  # a series for each phase
    return [run for one in by_series for run in _split_series(one)]


def _split_series(images: Run) -> list[Run]:
    for mark in SPLIT_MARKS:
        runs = _split(images, mark)
        if _all_runs(runs):
            return runs
    runs = _restarts(images)
    return runs if _all_runs(runs) else [images]


def _split(images: Iterable[Frame], mark: Callable[[Frame], Hashable]) -> list[Run]:
    found: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in images:
        found[mark(frame)].append(frame)
    return [tuple(run) for run in found.values()]


def _restarts(images: Run) -> list[Run]:
    """Cut where time falls as instance numbers rise."""
    clock = _clock(images)
    numbers = [frame.instance_number for frame in images]
    if clock is None or None in numbers or len(set(numbers)) < len(numbers):
        return [images]
    order = sorted(images, key=lambda frame: frame.instance_number or 0)
    times = np.asarray([clock(frame) for frame in order], dtype=float)
    cuts = [0, *(np.flatnonzero(np.diff(times) < 0) + 1).tolist(), len(order)]
    return [tuple(order[start:end]) for start, end in pairwise(cuts)]


def _all_runs(runs: Sequence[Run]) -> bool:
    """Whether each part is long enough for a run, and all cover the same part of the heartbeat."""
    if len(runs) < 2 or min(map(len, runs)) < FEWEST_PHASES:
        return False
    clock = _clock([frame for run in runs for frame in run])
    if clock is None:
        return len(set(map(len, runs))) == 1
    times = [[clock(frame) or 0.0 for frame in run] for run in runs]
    common = min(map(max, times)) - max(map(min, times))
    return common > SAME_SPAN * max(max(values) - min(values) for values in times)


def _clock(images: Sequence[Frame]) -> Mark | None:
    """The first field of time that all images have and that is not the same in all."""
    for field in (*CLOCKS.values(), *COUNTERS.values()):
        values = {field(frame) for frame in images}
        if None not in values and len(values) > 1:
            return field
    return None


def _last_complete(runs: Sequence[Run], phases: int, where: str) -> Run:
    if (longest := max(map(len, runs))) > phases:
        raise Refusal(Code.DUPLICATE_POSITION, f"{where} has {longest} images, others {phases}")
    parts = [run for run in runs if len(run) < phases]
    if len(parts) > 1 and sum(map(len, parts)) == phases:
        raise Refusal(Code.CONTRADICTORY_HEADERS, f"{where} is put together from {len(parts)} acquisitions")
    whole = [run for run in runs if len(run) == phases]
    complete = [run for run in whole if all(frame.complete for frame in run)]
    if not complete:
        raise _why_incomplete(runs, whole, phases, where)
    if len(complete) > 1 and not (ordered := _by_time(complete)):
        raise Refusal(Code.DUPLICATE_POSITION, f"{where} is there {len(complete)} times, and none is the last")
    return ordered[-1] if len(complete) > 1 else complete[0]


def _by_time(runs: Sequence[Run]) -> list[Run]:
    """Runs in the order they were acquired; none if nothing tells it."""
    marks = [*ORDER_MARKS]
    if len({frame.series_uid for run in runs for frame in run}) == 1:
        marks.append(lambda frame: frame.instance_number)
    for mark in marks:
        values = [[mark(frame) for frame in run] for run in runs]
        if any(value is None for row in values for value in row):
            continue
        middles = [float(np.median(np.asarray(row, dtype=float))) for row in values]
        if len(set(middles)) == len(middles):
            return [runs[i] for i in np.argsort(middles)]
    return []


def _why_incomplete(runs: Sequence[Run], whole: Sequence[Run], phases: int, where: str) -> Refusal:
    if whole:
        return Refusal(Code.TRUNCATED_FILE, f"it belongs to {where}")
    return Refusal(Code.MISSING_PHASE, f"{where} has {max(map(len, runs))} phases, others {phases}")
