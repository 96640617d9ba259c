"""The page of an audit: one file that fetches nothing, for screens in light or dark, for paper, to be read aloud."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import pairwise
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.audit.calibration import BINS
from pipeline.audit.decision_tables import calibration_table, cases_table, mix_table, operating_table
from pipeline.audit.design import BETWEEN, WITHIN
from pipeline.audit.figures import DARK, LIGHT, MARKERS, colour
from pipeline.audit.findings import ALL, Audit, Measure
from pipeline.audit.forest_plot import Key, Panel, axis_ends, forest_plot
from pipeline.audit.html_table import Cell, Table
from pipeline.audit.layout import columns_of
from pipeline.audit.plan import SHOWN_DIGITS
from pipeline.audit.plan_file import as_yaml
from pipeline.audit.records import versions
from pipeline.audit.reliability_plot import reliability_plot
from pipeline.audit.report_tables import (
    contrast_table,
    difference_table,
    effect_table,
    group_table,
    of_measure,
    overall_table,
    worst_table,
)
from pipeline.audit.statistics import Estimate
from pipeline.audit.summary import all_digits, positive_class, summaries, unknown
from pipeline.audit.words import Digits, in_words, listed, sentence

SHAPES = dict(zip(MARKERS, "●■◆▲▼✚", strict=True))
SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class Part:
    """A heading with figures, tables and paragraphs."""

    heading: str
    figures: Sequence[Markup] = ()
    tables: Sequence[Table] = ()
    text: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A section of the page; ``id`` is where the contents lead."""

    id: str
    heading: str
    parts: list[Part] = field(default_factory=list)


def render(audit: Audit, *, title: str | None = None, note: str | None = None) -> str:
    """The page: nothing in it is fetched, names from the table are escaped.

    Args:
        audit: the numbers.
        title: headline; None for a plain one.
        note: a sentence or two about the data.

    Returns:
        HTML; byte for byte the same for the same audit.
    """
    script = _template("sort.js")
    template = _environment().get_template("audit.html.j2")
    page: str = template.render(
        audit=audit,
        title=title or default_title(audit),
        note=note,
        summaries=summaries(audit),
        unknown=unknown(audit),
        overall=_overall(audit),
        sections=[_column_section(audit, column, n) for n, column in enumerate(audit.columns, start=1)],
        cases=cases_table(audit),
        marks={model: _mark(position) for position, model in enumerate(audit.models)},
        palettes=[LIGHT, DARK],
        plan=as_yaml(audit.plan),
        fingerprint=audit.plan.fingerprint[:SHOWN_DIGITS],
        versions=versions(),
        bins=BINS,
        positive=positive_class(audit),
        **_designs(audit),
        script=Markup(script),  # noqa: S704 - ours
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page


def _designs(audit: Audit) -> dict[str, Any]:
    """How groups were compared, for the methods."""
    used = {design for column in audit.columns for design in audit.designs(column)}
    of_classes = ["label" in columns_of([column]) for column in audit.columns]
    apart = bool(audit.classes) and not all(of_classes)
    return {
        "between": BETWEEN in used,
        "within": WITHIN in used,
        "shared": WITHIN in used or any(row.effect.in_several for row in audit.effects),
        "within_classes": ", within their classes" + " where these make no groups" * any(of_classes) if apart else "",
    }


def _environment() -> jinja2.Environment:
    """Templates of the audit, with a refusal of unknown names."""
    found = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"words": in_words, "sentence": sentence, "listed": listed, "tight": _tight, "again": _again}
    return found


def _template(name: str) -> str:
    return resources.files("pipeline.audit").joinpath(f"templates/{name}").read_text(encoding="utf-8")


def _tight(text: str) -> str:
    """No line ends between a number and its per cent."""
    return text.replace(" %", "\u00a0%")


def default_title(audit: Audit) -> str:
    """A plain headline."""
    return f"Audit by {listed([in_words(column) for column in audit.columns])}"


def _mark(position: int) -> dict[str, str]:
    return {"colour": colour(position), "shape": SHAPES[MARKERS[position % len(MARKERS)]]}


def _again(rows: Sequence[Sequence[Cell]]) -> list[bool]:
    """Whether a row is headed as the one before it."""
    return [False, *(one[0].text == other[0].text for one, other in pairwise(rows))] if rows else []


def _overall(audit: Audit) -> Section:
    table = overall_table(audit, all_digits(audit))
    curves = {row.place.model: row.curve for row in audit.calibration if row.place.column == ALL and row.curve}
    section = Section("overall", "Performance over all patients", [Part("Values", tables=[table])])
    if curves:
        title = "Reliability of each model over all patients"
        figure = Markup(reliability_plot(curves, prefix="reliability", title=title))  # noqa: S704 - ours
        section.parts.append(Part("Reliability", [figure], text=[RELIABILITY]))
    return section


RELIABILITY = (
    "Where a model gives its answer a probability of 0.8, it should be right in 0.8 of the cases: marks on the dashed "
    "line. Below it the model is too sure. The larger a mark, the more patients; lines are 95 % intervals."
)


