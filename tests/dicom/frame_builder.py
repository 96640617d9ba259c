"""Frame records by hand, for tests of single rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.dicom.frame_records import Frame
from pipeline.dicom.stack_geometry import BASE_TO_APEX

NORMAL = np.asarray(BASE_TO_APEX) / np.linalg.norm(BASE_TO_APEX)
ROW = np.cross(NORMAL, [0.0, 0.0, 1.0])
ROW = ROW / np.linalg.norm(ROW)
SHORT_AXIS = (*ROW.tolist(), *np.cross(NORMAL, ROW).tolist())
GAP_MM = 10.0


class At(NamedTuple):
    """Slice and phase of an image."""

    s: int
    p: int


def frame(s: int = 0, p: int = 0, **changes: Any) -> Frame:
    """Phase ``p`` of slice ``s`` of a plain stack: one series, numbered slice by slice, 40 ms apart."""
    plain = Frame(
        path=Path(f"{s}-{p}"),
        series="series 1",
        series_uid="1.1",
        sop_uid=f"1.2.{s}.{p}",
        frame_of_reference="1.3",
        image_type=("ORIGINAL", "PRIMARY", "M"),
        rows=12,
        cols=16,
        position=tuple((s * GAP_MM * NORMAL).tolist()),
        orientation=SHORT_AXIS,
        pixel_spacing=(1.5, 1.25),
        trigger_ms=20.0 + 40 * p,
        instance_number=100 * s + p,
        acquisition_s=36_000.0 + 20 * s,
        rr_ms=800.0,
        scanning_sequence=("GR",),
    )
    return replace(plain, **changes)


def stack(slices: int = 7, phases: int = 20, **changes: Any) -> list[Frame]:
    """A plain stack; a change may be a function of :class:`At`."""
    return [
        frame(s, p, **{name: value(At(s, p)) if callable(value) else value for name, value in changes.items()})
        for s in range(slices)
        for p in range(phases)
    ]


def moved(frames: list[Frame], where: Callable[[Frame], Any]) -> list[Frame]:
    """The same images elsewhere: ``where`` gives a shift, LPS [mm]."""
    return [replace(f, position=tuple((np.asarray(f.position) + where(f)).tolist())) for f in frames]


def by_slice(frames: list[Frame], phases: int = 20) -> list[list[Frame]]:
    """Cut into slices of equally many images."""
    return [frames[i : i + phases] for i in range(0, len(frames), phases)]
