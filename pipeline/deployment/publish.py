"""A study's results as files, complete or absent: report, picture and ``result.json``, which comes last."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline import __version__
from pipeline.deployment.cine_input import Sources
from pipeline.deployment.file_set import publish
from pipeline.deployment.outcome import Outcome, PackageIdentity
from pipeline.deployment.result_json import RESULT, Failure, Output, failure_document, result_document, to_json
from pipeline.deployment.summary_picture import to_png
from pipeline.deployment.uids import Lineage

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PICTURE = "summary.png"
SERIES_DESCRIPTION = "Evenbeat: research use only"


def write_results(
    outcome: Outcome,
    folder: str | Path,
    *,
    headers: Sequence[Dataset] = (),
    picture: NDArray[np.uint8] | None = None,
    sources: Sources = (),
) -> tuple[Path, ...]:
    """Write a study's results. Written again, they are the same bytes under the same names.

    An object's UIDs follow from its content: whatever in it was corrected, patient, picture or probability, it is
    another object.

    Args:
        outcome: a reading or a refusal.
        folder: where to; made if missing. It may be a mount point of another owner: nothing leaves it on the way.
        headers: one per used instance, without pixels; without them, or without a reading, no DICOM is written.
        picture: ``(height, width, 3)``, of a reading; goes out as PNG, and as Secondary Capture if there are headers.
        sources: ``[phase][slice]``, SOPInstanceUID and image in its file, from 0, as a ``Cine`` has them: the report
            points at the images of end-diastole and end-systole by them.

    Returns:
        The files, ``result.json`` last: where it is, all others are, and are complete.

    Raises:
        OSError: if the folder cannot take them; then it holds what it held before, or nothing of ours.
        ValueError: if headers, sources and reading do not belong together.
    """
    outputs: list[Output] = []
    if outcome.reading is not None:
        if headers:
            outputs += _dicom_outputs(outcome, headers, picture, sources)
        if picture is not None:
            outputs.append(Output(PICTURE, "summary-picture", to_png(picture)))
    files = {output.name: output.content for output in outputs}
    files[RESULT] = to_json(result_document(outcome, outputs, software=__version__))
    return publish(files, Path(folder))


def write_failure(
    failure: Failure, folder: str | Path, *, study_key: str | None, package: PackageIdentity
) -> tuple[Path, ...]:
    """Write ``result.json`` for a study that an error of ours kept from being read.

    Args:
        failure: class and place of the error.
        folder: where to, as for ``write_results``.
        study_key: of the study; ``None`` where it came to none.
        package: which student was asked.
    """
    document = failure_document(failure, study_key=study_key, package=package, software=__version__)
    return publish({RESULT: to_json(document)}, Path(folder))


def _dicom_outputs(
    outcome: Outcome,
    headers: Sequence[Dataset],
    picture: NDArray[np.uint8] | None,
    sources: Sources,
) -> list[Output]:
    # highdicom takes half a second to load, and refusals need none of it
    from pipeline.deployment.secondary_capture import secondary_capture
    from pipeline.deployment.source_headers import in_order, quietly, uid_of
    from pipeline.deployment.structured_report import structured_report

    with quietly():
        ordered = in_order(headers)
        lineage = Lineage([uid_of(header, "SOPInstanceUID") for header in ordered], outcome.package.digest, __version__)
        objects: dict[str, Dataset] = {
            "structured-report": structured_report(outcome, ordered, lineage=lineage, sources=sources)
        }
        if picture is not None:
            objects["secondary-capture"] = secondary_capture(picture, ordered[0])
        for kind, made in objects.items():
            _complete(made, ordered, outcome.package)
            _name_by_content(made, kind, lineage)
        return [Output(_file_name(made), kind, _to_bytes(made)) for kind, made in objects.items()]


def _complete(made: Dataset, headers: Sequence[Dataset], package: PackageIdentity) -> None:
    """Say who made it, whose and when it is; take out what the time of this run put in."""
    from pipeline.deployment.source_headers import copy_patient_and_study, newest_moment

    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "ContributingEquipmentSequence"):
        if keyword in made:
            del made[keyword]
    made.ContentDate, made.ContentTime = newest_moment(headers)
    if "DateOfSecondaryCapture" in made:
        made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = made.ContentDate, made.ContentTime
    made.SeriesDescription = SERIES_DESCRIPTION
    made.ManufacturerModelName, made.SoftwareVersions = package.name, __version__
    made.DeviceSerialNumber = package.digest
    copy_patient_and_study(headers[0], made)


def _name_by_content(made: Dataset, kind: str, lineage: Lineage) -> None:
    """Give an object, else complete, UIDs that follow from all that is in it, whatever that is."""
    content = hashlib.sha256(_to_bytes(made)).hexdigest()
    made.SeriesInstanceUID = lineage.uid(f"series of {kind}", content)
    made.SOPInstanceUID = lineage.uid(kind, content)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID


def _file_name(made: Dataset) -> str:
    return f"{made.SeriesInstanceUID}#{made.SOPInstanceUID}.dcm"


def _to_bytes(made: Dataset) -> bytes:
    from pydicom import charset

    if "PixelData" in made:
        made["PixelData"].VR = "OB"  # 8 bits; pydicom settles it in objects alone whose elements it takes apart
    terms = made.get("SpecificCharacterSet")
    # pydicom writes copied elements byte for byte only in an object that it believes to be read as it is written
    made.set_original_encoding(False, True, charset.convert_encodings(terms) if terms else charset.default_encoding)
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
