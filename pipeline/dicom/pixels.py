"""Pixels of DICOM images: uncompressed ones by numpy alone, others by :mod:`pipeline.dicom.decoding`.

Decoders that this project installs: pylibjpeg-openjpeg, pylibjpeg-rle and GDCM; none of them under the GPL.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom._uid_dict import UID_dictionary
from pydicom.encaps import get_frame

from pipeline.dicom.codestream import read_codestream
from pipeline.dicom.decoding import RUN_LENGTHS, Decoding, DecodingError, decoder_of
from pipeline.dicom.frame_records import Frame, PixelPlace
from pipeline.dicom.header import EXPLICIT_BIG, UNCOMPRESSED
from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.system_errors import pass_on

MOST_OPEN = 64  # files of several images that are kept open at a time
LARGEST_VALUE = 1e15  # of a rescaled pixel: its square is still a float32
WHOLE_BYTES = frozenset({8, 16, 32})  # bits of a pixel that numpy has a type for


def read_pixels(frames: Sequence[Frame]) -> Iterator[NDArray[Any]]:
    """Read the pixels of images, one image at a time.

    Args:
        frames: in any order. Each file is opened once, though its images stand apart (up to 64 files of several
            images at a time), and of each file only the images asked for are decoded.

    Yields:
        ``(rows, cols)`` in the order of ``frames``, not to be written to. Integers as stored where the rescale slope
        is 1 and the intercept 0, else float32, rescaled.

    Raises:
        Refusal: ``UNSUPPORTED_TRANSFER_SYNTAX``, with its name, if no decoder is installed; ``TRUNCATED_FILE`` or
            ``UNREADABLE_PIXELS`` if the pixels are not all there or cannot be decoded or rescaled;
            ``UNREADABLE_FILE`` if the file is gone.
        OSError: if the machine fails (:mod:`pipeline.dicom.system_errors`).
    """
    remaining = Counter(frame.path for frame in frames)
    with Decoding() as decoding, ExitStack() as stack:
        streams: dict[Path, BinaryIO] = {}
        stack.callback(lambda: [stream.close() for stream in streams.values()])
        for frame in frames:
            if frame.path not in streams:
                streams[frame.path] = _open(frame)
            yield _rescaled(_stored(streams[frame.path], frame, decoding), frame)
            remaining[frame.path] -= 1
            if not remaining[frame.path]:
                streams.pop(frame.path).close()
            elif len(streams) > MOST_OPEN:
                streams.pop(next(iter(streams))).close()


def syntax_name(uid: str) -> str:
    """Name of a transfer syntax; of one that is not in the standard, that it is unknown and not what it says.

    Example:
        >>> syntax_name("1.2.840.10008.1.2.5")
        'RLE Lossless'
        >>> syntax_name("John Doe")
        'an unknown transfer syntax'
    """
    return UID_dictionary[uid][0] if uid in UID_dictionary else "an unknown transfer syntax"


def _open(frame: Frame) -> BinaryIO:
    try:
        return frame.path.open("rb")
    except OSError as error:
        pass_on(error)
        raise Refusal(Code.UNREADABLE_FILE) from None


def _stored(stream: BinaryIO, frame: Frame, decoding: Decoding) -> NDArray[Any]:
    """Pixels as they are stored."""
    if frame.pixels is None:
        raise Refusal(Code.UNREADABLE_PIXELS, "the record does not tell where they are")
    if not frame.complete:
        raise Refusal(Code.TRUNCATED_FILE)
    if frame.transfer_syntax in UNCOMPRESSED:
        return _used_bits(_uncompressed(stream, frame, frame.pixels), frame.pixels)
    return _decoded(stream, frame, frame.pixels, decoding)


def _uncompressed(stream: BinaryIO, frame: Frame, place: PixelPlace) -> NDArray[Any]:
    if place.bits_allocated not in WHOLE_BYTES:
        raise Refusal(Code.UNREADABLE_PIXELS, f"{place.bits_allocated} bits for each")
    big, width = frame.transfer_syntax == EXPLICIT_BIG, place.bits_allocated // 8
    count = frame.rows * frame.cols * width
    in_pairs = big and width == 1 and place.explicit_vr == "OW"  # 8-bit pixels, two and two as numbers of 16 bits
    ahead = frame.number * count % 2 if in_pairs else 0
    stream.seek(place.offset + frame.number * count - ahead)
    data = stream.read(count + ahead + (count + ahead) % 2 if in_pairs else count)
    data = np.frombuffer(data, ">u2").astype("<u2").tobytes()[ahead : ahead + count] if in_pairs else data
    if len(data) < count:
        raise Refusal(Code.TRUNCATED_FILE)
    stored = np.frombuffer(data, np.dtype(f"{'>' if big else '<'}{'i' if place.signed else 'u'}{width}"))
    return stored.reshape(frame.rows, frame.cols).astype(stored.dtype.newbyteorder("="), copy=False)


def _used_bits(stored: NDArray[Any], place: PixelPlace) -> NDArray[Any]:
    """Clear bits beside those stored (overlays once stood there), and extend the sign."""
    if place.bits_stored == place.bits_allocated:
        return stored
    shifted: NDArray[Any] = np.left_shift(stored, place.bits_allocated - 1 - place.high_bit)
    np.right_shift(shifted, place.bits_allocated - place.bits_stored, out=shifted)
    return shifted


def _decoded(stream: BinaryIO, frame: Frame, place: PixelPlace, decoding: Decoding) -> NDArray[Any]:
    name = syntax_name(frame.transfer_syntax)
    if decoder_of(frame.transfer_syntax) is None:
        raise Refusal(Code.UNSUPPORTED_TRANSFER_SYNTAX, name)
    if place.high_bit != place.bits_stored - 1:
        raise Refusal(Code.UNREADABLE_PIXELS, f"{name} with high bit {place.high_bit} of {place.bits_stored}")
    stream.seek(place.offset)
    try:
        data = get_frame(stream, frame.number, number_of_frames=place.frames)
        decoded = decoding.decode(frame.transfer_syntax, _checked(data, frame, place), _options(frame, place))
    except Exception as error:  # pydicom's, on fragments, are many
        pass_on(error)
        reason = str(error) if isinstance(error, DecodingError) else type(error).__name__
        raise Refusal(Code.UNREADABLE_PIXELS, f"{name}, {reason}") from None
    if decoded.shape != (frame.rows, frame.cols):
        raise Refusal(Code.UNREADABLE_PIXELS, f"{name} of another matrix")
    return decoded


def _checked(data: bytes, frame: Frame, place: PixelPlace) -> bytes:
    """A compressed image, if it says of itself what the header says; run lengths say nothing of themselves.

    Raises:
        DecodingError: if it does not.
    """
    if frame.transfer_syntax == RUN_LENGTHS:
        return data
    coded = read_codestream(data)
    if coded is None or (coded.rows, coded.cols, coded.samples) != (frame.rows, frame.cols, 1):
        raise DecodingError("whose size is not that of the header")
    if not 1 <= coded.bits <= place.bits_allocated:
        raise DecodingError("whose size is not that of the header")
    return data


def _options(frame: Frame, place: PixelPlace) -> dict[str, Any]:
    return {
        "rows": frame.rows,
        "columns": frame.cols,
        "samples_per_pixel": 1,
        "photometric_interpretation": place.photometric,
        "bits_allocated": place.bits_allocated,
        "bits_stored": place.bits_stored,
        "pixel_representation": int(place.signed),
        "pixel_keyword": "PixelData",
        "pixel_vr": place.explicit_vr or "OW",
    }


def _rescaled(stored: NDArray[Any], frame: Frame) -> NDArray[Any]:
    if frame.slope == 1 and frame.intercept == 0:
        return stored
    if math.isfinite(frame.slope) and math.isfinite(frame.intercept):
        with np.errstate(over="ignore", invalid="ignore"):
            rescaled: NDArray[Any] = (stored * frame.slope + frame.intercept).astype(np.float32)
        if (np.abs(rescaled) <= LARGEST_VALUE).all():  # and none is NaN
            return rescaled
    raise Refusal(Code.UNREADABLE_PIXELS, "the rescale slope or intercept is no usable number")
