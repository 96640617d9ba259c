"""What an importer must know of a NIfTI file before it takes the study: its header, never the whole image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORTHONORMAL_TOLERANCE = 1e-3
SPACING_TOLERANCE = 0.01  # relative
SMALLEST_DETERMINANT = 1e-6  # of the directions; 1 for axes at right angles
SUFFIXES = (".nii.gz", ".nii")


class SetAsideError(Exception):
    """A study cannot be taken; the message is the reason, its detail after ``": "``."""


@dataclass(frozen=True)
class Header:
    """Header of a NIfTI file that can be used.

    Attributes:
        shape: ``(x, y, z)`` or ``(x, y, z, t)``.
        warnings: what is odd about it, though it can be used.
    """

    shape: tuple[int, ...]
    warnings: tuple[str, ...]


def find_image(folder: Path, stem: str) -> Path | None:
    """Path of ``stem.nii.gz`` or ``stem.nii``; ``None`` if there is neither."""
    candidates = (folder / f"{stem}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def read_header(path: Path, *, dimensions: int) -> Header:
    """Read and check a header.

    Args:
        path: NIfTI file.
        dimensions: how many it must have: 3 for a volume, 4 for a cine.

    Returns:
        The header. Directions that are not orthonormal are a warning: the orientation is taken from the axes
        nearest to them. SimpleITK refuses such a file.

    Raises:
        SetAsideError: if the file cannot be read, has other dimensions, or an affine that cannot be inverted.
    """
    image = _open(path)
    shape = tuple(int(size) for size in image.shape)
    if len(shape) != dimensions or min(shape, default=0) < 1:
        raise SetAsideError(f"image must have {dimensions} dimensions: {path.name} has shape {shape}")
    matrix = np.asarray(image.affine, dtype=float)[:3, :3]
    if not _invertible(matrix):
        raise SetAsideError(f"affine cannot be inverted: {path.name}")
    return Header(shape, tuple(_warnings(matrix, np.asarray(image.header.get_zooms()[:3], dtype=float))))


def read_affine(path: Path) -> NDArray[np.float64]:
    """The 4 x 4 affine of a NIfTI file, RAS [mm].

    Raises:
        SetAsideError: if the file cannot be read.
    """
    return np.asarray(_open(path).affine, dtype=np.float64)


def find_mask(folder: Path, stem: str, *, shape: tuple[int, ...]) -> tuple[Path | None, list[str]]:
    """Find a mask that fits an image. Masks only measure, so a study is not lost with its mask.

    Args:
        folder: the study's folder.
        stem: the mask's file name without its ending.
        shape: the image's.

    Returns:
        The mask, or ``None``; and notes on why it was left out, none if there is no file.
    """
    mask = find_image(folder, stem)
    if mask is None:
        return None, []
    try:
        found = read_header(mask, dimensions=len(shape)).shape
    except SetAsideError as reason:
        return None, [f"mask left out, {reason}"]
    if found != shape:
        return None, [f"mask left out, its shape is {found} and the image's {shape}"]
    return mask, []


def annotated_phases(path: Path, *, cavity: int) -> tuple[int, int]:
    """End-diastole and end-systole of a cine mask that is zero everywhere else.

    Args:
        path: 4-D mask ``(x, y, z, t)``.
        cavity: label of the left ventricle's cavity; the phase that has more of it is end-diastole.

    Returns:
        Indices ``(ed, es)`` from 0.

    Raises:
        SetAsideError: if the mask cannot be read, or not just two phases are annotated with unlike cavities.
    """
    header = read_header(path, dimensions=4)
    try:
        mask = np.asarray(_open(path).dataobj)
    except Exception as error:
        raise SetAsideError(f"mask cannot be read: {path.name}, {type(error).__name__}") from error
    phases = np.flatnonzero((mask > 0).any(axis=(0, 1, 2)))
    if len(phases) != 2:
        raise SetAsideError(f"mask has {len(phases)} of {header.shape[3]} phases")
    cavities = [int((mask[..., phase] == cavity).sum()) for phase in phases]
    if cavities[0] == cavities[1]:
        raise SetAsideError("cavities of the two annotated phases are equal")
    first, second = (int(phase) for phase in phases)
    return (first, second) if cavities[0] > cavities[1] else (second, first)


def _open(path: Path) -> Any:  # noqa: ANN401
    import nibabel

    try:
        return nibabel.load(path)
    except Exception as error:  # nibabel raises many kinds for a broken file
        raise SetAsideError(f"image cannot be read: {path.name}, {type(error).__name__}") from error


def _invertible(matrix: np.ndarray) -> bool:
    spacing = np.linalg.norm(matrix, axis=0)
    usable = bool(np.isfinite(spacing).all() and (spacing > 0).all())
    return usable and abs(float(np.linalg.det(matrix / spacing))) > SMALLEST_DETERMINANT


def _warnings(matrix: np.ndarray, zooms: np.ndarray) -> list[str]:
    spacing = np.linalg.norm(matrix, axis=0)
    directions = matrix / spacing
    deviation = float(np.abs(directions.T @ directions - np.eye(3)).max())
    found = []
    if deviation > ORTHONORMAL_TOLERANCE:
        found.append(f"directions are not orthonormal (off by {deviation:.3f}); the nearest axes are used")
    if not np.allclose(spacing, zooms, rtol=SPACING_TOLERANCE):
        found.append(f"spacing in the header {_mm(zooms)} differs from that of the affine {_mm(spacing)}")
    return found


def _mm(spacing: np.ndarray) -> str:
    return " x ".join(f"{value:.3g}" for value in spacing) + " mm"
