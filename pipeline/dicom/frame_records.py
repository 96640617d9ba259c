"""What is known of the images of a study before a pixel is read: one record per image, one per study."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.dicom.refusal import LeftOut


@dataclass(frozen=True, slots=True)
class PixelPlace:
    """Where a file keeps its pixels, and how they are laid out.

    Attributes:
        offset: first byte of the pixel data's value, in the file.
        explicit_vr: value representation in the file, ``OB`` or ``OW``; empty where it is implicit.
        frames: images in the file.
        bits_allocated: bits of a pixel.
        bits_stored: how many of them are used.
        high_bit: the highest of those, from 0.
        signed: whether they are a two's complement.
        photometric: ``MONOCHROME2``, whatever else a header may call it.
    """

    offset: int
    explicit_vr: str
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str


@dataclass(frozen=True, slots=True, repr=False)
class Frame:
    """One image: one phase of one slice. What the header lacks or garbles is ``None`` or ``""``.

    Attributes:
        path: its file.
        number: which image of the file, from 0.
        series: ``series 3``, counted in the order of the study's series; fit to be shown.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        sop_uid: SOPInstanceUID.
        frame_of_reference: FrameOfReferenceUID.
        transfer_syntax: TransferSyntaxUID.
        image_type: ImageType, or FrameType of this image.
        rows: of the matrix.
        cols: of the matrix.
        position: ImagePositionPatient: middle of the first pixel, LPS [mm].
        orientation: ImageOrientationPatient: direction along a row, direction down a column; six cosines.
        pixel_spacing: between rows, between columns [mm].
        thickness_mm: SliceThickness.
        slice_location_mm: SliceLocation. Its sign is the vendor's.
        trigger_ms: TriggerTime.
        delay_ms: NominalCardiacTriggerDelayTime, or the actual one.
        cycle_percent: NominalPercentageOfCardiacPhase.
        temporal_index: TemporalPositionIndex.
        temporal_position: TemporalPositionIdentifier.
        acquisition_s: AcquisitionTime, seconds of the day; after midnight in a study that spans it they count on.
        content_s: ContentTime, likewise.
        instance_number: InstanceNumber.
        acquisition_number: AcquisitionNumber.
        in_stack_position: InStackPositionNumber.
        stack_id: StackID.
        rr_ms: NominalInterval, RRIntervalTimeNominal, or 60000 / HeartRate.
        n_cardiac_images: CardiacNumberOfImages.
        inversion_ms: InversionTime; 0 where there is no inversion.
        echo_ms: EchoTime.
        repetition_ms: RepetitionTime.
        scanning_sequence: ScanningSequence, e.g. ``("GR",)``.
        sequence_name: SequenceName, or PulseSequenceName.
        complex_component: ``MAGNITUDE``, ``PHASE``, …
        velocity_encoded: whether the header tells a velocity encoding.
        slope: rescale of this image. NaN if the header's is no number: such an image is not read.
        intercept: likewise.
        text: SeriesDescription and, but for GE, ProtocolName: hints only, never shown.
        complete: whether the file holds pixel data at their full length.
        pixels: where they are.
    """

    path: Path
    number: int = 0
    series: str = ""
    study_uid: str = ""
    series_uid: str = ""
    sop_uid: str = ""
    frame_of_reference: str = ""
    transfer_syntax: str = ""
    image_type: tuple[str, ...] = ()
    rows: int = 0
    cols: int = 0
    position: tuple[float, float, float] | None = None
    orientation: tuple[float, ...] | None = None
    pixel_spacing: tuple[float, float] | None = None
    thickness_mm: float | None = None
    slice_location_mm: float | None = None
    trigger_ms: float | None = None
    delay_ms: float | None = None
    cycle_percent: float | None = None
    temporal_index: int | None = None
    temporal_position: int | None = None
    acquisition_s: float | None = None
    content_s: float | None = None
    instance_number: int | None = None
    acquisition_number: int | None = None
    in_stack_position: int | None = None
    stack_id: str = ""
    rr_ms: float | None = None
    n_cardiac_images: int | None = None
    inversion_ms: float | None = None
    echo_ms: float | None = None
    repetition_ms: float | None = None
    scanning_sequence: tuple[str, ...] = ()
    sequence_name: str = ""
    complex_component: str = ""
    velocity_encoded: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    text: str = ""
    complete: bool = True
    pixels: PixelPlace | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        """Show nothing that could tell whose image it is: records end in tracebacks."""
        return f"Frame({self.series or 'no series'}, number {self.number}, {self.rows} x {self.cols})"


@dataclass(frozen=True, repr=False)
class StudyTags:
    """Whose study, and of which scanner, as the headers spell it. Identifies a patient: hash it before it is kept.

    Attributes:
        study_uid: StudyInstanceUID.
        patient_id: PatientID.
        manufacturer: Manufacturer.
        model: ManufacturerModelName.
        field_strength: MagneticFieldStrength, the raw text; tesla or gauss.
        software: SoftwareVersions.
        station: StationName.
        serial: DeviceSerialNumber.
        institution: InstitutionName.
        sex: ``M``, ``F`` or ``O``.
        age_years: at the study, capped at 90.
    """

    study_uid: str = ""
    patient_id: str = ""
    manufacturer: str = ""
    model: str = ""
    field_strength: str = ""
    software: tuple[str, ...] = ()
    station: str = ""
    serial: str = ""
    institution: str = ""
    sex: str | None = None
    age_years: float | None = None

    def __repr__(self) -> str:
        """Show nothing: every field may identify."""
        return "StudyTags(…)"


@dataclass(frozen=True)
class StudyFiles:
    """Headers of a study's files.

    Attributes:
        frames: its MR images, in an order that does not depend on that of the files or their names.
        tags: the study's.
        left_out: files that are no MR image, counted by series and reason.
    """

    frames: tuple[Frame, ...]
    tags: StudyTags
    left_out: tuple[LeftOut, ...] = ()
