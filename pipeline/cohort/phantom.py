"""Phantom cohorts: beating hearts of known truth, written in the layout of the M&Ms studies.

A training part with M&Ms' vendor and pathology counts, a balanced test part in which every vendor meets every
pathology, the table with M&Ms' own header, and beside it the truth about each heart.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.cohort.phantom_anatomy import PATHOLOGIES
from pipeline.cohort.phantom_chest import render_chest, texture
from pipeline.cohort.phantom_heart import heart_states
from pipeline.cohort.phantom_paint import heart_grid, heart_labels, render_heart
from pipeline.cohort.phantom_plan import VENDORS, Settings, Study, draw_studies, study_stream
from pipeline.cohort.phantom_tables import TABLE_NAME, TRUTH_NAME, best_possible_accuracy, write_tables
from pipeline.files import atomic_path
from pipeline.workers import end_with_parent
from transforms.simulate import scan, tissue_signals

__all__ = ["PhantomSummary", "affine_of", "best_possible_accuracy", "heart_voxel", "render_study", "write_phantom"]

SETTINGS_NAME = "phantom.json"

_FORMAT = 1  # raise when the same settings would give other hearts
_FOLDERS = {"Training": Path("Training") / "Labeled", "Testing": Path("Testing")}
_GZIP_LEVEL = 1


@dataclass(frozen=True)
class PhantomSummary:
    """What :func:`write_phantom` left behind; counts are by vendor, then pathology."""

    root: Path
    table: Path
    truth: Path
    training: dict[str, dict[str, int]]
    test: dict[str, dict[str, int]]
    written: int
    kept: int
    megabytes: float
    seconds: float


def write_phantom(
    out: str | Path,
    *,
    seed: int = 0,
    studies: int | None = None,
    minority_share: float = 1.0,
    confounding: float = 1.0,
    strength: float = 1.0,
    test_per_cell: int = 12,
    full_size: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> PhantomSummary:
    """Write a cohort of phantom hearts in the M&Ms layout; a second call writes only what is missing.

    Args:
        out: the folder; made if absent, else empty or of the same settings.
        seed: at least 0; the same settings give the same files, byte by byte, with any number of workers.
        studies: training studies; by default M&Ms' own 272 (times the dials below). Fewer keep the proportions, with
            at least one study in every cell that has any.
        minority_share: multiplies the training studies of GE and Canon.
        confounding: 1 takes M&Ms' vendor x pathology table, 0 one in which the two are independent.
        strength: of the scanners' appearance: 0 all alike, 1 each vendor its own.
        test_per_cell: test studies of each vendor and pathology.
        full_size: 256 x 256 pixels of about 1.3 mm and 25 phases, in place of 88 x 88 of about 2.5 mm and 10.
        workers: processes; by default one per processor.
        progress: show a progress bar.

    Returns:
        Paths, counts, size and time.

    Raises:
        ValueError: if a setting is out of range.
        FileExistsError: if ``out`` holds something else, or a cohort of other settings.
    """
    start, root = time.perf_counter(), Path(out)
    settings = Settings(seed, studies, minority_share, confounding, strength, test_per_cell, full_size)
    drawn = draw_studies(settings)
    _claim(root, settings)
    if not all((root / name).is_file() for name in (TABLE_NAME, TRUTH_NAME)):
        write_tables(root, drawn)
    missing = [study for study in drawn if not all(path.is_file() for path in _study_files(root, study))]
    done = _write_studies(root, settings, missing, workers or os.cpu_count() or 1)
    bar = tqdm(done, total=len(missing), desc="phantom", unit="study", disable=not progress)
    written = sum(1 for _ in bar)
    size = sum(path.stat().st_size for study in drawn for path in _study_files(root, study))
    return PhantomSummary(
        root=root,
        table=root / TABLE_NAME,
        truth=root / TRUTH_NAME,
        training=_count(study for study in drawn if study.part == "Training"),
        test=_count(study for study in drawn if study.part == "Testing"),
        written=written,
        kept=len(drawn) - written,
        megabytes=size / 1e6,
        seconds=time.perf_counter() - start,
    )


def render_study(study: Study, settings: Settings) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Image and mask of one study, ``(phases, slices, rows, cols)``, in the frames' stored order.

    Slices run from base to apex and the right ventricle lies to the left, whatever the file will do to them. The mask
    is non-zero at end-diastole and end-systole only.
    """
    pose, rng = study.pose, study_stream(settings, study.part, study.index, 3)
    signals = tissue_signals(study.appearance)
    chest, grain = render_chest(pose, signals, rng), texture(pose, rng)
    image = np.empty((pose.phases, pose.slices, pose.rows, pose.cols), dtype=np.float32)
    mask = np.zeros(image.shape, dtype=np.uint8)
    states = heart_states(study.anatomy, pose)
    grid = heart_grid(states, pose)
    for phase, state in enumerate(states):
        image[phase] = render_heart(state, pose, grid, chest, signals) * grain
    for phase in (0, pose.es):
        mask[phase] = heart_labels(states[phase], pose, grid)
    seen = np.rint(scan(image, study.appearance, rng)).clip(0, np.iinfo(np.int16).max).astype(np.int16)
    shift = study.es - pose.es
    return np.roll(seen, shift, axis=0), np.roll(mask, shift, axis=0)


