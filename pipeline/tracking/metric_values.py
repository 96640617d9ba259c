"""From what an engine measured to names and numbers that a tracking server accepts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine

LONGEST_NAME = 250


def server_name(name: str) -> str:
    """Spell a name as MLflow allows: letters, digits, ``_ - .``, spaces, ``/``; other characters become ``-``.

    Example:
        >>> server_name("val/auc/Siemens 1,5T (Avanto)")
        'val/auc/Siemens 1-5T -Avanto-'
        >>> server_name("/val//../x")
        'val/-/x'
    """
    parts = [re.sub(r"[^\w.\- ]", "-", part) for part in str(name).split("/") if part.strip()]
    plain = "/".join("-" if set(part) == {"."} else part for part in parts)
    return plain[:LONGEST_NAME].strip("/") or "-"


def flat_scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Flatten nested metrics, keep the parents' names, leave out what is not finite.

    Args:
        metrics: name -> number, array or tensor of any shape, or another such mapping. Of an array with more than one
            element each becomes ``name/<index>``.

    Returns:
        Server name -> finite value.

    Raises:
        TypeError: if a value is not numeric.
        ValueError: if two metrics would share a name.

    Example:
        >>> flat_scalars({"val": {"GE": 0.5, "Canon": float("nan")}, "recall": np.array([1.0, 0.0])})
        {'val/GE': 0.5, 'recall/0': 1.0, 'recall/1': 0.0}
    """
    named: dict[str, float] = {}
    original: dict[str, str] = {}
    for raw, value in _leaves(metrics):
        name = server_name(raw)
        if original.setdefault(name, raw) != raw:
            raise ValueError(
                f"metrics need different names; {original[name]!r} and {raw!r} are both {name!r}; rename one"
            )
        if math.isfinite(value):
            named[name] = value
    return named


def merged_scalars(sources: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """:func:`flat_scalars` of several sources as one.

    Raises:
        ValueError: if two sources give one name different values.
    """
    merged: dict[str, float] = {}
    for source in sources:
        for name, value in flat_scalars(source).items():
            if merged.setdefault(name, value) != value:
                raise ValueError(
                    f"a metric must have one value per epoch; {name!r} is both {merged[name]:g} and {value:g}; "
                    "rename one of them"
                )
    return merged


def _leaves(metrics: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, float]]:
    for key, value in metrics.items():
        name = f"{parent}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}/")
            continue
        numbers = _numbers(name, value)
        if numbers.size == 1:
            yield name, float(numbers.item())
        else:
            yield from ((f"{name}/{i}", float(number)) for i, number in enumerate(numbers.ravel()))


def _numbers(name: str, value: object) -> np.ndarray[Any, np.dtype[np.float64]]:
    plain = value.detach().cpu() if hasattr(value, "detach") else value
    if isinstance(plain, str | bytes | None):
        raise TypeError(f"a metric must be a number; {name!r} is {plain!r}; log text as a tag or an artifact")
    return np.asarray(plain, dtype=np.float64)


def new_metrics(engine: Engine) -> Callable[[], Mapping[str, Any]]:
    """Read an evaluator's metrics once per evaluation: nothing where none took place since the last call.

    With a validation every second epoch, an epoch without one would otherwise log the figures of the epoch before.

    Args:
        engine: evaluator that MONAI's ``ValidationHandler`` runs; it counts the trainer's epochs.
    """
    seen = 0

    def read() -> Mapping[str, Any]:
        nonlocal seen
        fresh, seen = engine.state.epoch != seen, engine.state.epoch
        return dict(engine.state.metrics) if fresh else {}

    return read
