"""The elements of a DICOM header that are read, and nothing else is."""

from __future__ import annotations

from pipeline.dicom.header import Wanted
from pipeline.dicom.values import tag_of


def _tags(keywords: str) -> tuple[int, ...]:
    return tuple(map(tag_of, keywords.split()))


STUDY = _tags("""
    PatientID PatientSex PatientAge StudyInstanceUID Manufacturer ManufacturerModelName MagneticFieldStrength
    SoftwareVersions StationName DeviceSerialNumber InstitutionName
""")
FILE = _tags("""
    SpecificCharacterSet SOPClassUID SOPInstanceUID SeriesInstanceUID SeriesNumber Modality FrameOfReferenceUID
    SeriesDescription ProtocolName
    Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation
    BitsAllocated BitsStored HighBit PixelRepresentation
""")
PLACE = _tags("""
    ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness SliceLocation InStackPositionNumber StackID
""")
TIME = _tags("""
    TriggerTime NominalCardiacTriggerDelayTime ActualCardiacTriggerDelayTime NominalPercentageOfCardiacPhase
    TemporalPositionIndex TemporalPositionIdentifier InstanceNumber AcquisitionNumber FrameAcquisitionNumber
    FrameAcquisitionDateTime AcquisitionTime AcquisitionDateTime FrameReferenceDateTime ContentTime
    NominalInterval RRIntervalTimeNominal HeartRate CardiacNumberOfImages
""")
ACQUISITION = _tags("""
    ImageType FrameType ComplexImageComponent
    ScanningSequence EchoPulseSequence SequenceName PulseSequenceName
    InversionTime InversionTimes EchoTime EffectiveEchoTime RepetitionTime
    PhaseContrast VelocityEncodingDirection VelocityEncodingMinimumValue VelocityEncodingMaximumValue
    RescaleSlope RescaleIntercept
""")

# Of images in one file: what holds for all of them, what for each, and the groups within either
(SHARED_GROUPS,) = _tags("SharedFunctionalGroupsSequence")
(GROUPS_OF_EACH,) = _tags("PerFrameFunctionalGroupsSequence")
FUNCTIONAL_GROUPS = _tags("""
    PlanePositionSequence PlaneOrientationSequence PixelMeasuresSequence CardiacSynchronizationSequence
    FrameContentSequence PixelValueTransformationSequence MRImageFrameTypeSequence
    MRTimingAndRelatedParametersSequence MREchoSequence MRModifierSequence MRVelocityEncodingSequence
    UnassignedSharedConvertedAttributesSequence UnassignedPerFrameConvertedAttributesSequence
""")

WANTED = Wanted(
    values=frozenset({*STUDY, *FILE, *PLACE, *TIME, *ACQUISITION}),
    sequences=frozenset({SHARED_GROUPS, GROUPS_OF_EACH, *FUNCTIONAL_GROUPS}),
)
