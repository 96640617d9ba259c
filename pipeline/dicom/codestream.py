"""What a compressed image says of itself in its first bytes.

Decoders written in C trust it: where it contradicts the DICOM header they read or write beyond their memory, or end the
whole process, which no ``except`` can catch. So it is compared before a decoder sees it.

Source: ITU-T T.81 annex B (JPEG), T.87 annex C (JPEG-LS), T.800 annex A (JPEG 2000).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

START, JPEG_LS_FRAME = 0xD8, 0xF7
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {JPEG_LS_FRAME}  # the three are tables and an extension
ALONE = frozenset({0x01, *range(0xD0, 0xD8), START})  # marks without a length
JPEG_2000 = b"\xff\x4f\xff\x51"


class CodedImage(NamedTuple):
    """Size of a compressed image, by its own account.

    Attributes:
        rows: of the matrix.
        cols: of the matrix.
        bits: of a sample.
        samples: of a pixel.
    """

    rows: int
    cols: int
    bits: int
    samples: int


def read_codestream(data: bytes) -> CodedImage | None:
    """Read the size of an image in JPEG, JPEG-LS or JPEG 2000.

    Args:
        data: one compressed image.

    Returns:
        Its size; ``None`` if it is none of the three, or is broken before it tells.

    Example:
        >>> read_codestream(bytes.fromhex("ffd8 fff7 000b 0c 0180 0100 01 011100"))
        CodedImage(rows=384, cols=256, bits=12, samples=1)
    """
    try:
        return _jpeg_2000(data) if data.startswith(JPEG_2000) else _jpeg(data)
    except struct.error:  # the data end first
        return None


def _jpeg(data: bytes) -> CodedImage | None:
    at = 2
    if data[:2] != bytes([0xFF, START]):
        return None
    while True:
        fill, mark = struct.unpack_from(">BB", data, at)
        if fill != 0xFF:
            return None
        if mark in FRAMES:
            bits, rows, cols, samples = struct.unpack_from(">BHHB", data, at + 4)
            return CodedImage(rows, cols, bits, samples)
        if mark == 0xFF:
            at += 1
        elif mark in ALONE:
            at += 2
        else:
            at += 2 + max(struct.unpack_from(">H", data, at + 2)[0], 2)


def _jpeg_2000(data: bytes) -> CodedImage:
    right, bottom, left, top = struct.unpack_from(">4L", data, 8)
    samples, bits = struct.unpack_from(">HB", data, 40)
    return CodedImage(bottom - top, right - left, (bits & 0x7F) + 1, samples)
