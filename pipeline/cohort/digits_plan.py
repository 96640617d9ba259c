"""Which digits go onto which photographs, in which split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES = ("small", "large")
PLACES = ("ground", "scene")
SPLITS = ("training", "validation", "test")  # in the order of the table's codes 0, 1, 2

VALIDATION_SHARE, VALIDATION_AT_LEAST = 0.25, 20  # of the training images; in each class and place
LOWEST_PIXELS = 16

_NUMBERS = 100_000  # between the first numbers of two splits: the test images keep theirs whatever the training
_HANDS = (8, 3, 3)  # of 14, by split

Cell = tuple[int, int]  # class, place
Lot = tuple[int, int, int, int, int]  # split, class, place, digit, stream
Members = Mapping[tuple[int, int], NDArray[Any]]  # digits by split and class


@dataclass(frozen=True)
class Settings:
    """What decides every pixel; see :func:`write_digits`."""

    seed: int = 0
    training: int = 2000
    confounding: float = 0.95
    minority_share: float = 1.0
    test_per_cell: int = 100
    pixels: int = 32

    def __post_init__(self) -> None:
        rules = {
            "seed": (self.seed >= 0, "0 or more"),
            "training": (self.training >= 2, "2 or more"),
            "confounding": (0.5 <= self.confounding <= 1, "a share in [0.5, 1]"),
            "minority_share": (0 < self.minority_share <= 1, "a factor in (0, 1]"),
            "test_per_cell": (self.test_per_cell >= 1, "1 or more"),
            "pixels": (self.pixels >= LOWEST_PIXELS, f"{LOWEST_PIXELS} or more"),
        }
        for name, (holds, must) in rules.items():
            if not holds:
                raise ValueError(f"{name} must be {must}; got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Drawing:
    """One image to be drawn.

    Attributes:
        number: its own; training images from 100001, validation from 200001, test from 300001.
        split: 0 training, 1 validation, 2 test.
        label: 0 small, 1 large.
        place: 0 ground, 1 scene.
        digit: which of scikit-learn's digits.
        value: the digit's value, 0 to 9.
        stream: what its random numbers start from; both images of a test digit have the same.
    """

    number: int
    split: int
    label: int
    place: int
    digit: int
    value: int
    stream: int

    @property
    def path(self) -> str:
        """File, from the cohort's folder; the folder is the digit's value, as Waterbirds' is the species."""
        return f"digit-{self.value}/{self.number}-{SPLITS[self.split]}-{PLACES[self.place]}.png"


def cell_counts(images: int, *, confounding: float, minority_share: float) -> dict[Cell, int]:
    """Number of images of each class and place.

    Args:
        images: all, half of each class, before ``minority_share`` is applied.
        confounding: share of a class at its own place.
        minority_share: factor on the second place.

    Example:
        >>> cell_counts(1000, confounding=0.9, minority_share=0.2)
        {(0, 0): 450, (0, 1): 10, (1, 0): 50, (1, 1): 90}
    """
    shares = {
        (label, place): (confounding if label == place else 1 - confounding) * (minority_share if place else 1.0)
        for label in range(2)
        for place in range(2)
    }
    return {cell: math.floor(images / 2 * share + 0.5 + 1e-9) for cell, share in shares.items()}


def draw(settings: Settings, values: Sequence[int] | NDArray[Any]) -> list[Drawing]:
    """Which digits go where.

    Args:
        settings: as given.
        values: ``(n_digits,)``, the value of each digit, 0 to 9, in the order of the hands.

    Returns:
        The images in the order of their numbers: training, validation, test.

    Raises:
        ValueError: if the test split has too few digits for ``test_per_cell``.
    """
    members = _members(settings, np.asarray(values))
    lots = [*_confounded(0, members, _training_cells(settings)), *_confounded(1, members, _validation_cells(settings))]
    lots += _paired(members, settings.test_per_cell)
    numbers = [count((split + 1) * _NUMBERS + 1) for split in range(len(SPLITS))]
    return [
        Drawing(next(numbers[split]), split, label, place, digit, int(values[digit]), stream)
        for split, label, place, digit, stream in lots
    ]


def _training_cells(settings: Settings) -> dict[Cell, int]:
    return cell_counts(settings.training, confounding=settings.confounding, minority_share=settings.minority_share)


def _validation_cells(settings: Settings) -> dict[Cell, int]:
    wanted = cell_counts(
        round(VALIDATION_SHARE * settings.training),
        confounding=settings.confounding,
        minority_share=settings.minority_share,
    )
    return {cell: max(n, VALIDATION_AT_LEAST) for cell, n in wanted.items()}


def _members(settings: Settings, values: NDArray[Any]) -> Members:
    """Digits of each split and class, in the order in which they are taken."""
    hands = np.array_split(np.arange(len(values)), sum(_HANDS))
    order = np.random.default_rng([settings.seed, 0]).permutation(len(hands))
    members = {}
    for split, chosen in enumerate(np.split(order, np.cumsum(_HANDS)[:-1])):
        digits = np.concatenate([hands[hand] for hand in sorted(chosen)])
        for label in range(2):
            of_class = digits[(values[digits] >= 5) == bool(label)]
            members[split, label] = np.random.default_rng([settings.seed, 1, split, label]).permutation(of_class)
    return members


def _confounded(split: int, members: Members, cells: Mapping[Cell, int]) -> list[Lot]:
    taken: Counter[int] = Counter()
    lots: list[Lot] = []
    for (label, place), n in cells.items():
        of_class = members[split, label]
        for _ in range(n):
            lots.append((split, label, place, int(of_class[taken[label] % len(of_class)]), len(lots)))
            taken[label] += 1
    return lots


def _paired(members: Members, per_cell: int) -> list[Lot]:
    lots: list[Lot] = []
    for label in range(2):
        of_class = members[2, label]
        if per_cell > len(of_class):
            raise ValueError(
                f"test_per_cell must be at most {len(of_class)} with this seed, the test split's {CLASSES[label]} "
                f"digits; got {per_cell}"
            )
        lots += [(2, label, place, int(digit), int(digit)) for place in range(2) for digit in of_class[:per_cell]]
    return lots
