"""Readers that misbehave, made in the service's reading process by their names."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pydicom import dcmread

from benchmarks.tiny_studies import count
from pipeline.deployment.job import JobFailedError
from pipeline.deployment.outcome import Outcome
from pipeline.deployment.result_json import Failure
from pipeline.deployment.service.reading import Reader
from pipeline.dicom.frame_header import read_file
from tests.dicom.failing_disk import failing_disk


class _Leaking:
    def read(self, study_folder: Path, out: Path) -> Outcome:
        """Say the patient's name wherever a library might, then raise it."""
        dataset = dcmread(next(study_folder.iterdir()))
        name = str(dataset.PatientName)
        print(name, flush=True)
        print(name, file=sys.stderr, flush=True)
        os.write(1, name.encode())
        warnings.warn(name, stacklevel=1)
        if "fails" in name:
            raise ValueError(f"cannot read {name}")
        return count(study_folder, out)


class _Ill:
    """Crashes, hangs or fails by the last digit of the number of instances."""

    def read(self, study_folder: Path, out: Path) -> Outcome:
        files = list(study_folder.iterdir())
        if len(files) == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        if len(files) == 3:
            time.sleep(60)
        if len(files) == 4:
            raise RecursionError
        if len(files) == 5:  # as a reader does that tells class and place only
            try:
                raise OSError(errno.ENOSPC, "No space left on device", "/secret/Doe^Jane")
            except OSError:
                raise JobFailedError(Failure("OSError", "somewhere:1")) from None
        return count(study_folder, out)


class _OnFailingDisk:
    """The first study meets a disk that fails in the middle of its second file; then the disk is well again."""

    def __init__(self) -> None:
        self._disk: AbstractContextManager[None] = failing_disk(errno.EIO, files=1, after=200)

    def read(self, study_folder: Path, out: Path) -> Outcome:
        disk, self._disk = self._disk, nullcontext()
        with disk:
            for path in sorted(study_folder.iterdir()):
                read_file(path)
        return count(study_folder, out)


class _Forking:
    """With two instances, hangs together with a process that holds its pipes."""

    def read(self, study_folder: Path, out: Path) -> Outcome:
        if len(list(study_folder.iterdir())) == 2:
            os.fork()
            time.sleep(30)
        return count(study_folder, out)


def forking() -> Reader:
    """Make one that starts a process of its own."""
    return _Forking()


def on_failing_disk() -> Reader:
    """Make one whose disk fails once."""
    return _OnFailingDisk()


def hanging() -> Reader:
    """Never make one."""
    time.sleep(60)
    raise TimeoutError


def leaking() -> Reader:
    """Make one that says too much."""
    return _Leaking()


def ill() -> Reader:
    """Make one that some studies are too much for."""
    return _Ill()


def impossible() -> Reader:
    """Fail to make one."""
    raise FileNotFoundError("no network at /patients/Doe^Jane")
