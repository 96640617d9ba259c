"""What a series is, where it is not a cine: by what its headers say of contrast and time; text is a hint at most."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from pipeline.dicom.frame_records import Frame
from pipeline.dicom.parts import Part
from pipeline.dicom.refusal import Code
from pipeline.dicom.repeats import FEWEST_PHASES
from pipeline.dicom.time_order import LARGEST_STEP_MS, LONGEST_CYCLE_MS

LOCALISER_TYPES = frozenset({"LOCALIZER", "LOCALISER", "SCOUT", "SURVEY", "PLAN_SCAN"})
DERIVED_TYPE = re.compile(r"(^|[ _])(MPR|MIP|MINIP|PROJECTION|REFORMATTED|SUBTRACT(ION)?|RESAMPLED|SCREEN.*)($|[ _])")
FLOW_TYPES = frozenset({"P", "PHASE", "PHASE MAP", "VELOCITY", "VELOCITY MAP", "FLOW", "FLOW_ENCODED", "PCA", "M_PCA"})
PART_TYPES = frozenset({"R", "I", "REAL", "IMAGINARY"})
MAP_TYPE = re.compile(r"(^|[ _])(MAP|ADC)$")
MAP_TEXT = re.compile(r"molli|t[12]\*?[ _-]?map|t2\*|t2[ _-]?star|ti[ _-]?scout|look[ _-]?locker", re.IGNORECASE)
TAG_TEXT = re.compile(r"(?<![a-z])(tag(s|ged|ging)?|c?spamm|grid)(?![a-z])", re.IGNORECASE)

FEWEST_OF_A_CINE = 4  # images at a place: fewer are stills, made several times at most
FEWEST_OF_A_MAP = 3  # inversion or echo times
LARGEST_JITTER_MS = 200.0  # of a trigger time that is meant to be one; phases of a heartbeat spread further


def kind_of(part: Part, *, turned: bool = False) -> tuple[Code, str] | None:
    """Tell what a part of a series is, if it is no cine.

    Args:
        part: the part.
        turned: whether its series has images of several orientations.

    Returns:
        Code and detail; ``None`` for what may be a cine.
    """
    types = {value.upper() for frame in part.frames for value in frame.image_type}
    text = " ".join({f"{frame.text} {frame.sequence_name}" for frame in part.frames})
    sequences = {value.upper() for frame in part.frames for value in frame.scanning_sequence}
    if types & LOCALISER_TYPES:
        return Code.LOCALISER, ""
    if any(DERIVED_TYPE.search(value) for value in types) or "SECONDARY" in types:
        return Code.DERIVED, ""  # a secondary image may have contours drawn in
    if types & FLOW_TYPES or any(f.velocity_encoded or f.complex_component.startswith("PHASE") for f in part.frames):
        return Code.FLOW, ""
    return _map_or_enhancement(part, types, text, sequences) or _by_time(part, text, sequences, turned=turned)


def _map_or_enhancement(part: Part, types: set[str], text: str, sequences: set[str]) -> tuple[Code, str] | None:
    inversions = {round(frame.inversion_ms) for frame in part.largest if frame.inversion_ms}
    echoes = {round(frame.echo_ms, 1) for frame in part.largest if frame.echo_ms}
    if len(inversions) >= FEWEST_OF_A_MAP:
        return Code.MAP, f"{len(inversions)} inversion times at one place"
    if len(echoes) >= FEWEST_OF_A_MAP:
        return Code.MAP, f"{len(echoes)} echo times at one place"
    if any(MAP_TYPE.search(value) for value in types) or MAP_TEXT.search(text):
        return Code.MAP, ""
    if "IR" in sequences or (inversions and part.per_place < FEWEST_OF_A_CINE):
        return Code.LATE_ENHANCEMENT, "inversion-prepared"
    if types & PART_TYPES:
        return Code.DERIVED, "real or imaginary part"
    return None


def _by_time(part: Part, text: str, sequences: set[str], *, turned: bool) -> tuple[Code, str] | None:
    if TAG_TEXT.search(text):
        return Code.TAGGING, ""
    if part.per_place < FEWEST_OF_A_CINE:
        return None if _announced(part) >= FEWEST_PHASES else _still(part, turned=turned)
    step, planar = beat_step_s(part.largest), "EP" in sequences
    if step is not None:
        said = f"images at one place are {step:.1f} s apart"
        return (Code.NO_CINE, f"echo-planar; {said}") if planar else (Code.PERFUSION, said)
    return (Code.NO_CINE, "echo-planar, without a heartbeat") if planar and not has_heartbeat(part.largest) else None


def _announced(part: Part) -> int:
    """How many phases headers tell of: with so few images, what is left of a cine."""
    return max(frame.n_cardiac_images or 0 for frame in part.frames)


def _still(part: Part, *, turned: bool) -> tuple[Code, str]:
    if part.per_place > 1:
        return Code.STILL, f"{part.per_place} images at each place"
    return (Code.LOCALISER, "stills of several orientations") if turned else (Code.STILL, "")


def beat_step_s(images: Sequence[Frame]) -> float | None:
    """Time between images at one place, where that is more than a phase of a heartbeat can last.

    Trigger times are believed first, then acquisition times; the time an image was written is only asked
    where all have one trigger time, but for jitter.

    Args:
        images: all images at a place.

    Returns:
        The median step [s]; ``None`` for a cine, or where nothing tells.
    """
    if len(images) < FEWEST_OF_A_CINE:
        return None
    trigger = [frame.trigger_ms for frame in images]
    if None not in trigger and np.ptp(np.asarray(trigger, dtype=float)) > LARGEST_JITTER_MS:
        steps = np.median(np.diff(np.sort(np.asarray(trigger, dtype=float))))
        return float(steps / 1000) if steps > LARGEST_STEP_MS else None
    clocks = [[frame.acquisition_s for frame in images]]
    if trigger[0] is not None:
        clocks.append([frame.content_s for frame in images])
    for clock in clocks:
        if None in clock or not _spread(clock):
            continue
        times = np.sort(np.asarray(clock, dtype=float))
        step = float(np.median(np.diff(times)))
        if step * 1000 > LARGEST_STEP_MS and np.ptp(times) * 1000 > LONGEST_CYCLE_MS:
            return step
    return None


def _spread(values: Sequence[float | None]) -> bool:
    return len(set(values)) > 1


def has_heartbeat(images: Sequence[Frame]) -> bool:
    """Whether headers time the images within a heart cycle."""
    for field in ("trigger_ms", "delay_ms", "cycle_percent"):
        values = [getattr(frame, field) for frame in images]
        if None not in values and len(set(values)) >= FEWEST_OF_A_CINE and np.ptp(values) <= LONGEST_CYCLE_MS:
            return True
    return any((frame.n_cardiac_images or 0) > 1 for frame in images)
