"""Short-axis cine studies as scanners write them: every layout met in practice, with the truth beside the files.

The truth is kept as it was planned, not read back: pixels, positions and times of every image, and which run of a
slice came last. Pixels tell slice, run and phase, so that no two images of a study are alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from tests.dicom.scan_plan import Key, Plan, plan

ROOT = "1.2.826.0.1.3680043.10.1338"


@dataclass(frozen=True)
class Layout:
    """How a scanner files a study.

    Attributes:
        files: what one file holds: ``image``, ``slice``, ``phase`` or ``study``; all but the first are enhanced.
        series: what one series holds: ``study``, ``slice`` or ``phase``.
        order: which comes first as images are numbered: ``slice`` (all phases of a slice) or ``phase``.
        numbering: InstanceNumber: ``running``, ``restarted`` (in each slice), ``descending``, ``constant``, ``absent``.
        clocks: headers that tell the phase.
        tells: headers that tell the slice, or when it was acquired.
        repeated: how many slices were acquired again.
        frame_of_reference: ``study``, ``file`` or ``absent``.
        upwards: whether slices are numbered along the normal.
    """

    files: str = "image"
    series: str = "study"
    order: str = "slice"
    numbering: str = "running"
    clocks: tuple[str, ...] = ("TriggerTime",)
    tells: tuple[str, ...] = ("SliceLocation", "AcquisitionTime", "ContentTime")
    repeated: int = 0
    frame_of_reference: str = "study"
    upwards: bool = True


PLAIN = Layout()
LAYOUTS: Mapping[str, Layout] = {
    "A: series per slice": replace(PLAIN, series="slice", numbering="restarted"),
    "A: series per slice, descending": replace(PLAIN, series="slice", numbering="descending", upwards=False),
    "B: one series, slice-major": replace(
        PLAIN, clocks=("TriggerTime", "NominalCardiacTriggerDelayTime"), frame_of_reference="file"
    ),
    "B: one series, phase-major": replace(PLAIN, order="phase", clocks=("TriggerTime", "TemporalPositionIdentifier")),
    "B: one series, no instance numbers": replace(
        PLAIN, numbering="absent", frame_of_reference="absent", clocks=("TriggerTime", "TemporalPositionIdentifier")
    ),
    "B: one series, constant instance numbers": replace(
        PLAIN, numbering="constant", upwards=False, clocks=("TriggerTime", "NominalCardiacTriggerDelayTime")
    ),
    "B: instance numbers only": replace(PLAIN, clocks=(), tells=("SliceLocation",)),
    "C: enhanced, slice-major": replace(PLAIN, files="study", clocks=("TemporalPositionIndex", "delay")),
    "C: enhanced, phase-major": replace(PLAIN, files="study", order="phase", clocks=("delay",)),
    "C: enhanced, file per slice": replace(PLAIN, files="slice", clocks=("percent",), upwards=False),
    "C: enhanced, file per phase": replace(PLAIN, files="phase", order="phase", clocks=("TemporalPositionIndex",)),
    "D: repeated slices, own series": replace(PLAIN, series="slice", numbering="restarted", repeated=2),
    "D: repeated slices, one series": replace(PLAIN, tells=(*PLAIN.tells, "AcquisitionNumber"), repeated=2),
    "D: repeated slices, numbered on": replace(PLAIN, tells=("SliceLocation",), repeated=1),
    "E: series per phase": replace(PLAIN, series="phase", order="phase", numbering="restarted"),
}


@dataclass
class Study:
    """Files of a study and what is in them.

    Attributes:
        plan: what was scanned.
        layout: how it was filed.
        files: data set by name.
        contents: which images a file holds, by name, in their order in the file.
        repeated: slices that were acquired twice.
    """

    plan: Plan
    layout: Layout
    files: dict[str, Dataset] = field(default_factory=dict)
    contents: dict[str, list[Key]] = field(default_factory=dict)
    repeated: tuple[int, ...] = ()

    def keys(self) -> Iterator[Key]:
        """Every image, in the order of acquisition: repeated slices last."""
        order = range(self.plan.slices) if self.layout.upwards else range(self.plan.slices)[::-1]
        for run, chosen in ((0, order), (1, [s for s in order if s in self.repeated])):
            yield from ((s, run, p) for s in chosen for p in range(self.plan.phases))


def cine_study(seed: int, layout: Layout = PLAIN) -> Study:
    """Write a study.

    Args:
        seed: of the plan, and of which slices are repeated.
        layout: how it is filed.

    Returns:
        Its files.
    """
    planned = plan(seed, repeated=layout.repeated)
    again = np.random.default_rng([seed, 7]).choice(planned.slices, layout.repeated, replace=False)
    study = Study(planned, layout, repeated=tuple(sorted(again.tolist())))
    keys = list(study.keys())
    if layout.order == "phase":
        keys.sort(key=lambda key: (key[1], key[2]))
    if layout.files == "image":
        for number, key in enumerate(keys):
            name = f"image-{number:04d}"
            study.files[name], study.contents[name] = _image(study, keys, key), [key]
        return study
    held: dict[Any, list[Key]] = {}
    for key in keys:
        held.setdefault({"study": 0, "slice": key[0], "phase": key[2]}[layout.files], []).append(key)
    for number, inside in enumerate(held.values()):
        name = f"file-{number:04d}"
        study.files[name], study.contents[name] = _enhanced(study, inside, number), inside
    return study


def new_uid(seed: int, *numbers: int) -> str:
    """A UID that is the same each time."""
    return ".".join(map(str, (ROOT, seed, *numbers)))


def decimals(values: Any) -> list[str]:
    """Decimal strings of at most 16 characters, rounded as scanners round."""
    return [f"{value:.6f}" for value in np.ravel(values)]


def clock(seconds: float) -> str:
    """A time of day."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes // 60):02d}{int(minutes % 60):02d}{rest:09.6f}"


