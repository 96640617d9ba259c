"""Where the heart beats: its centre from motion over the cycle, without labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transforms.geometry import product, resampling_matrix
from transforms.quantiles import median, quantiles

Map = NDArray[np.float64]

GRID_MM = 3.0  # motion is mapped at this spacing, whatever the scanner's matrix
SMOOTH_MM = 6.0  # SD of the smoothing; below the thickness of a wall and its excursion
DENSE_MM = 25.0  # SD of the window in which the most motion is sought; about the left ventricle's radius
WINDOW_MM = 35.0  # SD of the window in which the heart is centred; about half the heart's width
MOVING = 0.15  # a place moves if its motion exceeds this share of the heart's own
EDGE = 0.1  # the heart's border: the 10th and 90th percentile of the places that move
ROUNDS = 12  # the centre comes to rest within a tenth of a millimetre
# Stomach and liver move with the beat below the heart, and the left wall moves more than the right: what moves lies
# lower and further left in the patient than the heart. Mean over 60 ACDC patients, against the middle of the masks.
BELOW_MM, BESIDE_MM = 5.0, 3.0


class NothingMovesError(ValueError):
    """The phases of a cine do not differ, where its heart should be or anywhere."""


@dataclass(frozen=True)
class HeartCentre:
    """Middle of the heart in the plane, one for all slices.

    Attributes:
        row: fractional index.
        col: fractional index.
        confidence: share of the places that move which lies at the heart, within 70 mm of its centre, in [0, 1].
    """

    row: float
    col: float
    confidence: float

    def to_dict(self) -> dict[str, float]:
        """The three values, as JSON holds them."""
        return asdict(self)


def find_heart(cine: ArrayLike, spacing: tuple[float, float, float]) -> HeartCentre:
    """Find the middle of the heart from what moves with the heartbeat.

    The amplitude of the first harmonic over the cycle (for two phases, their difference) is mapped, smoothed and
    averaged over slices. Around the densest motion, the places that move count alike, however much they move: the
    wall of the left ventricle moves most, and would draw the centre away from the right one. The centre is the
    middle between the borders of those places, sought again under a Gaussian window until it rests; last, it is moved
    by a small fixed step from what else moves towards the heart.

    Args:
        cine: ``(phases, slices, rows, cols)``, oriented (``orient_short_axis``), two phases or more over one cycle;
            any unit.
        spacing: ``(slices, rows, cols)`` [mm].

    Returns:
        The centre, in pixels of ``cine``.

    Raises:
        ValueError: if ``cine`` is not 4-D, has one phase or values that are not finite; ``NothingMovesError`` if
            nothing moves in it.
    """
    motion = motion_map(cine, spacing)
    rows, cols = (GRID_MM * _centred(n) for n in motion.shape)
    start = _densest(motion, rows, cols)
    moving = _moving(motion, np.hypot(rows[:, None] - start[0], cols - start[1]) < 1.5 * DENSE_MM)
    row, col = start
    for _ in range(ROUNDS):
        weights = moving * _window(rows, cols, (row, col), WINDOW_MM)
        row, col = _middle(rows, weights.sum(axis=1)), _middle(cols, weights.sum(axis=0))
    near = moving & (np.hypot(rows[:, None] - row, cols - col) < 2 * WINDOW_MM)
    n_rows, n_cols = np.shape(cine)[-2:]
    return HeartCentre(
        row=(row - BELOW_MM) / spacing[1] + (n_rows - 1) / 2,
        col=(col - BESIDE_MM) / spacing[2] + (n_cols - 1) / 2,
        confidence=float(near.sum() / moving.sum()),
    )


def motion_map(cine: ArrayLike, spacing: tuple[float, float, float]) -> Map:
    """How much each place in the plane changes with the heartbeat, averaged over slices.

    Args:
        cine: ``(phases, slices, rows, cols)``.
        spacing: ``(slices, rows, cols)`` [mm].

    Returns:
        ``(rows, cols)`` at ``GRID_MM`` with the middle of the plane in the middle, in units of ``cine``, at least 0.

    Raises:
        ValueError: as for :func:`find_heart`.
    """
    values = np.asarray(cine)
    if values.ndim != 4 or len(values) < 2:
        raise ValueError(f"cine must be (phases, slices, rows, cols) with two phases or more; got {values.shape}")
    n_rows, n_cols = (
        max(1, int(np.ceil(n * step / GRID_MM))) for n, step in zip(values.shape[-2:], spacing[1:], strict=True)
    )
    by_row = resampling_matrix(values.shape[-2], spacing[1], n_rows, GRID_MM, (values.shape[-2] - 1) / 2)
    by_col = resampling_matrix(values.shape[-1], spacing[2], n_cols, GRID_MM, (values.shape[-1] - 1) / 2)
    amplitude = np.stack([_amplitude(values[:, number], by_row, by_col) for number in range(values.shape[1])])
    smooth = product(_blur(n_rows, SMOOTH_MM), product(_blur(n_cols, SMOOTH_MM), amplitude, axis=-1), axis=-2)
    motion = np.asarray(
        np.sqrt(smooth).mean(axis=0) ** 2, dtype=np.float64
    )  # the root, so that no single slice decides
    if not np.isfinite(motion).all():
        raise ValueError("cine must hold finite values only; correct or leave out the study")
    if motion.max() <= 1e-6 * max(float(values.max()), -float(values.min())):
        raise NothingMovesError("cine must change over its phases; nothing moves in it; check that the phases differ")
    return motion


def _amplitude(images: NDArray[Any], by_row: NDArray[np.float32], by_col: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of the first harmonic, on the grid: one slice ``(phases, rows, cols)`` at a time, lest the cine be held twice."""
    values = np.ascontiguousarray(images, dtype=np.float32)
    beat = np.tensordot(_first_harmonic(len(values)), values, axes=1)  # first over time: few images are left
    return np.asarray(np.linalg.norm(product(by_row, product(by_col, beat, axis=-1), axis=-2), axis=0))


