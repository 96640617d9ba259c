"""A cine in one NIfTI file, with a few facts on its scanner beside it: for whoever has no DICOM any more.

The facts stand in a JSON object of the image's name, ``cine.json`` beside ``cine.nii.gz``::

    {"manufacturer": "SIEMENS", "model": "Avanto", "field_strength": 1.5}

Each may be missing, and so may the file; the scanner is then not known, and counts as one that was never audited.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.deployment.cine_input import CineInput
from pipeline.deployment.nifti_header import SIZE, NiftiHeader, NiftiHeaderError, byte_order, parse_header
from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.system_errors import pass_on
from transforms.geometry import spacing_mm
from transforms.scanner import Scanner

FACTS = ("manufacturer", "model", "field_strength")
LONGEST_FACTS = 1 << 16  # bytes
SUFFIXES = (".nii.gz", ".nii")
GZIP = b"\x1f\x8b"
FEWEST_PHASES, FEW_PHASES, FEWEST_SLICES = 2, 15, 6
SMALLEST_SPACING_MM, LARGEST_FIELD_OF_VIEW_MM = 0.05, 2000.0
LARGEST_VALUE = 1e15  # its square is still a float32
MIB = 1 << 20


@dataclass(frozen=True)
class NiftiInput:
    """A cine whose header was read.

    Attributes:
        scanner: by the facts beside it.
        cine: reads the image; raises a Refusal if it cannot be read.
    """

    scanner: Scanner
    cine: Callable[[], CineInput]


def is_nifti(path: Path) -> bool:
    """Whether a file is a NIfTI image, by its name and by how it begins: a DICOM file may bear any name."""
    if not path.name.lower().endswith(SUFFIXES):
        return False
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        pass_on(error)
        return False
    return start[:2] == GZIP or bool(byte_order(start))


def read_nifti(path: Path, *, most_bytes: int) -> NiftiInput:
    """Read a cine's header and the facts on its scanner.

    Args:
        path: ``.nii`` or ``.nii.gz``, 4-D: ``(x, y, z, t)``.
        most_bytes: that its values may take in memory.

    Returns:
        The cine, its values not read yet.

    Raises:
        Refusal: if header or facts cannot be used, it is no cine, or it is too large.
        OSError: if the machine fails (:mod:`pipeline.dicom.system_errors`).
    """
    scanner = _scanner(path)
    try:
        with _opened(path) as stream:
            header = parse_header(stream.read(SIZE))
    except NiftiHeaderError:
        raise Refusal(Code.UNREADABLE_FILE, "the NIfTI-1 header does not hold together") from None
    _check(header)
    needed = math.prod(header.shape) * _held(header).itemsize
    if needed > most_bytes:
        raise Refusal(Code.TOO_LARGE, f"{needed / MIB:.0f} MiB of pixels; at most {most_bytes / MIB:.0f} may be held")
    return NiftiInput(scanner, lambda: _cine(path, header))


def _scanner(path: Path) -> Scanner:
    """The scanner by the facts beside an image.

    Raises:
        Refusal: SCANNER_FACTS; it says nothing of what stands in the file.
    """
    suffix = next(suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix))
    beside = path.with_name(path.name[: -len(suffix)] + ".json")
    if not beside.is_file():
        return Scanner()
    try:
        with beside.open("rb") as stream:
            facts = json.loads(stream.read(LONGEST_FACTS))
    except (OSError, ValueError, RecursionError) as error:
        pass_on(error)
        raise Refusal(Code.SCANNER_FACTS, "it is no JSON") from None
    if not isinstance(facts, dict):
        raise Refusal(Code.SCANNER_FACTS, "it is no object")
    for name in facts.keys() - set(FACTS):
        import difflib

        near = difflib.get_close_matches(name.lower(), FACTS, n=1, cutoff=0)[0]
        raise Refusal(Code.SCANNER_FACTS, f"it has a name that is not known; the nearest one that is known is {near}")
    maker, model, field = (facts.get(name) for name in FACTS)
    numbers = isinstance(field, str | int | float | None) and not isinstance(field, bool)
    if not (isinstance(maker, str | None) and isinstance(model, str | None) and numbers):
        raise Refusal(Code.SCANNER_FACTS, "manufacturer and model must be texts, field_strength a number")
    return Scanner.from_raw(manufacturer=maker, model=model, field_strength=field)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked.

    Raises:
        Refusal: if they cannot be read or unpacked.
    """
    try:
        with path.open("rb") as stream:
            zipped = stream.read(2) == GZIP
            stream.seek(0)
            if not zipped:
                yield stream
                return
            with gzip.GzipFile(fileobj=stream) as unpacked:
                yield cast(BinaryIO, unpacked)
    except EOFError:
        raise Refusal(Code.TRUNCATED_FILE) from None
    except (OSError, zlib.error) as error:
        pass_on(error)
        raise Refusal(Code.UNREADABLE_FILE) from None