def _column_section(audit: Audit, column: str, number: int) -> Section:
    words, digits = in_words(column), all_digits(audit)
    section = Section(f"by-{number}", f"Performance by {words}")
    section.parts.extend(_measure_part(audit, column, m, digits[m.name], f"f{number}-{m.name}") for m in audit.measures)
    section.parts.append(Part("Robustness and precision of estimates", tables=_robustness(audit, column, digits)))
    differences = [difference_table(audit, column, m, digits[m.name]) for m in audit.measures]
    if any(table.rows for table in differences):
        filled = [table for table in differences if table.rows]
        section.parts.append(Part(f"Against {audit.plan.reference_model}", tables=filled))
    for part in (_operating_part(audit, column, f"o{number}"), _calibration_part(audit, column, f"c{number}")):
        if part.tables[0].rows:
            section.parts.append(part)
    if audit.mix.get(column):
        section.parts.append(Part(f"Participants by {words}", tables=[mix_table(audit, column)]))
    return section


def _robustness(audit: Audit, column: str, digits: Mapping[str, Digits]) -> list[Table]:
    contrasts = [contrast_table(audit, column, m, digits[m.name]) for m in audit.measures]
    tables = [effect_table(audit, column), worst_table(audit, column, digits), *contrasts]
    return [table for table in tables if table.rows]


def _measure_part(audit: Audit, column: str, measure: Measure, digits: Digits, prefix: str) -> Part:
    found = {
        (row.place.model, row.place.column, row.place.group): row.estimate
        for row in audit.rows
        if row.measure == measure.name and row.place.column in {column, ALL}
    }
    shrunken = {
        (row.model, column, group): drawn.estimate
        for row in audit.worst
        if (row.column, row.measure) == (column, measure.name)
        for group, drawn in row.shrunken.items()
    }
    natural = SHARE if measure.scale == "share" else None
    ends = axis_ends([*found.values(), *shrunken.values()], natural=natural)
    better = f"{measure.better} is better"
    panels = [Panel(f"{of_measure(measure.words, digits)}, 95 % interval ({better})", found, ends, digits)]
    if shrunken:
        panels.append(Panel("Drawn towards the others", shrunken, ends, digits))
    title = f"{measure.words} by {in_words(column)}, one row per model, with 95 % intervals"
    figures = _forest(audit, column, panels, prefix, title)
    return Part(measure.words, figures, [group_table(audit, column, measure, digits)])


def _forest(audit: Audit, column: str, panels: Sequence[Panel], prefix: str, title: str) -> list[Markup]:
    bands = audit.bands(column)
    patients = dict.fromkeys(bands, 0)
    for row in audit.rows:
        band = (row.place.column, row.place.group)
        if band in patients:
            patients[band] = max(patients[band], row.estimate.n_patients)
    return [
        Markup(svg)  # noqa: S704 - ours, texts in it are escaped
        for svg in forest_plot(panels, bands, audit.models, patients, prefix=prefix, title=title)
    ]


def _operating_part(audit: Audit, column: str, prefix: str) -> Part:
    table = operating_table(audit, column)
    if not table.rows:
        return Part("Operating point", tables=[table])
    panels = []
    for name in ("sensitivity", "specificity"):
        found: dict[Key, Estimate] = {
            (row.place.model, row.place.column, row.place.group): getattr(row.point, name)
            for row in audit.operating
            if row.place.column in {column, ALL}
        }
        panels.append(Panel(sentence(name), found, axis_ends(found.values(), natural=SHARE), Digits()))
    title = f"Sensitivity and specificity for {positive_class(audit)} at one threshold, by {in_words(column)}"
    return Part("Operating point", _forest(audit, column, panels, prefix, title), [table])


def _calibration_part(audit: Audit, column: str, prefix: str) -> Part:
    table = calibration_table(audit, column)
    if not table.rows:
        return Part("Calibration", tables=[table])
    found = dict(_calibration_errors(audit, column))
    low, high = axis_ends(found.values())
    panel = Panel(
        "Calibration error (mark), and where chance alone would put it (band)",
        found,
        (max(0.0, min(low, 0.0)), high),
        Digits(),
        interval="by chance",
        band=True,
    )
    title = f"Calibration error by {in_words(column)}, beside the band of a perfectly calibrated model"
    return Part("Calibration", _forest(audit, column, [panel], prefix, title), [table])


def _calibration_errors(audit: Audit, column: str) -> Iterator[tuple[Key, Estimate]]:
    """Errors with the band of chance in the place of an interval."""
    for row in audit.calibration:
        if row.place.column in {column, ALL}:
            e = row.error
            chance: dict[str, Any] = {} if e.reason else {"low": e.null_low, "high": e.null_high, "interval": "chance"}
            key = (row.place.model, row.place.column, row.place.group)
            yield key, Estimate(e.n_patients, e.n_rows, e.value, reason=e.reason, **chance)
