"""What an audit found: every number of the report, once. :mod:`pipeline.audit.assessment` fills it.

Rows name model, column and group; over all patients, column and group are ``all``. Nothing is left out for want of
patients: such a row says why it has no interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.audit.calibration import CalibrationError, ReliabilityBin
from pipeline.audit.case_mix import MixRow, Standardised
from pipeline.audit.comparison import Comparison
from pipeline.audit.contrasts import Contrast
from pipeline.audit.design import Design
from pipeline.audit.operating_point import OperatingPoint
from pipeline.audit.plan import Plan
from pipeline.audit.power import PatientsNeeded, SmallestGap
from pipeline.audit.scanner_effect import ScannerEffect
from pipeline.audit.statistics import Estimate, Worst
from pipeline.audit.worst import FreshHalf, Shrunken

ALL = "all"


@dataclass(frozen=True)
class Measure:
    """Something that is measured of a model in a group.

    Args:
        name: ``accuracy``, ``auc`` or an endpoint's column.
        words: for the reader: ``Accuracy``, ``HD95``.
        unit: ``mm``, ``points``; empty for a share.
        better: whether higher or lower values are better.
        scale: ``share`` for values in [0, 1] that are proportions or areas, else ``plain``.
        margin: of non-inferiority, in its unit; None without one.
    """

    name: str
    words: str
    unit: str = ""
    better: Literal["higher", "lower"] = "higher"
    scale: Literal["share", "plain"] = "share"
    margin: float | None = None


@dataclass(frozen=True)
class Place:
    """Where a row belongs."""

    model: str
    column: str
    group: str


@dataclass(frozen=True)
class MetricRow:
    """One measure of one model in one group, as it is and as it would be at the common case mix.

    ``standardised`` is None for a measure or a column that is not standardised.
    """

    place: Place
    measure: str
    estimate: Estimate
    standardised: Standardised | None = None


@dataclass(frozen=True)
class EffectRow:
    """Whether a measure of a model differs between the groups of a column at all."""

    model: str
    column: str
    measure: str
    effect: ScannerEffect


@dataclass(frozen=True)
class ContrastRow:
    """A group against the rest, or the reference group, and what such a comparison could have seen.

    Args:
        model: name.
        column: grouping column.
        measure: name.
        contrast: difference, p values.
        smallest_gap: that these patients would have shown with 80 % power.
        needed: patients of this group to show the gap of the plan; None without such a gap.
    """

    model: str
    column: str
    measure: str
    contrast: Contrast
    smallest_gap: SmallestGap
    needed: PatientsNeeded | None = None


@dataclass(frozen=True)
class WorstRow:
    """The worst group of a column, read with care; see :mod:`pipeline.audit.worst`.

    Args:
        model: name.
        column: grouping column.
        measure: name.
        worst: named, with how often each group is the worst; None if fewer than two groups can be compared.
        interval: simultaneous, of the lowest true value; None likewise.
        fresh: what a fresh half says.
        shrunken: group -> value drawn towards the others.
        left_out: groups that cannot be compared.
    """

    model: str
    column: str
    measure: str
    worst: Worst | None
    interval: Estimate | None
    fresh: FreshHalf
    shrunken: dict[str, Shrunken]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class CalibrationRow:
    """Whether a model's probabilities mean what they say in one group.

    ``slope`` and ``intercept`` are of the positive class, or None where there is none; ``curve`` only of all patients.
    """

    place: Place
    brier: Estimate
    error: CalibrationError
    slope: Estimate | None
    intercept: Estimate | None
    curve: tuple[ReliabilityBin, ...] = ()


@dataclass(frozen=True)
class OperatingRow:
    """The one threshold in one group, and the threshold this group would need for the target sensitivity.

    ``needed`` is None where the plan names no sensitivity.
    """

    place: Place
    threshold: float
    point: OperatingPoint
    needed: Estimate | None


@dataclass(frozen=True)
class DifferenceRow:
    """A model against the reference model in one group of a column."""

    column: str
    comparison: Comparison


@dataclass(frozen=True)
class CaseRow:
    """A case that a model reads badly; ``picture`` is a relative path, if there is one.

    ``badness`` orders them: 1 minus the probability of the true class, or how far an endpoint lies on its bad side.
    """

    place: Place
    case_id: str
    measure: str
    badness: float
    truth: str
    answer: str
    picture: str | None = None


@dataclass(frozen=True)
class Audit:
    """All findings, each list ordered by column (``all`` last), group, model and measure.

    Args:
        plan: what was asked, before anybody looked.
        classes: of the classification; empty without one.
        models: reference first, then by name.
        measures: in the order of the report.
        n_patients: in the audited split.
        n_cases: likewise.
        groups: column -> its groups, those without a patient among them.
        notes: about the table: what was made up, merged or odd.
    """

    plan: Plan
    classes: tuple[str, ...]
    models: tuple[str, ...]
    measures: tuple[Measure, ...]
    n_patients: int
    n_cases: int
    groups: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    rows: list[MetricRow] = field(default_factory=list)
    effects: list[EffectRow] = field(default_factory=list)
    contrasts: list[ContrastRow] = field(default_factory=list)
    worst: list[WorstRow] = field(default_factory=list)
    differences: list[DifferenceRow] = field(default_factory=list)
    calibration: list[CalibrationRow] = field(default_factory=list)
    operating: list[OperatingRow] = field(default_factory=list)
    mix: dict[str, list[MixRow]] = field(default_factory=dict)
    worst_cases: list[CaseRow] = field(default_factory=list)

    def bands(self, column: str) -> list[tuple[str, str]]:
        """Column and group of every line of a table or figure: the groups, then all patients."""
        return [*((column, group) for group in self.groups[column]), (ALL, ALL)]

    def find(self, model: str, column: str, group: str, measure: str) -> Estimate:
        """Estimate of one row."""
        place = Place(model, column, group)
        return next(row.estimate for row in self.rows if (row.place, row.measure) == (place, measure))

    def measure(self, name: str) -> Measure:
        """A measure by its name."""
        return next(measure for measure in self.measures if measure.name == name)

    def numbers(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        """What a tracking server keeps: model, name in parts (measure, column, group) and value, NaN without one.

        Behind the measure's name stand ``_low``, ``_high`` and ``_n`` (patients) of the interval, and ``_effect_p`` of
        the test of any difference. The column ``worst`` is that of the lowest true value.
        """
        for row in self.rows:
            column, group = row.place.column, row.place.group
            yield from _parts(row.place.model, row.measure, (ALL,) if column == ALL else (column, group), row.estimate)
        for lowest in self.worst:
            if lowest.interval is not None:
                yield from _parts(lowest.model, lowest.measure, ("worst", lowest.column), lowest.interval)
        for found in self.effects:
            yield found.model, (f"{found.measure}_effect_p", found.column), found.effect.p

    def designs(self, column: str) -> tuple[Design, ...]:
        """How the groups of a column were compared, by any measure: between patients, within them, or both."""
        return tuple(sorted({row.effect.design for row in self.effects if row.column == column}))

    @property
    def columns(self) -> Sequence[str]:
        """Grouping columns, without ``all``."""
        return self.plan.group_by


def _parts(
    model: str, measure: str, where: tuple[str, ...], found: Estimate
) -> Iterator[tuple[str, tuple[str, ...], float]]:
    yield model, (measure, *where), found.value
    yield model, (f"{measure}_low", *where), found.low
    yield model, (f"{measure}_high", *where), found.high
    yield model, (f"{measure}_n", *where), float(found.n_patients)
