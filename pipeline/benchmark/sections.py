"""A section of the page, and the one that sets methods beside each other."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.benchmark.analysis import METRICS, Estimate, difference, group_accuracies, pooled
from pipeline.benchmark.cells import fitted_to_validation
from pipeline.benchmark.comparison import (
    PROPOSED,
    REFERENCE,
    WITHOUT,
    Summary,
    best_baseline,
    by_model,
    chosen_recipe,
    summarise,
)
from pipeline.benchmark.figures import Panel, lines_figure, methods_figure, save
from pipeline.benchmark.plan import Plan
from pipeline.benchmark.reading import Measurement
from pipeline.benchmark.tables import NOTHING, in_words, markdown, model_words, models_table, points, share
from pipeline.bundles import OF_GROUP_WEIGHTS

WORST, AVERAGE = "worst_group_accuracy", "accuracy"
TITLES = {WORST: "Worst-group accuracy", AVERAGE: "Accuracy"}
Line = list[tuple[float, Estimate]]


@dataclass(frozen=True)
class Section:
    """What a section is written from, and where its figures go.

    Args:
        plan: the plan.
        measurements: its cells.
        figures: folder of the figures.
        page: folder of the page, which links them.
        outdated: cells that were left out.
    """

    plan: Plan
    measurements: Sequence[Measurement]
    figures: Path
    page: Path
    outdated: int = 0

    @cached_property
    def whole_seeds(self) -> set[int]:
        """Seeds that every model that is asked for has in every setting with all its folds."""
        parts: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
        for measurement in self.measurements:
            parts[measurement.cell.model, repr(sorted(measurement.cell.dials.items()))].append(measurement)
        whole = {part: set(pooled(found, folds=self.plan.folds).seeds) for part, found in parts.items()}
        return {
            seed
            for seed in set().union(*whole.values())
            if all(seed in seeds or not self.plan.asks(model, seed) for (model, _), seeds in whole.items())
        }

    @cached_property
    def absent(self) -> list[str]:
        """Students of the plan that lack a result with some setting of the dials, in some variant."""
        there = {(m.cell.model, repr(sorted(m.cell.dials.items()))) for m in self.measurements}
        dials = [repr(sorted(point.items())) for point in self.plan.dials]
        names = {model: [f"{model}@{v}" if v else model for v in self.plan.variants] for model in self.plan.models}
        return [model for model in names if any((n, point) not in there for n in names[model] for point in dials)]

    def draw(self, figure: Figure, kind: str, words: str) -> str:
        """Write a figure and link it, its command below."""
        path = self.figures / f"{self.plan.name}-{kind}.svg"
        save(figure, path)
        link = Path(os.path.relpath(path, self.page)).as_posix()
        return f"![{words}]({link})\n\n{self.command}"

    @property
    def command(self) -> str:
        """How to make it again."""
        return f"`evenbeat benchmark {self.plan.name}`"


def methods_section(section: Section) -> str:
    """Every model in a table, a figure, and differences to the reference and the best baseline."""
    by_dials: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in section.measurements:
        words = ", ".join(
            f"{name.replace('_', ' ')} {in_words(value)}" for name, value in measurement.cell.dials.items()
        )
        by_dials[words].append(measurement)
    texts = []
    for position, (words, measurements) in enumerate(by_dials.items()):
        name = f"methods-{position}" if len(by_dials) > 1 else "methods"
        heading = [f"### {words[0].upper()}{words[1:]}"] if len(by_dials) > 1 else []
        texts += [*heading, _methods(section, measurements, name)]
    return "\n\n".join([*texts, *_weights(section)])


def _summaries(
    section: Section, measurements: Sequence[Measurement], metrics: Sequence[str] = tuple(METRICS)
) -> list[Summary]:
    """Of every model with a whole seed."""
    plan = section.plan
    found = [
        summarise(
            part,
            folds=plan.folds,
            metrics=metrics,
            fitted=fitted_to_validation(plan, model),
            choose=not plan.no_choice,
        )
        for model, part in by_model(measurements).items()
    ]
    return [summary for summary in found if summary.runs.seeds]


def _metrics(plan: Plan) -> list[str]:
    """Without those that cells of a few patients, or probabilities of several folds' models, do not bear."""
    return [name for name in METRICS if plan.folds == 1 or name not in ("worst_cell_accuracy", "worst_group_auc")]


