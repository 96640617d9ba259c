"""What a network says of the cases of one section."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.benchmark.records import FloatArray, HeldOut, IntArray, patient_codes
from pipeline.training.data import Cohort
from pipeline.training.networks import Classifier
from transforms.scanner import UNKNOWN

BATCH_SIZE = 64

Items = Sequence[Mapping[str, Any]]
Load = Callable[[Items], Tensor]


@dataclass(frozen=True)
class Answers:
    """A network's answers to the cases of one section.

    Args:
        items: the n cases, in the order of the datalist.
        cases: their labels, groups and patients.
        probabilities: ``(n, C)``.
        features: ``(n, F)``, what the network's last layer saw.
    """

    items: Items
    cases: HeldOut
    probabilities: FloatArray
    features: FloatArray

    @property
    def right(self) -> NDArray[np.bool_]:
        """``(n,)``, whether the decision is the label."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.cases.labels)


def answers(network: Classifier, cohort: Cohort, section: str, load: Load) -> Answers:
    """Show a network every case of a section, once.

    Args:
        network: in evaluation mode.
        cohort: the prepared datalist.
        section: ``training``, ``validation`` or ``test``.
        load: from cases to their images ``(B, …)``, on the network's device.
    """
    items = cohort.items(section)
    cases = _cases(items, cohort.classes, group_column(cohort))
    parts = [_batch(network, load(items[start : start + BATCH_SIZE])) for start in range(0, len(items), BATCH_SIZE)]
    probabilities, features = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Answers(items, cases, probabilities, features)


def group_column(cohort: Cohort) -> str:
    """Where a study comes from: ``vendor``, or ``site`` where no study has a known vendor."""
    return "site" if cohort.known_groups["vendor"] == (UNKNOWN,) else "vendor"


def compared(cases: HeldOut, cohort: Cohort) -> HeldOut:
    """The same cases in the groups that results are compared by: group x label where training weighs those."""
    if "label" not in cohort.group_by:
        return cases
    names = tuple(f"{group} x {label}" for group in cases.groups for label in cases.classes)
    return replace(cases, groups=names, group_index=cases.group_index * len(cases.classes) + cases.labels)


def mismatched(cases: HeldOut) -> NDArray[np.bool_]:
    """Cases of the cells group x label that hold less than half of what they would if the two were independent.

    Args:
        cases: n cases.

    Returns:
        ``(n,)``.

    Example:
        >>> labels, groups = [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 0, 1, 1, 1]
        >>> mismatched(HeldOut(("NOR", "HCM"), ("GE", "Canon"), labels, groups, range(8))).any()  # 1 is half of 2
        np.False_
    """
    counts = np.zeros((len(cases.groups), len(cases.classes)))
    np.add.at(counts, (cases.group_index, cases.labels), 1)
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    return np.asarray((counts < expected / 2)[cases.group_index, cases.labels])


def evenly(cases: HeldOut, count: int) -> IntArray:
    """Indices of ``count`` cases, from all groups and labels in their proportions; of all, if there are fewer."""
    order = np.lexsort((cases.labels, cases.group_index))
    count = min(count, len(order))
    return np.asarray(order[np.arange(count) * len(order) // count], dtype=np.int64)


def _cases(items: Items, classes: tuple[str, ...], column: str) -> HeldOut:
    groups = tuple(sorted({item[column] for item in items}))
    return HeldOut(
        classes=classes,
        groups=groups,
        labels=np.array([item["label"] for item in items]),
        group_index=np.array([groups.index(item[column]) for item in items]),
        patients=patient_codes([item["patient_id"] for item in items]),
    )


@torch.no_grad()
def _batch(network: Classifier, images: Tensor) -> tuple[FloatArray, FloatArray]:
    """Probabilities ``(B, C)`` and features ``(B, F)``."""
    features = network.features(images)
    probabilities = network.head(features).double().softmax(dim=1)
    return probabilities.cpu().numpy(), features.double().cpu().numpy()
