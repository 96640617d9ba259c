"""The Sunnybrook cines and their contours, read with pydicom alone: an oracle beside the project's own reader.

It trusts what holds for these studies: one series each, every slice with the same number of phases, a good TriggerTime.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class ContouredCine:
    """A cine and where readers drew the left ventricle.

    Attributes:
        name: the study.
        cine: ``(phases, slices, rows, cols)``, as stored.
        affine: 4 x 4, RAS [mm], of one phase.
        ed: index of end-diastole, from 0: the phase with contours of the epicardium.
        es: index of end-systole, from 0: the other one with contours of the endocardium.
        outline: ``(2, slices, rows, cols)``, 1 where a contour runs, at end-diastole and end-systole.
    """

    name: str
    cine: NDArray[np.float32]
    affine: NDArray[np.float64]
    ed: int
    es: int
    outline: NDArray[np.uint8]


def read_sunnybrook(root: Path) -> Iterator[ContouredCine]:
    """Read every study of ``link.csv`` below ``root``."""
    with (root / "link.csv").open(newline="", encoding="utf-8") as stream:
        linked = {row["patient_id"]: row["original_id"] for row in csv.DictReader(stream)}
    for name, contours in linked.items():
        yield _read(name, root / "dicoms" / name, root / "contourfiles" / contours)


def _read(name: str, images: Path, contours: Path) -> ContouredCine:
    stack = _stack(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cine = np.stack([[image.pixel_array for image in phase] for phase in zip(*stack, strict=True)])
    places = {
        int(image.InstanceNumber): (phase, row) for row, one in enumerate(stack) for phase, image in enumerate(one)
    }
    drawn = [(kind, *places[number], points) for kind, number, points in _contours(contours)]
    (ed,) = {phase for kind, phase, _, _ in drawn if kind == "o"}
    (es,) = {phase for kind, phase, _, _ in drawn if kind == "i"} - {ed}
    outline = np.zeros((2, *cine.shape[1:]), dtype=np.uint8)
    for _, phase, row, points in drawn:
        cols, rows = np.rint(points.T).astype(int)
        outline[int(phase == es), row, rows, cols] = 1
    return ContouredCine(name, cine.astype(np.float32), _affine(stack), ed, es, outline)


def _stack(folder: Path) -> list[list[Dataset]]:
    """Images by slice, along the normal, and in each by trigger time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # identifiers with leading zeros, in every file
        images = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
        normal = np.cross(*np.reshape([float(v) for v in images[0].ImageOrientationPatient], (2, 3)))
        slices: dict[float, list[Dataset]] = {}
        for image in images:
            slices.setdefault(round(float(_position(image) @ normal), 1), []).append(image)
        return [sorted(slices[at], key=lambda image: float(image.TriggerTime)) for at in sorted(slices)]


def _affine(stack: list[list[Dataset]]) -> NDArray[np.float64]:
    first, last = stack[0][0], stack[-1][0]
    across, down = np.reshape([float(v) for v in first.ImageOrientationPatient], (2, 3))
    between_rows, between_cols = map(float, first.PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * between_cols, down * between_rows
    affine[:3, 2] = (_position(last) - _position(first)) / (len(stack) - 1)
    affine[:3, 3] = _position(first)
    return np.asarray(LPS_TO_RAS @ affine)


def _position(image: Dataset) -> NDArray[np.float64]:
    return np.array([float(v) for v in image.ImagePositionPatient])


def _contours(folder: Path) -> Iterator[tuple[str, int, NDArray[np.float64]]]:
    """Kind (``i`` endocardium, ``o`` epicardium), InstanceNumber, and the points (x, y) of each contour."""
    for kind in "io":
        for path in sorted((folder / f"{kind}-contours").glob("*.txt")):
            found = re.match(r"IM-0001-(\d+)-", path.name)
            if found is None:
                raise ValueError(f"contours must be named IM-0001-PPPP-…; got {path.name}")
            yield kind, int(found[1]), np.loadtxt(path)
