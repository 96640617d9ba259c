"""An audit in sentences: what a reader takes away who reads no further, for each model, and for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.audit.comparison import NOT_ESTIMABLE, NOT_SHOWN, WORSE
from pipeline.audit.design import WITHIN
from pipeline.audit.findings import ALL, Audit, EffectRow, WorstRow
from pipeline.audit.scanner_effect import NOTHING_TO_COMPARE
from pipeline.audit.statistics import Estimate
from pipeline.audit.words import (
    WORDS,
    Digits,
    digits_of,
    in_words,
    listed,
    p_value,
    p_words,
    percent,
    sentence,
    several,
)

SETTLED = 0.9  # share of draws from which a worst group is called settled
ALPHA = 0.05
NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class Point:
    """A question, and its answer in a sentence or several."""

    lead: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class ModelSummary:
    """What is to be said of one model."""

    model: str
    overall: tuple[tuple[str, str, str], ...]  # measure, value, interval
    points: tuple[Point, ...]


def all_digits(audit: Audit) -> dict[str, Digits]:
    """How the values of each measure are printed."""
    return {m.name: digits_of(m, (row.estimate for row in audit.rows if row.measure == m.name)) for m in audit.measures}


def summaries(audit: Audit) -> list[ModelSummary]:
    """The summary of every model, in their order."""
    digits = all_digits(audit)
    return [ModelSummary(m, _overall(audit, m, digits), tuple(_points(audit, m, digits))) for m in audit.models]


def _overall(audit: Audit, model: str, digits: dict[str, Digits]) -> tuple[tuple[str, str, str], ...]:
    found = {measure: audit.find(model, ALL, ALL, measure.name) for measure in audit.measures}
    return tuple((m.words, digits[m.name].with_unit(e.value), digits[m.name].interval(e)) for m, e in found.items())


def _points(audit: Audit, model: str, digits: dict[str, Digits]) -> Iterator[Point]:
    for column in audit.columns:
        yield Point(f"Any effect of {in_words(column)}?", effect_in_words(audit, model, column))
    for column in audit.columns:
        yield Point(f"Worst by {in_words(column)}", worst_in_words(audit, model, column, digits))
    reference = audit.plan.reference_model
    if reference and model != reference and audit.differences:
        for column in (ALL, *audit.columns):
            where = f", by {in_words(column)}" if column != ALL else ""
            yield Point(f"Against {reference}{where}", verdicts_in_words(audit, model, column, digits))


def effect_in_words(audit: Audit, model: str, column: str) -> tuple[str, ...]:
    """Whether any measure differs between the groups of a column at all: measures with one answer together."""
    answers: dict[tuple[str, str], list[EffectRow]] = {}
    for row in audit.effects:
        if (row.model, row.column) == (model, column):
            found = row.effect
            answer = f"not tested, {found.reason}" if not found.estimable else "" if found.p < ALPHA else NO_DIFFERENCE
            answers.setdefault((answer, found.design), []).append(row)
    return tuple(_effects(audit, answer, rows) for (answer, _), rows in answers.items()) or ("Not tested.",)


def _effects(audit: Audit, answer: str, rows: list[EffectRow]) -> str:
    words = listed([audit.measure(row.measure).words for row in rows])
    if not rows[0].effect.estimable:
        return f"{words}: {answer}."
    p = ", ".join([p_words(rows[0].effect.p), *(p_value(row.effect.p) for row in rows[1:])])
    same = " in the same patients" if rows[0].effect.design == WITHIN else ""
    said = f": {answer}" if answer else f" {'differs' if len(rows) == 1 else 'differ'} between groups"
    return f"{words}{said}{same} ({p})."


def worst_in_words(audit: Audit, model: str, column: str, digits: dict[str, Digits]) -> tuple[str, ...]:
    """The worst group by the first measure, with how settled that is; in short by the others."""
    rows = [row for row in audit.worst if (row.model, row.column) == (model, column) and row.worst]
    if not rows:
        return (f"Not named: {NOTHING_TO_COMPARE}.",)
    first, *others = rows
    short = "; ".join(_worst_in_short(audit, row, digits[row.measure]) for row in others)
    return (_worst_at_length(audit, first, digits[first.measure]), *([f"{short}."] if short else []))


def _worst_at_length(audit: Audit, row: WorstRow, digits: Digits) -> str:
    worst, measure = row.worst, audit.measure(row.measure)
    if worst is None:
        return ""
    settled = "settled by these patients" if worst.frequency >= SETTLED else "another could well be"
    parts = [f"{worst.group}, {measure.words} {digits.with_unit(worst.value)}."]
    if row.interval:
        parts.append(f"Whichever is truly the worst, its value lies in {digits.interval(row.interval)}.")
    parts.append(f"{worst.group} is the worst in {percent(worst.frequency)} of draws: {settled}.")
    if math.isfinite(row.fresh.fresh):
        parts.append(
            f"The worst of one half of the patients reads {digits.value(row.fresh.picked)} there and "
            f"{digits.value(row.fresh.fresh)} in the other half."
        )
    return " ".join(parts)


def _worst_in_short(audit: Audit, row: WorstRow, digits: Digits) -> str:
    worst = row.worst
    if worst is None:
        return ""
    return (
        f"{audit.measure(row.measure).words}: {worst.group}, {digits.with_unit(worst.value)}, in "
        f"{percent(worst.frequency)} of draws"
    )


def verdicts_in_words(audit: Audit, model: str, column: str, digits: dict[str, Digits]) -> tuple[str, ...]:
    """Verdicts of a column, measure by measure."""
    said = []
    for measure in audit.measures:
        groups: dict[str, list[str]] = {}
        for row in audit.differences:
            found = row.comparison
            if (row.column, found.first, found.outcome.name) == (column, model, measure.name):
                groups.setdefault(found.verdict, []).append(found.group)
        margin = "no margin" if measure.margin is None else f"margin {digits[measure.name].with_unit(measure.margin)}"
        parts = [_verdict(verdict, names, column, measure.margin) for verdict, names in sorted(groups.items())]
        if parts:
            said.append(f"{measure.words} ({margin}): {'; '.join(parts)}.")
    return tuple(said) or ("Not compared.",)


def _verdict(verdict: str, groups: list[str], column: str, margin: float | None) -> str:
    words = {
        WORSE: "worse",
        NOT_SHOWN: "non-inferiority not shown" if margin is not None else "not shown to be worse",
        NOT_ESTIMABLE: "not estimable",
    }.get(verdict, verdict)
    return words if column == ALL else f"{words} on {listed(groups)}"


def unknown(audit: Audit) -> list[Point]:
    """What these patients cannot tell, column by column: groups without an interval, gaps too small to be seen."""
    return [Point(f"By {in_words(column)}", tuple(_unknown(audit, column))) for column in audit.columns]


def _unknown(audit: Audit, column: str) -> Iterator[str]:
    missing = [said for group in audit.groups[column] if (said := _why_unknown(audit, column, group))]
    if missing:
        yield f"No interval for {listed(missing)}."
    else:
        yield "Every group has an interval."
    first = audit.measures[0]
    gaps = [
        (row.smallest_gap.gap, row.contrast.group, row.contrast.difference.n_patients)
        for row in audit.contrasts  # of all models
        if (row.column, row.measure) == (column, first.name) and math.isfinite(row.smallest_gap.gap)
    ]
    if gaps:
        digits = all_digits(audit)[first.name]
        best, worst = min(gaps), max(gaps)
        ends = [f"{digits.with_unit(gap)} on {group} ({several(n, 'patient')})" for gap, group, n in (best, worst)]
        shown = ends[0] if best == worst else f"{ends[0]} to {ends[1]}"
        yield f"{first.words}: gaps below {shown} would probably have gone unseen."


def _why_unknown(audit: Audit, column: str, group: str) -> str:
    """The group with what it lacks; empty if it lacks nothing."""
    reasons: dict[str, str] = {}
    patients = 0
    for measure in audit.measures:
        found: list[Estimate] = [audit.find(model, column, group, measure.name) for model in audit.models]
        patients = max(patients, *(estimate.n_patients for estimate in found))
        lacking = [estimate.reason for estimate in found if not estimate.estimable]
        if lacking:
            reasons[measure.words] = str(lacking[0])
    if not reasons:
        return ""
    if len(reasons) == len(audit.measures) and len(set(reasons.values())) == 1:
        reason = next(iter(reasons.values()))
        return f"{group} ({reason}: {patients})" if patients else f"{group} ({reason})"
    return f"{group} ({', '.join(f'{words}: {reason}' for words, reason in reasons.items())})"


def positive_class(audit: Audit) -> str | None:
    """The plan's, or the second of two; None where there is none."""
    return audit.plan.positive or (audit.classes[1] if len(audit.classes) == 2 else None)


def names_of(column: str, group: str) -> str:
    """A group as a row is headed."""
    return sentence(WORDS[ALL]) if column == ALL else group
