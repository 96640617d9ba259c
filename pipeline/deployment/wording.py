"""The verdict on a scanner, and what results are for, in words that hold nothing of a header."""

from __future__ import annotations

import re
import unicodedata

from pipeline.deployment.envelope import ANOTHER, CROSS
from pipeline.deployment.outcome import AuditedGroup, EnvelopeVerdict, Outcome, Reading, Verdict
from transforms.scanner import VENDORS, Scanner

RESEARCH_ONLY = "Research use only. Not for diagnosis."
COLUMNS = {"vendor": "vendor", "field_strength_t": "field", "scanner": "scanner"}
MEASURES = {"auc": "AUC"}
NO_SCANNER = "The images do not tell their scanner."
NO_AUDIT = "The package has no audit: nothing is known of how well it does."
NO_COLUMN = "The audit has no column that headers tell: nothing is known of scanners like this one."
VERDICTS = {
    Verdict.AUDITED: "The audit knows scanners like this one.",
    Verdict.TOO_FEW: "The audit has too few patients of scanners like this one.",
    Verdict.UNSEEN: "The audit has not seen scanners like this one.",
}

_FIELD = re.compile(r"\d+(\.\d+)? T")


def verdict_sentence(envelope: EnvelopeVerdict | None) -> str:
    """What the audit says of a study's scanner, in one sentence."""
    if envelope is None:
        return NO_SCANNER
    if not envelope.audited:
        return NO_AUDIT
    return VERDICTS[envelope.verdict] if envelope.groups else NO_COLUMN


def group_sentence(group: AuditedGroup) -> str:
    """What the audit found in one group.

    Example:
        >>> group_sentence(AuditedGroup("vendor", "GE", "accuracy", 40, 0.8, 0.652, 0.9))
        'vendor GE: accuracy 0.80, 95 % interval 0.65 to 0.90, 40 patients'
    """
    name = ", ".join(f"{COLUMNS.get(column, column)} {value}" for column, value in _parts(group, shown_group(group)))
    if group.n_patients == 0:
        return f"{name}: no patient in the audit"
    patients = f"{group.n_patients} patient{'' if group.n_patients == 1 else 's'}"
    measure = MEASURES.get(group.measure, group.measure)
    value = measure if group.value is None else f"{measure} {group.value:.2f}"
    if group.low is None or group.high is None:
        return f"{name}: {value}, no interval{f' ({group.reason})' if group.reason else ''}, {patients}"
    return f"{name}: {value}, {100 * group.level:g} % interval {group.low:.2f} to {group.high:.2f}, {patients}"


def audit_sentences(envelope: EnvelopeVerdict | None) -> list[str]:
    """One sentence per group and measure, a group without patients has one; the least known first: they decide."""
    groups = sorted(envelope.groups if envelope else (), key=lambda group: group.n_patients)
    return list(dict.fromkeys(group_sentence(group) for group in groups))


def reading_sentence(reading: Reading) -> str:
    """What was read, and how sure the finders of heart and phases were."""
    phases = "given" if reading.phase_confidence is None else f"found with confidence {reading.phase_confidence:.2f}"
    return (
        f"Short-axis cine of {reading.n_slices} slices and {reading.n_phases} phases; heart found with confidence "
        f"{reading.heart_confidence:.2f}, end-diastole and end-systole {phases}."
    )


def shown_group(group: AuditedGroup) -> str:
    """A group's name if it is the audit's, or made of our own words; a header's text is never shown."""
    if group.n_patients > 0:
        return group.group
    return CROSS.join(part if _is_ours(part) else ANOTHER for part in group.group.split(CROSS))


def shown_model(scanner: Scanner, envelope: EnvelopeVerdict | None) -> str | None:
    """A scanner's model where the audit names that scanner, else ``None``."""
    audited = [group for group in (envelope.groups if envelope else ()) if group.n_patients > 0]
    named = {value for group in audited for column, value in _parts(group, group.group) if column == "scanner"}
    return scanner.model if scanner.model and scanner.name in named else None


def notification(outcome: Outcome) -> str:
    """One sentence for whoever watches the router: neither patient nor finding, for it may travel by mail."""
    if outcome.reading is not None:
        scanner = verdict_sentence(outcome.envelope).rstrip(".")
        return f"Evenbeat has read a study: {scanner[:1].lower()}{scanner[1:]}; research use only, not for diagnosis."
    code = outcome.refusal.code.value if outcome.refusal else ""
    return f"Evenbeat has not read a study, for the reason {code}; its result.json says more."


def plain(text: str) -> str:
    """ASCII of a text: what every character set of DICOM and Pillow's own type hold.

    Example:
        >>> plain("Épaisseur, 日")
        'Epaisseur, ?'
    """
    decomposed = unicodedata.normalize("NFKD", text)
    kept = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return kept.encode("ascii", "replace").decode("ascii")


def _parts(group: AuditedGroup, name: str) -> list[tuple[str, str]]:
    """Columns and values of a group; as one pair where a value holds the sign of crossing itself."""
    columns, values = group.column.split(CROSS), name.split(CROSS)
    return list(zip(columns, values, strict=True)) if len(columns) == len(values) else [(group.column, name)]


def _is_ours(text: str) -> bool:
    return text in VENDORS or _FIELD.fullmatch(text) is not None
