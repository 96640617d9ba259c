"""Findings made by hand, in any number of groups, models and measures, for what is written from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.audit.arms import Arm
from pipeline.audit.calibration import CalibrationError, ReliabilityBin
from pipeline.audit.case_mix import MixRow, Standardised
from pipeline.audit.comparison import Comparison, Outcome
from pipeline.audit.contrasts import REST, contrasts
from pipeline.audit.differences import Difference, difference_of_arms
from pipeline.audit.findings import (
    ALL,
    Audit,
    CalibrationRow,
    CaseRow,
    ContrastRow,
    DifferenceRow,
    EffectRow,
    Measure,
    MetricRow,
    OperatingRow,
    Place,
    WorstRow,
)
from pipeline.audit.operating_point import OperatingPoint
from pipeline.audit.plan import Endpoint, Plan, Threshold
from pipeline.audit.power import PatientsNeeded, SmallestGap
from pipeline.audit.scanner_effect import NOTHING_TO_COMPARE, ScannerEffect
from pipeline.audit.statistics import Estimate, Worst, wilson_interval
from pipeline.audit.worst import FreshHalf, shrink, worst_interval

MIN_PATIENTS = 10
ACCURACY = Measure("accuracy", "Accuracy", margin=0.05)
AUC = Measure("auc", "AUC", margin=0.05)
DICE = Measure("dice", "Dice", scale="plain", margin=0.02)
HD95 = Measure("hd95_mm", "HD95", unit="mm", better="lower", scale="plain", margin=1.0)
TYPICAL = {"accuracy": (0.84, 0.06), "auc": (0.91, 0.05), "dice": (0.88, 0.03), "hd95_mm": (7.5, 1.5)}
VENDORS = {"Siemens": 48, "Philips": 36, "GE": 30, "UIH": 4, "Canon": 24, "Hitachi": 0}
SEXES = {"F": 66, "M": 76}
MODELS = ("teacher", "student-kd", "student-groupdistil")
CLASSES = ("NOR", "HCM", "DCM")
NOTES = ("vendor: 3 of 142 patients are in more than one group, and count in each.",)


def estimate(rng: np.random.Generator, measure: Measure, n: int) -> Estimate:
    """A plausible value of one measure with the interval that n patients allow."""
    if not n:
        return Estimate(0, 0, reason="no patients")
    centre, spread = TYPICAL[measure.name]
    value = float(rng.normal(centre, spread))
    if measure.scale == "share":
        value = round(min(value, 1.0) * n) / n
    if n < MIN_PATIENTS:
        return Estimate(n, n, value, reason="too few patients")
    if measure.scale == "share":
        return Estimate(n, n, value, *wilson_interval(value, n), "Wilson")
    half = 1.96 * 3 * spread / math.sqrt(n)
    return Estimate(n, 2 * n, value, value - half, value + half, "t, skewness corrected")


def made_audit(
    groups: Mapping[str, Mapping[str, int]] | None = None,
    *,
    models: Sequence[str] = MODELS,
    measures: Sequence[Measure] = (ACCURACY, AUC, DICE, HD95),
    seed: int = 0,
) -> Audit:
    """An audit with something in each of its lists.

    Args:
        groups: column -> group -> patients; None for six vendors, one of them without a patient, and two sexes.
        models: reference first.
        measures: of them; without accuracy and AUC nothing is classified.
        seed: of the values.
    """
    columns = groups or {"vendor": VENDORS, "sex": SEXES}
    classified = any(measure.name in {"accuracy", "auc"} for measure in measures)
    plan = Plan(
        group_by=tuple(columns),
        metrics=tuple(m.name for m in measures if m.name in {"accuracy", "auc"}),
        endpoints={
            m.name: Endpoint(m.better, m.unit, m.margin if len(models) > 1 else None)
            for m in measures
            if m.name not in {"accuracy", "auc"}
        },
        margin=0.05 if len(models) > 1 else None,
        threshold=Threshold("sensitivity", 0.9, "validation") if classified else None,
        positive="DCM" if classified else None,
        reference_model=models[0] if len(models) > 1 else None,
        min_patients=MIN_PATIENTS,
    )
    total = max(sum(sizes.values()) for sizes in columns.values())
    audit = Audit(
        plan,
        CLASSES if classified else (),
        tuple(models),
        tuple(measures),
        total,
        total,
        {column: tuple(sorted(sizes)) for column, sizes in columns.items()},
        NOTES,
    )
    rng = np.random.default_rng(seed)
    sizes = {(column, group): n for column, table in columns.items() for group, n in table.items()}
    sizes = {key: sizes[key] for column in columns for key in audit.bands(column)[:-1]} | {(ALL, ALL): total}
    for (column, group), n in sizes.items():
        for model in models:
            place = Place(model, column, group)
            audit.rows.extend(_row(rng, place, measure, n) for measure in measures)
            if classified:
                audit.calibration.append(_calibration(rng, place, n))
                audit.operating.append(_operating(rng, place, n))
                audit.worst_cases.extend(_cases(place, n) if ACCURACY in measures else ())
    for column in columns:
        for model in models:
            for measure in measures:
                _compare_groups(audit, rng, model, column, measure)
        audit.mix[column] = _mix(columns[column])
    audit.contrasts.sort(key=lambda row: (plan.group_by.index(row.column), row.contrast.group))
    for column in (*columns, ALL) if len(models) > 1 else ():
        for group in audit.groups.get(column, (ALL,)):
            audit.differences.extend(
                _difference(rng, audit, column, group, model, measure) for model in models[1:] for measure in measures
            )
    return audit


def _row(rng: np.random.Generator, place: Place, measure: Measure, n: int) -> MetricRow:
    found = estimate(rng, measure, n)
    if measure.name != "accuracy" or place.column == ALL:
        return MetricRow(place, measure.name, found)
    if place.group == "Canon":
        return MetricRow(
            place, measure.name, found, Standardised(Estimate(n, n, reason="no patient of HCM"), 0.7, ("HCM",))
        )
    shifted = replace(found, value=found.value - 0.01) if n else found
    return MetricRow(place, measure.name, found, Standardised(shifted, 1.0, ()))


def _compare_groups(audit: Audit, rng: np.random.Generator, model: str, column: str, measure: Measure) -> None:
    found = {group: audit.find(model, column, group, measure.name) for group in audit.groups[column]}
    usable = {group: e for group, e in found.items() if e.estimable}
    left_out = tuple(group for group in found if group not in usable)
    whole = audit.find(model, ALL, ALL, measure.name)
    n = sum(e.n_patients for e in usable.values())
    effect = ScannerEffect(tuple(usable), left_out, n, 3, 1999, float(rng.uniform(0, 0.3)))
    if len(usable) < 2:
        effect = replace(effect, p=math.nan, reason=NOTHING_TO_COMPARE)
    audit.effects.append(EffectRow(model, column, measure.name, effect))
    for contrast in contrasts({group: unpaired(e, whole) for group, e in found.items()}, against=REST):
        estimable = contrast.difference.estimable
        gap = (
            SmallestGap(3 * (e.high - e.value)) if (e := found[contrast.group]).estimable else SmallestGap(reason="few")
        )
        needed = PatientsNeeded(432, 432 - e.n_patients) if estimable else PatientsNeeded(reason="no value to go by")
        audit.contrasts.append(
            ContrastRow(model, column, measure.name, contrast, gap, needed if measure.margin else None)
        )
    scale, higher = measure.scale, measure.better == "higher"
    worst = fresh = None
    if len(usable) >= 2:
        named = (min if higher else max)(usable, key=lambda group: usable[group].value)
        shares = {group: 0.6 if group == named else 0.4 / (len(usable) - 1) for group in usable}
        worst = Worst(named, usable[named].value, shares[named], shares)
        fresh = FreshHalf(named, shares, usable[named].value, usable[named].value + (0.02 if higher else -0.5), 0.41)
    audit.worst.append(
        WorstRow(
            model,
            column,
            measure.name,
            worst,
            worst_interval(usable, scale=scale, higher_is_better=higher),
            fresh or FreshHalf(),
            shrink(usable, scale=scale),
            left_out,
        )
    )


def unpaired(one: Estimate, other: Estimate) -> Difference:
    """Difference of the values of different patients; counts are those of the first."""
    nobody = np.zeros(0)
    return difference_of_arms(Arm(one, nobody), Arm(other, nobody), n_patients=one.n_patients, n_rows=one.n_rows)


def _difference(
    rng: np.random.Generator, audit: Audit, column: str, group: str, model: str, measure: Measure
) -> DifferenceRow:
    n = audit.find(model, column, group, measure.name).n_patients
    outcome = Outcome(measure.name, measure.margin, measure.better)
    reference = audit.models[0]
    if n < MIN_PATIENTS:
        few = Estimate(n, n, reason="too few patients" if n else "no patients")
        return DifferenceRow(column, Comparison(model, reference, group, outcome, few, math.nan, math.nan))
    spread = TYPICAL[measure.name][1]
    value, half = float(rng.normal(0, spread / 2)), 4 * spread / math.sqrt(n)
    p = tuple(float(p) for p in rng.uniform(0, 0.06, 2))
    found = Estimate(n, n, value, value - half, value + half, "Tango")
    adjusted = (p[0], 0.5) if p[0] < p[1] else (0.5, p[1])
    return DifferenceRow(column, Comparison(model, reference, group, outcome, found, *p, 4, *adjusted))


def _calibration(rng: np.random.Generator, place: Place, n: int) -> CalibrationRow:
    if not n:
        absent = Estimate(0, 0, reason="no patients")
        return CalibrationRow(place, absent, CalibrationError(0, 0, reason="no patients"), absent, absent)
    middle = 0.35 / math.sqrt(n)
    error = CalibrationError(n, n, float(rng.uniform(0.5, 2.2) * middle), middle, 0.6 * middle, 1.5 * middle)
    brier = (
        Estimate(n, n, 0.25, 0.2, 0.31, "t, skewness corrected")
        if n >= MIN_PATIENTS
        else Estimate(n, n, 0.2, reason="too few patients")
    )
    slope = (
        Estimate(n, n, 0.82, 0.61, 1.03, "patient jackknife")
        if n >= MIN_PATIENTS
        else Estimate(n, n, reason="the probabilities separate the classes")
    )
    curve = tuple(_bin(rng, place_in_curve / 15, n) for place_in_curve in range(5, 15)) if place.column == ALL else ()
    return CalibrationRow(place, brier, error, slope, replace(slope, value=-0.1, low=-0.4, high=0.2), curve)


def _bin(rng: np.random.Generator, lower: float, n: int) -> ReliabilityBin:
    patients = max(1, round(n * lower / 6))
    share = round(float(np.clip(rng.normal(lower, 0.1), 0, 1)) * patients) / patients
    if patients < 2:
        return ReliabilityBin(lower, lower + 1 / 15, lower + 0.03, Estimate(1, 1, share, reason="too few patients"))
    found = Estimate(patients, patients, share, *wilson_interval(share, patients), "Wilson")
    return ReliabilityBin(lower, lower + 1 / 15, lower + 0.03, found)


def _operating(rng: np.random.Generator, place: Place, n: int) -> OperatingRow:
    sick = 0 if place.group == "Canon" else n // 3

    def share(count: int, absent: str) -> Estimate:
        if not count:
            return Estimate(0, 0, reason=absent)
        value = round(float(rng.uniform(0.7, 1)) * count) / count
        if count < MIN_PATIENTS:
            return Estimate(count, count, value, reason="too few patients")
        return Estimate(count, count, value, *wilson_interval(value, count), "Wilson")

    point = OperatingPoint(
        n, n, sick, n - sick,
        sensitivity=share(sick, "no patient has the class"),
        specificity=share(n - sick, "every patient has the class"),
        ppv=share(sick, "no row is called positive"),
        npv=share(n - sick, "no row is called negative"),
    )  # fmt: skip
    needed = Estimate(sick, sick, 0.31, 0.12, 0.44, "interval of the sensitivity, inverted")
    return OperatingRow(
        place, 0.37, point, needed if sick >= MIN_PATIENTS else Estimate(sick, sick, reason="too few patients")
    )


def _cases(place: Place, n: int) -> list[CaseRow]:
    return [
        CaseRow(
            place,
            f"case-{place.group}-{i}",
            "accuracy",
            0.99 - i / 100,
            "HCM",
            "NOR",
            f"../pictures/case {i}.png" if i else None,
        )
        for i in range(min(n, 2))
        if place.column != ALL
    ]


def _mix(sizes: Mapping[str, int]) -> list[MixRow]:
    shares = {"label": {"NOR": 0.5, "HCM": 0.2, "DCM": 0.3}, "sex": {"F": 0.45, "M": 0.55}}
    return [
        MixRow(group, part, category, round(n * share), round(n * share) / n if n else math.nan)
        for part, categories in shares.items()
        for group, n in sorted(sizes.items())
        for category, share in categories.items()
    ]
