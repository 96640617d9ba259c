"""A reading as a DICOM Comprehensive 3D SR: measurement report by template TID 1500.

The report asserts no finding. It says which class the student finds most probable, how probable each is, where in the
cycle it looked, and what the audit knows of scanners like this one. Codes are SNOMED CT and DCM where pydicom's
dictionary has the very concept, else of a coding scheme of our own.

Source: DICOM PS3.16, TID 1500, 1501 and 1004; IHE Radiology, AI Results.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import SourceImageForMeasurementGroup as SourceImage
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pipeline.deployment.cine_input import Sources
from pipeline.deployment.outcome import Outcome, PackageIdentity, Reading, Verdict
from pipeline.deployment.result_json import DIGITS
from pipeline.deployment.source_headers import reference, uid_of
from pipeline.deployment.uids import MANUFACTURER, UNNAMED, Lineage
from pipeline.deployment.wording import RESEARCH_ONLY, audit_sentences, plain, reading_sentence, verdict_sentence

SCHEME = "99EVENBEAT"
SCHEME_NAME = "Evenbeat: classes and verdicts of student packages"
SERIES_NUMBER = 9101

# Short names of classes in public cohorts whose concept pydicom's dictionary has. Hypertrophic cardiomyopathy is there
# only with or without obstruction, which no class says.
KNOWN_CLASSES: Mapping[str, Code] = {
    "NOR": codes.SCT.Normal,
    "DCM": codes.SCT.CongestiveCardiomyopathy,
    "MINF": codes.SCT.MyocardialInfarction,
    "FALL": codes.SCT.TetralogyOfFallot,
}
VERDICT_CODES = {
    Verdict.AUDITED: ("AUDITED", "Scanner group audited"),
    Verdict.TOO_FEW: ("AUDITED_TOO_FEW", "Scanner group audited on too few patients"),
    Verdict.UNSEEN: ("UNSEEN", "Scanner group not seen in the audit"),
    None: ("NO_SCANNER", "Scanner not known"),
}


def structured_report(
    outcome: Outcome, headers: Sequence[Dataset], *, lineage: Lineage, sources: Sources = ()
) -> sr.Comprehensive3DSR:
    """Build the report of a reading. Patient, study and its own UIDs are left open: they are put in later.

    Args:
        outcome: of one study; it must have a reading.
        headers: one per used instance, in order, without pixels.
        lineage: what the report is made of; device and tracked items are named by it.
        sources: the images of each phase; empty where that is not known, and then no image is pointed at.

    Raises:
        ValueError: if there is no reading, or a phase that the reading names is not among ``sources``, or one of its
            images is not among ``headers``.
    """
    reading = outcome.reading
    if reading is None:
        raise ValueError("a structured report must have a reading, got a refusal; write result.json alone")
    groups = [_classification(outcome, reading, lineage)]
    if sources:
        used = {uid_of(header, "SOPInstanceUID"): header for header in headers}
        for name, code, index in (("ED", codes.SCT.EndDiastole, reading.ed), ("ES", codes.SCT.EndSystole, reading.es)):
            images = _images(sources, index, used)
            groups.append(_phase(name, code, index, reading, images=images, lineage=lineage))
    evidence = [reference(header) for header in headers]
    report = sr.MeasurementReport(
        observation_context=_observer(outcome.package, lineage),
        procedure_reported=codes.SCT.CardiacMRI,
        imaging_measurements=groups,
    )
    return sr.Comprehensive3DSR(
        evidence=evidence,
        content=report[0],
        series_instance_uid=UNNAMED,
        series_number=SERIES_NUMBER,
        sop_instance_uid=UNNAMED,
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=[
            CodingSchemeIdentificationItem(
                SCHEME,
                name=SCHEME_NAME,
                version="1",
                responsible_organization=MANUFACTURER,
            )
        ],
    )


def class_code(name: str) -> Code:
    """Code of a class: SNOMED CT where the name is known and the concept is in pydicom's dictionary, else ours.

    Example:
        >>> class_code("HCM").value, class_code("NOR").scheme_designator
        ('C_HCM', 'SCT')
    """
    return KNOWN_CLASSES.get(name) or _own(_short("C", name), name)


def probability_code(name: str) -> Code:
    """Code of the concept that a class's probability is a value of."""
    return _own(_short("P", name), f"Probability of {name}")


