"""Sections of the page on plans that turn something: dials, sizes, wrong labels, attacks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.benchmark.analysis import Runs, difference, estimate, over_seeds, pooled
from pipeline.benchmark.comparison import (
    PROPOSED,
    REFERENCE,
    SHORTFALL,
    Regime,
    Summary,
    by_model,
    by_setting,
    regimes,
    summarise,
)
from pipeline.benchmark.figures import Panel, lines_figure, regime_figure
from pipeline.benchmark.reading import Measurement
from pipeline.benchmark.sections import AVERAGE, TITLES, WORST, Line, Section, minus
from pipeline.benchmark.tables import NOTHING, count, in_words, markdown, points, regimes_table, share, signed

ATTACKS = {"fgsm": "one step (FGSM)", "pgd": "several steps (PGD)"}


def regimes_section(section: Section) -> str:
    """Every other student minus KD over the dials."""
    students = {m.cell.method for m in section.measurements if m.cell.role == "student"}
    others = sorted(students - {REFERENCE}, key=lambda name: (name.startswith(PROPOSED), name))
    found = {name: regimes(section.measurements, folds=section.plan.folds, proposed=name) for name in others}
    maps = [part for name, regime in found.items() if regime for part in _map(section, name, regime)]
    if not maps:
        return f"No setting has a whole seed of both {REFERENCE} and another student yet."
    rule = (
        f"Underfitted: on training studies as they are, KD is at least {100 * SHORTFALL:.0f} points worse in the "
        "minority than in all."
    )
    return "\n\n".join([rule, *maps])


def _map(section: Section, name: str, found: Sequence[Regime]) -> list[str]:
    words = f"{name} minus {REFERENCE} in worst-group accuracy over the cohort's dials"
    figure = section.draw(regime_figure(found, name), f"map-{name}", words)
    table = regimes_table(found, varied([regime.settings for regime in found]), seeds=len(section.plan.seeds))
    return [f"### {name} minus {REFERENCE}", summary_of_regimes(found, name), figure, table, section.command]


def varied(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Settings with more than one value."""
    values = {name: {str(other.get(name)) for other in settings} for one in settings for name in one}
    return sorted(name for name, different in values.items() if len(different) > 1)


def summary_of_regimes(found: Sequence[Regime], name: str) -> str:
    """How often a proposed method is better or worse, and what an underfitted minority has to do with it."""
    signs = [regime.worst.sign for regime in found]
    text = (
        f"In the worst group {name} is better than {REFERENCE} in {signs.count(1)} of {len(found)} settings, worse "
        f"in {signs.count(-1)}, and cannot be told apart in {signs.count(0)}."
    )
    means = [
        f"{signed(100 * _mean(part))} points in the {len(part)} settings where {words}"
        for words, part in (
            ("KD underfits the minority", [r for r in found if r.reference.underfitted]),
            ("it does not", [r for r in found if r.reference.has_minority and not r.reference.underfitted]),
            ("there is no minority", [r for r in found if not r.reference.has_minority]),
        )
        if part
    ]
    return f"{text} The mean difference is {', '.join(means)}."


def _mean(part: Sequence[Regime]) -> float:
    return float(np.mean([regime.worst.value for regime in part]))


def sizes_section(section: Section) -> str:
    """Accuracy against weights and latency, students as lines, teachers as levels."""
    summaries = [
        summarise(part, folds=section.plan.folds, metrics=(WORST, AVERAGE))
        for _, methods in by_setting(section.measurements)
        for part in methods.values()
    ]
    summaries = [summary for summary in summaries if summary.runs.seeds]
    students = [summary for summary in summaries if summary.role == "student"]
    if not students:
        return "No seed is whole yet."
    teachers = [summary for summary in summaries if summary.role == "teacher"]
    levels = {teacher.model: teacher.estimates[WORST].value for teacher in teachers}
    panels = [Panel(TITLES[WORST], "weights", _size_lines(students, "parameters"), log=True, levels=levels)]
    if not any(math.isnan(student.latency_ms) for student in students):
        panels.append(
            Panel(TITLES[WORST], "latency [ms]", _size_lines(students, "latency_ms"), log=True, levels=levels)
        )
    rows = [
        [s.model, count(s.parameters), "–" if math.isnan(s.latency_ms) else f"{s.latency_ms:.1f}",
         *(share(s.estimates[metric]) for metric in (WORST, AVERAGE)),
         *(minus(s, teacher, metric) for teacher in teachers for metric in (WORST, AVERAGE))]
        for s in sorted(summaries, key=lambda s: (s.parameters, s.model))
    ]  # fmt: skip
    header = ["model", "weights", "latency [ms]", "worst group", "accuracy"]
    header += [f"{words} minus {t.model}" for t in teachers for words in ("worst group", "accuracy")]
    table = markdown(header, rows)
    figure = section.draw(lines_figure(panels), "sizes", "Worst-group accuracy against the size of the student")
    rule = "Latency: one study in onnxruntime on one thread of the CPU. Differences are in points."
    return "\n\n".join([figure, table, section.command, rule])


