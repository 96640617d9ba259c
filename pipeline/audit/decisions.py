"""What a model's probabilities lead to: how well they are calibrated, what one threshold does, which cases go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from pipeline.audit.calibration import (
    brier_scores,
    calibration_error,
    reliability_curve,
)
from pipeline.audit.findings import ALL, CalibrationRow, CaseRow, Measure, OperatingRow, Place
from pipeline.audit.intervals import mean_interval
from pipeline.audit.model_rows import NUMBER, Grouped, ModelRows, rows_by_model
from pipeline.audit.operating_point import (
    needed_threshold,
    operating_point,
    sensitivity_threshold,
    youden_threshold,
)
from pipeline.audit.plan import Plan
from pipeline.audit.recalibration import calibration_intercept, calibration_slope
from pipeline.audit.statistics import FloatArray, Sample, affordable
from pipeline.tracking.predictions import PredictionsError

MOST_WORK = 200_000_000  # rows whose labels are redrawn: about half a minute
NULL_REPLICATES = 1000


def calibration_row(
    place: Place, sample: Sample, plan: Plan, positive: int | None, rng: np.random.Generator
) -> CalibrationRow:
    """Brier score, calibration error and recalibration of one model in one group.

    Args:
        place: where.
        sample: its rows.
        plan: what is asked.
        positive: class index of slope and intercept; None for neither.
        rng: source of randomness.

    Returns:
        The findings; the reliability curve, of the decisions, for all patients only.
    """
    bounds = (0.0, 1.0 if sample.probabilities.shape[1] == 2 else 2.0)
    scores = np.clip(brier_scores(sample.labels, sample.probabilities), *bounds)
    replicates = affordable(min(plan.replicates, NULL_REPLICATES), sample.probabilities.size, MOST_WORK)
    least = plan.min_patients
    return CalibrationRow(
        place,
        mean_interval(scores, sample.patients, bounds=bounds, min_patients=least),
        calibration_error(sample, rng=rng, replicates=replicates),
        None if positive is None else calibration_slope(sample, positive, min_patients=least),
        None if positive is None else calibration_intercept(sample, positive, min_patients=least),
        tuple(reliability_curve(sample)) if place.column == ALL else (),
    )


def positive_class(plan: Plan, classes: Sequence[str]) -> int | None:
    """Index of the positive class: the named one, else the second of two."""
    if plan.positive is not None:
        return classes.index(plan.positive)
    return 1 if len(classes) == 2 else None


def thresholds(frame: pd.DataFrame, plan: Plan, models: Sequence[str], classes: Sequence[str]) -> dict[str, float]:
    """The operating point of every model, fixed before its groups are looked at.

    Args:
        frame: predictions table, with the development split that the plan's rule needs.
        plan: the rule.
        models: that need one.
        classes: of the table.

    Returns:
        Model -> threshold; empty without a rule.

    Raises:
        PredictionsError: if the development split lacks a model's rows, or the class.
    """
    rule = plan.threshold
    if rule is None or plan.positive is None:
        return {}
    if rule.rule == "value":
        return dict.fromkeys(models, float(rule.value or 0.0))
    development = rows_by_model(frame, str(rule.split), None)
    missing = [model for model in models if model not in development]
    if missing:
        raise PredictionsError(
            f"a threshold is fixed on the split {rule.split!r}, which must have rows of every model; "
            f"{', '.join(missing)} has none; add them, or give the threshold itself"
        )
    positive = list(classes).index(plan.positive)
    return {model: _threshold(development[model].sample, positive, rule.value) for model in models}


def _threshold(development: Sample, positive: int, target: float | None) -> float:
    if target is None:
        return youden_threshold(development, positive)
    return sensitivity_threshold(development, positive, target)


def operating_row(place: Place, sample: Sample, plan: Plan, positive: int, threshold: float) -> OperatingRow:
    """What the threshold does in one group, and the one it would need for the plan's sensitivity."""
    least, rule = plan.min_patients, plan.threshold
    needed = None
    if rule is not None and rule.rule == "sensitivity" and rule.value is not None:
        needed = needed_threshold(sample, positive, rule.value, min_patients=least)
    return OperatingRow(place, threshold, operating_point(sample, positive, threshold, min_patients=least), needed)


def worst_read(
    grouped: Grouped, measure: Measure, count: int, *, pictures: Mapping[str, str], numbered: bool
) -> Iterator[CaseRow]:
    """The cases of every group that a model reads worst.

    Args:
        grouped: rows of the model, sorted into groups.
        measure: accuracy, by the probability of the true class; or an endpoint, by how far a value lies on the bad side
            of the model's median.
        count: cases of each group, at most.
        pictures: case_id -> relative path of its picture.
        numbered: whether case_ids are made of the patients'; a case is then called by its row among the model's.

    Yields:
        By group, worst first.
    """
    rows, badness = grouped.rows, _badness(grouped.rows, measure)
    for group, inside in grouped.inside.items():
        at = np.flatnonzero(inside & ~np.isnan(badness))
        for row in at[np.argsort(-badness[at], kind="stable")[:count]].tolist():
            case_id = str(rows.frame["case_id"].iloc[row])
            yield CaseRow(
                grouped.place(group),
                f"row {rows.frame[NUMBER].iloc[row]}" if numbered else case_id,
                measure.name,
                float(badness[row]),
                *_truth_and_answer(rows, measure, row),
                None if numbered else pictures.get(case_id),
            )


def _badness(rows: ModelRows, measure: Measure) -> FloatArray:
    if measure.name == "accuracy":
        sample = rows.sample
        return np.asarray(1 - sample.probabilities[np.arange(len(sample.labels)), sample.labels])
    values = rows.values(measure)
    if np.isnan(values).all():
        return values
    beyond = values - np.nanmedian(values)
    return beyond if measure.better == "lower" else -beyond


def _truth_and_answer(rows: ModelRows, measure: Measure, row: int) -> tuple[str, str]:
    if measure.name != "accuracy":
        return "", f"{rows.values(measure)[row]:.3g} {measure.unit}".rstrip()
    classes = rows.classes
    said = int(rows.sample.probabilities[row].argmax())
    return classes[rows.sample.labels[row]], f"{classes[said]} ({rows.sample.probabilities[row, said]:.2f})"