def base(seed: int, series: int, instance: int, *, sop_class: str = MRImageStorage) -> Dataset:
    """What every object of a study has."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = sop_class, new_uid(seed, 2, series, instance)
    data.StudyInstanceUID, data.SeriesInstanceUID = new_uid(seed, 0), new_uid(seed, 1, series)
    data.SeriesNumber, data.Modality, data.PatientID = str(series), "MR", "someone"
    data.Manufacturer, data.MagneticFieldStrength = "SIEMENS", "1.5"
    return data


def geometry(data: Dataset, position: Any, orientation: Any, spacing: Any) -> None:
    """Where an image lies."""
    data.ImagePositionPatient, data.ImageOrientationPatient = decimals(position), decimals(orientation)
    data.PixelSpacing, data.SliceThickness = decimals(spacing), "8"


def pixels(data: Dataset, values: np.ndarray) -> None:
    """Put pixels in, 12 bits of 16."""
    data.Rows, data.Columns = values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PixelData = values.astype("<i2").tobytes()


def to_bytes(data: Dataset) -> bytes:
    """The file of a data set."""
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _series(layout: Layout, plan: Plan, key: Key) -> int:
    s, run, p = key
    return {"study": 1, "slice": 1 + s + run * plan.slices, "phase": 1 + p}[layout.series]


def _image(study: Study, keys: list[Key], key: Key) -> Dataset:
    """A classic image."""
    plan, layout = study.plan, study.layout
    series, index = _series(layout, plan, key), keys.index(key)
    data = base(plan.seed, series, index)
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    geometry(data, plan.position(key[0]), plan.orientation, plan.spacing)
    pixels(data, plan.pixels(key))
    data.ScanningSequence, data.SequenceName, data.MRAcquisitionType = "GR", "*tfi2d1_12", "2D"
    data.EchoTime, data.RepetitionTime, data.FlipAngle = "1.5", "3.3", "45"
    data.NominalInterval, data.CardiacNumberOfImages = str(round(float(plan.rr_ms[key[:2]]))), str(plan.phases)
    number = {"restarted": key[2], "constant": 0, "descending": plan.phases - key[2]}.get(layout.numbering, index)
    if layout.series == "phase":
        number = key[0]
    if layout.numbering != "absent":
        data.InstanceNumber = str(1 + number)
    if layout.frame_of_reference != "absent":
        data.FrameOfReferenceUID = new_uid(plan.seed, 3, index if layout.frame_of_reference == "file" else 0)
    _tell_time(data, plan, layout, key)
    _tell_slice(data, study, key)
    return data


def _tell_time(data: Dataset, plan: Plan, layout: Layout, key: Key) -> None:
    for name in layout.clocks:
        if name in {"TriggerTime", "NominalCardiacTriggerDelayTime"}:
            setattr(data, name, plan.time_ms(key) if name.startswith("Nominal") else f"{plan.time_ms(key):.4f}")
        elif name == "TemporalPositionIdentifier":
            data.TemporalPositionIdentifier = str(key[2] + 1)


def _tell_slice(data: Dataset, study: Study, key: Key) -> None:
    """Slices are acquired one after the other, 20 s apart; repeats follow."""
    plan, layout = study.plan, study.layout
    began = 36_000 + 20.5 * (key[1] * plan.slices + (key[0] if layout.upwards else plan.slices - 1 - key[0]))
    if "SliceLocation" in layout.tells:
        normal = np.cross(*plan.orientation.reshape(2, 3))
        data.SliceLocation = decimals(plan.position(key[0]) @ normal)[0]
    if "AcquisitionTime" in layout.tells:
        data.AcquisitionTime = clock(began)
    if "ContentTime" in layout.tells:  # images are written in no strict order
        late = np.random.default_rng([plan.seed, *key, 3]).uniform(9, 10)
        data.ContentTime = clock(began + late)
    if "AcquisitionNumber" in layout.tells:
        data.AcquisitionNumber = str(1 + key[1])


def _enhanced(study: Study, inside: list[Key], number: int) -> Dataset:
    """An enhanced multi-frame object."""
    plan, layout = study.plan, study.layout
    data = base(plan.seed, 1, number, sop_class=EnhancedMRImageStorage)
    data.InstanceNumber, data.NumberOfFrames = str(number + 1), str(len(inside))
    data.ImageType, data.FrameOfReferenceUID = ["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"], new_uid(plan.seed, 3, 0)
    pixels(data, np.stack([plan.pixels(key) for key in inside]))
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = decimals(plan.orientation)
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = decimals(plan.spacing)
    shared.PixelMeasuresSequence[0].SliceThickness = "8"
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = [_groups(plan, layout, key) for key in inside]
    return data


def _groups(plan: Plan, layout: Layout, key: Key) -> Dataset:
    """What is told of one image of an enhanced object."""
    frame, content, beat = Dataset(), Dataset(), Dataset()
    frame.PlanePositionSequence = [Dataset()]
    frame.PlanePositionSequence[0].ImagePositionPatient = decimals(plan.position(key[0]))
    content.StackID = "1"
    content.InStackPositionNumber = 1 + (key[0] if layout.upwards else plan.slices - 1 - key[0])
    if "TemporalPositionIndex" in layout.clocks:
        content.TemporalPositionIndex = key[2] + 1
    if "delay" in layout.clocks:
        beat.NominalCardiacTriggerDelayTime = plan.time_ms(key)
    if "percent" in layout.clocks:
        beat.NominalPercentageOfCardiacPhase = 100 * plan.time_ms(key) / float(plan.rr_ms[key[:2]])
    beat.RRIntervalTimeNominal = float(plan.rr_ms[key[:2]])
    frame.FrameContentSequence, frame.CardiacSynchronizationSequence = [content], [beat]
    return frame
