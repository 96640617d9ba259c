"""Sections of the page on plans that turn something: dials, sizes, wrong labels, attacks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.benchmark.analysis import Runs, difference, estimate, over_seeds, pooled
from pipeline.benchmark.cells import fitted_to_validation
from pipeline.benchmark.comparison import (
    GAIN,
    LOSS,
    PROPOSED,
    REFERENCE,
    SHORTFALL,
    Regime,
    Summary,
    by_setting,
    regimes,
    summarise,
)
from pipeline.benchmark.figures import Panel, lines_figure, regime_figure
from pipeline.benchmark.reading import Measurement
from pipeline.benchmark.sections import AVERAGE, TITLES, WORST, Line, Section, minus
from pipeline.benchmark.tables import (
    NOTHING,
    count,
    in_words,
    markdown,
    points,
    regimes_summary,
    regimes_table,
    share,
)

REGIME_RULE = f"""\
Minority: training studies of every group x class that has less than half of the studies it would have if group and
class were independent; so it is not a group that is rare, but one that goes against what group and class have in common
elsewhere. Underfitted: on training studies as they are, KD is at least {100 * SHORTFALL:.0f} points worse in the
minority than in all. *Better* and *worse* count settings whose interval, in the worst group, excludes 0; of forty
settings alike, one or more would be either by chance. *Goal*: settings that are better by {100 * GAIN:.0f} points or
more, and lose {100 * LOSS:.0f} point or less on average. Means over settings have seeds and patients drawn anew for all
settings at once. *Classes together*: the same predictions, compared in the worst vendor (or place) and no longer in the
worst vendor x class."""
MARGIN = 0.05  # what a student may lose to its teacher in the worst group
ATTACKS = {"fgsm": "one step (FGSM)", "pgd": "several steps (PGD)"}


def regimes_section(section: Section) -> str:
    """Every other student minus KD over the dials, and the steps that the plan names."""
    students = {m.cell.method for m in section.measurements if m.cell.role == "student"}
    others = sorted(students - {REFERENCE}, key=lambda name: (name.startswith(PROPOSED), name))
    mapped = {name: regimes(section.measurements, folds=section.plan.folds, proposed=name) for name in others}
    mapped = {name: found for name, found in mapped.items() if found}
    if not mapped:
        return f"No setting has a whole seed of both {REFERENCE} and another student yet."
    steps = {
        f"{one} minus {other} ({words})": regimes(
            section.measurements, folds=section.plan.folds, proposed=one, against=other
        )
        for one, other, words in section.plan.contrasts
    }
    overview = regimes_summary({f"{name} minus {REFERENCE}": found for name, found in mapped.items()} | steps)
    seen = [name for name in mapped if fitted_to_validation(section.plan, name)]
    labels = [f"These learn from the labels of validation studies, too: {', '.join(seen)}."] if seen else []
    maps = [part for name, found in mapped.items() for part in _map(section, name, found)]
    return "\n\n".join([REGIME_RULE, overview, section.command, *labels, *maps])


def _map(section: Section, name: str, found: Sequence[Regime]) -> list[str]:
    words = f"{name} minus {REFERENCE} in worst-group accuracy over the cohort's dials"
    figure = section.draw(regime_figure(found, name), f"map-{name}", words)
    table = regimes_table(found, varied([regime.settings for regime in found]), seeds=len(section.plan.seeds))
    unfolded = ["<details><summary>Every setting in a table</summary>", table, section.command, "</details>"]
    return [f"### {name} minus {REFERENCE}", figure, "\n\n".join(unfolded)]


def varied(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Settings with more than one value."""
    values = {name: {str(other.get(name)) for other in settings} for one in settings for name in one}
    return sorted(name for name, different in values.items() if len(different) > 1)


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
        [s.model, count(s.parameters), "–" if math.isnan(s.latency_ms) else f"{s.latency_ms:.2f}",
         *(share(s.estimates[metric]) for metric in (WORST, AVERAGE)),
         *(minus(s, teacher, metric) for teacher in teachers for metric in (WORST, AVERAGE))]
        for s in sorted(summaries, key=lambda s: (s.parameters, s.model))
    ]  # fmt: skip
    header = ["model", "weights", "latency [ms]", "worst group", "accuracy"]
    header += [f"{words} minus {t.model}" for t in teachers for words in ("worst group", "accuracy")]
    table = markdown(header, rows)
    figure = section.draw(lines_figure(panels), "sizes", "Worst-group accuracy against the size of the student")
    rule = "Latency: one study in onnxruntime on one thread of the CPU. Differences are in points."
    return "\n\n".join([figure, table, section.command, rule, *_non_inferior(students, teachers)])


def _non_inferior(students: Sequence[Summary], teachers: Sequence[Summary]) -> list[str]:
    """Which students are shown to lose no more than a margin against each teacher."""
    lines = []
    for teacher in teachers:
        shown = [
            f"{student.model} ({count(student.parameters)} weights)"
            for student in sorted(students, key=lambda s: s.parameters)
            if set(student.runs.seeds) & set(teacher.runs.seeds)
            and difference(student.runs, teacher.runs, WORST).low > -MARGIN
        ]
        lines.append(
            f"Shown to lose at most {100 * MARGIN:.0f} points to {teacher.model} in the worst group: "
            f"{', '.join(shown) or 'none'}."
        )
    return lines


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
    attacked = {name: _attacked(clean, name) for name in ATTACKS}
    shown = {name: _attack_lines(curves) for name, curves in attacked.items() if curves}
    if shown:
        titles = {name: f"Accuracy under attack, {words}" for name, words in ATTACKS.items()}
        texts += _curves(section, shown, titles, "size of the perturbation [SD of the study]", "attack")
        for name in shown:
            texts += _attack_differences(section, attacked[name], titles[name])
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


Curves = dict[int, dict[float, float]]  # by seed: accuracy by size


def _attacked(measurements: Sequence[Measurement], attack: str) -> dict[str, Curves]:
    """Accuracy under an attack, by method."""
    found: dict[str, Curves] = defaultdict(dict)
    for m in measurements:
        if attack in m.cell.extra:
            found[m.cell.method][m.cell.seed] = {float(eps): float(v) for eps, v in m.cell.extra[attack].items()}
    return dict(found)


def _attack_lines(curves: Mapping[str, Curves]) -> dict[str, Line]:
    """Mean over seeds at each size, with an interval over seeds."""
    return {
        method: [(eps, over_seeds([curve[eps] for curve in of_seed.values()])) for eps in _sizes(of_seed)]
        for method, of_seed in curves.items()
    }


def _sizes(of_seed: Curves) -> list[float]:
    return sorted(set.intersection(*(set(curve) for curve in of_seed.values())))


def _attack_differences(section: Section, curves: Mapping[str, Curves], title: str) -> list[str]:
    """Every method minus the reference at each size, on the same seeds."""
    if REFERENCE not in curves or len(curves) == 1:
        return []
    plain = curves[REFERENCE]
    places = _sizes(plain)
    rows = []
    for method, of_seed in curves.items():
        shared = sorted(set(of_seed) & set(plain))
        if method != REFERENCE and shared:
            found = {eps: [of_seed[s][eps] - plain[s][eps] for s in shared] for eps in _sizes(of_seed) if eps in places}
            told = [points(over_seeds(found[eps], least=-1.0)) if eps in found else NOTHING for eps in places]
            rows.append([method, *told])
    words = f"{title}, minus {REFERENCE}, in points:"
    return [words, markdown(["model", *(f"{x:g}" for x in places)], rows), section.command]


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
