"""When the heart is full and when it is empty: end-diastole and end-systole of a cine, without labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transforms.geometry import plane_product, resampling_matrix, seen
from transforms.heart import HeartCentre, NothingMovesError
from transforms.quantiles import median

Array = NDArray[np.float64]

GRID_MM = 3.0  # blood is mapped at this spacing, whatever the scanner's matrix
SIDE = 47  # pixels of the map; 141 mm, the heart and what surrounds it
SMOOTH_MM = 2.0  # SD; a border is then some pixels wide and its travel seen in all of them
WINDOW_MM = 35.0  # SD of the window around the heart's centre; about half the heart's width
ROUNDS = 15  # the two levels come to rest long before
SMOOTH_CYCLE = 0.02  # SD in time, as a share of the cycle: 20 ms, half of what cines resolve
TOLERANCE = 0.05  # of the stroke: what the curve cannot tell from its ends; isovolumic phases lie within it
SURE_TRAVEL_MM, SURE_RADIAL = 2.0, 0.3  # medians of 60 ACDC patients: 2.4 mm and 0.31
SYSTOLE = (0.15, 0.6)  # share of the cycle from end-diastole to end-systole, at rest or fast, the end of it cut or not
FEW = 6  # phases; with fewer that share is too coarse to tell anything


@dataclass(frozen=True)
class Phases:
    """End-diastole and end-systole, one of each for the whole stack.

    Attributes:
        ed: index of end-diastole, from 0.
        es: index of end-systole, from 0; smaller than ``ed`` where the cine begins after end-diastole.
        confidence: in [0, 1]; near 0 if nothing pulsates or what changes is no emptying and filling.
    """

    ed: int
    es: int
    confidence: float

    def to_dict(self) -> dict[str, int | float]:
        """The three values, as JSON holds them."""
        return asdict(self)


def find_phases(cine: ArrayLike, spacing: tuple[float, float, float], heart: HeartCentre) -> Phases:
    r"""Find the phases at which the ventricles hold most and least, around the heart's centre.

    Each slice's intensities become a share of blood between its two levels, 0 to 1, clipped, so that neither a coil
    nor bright fat counts for more. Summed under a window, over the slices with most weight on the middle ones, they
    follow the ventricles' volume over the cycle, but for a sign: whether blood is the brighter. Motion decides that.
    A border that moves outwards by :math:`\delta` changes the image by :math:`-\delta\,\partial_r m`, bright blood
    or dark, so what changes between the curve's two ends, regressed on the mean image's radial gradient, says which
    end is the wide one.

    End-systole is the first phase after the fullest at which all but 5 % of the stroke is ejected; end-diastole is
    the last before it at which all but 5 % is filled. The volume stands still for some phases there (isovolumic
    contraction and relaxation), and readers take the phases next to ejection. Time is cyclic.

    Args:
        cine: ``(phases, slices, rows, cols)``, oriented (``orient_short_axis``), two phases or more over one cycle,
            evenly in time; any unit, bright blood or dark.
        spacing: ``(slices, rows, cols)`` [mm].
        heart: its middle (``find_heart``).

    Returns:
        The two phases, never the same. Of two phases, end-diastole is the one with the larger cavity.

    Raises:
        ValueError: if ``cine`` is not 4-D, has one phase, has values that are not finite, or nothing moves at the
            heart.
    """
    blood = _blood(_around_heart(cine, spacing, heart))
    weights = _slice_weights(blood.shape[1])[:, None, None] * _window()
    curve = _cyclic_smoothing(len(blood)) @ np.tensordot(blood, weights, axes=3)
    stroke = float(np.ptp(curve))
    if stroke <= 1e-6 * float(weights.sum()):
        raise NothingMovesError(
            "cine must change over its phases at the heart; nothing moves there; check the heart's centre"
        )
    radial, travel_mm = _motion(blood, curve, weights)
    ed, es = _ends(curve if radial >= 0 else -curve)
    confidence = min(1.0, abs(radial) / SURE_RADIAL) * min(1.0, travel_mm / SURE_TRAVEL_MM)
    return Phases(ed, es, confidence if _plausible(ed, es, len(curve)) else confidence / 2)


def _around_heart(cine: ArrayLike, spacing: tuple[float, float, float], heart: HeartCentre) -> Array:
    """``(phases, slices, SIDE, SIDE)``: the cine around the heart, smoothed, its phases brought to one gain."""
    values = np.asarray(cine)
    if values.ndim != 4 or len(values) < 2:
        raise ValueError(f"cine must be (phases, slices, rows, cols) with two phases or more; got {values.shape}")
    smoothing = _bell(np.subtract.outer(_places(), _places()), SMOOTH_MM)
    smoothing /= smoothing.sum(axis=1, keepdims=True)
    rows, cols = (
        np.asarray(smoothing @ resampling_matrix(n, step, SIDE, GRID_MM, centre), dtype=np.float32)
        for n, step, centre in zip(values.shape[-2:], spacing[1:], (heart.row, heart.col), strict=True)
    )
    near = values[..., seen(rows), seen(cols)]
    if not all(np.isfinite(phase).all() for phase in near):
        raise ValueError("cine must hold finite values only; correct or leave out the study")
    images = np.stack([plane_product(rows, cols, phase) for phase in values]).astype(np.float64)
    return np.asarray(images / _gains(images)[:, None, None, None])


def _gains(images: Array) -> Array:
    """Brightness of each phase against the mean of all: the median ratio, since most of the image stands still.

    The first phases of a triggered gradient echo flash; without this the flash would pass for blood.
    """
    mean = images.mean(axis=0)
    bright = (mean > median(mean.reshape(len(mean), -1))[:, None, None]) & (mean > 0)
    if not bright.any():
        return np.ones(len(images))
    gains = median(images[:, bright] / mean[bright])
    return np.asarray(np.where(gains > 0, gains, 1.0))


def _blood(images: Array) -> Array:
    """Share of the brighter of each slice's two levels, in [0, 1]: means of the pixels above and below their middle."""
    mean, window = images.mean(axis=0), _window()
    low, high = mean.min(axis=(1, 2)), mean.max(axis=(1, 2))
    for _ in range(ROUNDS):
        above = mean > ((low + high) / 2)[:, None, None]
        low, high = (_mean(mean, window * side, level) for side, level in ((~above, low), (above, high)))
    contrast = np.where(high > low, high - low, np.inf)  # a slice of one level takes no part
    return np.asarray(np.clip((images - low[:, None, None]) / contrast[:, None, None], 0.0, 1.0))


