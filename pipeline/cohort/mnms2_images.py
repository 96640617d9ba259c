"""What a subject's case of M&Ms-2 is made of: the cine with its phases, or the pair of volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.cohort.frame_match import Signature, matching_phase, residuals, signature
from pipeline.cohort.nifti import SetAsideError, find_image, find_mask, read_affine, read_header
from pipeline.cohort.table_import import FOUND_LATER

PHASES = ("ED", "ES")
FEWEST_PHASES = 3  # of a cine: fewer show no cycle
GEOMETRY_TOLERANCE = 0.01  # relative


@dataclass(frozen=True)
class Images:
    """The images of a case: a cine, or a pair of volumes.

    Attributes:
        shape: ``(x, y, z)``.
        notes: why it is not the cine with ED and ES, and what is odd about the files.
        image: the cine.
        image_ed: end-diastole, without a cine.
        image_es: end-systole, without a cine.
        ed: index in the cine, from 0; ``None`` if not known.
        es: the same of end-systole.
    """

    shape: tuple[int, ...]
    notes: tuple[str, ...]
    image: Path | None = None
    image_ed: Path | None = None
    image_es: Path | None = None
    ed: int | None = None
    es: int | None = None


@dataclass(frozen=True)
class _Source:
    """A volume or cine whose header can be used."""

    path: Path
    shape: tuple[int, ...]
    warnings: tuple[str, ...]


def subject_images(folder: Path) -> Images:
    """Choose the images of a subject.

    The cine, since the heart is found best over the whole cycle, with the phases that the volumes ED and ES are. Where
    these cannot be told beyond doubt, the volumes. Without volumes, the cine: its phases are found later.

    Args:
        folder: ``NNN``, with ``NNN_SA_CINE.nii.gz``, ``NNN_SA_ED.nii.gz``, ``NNN_SA_ES.nii.gz``.

    Raises:
        SetAsideError: if there is neither a cine nor a pair of volumes of one shape.
    """
    cine, notes = _usable(folder, "CINE", dimensions=4)
    pair, pair_notes = _pair(folder)
    notes += pair_notes
    if cine is None and not pair:
        raise SetAsideError(f"folder has neither a cine nor a pair: {'; '.join(notes)}")
    if cine is None:
        return _as_pair(pair, notes)
    try:
        signatures = [signature(volume.path) for volume in pair]
    except SetAsideError as reason:
        pair, notes = [], [*notes, str(reason)]
    if not pair:
        return Images(cine.shape[:3], (*cine.warnings, *notes, FOUND_LATER), image=cine.path)
    try:
        ed, es = _phases(cine, pair, signatures)
    except SetAsideError as reason:
        return _as_pair(pair, [*notes, f"ED and ES volumes are taken instead of the cine, {reason}"])
    return Images(cine.shape[:3], (*cine.warnings, *notes), image=cine.path, ed=ed, es=es)


def subject_masks(folder: Path, shape: tuple[int, ...]) -> tuple[dict[str, Path], list[str]]:
    """Masks of both phases, by ``ED`` and ``ES``, or none; and notes on why they were left out.

    Args:
        folder: ``NNN``, with ``NNN_SA_ED_gt.nii.gz`` and ``NNN_SA_ES_gt.nii.gz``.
        shape: ``(x, y, z)`` of the images.
    """
    masks: dict[str, Path] = {}
    for phase in PHASES:
        mask, notes = find_mask(folder, f"{folder.name}_SA_{phase}_gt", shape=shape)
        if mask is None:
            return {}, notes
        masks[phase] = mask
    return masks, []


def _pair(folder: Path) -> tuple[list[_Source], list[str]]:
    """Both volumes or none, and why."""
    found = [_usable(folder, phase, dimensions=3) for phase in PHASES]
    volumes, notes = [volume for volume, _ in found if volume is not None], [note for _, said in found for note in said]
    if notes:
        return [], notes
    ed, es = volumes
    return (volumes, []) if ed.shape == es.shape else ([], [f"ED and ES have unlike shapes: {ed.shape} and {es.shape}"])


def _as_pair(pair: Sequence[_Source], notes: Sequence[str]) -> Images:
    warnings = dict.fromkeys(warning for volume in pair for warning in volume.warnings)
    return Images(pair[0].shape, (*warnings, *notes), image_ed=pair[0].path, image_es=pair[1].path)


def _phases(cine: _Source, pair: Sequence[_Source], signatures: Sequence[Signature]) -> tuple[int, int]:
    """ED and ES in the cine.

    Raises:
        SetAsideError: if they cannot be told beyond doubt; the reason follows on "instead of the cine, ".
    """
    if cine.shape[:3] != pair[0].shape:
        raise SetAsideError(f"whose shape is {cine.shape} and theirs {pair[0].shape}")
    if not all(_same_axes(cine.path, volume.path) for volume in pair):
        raise SetAsideError("whose spacing or directions differ from theirs")
    ed, es = map(matching_phase, residuals(cine.path, signatures))
    unmatched = [name for name, phase in zip(PHASES, (ed, es), strict=True) if phase is None]
    if ed is None or es is None:
        raise SetAsideError(f"in which {' and '.join(unmatched)} cannot be told: no phase fits, or several do")
    if ed == es:
        raise SetAsideError(f"in which both are phase {ed}")
    return ed, es


def _same_axes(path: Path, other: Path) -> bool:
    """Whether spacing and directions agree; where the volumes lie in the patient does not matter."""
    axes, others = read_affine(path)[:3, :3], read_affine(other)[:3, :3]
    smallest = float(np.linalg.norm(others, axis=0).min())
    return bool(np.abs(axes - others).max() <= GEOMETRY_TOLERANCE * smallest)


def _usable(folder: Path, kind: str, *, dimensions: int) -> tuple[_Source | None, list[str]]:
    """A subject's image, or ``None`` and the reason."""
    path = find_image(folder, f"{folder.name}_SA_{kind}")
    if path is None:
        return None, [f"there is no {kind}"]
    try:
        header = read_header(path, dimensions=dimensions)
    except SetAsideError as reason:
        return None, [f"{kind} left out, {reason}"]
    if kind == "CINE" and header.shape[3] < FEWEST_PHASES:
        return None, [f"CINE left out, it has {header.shape[3]} phases"]
    return _Source(path, header.shape, header.warnings), []
