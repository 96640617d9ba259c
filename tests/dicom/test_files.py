"""Which files belong to which study."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.dicom.frames import studies_in
from tests.dicom.dicom_images import element, file_of, mr_image, save


def test_studies_are_told_by_content_in_any_folders_and_under_any_names(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "a").mkdir()
    one = [
        save(mr_image(), tmp_path / "b" / "deep" / "IM1"),
        save(mr_image(InstanceNumber=2), tmp_path / "b" / "x.txt"),
    ]
    two = [save(mr_image(StudyInstanceUID="1.9"), tmp_path / "a" / "1.jpg")]
    studies, others = studies_in(tmp_path)
    assert studies == {"1.9": two, "1.2.3": one}
    assert list(studies) == ["1.9", "1.2.3"]
    assert others == 0


def test_what_is_no_dicom_is_counted_and_a_dicomdir_is_neither(tmp_path: Path) -> None:
    """A DICOMDIR lists files; it belongs to no study, and nothing is wrong with it."""
    (tmp_path / "readme.txt").write_text("PATIENT LIST")
    (tmp_path / "empty").touch()
    (tmp_path / "zeros").write_bytes(bytes(100_000))
    (tmp_path / "cut").write_bytes(
        file_of(element("SOPClassUID", b"1.2.840"), element("StudyInstanceUID", b"1.2.3"))[:-3]
    )
    directory = bytes(128) + b"DICM" + element(0x00020002, b"1.2.840.10008.1.3.10", "UI")
    directory += element(0x00020010, b"1.2.840.10008.1.2.1", "UI") + element(0x00041130, b"A DISC", "CS")
    (tmp_path / "DICOMDIR").write_bytes(directory)
    save(mr_image(StudyInstanceUID=None), tmp_path / "nameless")
    path = save(mr_image(), tmp_path / "image")
    assert studies_in(tmp_path) == ({"1.2.3": [path]}, 5)


def test_links_do_not_hang_it_and_no_file_comes_twice(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    path = save(mr_image(), folder / "image")
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    (folder / "again").symlink_to(path)
    (folder / "nowhere").symlink_to(tmp_path / "missing")
    os.mkfifo(folder / "pipe")
    studies, others = studies_in(tmp_path)
    assert ([len(files) for files in studies.values()], others) == ([1], 0)


def test_progress_is_told_for_every_file(tmp_path: Path) -> None:
    save(mr_image(), tmp_path / "image")
    (tmp_path / "other").touch()
    told: list[int] = []
    studies_in(tmp_path, lambda: told.append(1))
    assert len(told) == 2


def test_one_file_may_be_given_and_a_missing_folder_is_refused(tmp_path: Path) -> None:
    path = save(mr_image(), tmp_path / "image")
    assert studies_in(path) == ({"1.2.3": [path]}, 0)
    with pytest.raises(FileNotFoundError, match="missing"):
        studies_in(tmp_path / "missing")


@pytest.mark.real_data
def test_three_real_studies_are_told_apart(real_data: Path) -> None:
    studies, others = studies_in(real_data / "sunnybrook" / "dicoms")
    assert [len(files) for files in studies.values()] == [240, 260, 200]
    assert others == 0
