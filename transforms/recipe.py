"""The one definition of the student's input: its parameters, their digest, and the steps that make it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transforms.geometry import orient_short_axis, resample_crop, resample_slices, spacing_mm
from transforms.heart import HeartCentre, find_heart
from transforms.intensity import check_percentiles, standardise
from transforms.phases import Phases, find_phases

FORMAT_VERSION = 1  # raise it when the same parameters give other numbers
BIAS_CORRECTIONS = (None, "n4")


@dataclass(frozen=True)
class StudentInput:
    """What a study is turned into before any network sees it.

    Attributes:
        rows: height of the crop [pixels].
        cols: width of the crop [pixels].
        slices: number of slices, spread evenly over the stack.
        spacing_mm: distance between pixels in the plane [mm].
        percentiles: intensities are clipped to these, per study.
        bias_correction: ``None``, or ``n4`` (SimpleITK, which the hospital image does not carry).
        extra_steps: names of steps that somebody added to the chain or put in place of ours.

    Raises:
        ValueError: if a size or the spacing is not positive, or another parameter is not one of its values.
    """

    rows: int = 64
    cols: int = 64
    slices: int = 8
    spacing_mm: float = 2.5
    percentiles: tuple[float, float] = (0.5, 99.5)
    bias_correction: str | None = None
    extra_steps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rows", "cols", "slices"):
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{name} must be a whole number above 0; got {size!r}")
        if not 0 < self.spacing_mm < np.inf:
            raise ValueError(f"spacing_mm must be a number above 0 [mm]; got {self.spacing_mm!r}")
        if self.bias_correction not in BIAS_CORRECTIONS:
            raise ValueError(f"bias_correction must be one of {BIAS_CORRECTIONS}; got {self.bias_correction!r}")
        object.__setattr__(self, "spacing_mm", float(self.spacing_mm))  # 2 and 2.0 are one recipe
        object.__setattr__(self, "percentiles", check_percentiles(self.percentiles))
        object.__setattr__(self, "extra_steps", tuple(self.extra_steps))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(phases, slices, rows, cols)`` of the student's input."""
        return 2, self.slices, self.rows, self.cols

    @property
    def field_of_view_mm(self) -> tuple[float, float]:
        """Height and width of the crop [mm]."""
        return self.rows * self.spacing_mm, self.cols * self.spacing_mm

    @property
    def exportable(self) -> bool:
        """Whether the hospital image, which has numpy only, can prepare studies by this recipe."""
        return self.bias_correction is None and not self.extra_steps

    @property
    def digest(self) -> str:
        """SHA-256 over all parameters and the format version, in hexadecimal."""
        canonical = json.dumps({"format": FORMAT_VERSION, **self.to_dict()}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The parameters, as JSON holds them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, parameters: Mapping[str, Any]) -> StudentInput:
        """Inverse of ``to_dict``.

        Raises:
            ValueError: if a parameter is missing or not known, or has a value that the recipe refuses.
        """
        known = {field.name for field in fields(cls)}
        if set(parameters) != known:
            raise ValueError(
                f"a recipe must have the parameters {sorted(known)}; missing {sorted(known - set(parameters))}, "
                f"not known {sorted(set(parameters) - known)}; prepare the studies anew with this version"
            )
        return cls(**{**parameters, "percentiles": tuple(parameters["percentiles"])})


@dataclass(frozen=True)
class Prepared:
    """A study, ready for the student.

    Attributes:
        image: float32 ``(2, slices, rows, cols)``, end-diastole first, standardised.
        heart: where the heart was found, in the oriented study's pixels.
        spacing_mm: ``(slices, rows, cols)`` of the oriented study before resampling [mm].
        ed: index of end-diastole in the cine, from 0.
        es: index of end-systole in the cine, from 0.
        found: the phases with their confidence where they were found; ``None`` where they were given.
    """

    image: NDArray[np.float32]
    heart: HeartCentre
    spacing_mm: tuple[float, float, float]
    ed: int
    es: int
    found: Phases | None = None


def prepare_study(
    cine: ArrayLike, affine: ArrayLike, *, recipe: StudentInput, ed: int | None = None, es: int | None = None
) -> Prepared:
    """Turn a cine into the student's input: orient, find the heart and phases, crop, resample slices, standardise.

    A bias correction, where the recipe asks for one, comes before this.

    Args:
        cine: ``(phases, slices, rows, cols)``, as stored; two phases are enough.
        affine: 4 x 4, RAS [mm], of one phase.
        recipe: the parameters.
        ed: index of end-diastole, from 0; with ``es``, or both ``None``: they are then found in the cine.
        es: index of end-systole, from 0.

    Returns:
        The input with the heart centre that it was cropped around and the phases that it shows.

    Raises:
        ValueError: if ``cine`` is not 4-D, a phase lies outside it, only one is given, nothing moves in it, or it is
            constant.
    """
    oriented, oriented_affine = orient_short_axis(np.asarray(cine), affine)
    spacing = spacing_mm(oriented_affine)
    heart = find_heart(oriented, spacing)
    known, found = known_phases(ed, es), None
    if known is None:
        found = find_phases(oriented, spacing, heart)
        known = found.ed, found.es
    phases = crop_heart(pick_phases(oriented, ed=known[0], es=known[1]), heart, spacing, recipe)
    image = standardise(resample_slices(phases, recipe.slices), recipe.percentiles)
    return Prepared(image, heart, spacing, *known, found)


def known_phases(ed: int | None, es: int | None) -> tuple[int, int] | None:
    """End-diastole and end-systole if they are given; ``None`` if they are to be found.

    Raises:
        ValueError: if only one of them is given.
    """
    if ed is not None and es is not None:
        return ed, es
    if ed is not None or es is not None:
        raise ValueError(f"ed and es must both be given, or neither to have them found; got ed {ed}, es {es}")
    return None


def pick_phases(cine: NDArray[Any], *, ed: int, es: int) -> NDArray[Any]:
    """End-diastole and end-systole of a cine, in this order.

    Args:
        cine: ``(phases, slices, rows, cols)``.
        ed: index of end-diastole, from 0.
        es: index of end-systole, from 0; may be smaller than ``ed``.

    Returns:
        ``(2, slices, rows, cols)``.

    Raises:
        ValueError: if an index lies outside the cine or both are the same.
    """
    if not (0 <= ed < len(cine) and 0 <= es < len(cine)) or ed == es:
        raise ValueError(f"ed and es must be two of the phases 0 to {len(cine) - 1}; got ed {ed}, es {es}")
    step = es - ed
    return cine[ed : ed + 2 * step if ed + 2 * step >= 0 else None : step]  # a view: the pair may be large


def crop_heart(
    volume: ArrayLike, heart: HeartCentre, spacing: tuple[float, float, float], recipe: StudentInput
) -> NDArray[np.float32]:
    """Resample in the plane to the recipe's pixels, around the heart.

    Args:
        volume: ``(…, slices, rows, cols)``, oriented.
        heart: its centre, in pixels of ``volume``.
        spacing: ``(slices, rows, cols)`` of ``volume`` [mm].
        recipe: gives size and pixel spacing.

    Returns:
        float32 ``(…, slices, recipe.rows, recipe.cols)``; 0 beyond the field of view.
    """
    shape = (recipe.rows, recipe.cols)
    return resample_crop(volume, (heart.row, heart.col), spacing[1:], shape, recipe.spacing_mm)
