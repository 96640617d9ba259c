"""Numbers and names as a reader sees them: as few digits as a value deserves, a real minus, p values never "0.00"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from pipeline.audit.findings import ALL, Measure
from pipeline.audit.statistics import Estimate

WORDS = {"field_strength_t": "field strength", "label": "class", ALL: "all patients"}
NOTHING = "–"
MINUS = "−"


@dataclass(frozen=True)
class Digits:
    """How the values of one measure are printed.

    Args:
        decimals: behind the point.
        unit: ``mm``, ``points``; empty for a share.

    Example:
        >>> Digits(1, "mm").signed(-2.04), Digits(2).value(0.625), Digits(2).signed(-0.001)
        ('−2.0', '0.62', '0.00')
    """

    decimals: int = 2
    unit: str = ""

    def value(self, number: float) -> str:
        """The number, or a dash where there is none."""
        return _plain(f"{number:.{self.decimals}f}") if math.isfinite(number) else NOTHING

    def signed(self, number: float) -> str:
        """A difference: with its sign, but for none."""
        return _plain(f"{number:+.{self.decimals}f}") if math.isfinite(number) else NOTHING

    def with_unit(self, number: float) -> str:
        """``8.4 mm``, or ``0.62`` for a share."""
        return f"{self.value(number)}\u00a0{self.unit}" if self.unit else self.value(number)

    def interval(self, found: Estimate, *, signed: bool = False) -> str:
        """``0.52 to 0.71``, or why there is none."""
        shown = self.signed if signed else self.value
        return f"{shown(found.low)} to {shown(found.high)}" if found.estimable else found.reason or NOTHING


def _plain(text: str) -> str:
    """A real minus, and no sign before nothing."""
    return text.lstrip("+-") if not any(digit in text for digit in "123456789") else text.replace("-", MINUS)


def digits_of(measure: Measure, estimates: Iterable[Estimate]) -> Digits:
    """Two decimals for a share; for others three figures or so, by the size of the values.

    Args:
        measure: what is printed.
        estimates: all of it that will be printed.
    """
    if measure.scale == "share":
        return Digits()
    largest = max((abs(found.value) for found in estimates if math.isfinite(found.value)), default=0.0)
    return Digits(3 if largest < 1 else 2 if largest < 10 else 1 if largest < 1000 else 0, measure.unit)


def in_words(column: str) -> str:
    """Column name as a reader would say it.

    Example:
        >>> in_words("field_strength_t x sex")
        'field strength and sex'
    """
    return " and ".join(WORDS.get(part, part.replace("_", " ")) for part in column.split(" x "))


def sentence(text: str) -> str:
    """The text with its first letter large, the others as they are.

    Example:
        >>> sentence("lowest on GE")
        'Lowest on GE'
    """
    return text[:1].upper() + text[1:]


def listed(names: Sequence[str], *, most: int = 8, longest: int = 120) -> str:
    """Names as in a sentence; very many, or very long ones, are cut short.

    Args:
        names: at least one.
        most: names that are written out.
        longest: characters of all that are written out, but for the first.

    Example:
        >>> listed(["GE"]), listed(["GE", "UIH", "Canon"]), listed(list("abcd"), most=2)
        ('GE', 'GE, UIH and Canon', 'a, b and 2 more')
    """
    lengths = list(accumulate(len(name) for name in names))
    fitting = max(1, sum(length <= longest for length in lengths[:most]))
    shown = [*names[:fitting], f"{len(names) - fitting} more"] if len(names) > fitting else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def several(count: int, noun: str) -> str:
    """``1 patient``, ``2 patients``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def percent(share: float) -> str:
    """``64 %``; a share that is not quite all or nothing is never rounded to it.

    Example:
        >>> percent(0.64), percent(0.9996), percent(0.001), percent(1.0)
        ('64 %', '> 99 %', '< 1 %', '100 %')
    """
    if math.isnan(share):
        return NOTHING
    return "< 1 %" if 0 < share < 0.005 else "> 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def p_value(p: float) -> str:
    """Two or three decimals; one beside 0.05 is never rounded to it.

    Example:
        >>> [p_value(p) for p in (0.00012, 0.0312, 0.0496, 0.423, math.nan)]
        ['< 0.001', '0.031', '0.0496', '0.42', '–']
    """
    if math.isnan(p):
        return NOTHING
    if p < 0.001:
        return "< 0.001"
    return f"{p:.{4 if 0.0495 <= p < 0.0505 else 3 if p < 0.1 else 2}f}"


def p_words(p: float) -> str:
    """``p < 0.001`` or ``p = 0.42``."""
    shown = p_value(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"