def _methods(section: Section, measurements: Sequence[Measurement], name: str) -> str:
    summaries = _summaries(section, measurements, _metrics(section.plan))
    if not summaries:
        return "No seed is whole yet."
    best = best_baseline(summaries)
    table = models_table(summaries, best=best.model if best else "", seeds=len(section.plan.seeds))
    figure = section.draw(
        methods_figure(summaries), name, "Worst-group and average accuracy of every model with 95 % intervals"
    )
    unchosen = [f"No student is chosen here: {section.plan.no_choice}."] if section.plan.no_choice else []
    chosen = _recipe(section, summaries, best)
    compared = _differences(section, summaries, best)
    steps = _contrasts(section, summaries)
    parts = [table, section.command, *unchosen, figure, *_groups(section, summaries), *chosen, *steps, *compared]
    return "\n\n".join(parts)


def _groups(section: Section, summaries: Sequence[Summary]) -> list[str]:
    """Accuracy of every model in every group."""
    groups = summaries[0].runs.held_out[0].groups
    rows = [
        [summary.model, *(share(found) for found in group_accuracies(summary.runs).values())]
        for summary in sorted(summaries, key=lambda s: -s.estimates[WORST].value)
    ]
    return ["Accuracy in each group:", markdown(["model", *groups], rows), section.command]


def _recipe(section: Section, summaries: Sequence[Summary], best: Summary | None) -> list[str]:
    """The student to take, beside what one would otherwise have; nothing without a reference."""
    recipe = chosen_recipe(summaries)
    by_name = {summary.model: summary for summary in summaries}
    if recipe is None or REFERENCE not in by_name or len(by_name) == 1:
        return []
    marked = best.model if best else ""
    names = (*WITHOUT, REFERENCE, marked, "teacher", *_teachers_of(section.plan, recipe.model))
    others = [by_name[name] for name in dict.fromkeys(names) if name in by_name and name != recipe.model]
    rows = [
        [model_words(other, best=marked, seeds=0), *(minus(recipe, other, metric) for metric in (WORST, AVERAGE))]
        for other in others
    ]
    header = [f"{recipe.model} minus", *(TITLES[metric].lower() for metric in (WORST, AVERAGE))]
    words = f"**The student to take is `{recipe.model}`**, by the column *choice*. What it has over others, in points:"
    return [words, markdown(header, rows), section.command]


def _contrasts(section: Section, summaries: Sequence[Summary]) -> list[str]:
    """What single steps change: the pairs that the plan names, as far as both are there."""
    by_name = {summary.model: summary for summary in summaries}
    rows = [
        [words, f"{one} minus {other}", *(minus(by_name[one], by_name[other], metric) for metric in (WORST, AVERAGE))]
        for one, other, words in section.plan.contrasts
        if one in by_name and other in by_name
    ]
    header = ["step", "models", *(TITLES[metric].lower() for metric in (WORST, AVERAGE))]
    return ["What single steps change, in points:", markdown(header, rows), section.command] if rows else []


def _teachers_of(plan: Plan, model: str) -> list[str]:
    taught = plan.models[model].teachers if model in plan.models else ()
    return [member for name in taught for member in plan.teachers[name].members]


def _differences(section: Section, summaries: Sequence[Summary], best: Summary | None) -> list[str]:
    """Table and sentences; nothing without a reference."""
    reference = next((summary for summary in summaries if summary.model == REFERENCE), None)
    others = {s.model: s for s in (reference, best) if s is not None}
    if not others:
        return []
    header = ["points", *(f"{TITLES[m].lower()} minus {name}" for name in others for m in (WORST, AVERAGE))]
    rows = [
        [
            model_words(summary, best=best.model if best else "", seeds=len(section.plan.seeds), labels=False),
            *(minus(summary, other, m) for other in others.values() for m in (WORST, AVERAGE)),
        ]
        for summary in summaries
        if len(others) > 1 or summary.model not in others
    ]
    return [markdown(header, rows), section.command, *_verdicts(section.plan, summaries, best)]


def minus(one: Summary, other: Summary, metric: str) -> str:
    """Difference of two models in points, where they have seeds in common."""
    if one.model == other.model or not set(one.runs.seeds) & set(other.runs.seeds):
        return NOTHING
    return points(difference(one.runs, other.runs, metric))


