"""What else is in a cardiac study: other series that must be left out, each for its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage

from tests.dicom.dicom_writer import base, clock, decimals, geometry, pixels
from tests.dicom.scan_plan import Plan

FIRST_SERIES = 500


def still(
    plan: Plan, series: int, number: int, *, place: float, orientation: Any = None, like: int = 0, **header: Any
) -> Dataset:
    """One image in the planes of the cine (or another), with headers of its own.

    Args:
        plan: of the cine.
        series: its number.
        number: of the image in the series.
        place: of the slice, in gaps of the cine.
        orientation: another one.
        like: added to rows and columns; 0 for the cine's matrix.
        **header: keyword and value.
    """
    data = base(plan.seed, series, number)
    data.ImageType, data.InstanceNumber = ["ORIGINAL", "PRIMARY", "M", "NONE"], str(number + 1)
    position = plan.position(0) + place * (plan.position(1) - plan.position(0))
    geometry(data, position, plan.orientation if orientation is None else orientation, plan.spacing)
    shape = (plan.shape[0] + like, plan.shape[1] + like)
    pixels(data, np.random.default_rng([plan.seed, series, number]).integers(0, 1000, shape).astype(np.int16))
    data.ScanningSequence, data.SequenceName = "GR", "*tfi2d1_12"
    data.FrameOfReferenceUID = f"{data.StudyInstanceUID}.9"
    for keyword, value in header.items():
        setattr(data, keyword, value)
    return data


def late_enhancement(plan: Plan) -> list[Dataset]:
    """Inversion-prepared, one image in each plane of the cine, with its very matrix."""
    header = {"InversionTime": "280", "ScanningSequence": ["GR", "IR"], "TriggerTime": "650"}
    return [still(plan, FIRST_SERIES, s, place=s, **header) for s in range(plan.slices)]


def stills(plan: Plan) -> list[Dataset]:
    """One image in each plane of the cine, of the same sequence: only their number tells."""
    return [still(plan, FIRST_SERIES + 1, s, place=s, TriggerTime="400") for s in range(plan.slices)]


def long_axis(plan: Plan) -> list[Dataset]:
    """Two planes through the heart's axis, timed like the cine."""
    row, column = plan.orientation.reshape(2, 3)
    planes = [np.concatenate([np.cross(row, column), across]) for across in (row, 0.6 * row + 0.8 * column)]
    header = {"NominalInterval": "800", "CardiacNumberOfImages": "20"}
    return [
        still(plan, FIRST_SERIES + 2, 20 * i + p, place=2, orientation=plane, TriggerTime=f"{20 + 40 * p}", **header)
        for i, plane in enumerate(planes)
        for p in range(20)
    ]


def localiser(plan: Plan) -> list[Dataset]:
    """Three planes at right angles, named by their image type in one half of the studies."""
    planes = ([1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1])
    found = [still(plan, FIRST_SERIES + 3, i, place=i, orientation=plane) for i, plane in enumerate(planes)]
    if plan.seed % 2:
        for data in found:
            data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return found


def flow(plan: Plan) -> list[Dataset]:
    """Phase contrast in a plane of the cine: velocities and their magnitude, in two series."""
    found = []
    for series, component in ((FIRST_SERIES + 4, "P"), (FIRST_SERIES + 5, "M")):
        for p in range(plan.phases):
            data = still(plan, series, p, place=2, TriggerTime=f"{20 + 40 * p}", EchoTime="2.9", RepetitionTime="5.1")
            data.ImageType = ["ORIGINAL", "PRIMARY", component, "ND"]
            found.append(data)
    return found


def perfusion(plan: Plan) -> list[Dataset]:
    """Three planes of the cine over 20 heartbeats; the trigger time of a plane is that of its readout."""
    return [
        still(
            plan,
            FIRST_SERIES + 6,
            b * 3 + s,
            place=s,
            TriggerTime=f"{100 + 200 * s}",
            AcquisitionTime=clock(37_000 + 0.8 * b + 0.2 * s),
        )
        for b in range(20)
        for s in range(3)
    ]


def inversion_map(plan: Plan) -> list[Dataset]:
    """Eight inversion times in one plane."""
    return [still(plan, FIRST_SERIES + 7, i, place=3, InversionTime=str(100 + 80 * i)) for i in range(8)]


def report(plan: Plan) -> list[Dataset]:
    """A structured report: no image."""
    data = base(plan.seed, FIRST_SERIES + 8, 0, sop_class=BasicTextSRStorage)
    data.Modality, data.ValueType = "SR", "CONTAINER"
    return [data]


def drawn_copy(plan: Plan) -> list[Dataset]:
    """The cine once more, with contours drawn in by the scanner; not all call that secondary."""
    found, second = [], "SECONDARY" if plan.seed % 2 else "PRIMARY"
    for s in range(plan.slices):
        for p in range(plan.phases):
            time = f"{plan.time_ms((s, 0, p)):.4f}"
            data = still(plan, FIRST_SERIES + 9, s * plan.phases + p, place=s, TriggerTime=time)
            data.ImageType, data.SliceLocation = ["DERIVED", second, "M", "RETRO"], decimals(s)[0]
            found.append(data)
    return found


EXTRAS: Mapping[str, Callable[[Plan], list[Dataset]]] = {
    "late enhancement": late_enhancement,
    "stills": stills,
    "long axis": long_axis,
    "localiser": localiser,
    "flow": flow,
    "perfusion": perfusion,
    "inversion map": inversion_map,
    "report": report,
    "drawn copy": drawn_copy,
}
