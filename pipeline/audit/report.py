"""One offline page and one file of numbers from a predictions table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from pipeline.audit.assessment import (
    ALL,
    Audit,
    DifferenceRow,
    MetricRow,
    Settings,
    WorstRow,
    assess,
    choose_reference,
    choose_split,
)
from pipeline.audit.figures import DARK, LIGHT, MARKERS, colour, forest_plot
from pipeline.audit.statistics import Estimate
from pipeline.audit.tables import METRIC_WORDS, WORDS, in_words, percent
from pipeline.files import atomic_path
from pipeline.tracking.group_metrics import METRICS
from pipeline.tracking.predictions import validate

FORMAT_VERSION = 1
SETTLED = 0.9  # share of draws from which a worst group is called settled
SHAPES = dict(zip(MARKERS, "●■◆▲▼✚", strict=True))


def write_report(
    frame: pd.DataFrame,
    output_dir: str | Path,
    *,
    group_by: Sequence[str] = ("vendor",),
    replicates: int = 2000,
    seed: int = 0,
    min_patients: int = 10,
    split: str | None = None,
    reference: str | None = None,
    known_groups: Mapping[str, Sequence[str]] | None = None,
    title: str | None = None,
    note: str | None = None,
) -> Audit:
    """Assess a predictions table and write ``audit.json`` and ``audit.html``; each is complete or absent.

    Args:
        frame: predictions table.
        output_dir: folder, made if absent.
        group_by: columns to audit, each on its own; ``"vendor x label"`` crosses two.
        replicates: draws of the patient bootstrap, at least 100.
        seed: of the draws; the same seed and table give the same files.
        min_patients: below it a group's value comes without an interval.
        split: rows to audit; None takes the only one, or ``test``.
        reference: model that the others are compared with; None takes the first that is called a teacher, if any.
        known_groups: column -> further groups to list even without a patient.
        title: headline of the page.
        note: a sentence or two about the data, shown below the headline.

    Returns:
        The audit, which :func:`as_json` and :func:`~pipeline.audit.tables.console_table` put into other forms.

    Raises:
        PredictionsError: if the table, a column, the split or the reference is not valid.
        ValueError: if a setting is out of range.
    """
    table = validate(frame)
    chosen = split or choose_split(table)
    models = sorted(set(table.loc[table["split"] == chosen, "model"]))
    settings = Settings(
        group_by=tuple(dict.fromkeys(group_by)),
        replicates=replicates,
        seed=seed,
        min_patients=min_patients,
        split=chosen,
        reference=reference or choose_reference(models),
    )
    audit = assess(table, settings, known_groups)
    text = json.dumps(as_json(audit), indent=1, allow_nan=False, ensure_ascii=False)
    folder = Path(output_dir)
    _write(folder / "audit.json", text + "\n")
    _write(folder / "audit.html", render(audit, title=title, note=note))
    return audit


def as_json(audit: Audit) -> dict[str, Any]:
    """Numbers of an audit as plain lists and dictionaries; NaN becomes None."""
    return {
        "version": FORMAT_VERSION,
        "created_with": _created_with(),
        "settings": asdict(audit.settings) | {"group_by": list(audit.settings.group_by), "confidence": 0.95},
        "classes": list(audit.classes),
        "models": list(audit.models),
        "n_patients": audit.n_patients,
        "n_studies": audit.n_studies,
        "groups": [_group_record(row) for row in audit.rows],
        "worst": [_worst_record(row) for row in audit.worst],
        "differences": [_difference_record(row) for row in audit.differences],
    }


def _created_with() -> str:
    return f"evenbeat {metadata.version('evenbeat')}"


def _group_record(row: MetricRow) -> dict[str, Any]:
    names = {"model": row.model, "column": row.column, "group": row.group, "metric": row.metric}
    return names | _estimate_record(row.estimate)


def _difference_record(row: DifferenceRow) -> dict[str, Any]:
    names = {"model": row.model, "reference": row.reference, "column": row.column, "group": row.group}
    return names | {"metric": "accuracy"} | _estimate_record(row.estimate)


def _estimate_record(found: Estimate) -> dict[str, Any]:
    record = asdict(found) | {"estimable": found.estimable}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in record.items()}


def _worst_record(row: WorstRow) -> dict[str, Any]:
    names = {"model": row.model, "column": row.column, "metric": row.metric}
    found = asdict(row.worst) if row.worst else dict.fromkeys(("group", "value", "frequency", "frequencies"))
    return names | found | {"left_out": list(row.left_out)}


def render(audit: Audit, *, title: str | None = None, note: str | None = None) -> str:
    """The page: nothing in it is fetched, names from the table are escaped.

    Args:
        audit: the numbers.
        title: headline; None for a plain one.
        note: a sentence or two about the data.

    Returns:
        HTML.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": _number,
        "interval": _interval,
        "signed": _signed,
        "words": in_words,
        "percent": percent,
    }
    source = resources.files("pipeline.audit").joinpath("templates/audit.html.j2").read_text(encoding="utf-8")
    figures = {column: Markup(forest_plot(audit, column)) for column in audit.settings.group_by}  # noqa: S704
    page = environment.from_string(source).render(
        audit=audit,
        title=title or f"Audit by {_listed([in_words(column) for column in audit.settings.group_by])}",
        note=note,
        figures=figures,
        findings=[finding(audit, row) for row in audit.worst if row.metric == "accuracy"],
        worst={(row.model, row.column, row.metric): row.worst for row in audit.worst},
        differences={(row.column, row.group, row.model): row.estimate for row in audit.differences},
        marks={model: _mark(position) for position, model in enumerate(audit.models)},
        palettes=[LIGHT, DARK],
        metrics=METRICS,
        metric_words=METRIC_WORDS,
        all=ALL,
        all_patients=WORDS[ALL],
        created_with=_created_with(),
    )
    return str(page)


def finding(audit: Audit, row: WorstRow) -> dict[str, str]:
    """One sentence about the group with the lowest accuracy, for readers who read no further."""
    column = in_words(row.column)
    if row.worst is None:
        text = f"fewer than two groups have the patients to be compared by {column}."
        return {"model": row.model, "column": column, "group": "", "text": text}
    found = audit.find(row.model, row.column, row.worst.group, row.metric)
    frequency = row.worst.frequency
    verdict = (
        "this order is settled by these patients" if frequency >= SETTLED else "another group could well be the lowest"
    )
    text = (
        f"{found.value:.2f} (95 % interval {_interval(found)}; {found.n_patients} patients). It is the lowest in "
        f"{_percent(frequency)} of the draws: {verdict}."
    )
    if row.left_out:
        text += f" Not compared, for want of patients: {', '.join(row.left_out)}."
    return {"model": row.model, "column": column, "group": row.worst.group, "text": text}


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _mark(position: int) -> dict[str, str]:
    return {"colour": colour(position), "shape": SHAPES[MARKERS[position % len(MARKERS)]]}


def _percent(share: float) -> str:
    return percent(share).replace(" ", "\u00a0")


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _signed(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "−")


def _interval(found: Estimate, signed: bool = False) -> str:
    if not found.estimable:
        return found.reason or ""
    shown = _signed if signed else _number
    return f"{shown(found.low)} to {shown(found.high)}"


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