def _size_lines(students: Sequence[Summary], axis: str) -> dict[str, Line]:
    lines: dict[str, Line] = defaultdict(list)
    for student in sorted(students, key=lambda s: float(getattr(s, axis))):
        lines[student.method].append((float(getattr(student, axis)), student.estimates[WORST]))
    return dict(lines)


def robustness_section(section: Section) -> str:
    """Accuracy against the share of wrong labels, and against the size of adversarial noise."""
    noise = next((n for n in sorted({n for m in section.measurements for n in m.cell.settings}) if "noise" in n), None)
    texts = []
    if noise is not None:
        lines = {metric: _noise_lines(section, noise, metric) for metric in (WORST, AVERAGE)}
        texts += _curves(section, lines, TITLES, "share of wrong labels", "noise")
        texts += _noise_differences(section, noise)
        least = min(m.cell.settings[noise] for m in section.measurements)
        clean = [m for m in section.measurements if m.cell.settings[noise] == least]
    else:
        clean = list(section.measurements)
    attacked = {name: _attack_lines(clean, name) for name in ATTACKS}
    shown = {name: lines for name, lines in attacked.items() if lines}
    if shown:
        titles = {name: f"Accuracy under attack, {words}" for name, words in ATTACKS.items()}
        texts += _curves(section, shown, titles, "size of the perturbation [SD of the study]", "attack")
    return "\n\n".join(texts) if texts else "No seed is whole yet."


def _noise_lines(section: Section, noise: str, metric: str) -> dict[str, Line]:
    """One line for each method and setting of whatever else is varied."""
    lines: dict[str, Line] = defaultdict(list)
    parts = by_setting(section.measurements)
    others = [name for name in varied([settings for settings, _ in parts]) if name != noise]
    for settings, methods in parts:
        for method, part in methods.items():
            runs = pooled(part, folds=section.plan.folds)
            if runs.seeds:
                name = ", ".join(
                    [method, *(f"{other.replace('_', ' ')} {in_words(settings.get(other))}" for other in others)]
                )
                lines[name].append((float(settings[noise]), estimate(runs, metric)))
    return {name: sorted(line, key=lambda point: point[0]) for name, line in lines.items()}


def _noise_differences(section: Section, noise: str) -> list[str]:
    """Every student minus the reference in the worst group, by share of wrong labels."""
    by_share: dict[float, dict[str, Runs]] = defaultdict(dict)
    for settings, methods in by_setting(section.measurements):
        for method, part in methods.items():
            runs = pooled(part, folds=section.plan.folds)
            if runs.seeds and part[0].cell.role == "student":
                by_share[float(settings[noise])][method] = runs
    places = sorted(place for place, methods in by_share.items() if REFERENCE in methods)
    names = list(dict.fromkeys(name for place in places for name in by_share[place] if name != REFERENCE))
    if not names:
        return []
    rows = [
        [name, *(_from(by_share[place][REFERENCE], by_share[place].get(name)) for place in places)] for name in names
    ]
    words = f"{TITLES[WORST]} minus {REFERENCE}, in points, by share of wrong labels:"
    return [words, markdown(["model", *(f"{place:g}" for place in places)], rows), section.command]


def _from(reference: Runs, other: Runs | None) -> str:
    if other is None or not set(other.seeds) & set(reference.seeds):
        return NOTHING
    return points(difference(other, reference, WORST))


def _attack_lines(measurements: Sequence[Measurement], attack: str) -> dict[str, Line]:
    """Mean over seeds at each size, with an interval over seeds."""
    lines = {}
    for model, part in by_model(measurements).items():
        curves = [m.cell.extra[attack] for m in part if attack in m.cell.extra]
        sizes = sorted({float(size): size for curve in curves for size in curve}.items())
        if sizes:
            lines[model] = [(eps, over_seeds([float(curve[key]) for curve in curves])) for eps, key in sizes]
    return lines


def _curves(
    section: Section, lines: Mapping[str, Mapping[str, Line]], titles: Mapping[str, str], x_label: str, kind: str
) -> list[str]:
    """A figure with one panel for each set of lines, and a table of the same."""
    panels = [Panel(titles[name], x_label, part) for name, part in lines.items()]
    texts = [
        section.draw(lines_figure(panels), kind, f"{' and '.join(p.title.lower() for p in panels)} against {x_label}")
    ]
    for panel in panels:
        places = sorted({x for line in panel.lines.values() for x, _ in line})
        rows = [
            [name, *(share(dict(line)[x]) if x in dict(line) else "–" for x in places)]
            for name, line in panel.lines.items()
        ]
        texts += [f"{panel.title}, by {x_label}:", markdown(["model", *(f"{x:g}" for x in places)], rows)]
    return [*texts, section.command]
