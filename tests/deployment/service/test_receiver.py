"""The DICOM node over loopback: whom it hears, what it takes, what it answers."""

from __future__ import annotations

import io
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import UID, JPEG2000Lossless, generate_uid
from pynetdicom import AE
from pynetdicom.presentation import build_context

from benchmarks.tiny_studies import study_uid, tiny_study
from pipeline.deployment.service.database import Database
from pipeline.deployment.service.identity import sop_key_of, study_key_of
from pipeline.deployment.service.inbox import Inbox
from pipeline.deployment.service.listener import client_context
from pipeline.deployment.service.log import Log
from pipeline.deployment.service.metrics import Metrics
from pipeline.deployment.service.receiver import Receiver
from pipeline.deployment.service.settings import Dicom, Limits, Tls
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import Claim, State
from pipeline.deployment.service.throttle import Throttle
from tests.deployment.service.support import events, send, wait_for

PLENTY = 1 << 50
JPEG_XL = UID("1.2.840.10008.1.2.4.110")
STORESCU = Path("/usr/bin/storescu")  # dcmtk's; pynetdicom installs one of that name, too


class Node:
    """A receiver with its inbox and store, and nothing that reads."""

    def __init__(self, tmp_path: Path, limits: Limits, dicom: Dicom, tls: Tls, free: int) -> None:
        self.inbox, self.store = Inbox(tmp_path / "inbox"), Store(Database(tmp_path / "db"))
        self.metrics, self.said = Metrics(), io.StringIO()
        self.receiver = Receiver(
            self.inbox, self.store, lambda: free,
            settings=dicom, limits=limits, tls=tls, metrics=self.metrics, log=Log(self.said),
        )  # fmt: skip
        self.receiver.thread.start()
        self.port = self.receiver.port

    def count(self, result: str) -> float:
        return self.metrics.registry.get_sample_value("evenbeat_instances_total", {"result": result}) or 0.0


@contextmanager
def node(
    tmp_path: Path, *, limits: Limits | None = None, tls: Tls | None = None, free: int = PLENTY, **dicom: Any
) -> Iterator[Node]:
    settings = Dicom(**({"port": 0, "calling_ae_titles": ("SENDER",), "timeout_s": 5} | dicom))
    found = Node(tmp_path, limits or Limits(free_disk_mb=0), settings, tls or Tls(), free)
    try:
        yield found
    finally:
        found.receiver.stop(1)
        found.store.database.close()


def key(number: int) -> str:
    return study_key_of(study_uid(number))


def test_what_is_acknowledged_is_in_the_inbox_byte_for_byte(tmp_path: Path) -> None:
    """The same data set as was sent, and a row that says that it is being received."""
    datasets = tiny_study(1, 3) + tiny_study(2, 1)
    with node(tmp_path) as found:
        assert send(found.port, datasets) == [0, 0, 0, 0]
        assert found.store.counts()[State.RECEIVING] == 2
        assert [len(found.inbox.files(key(n))) for n in (1, 2)] == [3, 1]
        from pydicom import dcmread

        path = found.inbox.root / key(1) / f"{sop_key_of(datasets[0].SOPInstanceUID)}.dcm"
        assert dcmread(path) == datasets[0]
        assert found.count("new") == 4


def test_who_is_not_on_the_list_or_calls_another_is_rejected(tmp_path: Path) -> None:
    with node(tmp_path) as found:
        assert send(found.port, tiny_study(1, 1), title="STRANGER") == [-1]
        assert send(found.port, tiny_study(1, 1), called="OTHER") == [-1]
        assert found.inbox.studies() == []
        wait_for(lambda: len(events(found.said)) == 2)
        assert [event["code"] for event in events(found.said)] == ["CALLING_AE_TITLE", "CALLED_AE_TITLE"]
        assert "STRANGER" not in found.said.getvalue(), "a stranger's title is any text"


def test_anybody_may_send_where_that_is_said(tmp_path: Path) -> None:
    with node(tmp_path, calling_ae_titles=(), allow_any=True) as found:
        assert send(found.port, tiny_study(1, 1), title="STRANGER") == [0]


