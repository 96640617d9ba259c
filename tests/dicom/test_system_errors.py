"""A machine that fails is no reason to refuse a study; a file that cannot be read is."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from pipeline.dicom.frames import read_pixels, read_study, studies_in
from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.system_errors import OF_A_FILE, OF_THE_MACHINE, pass_on
from tests.dicom.dicom_images import mr_image, save
from tests.dicom.failing_disk import failing_disk

MACHINE = [errno.EIO, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE]
OWN = [errno.ENOENT, errno.EISDIR]
PLACES = [None, 0, 100, 200]  # when it is opened; at its first byte; in its preamble; in its header


def _files(folder: Path, syntax: str = ExplicitVRLittleEndian, *, count: int = 3) -> list[Path]:
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (36, 36)).astype(np.uint16)
    return [save(mr_image(pixels, InstanceNumber=n), folder / str(n), syntax) for n in range(count)]


def test_no_error_is_a_files_own_and_the_machines() -> None:
    assert OF_A_FILE.isdisjoint(OF_THE_MACHINE)
    with pytest.raises(OSError, match="nobody"):
        pass_on(OSError(errno.ECHILD, "nobody thought of it"))
    for error in (OSError("gzip's, over bytes"), ValueError(errno.EIO), OSError(errno.ENOENT, "gone")):
        pass_on(error)


@pytest.mark.parametrize("after", PLACES)
@pytest.mark.parametrize("number", MACHINE)
def test_a_machine_that_fails_midway_refuses_no_study(tmp_path: Path, number: int, after: int | None) -> None:
    """Neither that, nor a study that lacks the one image that could not be read."""
    paths = _files(tmp_path)
    for read in (lambda: read_study(paths), lambda: studies_in(tmp_path)):
        with failing_disk(number, files=1, after=after), pytest.raises(OSError, match="Errno") as failed:
            read()
        assert failed.value.errno == number
    assert len(read_study(paths).frames) == len(studies_in(tmp_path)[0]["1.2.3"]) == 3


@pytest.mark.parametrize("number", OWN)
def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path, number: int) -> None:
    paths = _files(tmp_path)
    with failing_disk(number, files=1):
        found = read_study(paths)
    assert [(entry.images, entry.code) for entry in found.left_out] == [(2, Code.UNREADABLE_FILE)]
    with failing_disk(number, files=1):
        assert studies_in(tmp_path) == ({"1.2.3": paths[:1]}, 2)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless])
@pytest.mark.parametrize("after", [None, 0, 2000])
def test_a_machine_that_fails_among_the_pixels_refuses_no_study(tmp_path: Path, after: int | None, syntax: str) -> None:
    frames = read_study(_files(tmp_path, syntax)).frames
    with failing_disk(errno.EIO, files=1, after=after), pytest.raises(OSError, match="Errno 5"):
        list(read_pixels(frames))
    with failing_disk(errno.ENOENT, files=1), pytest.raises(Refusal, match="UNREADABLE_FILE"):
        list(read_pixels(frames))
    assert len(list(read_pixels(frames))) == 3


@pytest.mark.parametrize("method", ["stat", "iterdir"])
def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _files(tmp_path / "study")
    known: Callable[..., Any] = getattr(Path, method)

    def fail(number: int) -> Callable[..., Any]:
        def failing(path: Path, **options: Any) -> Any:
            if path.name == "study":
                raise OSError(number, "of the system")
            return known(path, **options)

        return failing

    monkeypatch.setattr(Path, method, fail(errno.ENOENT))
    assert studies_in(tmp_path) == ({}, 0)
    for number in (errno.EMFILE, errno.EACCES):
        monkeypatch.setattr(Path, method, fail(number))
        with pytest.raises(OSError, match="of the system"):
            studies_in(tmp_path)
