"""Training labels that are wrong on purpose, to measure what a method makes of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.cohort.split import shuffled

Kind = Literal["symmetric", "class_dependent"]
Unit = Literal["patient", "case"]
KEYS: Mapping[str, str] = {"patient": "patient_id", "case": "case_id"}


def noisy_labels(
    items: Sequence[Mapping[str, Any]],
    *,
    share: float,
    kind: Kind | Sequence[Sequence[float]],
    unit: Unit,
    n_classes: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Cases of which an exact share has another label.

    Which units are flipped, and to what, depends on the seed and on which units there are, not on their order. With
    one seed, what is flipped at a share is flipped at every larger one. The group of a case stays as it was recorded,
    even if it was made of the label.

    Args:
        items: training cases with ``label``, ``patient_id`` and ``case_id``; they are not changed.
        share: of the units that are flipped, in [0, 1]; their number is rounded.
        kind: ``symmetric``, to each other class with the same probability; ``class_dependent``, to the next class, the
            last to the first; or ``(C, C)``, probability of the new class (column) of a flipped case of each class
            (row), where the diagonal is 0, since a flipped label is another one.
        unit: ``patient``, whose studies are flipped all or none, to one class if they had one; or ``case``.
        n_classes: number of classes C, at least 2.
        seed: of the draws.

    Returns:
        Copies of the cases, in their order.

    Raises:
        ValueError: if a setting is out of its range, or a label is not in ``0 … C - 1``.
    """
    _check(items, share=share, kind=kind, unit=unit, n_classes=n_classes)
    table = _transitions(kind, n_classes)
    key = KEYS[unit]
    order = shuffled(sorted({str(item[key]) for item in items}), seed=seed, name="label noise")
    flipped = set(order[: round(share * len(order))])
    return [
        {**item, "label": _other(table[item["label"]], seed, str(item[key]))} if str(item[key]) in flipped else {**item}
        for item in items
    ]


def _other(probabilities: NDArray[np.float64], seed: int, name: str) -> int:
    """New class of a unit: one draw, the same whatever class its cases had."""
    drawn = np.random.default_rng([seed, zlib.crc32(name.encode())]).random()
    reached = np.cumsum(probabilities)
    return int(np.searchsorted(reached / reached[-1], drawn, side="right"))  # a sum of thirds may miss 1


def _transitions(kind: Kind | Sequence[Sequence[float]], n_classes: int) -> NDArray[np.float64]:
    if kind == "symmetric":
        return (1 - np.eye(n_classes)) / (n_classes - 1)
    if kind == "class_dependent":
        return np.roll(np.eye(n_classes), 1, axis=1)
    table = np.asarray(kind, dtype=np.float64)
    proper = table.shape == (n_classes, n_classes) and (table >= 0).all() and np.allclose(table.sum(axis=1), 1)
    if not proper or np.diagonal(table).any():
        raise ValueError(
            f"transitions must be {n_classes} rows of {n_classes} probabilities that sum to 1, with 0 on the diagonal; "
            f"got {table.tolist()}; the share says how many are flipped, the rows only to what"
        )
    return table


def _check(items: Sequence[Mapping[str, Any]], *, share: float, kind: object, unit: str, n_classes: int) -> None:
    if isinstance(kind, str) and kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, or a table of transitions; got {kind!r}")
    if unit not in get_args(Unit):
        raise ValueError(f"unit must be one of {', '.join(get_args(Unit))}; got {unit!r}")
    if not 0 <= share <= 1 or n_classes < 2:
        raise ValueError(f"share must be in [0, 1] and n_classes at least 2; got {share} and {n_classes}")
    strange = sorted({item["label"] for item in items} - set(range(n_classes)))
    if strange:
        raise ValueError(f"labels must lie in 0 … {n_classes - 1}; got {strange}; label every training case first")
