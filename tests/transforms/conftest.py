"""A study to prepare, small and of known content."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def study() -> tuple[np.ndarray, np.ndarray]:
    """Cine of six phases and its affine: a disc that beats in textured surroundings, in an oblique short-axis stack."""
    rng = np.random.default_rng(0)
    rows, cols = np.meshgrid(np.arange(70) * 2.0, np.arange(64) * 1.8, indexing="ij")
    distance = np.hypot(rows - 75, cols - 60)
    radius = 32 + 8 * np.cos(2 * np.pi * np.arange(6) / 6)
    texture = rng.random((7, 70, 64)) * 100
    cine = np.stack([texture + 500 / (1 + np.exp((distance - r) / 2)) for r in radius])
    affine = np.eye(4)
    affine[:3, :3] = np.array([[-0.74, -0.28, -0.62], [-0.60, -0.12, 0.79], [0.30, -0.95, -0.07]]) * (1.8, 2.0, 9.0)
    return cine.astype(np.float32), affine
