"""A study's DICOM files, in any order and under any name, as one short-axis cine stack, or a coded refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dicom.frames import Frame, StudyFiles, StudyTags, read_pixels, read_study
from pipeline.dicom.refusal import Code, LeftOut, Refusal
from pipeline.dicom.selection import select
from pipeline.dicom.stack import Stack

MIB = 1 << 20
BROKEN = frozenset({Code.TRUNCATED_FILE, Code.UNREADABLE_FILE})


@dataclass(frozen=True)
class Cine:
    """A short-axis cine.

    Attributes:
        values: ``(phases, slices, rows, cols)``: integers as stored, float32 where the header rescales.
        affine: ``(4, 4)``, RAS [mm]: ``values[p, s, r, c]`` lies at ``affine @ (c, r, s, 1)``. As NIfTI the array is
            ``values.transpose(3, 2, 1, 0)``, ``(x, y, z, t)``, with this affine.
        times_ms: ``(phases, slices)``, time after the trigger; NaN where no header tells.
        rr_ms: ``(slices,)``, length of the heart cycle; NaN where no header tells.
        sources: ``[phase][slice]``, SOPInstanceUID and number of the image in its file, from 0.
        tags: whose study it is, and of which scanner.
        warnings: what is odd, though it can be read; each begins with its code.
        left_out: everything else in the study, with its reason.
        files: in which its images are, each once.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64]
    times_ms: NDArray[np.float64]
    rr_ms: NDArray[np.float64]
    sources: tuple[tuple[tuple[str, int], ...], ...]
    tags: StudyTags
    warnings: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    files: tuple[Path, ...] = ()


def read_cine(paths: Iterable[Path]) -> Cine:
    """Read the short-axis cine of one study: headers first, then the pixels of its images, once.

    Args:
        paths: the study's files; others among them are left out.

    Returns:
        The cine.

    Raises:
        Refusal: with its code, what was found, and every series' reason in ``left_out``.
    """
    return assemble_cine(read_study(paths))


def assemble_cine(study: StudyFiles, *, most_bytes: int | None = None) -> Cine:
    """Find the short-axis cine among a study's images, and read its pixels.

    Args:
        study: its headers.
        most_bytes: that the cine's pixels may take in memory; ``None`` sets no limit.

    Returns:
        The cine.

    Raises:
        Refusal: as :func:`read_cine`; ``TOO_LARGE`` before a pixel is decoded.
    """
    try:
        selection = select(study.frames)
    except Refusal as refusal:
        raise Refusal(refusal.code, refusal.detail, _in_order(study.left_out, refusal.left_out)) from None
    stack, left_out = selection.stack, _in_order(study.left_out, selection.left_out)
    try:
        _check_broken(stack, study)
        _check_size(stack, most_bytes)
        values = _read_values(stack)
    except Refusal as refusal:
        lost = Counter(frame.series for one in stack.frames for frame in one)
        entries = [LeftOut(series, images, refusal.code, refusal.detail) for series, images in lost.items()]
        raise Refusal(refusal.code, refusal.detail, _in_order(left_out, entries)) from None
    phases = zip(*stack.frames, strict=True)
    return Cine(
        values=values,
        affine=stack.affine,
        times_ms=stack.times_ms,
        rr_ms=stack.rr_ms,
        sources=tuple(tuple((frame.sop_uid, frame.number) for frame in phase) for phase in phases),
        tags=study.tags,
        warnings=stack.warnings,
        left_out=left_out,
        files=tuple(dict.fromkeys(frame.path for one in stack.frames for frame in one)),
    )


def _check_broken(stack: Stack, study: StudyFiles) -> None:
    """A broken file must not be a slice that is missing at an end of the stack: that could not be seen.

    Raises:
        Refusal: TRUNCATED_FILE if files cannot be read that are enough for a slice.
    """
    broken = sum(entry.images for entry in study.left_out if entry.code in BROKEN)
    a_file_a_slice = any(len({frame.path for frame in one}) == 1 for one in stack.frames)
    needed = 1 if a_file_a_slice else len(stack.frames[0])
    if broken >= needed:
        raise Refusal(Code.TRUNCATED_FILE, f"{broken} images cannot be read, enough for a slice")


def _check_size(stack: Stack, most_bytes: int | None) -> None:
    """Refuse a cine whose pixels would take too much memory.

    Raises:
        Refusal: TOO_LARGE.
    """
    frames = [frame for one in stack.frames for frame in one]
    needed = len(frames) * frames[0].rows * frames[0].cols * _pixel_type(frames).itemsize
    if most_bytes is not None and needed > most_bytes:
        raise Refusal(Code.TOO_LARGE, f"{needed / MIB:.0f} MiB of pixels; at most {most_bytes / MIB:.0f} may be held")


def _read_values(stack: Stack) -> NDArray[Any]:
    """Fill ``(phases, slices, rows, cols)``, file by file."""
    places = {(s, p): frame for s, one in enumerate(stack.frames) for p, frame in enumerate(one)}
    order = sorted(places, key=lambda place: (str(places[place].path), places[place].number))
    frames = [places[place] for place in order]
    values: NDArray[Any] | None = None
    for (s, p), pixels in zip(order, read_pixels(frames), strict=True):
        if values is None:
            shape = (len(stack.frames[0]), len(stack.frames), *pixels.shape)
            values = np.empty(shape, _pixel_type(frames))
        if not np.can_cast(pixels.dtype, values.dtype):
            values = values.astype(np.promote_types(values.dtype, pixels.dtype))
        values[p, s] = pixels
    if values is None:
        raise Refusal(Code.NO_CINE)
    return values


def _pixel_type(frames: Sequence[Frame]) -> np.dtype[Any]:
    """Type that holds the pixels of all images, as their headers tell: float32 where one is rescaled."""
    return np.result_type(*{_type_of(frame) for frame in frames})


def _type_of(frame: Frame) -> str:
    place = frame.pixels
    if place is None or (frame.slope, frame.intercept) != (1.0, 0.0):
        return "f4"
    width = next(size for size in (1, 2, 4, 8) if 8 * size >= place.bits_allocated)
    return f"{'i' if place.signed else 'u'}{width}"


def _in_order(*entries: Sequence[LeftOut]) -> tuple[LeftOut, ...]:
    """What is left out, in the order of the series."""
    every = [entry for some in entries for entry in some]
    return tuple(
        sorted(every, key=lambda entry: (not entry.series.startswith("series"), len(entry.series), entry.series))
    )
