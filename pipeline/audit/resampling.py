"""Draws and halves of patients that hold for all groups of a column at once.

Patients of one group are drawn within it. Patients seen in several are drawn together, and a draw of one is in all of
their groups: groups that share patients rise and fall together, in a draw as in truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.cells import pairs_of
from pipeline.audit.statistics import BLOCK_SIZE, FloatArray, IntArray, patient_counts
from pipeline.audit.worst import halves

SEVERAL = ""  # pool of the patients seen in several groups; no group is called so
Draw = Callable[[int, int, np.random.Generator], FloatArray]  # patients of a pool, draws -> (draws, patients)


@dataclass(frozen=True)
class Pools:
    """Patients that are drawn together.

    Args:
        members: pool -> codes of its patients, ascending. A pool is a group, or those seen in several.
        size: number of codes.
        generator: source of randomness of a pool, by its name.
    """

    members: Mapping[str, IntArray]
    size: int
    generator: Callable[[str], np.random.Generator]

    def draws(self, count: int, width: int) -> Iterator[FloatArray]:
        """How often each patient is drawn with replacement, ``(block, size)``, ``count`` draws in all.

        Args:
            count: number of draws.
            width: numbers that each will take; blocks fit into memory.
        """
        return self._blocks(patient_counts, count, width)

    def halves(self, count: int, width: int) -> Iterator[FloatArray]:
        """1 for patients in the first half of their pool, 0 in the second; ``(block, size)``, arguments as in draws."""
        return self._blocks(lambda patients, splits, rng: halves(np.arange(patients), splits, rng), count, width)

    def _blocks(self, draw: Draw, count: int, width: int) -> Iterator[FloatArray]:
        block = max(1, BLOCK_SIZE // max(1, width))
        sources = [(inside, self.generator(name)) for name, inside in self.members.items()]
        for start in range(0, count, block):
            drawn = np.zeros((min(block, count - start), self.size))
            for inside, rng in sources:
                drawn[:, inside] = draw(len(inside), len(drawn), rng)
            yield drawn


def pools(patients: IntArray, groups: NDArray[np.str_], generator: Callable[[str], np.random.Generator]) -> Pools:
    """Sort patients by the group they are in; those of several groups are one pool.

    Args:
        patients: ``(n,)``, codes; gaps are allowed.
        groups: ``(n,)``, names.
        generator: source of randomness of a pool, by its name.

    Example:
        >>> groups = np.array(["GE", "UIH", "GE", "GE"])
        >>> found = pools(np.array([0, 0, 1, 2]), groups, lambda _: np.random.default_rng(0))
        >>> {name: inside.tolist() for name, inside in found.members.items()}
        {'': [0], 'GE': [1, 2]}
    """
    names, kinds = np.unique(groups, return_inverse=True)
    _, rows = np.unique(pairs_of(patients, kinds), return_index=True)  # one of each patient in each group
    codes, first, counts = np.unique(patients[rows], return_index=True, return_counts=True)
    pool = np.where(counts > 1, -1, kinds[rows][first])
    members = {str(names[k]) if k >= 0 else SEVERAL: codes[pool == k] for k in np.unique(pool).tolist()}
    return Pools(members, int(patients.max(initial=-1)) + 1, generator)
