"""Studies on disk: NIfTI, MHA and NRRD in; prepared studies in and out."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.geometry import Affine, spacing_mm

Volume = NDArray[np.float32]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_volume(path: str | Path) -> tuple[Volume, Affine]:
    """Read a volume or a cine with its place in the patient.

    Directions need not be orthonormal in NIfTI; spacing is taken from the affine, never from the header's zooms,
    which may disagree with it.

    Args:
        path: ``.nii`` or ``.nii.gz`` (nibabel); ``.mha``, ``.mhd``, ``.nrrd`` or ``.nhdr`` (SimpleITK).

    Returns:
        float32 ``(slices, rows, cols)`` or ``(phases, slices, rows, cols)``, and the 4 x 4 affine, RAS [mm].

    Raises:
        FileNotFoundError: if there is no file at ``path``.
        ValueError: if the format is not one of these, the file cannot be read, its values are not finite, its
            affine has an axis without length, or it is neither 3-D nor 4-D.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image at {path}; restore the file, or make the datalist anew")
    reader = _reader(path)
    try:
        volume, affine = reader(path)
    except Exception as error:  # both libraries raise many kinds for a broken file
        raise ValueError(f"image must be readable: {path.name} gave {type(error).__name__}; export it again") from error
    if volume.ndim not in {3, 4} or not volume.size:
        raise ValueError(f"image must have 3 or 4 axes; {path.name} has shape {volume.shape[::-1]} (x, y, z, …)")
    if not np.isfinite(volume).all():
        raise ValueError(f"image must hold finite values only; {path.name} has others; correct or leave it out")
    spacing_mm(affine)
    return volume, affine


def write_prepared(path: str | Path, image: Volume, record: Mapping[str, Any]) -> None:
    """Write a prepared study or photograph: the array and, as JSON beside it in the same file, what it was made of.

    Args:
        path: ends in ``.npz``.
        image: float32 ``(2, slices, rows, cols)`` of a study, ``(3, rows, cols)`` of a photograph.
        record: JSON values; ``recipe_digest`` among them.
    """
    np.savez(Path(path), image=image, record=np.array(json.dumps(record, allow_nan=False)))


def read_prepared(path: str | Path, *, recipe_digest: str | None = None) -> tuple[Volume, dict[str, Any]]:
    """Read a prepared study or photograph.

    Args:
        path: a file that ``write_prepared`` wrote.
        recipe_digest: of the recipe that the reader expects; ``None`` takes any.

    Returns:
        The array, float32, as it was written, and its record.

    Raises:
        FileNotFoundError: if there is no file at ``path``.
        ValueError: if the file is not a prepared study, or was prepared by another recipe.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no prepared study at {path}; run the preprocessing bundle again")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            record = json.loads(str(stored["record"]))
            image = np.asarray(stored["image"], dtype=np.float32)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path.name} must be a prepared study (.npz with image and record); run the preprocessing bundle first"
        ) from error
    if recipe_digest is not None and record.get("recipe_digest") != recipe_digest:
        raise ValueError(
            f"{path.name} must be prepared by recipe {recipe_digest[:12]}…; it was by "
            f"{str(record.get('recipe_digest'))[:12]}…; run the preprocessing bundle again with the recipe expected"
        )
    return image, record


def _reader(path: Path) -> Any:  # noqa: ANN401
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        return _read_nifti
    if name.endswith(ITK_SUFFIXES):
        return _read_itk
    raise ValueError(f"image must end in one of {NIFTI_SUFFIXES + ITK_SUFFIXES}; got {path.name}; convert it first")


def _read_nifti(path: Path) -> tuple[Volume, Affine]:
    import nibabel

    image = nibabel.load(path)
    return np.asarray(image.dataobj, dtype=np.float32).T, np.asarray(image.affine, dtype=np.float64)


def _read_itk(path: Path) -> tuple[Volume, Affine]:
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    volume = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    if image.GetNumberOfComponentsPerPixel() > 1:  # NRRD may keep the phases as components of a voxel
        volume = np.moveaxis(volume, -1, 0)
    size = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (size, size))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.asarray(image.GetSpacing())[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return volume, _LPS_TO_RAS @ affine
