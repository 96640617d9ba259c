"""What a package takes from an audit: its envelope, its threshold, and the numbers without single cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.audit.audited import Audited, read_audited, without_cases
from pipeline.audit.findings import ALL
from pipeline.audit.statistics import Estimate
from pipeline.deployment.envelope import CROSS, Envelope, knowable, parts
from pipeline.deployment.outcome import AuditedGroup
from transforms.scanner import UNKNOWN, VENDORS, field_text, round_field_strength

AUDIT_CARD = "model_card.md"


@dataclass(frozen=True)
class PackageAudit:
    """An audit's part in a package.

    Attributes:
        audited: what it says of the model.
        envelope: its groups in the columns that a hospital can know.
        threshold: class -> probability from which it is called positive; empty without one.
        numbers: its ``audit.json`` without single cases.
        card: its model card; empty where none lies beside it.
    """

    audited: Audited
    envelope: Envelope
    threshold: dict[str, float]
    numbers: bytes
    card: str


def read_package_audit(
    path: str | Path, classes: Sequence[str], *, model: str | None = None, likely: str | None = None
) -> PackageAudit:
    """Read what an audit says of a model that is to be packed.

    Args:
        path: ``audit.json``, or the folder that holds it.
        classes: of the model, in order.
        model: its name in the audit.
        likely: the name that its bundle gives it, meant if ``model`` is ``None``; without both, the only model.

    Raises:
        FileNotFoundError: if there is no such file.
        AuditError: if it is not an audit, has no model of that name, or it is not clear which model is meant.
        ValueError: if its classes or their order are not the model's, or a group could never be met in a hospital.
    """
    audited = read_audited(path, model or likely)
    if audited.classes != tuple(classes):
        raise ValueError(
            f"the classes of audit and model must agree in name and order; the audit has {', '.join(audited.classes)}, "
            f"the model {', '.join(classes)}; audit the predictions of this model"
        )
    _check_fingerprint(card := _card(path), audited)
    positive = audited.plan.get("positive")
    return PackageAudit(
        audited=audited,
        envelope=envelope_of(audited),
        threshold={} if audited.threshold is None else {str(positive): audited.threshold},
        numbers=without_cases(path),
        card=card,
    )


def envelope_of(audited: Audited) -> Envelope:
    """The groups of an audit in the columns that a hospital can know.

    Raises:
        ValueError: if a vendor or field strength is not spelt as it is read from headers: no study would ever match it.
    """
    columns = tuple(column for column in audited.group_by if knowable(column))
    for column in columns:
        for group in audited.groups(column):
            _check_spelling(column, group)
    found = {place: audited.estimates[place] for place in audited.estimates if place[0] in (*columns, ALL)}
    entries = [_entry(place, estimate, audited.level) for place, estimate in found.items()]
    return Envelope(
        columns=columns,
        measures=tuple(audited.measures),
        model=audited.model,
        groups=tuple(entry for entry in entries if entry.column != ALL),
        everybody=tuple(entry for entry in entries if entry.column == ALL),
        left_out=tuple(column for column in audited.group_by if not knowable(column)),
        level=audited.level,
    )


def _card(path: str | Path) -> str:
    file = (Path(path) if Path(path).is_dir() else Path(path).parent) / AUDIT_CARD
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _check_fingerprint(card: str, audited: Audited) -> None:
    if card and audited.fingerprint not in card:
        raise ValueError(
            f"the {AUDIT_CARD} beside the audit must be of the same plan, {audited.fingerprint}; it does not name it; "
            "write the report again, or take the card away"
        )


def _check_spelling(column: str, group: str) -> None:
    values = group.split(CROSS)
    for part, value in zip(parts(column), values, strict=False):
        known = value in VENDORS if part == "vendor" else part != "field_strength_t" or _nominal(value)
        if not known:
            said = f"one of {', '.join(VENDORS)}" if part == "vendor" else "nominal, like 1.5 T"
            raise ValueError(
                f"groups of {part} must be spelt as they are read from headers, {said}; the audit has {value!r}; audit "
                f"again with --merge '{part}:{value}=…'"
            )


def _nominal(value: str) -> bool:
    return value == UNKNOWN or value == field_text(round_field_strength(value))


def _entry(place: tuple[str, str, str], found: Estimate, level: float) -> AuditedGroup:
    column, group, measure = place
    value, low, high = (None if math.isnan(x) else x for x in (found.value, found.low, found.high))
    return AuditedGroup(column, group, measure, found.n_patients, value, low, high, level, found.reason or "")