def _check(header: NiftiHeader) -> None:
    """Refuse what is no cine stack.

    A NIfTI may have lost its orientation on the way, so that it is not asked whether it crosses the heart's axis.

    Raises:
        Refusal: if shape or place are not those of a cine.
    """
    if len(header.shape) > 4:
        raise Refusal(Code.UNREADABLE_FILE, f"the image has {len(header.shape)} axes; a cine has 4")
    cols, rows, slices, phases = (*header.shape, 1, 1, 1)[:4]
    if phases < FEWEST_PHASES:
        raise Refusal(Code.TOO_FEW_PHASES, f"{phases} phase; at least {FEWEST_PHASES} are needed")
    if slices < FEWEST_SLICES:
        raise Refusal(Code.TOO_FEW_SLICES, f"{slices} slices; at least {FEWEST_SLICES} are needed")
    try:
        spacing = spacing_mm(header.affine)
    except ValueError:
        raise Refusal(Code.NO_GEOMETRY) from None
    if min(spacing) < SMALLEST_SPACING_MM or max(rows * spacing[1], cols * spacing[2]) > LARGEST_FIELD_OF_VIEW_MM:
        raise Refusal(Code.NO_GEOMETRY, "the distances between pixels are not those of a scanner, in mm")


def _held(header: NiftiHeader) -> np.dtype[Any]:
    """Type in memory: integers as they are stored, all else as float32."""
    as_stored = header.stored.kind in "iu" and (header.slope, header.intercept) == (1.0, 0.0)
    return header.stored.newbyteorder("=") if as_stored else np.dtype(np.float32)


def _cine(path: Path, header: NiftiHeader) -> CineInput:
    """Read the values, image by image: what each needs beside them in memory is small."""
    cols, rows, slices, phases = header.shape
    values = np.empty((phases, slices, rows, cols), _held(header))
    with _opened(path) as stream:
        stream.seek(header.offset)
        for image in values.reshape(-1, rows, cols):
            image[:] = _image(stream, header, (rows, cols))
    few = f"FEW_PHASES: {phases} phases; a cine usually has {FEW_PHASES} or more"
    return CineInput(values, header.affine, (few,) if phases < FEW_PHASES else ())


def _image(stream: BinaryIO, header: NiftiHeader, shape: tuple[int, int]) -> NDArray[Any]:
    """The next image, ``(rows, cols)``.

    Raises:
        Refusal: if the file ends first, or a value is none.
    """
    count = math.prod(shape)
    data = stream.read(count * header.stored.itemsize)
    if len(data) < count * header.stored.itemsize:
        raise Refusal(Code.TRUNCATED_FILE)
    stored = np.frombuffer(data, header.stored).reshape(shape)
    if _held(header).kind != "f":
        return stored
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = stored if (header.slope, header.intercept) == (1.0, 0.0) else stored * header.slope + header.intercept
    if not (np.abs(scaled) <= LARGEST_VALUE).all():  # nor may any be NaN
        raise Refusal(Code.UNREADABLE_PIXELS, "not every value is a usable number")
    return scaled
