"""Fields of a plan, each checked: what came, where, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.cohort.validation import nearest

_NAME = re.compile(r"[A-Za-z0-9_.=,@-]+")
_KINDS: Mapping[type, str] = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", int: "a number"}


def named(plan: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A mapping of names to anything; nothing given is an empty one.

    Raises:
        ValueError: if it is not; the message names the place.
    """
    return {plain_name(name, key): given or {} for name, given in typed(plan.get(key, {}), dict, key).items()}


def plain_name(name: object, place: str) -> str:
    """A name that may stand in file names and in ``model@variant``.

    Raises:
        ValueError: if it is not; the message names the place.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{place}: a name is made of letters, digits and _.=,@-; got {name!r}; rename it")
    return name


def needed(given: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401
    """The value of a key that must be there.

    Raises:
        ValueError: if it is not; the message names the place.
    """
    if key not in given:
        raise ValueError(f"{key} is missing; add it")
    return given[key]


def mapping(raw: object, place: str, known: Sequence[str]) -> dict[str, Any]:
    """A mapping with no key but the known ones.

    Raises:
        ValueError: if it is not; the message names the place.
    """
    given: dict[str, Any] = typed(raw, dict, place)
    for key in given:
        if key not in known:
            raise ValueError(f"{place}: key {key!r} is not known; {nearest(str(key), known)}")
    return given


def typed(value: Any, kind: type, place: str) -> Any:  # noqa: ANN401
    """The value, if it is of a kind.

    Raises:
        ValueError: if it is not; the message names the place.
    """
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{place} must be {_KINDS[kind]}; got {value!r}; correct it")
    return value


def texts(value: object, place: str) -> tuple[str, ...]:
    """A list of texts.

    Raises:
        ValueError: if it is not; the message names the place.
    """
    return tuple(typed(text, str, place) for text in typed(value, list, place))


def at_least_one(value: object, place: str) -> int:
    """A whole number above 0.

    Raises:
        ValueError: if it is not; the message names the place.
    """
    if typed(value, int, place) < 1:
        raise ValueError(f"{place} must be at least 1; got {value}; correct it")
    return int(str(value))