def test_below_the_disk_floor_the_sender_is_told_to_try_again(tmp_path: Path) -> None:
    with node(tmp_path, limits=Limits(free_disk_mb=10), free=10 << 20) as found:
        assert send(found.port, tiny_study(1, 1)) == [0xA700]
        assert found.inbox.studies() == []
        assert events(found.said)[0]["code"] == "DISK_FULL"


def test_an_instance_that_is_too_large_is_refused_and_the_next_is_taken(tmp_path: Path) -> None:
    large, small = tiny_study(1, 1, pixels=15_000), tiny_study(1, 1, first=1)
    with node(tmp_path, limits=Limits(instance_mb=0.01, free_disk_mb=0)) as found:
        assert send(found.port, large + small) == [0xC003, 0]


def test_one_that_is_far_too_large_ends_the_association_before_it_fills_memory(tmp_path: Path) -> None:
    with node(tmp_path, limits=Limits(instance_mb=0.01, free_disk_mb=0), max_pdu=4096) as found:
        assert send(found.port, tiny_study(1, 1, pixels=3_000_000)) == [-1]
        assert send(found.port, tiny_study(1, 1)) == [0]
        assert found.count("INSTANCE_TOO_LARGE") >= 1


def test_a_study_that_would_be_too_large_is_parked(tmp_path: Path) -> None:
    with node(tmp_path, limits=Limits(study_mb=0.02, free_disk_mb=0)) as found:
        statuses = send(found.port, tiny_study(1, 3, pixels=9000))
        assert statuses == [0, 0, 0xC004]
        assert found.store.counts()[State.PARKED] == 1
        assert send(found.port, tiny_study(2, 1, pixels=9000)) == [0], "other studies go on"


def test_a_study_that_is_too_large_takes_nothing_further_and_is_never_read_in_part(tmp_path: Path) -> None:
    """Its first instance alone is too large; the next ones would fit."""
    with node(tmp_path, limits=Limits(study_mb=0.01, free_disk_mb=0)) as found:
        assert send(found.port, tiny_study(1, 1, pixels=15_000) + tiny_study(1, 2, first=1)) == [0xC004] * 3
        found.store.ripen(0)
        assert found.store.claim() is None
        assert found.inbox.studies() == []


def test_a_study_near_the_limit_may_be_sent_again_and_corrected(tmp_path: Path) -> None:
    """Sent again as it was, and with other pixels: it is no larger than before."""
    with node(tmp_path, limits=Limits(study_mb=0.02, free_disk_mb=0)) as found:
        study = tiny_study(1, 2, pixels=9000)
        assert send(found.port, study + study) == [0] * 4
        for dataset in study:
            dataset.PixelData = b"\1" * 9000
        assert send(found.port, study) == [0] * 2
        assert found.count("replaced") == 2
        assert found.store.counts()[State.PARKED] == 0


def test_a_repeated_instance_is_acknowledged_and_makes_no_second_reading(tmp_path: Path) -> None:
    with node(tmp_path) as found:
        assert send(found.port, tiny_study(1, 1)) == [0]
        found.store.ripen(0)
        claim = found.store.claim()
        assert claim is not None
        assert found.store.finish(claim, State.DONE)
        assert send(found.port, tiny_study(1, 1)) == [0]
        assert found.store.counts()[State.DONE] == 1
        assert found.count("repeated") == 1


def test_a_result_that_comes_back_from_the_pacs_is_not_read(tmp_path: Path) -> None:
    back = tiny_study(1, 2)
    with node(tmp_path) as found:
        send(found.port, back[:1])
        found.store.ripen(0)
        claim = found.store.claim()
        assert isinstance(claim, Claim)
        found.store.finish(claim, State.DONE, outputs={sop_key_of(back[1].SOPInstanceUID): "1"})
        assert send(found.port, back[1:]) == [0]
        assert len(found.inbox.files(key(1))) == 1
        assert found.store.counts()[State.DONE] == 1


