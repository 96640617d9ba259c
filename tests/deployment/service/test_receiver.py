"""The DICOM node over loopback: what it takes, what it answers."""

from __future__ import annotations

import errno
import io
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import UID, JPEG2000Lossless, generate_uid
from pynetdicom import AE
from pynetdicom.presentation import build_context

from benchmarks.tiny_studies import tiny_study
from pipeline.deployment.service.identity import sop_key_of
from pipeline.deployment.service.inbox import Inbox
from pipeline.deployment.service.settings import Limits
from pipeline.deployment.service.study_rows import Claim, State
from tests.deployment.service.support import events, node, send, study_key
from tests.dicom.failing_disk import CANARY, failing_disk

JPEG_XL = UID("1.2.840.10008.1.2.4.110")


def test_what_is_acknowledged_is_in_the_inbox_byte_for_byte(tmp_path: Path) -> None:
    """The same data set as was sent, and a row that says that it is being received."""
    datasets = tiny_study(1, 3) + tiny_study(2, 1)
    with node(tmp_path) as found:
        assert send(found.port, datasets) == [0, 0, 0, 0]
        assert found.store.counts()[State.RECEIVING] == 2
        assert [len(found.inbox.files(study_key(n))) for n in (1, 2)] == [3, 1]
        from pydicom import dcmread

        path = found.inbox.root / study_key(1) / f"{sop_key_of(datasets[0].SOPInstanceUID)}.dcm"
        assert dcmread(path) == datasets[0]
        assert found.count("new") == 4


def test_below_the_disk_floor_the_sender_is_told_to_try_again(tmp_path: Path) -> None:
    with node(tmp_path, limits=Limits(free_disk_mb=10), free=10 << 20) as found:
        assert send(found.port, tiny_study(1, 1)) == [0xA700]
        assert found.inbox.studies() == []
        assert events(found.said)[0]["code"] == "DISK_FULL"


def test_an_instance_that_is_too_large_is_refused_and_the_next_is_taken(tmp_path: Path) -> None:
    large, small = tiny_study(1, 1, pixels=15_000), tiny_study(1, 1, first=1)
    with node(tmp_path, limits=Limits(instance_mb=0.01, free_disk_mb=0)) as found:
        assert send(found.port, large + small) == [0xC003, 0]


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
        assert found.inbox.too_large() == [study_key(1)]


def test_a_study_whose_mark_cannot_be_written_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender is told that it is too large when that is on the disk, and not before."""
    mkdir = Path.mkdir

    def full(path: Path, **options: Any) -> None:
        if path.name == "too-large":
            raise OSError(errno.ENOSPC, "No space left on device")
        mkdir(path, **options)

    with node(tmp_path, limits=Limits(study_mb=0.01, free_disk_mb=0)) as found:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "mkdir", full)
            assert send(found.port, tiny_study(1, 1, pixels=15_000)) == [0xA700]
        assert found.store.counts()[State.PARKED] == 0
        assert send(found.port, tiny_study(1, 1, pixels=15_000)) == [0xC004]


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
        assert len(found.inbox.files(study_key(1))) == 1
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


def test_an_instance_that_the_machine_cannot_read_back_is_asked_for_again(tmp_path: Path) -> None:
    """A damaged header is refused for good; a disk that fails while it is read is not the instance's fault."""
    with node(tmp_path) as found:
        with failing_disk(errno.EMFILE, after=200):
            assert send(found.port, tiny_study(1, 1)) == [0xA700]
        assert CANARY not in found.said.getvalue()
        assert found.inbox.studies() == []
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
        assert len(found.inbox.files(study_key(1))) == 40
        assert found.inbox.size(study_key(1)) == Inbox(found.inbox.root).size(study_key(1))
