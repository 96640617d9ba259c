"""What a plan measures, with the words for it."""

from __future__ import annotations

from pipeline.audit.findings import Measure
from pipeline.audit.plan import Plan

WORDS = {"accuracy": "Accuracy", "auc": "AUC"}
SHORT = 2  # letters of a word that is an abbreviation: EF, LV


def measures_of(plan: Plan) -> tuple[Measure, ...]:
    """Everything that a plan measures: metrics, then endpoints.

    Example:
        >>> from pipeline.audit.plan import Endpoint
        >>> plan = Plan(group_by=("vendor",), metrics=("auc",), endpoints={"hd95_mm": Endpoint("lower", "mm")})
        >>> [(found.name, found.words, found.better, found.scale) for found in measures_of(plan)]
        [('auc', 'AUC', 'higher', 'share'), ('hd95_mm', 'HD95', 'lower', 'plain')]
    """
    metrics = [Measure(metric, WORDS[metric], margin=plan.margin) for metric in plan.metrics]
    endpoints = [
        Measure(name, endpoint_words(name, endpoint.unit), endpoint.unit, endpoint.better, "plain", endpoint.margin)
        for name, endpoint in plan.endpoints.items()
    ]
    return (*metrics, *endpoints)


def endpoint_words(name: str, unit: str = "") -> str:
    """A column's name as a heading, without its unit.

    Example:
        >>> endpoint_words("hd95_mm", "mm"), endpoint_words("ef_error"), endpoint_words("dice_LV")
        ('HD95', 'EF error', 'Dice LV')
    """
    words = name.removesuffix(f"_{unit}").replace("_", " ").split() or [name]
    words = [word.upper() if len(word) <= SHORT or word[-1].isdigit() else word for word in words]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])
