"""Where a student has been audited: the scanner groups of its audit, and what they say of one study's scanner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.deployment.outcome import AuditedGroup, EnvelopeVerdict, Verdict
from transforms.scanner import UNKNOWN, Scanner, field_text

KNOWABLE = ("vendor", "field_strength_t", "scanner")  # columns that a hospital can tell from headers
ANOTHER = "another"  # stands for a scanner that the audit does not list: its name would be text of a header
CROSS = " x "  # between the columns of a group of several, and between their values
UNSEEN_REASON = "the audit has no patient of this group"
FROM_BEST = (Verdict.AUDITED, Verdict.TOO_FEW, Verdict.UNSEEN)
SAVED = ("column", "group", "measure", "n_patients", "value", "low", "high", "reason")


@dataclass(frozen=True)
class Envelope:
    """What the audit found for one model, in the columns that a hospital can know.

    Attributes:
        columns: ``vendor``, ``field_strength_t``, ``scanner``, or several joined by ``" x "``.
        measures: e.g. ``accuracy``.
        model: its name in the audit.
        groups: one entry per column, group and measure.
        everybody: one entry per measure, over all patients.
        left_out: audited columns that headers do not tell, e.g. ``site``.
        level: of the intervals.
    """

    columns: tuple[str, ...]
    measures: tuple[str, ...]
    model: str
    groups: tuple[AuditedGroup, ...]
    everybody: tuple[AuditedGroup, ...] = ()
    left_out: tuple[str, ...] = ()
    level: float = 0.95

    def __post_init__(self) -> None:
        strange = [column for column in self.columns if not knowable(column)]
        if strange:
            raise ValueError(
                f"columns of an envelope must be made of {', '.join(KNOWABLE)}, which headers tell; got "
                f"{strange[0]!r}; leave it out"
            )
        listed = {(entry.column, entry.group, entry.measure) for entry in self.groups}
        if len(listed) != len(self.groups) or not {place[0] for place in listed} <= set(self.columns):
            raise ValueError(
                "groups of an envelope must be listed once per column and measure, and be of its columns; they are "
                "not; export the package again"
            )

    def find(self, column: str, group: str) -> tuple[AuditedGroup, ...]:
        """Entries of a group in which there was a patient, one per measure."""
        return tuple(e for e in self.groups if (e.column, e.group) == (column, group) and e.n_patients > 0)

    def seen(self, column: str) -> frozenset[str]:
        """Values of a plain column in which the audit had a patient, whichever columns it is crossed with."""
        present = [entry for entry in self.groups if entry.n_patients > 0]
        return frozenset(value for entry in present for part, value in _values(entry) if part == column)

    def to_dict(self) -> dict[str, Any]:
        """As the package's manifest holds it."""
        return {
            "columns": list(self.columns),
            "level": self.level,
            "measures": list(self.measures),
            "model": self.model,
            "left_out": list(self.left_out),
            "groups": [_saved(entry) for entry in self.groups],
            "all": [_saved(entry) for entry in self.everybody],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Envelope:
        """Inverse of ``to_dict``.

        Raises:
            KeyError, TypeError, ValueError: if the record is not of that form.
        """
        level = float(record["level"])
        return cls(
            columns=tuple(map(str, record["columns"])),
            measures=tuple(map(str, record["measures"])),
            model=str(record["model"]),
            groups=_entries(record["groups"], level),
            everybody=_entries(record["all"], level),
            left_out=tuple(map(str, record["left_out"])),
            level=level,
        )


def parts(column: str) -> tuple[str, ...]:
    """The plain columns of one that may be crossed.

    Example:
        >>> parts("vendor x field_strength_t")
        ('vendor', 'field_strength_t')
    """
    return tuple(part.strip() for part in column.split(CROSS))


def knowable(column: str) -> bool:
    """Whether a hospital can tell a study's group from headers alone."""
    return set(parts(column)) <= set(KNOWABLE)


def judge(envelope: Envelope | None, scanner: Scanner) -> EnvelopeVerdict:
    """A study's scanner against the audit.

    A column's group is ``audited`` if every measure has an interval there, ``audited-too-few`` if the audit lists it
    with patients but not with every interval, else ``unseen``; the least favourable column decides. A vendor that is
    not known is ``unseen`` unless the audit has a group of patients with unknown vendors.

    Args:
        envelope: of the package; ``None`` for a package without an audit, of which every scanner is unseen.
        scanner: as far as the study's headers tell.

    Returns:
        The verdict with one entry per column and measure. No text of a header is in it: a scanner that the audit does
        not list is called ``another``.
    """
    if envelope is None:
        return EnvelopeVerdict(Verdict.UNSEEN, (), audited=False)
    verdicts: list[Verdict] = []
    entries: list[AuditedGroup] = []
    for column in envelope.columns:
        group = CROSS.join(_value(part, scanner) for part in parts(column))
        found = envelope.find(column, group)
        verdicts.append(_verdict(found, envelope.measures))
        entries += _complete(found, envelope, column, CROSS.join(_shown(envelope, p, scanner) for p in parts(column)))
    if scanner.vendor == UNKNOWN and UNKNOWN not in envelope.seen("vendor") | envelope.seen("scanner"):
        verdicts.append(Verdict.UNSEEN)
    worst = max(verdicts, key=FROM_BEST.index, default=Verdict.UNSEEN)
    return EnvelopeVerdict(worst, tuple(entries))


def _verdict(found: tuple[AuditedGroup, ...], measures: tuple[str, ...]) -> Verdict:
    if not found:
        return Verdict.UNSEEN
    estimable = {entry.measure for entry in found if entry.estimable}
    return Verdict.AUDITED if measures and estimable >= set(measures) else Verdict.TOO_FEW


def _complete(found: tuple[AuditedGroup, ...], envelope: Envelope, column: str, group: str) -> Iterable[AuditedGroup]:
    """One entry per measure, those that the audit lacks among them."""
    by_measure = {entry.measure: entry for entry in found}
    for measure in envelope.measures:
        absent = AuditedGroup(column, group, measure, 0, level=envelope.level, reason=UNSEEN_REASON)
        yield by_measure.get(measure, absent)


def _value(column: str, scanner: Scanner) -> str:
    if column == "vendor":
        return scanner.vendor
    return field_text(scanner.field_strength_t) if column == "field_strength_t" else scanner.name


def _shown(envelope: Envelope, column: str, scanner: Scanner) -> str:
    value = _value(column, scanner)
    return value if column != "scanner" or value in envelope.seen(column) else ANOTHER


def _values(entry: AuditedGroup) -> Iterable[tuple[str, str]]:
    """Plain column and value, for each part of a group; none where a name holds the sign of crossing itself."""
    columns = parts(entry.column)
    values = entry.group.split(CROSS) if len(columns) > 1 else [entry.group]
    return zip(columns, values, strict=True) if len(values) == len(columns) else ()


def _saved(entry: AuditedGroup) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in SAVED}


def _entries(records: Iterable[Mapping[str, Any]], level: float) -> tuple[AuditedGroup, ...]:
    return tuple(_entry(record, level) for record in records)


def _entry(record: Mapping[str, Any], level: float) -> AuditedGroup:
    value, low, high = (None if record[key] is None else float(record[key]) for key in ("value", "low", "high"))
    return AuditedGroup(
        column=str(record["column"]),
        group=str(record["group"]),
        measure=str(record["measure"]),
        n_patients=int(record["n_patients"]),
        value=value,
        low=low,
        high=high,
        level=level,
        reason=str(record["reason"]),
    )
