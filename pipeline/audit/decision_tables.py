"""Tables of decisions: operating points, calibration, who was examined, and which cases were read worst."""

from __future__ import annotations

import math
from urllib.parse import quote

from pipeline.audit.findings import ALL, Audit
from pipeline.audit.html_table import (
    SOFT,
    STRIKING,
    Cell,
    Column,
    Table,
    count_cell,
    estimate_cell,
    number_cell,
)
from pipeline.audit.report_tables import GROUP, MODEL, PATIENTS, group_and_model
from pipeline.audit.summary import names_of, positive_class
from pipeline.audit.words import Digits, in_words, percent, sentence

SHARES = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV"}
TWO = Digits()


def operating_table(audit: Audit, column: str) -> Table:
    """The one threshold in every group, and the one that the group would have needed."""
    rows = [row for row in audit.operating if row.place.column in {column, ALL}]
    needed = any(row.needed for row in rows)
    positive = positive_class(audit)
    columns = [
        GROUP,
        MODEL,
        Column(f"Patients with {positive}", "count"),
        Column("Without", "count"),
        Column("Threshold", "number"),
        *(Column(words, "estimate") for words in SHARES.values()),
        *([Column("Threshold needed", "estimate")] if needed else []),
    ]
    threshold = audit.plan.threshold
    target = f" for a sensitivity of {threshold.value:g}" if needed and threshold and threshold.value else ""
    asked = f" The threshold needed{target} is what the group alone would have asked for." if needed else ""
    caption = f"{positive} against all others, one threshold for every group, with 95 % intervals.{asked}"
    table = Table(caption, columns)
    for row in rows:
        place, point = row.place, row.point
        cells = [
            *group_and_model(place.column, place.group, place.model),
            count_cell(point.n_positive),
            count_cell(point.n_negative),
            number_cell(row.threshold, TWO),
            *(estimate_cell(getattr(point, name), TWO) for name in SHARES),
            *([estimate_cell(row.needed, TWO)] if needed else []),
        ]
        (table.totals if place.column == ALL else table.rows).append(cells)
    return table


def calibration_table(audit: Audit, column: str) -> Table:
    """Brier score, calibration error beside its null band, slope and intercept."""
    rows = [row for row in audit.calibration if row.place.column in {column, ALL}]
    lines = any(row.slope or row.intercept for row in rows)
    columns = [GROUP, MODEL, PATIENTS, Column("Brier score", "estimate"), Column("Calibration error", "number")]
    columns += [Column("By chance alone", "number"), Column("Reading")]
    columns += [Column("Slope", "estimate"), Column("Intercept", "estimate")] if lines else []
    caption = (
        f"Calibration by {in_words(column)}. A perfectly calibrated model with these very probabilities and patients "
        "would have a calibration error within the band of chance in 95 % of samples."
    )
    slopes = f" Slope (ideally 1) and intercept (ideally 0) are of {positive_class(audit)}." if lines else ""
    table = Table(caption + slopes, columns)
    for row in rows:
        place, error = row.place, row.error
        cells = [
            *group_and_model(place.column, place.group, place.model),
            count_cell(error.n_patients),
            estimate_cell(row.brier, TWO),
            number_cell(error.value, TWO),
            _chance_cell(error.null_low, error.null_high),
            Cell(*_calibrated(error.value, error.beyond_chance, error.reason)),
            *([estimate_cell(row.slope, TWO), estimate_cell(row.intercept, TWO)] if lines else []),
        ]
        (table.totals if place.column == ALL else table.rows).append(cells)
    return table


def _chance_cell(low: float, high: float) -> Cell:
    known = math.isfinite(low)
    return Cell(f"{TWO.value(low)} to {TWO.value(high)}" if known else "–", high, style="" if known else SOFT)


def _calibrated(value: float, beyond: bool, reason: str | None) -> tuple[str, float | None, str, str]:
    if reason or math.isnan(value):
        return reason or "no rows", None, "", SOFT
    return ("beyond chance", None, "", STRIKING) if beyond else ("as by chance", None, "", "")


def mix_table(audit: Audit, column: str) -> Table:
    """Patients of every group by class, sex and age band."""
    rows = audit.mix.get(column, [])
    kinds = list(dict.fromkeys((row.column, row.category) for row in rows))
    found = {(row.group, row.column, row.category): row for row in rows}
    headings = [Column(f"{sentence(in_words(part))}: {category}", "number") for part, category in kinds]
    table = Table(f"Patients by {in_words(column)}, and their share of the group.", [GROUP, *headings])
    for group in dict.fromkeys(row.group for row in rows):
        cells = [found.get((group, *kind)) for kind in kinds]
        shown = [
            Cell(str(c.n_patients), c.n_patients, percent(c.share) if c.n_patients else "")
            if c
            else Cell("–", math.nan)
            for c in cells
        ]
        table.rows.append([Cell(group), *shown])
    return table


def cases_table(audit: Audit) -> Table:
    """Cases that are read worst, with their pictures where there are some."""
    columns = [Column("Group", "name"), MODEL, Column("Measure"), Column("Case"), Column("Recorded"), Column("Read as")]
    caption = (
        "Cases that each model reads worst in each group. Badness is 1 minus the probability of the recorded class, or "
        "how far an endpoint lies on the bad side of the model's median."
    )
    table = Table(caption, [*columns, Column("Badness", "number")])
    for row in audit.worst_cases:
        words = audit.measure(row.measure).words
        link = quote(row.picture) if row.picture else None
        case = Cell(row.case_id, link=link)
        place = [Cell(names_of(row.place.column, row.place.group)), Cell(row.place.model), Cell(words), case]
        badness = number_cell(row.badness, Digits(3))
        table.rows.append([*place, Cell(row.truth), Cell(row.answer), badness])
    return table
