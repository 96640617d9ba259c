"""What a study comes down to before it is prepared, whichever kind of files it came in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dicom.refusal import LeftOut

Sources = Sequence[Sequence[tuple[str, int]]]  # [phase][slice]: SOPInstanceUID, and image in its file, from 0


@dataclass(frozen=True)
class CineInput:
    """A short-axis cine as it was stored.

    Attributes:
        values: ``(phases, slices, rows, cols)``.
        affine: 4 x 4, RAS [mm].
        warnings: each begins with its code.
        left_out: what else is in the study.
        sources: ``[phase][slice]``, SOPInstanceUID and image in its file, from 0; empty where it was no DICOM.
        files: in which DICOM images were.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64]
    warnings: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    sources: tuple[tuple[tuple[str, int], ...], ...] = ()
    files: tuple[Path, ...] = ()
