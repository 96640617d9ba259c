"""Tables of values and comparisons, one function each: findings in, cells out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pipeline.audit.comparison import NONINFERIOR, NOT_ESTIMABLE, WORSE
from pipeline.audit.contrasts import REST, Contrast
from pipeline.audit.design import BETWEEN, WITHIN
from pipeline.audit.detectable import gap_of
from pipeline.audit.findings import ALL, Audit, EffectRow, Measure, MetricRow, WorstRow
from pipeline.audit.html_table import (
    SOFT,
    STRIKING,
    SURE,
    Cell,
    Column,
    Table,
    count_cell,
    estimate_cell,
    number_cell,
    p_cell,
    share_cell,
)
from pipeline.audit.power import OTHERS_TOO_FEW, PatientsNeeded
from pipeline.audit.statistics import Estimate
from pipeline.audit.summary import ALPHA, NO_DIFFERENCE, names_of
from pipeline.audit.words import Digits, in_words, percent, several

GROUP, MODEL, PATIENTS = Column("Group", "name"), Column("Model", "model"), Column("Patients", "count")
Row = TypeVar("Row", EffectRow, WorstRow)
EXCHANGED = {
    BETWEEN: "Patients are exchanged between the groups.",
    WITHIN: "Patients were seen in several groups: each patient's studies are exchanged among their own groups.",
}
SAME_PATIENTS = (
    " The groups have the same patients: whether they differ is not to be read off intervals that overlap, but off the "
    "comparison within patients."
)
VERDICT_STYLES = {NONINFERIOR: SURE, WORSE: STRIKING, NOT_ESTIMABLE: SOFT}


def of_measure(words: str, digits: Digits) -> str:
    """``HD95 [mm]``."""
    return f"{words} [{digits.unit}]" if digits.unit else words


def overall_table(audit: Audit, digits: Mapping[str, Digits]) -> Table:
    """Every measure of every model over all patients."""
    headings = [Column(of_measure(m.words, digits[m.name]), "estimate") for m in audit.measures]
    rows = [
        [Cell(model), *(estimate_cell(audit.find(model, ALL, ALL, m.name), digits[m.name]) for m in audit.measures)]
        for model in audit.models
    ]
    caption = f"All {audit.n_patients} patients, with 95 % intervals."
    return Table(caption, [MODEL, *headings], rows)


def group_table(audit: Audit, column: str, measure: Measure, digits: Digits) -> Table:
    """A measure in every group, as it is, drawn towards the others, and at the common case mix."""
    rows = [row for row in audit.rows if row.measure == measure.name and row.place.column in {column, ALL}]
    worst = {row.model: row for row in audit.worst if (row.column, row.measure) == (column, measure.name)}
    repeated = any(row.estimate.n_rows != row.estimate.n_patients for row in rows)
    mixed = any(row.standardised for row in rows)
    columns = [
        GROUP,
        MODEL,
        PATIENTS,
        *([Column("Rows", "count")] if repeated else []),
        Column(of_measure(measure.words, digits), "estimate"),
        Column("Drawn towards the others", "estimate"),
        *([Column("At the common case mix", "estimate")] if mixed else []),
        Column("Worst, in share of draws", "number"),
    ]
    methods = sorted({row.estimate.interval for row in rows if row.estimate.interval})
    by = f" ({'; '.join(methods)})" if methods else ""
    few = f"none below {audit.plan.min_patients} patients"
    same = SAME_PATIENTS if WITHIN in audit.designs(column) else ""
    table = Table(f"{measure.words} by {in_words(column)}, with 95 % intervals{by}, {few}.{same}", columns)
    for row in rows:
        found, place = row.estimate, row.place
        cells = [
            *group_and_model(place.column, place.group, place.model),
            count_cell(found.n_patients),
            *([count_cell(found.n_rows)] if repeated else []),
            estimate_cell(found, digits),
            estimate_cell(_shrunken(row, worst), digits),
            *([_standardised_cell(row, digits)] if mixed else []),
            share_cell(_frequency(row, worst)),
        ]
        (table.totals if place.column == ALL else table.rows).append(cells)
    return table


def group_and_model(column: str, group: str, model: str) -> list[Cell]:
    """What a row is headed by."""
    return [Cell(names_of(column, group)), Cell(model)]


def _shrunken(row: MetricRow, worst: Mapping[str, WorstRow]) -> Estimate | None:
    found = worst.get(row.place.model)
    shrunken = found.shrunken.get(row.place.group) if found and row.place.column != ALL else None
    return shrunken.estimate if shrunken else None


def _frequency(row: MetricRow, worst: Mapping[str, WorstRow]) -> float:
    found = worst.get(row.place.model)
    known = found is not None and found.worst is not None and row.place.column != ALL
    return found.worst.frequencies.get(row.place.group, math.nan) if known else math.nan  # type: ignore[union-attr]


def _standardised_cell(row: MetricRow, digits: Digits) -> Cell:
    found = row.standardised
    cell = estimate_cell(found.estimate if found else None, digits)
    if found and found.covered < 1 and math.isfinite(found.estimate.value):
        return Cell(cell.text, cell.order, f"{cell.after}, of {percent(found.covered)} of the mix", cell.style)
    return cell


def effect_table(audit: Audit, column: str) -> Table:
    """Whether a measure differs between the groups at all."""
    columns = [Column("Measure", "name"), MODEL, PATIENTS, Column("Groups", "count"), Column("Compared")]
    exchanged = " ".join(EXCHANGED[design] for design in audit.designs(column))
    caption = (
        f"Is there any difference by {in_words(column)}? {exchanged} A small p says that chance would hardly make "
        "groups so unlike. One p value per row, not adjusted for their number."
    )
    table = Table(caption, [*columns, Column("p", "number"), Column("Reading")])
    for row in _by_measure(audit, (row for row in audit.effects if row.column == column)):
        found, words = row.effect, audit.measure(row.measure).words
        counts = [count_cell(found.n_patients), count_cell(len(found.groups)), Cell(found.design)]
        table.rows.append([Cell(words), Cell(row.model), *counts, p_cell(found.p), _effect_cell(row)])
    return table


def _by_measure(audit: Audit, rows: Iterable[Row]) -> list[Row]:
    """Rows of one measure together, models in their order."""
    order = {measure.name: position for position, measure in enumerate(audit.measures)}
    return sorted(rows, key=lambda row: order[row.measure])


def _effect_cell(row: EffectRow) -> Cell:
    found = row.effect
    if not found.estimable:
        return Cell("not tested", after=found.reason or "", style=SOFT)
    left_out = f"without {', '.join(found.left_out)}" if found.left_out else ""
    elsewhere = f"{several(found.in_several, 'patient')} in several groups not counted" if found.in_several else ""
    alone = f"{several(found.in_one, 'patient')} in one group alone not counted" if found.in_one else ""
    after = "; ".join(part for part in (left_out, elsewhere, alone) if part)
    differs = found.p < ALPHA
    return Cell("differs between groups" if differs else NO_DIFFERENCE, after=after, style=STRIKING if differs else "")


def worst_table(audit: Audit, column: str, digits: Mapping[str, Digits]) -> Table:
    """The worst group with its honest interval, and what a fresh half of the patients says."""
    columns = [
        Column("Measure", "name"),
        MODEL,
        Column("Worst group"),
        Column("Observed; interval of the worst true value", "estimate"),
        Column("Worst, in share of draws", "number"),
        Column("Worst of a half, there", "number"),
        Column("In the other half", "number"),
        Column("Picked again", "number"),
    ]
    caption = (
        f"The worst group by {in_words(column)}, read with care: it is the worst partly by bad luck. The interval "
        "holds the worst true value, whichever group it is of. Then patients are halved at random, again and again: "
        "what the group that looks worst in one half reads there and in the other half, and how often that picks it."
    )
    table = Table(caption, columns)
    for row in _by_measure(audit, (row for row in audit.worst if row.column == column)):
        shown = digits[row.measure]
        named = row.worst.group if row.worst else "not named"
        measure = Cell(of_measure(audit.measure(row.measure).words, shown))
        cells = [
            Cell(named, style="" if row.worst else SOFT),
            estimate_cell(row.interval, shown),
            share_cell(row.worst.frequency if row.worst else math.nan),
            number_cell(row.fresh.picked, shown),
            number_cell(row.fresh.fresh, shown),
            share_cell(row.fresh.confirmed),
        ]
        table.rows.append([measure, Cell(row.model), *cells])
    return table


def contrast_table(audit: Audit, column: str, measure: Measure, digits: Digits) -> Table:
    """Every group against the rest, or the reference group, and what such a comparison could have seen."""
    rows = [row for row in audit.contrasts if (row.column, row.measure) == (column, measure.name)]
    against = next((_other_side(row.contrast) for row in rows), REST)
    family = max((row.contrast.family for row in rows), default=0)
    gap = gap_of(measure)
    columns = [
        GROUP,
        MODEL,
        PATIENTS,
        Column(of_measure("Difference", digits), "estimate"),
        Column("p", "number"),
        Column("p, Holm", "number"),
        Column("p, BH", "number"),
        Column("Smallest gap likely to show", "number"),
        *([Column(f"Patients missing for a gap of {digits.value(gap)}", "number")] if gap else []),
    ]
    caption = (
        f"{measure.words} of each group minus {against}. Holm's p values are for claims, those of Benjamini and "
        f"Hochberg (BH) for screening; both are adjusted for the {family} comparisons of a model. The smallest gap is "
        "the one that these patients would have shown with 80 % power."
    )
    table = Table(caption, columns)
    for row in rows:
        found = row.contrast
        cells = [
            *group_and_model(column, found.group, row.model),
            count_cell(found.difference.n_patients),
            estimate_cell(found.difference, digits, signed=True),
            p_cell(found.p),
            p_cell(found.p_holm),
            p_cell(found.p_bh),
            number_cell(row.smallest_gap.gap, digits, row.smallest_gap.reason),
        ]
        if gap:
            cells.append(_missing_cell(row.needed))
        table.rows.append(cells)
    return table


def _other_side(contrast: Contrast) -> str:
    """What stands on the other side, in words."""
    if contrast.design == BETWEEN:
        return contrast.against
    return (
        "the same patients' other groups" if contrast.against == REST else f"{contrast.against}, in the same patients"
    )


def _missing_cell(needed: PatientsNeeded | None) -> Cell:
    if needed is not None and needed.missing is not None:
        return count_cell(needed.missing)
    reason = (needed.reason if needed else None) or ""
    return Cell("–", math.nan, "others too few" if reason == OTHERS_TOO_FEW else reason, SOFT)


def difference_table(audit: Audit, column: str, measure: Measure, digits: Digits) -> Table:
    """Every model against the reference, paired by patient, with its verdict."""
    margin = measure.margin
    asked = f", margin {digits.with_unit(margin)}" if margin is not None else ", no margin"
    caption = (
        f"{measure.words} of each model minus that of {audit.plan.reference_model}, on the same patients{asked}. "
        f"{'Above' if measure.better == 'lower' else 'Below'} zero, the model is worse. p values are one-sided, "
        "adjusted after Holm over the groups; a verdict takes 0.025."
    )
    columns = [GROUP, MODEL, PATIENTS, Column(of_measure("Difference", digits), "estimate")]
    columns += [Column("p, non-inferior", "number")] if margin is not None else []
    table = Table(caption, [*columns, Column("p, worse", "number"), Column("Verdict")])
    for row in audit.differences:
        found = row.comparison
        if row.column not in {column, ALL} or found.outcome.name != measure.name:
            continue
        cells = [
            *group_and_model(row.column, found.group, found.first),
            count_cell(found.estimate.n_patients),
            estimate_cell(found.estimate, digits, signed=True),
            *([p_cell(found.p_noninferior_adjusted, level=0.025)] if margin is not None else []),
            p_cell(found.p_worse_adjusted, level=0.025),
            Cell(found.verdict, style=VERDICT_STYLES.get(found.verdict, "")),
        ]
        (table.totals if row.column == ALL else table.rows).append(cells)
    return table
