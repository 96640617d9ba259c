"""Values of DICOM elements from their bytes. What is malformed is ``None``, and is shown to nobody."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword

BINARY = {"FD": "d", "FL": "f", "US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q"}
CHARACTER_SET_TAG = 0x00080005
SECONDS_OF_A_DAY = 86400.0
PADDING = "\0 \t\r\n"
LARGEST_INTEGER = 1 << 53


@cache
def tag_of(keyword: str) -> int:
    """Tag of a keyword of the standard.

    Raises:
        ValueError: if the standard has no such keyword.

    Example:
        >>> hex(tag_of("TriggerTime"))
        '0x181060'
    """
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"DICOM has no element {keyword}; correct the spelling")
    return tag


@dataclass(frozen=True, slots=True)
class Values:
    """Elements by tag, read by keyword.

    Attributes:
        elements: value representation (may be empty) and bytes.
        little: whether numbers are little endian.
        encoding: Python's name of the character set of texts.
    """

    elements: Mapping[int, tuple[str, bytes]]
    little: bool = True
    encoding: str = "latin-1"

    def has(self, keyword: str) -> bool:
        """Whether there is a value, of any kind."""
        return bool(self.elements.get(tag_of(keyword), ("", b""))[1].strip(b"\0 "))

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Values of a text, stripped; empty ones at the end are dropped."""
        found = self.elements.get(tag_of(keyword))
        if found is None:
            return ()
        said = [text.strip(PADDING) for text in found[1].decode(self.encoding, "replace").split("\\")]
        while said and not said[-1]:
            said.pop()
        return tuple(said)

    def text(self, keyword: str) -> str:
        r"""The whole text, stripped; values stay joined by backslashes."""
        return "\\".join(self.texts(keyword))

    def numbers(self, keyword: str) -> tuple[float, ...] | None:
        """Finite numbers; ``None`` if there is none, or one of them is not a number."""
        tag = tag_of(keyword)
        if tag not in self.elements:
            return None
        vr, data = self.elements[tag]
        code = BINARY.get(_standard_vr(tag) if vr in {"", "UN"} else vr)
        found = self._binary(code, data) if code else tuple(map(_number, self.texts(keyword)))
        numbers = tuple(value for value in found if value is not None and math.isfinite(value))
        return numbers if numbers and len(numbers) == len(found) else None

    def number(self, keyword: str) -> float | None:
        """The one number of an element; ``None`` if there is not just one."""
        numbers = self.numbers(keyword)
        return numbers[0] if numbers and len(numbers) == 1 else None

    def positive(self, keyword: str) -> float | None:
        """The one number of an element, if above zero."""
        number = self.number(keyword)
        return number if number is not None and number > 0 else None

    def integer(self, keyword: str) -> int | None:
        """The one whole number of an element."""
        number = self.number(keyword)
        if number is None or not number.is_integer() or abs(number) > LARGEST_INTEGER:
            return None
        return int(number)

    def seconds(self, keyword: str) -> float | None:
        """Time of the day of a TM or DT element [s]."""
        text = self.text(keyword).split("+")[0].split("-")[0].replace(":", "")
        if keyword.endswith("DateTime"):
            text = text[8:]
        whole, _, fraction = text.partition(".")
        if len(whole) not in {2, 4, 6} or not (whole + fraction).isascii() or not (whole + fraction).isdecimal():
            return None
        hours, minutes, seconds = int(whole[:2]), int(whole[2:4] or 0), int(whole[4:] or 0)
        time = 3600.0 * hours + 60 * minutes + seconds + float(f"0.{fraction or 0}")
        return time if minutes < 60 and seconds <= 60 and time <= SECONDS_OF_A_DAY else None

    def years(self, keyword: str) -> float | None:
        """An age such as ``045Y`` or ``018M`` [years]."""
        text = self.text(keyword)
        units = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
        if len(text) < 2 or text[-1] not in units or not text[:-1].isascii() or not text[:-1].isdecimal():
            return None
        return int(text[:-1]) * units[text[-1]]

    def _binary(self, code: str, data: bytes) -> tuple[float, ...]:
        size = struct.calcsize(f"<{code}")
        if len(data) % size:
            return ()
        return tuple(map(float, struct.unpack(f"{'<' if self.little else '>'}{len(data) // size}{code}", data)))


@cache
def _standard_vr(tag: int) -> str:
    return dictionary_VR(tag)


def character_set(elements: Mapping[int, tuple[str, bytes]]) -> str:
    """Python's name of a data set's character set; Latin 1, which decodes anything, where none is known."""
    named = elements.get(CHARACTER_SET_TAG, ("", b""))[1].decode("ascii", "replace").split("\\")
    known = [python_encoding[name.strip("\0 ")] for name in named if name.strip("\0 ") in python_encoding]
    return known[-1] if known and known[-1] != "iso8859" else "latin-1"


def _number(text: str) -> float | None:
    """A decimal string; Python would take underscores and other scripts' digits as well."""
    if not text or not text.isascii() or "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None
