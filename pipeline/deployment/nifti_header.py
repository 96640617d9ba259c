"""What a NIfTI-1 file says before its values: shape, type, scaling and place, as nibabel understands them.

nibabel itself would do, but brings pydicom with it: twice the time that a hospital's container takes to start.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 348  # bytes; the header begins with this number
MAGIC = b"n+1\0"  # header and values in one file
TYPES = {
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"},
    **{256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"},
}
FURTHEST_DATA = 1 << 20  # bytes; extensions of the header lie before the values
QUATERNION_TOLERANCE = 3 * float(np.finfo(np.float32).eps)  # of its length, squared

Affine = NDArray[np.float64]


class NiftiHeaderError(ValueError):
    """A header that does not hold together; says nothing of what stands in it."""


@dataclass(frozen=True)
class NiftiHeader:
    """A NIfTI-1 header.

    Attributes:
        shape: ``(x, y, z, …)``.
        stored: type of the values in the file.
        offset: first byte of the values.
        slope: by which stored values are multiplied.
        intercept: that is then added.
        affine: 4 x 4, RAS [mm], of ``(x, y, z, 1)``.
    """

    shape: tuple[int, ...]
    stored: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: Affine


def byte_order(start: bytes) -> str:
    """``<`` or ``>`` by the first four bytes of a header; empty if they begin none."""
    return next((order for order in "<>" if start == struct.pack(f"{order}i", SIZE)), "")


def parse_header(block: bytes) -> NiftiHeader:
    """Read a header.

    Args:
        block: the first 348 bytes of a file.

    Returns:
        What it says. Of the two ways to tell the place the sform goes before the qform, as in nibabel.

    Raises:
        NiftiHeaderError: if it is none, or does not hold together.

    Source: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
    """
    order = byte_order(block[:4])
    if len(block) < SIZE or not order or block[344:348] != MAGIC:
        raise NiftiHeaderError("not the header of a NIfTI-1 file")

    def read(kinds: str, offset: int) -> tuple[Any, ...]:
        return struct.unpack_from(f"{order}{kinds}", block, offset)

    dimensions, pixdim = read("8h", 40), np.asarray(read("8f", 76), dtype=np.float64)
    (kind, bits), (offset, slope, intercept) = read("2h", 70), read("3f", 108)
    qform, sform = read("2h", 252)
    shape = dimensions[1 : 1 + dimensions[0]]
    if not 1 <= dimensions[0] <= 7 or min(shape) < 1 or kind not in TYPES:
        raise NiftiHeaderError("shape or type of the values is none")
    stored = np.dtype(order + TYPES[kind])
    if 8 * stored.itemsize != bits or not SIZE <= offset <= FURTHEST_DATA:
        raise NiftiHeaderError("the values cannot lie where the header says")
    if slope == 0 or not math.isfinite(slope):  # then there is no scaling
        slope, intercept = 1.0, 0.0
    if sform:
        affine = np.vstack([np.asarray(read("12f", 280), dtype=np.float64).reshape(3, 4), [0, 0, 0, 1]])
    elif qform:
        affine = _from_quaternion(np.asarray(read("6f", 256), dtype=np.float64), pixdim)
    else:
        affine = _from_sizes(shape, pixdim)
    if not (np.isfinite(affine).all() and math.isfinite(intercept)):
        raise NiftiHeaderError("place or scaling are no numbers")
    return NiftiHeader(tuple(shape), stored, int(offset), slope, intercept, affine)


def _from_quaternion(values: NDArray[np.float64], pixdim: NDArray[np.float64]) -> Affine:
    """The qform: three parts of a unit quaternion and the place of the first voxel.

    Raises:
        NiftiHeaderError: if the parts are longer than 1.
    """
    b, c, d = values[:3]
    rest = 1.0 - (b * b + c * c + d * d)
    if not rest >= -QUATERNION_TOLERANCE:
        raise NiftiHeaderError("the quaternion is no rotation")
    a = math.sqrt(max(rest, 0.0))
    if rest <= QUATERNION_TOLERANCE:
        a = 0.0
    length = a * a + b * b + c * c + d * d
    a, b, c, d = (part / math.sqrt(length) for part in (a, b, c, d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.abs(pixdim[1:4]) * [1, 1, -1 if pixdim[0] == -1 else 1]
    affine[:3, 3] = values[3:]
    return affine


def _from_sizes(shape: tuple[int, ...], pixdim: NDArray[np.float64]) -> Affine:
    """Neither sform nor qform: the middle of the volume in the middle, the first axis to the left."""
    sizes = np.abs(pixdim[1:4]) * [-1, 1, 1]
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = -sizes * (np.asarray((*shape, 1, 1)[:3]) - 1) / 2
    return affine