def test_private_classes_and_every_syntax_that_can_be_read_are_taken(tmp_path: Path) -> None:
    """A vendor's private class; JPEG 2000, which can be decoded, and JPEG XL, which cannot."""
    private, compressed, unknown = tiny_study(1, 3)
    private.SOPClassUID = private.file_meta.MediaStorageSOPClassUID = "1.3.46.670589.11.0.0.12.4"
    for dataset, syntax in ((compressed, JPEG2000Lossless), (unknown, JPEG_XL)):
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\4\0\0\0abcd\xfe\xff\xdd\xe0\0\0\0\0"
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    with node(tmp_path) as found:
        assert send(found.port, [private]) == [0]
        assert send(found.port, [compressed]) == [0]
        assert send(found.port, [unknown]) == [-1], "its sender may convert it"


def test_a_dataset_that_is_not_what_it_says_gets_a_status_and_the_node_stays(tmp_path: Path) -> None:
    """No study; no UID at all; another instance than announced; nothing but noise."""
    ae = AE("SENDER")
    ae.dimse_timeout = 5
    with node(tmp_path) as found:
        association = ae.associate(
            "127.0.0.1", found.port, [build_context("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1")],
            ae_title="EVENBEAT",
        )  # fmt: skip
        bodies = (b"", b"\x08\x00\x05\x00CS\x02\x00A ", b"\xff" * 400, bytes(400), b"\x08\x00\x16\x00UI\xff\xff1.2")
        statuses = [raw_store(association, body) for body in bodies]
        association.release()
        assert [status & 0xF000 for status in statuses] == [0xC000] * 5
        assert found.inbox.studies() == []
        assert send(found.port, tiny_study(1, 1)) == [0]


def raw_store(association: Any, body: bytes) -> int:
    """Send bytes as a data set."""
    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid()
    request.DataSet = io.BytesIO(body or b"\0")
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return int(answer.Status)


def test_an_error_of_the_disk_is_a_status_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/secret/Doe^Jane")

    with node(tmp_path) as found:
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.deployment.service.inbox.sync_file", full)
            assert send(found.port, tiny_study(1, 1)) == [0xA700]
        assert found.inbox.studies() == []
        assert found.store.counts()[State.RECEIVING] == 1, "announced before it is placed"
        assert "Doe" not in found.said.getvalue()
        assert send(found.port, tiny_study(1, 1)) == [0]


def test_a_study_is_not_read_while_an_instance_is_placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes longer than the quiet time, and then fails: the instance is in the inbox, and is read."""
    claims: list[Claim | None] = []

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with node(tmp_path) as found:
        place = found.inbox.place

        def slow_place(*arguments: Any, before: Any) -> Any:
            def announce(size: int) -> None:
                before(size)
                found.store.ripen(0)
                claims.append(found.store.claim())

            place(*arguments, before=announce)
            full()

        with monkeypatch.context() as patch:
            patch.setattr(found.inbox, "place", slow_place)
            assert send(found.port, tiny_study(1, 1)) == [0xA700]
        assert claims == [None]
        assert send(found.port, tiny_study(1, 1)) == [0]
        assert found.count("repeated") == 1
        found.store.ripen(0)
        claim = found.store.claim()
        assert claim is not None
        assert found.inbox.snapshot(claim.study_key, tmp_path / "seen") == 1


def test_several_senders_store_into_one_study_at_the_same_time(tmp_path: Path) -> None:
    with node(tmp_path) as found:
        answers: list[int] = []

        def part(number: int) -> None:
            answers.extend(send(found.port, tiny_study(1, 10, first=10 * number)))

        threads = [threading.Thread(target=part, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [0] * 40
        assert len(found.inbox.files(key(1))) == 40
        assert found.inbox.size(key(1)) == Inbox(found.inbox.root).size(key(1))


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
    """A certificate that is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
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


@pytest.mark.skipif(not STORESCU.exists(), reason="needs dcmtk's storescu in /usr/bin")
def test_dcmtk_can_send(tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    tiny_study(1, 1)[0].save_as(path, enforce_file_format=True)
    with node(tmp_path) as found:
        command = [STORESCU, "-aet", "SENDER", "-aec", "EVENBEAT", "127.0.0.1", str(found.port), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "Store Failed" not in done.stdout + done.stderr
        assert len(found.inbox.files(key(1))) == 1
