"""Models beside each other: summaries, the baseline to beat, and where an advantage begins."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.benchmark.analysis import (
    METRICS,
    Estimate,
    Runs,
    difference_draws,
    estimate,
    lowest_group,
    mean_difference,
    over_seeds,
    pooled,
    without_classes,
)
from pipeline.benchmark.deals import DEVELOPMENT
from pipeline.benchmark.reading import Measurement
from pipeline.benchmark.records import Cell, FloatArray

REFERENCE = "kd"
PROPOSED = "groupdistil"  # and every method whose name begins so
WITHOUT = ("kd_plain", "kd_no_appearance")  # distillation with less augmentation
GAIN, LOSS = 0.05, 0.01  # what a method shall gain in the worst group, and may lose on average
SHORTFALL = 0.05  # a minority is underfitted if its training accuracy lies this far below that of all


@dataclass(frozen=True)
class Summary:
    """One model with one setting of the dials.

    Args:
        model: name in the plan.
        role: ``teacher`` or ``student``.
        parameters: number of weights.
        runs: its whole seeds.
        worst_group: see :func:`pipeline.benchmark.analysis.lowest_group`.
        estimates: metric -> value and interval.
        probe: how well the features tell the group; interval over seeds.
        choice: by what it may be chosen, never the test: accuracy of development patients in the group where its mean
            over runs is lowest; without such patients, mean over runs of the lowest group's validation accuracy. NaN if
            the model was fitted to those patients.
        fitted: whether the model, or a teacher of its, learned from the labels of validation patients; None if nobody
            knows.
        shortfall: training accuracy of all minus that of the minority, mean over runs; NaN where not measured.
        latency_ms: of one study; NaN where not measured.
    """

    model: str
    role: str
    parameters: int
    runs: Runs
    worst_group: str
    estimates: dict[str, Estimate]
    probe: Estimate
    choice: float
    fitted: bool | None
    shortfall: float
    latency_ms: float

    @property
    def method(self) -> str:
        """The model's name before ``@``."""
        return self.model.partition("@")[0]

    @property
    def proposed(self) -> bool:
        """True for the methods that the others are baselines of."""
        return self.method.startswith(PROPOSED)

    @property
    def underfitted(self) -> bool:
        """True if the minority was not learnt as well as the rest, on the studies that were trained on."""
        return self.has_minority and self.shortfall >= SHORTFALL - 1e-9

    @property
    def has_minority(self) -> bool:
        """False where no group was rare enough to be one."""
        return not math.isnan(self.shortfall)


@dataclass(frozen=True)
class Regime:
    """One method minus another, as a rule the reference, under one setting.

    Args:
        settings: dials and what the models' names say.
        draws: differences, by name of what differs, as :func:`pipeline.benchmark.analysis.difference_draws` gives them:
            ``worst`` in worst-group accuracy; ``together``, the same where classes of a group are taken together, if
            groups are vendor x class; ``average`` in accuracy.
        reference: plain distillation, which tells whether the minority was learnt.
        seeds: number of seeds that both have.
    """

    settings: dict[str, Any]
    draws: dict[str, FloatArray]
    reference: Summary
    seeds: int

    @property
    def worst(self) -> Estimate:
        """Difference in worst-group accuracy."""
        return mean_difference([self.draws["worst"]])


def summarise(
    measurements: Sequence[Measurement],
    *,
    folds: int = 1,
    metrics: Sequence[str] = tuple(METRICS),
    fitted: bool | None = False,
    choose: bool = True,
) -> Summary:
    """Summarise one model with one setting.

    Args:
        measurements: of one model, all its seeds and folds.
        folds: of a whole seed.
        metrics: of :data:`pipeline.benchmark.analysis.METRICS`.
        fitted: whether the model, or its teacher, learned from validation patients; None if nobody knows.
        choose: whether it may be chosen at all.

    Returns:
        The summary. Its runs are empty, and so are its estimates, if no seed is whole.
    """
    runs = pooled(measurements, folds=folds)
    cells = [m.cell for m in measurements if m.cell.seed in runs.seeds]
    by_seed = [float(np.mean([c.vendor_probe for c in cells if c.seed == seed])) for seed in runs.seeds]
    first = measurements[0].cell
    return Summary(
        model=first.model,
        role=first.role,
        parameters=first.parameters,
        runs=runs,
        worst_group=lowest_group(runs) if cells else "",
        estimates={metric: estimate(runs, metric) for metric in metrics} if cells else {},
        probe=over_seeds(by_seed) if cells else Estimate(math.nan, math.nan, math.nan),
        fitted=fitted,
        choice=_choice(cells, fitted=fitted) if choose else math.nan,
        shortfall=_mean([cell.train_accuracy - cell.train_minority_accuracy for cell in cells]),
        latency_ms=_mean([float(cell.extra.get("latency_ms", math.nan)) for cell in cells]),
    )


