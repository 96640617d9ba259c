"""One folder in, one folder out: a study read and answered, or refused with its code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.deployment.cine_input import CineInput, Sources
from pipeline.deployment.envelope import judge
from pipeline.deployment.outcome import Outcome, Reading
from pipeline.deployment.package import Package, read_package
from pipeline.deployment.place import place_of
from pipeline.deployment.result_json import Failure
from pipeline.deployment.student import Student
from pipeline.deployment.study_input import StudyInput, find_study, used_headers
from pipeline.dicom.doubts import doubts
from pipeline.dicom.refusal import Code, LeftOut, Refusal
from pipeline.dicom.system_errors import OF_THE_MACHINE
from transforms.heart import NothingMovesError
from transforms.intensity import ConstantImageError
from transforms.recipe import Prepared, prepare_study

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

UNREFERENCED = "UNREFERENCED: images lack UIDs that a report could name them by; no DICOM object is written"


@dataclass(frozen=True)
class Job:
    """Where a study lies, and where its results go.

    Attributes:
        input: folder with one study.
        output: folder for the results; made if missing.
    """

    input: Path
    output: Path


class JobFailedError(Exception):
    """An error that is not the study's. It tells its class and place, never its message: that could quote a header.

    Args:
        failure: what ``result.json`` holds of it.
        reason: what the operating system says of it, where it is the machine's: "Permission denied".
    """

    def __init__(self, failure: Failure, reason: str = "") -> None:
        self.failure, self.reason = failure, reason
        super().__init__(f"{failure.error} at {failure.place}")


class PackageReader:
    """Reads study after study with one package.

    Args:
        package: to read with.
    """

    def __init__(self, package: Package) -> None:
        self.package, self.student = package, Student(package)

    def read(self, study_folder: Path, out: Path) -> Outcome:
        """Read one study: as :func:`run_job`."""
        return run_job(Job(study_folder, out), self.package, self.student)


def open_reader(package: str, expected_digest: str = "") -> PackageReader:
    """A reader, from what a command line or a settings file holds.

    Args:
        package: folder of the student package.
        expected_digest: SHA-256 that its manifest must have; empty takes any.

    Raises:
        PackageError: if the package must not be used.
    """
    return PackageReader(read_package(package, expected_digest or None))


def run_job(job: Job, package: Package, student: Student) -> Outcome:
    """Read one study and write its results.

    Args:
        job: where it lies, and where its results go.
        package: that is asked.
        student: of that package.

    Returns:
        A reading or a refusal; ``result.json`` and, of a reading, report and picture are then in ``job.output``.

    Raises:
        JobFailedError: on any other error; ``result.json`` then has the status ``failed``, if it could be written.
    """
    key: str | None = None
    try:
        study = find_study(job.input)
        key = study.key
        return _answer(study, job.output, package, student)
    except ModuleNotFoundError:  # the installation lacks something; its name is to be told
        raise
    except Exception as error:  # whatever it is: its message stays here
        failure = Failure(type(error).__name__, place_of(error))
        with suppress(Exception):  # a full disk, say, is what failed
            from pipeline.deployment.publish import write_failure

            write_failure(failure, job.output, study_key=key, package=package.identity)
        raise JobFailedError(failure, _reason(error)) from None


def _reason(error: Exception) -> str:
    """The operating system's words for an error's number: they name no file."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno in OF_THE_MACHINE else ""


@dataclass(frozen=True)
class _Read:
    """What is left of a cine once it was read; the cine itself goes, before any result is made."""

    reading: Reading
    image: NDArray[np.float32]
    headers: Sequence[Dataset]
    sources: Sources
    left_out: Sequence[LeftOut]


def _answer(study: StudyInput, output: Path, package: Package, student: Student) -> Outcome:
    from pipeline.deployment.publish import write_results
    from pipeline.deployment.summary_picture import summary_picture

    scanner = None if study.scanner is None else package.shown(study.scanner)
    envelope = None if study.scanner is None else judge(package.envelope, study.scanner)
    ended = partial(Outcome, study.key, package.identity, scanner, envelope)
    try:
        read = _read(study, package, student)
    except Refusal as refusal:
        outcome = ended(refusal=refusal, left_out=refusal.left_out)
        write_results(outcome, output)
        return outcome
    outcome = ended(reading=read.reading, left_out=read.left_out)

    picture = summary_picture(read.image, outcome)
    write_results(outcome, output, headers=read.headers, picture=picture, sources=read.sources)
    return outcome


def _read(study: StudyInput, package: Package, student: Student) -> _Read:
    """Read the cine, prepare it, ask the student.

    Raises:
        Refusal: if it cannot be read.
    """
    cine = study.cine()
    prepared = _prepared(cine, package)
    headers = used_headers(cine.files, {uid for phase in cine.sources for uid, _ in phase})
    warnings = [*cine.warnings, *doubts(prepared.heart.confidence, prepared.found.confidence if prepared.found else 1)]
    if cine.files and not headers:
        warnings.append(UNREFERENCED)
    phases, slices = cine.values.shape[:2]
    reading = Reading(
        probabilities=student.probabilities(prepared.image),
        ed=int(prepared.ed),
        es=int(prepared.es),
        n_phases=int(phases),
        n_slices=int(slices),
        heart_confidence=float(prepared.heart.confidence),
        phase_confidence=float(prepared.found.confidence) if prepared.found else None,
        warnings=tuple(warnings),
    )
    return _Read(reading, prepared.image, headers, cine.sources if headers else (), cine.left_out)


def _prepared(cine: CineInput, package: Package) -> Prepared:
    """The student's input, by the lines that made it for the training.

    Raises:
        Refusal: NOTHING_MOVES or NO_CONTRAST.
    """
    try:
        return prepare_study(cine.values, cine.affine, recipe=package.recipe)
    except NothingMovesError:
        raise Refusal(Code.NOTHING_MOVES, left_out=cine.left_out) from None
    except ConstantImageError:
        raise Refusal(Code.NO_CONTRAST, left_out=cine.left_out) from None