def _mean(values: Array, weights: Array, otherwise: Array) -> Array:
    """Weighted mean of each slice; ``otherwise`` where nothing has weight."""
    total = weights.sum(axis=(1, 2))
    sums = (values * weights).sum(axis=(1, 2))
    return np.asarray(np.where(total > 0, sums / np.where(total > 0, total, 1.0), otherwise), dtype=np.float64)


def _motion(blood: Array, curve: Array, weights: Array) -> tuple[float, float]:
    """What moves as the curve rises.

    Returns:
        Correlation of the change with movement outwards from the heart's centre, in [-1, 1]; and how far borders
        travel between the curve's ends, mean over all borders in the window [mm].
    """
    mean, rise = blood.mean(axis=0), curve - curve.mean()
    change = np.tensordot(rise / np.linalg.norm(rise), blood - mean, axes=1)
    by_row, by_col = (np.gradient(mean, GRID_MM, axis=axis) for axis in (1, 2))
    rows, cols = _places()[:, None], _places()
    outwards = -(by_row * rows + by_col * cols) / np.maximum(np.hypot(rows, cols), GRID_MM / 2)
    along = float((weights * change * outwards).sum())
    size = float((weights * change**2).sum() * (weights * outwards**2).sum())
    borders = float((weights * np.hypot(by_row, by_col)).sum())
    return along / float(np.sqrt(max(size, 1e-30))), float(np.ptp(curve)) / max(borders, 1e-30)


def _ends(volume: Array) -> tuple[int, int]:
    """End-diastole and end-systole of a volume over one cycle."""
    phases, slack = len(volume), TOLERANCE * np.ptp(volume)
    full, empty = volume >= volume.max() - slack, volume <= volume.min() + slack
    after = (int(volume.argmax()) + np.arange(phases)) % phases
    es = int(after[empty[after].argmax()])
    before = (es - np.arange(phases)) % phases
    return int(before[full[before].argmax()]), es


def _plausible(ed: int, es: int, phases: int) -> bool:
    return phases < FEW or SYSTOLE[0] <= (es - ed) % phases / phases <= SYSTOLE[1]


def _slice_weights(slices: int) -> Array:
    """Most for the middle: at the base the atrium comes into view as the ventricle empties, at the apex all leaves."""
    return np.asarray(np.sin(np.pi * (np.arange(slices) + 0.5) / slices) ** 2)


def _cyclic_smoothing(phases: int) -> Array:
    apart = np.subtract.outer(np.arange(phases), np.arange(phases)) / phases
    kernel = _bell(apart - np.rint(apart), SMOOTH_CYCLE)
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True))


def _window() -> Array:
    return _bell(np.hypot(_places()[:, None], _places()), WINDOW_MM)


def _places() -> Array:
    return np.asarray(GRID_MM * (np.arange(SIDE) - (SIDE - 1) / 2), dtype=np.float64)


def _bell(distance: Array, sd: float) -> Array:
    return np.asarray(np.exp(-(distance**2) / (2 * sd**2)))
