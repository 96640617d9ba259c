"""An instance is on the disk before anybody says so, under names that no header chooses."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from benchmarks.tiny_studies import study_uid, tiny_study
from pipeline.deployment.service.identity import (
    Identity,
    UnacceptableError,
    file_meta,
    read_identity,
    sop_key_of,
    study_key_of,
)
from pipeline.deployment.service.inbox import Inbox, Kept

A, B = Identity("a" * 16, "1" * 32), Identity("a" * 16, "2" * 32)


def encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def keep(inbox: Inbox, identity: Identity, data: bytes) -> Kept:
    with inbox.part(data) as part:
        return inbox.place(part, identity)


def test_bytes_are_synced_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fsync of the file, rename, fsync of its folder; a new study's own name is synced, too."""
    inbox = Inbox(tmp_path)
    calls: list[str] = []
    sync, rename = os.fsync, Path.replace

    def record_sync(descriptor: int) -> None:
        calls.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name.rpartition(".")[2])
        sync(descriptor)

    def record_rename(self: Path, target: Path) -> Path:
        calls.append(f"rename to {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_rename)
    with inbox.part(b"one") as part:
        inbox.place(part, A, before=lambda _: calls.append("told"))
    folder, root = A.study_key, tmp_path.name.rpartition(".")[2]
    assert calls == ["told", f"sync {root}", "sync part", f"rename to {A.sop_key}.dcm", f"sync {folder}"]
    calls.clear()
    assert keep(inbox, A, b"one") is Kept.REPEATED
    assert calls == ["sync dcm", f"sync {folder}"], "a sender that asks again is told only what is certain"


def test_the_same_instance_again_changes_nothing_and_another_of_its_name_takes_its_place(tmp_path: Path) -> None:
    inbox, told = Inbox(tmp_path), list[int]()
    assert keep(inbox, A, b"one") is Kept.NEW
    assert keep(inbox, B, b"two") is Kept.NEW
    with inbox.part(b"one") as part:
        assert inbox.place(part, A, before=told.append) is Kept.REPEATED
    assert not told
    with inbox.part(b"other") as part:
        assert inbox.place(part, A, before=told.append) is Kept.REPLACED
    assert told == [8] == [inbox.size(A.study_key)], "bytes of the study with it, without what it replaces"
    assert [path.read_bytes() for path in inbox.files(A.study_key)] == [b"other", b"two"]


def test_a_snapshot_stays_as_it_was(tmp_path: Path) -> None:
    inbox, seen = Inbox(tmp_path / "inbox"), tmp_path / "seen"
    keep(inbox, A, b"one")
    assert inbox.snapshot(A.study_key, seen) == 1
    keep(inbox, A, b"other")
    keep(inbox, B, b"late")
    assert [path.read_bytes() for path in seen.iterdir()] == [b"one"]


def test_a_file_system_without_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    inbox, seen = Inbox(tmp_path / "inbox"), tmp_path / "seen"
    keep(inbox, A, b"one")
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert inbox.snapshot(A.study_key, seen) == 1
    assert (seen / f"{A.sop_key}.dcm").read_bytes() == b"one"


def test_what_was_not_placed_goes(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with pytest.raises(KeyError), inbox.part(b"one"):
        raise KeyError
    assert not list((tmp_path / ".incoming").iterdir())
    (tmp_path / ".incoming" / "left.part").write_bytes(b"half")
    inbox.sweep()
    assert not list((tmp_path / ".incoming").iterdir())
    assert inbox.studies() == []


def test_sizes_are_counted_and_counted_again_after_a_start(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    keep(inbox, A, b"123")
    keep(inbox, B, b"12345")
    assert inbox.size(A.study_key) == Inbox(tmp_path).size(A.study_key) == 8
    assert inbox.studies() == [A.study_key]


def test_our_file_meta_is_what_pydicom_reads() -> None:
    """An independent reader; a UID of odd and one of even length."""
    meta = file_meta("1.2.840.10008.5.1.4.1.1.4", "1.2.3", "1.2.840.10008.1.2.1")
    data = encoded(tiny_study(1, 1)[0])
    body = data[132 + 12 + int.from_bytes(data[140:144], "little") :]
    found = dcmread(BytesIO(meta + body))
    assert found.file_meta.FileMetaInformationGroupLength == len(meta) - 132 - 12
    assert (found.file_meta.MediaStorageSOPInstanceUID, found.file_meta.TransferSyntaxUID) == (
        "1.2.3", "1.2.840.10008.1.2.1",
    )  # fmt: skip
    assert UID(found.file_meta.ImplementationClassUID).is_valid
    assert found.StudyInstanceUID == study_uid(1)


@pytest.mark.parametrize("uid", ["", "../../etc/passwd", "1.2.3\n", "1" * 65, "1.2.٣"])
def test_what_is_no_uid_gets_no_file(uid: str) -> None:
    with pytest.raises(UnacceptableError, match="NO_IDENTITY"):
        file_meta("1.2.840.10008.5.1.4.1.1.4", uid, "1.2.840.10008.1.2.1")


def test_identity_is_read_without_the_pixels(tmp_path: Path) -> None:
    dataset = tiny_study(4, 1)[0]
    path = tmp_path / "x"
    path.write_bytes(encoded(dataset)[:-40])  # pixels that are cut are another's business
    assert read_identity(path) == Identity(study_key_of(study_uid(4)), sop_key_of(dataset.SOPInstanceUID))
    for announced in ({"sop_class": "1.2.840.10008.5.1.4.1.1.2"}, {"sop_instance": "1.2.3"}):
        with pytest.raises(UnacceptableError, match="MISMATCH"):
            read_identity(path, **announced)


def test_hostile_bytes_are_refused_with_a_code(tmp_path: Path) -> None:
    """Every third beginning of a file, every third byte turned over: an identity or a code, never another error."""
    whole = encoded(tiny_study(1, 1)[0])
    path = tmp_path / "x"
    cut = [whole[:n] for n in range(0, 420, 3)]
    turned = [whole[:n] + bytes([whole[n] ^ 0xFF]) + whole[n + 1 :] for n in range(128, 420, 3)]
    codes = set()
    for data in (*cut, *turned):
        path.write_bytes(data)
        try:
            read_identity(path)
        except UnacceptableError as error:
            codes.add(error.code)
    assert codes == {"UNREADABLE_HEADER", "NO_IDENTITY"}


@pytest.mark.parametrize("uid", ["1.2\\3.4", "a.b", "../x", " "])
def test_a_study_uid_of_another_form_is_refused(uid: str, tmp_path: Path) -> None:
    dataset = tiny_study(1, 1)[0]
    dataset["StudyInstanceUID"]._value = uid
    (tmp_path / "x").write_bytes(encoded(dataset))
    with pytest.raises(UnacceptableError, match="NO_IDENTITY"):
        read_identity(tmp_path / "x")
