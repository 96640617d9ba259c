"""Readers that misbehave, made in the service's reading process by their names."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from pathlib import Path

from pydicom import dcmread

from benchmarks.tiny_studies import count
from pipeline.deployment.outcome import Outcome
from pipeline.deployment.service.reading import Reader


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
        return count(study_folder, out)


def leaking() -> Reader:
    """Make one that says too much."""
    return _Leaking()


def ill() -> Reader:
    """Make one that some studies are too much for."""
    return _Ill()


def impossible() -> Reader:
    """Fail to make one."""
    raise FileNotFoundError("no network at /patients/Doe^Jane")
