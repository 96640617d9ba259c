"""Compressed images: decoded where they can do no harm, and what they say of themselves."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless

from pipeline.dicom import decoding
from pipeline.dicom.codestream import CodedImage, read_codestream
from pipeline.dicom.decoding import Decoding, DecodingError
from pipeline.dicom.frames import read_pixels, read_study
from pipeline.dicom.refusal import Code, Refusal
from tests.dicom.dicom_images import mr_image

DISC = np.where(np.hypot(*np.mgrid[-16:16, -20:20]) < 10, 200, 40).astype(np.uint8)
OPTIONS = {
    "rows": 32,
    "columns": 40,
    "samples_per_pixel": 1,
    "photometric_interpretation": "MONOCHROME2",
    "bits_allocated": 8,
    "bits_stored": 8,
    "pixel_representation": 0,
    "pixel_keyword": "PixelData",
}


def _jpeg() -> bytes:
    written = io.BytesIO()
    Image.fromarray(DISC).save(written, "JPEG", quality=95)
    return written.getvalue()


def _save_jpeg(path: Path, data: bytes, **elements: Any) -> Path:
    image = mr_image(DISC, **elements)
    image.PixelData = encapsulate([data])
    image["PixelData"].is_undefined_length = True
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    image.save_as(path, enforce_file_format=True)
    return path


def _start(monkeypatch: pytest.MonkeyPatch, code: str) -> list[subprocess.Popen[bytes]]:
    """Let this code stand for the process that decodes."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen([sys.executable, "-c", code], **pipes))
        return started[-1]

    monkeypatch.setattr(decoding, "_start", start)
    return started


def test_lossy_jpeg_is_decoded_in_one_process_for_all_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quality 95: no pixel is off by more than a few of 255 grey values."""
    started = []
    start = decoding._start
    monkeypatch.setattr(decoding, "_start", lambda: started.append(start()) or started[-1])
    paths = [_save_jpeg(tmp_path / str(n), _jpeg(), InstanceNumber=n) for n in range(3)]
    pixels = list(read_pixels(read_study(paths).frames))
    assert len(pixels) == 3
    for one in pixels:
        assert np.abs(one.astype(int) - DISC).max() <= 16
    assert [process.poll() is not None for process in started] == [True]  # and it has ended


def test_an_image_that_is_not_of_the_headers_size_is_refused_before_a_decoder_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = _start(monkeypatch, "")
    for elements in ({"Rows": 33}, {"Columns": 39}):
        with pytest.raises(Refusal, match="size is not that of the header") as refused:
            list(read_pixels(read_study([_save_jpeg(tmp_path / "image", _jpeg(), **elements)]).frames))
        assert refused.value.code == Code.UNREADABLE_PIXELS
    assert started == []


def test_a_decoder_that_ends_its_process_leaves_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = _start(monkeypatch, "import os; os.abort()")
    with pytest.raises(Refusal, match="ended its process") as refused:
        list(read_pixels(read_study([_save_jpeg(tmp_path / "image", _jpeg())]).frames))
    assert refused.value.code == Code.UNREADABLE_PIXELS
    assert len(started) == 1


def test_a_decoder_that_was_killed_refuses_no_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux kills what takes too much memory, which may be another's; to read the study again may do better."""
    _start(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ChildProcessError):
        list(read_pixels(read_study([_save_jpeg(tmp_path / "image", _jpeg())]).frames))


@pytest.mark.parametrize("lacking", ["process", "thread"])
def test_a_machine_that_starts_no_decoder_refuses_no_study(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may have so many processes and threads, and no more."""

    def no_process() -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    _start(monkeypatch, "")
    if lacking == "process":
        monkeypatch.setattr(decoding, "_start", no_process)
    else:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(BlockingIOError, match="temporarily unavailable"):
        list(read_pixels(read_study([_save_jpeg(tmp_path / "image", _jpeg())]).frames))


def test_a_decoder_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LONGEST_S", 0.2)
    started = _start(monkeypatch, "import time; time.sleep(60)")
    begun = time.monotonic()
    with Decoding() as process, pytest.raises(DecodingError):
        process.decode(JPEGBaseline8Bit, _jpeg(), OPTIONS)
    assert time.monotonic() - begun < 10
    assert started[0].poll() is not None


def test_after_a_damaged_image_the_next_one_is_decoded(tmp_path: Path) -> None:
    whole = _jpeg()
    with Decoding() as process:
        with pytest.raises(DecodingError):
            process.decode(JPEGBaseline8Bit, whole[:100] + bytes(200), OPTIONS)
        assert np.abs(process.decode(JPEGBaseline8Bit, whole, OPTIONS).astype(int) - DISC).max() <= 16


@pytest.mark.real_data
def test_the_crash_of_a_real_decoder_is_survived(real_data: Path) -> None:
    """GDCM ends the process where a JPEG-LS image is larger than the header says."""
    path = real_data / "mr_headers" / "dcm_qa_ts" / "7.dcm"
    (frame,) = read_study([path]).frames
    assert frame.transfer_syntax == JPEGLSLossless
    assert frame.pixels is not None
    with path.open("rb") as stream:
        stream.seek(frame.pixels.offset)
        data = get_frame(stream, 0, number_of_frames=1)
    options = OPTIONS | {"bits_allocated": 16, "bits_stored": 12, "rows": frame.rows, "columns": frame.cols}
    with Decoding() as process:
        with pytest.raises(DecodingError, match="ended its process"):
            process.decode(JPEGLSLossless, data, options | {"rows": 511})
        assert process.decode(JPEGLSLossless, data, options).shape == (frame.rows, frame.cols)


def test_codestreams_tell_their_size() -> None:
    """JPEG as Pillow writes it, JPEG 2000 as openjpeg does."""
    assert read_codestream(_jpeg()) == CodedImage(rows=32, cols=40, bits=8, samples=1)
    image = mr_image(np.zeros((33, 48), np.uint16), BitsStored=12, HighBit=11)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    data = get_frame(image.PixelData, 0, number_of_frames=1)
    assert read_codestream(data) == CodedImage(rows=33, cols=48, bits=12, samples=1)


@given(st.integers(0, 600), st.binary(max_size=30))
def test_a_codestream_that_is_broken_tells_nothing_or_something_but_never_raises(length: int, tail: bytes) -> None:
    for start in (_jpeg()[:length], b"\xff\x4f\xff\x51", b"\xff\xd8"):
        coded = read_codestream(start + tail)
        assert coded is None or len(coded) == 4
