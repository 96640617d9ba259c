"""What a plan may ask to be measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pipeline.cohort.validation import nearest

Attack = Literal["fgsm", "pgd"]

MISMATCHED = "mismatched"
ATTACKS: tuple[Attack, ...] = get_args(Attack)
KEYS = ("minority", "probe", "attack", "latency", "curves")


def check_evaluate(evaluate: Mapping[str, Any]) -> None:
    """Refuse what a measurement would not know, before anything is trained.

    Args:
        evaluate: see :func:`pipeline.benchmark.measure.measure`; and ``curves``: true keeps the group weights and
            losses over epochs, see :mod:`pipeline.benchmark.curves`, of the plan's first seed and fold.

    Raises:
        ValueError: if a key is not known, an attack has no list of sizes, or ``minority`` is another word.

    Example:
        >>> check_evaluate({"minority": ["GE"], "attack": {"fgsm": [0.05, 0.1], "cases": 240}})
    """
    attack = evaluate.get("attack", {})
    for given, known in ((evaluate, KEYS), (attack, (*ATTACKS, "cases"))):
        for key in given:
            if key not in known:
                raise ValueError(f"evaluate: key {key!r} is not known; {nearest(str(key), known)}")
    for kind in ATTACKS:
        sizes = attack.get(kind, [])
        if not isinstance(sizes, list) or not all(isinstance(eps, int | float) and eps >= 0 for eps in sizes):
            raise ValueError(f"evaluate: {kind} must be a list of sizes, 0 or more; got {sizes!r}; write e.g. [0.05]")
    if not isinstance(attack.get("cases", 1), int) or attack.get("cases", 1) < 1:
        raise ValueError(f"evaluate: cases must be a number above 0; got {attack['cases']!r}; leave it out for all")
    minority = evaluate.get("minority", MISMATCHED)
    if minority != MISMATCHED and not isinstance(minority, list):
        raise ValueError(
            f"evaluate: minority must be {MISMATCHED!r} or a list of groups; got {minority!r}; make it one"
        )
