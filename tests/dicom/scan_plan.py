"""What a scanner was asked for: the truth that the writer files, and that a reader must find again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Key = tuple[int, int, int]  # slice, run, phase


@dataclass(frozen=True)
class Plan:
    """What was scanned, before it is filed.

    Attributes:
        seed: of everything below.
        slices: how many.
        phases: how many.
        affine: ``(4, 4)``, RAS [mm], of ``(column, row, slice, 1)``.
        rr_ms: ``(slices, runs)``.
        shape: rows, columns.
    """

    seed: int
    slices: int
    phases: int
    affine: np.ndarray
    rr_ms: np.ndarray
    shape: tuple[int, int] = (12, 16)

    def position(self, number: int) -> np.ndarray:
        """First pixel of a slice, LPS [mm]."""
        return self.affine[:3, 3] * [-1, -1, 1] + number * self.affine[:3, 2] * [-1, -1, 1]

    @property
    def spacing(self) -> tuple[float, float]:
        """Between rows, between columns [mm]."""
        return float(np.linalg.norm(self.affine[:3, 1])), float(np.linalg.norm(self.affine[:3, 0]))

    @property
    def orientation(self) -> np.ndarray:
        """Direction along a row, then down a column, LPS."""
        rows, columns = self.spacing
        lps = self.affine[:3] * [[-1], [-1], [1]]
        return np.concatenate([lps[:, 0] / columns, lps[:, 1] / rows])

    def time_ms(self, key: Key) -> float:
        """Time after the trigger."""
        rr = float(self.rr_ms[key[0], key[1]])
        return rr / (2 * self.phases) + key[2] * rr / self.phases

    def pixels(self, key: Key) -> np.ndarray:
        """Pixels of an image; the first three tell which it is."""
        random = np.random.default_rng([self.seed, *key])
        values = random.integers(200, 1200, self.shape).astype(np.int16)
        values[0, :3] = key
        return values


def plan(seed: int, *, repeated: int = 0) -> Plan:
    """A heart and a stack across it: planned up to 20 degrees off the common axis, turned in its plane at will."""
    random = np.random.default_rng(seed)
    axis = np.array([-0.65, 0.65, -0.40])  # base to apex, RAS
    step = axis / np.linalg.norm(axis) + random.uniform(-0.2, 0.2, 3)
    step = step / np.linalg.norm(step) * random.choice([-1, 1])
    row = np.cross(step, random.normal(size=3))
    row = row / np.linalg.norm(row)
    column = np.cross(step, row)  # row x column = step, in RAS as in LPS
    spacing, gap = random.uniform(0.8, 1.6, 2).round(4), round(float(random.uniform(5, 11)), 1)
    affine = np.eye(4)
    affine[:3] = np.column_stack([row * spacing[1], column * spacing[0], step * gap, random.uniform(-200, 200, 3)])
    slices, phases = int(random.integers(6, 8)), int(random.integers(10, 13))
    rr_ms = random.uniform(700, 1000) * random.uniform(0.95, 1.05, (slices, 1 + (repeated > 0)))
    return Plan(seed, slices, phases, affine, rr_ms.round(1))
