"""Tables as a page shows them: cells with their text, and with the number that they are sorted by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.audit.statistics import Estimate
from pipeline.audit.words import Digits, p_value, percent

Kind = Literal["name", "model", "count", "estimate", "number", "text"]
SURE, STRIKING, STRONG, SOFT = "sure", "striking", "strong", "soft"


@dataclass(frozen=True)
class Column:
    """A heading, and what stands below it; ``count`` and ``number`` are set to the right."""

    title: str
    kind: Kind = "text"


@dataclass(frozen=True)
class Cell:
    """What stands in one place.

    Args:
        text: shown.
        order: what the column is sorted by: a number, or the text itself where it is None; NaN comes last.
        after: shown less strongly behind the text: an interval, a reason.
        style: ``sure``, ``striking``, ``strong`` or ``soft``; never the only sign of anything.
        link: address that the text leads to.
    """

    text: str
    order: float | None = None
    after: str = ""
    style: str = ""
    link: str | None = None


@dataclass(frozen=True)
class Table:
    """Caption, columns and rows; ``totals`` stay at the bottom, however the rows are sorted."""

    caption: str
    columns: Sequence[Column]
    rows: list[list[Cell]] = field(default_factory=list)
    totals: list[list[Cell]] = field(default_factory=list)


def count_cell(number: int) -> Cell:
    """A number of patients."""
    return Cell(str(number), number)


def estimate_cell(found: Estimate | None, digits: Digits, *, signed: bool = False) -> Cell:
    """A value and its interval, or why there is none; a dash where nothing was asked."""
    if found is None:
        return Cell("–", math.nan, style=SOFT)
    shown = digits.signed if signed else digits.value
    style = "" if found.estimable else SOFT
    return Cell(shown(found.value), found.value, digits.interval(found, signed=signed), style)


def number_cell(number: float, digits: Digits, reason: str | None = None) -> Cell:
    """A number without an interval."""
    known = math.isfinite(number)
    return Cell(digits.value(number), number, "" if known else reason or "", "" if known else SOFT)


def p_cell(p: float, *, level: float = 0.05) -> Cell:
    """A p value, set off if it is below the level."""
    return Cell(p_value(p), p, style=STRONG if p < level else SOFT if math.isnan(p) else "")


def share_cell(share: float) -> Cell:
    """A share in per cent."""
    return Cell(percent(share), share, style=SOFT if math.isnan(share) else "")