def _first_harmonic(phases: int) -> NDArray[np.float32]:
    """``(2, phases)``: cosine and sine of one cycle; of two phases, half their difference."""
    angle = 2 * np.pi * np.arange(phases) / phases
    return np.asarray(np.stack([np.cos(angle), np.sin(angle)]) / phases, dtype=np.float32)


def _densest(motion: Map, rows: Map, cols: Map) -> tuple[float, float]:
    [much] = quantiles(motion.ravel(), [0.7])
    strong = np.maximum(motion - much, 0.0)
    density = _blur(len(rows), DENSE_MM) @ strong @ _blur(len(cols), DENSE_MM)
    row, col = np.unravel_index(int(density.argmax()), density.shape)
    return float(rows[row]), float(cols[col])


def _moving(motion: Map, at_heart: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Places whose motion stands out from the rest of the image, by the measure of the heart's own."""
    rest, [heart] = median(motion.ravel()), quantiles(motion[at_heart], [0.9])
    return np.asarray(motion > rest + MOVING * (heart - rest))


def _middle(places: Map, weights: Map) -> float:
    cumulated = (np.cumsum(weights) - weights / 2) / weights.sum()  # each place holds its share at its middle
    return float(np.interp([EDGE, 1 - EDGE], cumulated, places).mean())


def _window(rows: Map, cols: Map, centre: tuple[float, float], sd_mm: float) -> Map:
    return np.asarray(
        np.exp(-((rows[:, None] - centre[0]) ** 2 + (cols - centre[1]) ** 2) / (2 * sd_mm**2)), dtype=np.float64
    )


def _blur(n: int, sd_mm: float) -> Map:
    """Gaussian smoothing along one axis of the grid, as a symmetric matrix; beyond the image nothing moves."""
    distance = GRID_MM * np.subtract.outer(np.arange(n), np.arange(n))
    return np.asarray(
        np.exp(-(distance**2) / (2 * sd_mm**2)) * GRID_MM / (sd_mm * np.sqrt(2 * np.pi)), dtype=np.float64
    )


def _centred(n: int) -> Map:
    return np.arange(n, dtype=np.float64) - (n - 1) / 2
