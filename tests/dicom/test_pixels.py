"""Pixels: the same as pydicom's, read once, or a refusal that names why not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from pipeline.dicom import decoding
from pipeline.dicom import pixels as reading
from pipeline.dicom.frames import Frame, read_pixels, read_study
from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.values import tag_of
from tests.dicom.dicom_images import element, item, mr_image, raw_image, save

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


def _noise(shape: tuple[int, ...], dtype: str, bits: int) -> np.ndarray:
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if dtype.startswith("i") else (0, 1 << bits)
    return np.random.default_rng(0).integers(low, high, shape, dtype=np.int64).astype(dtype)


def _read(*paths: Path) -> list[np.ndarray]:
    return list(read_pixels(read_study(paths).frames))


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize(
    ("dtype", "stored"), [("u1", 8), ("u2", 16), ("u2", 12), ("i2", 16), ("i2", 12), ("u4", 32), ("u2", 1)]
)
def test_uncompressed_pixels_are_those_that_pydicom_reads(tmp_path: Path, syntax: str, dtype: str, stored: int) -> None:
    pixels = _noise((5, 7), dtype, stored)  # 35 pixels: of one byte each, the element is padded
    path = save(mr_image(pixels, BitsStored=stored, HighBit=stored - 1), tmp_path / "image", syntax)
    (ours,) = _read(path)
    np.testing.assert_array_equal(ours, pixels)
    np.testing.assert_array_equal(ours, pydicom.dcmread(path).pixel_array)
    assert ours.dtype == np.dtype(dtype)
    assert ours.dtype.isnative


@pytest.mark.parametrize("cols", [5, 6])
def test_bytes_that_were_written_in_pairs_are_read_as_pydicom_reads_them(tmp_path: Path, cols: int) -> None:
    """Big endian, one byte a pixel, in an OW element: each pair is swapped, even where it straddles two images."""
    pixels = _noise((3, 3, cols), "u1", 8)
    image = mr_image(pixels)
    image["PixelData"].VR = "OW"
    image.PixelData += b"\0" * (len(image.PixelData) % 2)
    path = save(image, tmp_path / "image", ExplicitVRBigEndian)
    np.testing.assert_array_equal(_read(path), pixels)
    np.testing.assert_array_equal(_read(path), pydicom.dcmread(path).pixel_array)


def test_pixels_of_an_odd_number_of_bits_are_refused(tmp_path: Path) -> None:
    path = save(mr_image(BitsAllocated=12, BitsStored=12, HighBit=11), tmp_path / "image")
    with pytest.raises(Refusal, match="12 bits for each") as refused:
        _read(path)
    assert refused.value.code == Code.UNREADABLE_PIXELS


def test_bits_beside_those_stored_are_not_read(tmp_path: Path) -> None:
    """Overlays once stood in the upper four bits; 0x2ABC is 0xABC, and with a sign 0xABC is 0xABC - 0x1000."""
    noisy = np.full((3, 4), 0x2ABC, dtype=np.uint16)
    unsigned = save(mr_image(noisy, BitsStored=12, HighBit=11, InstanceNumber=1), tmp_path / "1")
    signed = save(mr_image(noisy.view("i2"), BitsStored=12, HighBit=11, InstanceNumber=2), tmp_path / "2")
    high = save(mr_image(noisy, BitsStored=12, HighBit=15, InstanceNumber=3), tmp_path / "3")
    assert [int(pixels[0, 0]) for pixels in _read(unsigned, signed, high)] == [0xABC, 0xABC - 0x1000, 0x2AB]


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEG2000Lossless])
def test_images_of_one_file_come_in_the_order_asked_for(tmp_path: Path, syntax: str) -> None:
    pixels = _noise((4, 36, 32), "u2", 12)  # JPEG 2000 wants no smaller ones
    image = mr_image(pixels, BitsStored=12, HighBit=11)
    frames = read_study([save(image, tmp_path / "image", syntax)]).frames
    backwards = [frames[number] for number in (3, 1, 1, 0, 2)]
    np.testing.assert_array_equal(list(read_pixels(backwards)), pixels[[3, 1, 1, 0, 2]])


@pytest.mark.parametrize("most_open", [64, 1])
def test_a_file_is_opened_once_though_its_images_stand_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_open: int
) -> None:
    """A cine is read phase by phase, and each slice may be a file of its own. With too many files some open again."""
    opened: Counter[str] = Counter()
    open_ = reading._open
    monkeypatch.setattr(reading, "_open", lambda frame: (opened.update([frame.path.name]), open_(frame))[1])
    monkeypatch.setattr(reading, "MOST_OPEN", most_open)
    pixels = _noise((3, 2, 5, 4), "u2", 16)  # (files, images, rows, cols)
    files = [
        save(mr_image(one, InstanceNumber=n, SOPInstanceUID=f"1.{n}"), tmp_path / f"{n}")
        for n, one in enumerate(pixels)
    ]
    frames = sorted(read_study(files).frames, key=lambda frame: frame.number)
    np.testing.assert_array_equal(list(read_pixels(frames)), pixels.swapaxes(0, 1).reshape(6, 5, 4))
    assert max(opened.values()) == (1 if most_open > 1 else 2)


def test_each_image_is_rescaled_by_its_own_slope(tmp_path: Path) -> None:
    """Philips scales image by image: 10 at slope 2 is 20, at slope 0.5 and intercept -1 it is 4."""
    groups = [
        item(PixelValueTransformationSequence=[item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")])
        for slope, intercept in ((2, 0), (0.5, -1), (1, 0))
    ]
    image = mr_image(np.full((3, 2, 2), 10, dtype=np.uint16), PerFrameFunctionalGroupsSequence=groups)
    pixels = _read(save(image, tmp_path / "image"))
    assert [float(one[0, 0]) for one in pixels] == [20.0, 4.0, 10.0]
    assert [one.dtype for one in pixels] == [np.float32, np.float32, np.uint16]


@pytest.mark.parametrize("slope", [b"0", b"None", b"nan", b"1e39", b"CANARY"])
def test_a_slope_that_is_no_usable_number_is_refused_and_not_shown(tmp_path: Path, slope: bytes) -> None:
    """To read on with slope 1 would be a guess; 1e39 times 1 is more than float32 holds."""
    path, tag = tmp_path / "image", tag_of("RescaleSlope")
    path.write_bytes(raw_image({tag: element(tag, slope)}, pixels=bytes([1]) * 24))
    with pytest.raises(Refusal, match="rescale slope or intercept is no usable number") as refused:
        _read(path)
    assert refused.value.code == Code.UNREADABLE_PIXELS
    assert "CANARY" not in str(refused.value)


def test_a_file_that_ends_before_its_pixels_is_not_complete_and_refused(tmp_path: Path) -> None:
    path = save(mr_image(_noise((64, 64), "u2", 16)), tmp_path / "image")
    path.write_bytes(path.read_bytes()[:-1000])
    (frame,) = read_study([path]).frames
    assert not frame.complete
    with pytest.raises(Refusal) as refused:
        next(read_pixels([frame]))
    assert refused.value.code == Code.TRUNCATED_FILE


def test_a_compressed_file_that_ends_before_its_pixels_is_not_complete(tmp_path: Path) -> None:
    image = mr_image(_noise((3, 32, 32), "u2", 16))
    path = save(image, tmp_path / "image", RLELossless)
    whole = path.read_bytes()
    assert all(frame.complete for frame in read_study([path]).frames)
    for kept in (-1, -9, -3000):
        path.write_bytes(whole[:kept])
        assert not any(frame.complete for frame in read_study([path]).frames)


def test_damaged_pixels_are_refused_with_the_name_of_their_encoding(tmp_path: Path) -> None:
    image = mr_image(_noise((32, 32), "u2", 16), PatientName="CANARY^ONE")
    path = save(image, tmp_path / "image", JPEG2000Lossless)
    data = bytearray(path.read_bytes())
    data[-1500:-100] = bytes(1400)
    start = data.index(b"\xff\x4f\xff\x51")  # the code stream's first marks
    data[start : start + 40] = b"CANARY^ONE" * 4
    path.write_bytes(bytes(data))
    with pytest.raises(Refusal, match="JPEG 2000") as refused:
        _read(path)
    assert refused.value.code == Code.UNREADABLE_PIXELS
    assert "CANARY" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("syntax", "said"),
    [
        ("1.2.840.10008.1.2.4.100", "MPEG2"),  # in the standard, but nobody decodes it here
        ("1.2.840.113619.5.2", "unknown"),
        ("CANARY^ONE", "unknown"),
    ],
)
def test_a_transfer_syntax_that_nobody_decodes_is_refused_by_name(tmp_path: Path, syntax: str, said: str) -> None:
    """A name is that of the standard: what else stands in the header may be anything."""
    image = mr_image(_noise((8, 8), "u2", 16))
    path = save(image, tmp_path / "image", RLELossless)
    data, there = path.read_bytes(), b"UI\x14\x001.2.840.10008.1.2.5\0"
    assert there in data
    padded = syntax.encode() + b"\0" * (len(syntax) % 2)
    path.write_bytes(data.replace(there, b"UI" + bytes([len(padded), 0]) + padded))
    with pytest.raises(Refusal, match=said) as refused:
        _read(path)
    assert refused.value.code == Code.UNSUPPORTED_TRANSFER_SYNTAX
    assert "CANARY" not in str(refused.value)


def test_without_its_decoder_a_transfer_syntax_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = mr_image(_noise((32, 32), "u2", 16))
    path = save(image, tmp_path / "image", JPEG2000Lossless)
    decoder = decoding.get_decoder(JPEG2000Lossless)
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(Refusal, match="JPEG 2000"):
        _read(path)


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    frames = read_study([save(mr_image(), tmp_path / "CANARY")]).frames
    frames[0].path.unlink()
    with pytest.raises(Refusal) as refused:
        list(read_pixels(frames))
    assert refused.value.code == Code.UNREADABLE_FILE
    assert "CANARY" not in str(refused.value)


def test_a_record_made_by_hand_has_no_pixels(tmp_path: Path) -> None:
    path = save(mr_image(), tmp_path / "image")
    with pytest.raises(Refusal, match="UNREADABLE_PIXELS"):
        next(read_pixels([Frame(path=path, rows=3, cols=4)]))


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    """The second image is damaged; who wants the first does not meet it."""
    paths = [
        save(mr_image(InstanceNumber=1), tmp_path / "1"),
        save(mr_image(InstanceNumber=2), tmp_path / "2"),
    ]
    frames = read_study(paths).frames
    paths[1].unlink()
    assert next(read_pixels(frames)).shape == (3, 4)


@pytest.mark.real_data
def test_nine_encodings_of_one_real_image_decode_to_the_same_pixels(real_data: Path) -> None:
    """Nine files of seven transfer syntaxes, each lossless."""
    paths = sorted((real_data / "mr_headers" / "dcm_qa_ts").glob("*.dcm"))
    frames = [read_study([path]).frames[0] for path in paths]
    assert (len(paths), len({frame.transfer_syntax for frame in frames})) == (9, 7)
    pixels = list(read_pixels(frames))
    assert pixels[0].std() > 100
    for other in pixels[1:]:
        np.testing.assert_array_equal(other, pixels[0])


@pytest.mark.real_data
def test_pixels_of_every_real_file_are_those_that_pydicom_reads(real_data: Path) -> None:
    paths = sorted((real_data / "mr_headers").rglob("*"))
    compared = 0
    for path in paths:
        if path.is_dir() or path.suffix == ".csv" or path.name == "LICENSE":
            continue
        frames = read_study([path]).frames
        theirs = pydicom.dcmread(path).pixel_array.reshape(len(frames), frames[0].rows, frames[0].cols)
        for frame, ours, stored in zip(frames, read_pixels(frames), theirs, strict=True):
            expected = stored * frame.slope + frame.intercept
            np.testing.assert_allclose(ours, expected, rtol=1e-6)
        compared += 1
    assert compared == 169