def _choice(cells: Sequence[Cell], *, fitted: bool | None) -> float:
    if not cells:
        return math.nan
    developments: list[dict[str, float]] = [cell.extra.get(DEVELOPMENT, {}) for cell in cells]
    if all(developments):
        return min(_mean([accuracies[group] for accuracies in developments]) for group in developments[0])
    return math.nan if fitted is not False else _mean([cell.validation_worst_accuracy for cell in cells])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def by_model(measurements: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """Measurements of each model, in the order of the table."""
    parts: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        parts[measurement.cell.model].append(measurement)
    return dict(parts)


def by_setting(measurements: Sequence[Measurement]) -> list[tuple[dict[str, Any], dict[str, list[Measurement]]]]:
    """Settings, in ascending order, each with the measurements of its methods."""
    parts: dict[str, dict[str, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    settings: dict[str, dict[str, Any]] = {}
    for measurement in measurements:
        key = json.dumps(measurement.cell.settings, sort_keys=True)
        settings[key] = measurement.cell.settings
        parts[key][measurement.cell.method].append(measurement)
    ordered = sorted(parts, key=lambda key: [(name, _rank(value)) for name, value in sorted(settings[key].items())])
    return [(settings[key], dict(parts[key])) for key in ordered]


def _rank(value: Any) -> tuple[int, float, str]:  # noqa: ANN401  # whatever a plan's dial holds
    """Numbers by size before words by letter."""
    number = isinstance(value, int | float)
    return (0, float(value), "") if number else (1, 0.0, str(value))


def best_baseline(summaries: Sequence[Summary]) -> Summary | None:
    """The student to beat, chosen without test data: see :func:`chosen_recipe`.

    Returns:
        The first by name of equals; None if no student but the proposed ones has a whole seed.
    """
    return chosen_recipe([summary for summary in summaries if not summary.proposed])


def chosen_recipe(summaries: Sequence[Summary]) -> Summary | None:
    """The student that one would take: the highest :attr:`Summary.choice`, of those with no fewer seeds than `kd`."""
    needed = max((len(s.runs.seeds) for s in summaries if s.model == REFERENCE), default=1)
    students = [s for s in summaries if s.role == "student" and not math.isnan(s.choice)]
    candidates = [s for s in students if len(s.runs.seeds) >= max(needed, 1)]
    return min(candidates, key=lambda s: (-s.choice, s.model), default=None)


def meets_goal(regime: Regime) -> bool:
    """True if the worst group is shown to gain, by 5 points at least, and the average loses 1 point at most."""
    average = mean_difference([regime.draws["average"]]).value
    return regime.worst.sign > 0 and regime.worst.value >= GAIN - 1e-9 and average >= -LOSS - 1e-9


def regimes(
    measurements: Sequence[Measurement], *, folds: int = 1, proposed: str = PROPOSED, against: str = REFERENCE
) -> list[Regime]:
    """One method minus another, setting by setting, where both and the reference have a whole seed in common."""
    found = []
    for settings, methods in by_setting(measurements):
        if not {proposed, against, REFERENCE} <= set(methods):
            continue
        runs, others = (pooled(methods[name], folds=folds) for name in (proposed, against))
        reference = summarise(methods[REFERENCE], folds=folds, metrics=())
        shared = set(runs.seeds) & set(others.seeds) & set(reference.runs.seeds)
        if shared:
            draws = {
                "worst": difference_draws(runs, others, "worst_group_accuracy"),
                "average": difference_draws(runs, others, "accuracy"),
            }
            together, plain = without_classes(runs), without_classes(others)
            if together is not None and plain is not None:
                draws["together"] = difference_draws(together, plain, "worst_group_accuracy")
            found.append(Regime(settings, draws, reference, len(shared)))
    return found
