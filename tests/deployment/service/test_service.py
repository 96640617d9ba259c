"""The whole service: from a scanner's C-STORE to the PACS, through late instances, crashes, erasure and shutdown."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from benchmarks.tiny_studies import digest_of, study_uid, tiny_study
from pipeline.deployment.service.identity import study_key_of
from tests.deployment.service.support import Pacs, events, results, running, send, settings, wait_for

KEY = study_key_of(study_uid(1))


def test_a_study_is_received_read_and_sent(tmp_path: Path) -> None:
    study = tiny_study(1, 5)
    with Pacs().listening() as pacs, running(settings(tmp_path, destination=(pacs.destination(),))) as (service, said):
        assert send(service.ports[0], study) == [0] * 5
        wait_for(lambda: pacs.received)
        assert results(tmp_path)[f"{KEY}/1"]["digest"] == digest_of(d.SOPInstanceUID for d in study)
        ready = urllib.request.urlopen(f"http://127.0.0.1:{service.ports[1]}/readyz", timeout=5)
        assert all(json.load(ready).values())
        text = urllib.request.urlopen(f"http://127.0.0.1:{service.ports[1]}/metrics", timeout=5).read().decode()
        wanted = 'evenbeat_studies_total{code="",status="read",vendor="Siemens",verdict="audited"} 1.0'
        assert wanted in text
        assert 'evenbeat_drift_studies{measure="predicted_class",vendor="Siemens"} 1.0' in text
        assert 'evenbeat_studies_now{state="done"} 1.0' in text
    told = [event["event"] for event in events(said)]
    assert told[0] == "started"
    assert {"read", "delivered"} <= set(told)
    assert told[-1] == "stopped"
    assert not list((tmp_path / "work").iterdir())


def test_late_instances_make_a_second_reading_of_all(tmp_path: Path) -> None:
    study = tiny_study(1, 5)
    with Pacs().listening() as pacs, running(settings(tmp_path, destination=(pacs.destination(),))) as (service, _):
        send(service.ports[0], study[:3])
        wait_for(lambda: f"{KEY}/1" in results(tmp_path))
        send(service.ports[0], study[3:])
        wait_for(lambda: f"{KEY}/2" in results(tmp_path))
        wait_for(lambda: len(set(pacs.received)) == 2)
    assert {key: found["instances"] for key, found in results(tmp_path).items()} == {f"{KEY}/1": 3, f"{KEY}/2": 5}


def test_a_corrected_patient_reaches_the_pacs_though_all_uids_are_the_same(tmp_path: Path) -> None:
    """The RIS was corrected and the study sent again; the report's UID is made of the images'."""
    study = tiny_study(1, 1)
    with Pacs().listening() as pacs, running(settings(tmp_path, destination=(pacs.destination(),))) as (service, _):
        send(service.ports[0], study)
        wait_for(lambda: len(pacs.received) == 1)
        study[0].PatientID = "CORRECTED"
        send(service.ports[0], study)
        wait_for(lambda: len(pacs.received) == 2)
        assert len(set(pacs.received)) == 1
        (report,) = (tmp_path / "results" / KEY / "2").glob("*.dcm")
        assert dcmread(report).PatientID == "CORRECTED"


@pytest.mark.slow
def test_instances_that_come_while_a_study_is_read_are_read_with_it(tmp_path: Path) -> None:
    study = tiny_study(1, 4)
    with running(settings(tmp_path), seconds="1.2") as (service, said):
        send(service.ports[0], study[:2])
        wait_for(lambda: service._store.counts()["processing"])
        send(service.ports[0], study[2:])
        wait_for(lambda: results(tmp_path))
    assert [found["instances"] for found in results(tmp_path).values()] == [4]
    assert "grown" in {event["event"] for event in events(said)}


@pytest.mark.slow
def test_studies_wait_while_there_is_no_reader(tmp_path: Path) -> None:
    """A package that cannot be loaded any more is no study's fault: nothing is parked."""
    with running(settings(tmp_path)) as (service, said):
        service._reader._command[-2] = "tests.deployment.service.readers:impossible"
        service._reader.kill()
        assert send(service.ports[0], tiny_study(1, 1)) == [0]
        wait_for(lambda: [e for e in events(said) if e["event"] == "reader_failed"])
        wait_for(lambda: service._store.counts()["waiting"] == 1)
        assert not service._ready()["reader"]


def test_a_study_without_an_image_is_refused_and_nothing_is_sent(tmp_path: Path) -> None:
    (report,) = tiny_study(1, 1)
    report.Modality = "SR"
    with Pacs().listening() as pacs, running(settings(tmp_path, destination=(pacs.destination(),))) as (service, said):
        send(service.ports[0], [report])
        wait_for(lambda: [e for e in events(said) if e["event"] == "refused"])
        assert service._deliveries.counts() == {}
    assert [e["code"] for e in events(said) if e["event"] == "refused"] == ["NOT_AN_IMAGE"]


@pytest.mark.slow
def test_a_study_that_crashes_the_reader_is_parked_and_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.deployment.service.study_rows.FIRST_WAIT_S", 0.2)
    with running(settings(tmp_path), fails=KEY) as (service, said):
        send(service.ports[0], tiny_study(1, 2))
        send(service.ports[0], tiny_study(2, 2))
        wait_for(lambda: service._store.counts()["parked"] and service._store.counts()["done"], 60)
    (parked,) = [event for event in events(said) if event["event"] == "parked"]
    assert (parked["study_key"], parked["code"], parked["count"]) == (KEY, "READER_CRASHED", 3)
    assert len(service._inbox.files(KEY)) == 2, "it is kept"


def test_what_was_acknowledged_before_a_crash_is_found_without_its_row(tmp_path: Path) -> None:
    """The files are the truth: the database is lost, as with a broken disk."""
    found = settings(tmp_path, reading=replace(settings(tmp_path).reading, quiet_s=60))
    with running(found) as (service, _):
        assert send(service.ports[0], tiny_study(1, 3)) == [0, 0, 0]
    for path in tmp_path.glob("service.sqlite3*"):
        path.unlink()
    with running(settings(tmp_path)) as (_, said):
        wait_for(lambda: results(tmp_path))
    assert results(tmp_path)[f"{KEY}/1"]["instances"] == 3
    assert ("recovered_found", 1) in {(event["event"], event.get("count")) for event in events(said)}