def _verdicts(plan: Plan, summaries: Sequence[Summary], best: Summary | None) -> list[str]:
    """In words, who is better in the worst group: proposed methods against the best baseline and their own likes."""
    lines = []
    for summary in summaries:
        if not summary.proposed:
            continue
        others = [s for s in summaries if not s.proposed and likeness(plan, s.model) == likeness(plan, summary.model)]
        near = [*others, *([best] if best else [])]
        compared = {s.model: s for s in near if set(s.runs.seeds) & set(summary.runs.seeds)}
        lines += [f"- {verdict(summary, other)}" for other in compared.values()]
        ahead = {
            other.model: difference(other.runs, summary.runs, WORST)
            for other in summaries
            if other.role == "student" and not other.proposed and set(other.runs.seeds) & set(summary.runs.seeds)
        }
        better = [f"{name} ({points(found, bold=False)})" for name, found in ahead.items() if found.sign > 0]
        if better:
            lines.append(f"- Baselines that are better than {summary.model}: {', '.join(better)}.")
    return ["In the worst group:\n\n" + "\n".join(lines)] if lines else []


def likeness(plan: Plan, model: str) -> tuple[object, ...]:
    """Equal for models that differ in group weights alone: teachers, variant, and settings that are not theirs.

    Args:
        plan: the plan; of a model that it does not have the name tells.
        model: of one row, with its variant.
    """
    name, _, variant = model.partition("@")
    if name not in plan.models:
        return (variant, name.replace(PROPOSED, REFERENCE, 1))
    own = plan.models[name]
    overlays = [path for path in own.overlays if not Path(path).stem.startswith((PROPOSED, REFERENCE))]
    overrides = {key: value for key, value in own.overrides.items() if key not in OF_GROUP_WEIGHTS}
    return (variant, own.teachers, own.biased, tuple(overlays), repr(sorted(overrides.items())))


def verdict(one: Summary, other: Summary) -> str:
    """One sentence on the difference of two models in the worst group, no stronger than its interval."""
    found = difference(one.runs, other.runs, WORST)
    if not found.sign:
        return f"{one.model} and {other.model} cannot be told apart: {points(found)} points."
    first, second, shown = (one, other, found) if found.sign > 0 else (other, one, turned(found))
    return f"{first.model} is better than {second.model} by {points(shown, bold=False).replace('+', '')} points."


def turned(found: Estimate) -> Estimate:
    """The same difference from the other side."""
    return Estimate(-found.value, -found.high, -found.low)


def _weights(section: Section) -> list[str]:
    """Group weights and losses over epochs, of the plain proposed method and the chosen one, where recorded."""
    chosen = chosen_recipe(_summaries(section, section.measurements, metrics=()))
    texts = []
    for model in dict.fromkeys([PROPOSED, *([chosen.model] if chosen else [])]):
        cells = [m.cell for m in section.measurements if m.cell.model == model and "curves" in m.cell.extra]
        if not cells:
            continue
        curves = [cell.extra["curves"] for cell in cells]
        panels = [
            Panel(title, "epoch", _curve_lines(curves, part))
            for part, title in (("weights", "Group weight"), ("loss", "Validation cross-entropy [nats]"))
        ]
        runs = "mean and range of the runs with" if len(cells) > 1 else "one run,"
        seeds = f"seed{'s' * (len(cells) > 1)} {', '.join(str(cell.seed) for cell in cells)}"
        caption = f"{model}: group weights, and the groups' cross-entropy on validation, {runs} {seeds}"
        note = "Weights follow losses in training, which are not drawn, unless a model's overlay names held-out ones."
        kind = "weights" if model == PROPOSED else f"weights-{model}"
        texts += [f"{caption}. {note}", section.draw(lines_figure(panels, share_y=False), kind, caption)]
    return texts


def _curve_lines(curves: Sequence[Mapping[str, Any]], part: str) -> dict[str, Line]:
    """Mean over runs with the lowest and the highest."""
    values: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for curve in curves:
        for group, line in curve[part].items():
            for epoch, value in zip(curve["epoch"], line, strict=True):
                values[group][epoch].append(value)
    return {
        group: [(epoch, Estimate(float(np.mean(v)), min(v), max(v))) for epoch, v in sorted(line.items())]
        for group, line in sorted(values.items())
    }