def affine_of(study: Study) -> NDArray[np.float64]:
    """Voxel (x, y, z) to RAS [mm] as rendered, before the storage quirk; the heart's middle lies at ``origin_mm``."""
    pose = study.pose
    spacing = np.array([pose.spacing_mm, pose.spacing_mm, pose.slice_spacing_mm])
    affine = np.eye(4)
    affine[:3, :3] = study.axes * spacing
    affine[:3, 3] = study.origin_mm - affine[:3, :3] @ heart_voxel(study)
    return affine


def heart_voxel(study: Study) -> NDArray[np.float64]:
    """The left ventricle's middle in voxels (x, y, z) as rendered: half way down its axis at end-diastole."""
    pose = study.pose
    x, y = (c / pose.spacing_mm + (n - 1) / 2 for c, n in zip(pose.centre_mm, (pose.cols, pose.rows), strict=True))
    return np.array([x, y, (pose.long_axis_mm / 2 - pose.first_slice_mm) / pose.slice_spacing_mm])


def _claim(root: Path, settings: Settings) -> None:
    """Record the settings in a new folder, or check them in one that has a cohort."""
    record, path = {"format": _FORMAT, **asdict(settings)}, root / SETTINGS_NAME
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        differ = [f"{k} {found.get(k)!r}, asked {v!r}" for k, v in record.items() if found.get(k) != v]
        if differ:
            raise FileExistsError(
                f"{root} holds a phantom cohort of other settings ({'; '.join(differ)}); "
                "give those settings again, choose another folder, or delete this one"
            )
        return
    if root.is_dir() and any(not entry.name.startswith(".") for entry in root.iterdir()):
        raise FileExistsError(f"{root} must be empty or hold a phantom cohort; it holds other files; choose another")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _write_studies(root: Path, settings: Settings, studies: Sequence[Study], workers: int) -> Iterator[str]:
    if workers == 1 or len(studies) <= 1:
        yield from (_write_study(root, settings, study) for study in studies)
        return
    # spawned, not forked: the caller may have threads of its own
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(studies)), context, initializer=end_with_parent) as pool:
        futures = [pool.submit(_write_study, root, settings, study) for study in studies]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write_study(root: Path, settings: Settings, study: Study) -> str:
    image, mask = render_study(study, settings)
    image_path, mask_path = _study_files(root, study)
    _write_nifti(mask_path, mask, affine_of(study), study.storage)
    _write_nifti(image_path, image, affine_of(study), study.storage)
    return study.code


def _study_files(root: Path, study: Study) -> tuple[Path, Path]:
    folder = root / _FOLDERS[study.part] / study.code
    return folder / f"{study.code}_sa.nii.gz", folder / f"{study.code}_sa_gt.nii.gz"


def _write_nifti(path: Path, values: NDArray[Any], affine: NDArray[np.float64], storage: str) -> None:
    """Write a ``(phases, slices, rows, cols)`` array as (x, y, z, t), stored as asked, with the affine to match."""
    values = np.transpose(values, (3, 2, 1, 0))
    axis = {"plain": None, "flipped columns": 0, "flipped rows": 1, "reversed slices": 2}[storage]
    if axis is not None:
        affine = affine.copy()
        affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
        affine[:3, axis] *= -1
        values = np.flip(values, axis)
    image = nib.Nifti1Image(np.asfortranarray(values), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((*image.header.get_zooms()[:3], 0.9 / values.shape[3]))  # a beat of 0.9 s
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=_GZIP_LEVEL, mtime=0))


def _count(studies: Iterable[Study]) -> dict[str, dict[str, int]]:
    counts = Counter((study.vendor, study.pathology) for study in studies)
    return {vendor: {name: counts[vendor, name] for name in PATHOLOGIES} for vendor in VENDORS}
