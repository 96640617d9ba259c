"""A short-axis cine stack from the headers of its images, or a coded refusal: every check between the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.dicom.cross_check import check_headers
from pipeline.dicom.frame_records import Frame
from pipeline.dicom.parts import FEWEST_SLICES, Part
from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.repeats import choose_runs
from pipeline.dicom.stack_geometry import check_gaps, fit_affine
from pipeline.dicom.time_order import CLOCKS, field_table, order_phases, rr_intervals
from pipeline.dicom.trials import find_trials

FEW_PHASES = 15
ARRHYTHMIA = 0.2  # spread of the heart cycle over the slices, of its median
SEVERAL_BEATS = 1.5  # heart cycles
OVERLAP = 0.8  # of a slice's thickness: gaps below it make slices overlap
SPREAD_IN_SLICE_MM = 1.0  # of the positions of one slice's images; rounding and jitter are below a hundredth of it

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """A stack in order.

    Attributes:
        frames: ``[slice][phase]``.
        affine: ``(4, 4)``, RAS [mm], of ``(column, row, slice, 1)``.
        times_ms: ``(phases, slices)``, NaN where no header tells.
        rr_ms: ``(slices,)``, NaN where no header tells.
        warnings: each begins with its code.
        spare: images of runs and trial slices that are not read.
    """

    frames: tuple[tuple[Frame, ...], ...]
    affine: Floats
    times_ms: Floats
    rr_ms: Floats
    warnings: tuple[str, ...]
    spare: tuple[Frame, ...] = ()


def build_stack(frames: Sequence[Frame]) -> Stack:
    """Put the images of one stack in order.

    A slice that is missing at either end of the stack leaves no trace in the geometry, and is only noticed where
    InStackPositionNumber counts from more than 1. ImagesInAcquisition is not asked: it is wrong in real studies.

    Args:
        frames: images with geometry, of one orientation, matrix and spacing, in any order.

    Returns:
        The stack: slices along the cross product of row and column direction, phases in the order of time.

    Raises:
        Refusal: with the code of the first rule that does not hold.
    """
    part = Part(tuple(frames))
    if len(part.by_place) < FEWEST_SLICES:
        raise Refusal(Code.TOO_FEW_SLICES, f"{len(part.by_place)} slices; at least {FEWEST_SLICES} are needed")
    chosen = choose_runs(part.by_place)
    positions = _positions(chosen.slices)
    trials = find_trials(chosen.slices, positions @ part.normal)
    slices = [one for index, one in enumerate(chosen.slices) if index not in trials]
    positions = np.delete(positions, trials, axis=0)
    depths = positions @ part.normal
    warnings = [*chosen.warnings, *_on_trials(len(trials)), *check_gaps(depths)]
    order = order_phases(slices)
    check_headers(order.frames, depths)
    _check_interleaved(order.frames, depths)
    affine, bent = _affine(order.frames, positions)
    rr_ms = rr_intervals(order.frames)
    warnings += [*bent, *order.warnings, *_on_time(order.frames, order.rung, rr_ms)]
    spare = (*chosen.spare, *(frame for index in trials for frame in chosen.slices[index]))
    return Stack(order.frames, affine, order.times_ms, rr_ms, tuple(warnings), spare)


def _positions(slices: Sequence[Sequence[Frame]]) -> Floats:
    """Position of each slice, ``(slices, 3)`` LPS [mm]: the median of its images'.

    Raises:
        Refusal: MIXED_GEOMETRY if the images of a slice lie apart.
    """
    every = [np.asarray([frame.position for frame in one], dtype=float) for one in slices]
    middles = [np.median(one, axis=0) for one in every]
    spread = [float(np.abs(one - middle).max()) for one, middle in zip(every, middles, strict=True)]
    if max(spread) > SPREAD_IN_SLICE_MM:
        where = f"slice {int(np.argmax(spread)) + 1} of {len(slices)}"
        raise Refusal(Code.MIXED_GEOMETRY, f"images of {where} lie {max(spread):.1f} mm apart")
    return np.asarray(middles)


def _check_interleaved(frames: Sequence[Sequence[Frame]], depths: Floats) -> None:
    """Two stacks, one planned half a gap beside the other, are not one stack of twice the slices.

    Raises:
        Refusal: SEVERAL_CINES if slices overlap, and every second one was acquired before all the others, by the time
            of the day or the numbers of series.
    """
    thickness = [frame.thickness_mm for one in frames for frame in one if frame.thickness_mm]
    gap = float(np.median(np.diff(depths)))
    if not thickness or gap >= OVERLAP * np.median(thickness):
        return
    names = sorted({frame.series for one in frames for frame in one}, key=lambda name: (len(name), name))
    numbered = field_table(frames, lambda frame: names.index(frame.series))
    acquired = field_table(frames, lambda frame: frame.acquisition_s)
    for table in (acquired, numbered):
        if table is None or len(names) < len(frames):  # planned as one
            continue
        even, odd = (np.median(table[first::2], axis=1) for first in (0, 1))
        if even.max() < odd.min() or odd.max() < even.min():
            said = f"slices of {np.median(thickness):.1f} mm are {gap:.1f} mm apart, as if two stacks were one"
            raise Refusal(Code.SEVERAL_CINES, said)


def _affine(frames: Sequence[Sequence[Frame]], positions: Floats) -> tuple[Floats, list[str]]:
    orientations = [np.median([frame.orientation for frame in one if frame.orientation], axis=0) for one in frames]
    one = frames[0][0]
    spacing = one.pixel_spacing or (0.0, 0.0)
    return fit_affine(positions, orientations, spacing, (one.rows, one.cols))


def _on_trials(count: int) -> list[str]:
    said = "1 slice" if count == 1 else f"{count} slices"
    return [f"TRIAL_SLICES: {said} acquired before the stack, and off its grid, left out"] if count else []


def _on_time(frames: Sequence[Sequence[Frame]], rung: str, rr_ms: Floats) -> list[str]:
    """Warnings on phases and heartbeat."""
    warnings, phases = [], len(frames[0])
    if phases < FEW_PHASES:
        warnings.append(f"FEW_PHASES: {phases} phases; a cine usually has {FEW_PHASES} or more")
    if rung not in CLOCKS:
        warnings.append(f"UNTIMED: no header times the phases; they are in the order of {rung}")
    announced = Counter(frame.n_cardiac_images for one in frames for frame in one).most_common(1)[0][0] or phases
    if announced > phases:
        warnings.append(f"FEWER_PHASES: headers announce {announced} phases, {phases} are there")
    known = rr_ms[np.isfinite(rr_ms)]
    triggered = field_table(frames, lambda frame: frame.trigger_ms)
    if known.size and triggered is not None:
        beats = float(np.median(np.ptp(triggered, axis=1)) / np.median(known))
        if beats > SEVERAL_BEATS:
            warnings.append(f"SEVERAL_BEATS: trigger times span {beats:.1f} heart cycles; slices may not keep step")
    if known.size and np.ptp(known) > ARRHYTHMIA * np.median(known):
        warnings.append(f"ARRHYTHMIA: the heart cycle varies from {known.min():.0f} to {known.max():.0f} ms")
    return warnings
