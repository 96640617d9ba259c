"""The DICOM node over loopback: whom it hears, for how long, and over which connections."""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

from benchmarks.tiny_studies import tiny_study
from pipeline.deployment.service.listener import client_context
from pipeline.deployment.service.settings import Limits, Tls
from pipeline.deployment.service.throttle import Throttle
from tests.deployment.service.support import events, node, send, study_key, wait_for

STORESCU = Path("/usr/bin/storescu")  # dcmtk's; pynetdicom installs one of that name, too


def test_who_is_not_on_the_list_or_calls_another_is_rejected(tmp_path: Path) -> None:
    with node(tmp_path) as found:
        assert send(found.port, tiny_study(1, 1), title="STRANGER") == [-1]
        assert send(found.port, tiny_study(1, 1), called="OTHER") == [-1]
        assert found.inbox.studies() == []
        wait_for(lambda: len(events(found.said)) == 2)
        assert [event["code"] for event in events(found.said)] == ["CALLING_AE_TITLE", "CALLED_AE_TITLE"]
        assert [event["peer"] for event in events(found.said)] == ["127.0.0.1"] * 2
        assert "STRANGER" not in found.said.getvalue(), "a stranger's title is any text"


def test_anybody_may_send_where_that_is_said(tmp_path: Path) -> None:
    with node(tmp_path, calling_ae_titles=(), allow_any=True) as found:
        assert send(found.port, tiny_study(1, 1), title="STRANGER") == [0]


def test_one_that_is_far_too_large_ends_the_association_before_it_fills_memory(tmp_path: Path) -> None:
    with node(tmp_path, limits=Limits(instance_mb=0.01, free_disk_mb=0), max_pdu=4096) as found:
        assert send(found.port, tiny_study(1, 1, pixels=3_000_000)) == [-1]
        assert send(found.port, tiny_study(1, 1)) == [0]
        assert found.count("INSTANCE_TOO_LARGE") >= 1


def test_a_peer_that_announces_gigabytes_is_cut_off_and_others_are_heard(tmp_path: Path) -> None:
    """The first bytes of an association request of 4 GB, from somebody who need not be on any list."""
    with node(tmp_path) as found:
        with socket.create_connection(("127.0.0.1", found.port), 5) as peer:
            peer.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFF0))
            peer.settimeout(5)
            assert peer.recv(64) == b""
        assert send(found.port, tiny_study(1, 1)) == [0]


def test_a_silent_peer_is_cut_off(tmp_path: Path) -> None:
    with node(tmp_path, timeout_s=1) as found, socket.create_connection(("127.0.0.1", found.port), 5) as peer:
        peer.sendall(b"\1\0")  # and then nothing
        peer.settimeout(5)
        assert peer.recv(64) == b""


def test_more_associations_than_allowed_are_rejected(tmp_path: Path) -> None:
    ae = AE("SENDER")
    with node(tmp_path, max_associations=1) as found:
        contexts = [build_context("1.2.840.10008.1.1")]
        first = ae.associate("127.0.0.1", found.port, contexts, ae_title="EVENBEAT")
        assert first.is_established
        assert ae.associate("127.0.0.1", found.port, contexts, ae_title="EVENBEAT").is_rejected
        assert first.send_c_echo().Status == 0
        first.release()


def test_a_stop_answers_no_store_and_ends(tmp_path: Path) -> None:
    with node(tmp_path) as found:
        found.receiver._stopping.set()
        assert send(found.port, tiny_study(1, 1)) == [0xA700]
        began = time.monotonic()
        found.receiver.stop(1)
        assert time.monotonic() - began < 2
        assert send(found.port, tiny_study(1, 1)) == [-1]


def test_a_sender_is_slowed_down_and_not_refused() -> None:
    """2 a second: two at once, then one every half second; another sender is not slowed down."""
    waits: list[float] = []
    throttle = Throttle(2, clock=lambda: 5.0, sleep=waits.append)
    for _ in range(5):
        throttle.wait("A")
    throttle.wait("B")
    assert waits == [0.5, 1.0, 1.5]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return _certificate(tmp_path_factory.mktemp("tls"))


def _certificate(folder: Path) -> Tls:
    """A certificate that is its own authority."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs openssl, to make a certificate")
    return Tls(folder / "cert.pem", folder / "key.pem", folder / "cert.pem")


def test_with_a_certificate_only_tls_with_a_known_certificate_is_spoken(tmp_path: Path, certificate: Tls) -> None:
    ae = AE("SENDER")
    ae.acse_timeout = 2
    contexts = [build_context("1.2.840.10008.1.1")]
    with node(tmp_path, tls=certificate, timeout_s=2) as found:

        def echo(tls: Tls | None) -> bool:
            arguments = (client_context(tls), "127.0.0.1") if tls else None
            association = ae.associate(
                "127.0.0.1", found.port, contexts, ae_title="EVENBEAT", tls_args=arguments
            )  # fmt: skip
            heard = association.is_established and association.send_c_echo().Status == 0
            association.release()
            return heard

        with socket.create_connection(("127.0.0.1", found.port)):  # shakes no hands, and keeps nobody waiting
            assert echo(certificate)
        assert not echo(None)
        assert not echo(Tls(authority=certificate.authority)), "a sender without a certificate"


def test_a_destination_whose_certificate_is_not_known_gets_nothing(tmp_path: Path, certificate: Tls) -> None:
    ae = AE("SENDER")
    ae.acse_timeout = 2
    stranger = _certificate(tmp_path)
    contexts = [build_context("1.2.840.10008.1.1")]
    with node(tmp_path, tls=replace(certificate, authority=None), timeout_s=2) as found:  # asks for no certificate
        for known, established in ((certificate, True), (stranger, False)):
            arguments = (client_context(Tls(authority=known.authority)), "127.0.0.1")
            association = ae.associate("127.0.0.1", found.port, contexts, ae_title="EVENBEAT", tls_args=arguments)
            assert association.is_established == established
            association.release()


@pytest.mark.skipif(not STORESCU.exists(), reason="needs dcmtk's storescu in /usr/bin")
def test_dcmtk_can_send(tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    tiny_study(1, 1)[0].save_as(path, enforce_file_format=True)
    with node(tmp_path) as found:
        command = [STORESCU, "-aet", "SENDER", "-aec", "EVENBEAT", "127.0.0.1", str(found.port), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "Store Failed" not in done.stdout + done.stderr
        assert len(found.inbox.files(study_key(1))) == 1
