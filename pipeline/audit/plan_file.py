"""Plans as YAML: read, written, compared, and made of the options of a command."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.audit.layout import nearest
from pipeline.audit.plan import SHOWN_DIGITS, Endpoint, Plan, PlanError, Threshold, as_record, canonical
from pipeline.files import atomic_path

FINGERPRINT = "fingerprint"
HEADER = (
    "# The plan of an audit. A change after freezing is found by its fingerprint; without that line it is a new plan.\n"
)
_LINE_ENDS = ("\x85", "\u2028", "\u2029")  # unless escaped, PyYAML reads a space where it wrote one of these


class _Loader(yaml.SafeLoader):
    """YAML in which no key comes twice; by itself, the last would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise PlanError(f"key {key!r} must come once; it comes more often; remove the copies")
        return super().construct_mapping(node, deep)


def read_plan(path: str | Path) -> Plan:
    """Read and check a plan.

    Args:
        path: YAML file.

    Raises:
        FileNotFoundError: if it is absent.
        PlanError: if a rule is broken, or the plan was changed after it was frozen; the message names file, place,
            what came and what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"a plan must exist; nothing at {path}; check the path")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
        given = _mapping(raw, "plan", (FINGERPRINT, *_READERS))
        frozen = given.pop(FINGERPRINT, None)
        plan = plan_of(given)
    except (PlanError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: {error}") from error
    found = plan.fingerprint[:SHOWN_DIGITS]
    if frozen not in {None, found}:
        raise PlanError(
            f"{path}: a frozen plan must be as it was; its fingerprint says {frozen}, its content has {found}; restore "
            "it, or remove the line to make it a new plan"
        )
    return plan


def write_plan(plan: Plan, path: str | Path) -> None:
    """Write a plan with its fingerprint; the file is complete or absent."""
    with atomic_path(path) as temporary:
        temporary.write_text(as_yaml(plan), encoding="utf-8")


def as_yaml(plan: Plan) -> str:
    """A plan as YAML, its fingerprint first; :func:`read_plan` gives the same plan again."""
    record = {FINGERPRINT: plan.fingerprint[:SHOWN_DIGITS]} | as_record(plan)
    plain = not any(mark in canonical(plan) for mark in _LINE_ENDS)
    return HEADER + yaml.safe_dump(record, sort_keys=False, allow_unicode=plain)


def plan_of(raw: object) -> Plan:
    """Check a decoded plan.

    Args:
        raw: keys as the fields of :class:`~pipeline.audit.plan.Plan`; ``threshold`` may be a number.

    Raises:
        PlanError: if a rule is broken.

    Example:
        >>> plan_of({"group_by": ["vendor"], "threshold": 0.4, "positive": "DCM"}).threshold
        Threshold(rule='value', value=0.4, split=None)
    """
    given = _mapping(raw, "plan", _READERS)
    if "group_by" not in given:
        raise PlanError("group_by is missing; add it, e.g. group_by: [vendor]")
    return Plan(**{key: _READERS[key](value, key) for key, value in given.items()})


def combine(plan: Plan | None, options: Mapping[str, object]) -> Plan:
    """The plan of a command: a frozen one, or one made of options.

    Args:
        plan: from a file; None without one.
        options: keys as for :func:`plan_of`; None stands for an option that was not given.

    Raises:
        PlanError: if options contradict the plan, or make none.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if plan is None:
        return plan_of(given)
    contradictions = differences(plan, plan_of(as_record(plan) | given))
    if contradictions:
        raise PlanError(
            f"options must agree with the plan; plan against options: {'; '.join(contradictions)}; leave the options "
            "out, or freeze a new plan before looking"
        )
    return plan


def differences(plan: Plan, other: Plan) -> list[str]:
    """Where two plans differ, in words; none if and only if their fingerprints agree.

    Example:
        >>> first = Plan(group_by=("vendor",))
        >>> differences(first, Plan(group_by=("vendor", "site"), seed=1))
        ['group_by: vendor against vendor, site', 'seed: 0 against 1']
    """
    here, there = _flat(as_record(plan)), _flat(as_record(other))
    places = [*here, *(place for place in there if place not in here)]
    return [
        f"{': '.join(place)}: {_in_words(here.get(place))} against {_in_words(there.get(place))}"
        for place in places
        if here.get(place) != there.get(place)
    ]


def _flat(record: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in record.items():
        found |= _flat(value, (*above, key)) if isinstance(value, Mapping) else {(*above, key): value}
    return found


def _in_words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _mapping(raw: object, place: str, known: Iterable[str] | None = None) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise PlanError(f"{place} must be a mapping; got {raw!r}; write `key: value`")
    for key in raw:
        if known is not None and key not in known:
            raise PlanError(f"{place}: key {key!r} is not known; {nearest(str(key), known)}")
        _text(key, f"{place}: a key")
    return dict(raw)


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise PlanError(f'{place} must be a text; got {value!r}; put it in quotes, "{value}"')
    return value


def _texts(value: object, place: str) -> tuple[str, ...]:
    return tuple(_text(item, place) for item in _list(value, place))


def _list(value: object, place: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise PlanError(f"{place} must be a list; got {value!r}; write [{value}]")
    return list(value)


def _whole(value: object, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise PlanError(f"{place} must be a whole number; got {value!r}; correct it")
    return value


def _wholes(value: object, place: str) -> tuple[int, ...]:
    return tuple(_whole(item, place) for item in _list(value, place))


def _number(value: object, place: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise PlanError(f"{place} must be a number; got {value!r}; write e.g. 0.05")
    return float(value)


def _text_map(value: object, place: str) -> dict[str, str]:
    return {key: _text(inner, f"{place}: {key}") for key, inner in _mapping(value, place).items()}


def _merge(value: object, place: str) -> dict[str, dict[str, str]]:
    return {column: _text_map(names, f"{place}: {column}") for column, names in _mapping(value, place).items()}


def _endpoints(value: object, place: str) -> dict[str, Endpoint]:
    return {name: _endpoint(given, f"{place}: {name}") for name, given in _mapping(value, place).items()}


def _endpoint(value: object, place: str) -> Endpoint:
    given = _mapping(value, place, _ENDPOINT)
    if "better" not in given:
        raise PlanError(f"{place}: better is missing; add `better: higher` or `better: lower`")
    return Endpoint(**{key: _ENDPOINT[key](inner, f"{place}: {key}") for key, inner in given.items()})


def _threshold(value: object, place: str) -> Threshold:
    if isinstance(value, int | float):
        return Threshold("value", _number(value, place))
    given = _mapping(value, place, _THRESHOLD)
    if "rule" not in given:
        raise PlanError(f"{place}: rule is missing; add `rule: value`, `rule: youden` or `rule: sensitivity`")
    return Threshold(**{key: _THRESHOLD[key](inner, f"{place}: {key}") for key, inner in given.items()})


Readers = Mapping[str, Callable[[object, str], Any]]

_ENDPOINT: Readers = {"better": _text, "unit": _text, "margin": _number}
_THRESHOLD: Readers = {"rule": _text, "value": _number, "split": _text}
_READERS: Readers = {
    "group_by": _texts,
    "metrics": _texts,
    "endpoints": _endpoints,
    "margin": _number,
    "threshold": _threshold,
    "positive": _text,
    "reference_model": _text,
    "reference_group": _text_map,
    "strata": _texts,
    "min_patients": _whole,
    "replicates": _whole,
    "seed": _whole,
    "merge": _merge,
    "age_bands": _wholes,
    "split": _text,
}
