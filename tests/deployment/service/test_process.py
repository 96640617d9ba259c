"""The service as a process: what it says, how it ends, what is left when it is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from benchmarks.hospital_crash import free_port
from benchmarks.tiny_studies import study_uid, tiny_study
from pipeline.cli import main
from pipeline.deployment.service.identity import study_key_of
from tests.deployment.service.support import results, running, send, settings, wait_for

KEY = study_key_of(study_uid(1))


@contextmanager
def process(state: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The service in a process of its own, and its DICOM port."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.tiny_service", str(state), "--port", str(port), *options]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert started.stdout is not None
    try:
        assert json.loads(started.stdout.readline())["event"] == "started"
        yield started, port
    finally:
        with suppress(ProcessLookupError):
            started.kill()
        started.wait()
        started.stdout.close()


def canaries(number: int) -> tuple[list[str], Dataset]:
    """A study with a name in every element that can hold text, and the names."""
    words = [f"Canary{number}x{index}" for index in range(9)]
    dataset = tiny_study(number, 1)[0]
    dataset.PatientName, dataset.PatientID = f"{words[0]}^{'fails' if number % 2 else 'reads'}", words[1]
    dataset.AccessionNumber, dataset.InstitutionName, dataset.SeriesDescription = words[2:5]
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.StationName = words[5:8]
    dataset.PatientBirthDate = words[8]
    return [*words, str(dataset.StudyInstanceUID), str(dataset.SOPInstanceUID)], dataset


@pytest.mark.filterwarnings("ignore::UserWarning")  # a date that is a canary
def test_no_log_page_file_name_or_database_tells_of_a_patient(tmp_path: Path) -> None:
    """Names in every element, a reader that prints and raises them, a stranger's title, a path that is a name."""
    http = free_port()
    options = ["--reader", "tests.deployment.service.readers:leaking", "--http-port", str(http), "--quiet", "0.3"]
    options += ["--attempts", "1"]
    words: list[str] = ["CANARYSTRANGER"]
    with process(tmp_path, *options) as (service, port):
        for number in (1, 2):
            said, dataset = canaries(number)
            words += said
            assert send(port, [dataset]) == [0]
        assert send(port, tiny_study(3, 1), title="CANARYSTRANGER") == [-1]
        wait_for(lambda: results(tmp_path))
        page = ""

        def parked() -> bool:
            nonlocal page
            page = urllib.request.urlopen(f"http://127.0.0.1:{http}/metrics", timeout=5).read().decode()
            return 'state="parked"} 1.0' in page

        wait_for(parked)
        found = os.walk(tmp_path)  # which minds nothing that goes meanwhile
        names = "\n".join(f"{folder}/{name}" for folder, _, files in found for name in (*files, ""))
        service.send_signal(signal.SIGTERM)
        assert service.wait(10) == 0
        told = service.stdout.read() if service.stdout else ""
    database = b"".join(path.read_bytes() for path in tmp_path.glob("service.sqlite3*")).decode("latin-1")
    assert '"code": "READER_ERROR"' in told
    assert "ValueError" in told
    names = re.sub(r"\S*results/\S*\.dcm", "", names)  # a DICOM object's name is made of its UIDs, as routers want it
    for word in words:
        for place, text in (("log", told), ("metrics", page), ("names", names), ("database", database)):
            assert word not in text, f"{word} in {place}"
    assert all(json.loads(line) for line in told.splitlines()), "and nothing but JSON lines"


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_it_with_0_and_the_study_that_was_read_is_put_back(number: int, tmp_path: Path) -> None:
    with process(tmp_path, "--seconds", "30", "--quiet", "0.2") as (service, port):
        assert send(port, tiny_study(1, 2)) == [0, 0]
        wait_for(lambda: list((tmp_path / "work").iterdir()))
        began = time.monotonic()
        service.send_signal(number)
        assert service.wait(12) == 0
        assert time.monotonic() - began < 10
    with running(settings(tmp_path)) as (again, said):
        wait_for(lambda: again._store.counts()["done"])
    assert "parked" not in said.getvalue()


@pytest.mark.slow
def test_a_signal_lets_a_study_that_is_nearly_read_be_finished(tmp_path: Path) -> None:
    with process(tmp_path, "--seconds", "1", "--quiet", "0.2") as (service, port):
        send(port, tiny_study(1, 2))
        wait_for(lambda: list((tmp_path / "work").iterdir()))
        service.send_signal(signal.SIGTERM)
        assert service.wait(12) == 0
    assert results(tmp_path)[f"{KEY}/1"]["instances"] == 2


@pytest.mark.slow
def test_silent_peers_on_both_sides_do_not_hold_up_the_end(tmp_path: Path) -> None:
    """A PACS that takes the connection and says nothing; a sender that stops within a PDU."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        options = ["--pacs-port", str(mute.getsockname()[1]), "--quiet", "0.2"]
        with process(tmp_path, *options) as (service, port), socket.create_connection(("127.0.0.1", port)) as peer:
            send(port, tiny_study(1, 1))
            peer.sendall(b"\1\0\0\0\1\0half")
            mute.accept()
            began = time.monotonic()
            service.send_signal(signal.SIGTERM)
            assert service.wait(12) == 0
            assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_signal_ends_it_though_its_reader_hangs_at_the_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.tiny_service", str(tmp_path)]
    command += ["--reader", "tests.deployment.service.readers:hanging"]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        wait_for((tmp_path / "service.sqlite3").exists)
        time.sleep(1.5)  # by now it waits for the reader
        began = time.monotonic()
        service.send_signal(signal.SIGTERM)
        assert service.wait(20) == 0
        assert time.monotonic() - began < 10
    finally:
        service.kill()
        told, _ = service.communicate()
    assert [json.loads(line)["event"] for line in told.splitlines()] == ["stopped"]


@pytest.mark.slow
def test_a_reader_that_cannot_be_made_ends_the_service_with_1_and_no_text(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.tiny_service", str(tmp_path)]
    command += ["--reader", "tests.deployment.service.readers:impossible"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    first = json.loads(done.stdout.splitlines()[0])
    assert (first["event"], first["error"]) == ("reader_failed", "FileNotFoundError")
    assert "Doe" not in done.stdout + done.stderr


@pytest.mark.slow
def test_nothing_is_lost_when_it_is_killed_again_and_again() -> None:
    command = [sys.executable, "-m", "benchmarks.hospital_crash", "--kills", "10", "--studies", "40"]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "acknowledged: 240 instances of 40 studies" in done.stdout
    assert "lost: 0 instances, 0 readings, 0 reports" in done.stdout


def test_wrong_settings_end_with_2_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evenbeat.toml"
    path.write_text('state = "/s"\n[dicm]\n')
    assert main(["serve", "--config", str(path), "--package", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "evenbeat: dicm is no setting; did you mean dicom?\n"
