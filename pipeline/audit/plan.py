"""The frozen plan of an audit: what is compared, by which rule, decided before anybody looks.

Its fingerprint stands in the report: groups that are binned anew, or a margin that is widened after looking, change
it. :mod:`pipeline.audit.plan_file` reads and writes plans.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipeline.audit.layout import Layout, nearest
from pipeline.tracking.group_metrics import METRICS

Better = Literal["higher", "lower"]
Rule = Literal["value", "youden", "sensitivity"]
RULES = ("value", "youden", "sensitivity")
SHOWN_DIGITS = 16  # of the fingerprint
ALWAYS = ("group_by", "metrics", "min_patients", "replicates", "seed", "split")


class PlanError(ValueError):
    """A plan that cannot be followed; the message names the place, what came and what to do."""


@dataclass(frozen=True)
class Endpoint:
    """A continuous column.

    Args:
        better: whether ``higher`` (Dice) or ``lower`` values (HD95, absolute error of EF) are better.
        unit: for the reader, ``mm`` or ``points``; empty without one.
        margin: largest loss against the reference model that still counts as non-inferior, in that unit.
    """

    better: Better
    unit: str = ""
    margin: float | None = None


@dataclass(frozen=True)
class Threshold:
    """The operating point of the positive class, one for all groups.

    Args:
        rule: ``value`` gives the threshold; ``youden`` and ``sensitivity`` fix it on a development split.
        value: the threshold, or the sensitivity to reach, in (0, 1); None for ``youden``.
        split: the development split; None for ``value``.
    """

    rule: Rule
    value: float | None = None
    split: str | None = None


@dataclass(frozen=True)
class Plan:
    """What an audit will do.

    Example:
        >>> plan = Plan(group_by=("vendor",), endpoints={"hd95_mm": Endpoint("lower", "mm")}, seed=7)
        >>> plan.fingerprint[:SHOWN_DIGITS] == Plan(group_by=("vendor",)).fingerprint[:SHOWN_DIGITS]
        False

    Args:
        group_by: columns to audit, each on its own; ``"vendor x sex"`` crosses two.
        metrics: of the classification, ``accuracy`` and ``auc``; none without one.
        endpoints: continuous columns, by name.
        margin: largest loss of accuracy and AUC against the reference model that counts as non-inferior, in (0, 1).
        threshold: operating point of the positive class.
        positive: that class.
        reference_model: the others are compared with it.
        reference_group: column of ``group_by`` -> group that the others are compared with; without one, each group
            is compared with the rest.
        strata: columns of the case mix.
        min_patients: below it a group gets no interval.
        replicates: draws of the patient bootstrap, and permutations.
        seed: of the draws.
        merge: column -> name in the table -> the name to use.
        age_bands: edges [years] that make groups of the column ``age``.
        split: rows to audit.

    Raises:
        PlanError: if these do not go together.
    """

    group_by: tuple[str, ...]
    metrics: tuple[str, ...] = METRICS
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    margin: float | None = None
    threshold: Threshold | None = None
    positive: str | None = None
    reference_model: str | None = None
    reference_group: Mapping[str, str] = field(default_factory=dict)
    strata: tuple[str, ...] = ()
    min_patients: int = 10
    replicates: int = 2000
    seed: int = 0
    merge: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    age_bands: tuple[int, ...] = ()
    split: str = "test"

    def __post_init__(self) -> None:
        _check_columns(self)
        _check_numbers(self)
        _check_comparisons(self)
        _check_threshold(self)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits; the first 16 are shown."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()

    def layout(self, columns: Mapping[str, str] | None = None, *, missing_values: bool = False) -> Layout:
        """What a plan asks of a table.

        Args:
            columns: the plan's name -> the table's; tables differ, the plan does not.
            missing_values: whether rows may lack an endpoint.
        """
        return Layout(
            group_by=self.group_by,
            endpoints=tuple(self.endpoints),
            strata=self.strata,
            columns=columns or {},
            classified=bool(self.metrics),
            positive=self.positive,
            age_bands=self.age_bands,
            merge=self.merge,
            missing_values=missing_values,
        )


def _check_columns(plan: Plan) -> None:
    _must(bool(plan.group_by), "group_by must name at least one column", "none", "name e.g. vendor")
    for name in ("group_by", "metrics", "strata"):
        listed = getattr(plan, name)
        _must(len(set(listed)) == len(listed), f"{name} must name each once", list(listed), "remove the copies")
    _must(bool(plan.metrics or plan.endpoints), "something must be measured", "no metric, no endpoint", "add one")
    for metric in plan.metrics:
        _must(metric in METRICS, "metrics must be known", repr(metric), nearest(metric, METRICS))
    try:
        plan.layout()  # bands, mergers and names of endpoints
    except ValueError as error:
        raise PlanError(str(error)) from None


def _check_numbers(plan: Plan) -> None:
    for name, least in (("replicates", 100), ("min_patients", 2), ("seed", 0)):
        given = getattr(plan, name)
        _must(given >= least, f"{name} must be at least {least}", given, "raise it")
    if plan.margin is not None:
        _must(0 < plan.margin < 1, "margin must be a share in (0, 1)", plan.margin, "write 0.05 for 5 points")
    for name, endpoint in plan.endpoints.items():
        better = endpoint.better
        _must(better in {"higher", "lower"}, f"{name}: better must be higher or lower", repr(better), "choose one")
        if endpoint.margin is not None:
            fits = 0 < endpoint.margin < math.inf
            _must(fits, f"{name}: margin must be above 0", endpoint.margin, "write it in the endpoint's unit")


def _check_comparisons(plan: Plan) -> None:
    margins = [plan.margin, *(endpoint.margin for endpoint in plan.endpoints.values())]
    if any(margin is not None for margin in margins):
        needed, remedy = plan.reference_model is not None, "name reference_model, --reference"
        _must(needed, "a margin needs the model that others are compared with", "none", remedy)
    for column in plan.reference_group:
        remedy = nearest(column, plan.group_by)
        _must(column in plan.group_by, "reference_group must name columns of group_by", repr(column), remedy)


def _check_threshold(plan: Plan) -> None:
    threshold = plan.threshold
    came = repr(plan.positive)
    _must(plan.positive is None or bool(plan.metrics), "positive needs a classification", came, "add accuracy or auc")
    if threshold is None:
        return
    rule = threshold.rule
    _must(rule in RULES, "threshold: rule must be known", repr(rule), nearest(rule, RULES))
    _must(plan.positive is not None, "a threshold needs the class that it is of", "none", "name positive, --positive")
    if rule == "youden":
        _must(threshold.value is None, "threshold: youden has no value", threshold.value, "leave it out")
    else:
        fits = threshold.value is not None and 0 < threshold.value < 1
        _must(fits, "threshold: value must be in (0, 1)", threshold.value, "write e.g. 0.5")
    if rule == "value":
        _must(threshold.split is None, "threshold: a value needs no split", repr(threshold.split), "leave it out")
    else:
        fits = threshold.split not in {None, plan.split}
        _must(fits, "threshold: split must be another than the audited", threshold.split, "name e.g. validation")


def _must(holds: bool, rule: str, came: object, remedy: str) -> None:
    if not holds:
        raise PlanError(f"{rule}; got {came}; {remedy}")


def as_record(plan: Plan) -> dict[str, Any]:
    """A plan as plain lists and mappings; what is empty is left out, so that later additions change no fingerprint."""
    record = asdict(plan)
    record["endpoints"] = {name: _filled(endpoint) for name, endpoint in record["endpoints"].items()}
    record["threshold"] = _filled(record["threshold"] or {})
    return {key: value for key, value in _plain(record).items() if key in ALWAYS or value not in (None, {}, [])}


def _filled(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if value not in (None, "")}


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 2.0 and 2 are one margin, and have one fingerprint
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def canonical(plan: Plan) -> str:
    """The one JSON of a plan: keys sorted, no spaces, numbers as Python writes them.

    Example:
        >>> canonical(Plan(group_by=("vendor",), metrics=("auc",)))
        '{"group_by":["vendor"],"metrics":["auc"],"min_patients":10,"replicates":2000,"seed":0,"split":"test"}'
    """
    return json.dumps(as_record(plan), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
