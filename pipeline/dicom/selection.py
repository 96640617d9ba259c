"""Of all images of a study the one short-axis cine; everything else is left out, with its reason.

Geometry and timing decide. Text is asked last, where two cines fit equally well, and then only for a plain hint.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from pipeline.dicom.candidates import Candidate, Ledger, find_candidates
from pipeline.dicom.families import SAME_ORIENTATION_DEG, contrast, is_derived
from pipeline.dicom.frame_records import Frame
from pipeline.dicom.parts import Part, depth_of
from pipeline.dicom.refusal import Code, LeftOut, Refusal
from pipeline.dicom.stack import Stack
from pipeline.dicom.stack_geometry import tilt_between

MORE_COMPLETE = 1.5  # times the slices: clearly the stack, and not the other way round
PART_OF_A_STACK = 0.5  # as many slices of the same planes in another frame of reference: the stack may be in two
BESIDE_GAPS = (0.5, 2.5)  # gaps beyond the last slice in which a slice still looks like one of the stack
CINE_TEXT = re.compile(r"cine|short[ _-]?ax|(?<![a-z])s(ax|a)(?![a-z])", re.IGNORECASE)


@dataclass
class Selection:
    """The stack that is read, and what is left out.

    Attributes:
        stack: the stack.
        left_out: every other image, counted by series and reason.
    """

    stack: Stack
    left_out: tuple[LeftOut, ...] = ()


def select(frames: Sequence[Frame]) -> Selection:
    """Find the short-axis cine.

    Args:
        frames: all MR images of a study.

    Returns:
        The stack, and for every other image why it is not in it.

    Raises:
        Refusal: if there is none, with the code that tells most (of the nearest candidate, if there is one), and
            with every series and its reason in ``left_out``.
    """
    ledger = Ledger()
    candidates = find_candidates(frames, ledger)
    try:
        chosen = _choose(candidates, ledger)
    except Refusal as refusal:
        raise Refusal(refusal.code, refusal.detail, ledger.left_out()) from None
    return Selection(chosen, ledger.left_out())


def _choose(candidates: Sequence[Candidate], ledger: Ledger) -> Stack:
    """The one that fits; the reasons of the others are written down.

    Raises:
        Refusal: if none or several do.
    """
    for one in candidates:
        if one.refusal is not None:
            ledger.add(one.frames, one.refusal.code, one.refusal.detail)
    good = [(one, one.stack) for one in candidates if one.stack is not None]
    if not good:
        raise _nearest(candidates, ledger)
    good = _without_derived(good, candidates, ledger)
    good = _without_repeats(good, ledger)
    good = _by_hint(good, ledger)
    (chosen, stack), *others = good
    try:
        if others:
            raise Refusal(Code.SEVERAL_CINES, f"{len(good)} stacks of {_sizes(good)} slices")
        _check_beside(chosen, stack, candidates)
    except Refusal as refusal:
        for one, _ in good:
            ledger.add(one.frames, refusal.code, refusal.detail)
        raise
    ledger.add(stack.spare, Code.REPEATED)
    if any(is_derived(frame) for frame in stack.frames[0]):
        warning = "DERIVED_IMAGES: the images were computed from others; their originals are not in the study"
        return replace(stack, warnings=(*stack.warnings, warning))
    return stack


Good = list[tuple[Candidate, Stack]]


def _sizes(good: Good) -> str:
    return " and ".join(str(len(stack.frames)) for _, stack in good)


def _nearest(candidates: Sequence[Candidate], ledger: Ledger) -> Refusal:
    """The refusal that tells most: that of the largest candidate across the long axis, scraps last."""
    refused = [(one, one.refusal) for one in candidates if one.refusal is not None]
    views = {Code.LONG_AXIS, Code.NOT_SHORT_AXIS, Code.NO_CINE}
    across = [(one, refusal) for one, refusal in refused if refusal.code not in views]
    small = {Code.TOO_FEW_SLICES, Code.TOO_FEW_PHASES}
    across.sort(key=lambda item: (item[1].code in small, -len(item[0].frames)))
    if across:
        return Refusal(across[0][1].code, across[0][1].detail)
    if any(refusal.code in {Code.LONG_AXIS, Code.NOT_SHORT_AXIS} for _, refusal in refused):
        return Refusal(Code.NOT_SHORT_AXIS)
    lacking = sum(entry.images for entry in ledger.left_out() if entry.code is Code.NO_GEOMETRY)
    if lacking and not refused:
        return Refusal(Code.NO_GEOMETRY, f"{lacking} images lack it")
    return Refusal(Code.NO_CINE)


def _without_derived(good: Good, candidates: Sequence[Candidate], ledger: Ledger) -> Good:
    """Leave out computed copies where there are originals.

    Raises:
        Refusal: the original's, if it was refused: its copy is no remedy.
    """
    originals = [(one, stack) for one, stack in good if not is_derived(one.frames[0])]
    copies = [one for one, _ in good if is_derived(one.frames[0])]
    refused = [one for one in candidates if one.refusal is not None and not is_derived(one.frames[0])]
    refused = [one for one in refused if any(_tilt(one, copy) < SAME_ORIENTATION_DEG for copy in copies)]
    if originals or refused:
        for one in copies:
            ledger.add(one.frames, Code.DERIVED, "a copy of a cine")
    if refused and not originals:
        raise _nearest(refused, ledger)
    return originals or good


def _without_repeats(good: Good, ledger: Ledger) -> Good:
    """Leave out what was acquired again later, and what is far smaller than another."""
    gone: dict[int, tuple[Code, str]] = {}
    for (one, stack), (_, other) in permutations(good, 2):
        if len(stack.frames) * MORE_COMPLETE <= len(other.frames):
            gone[id(one)] = (Code.TOO_FEW_SLICES, f"another stack has {len(other.frames)} slices")
        elif _is_repeat(stack, other):
            gone.setdefault(id(one), (Code.REPEATED, ""))
    for one, _ in good:
        if id(one) in gone:
            ledger.add(one.frames, *gone[id(one)])
    return [(one, stack) for one, stack in good if id(one) not in gone]


def _is_repeat(stack: Stack, later: Stack) -> bool:
    """Whether a stack was planned like another (slices, phases, matrix, spacing, orientation) and came later."""
    one, other = stack.frames[0][0], later.frames[0][0]
    alike = (one.rows, one.cols, np.shape(stack.times_ms)) == (other.rows, other.cols, np.shape(later.times_ms))
    if not alike or not np.allclose(one.pixel_spacing or 0, other.pixel_spacing or 0, rtol=1e-3):
        return False
    if tilt_between(one.orientation or (), other.orientation or ()) > SAME_ORIENTATION_DEG:
        return False
    ends, starts = ([f.acquisition_s for s in each.frames for f in s] for each in (stack, later))
    known = [value for value in ends if value is not None], [value for value in starts if value is not None]
    return bool(known[0]) and bool(known[1]) and max(known[0]) < min(known[1])


def _by_hint(good: Good, ledger: Ledger) -> Good:
    """If one alone is called a short-axis cine, it is that."""
    named = [(one, stack) for one, stack in good if CINE_TEXT.search(one.frames[0].text)]
    if len(good) < 2 or len(named) != 1:
        return good
    for one, _ in good:
        if one is not named[0][0]:
            ledger.add(one.frames, Code.SEVERAL_CINES, "another is named as the short-axis cine")
    return named


def _check_beside(chosen: Candidate, stack: Stack, candidates: Sequence[Candidate]) -> None:
    """A stack must not end where images of its kind go on that did not fit into it.

    Raises:
        Refusal: MISSING_PHASE if a slice with another number of phases lies just beyond an end; MIXED_GEOMETRY if
            another frame of reference has half as many slices in parallel planes.
    """
    part = Part(chosen.frames)
    for other in (one for one in candidates if one.stack is None and _is_parallel(one, chosen)):
        images = Part(other.frames).by_place
        if other.family == chosen.family:
            _check_ends(part, images, len(stack.frames[0]))
        elif len(images) >= PART_OF_A_STACK * len(stack.frames):
            raise Refusal(Code.MIXED_GEOMETRY, f"{len(images)} more slices are in another frame of reference")


def _is_parallel(one: Candidate, other: Candidate) -> bool:
    same = contrast(one.frames[0]) == contrast(other.frames[0])
    return one is not other and same and _tilt(one, other) < SAME_ORIENTATION_DEG


def _tilt(one: Candidate, other: Candidate) -> float:
    return tilt_between(one.frames[0].orientation or (), other.frames[0].orientation or ())


def _check_ends(part: Part, images: Sequence[Sequence[Frame]], phases: int) -> None:
    depths = part.depths_mm
    gap = float(np.median(np.diff(depths)))
    for one in images:
        depth = depth_of(one, part.normal)
        beyond = max(depth - depths[-1], depths[0] - depth) / gap
        if BESIDE_GAPS[0] < beyond < BESIDE_GAPS[1]:
            raise Refusal(Code.MISSING_PHASE, f"a slice at the end has {len(one)} phases, others {phases}")