def _classification(outcome: Outcome, reading: Reading, lineage: Lineage) -> sr.MeasurementsAndQualitativeEvaluations:
    verdict = VERDICT_CODES[outcome.envelope.verdict if outcome.envelope else None]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking("Classification", lineage),
        finding_sites=[sr.FindingSite(codes.SCT.Heart)],
        algorithm_id=_algorithm(outcome.package, lineage),
        measurements=[
            sr.Measurement(probability_code(name), round(float(share), DIGITS), codes.UCUM.NoUnits)
            for name, share in reading.probabilities.items()
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(_own("CLASS", "Most probable class"), class_code(reading.predicted)),
            sr.QualitativeEvaluation(_own("SCANNER_VERDICT", "Audit of scanners like this one"), _own(*verdict)),
        ],
    )
    texts = [
        ("INTENDED_USE", "Intended use", RESEARCH_ONLY),
        ("SUMMARY", "Summary of the reading", _summary(reading)),
        ("SCANNER_AUDIT", "What the audit says", verdict_sentence(outcome.envelope)),
        *(("AUDITED_GROUP", "Audited group", sentence) for sentence in audit_sentences(outcome.envelope)),
        *(("WARNING", "Warning", warning) for warning in reading.warnings),
    ]
    for value, meaning, text in texts:
        group[0].ContentSequence.append(
            sr.TextContentItem(_own(value, meaning), plain(text), sr.RelationshipTypeValues.CONTAINS)
        )
    return group


def _summary(reading: Reading) -> str:
    share = reading.probabilities[reading.predicted]
    return f"Most probable of the student's classes: {reading.predicted} ({share:.2f}). {reading_sentence(reading)}"


def _phase(
    name: str,
    code: Code,
    index: int,
    reading: Reading,
    images: list[sr.SourceImageForMeasurementGroup],
    lineage: Lineage,
) -> sr.MeasurementsAndQualitativeEvaluations:
    numbers = (("PHASE_NUMBER", "Phase of the cine, from 1", index + 1), ("PHASES", "Phases", reading.n_phases))
    measurements = [sr.Measurement(_own(value, words), number, codes.UCUM.NoUnits) for value, words, number in numbers]
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(name, lineage),
        finding_sites=[sr.FindingSite(codes.SCT.Heart)],
        measurements=measurements,
        qualitative_evaluations=[sr.QualitativeEvaluation(codes.SCT.CardiacCyclePhase, code)],
        source_images=images,
    )


def _images(sources: Sources, index: int, used: Mapping[str, Dataset]) -> list[SourceImage]:
    """The images of one phase, one entry per instance; frames are named where an instance holds several."""
    if not 0 <= index < len(sources):
        raise ValueError(f"sources must have the phase {index} that the reading names, got {len(sources)} phases")
    frames: dict[str, list[int]] = {}
    for uid, number in sources[index]:
        frames.setdefault(uid, []).append(number + 1)
    missing = len(set(frames) - set(used))
    if missing:
        raise ValueError(f"headers must have every instance of the phases read, {missing} are missing; give all used")
    return [
        SourceImage(
            uid_of(used[uid], "SOPClassUID"),
            uid,
            referenced_frame_numbers=sorted(numbers) if "NumberOfFrames" in used[uid] else None,
        )
        for uid, numbers in frames.items()
    ]


def _observer(package: PackageIdentity, lineage: Lineage) -> sr.ObservationContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=lineage.device_uid,
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=package.name,
        serial_number=package.digest,
    )
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=codes.DCM.Device, observer_identifying_attributes=device
        )
    )


def _algorithm(package: PackageIdentity, lineage: Lineage) -> sr.AlgorithmIdentification:
    return sr.AlgorithmIdentification(
        name=package.name,
        version=f"{package.version}, package sha256:{package.digest}",
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=MANUFACTURER,
        parameters=[f"evenbeat {lineage.software}", f"preprocessing sha256:{package.recipe_digest}"],
    )


def _tracking(name: str, lineage: Lineage) -> sr.TrackingIdentifier:
    return sr.TrackingIdentifier(uid=lineage.uid(f"tracking {name}"), identifier=f"Evenbeat {name}")


def _own(value: str, meaning: str) -> Code:
    return Code(value, SCHEME, plain(meaning)[:64])


def _short(kind: str, name: str) -> str:
    """Code value of at most 16 characters: the class's name if it will do, else digits of its hash."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,12}", name):
        return f"{kind}_{name}"
    return f"{kind}_#{hashlib.sha256(name.encode()).hexdigest()[:12]}"
