"""Which images of a study can belong together: one matrix, spacing, orientation, contrast and frame of reference.

Series are no guide: some scanners make one for each slice, others one for everything.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from pipeline.dicom.frame_records import Frame
from pipeline.dicom.parts import Part
from pipeline.dicom.stack_geometry import tilt_between

SAME_ORIENTATION_DEG = 2.0
SAME_SPACING = 1e-3  # relative
SMALLEST_SPACING_MM, LARGEST_FIELD_OF_VIEW_MM = 0.05, 2000.0  # beyond them no scanner makes images
COSINE_TOLERANCE = 0.02  # of lengths and of the right angle: far more than rounding makes


def has_geometry(frame: Frame) -> bool:
    """Whether position, orientation and pixel spacing are there, the orientation is one and the field of view, too."""
    if frame.position is None or frame.orientation is None or frame.pixel_spacing is None:
        return False
    values = (*frame.position, *frame.orientation, *frame.pixel_spacing)
    if not all(map(math.isfinite, values)) or min(frame.rows, frame.cols) < 1:
        return False
    rows_mm, cols_mm = (n * step for n, step in zip((frame.rows, frame.cols), frame.pixel_spacing, strict=True))
    if min(frame.pixel_spacing) < SMALLEST_SPACING_MM or max(rows_mm, cols_mm) > LARGEST_FIELD_OF_VIEW_MM:
        return False
    row, column = np.asarray(frame.orientation).reshape(2, 3)
    return bool(np.all(np.abs([row @ row - 1, column @ column - 1, row @ column]) < COSINE_TOLERANCE))


def is_derived(frame: Frame) -> bool:
    """Whether an image was computed from others, by its image type."""
    return "DERIVED" in {value.upper() for value in frame.image_type[:1]}


def families(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Sort images into families.

    Orientations within 2 degrees are one, so that rounding splits nothing. Frames of reference separate only where
    they hold several places: after de-identification every file may have its own.

    Args:
        frames: images with geometry.

    Returns:
        The families, each in the order given.
    """
    alike: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        alike[contrast(frame), frame.pixel_spacing, frame.orientation].append(frame)
    found: list[list[Frame]] = []
    for group in alike.values():
        near = next((family for family in found if _fits(family[0], group[0])), None)
        if near is None:
            found.append(list(group))
        else:
            near += group
    return [part for family in found for part in _by_frame_of_reference(family)]


def contrast(frame: Frame) -> tuple[Hashable, ...]:
    """What tells images of one acquisition from others at the same place: matrix, component, sequence."""
    types = {value.upper() for value in frame.image_type}
    return (
        frame.rows,
        frame.cols,
        is_derived(frame),
        frame.complex_component,
        tuple(sorted(types & {"M", "P", "R", "I", "PHASE", "REAL", "IMAGINARY"})),
        frame.velocity_encoded,
        tuple(sorted(frame.scanning_sequence)),
        (re.match(r"[^0-9]*", frame.sequence_name) or [""])[0],
        bool(frame.inversion_ms),
    )


def _fits(one: Frame, other: Frame) -> bool:
    if contrast(one) != contrast(other):
        return False
    apart = np.abs(np.divide(one.pixel_spacing or 1, other.pixel_spacing or 1) - 1).max()
    return bool(apart < SAME_SPACING) and tilt_between(one.orientation or (), other.orientation or ()) < (
        SAME_ORIENTATION_DEG
    )


def _by_frame_of_reference(family: Sequence[Frame]) -> list[list[Frame]]:
    """Separate frames of reference that hold several places each; those of one file tell nothing."""
    held: dict[str, list[Frame]] = defaultdict(list)
    for frame in family:
        held[frame.frame_of_reference].append(frame)
    speak = [name for name, frames in held.items() if len(frames) > 1 and len(Part(tuple(frames)).by_place) > 1]
    if len(held) == 1 or not speak:
        return [list(family)]
    silent = {name for name, frames in held.items() if name not in speak and len({f.path for f in frames}) == 1}
    home = speak[0] if len(speak) == 1 else None
    split: dict[str, list[Frame]] = defaultdict(list)
    for frame in family:
        name = frame.frame_of_reference
        split[home if home is not None and name in silent else name].append(frame)
    return list(split.values())
