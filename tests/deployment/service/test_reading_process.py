"""A reader in a process of its own: what it does to itself, it does not do to the service."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.tiny_studies import FACTORY, tiny_study
from pipeline.deployment.service.reading import ReadingError
from pipeline.deployment.service.reading_process import ReadingProcess
from tests.deployment.service.support import wait_for

ILL = "tests.deployment.service.readers:ill"


@pytest.fixture
def study(tmp_path: Path) -> Callable[[int], tuple[Path, Path]]:
    def write(instances: int) -> tuple[Path, Path]:
        folder, out = tmp_path / f"{instances}", tmp_path / f"out-{instances}"
        folder.mkdir()
        out.mkdir()
        for index, dataset in enumerate(tiny_study(1, instances)):
            dataset.save_as(folder / f"{index}.dcm", enforce_file_format=True)
        return folder, out

    return write


def test_a_crash_a_hang_and_an_error_each_have_their_code_and_the_next_study_is_read(
    study: Callable[[int], tuple[Path, Path]],
) -> None:
    process = ReadingProcess(ILL, {}, timeout_s=1.0)
    try:
        found = []
        for instances in (2, 3, 4, 1):
            try:
                found.append(process.read(*study(instances)).status)
            except ReadingError as error:
                found.append(error.code)
        assert found == ["READER_CRASHED", "READER_TIMEOUT", "READER_ERROR", "read"]
    finally:
        process.stop()


def test_a_full_disk_of_the_reader_is_an_error_of_the_disk_and_the_next_study_is_read(
    study: Callable[[int], tuple[Path, Path]],
) -> None:
    process = ReadingProcess(ILL, {}, timeout_s=20)
    try:
        with pytest.raises(OSError, match="No space left") as failed:
            process.read(*study(5))
        assert "Doe" not in str(failed.value)
        assert process.read(*study(1)).status == "read"
    finally:
        process.stop()


def test_what_the_reader_has_started_ends_with_it_and_holds_up_nobody(
    study: Callable[[int], tuple[Path, Path]],
) -> None:
    process = ReadingProcess("tests.deployment.service.readers:forking", {}, timeout_s=1)
    process.start()
    try:
        began = time.monotonic()
        with pytest.raises(ReadingError, match="READER_TIMEOUT"):
            process.read(*study(2))
        assert time.monotonic() - began < 5
        assert process.read(*study(1)).status == "read"
    finally:
        process.stop()


def test_a_summary_has_vendor_verdict_and_probabilities(study: Callable[[int], tuple[Path, Path]]) -> None:
    process = ReadingProcess(FACTORY, {}, timeout_s=20)
    try:
        found = process.read(*study(1))
        assert (found.status, found.verdict, found.vendor, found.code) == ("read", "audited", "Siemens", "")
        assert found.probabilities == {"NOR": 0.75, "DCM": 0.25}
    finally:
        process.stop()


def test_a_reader_that_cannot_be_made_is_told_by_class_and_place() -> None:
    process = ReadingProcess("tests.deployment.service.readers:impossible", {}, timeout_s=5)
    with pytest.raises(ReadingError) as failed:
        process.start()
    assert (failed.value.code, failed.value.error) == ("READER_ERROR", "FileNotFoundError")
    assert "Doe" not in str(failed.value) + failed.value.place


def test_a_stopped_process_reads_no_more(study: Callable[[int], tuple[Path, Path]]) -> None:
    process = ReadingProcess(FACTORY, {}, timeout_s=5)
    process.start()
    process.stop()
    assert not process.is_ready
    with pytest.raises(ReadingError, match="STOPPING"):
        process.read(*study(1))


def test_the_reader_ends_with_its_parent(tmp_path: Path) -> None:
    """Killed outright, the parent can tell nobody; its child must not go on writing."""
    code = (
        "import sys, time; from pipeline.deployment.service.reading_process import ReadingProcess;"
        f"process = ReadingProcess({FACTORY!r}, {{'seconds': '60'}}, timeout_s=90); process.start();"
        "print(process._process.pid, flush=True);"
        f"process.read(__import__('pathlib').Path({str(tmp_path)!r}), __import__('pathlib').Path({str(tmp_path)!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.3)  # by now it reads
    parent.kill()
    parent.wait()
    parent.stdout.close()

    def is_gone() -> bool:
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state == "Z"  # ended, and nobody asked for its status yet

    wait_for(is_gone, 10)
    assert os.getpid() != child
