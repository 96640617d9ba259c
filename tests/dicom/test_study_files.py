"""Which of a study's files are read, which are left out and why, and which studies are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    SecondaryCaptureImageStorage,
)

from pipeline.dicom.frames import read_study, studies_in
from pipeline.dicom.refusal import Code, LeftOut, Refusal
from tests.dicom.dicom_images import element, item, mr_image, save

RGB = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}


def _refused(*paths: Path) -> Refusal:
    with pytest.raises(Refusal) as refused:
        read_study(paths)
    return refused.value


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_the_order_and_the_names_of_files_do_not_matter(tmp_path: Path) -> None:
    numbers = [(series, number) for series in (2, 10, 1) for number in (3, 1, 2)]
    paths = [
        save(
            mr_image(SeriesInstanceUID=f"1.{s}", SeriesNumber=s, InstanceNumber=n, SOPInstanceUID=f"1.{s}.{n}"),
            tmp_path / f"{(7 * s + 3 * n) % 97}",
        )
        for s, n in numbers
    ]
    for files in (paths, paths[::-1], sorted(paths)):
        frames = read_study(files).frames
        assert [(frame.series, frame.instance_number) for frame in frames] == [
            (f"series {s}", n) for s in (1, 2, 3) for n in (1, 2, 3)
        ]
        assert [frame.series_uid for frame in frames[::3]] == ["1.1", "1.2", "1.10"]


def test_a_copy_of_an_image_is_read_once(tmp_path: Path) -> None:
    """The same file twice, a copy under another name, a copy that is cut short: the whole one is read."""
    path = save(mr_image(), tmp_path / "b")
    copy = _write(tmp_path / "c", path.read_bytes())
    cut = _write(tmp_path / "a", path.read_bytes()[:-4])
    (frame,) = read_study([cut, path, path, copy]).frames
    assert frame.complete


def test_images_that_share_a_uid_but_not_a_header_are_both_kept(tmp_path: Path) -> None:
    """A de-identification that gives each file the same UID makes no copies of them."""
    paths = [save(mr_image(SOPInstanceUID="1.1", TriggerTime=t), tmp_path / str(t)) for t in range(3)]
    assert [frame.trigger_ms for frame in read_study(paths).frames] == [0, 1, 2]


def _report() -> pydicom.Dataset:
    return item(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11",
        SOPInstanceUID="1.8.1",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.8",
        Modality="SR",
    )


KINDS = {
    "report": (_report, Code.NOT_AN_IMAGE),
    "CT": (lambda: mr_image(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT"), Code.NOT_MR),
    "CT's class": (lambda: mr_image(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), Code.NOT_MR),
    "CT's modality": (lambda: mr_image(Modality="CT"), Code.NOT_MR),
    "screenshot": (lambda: mr_image(SOPClassUID=SecondaryCaptureImageStorage), Code.DERIVED),
    "colour": (lambda: mr_image(np.zeros((3, 12), np.uint8), Columns=4, **RGB), Code.DERIVED),
    "palette": (lambda: mr_image(PhotometricInterpretation="PALETTE COLOR"), Code.DERIVED),
    "inverted": (lambda: mr_image(PhotometricInterpretation="MONOCHROME1"), Code.DERIVED),
    "no study": (lambda: mr_image(StudyInstanceUID=None), Code.UNREADABLE_FILE),
    "no rows": (lambda: mr_image(Rows=None), Code.UNREADABLE_FILE),
    "no columns": (lambda: mr_image(Columns=0), Code.UNREADABLE_FILE),
    "no bits": (lambda: mr_image(BitsAllocated=None, BitsStored=None, HighBit=None), Code.UNREADABLE_FILE),
    "more bits than there are": (lambda: mr_image(BitsStored=20), Code.UNREADABLE_FILE),
    "no images": (lambda: mr_image(NumberOfFrames=0), Code.UNREADABLE_FILE),
    "images without number": (lambda: mr_image(NumberOfFrames=2_000_000_000), Code.UNREADABLE_FILE),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_no_mr_image_is_left_out_with_its_reason(tmp_path: Path, kind: str) -> None:
    make, code = KINDS[kind]
    image = save(mr_image(SeriesInstanceUID="1.9"), tmp_path / "image")
    made = make()
    if "PixelData" in made:
        other = save(made, tmp_path / "other")
    else:
        other = tmp_path / "other"
        made.file_meta = pydicom.dataset.FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        made.save_as(other, enforce_file_format=True)
    files = read_study([other, image])
    assert len(files.frames) == 1
    assert [(entry.images, entry.code) for entry in files.left_out] == [(1, code)]
    assert _refused(other).code == code


def test_a_deflated_image_is_refused_by_name(tmp_path: Path) -> None:
    """Its study is told apart all the same, so that an importer names it."""
    path = save(mr_image(), tmp_path / "image", DeflatedExplicitVRLittleEndian)
    assert studies_in(tmp_path) == ({"1.2.3": [path]}, 0)
    refused = _refused(path)
    assert refused.code == Code.UNSUPPORTED_TRANSFER_SYNTAX
    assert refused.left_out[0].detail == "Deflated Explicit VR Little Endian"


def test_modality_may_be_missing_where_the_class_tells_and_the_class_where_the_modality_does(tmp_path: Path) -> None:
    """De-identification may replace every UID; a class that the standard does not know tells nothing."""
    paths = [
        save(mr_image(Modality=None, InstanceNumber=1), tmp_path / "1"),
        save(mr_image(SOPClassUID="1.2.99.7", InstanceNumber=2), tmp_path / "2"),
    ]
    assert len(read_study(paths).frames) == 2
    assert _refused(save(mr_image(Modality=None, SOPClassUID="1.2.99.7"), tmp_path / "3")).code == Code.NOT_MR


def test_what_is_left_out_is_counted_by_series_and_reason(tmp_path: Path) -> None:
    """Series are counted over all of the study, so that a reader finds them again in the archive."""
    capture = {"SOPClassUID": SecondaryCaptureImageStorage, "SeriesInstanceUID": "1.1", "SeriesNumber": 1}
    paths = [
        save(mr_image(InstanceNumber=n, SOPInstanceUID=f"1.1.{n}", **capture), tmp_path / f"c{n}") for n in range(3)
    ]
    paths += [save(mr_image(SeriesNumber=2), tmp_path / "image")]
    paths += [_write(tmp_path / name, b"text") for name in ("x", "y")]
    files = read_study(paths)
    assert [frame.series for frame in files.frames] == ["series 2"]
    assert files.left_out == (
        LeftOut("series 1", 3, Code.DERIVED, "secondary capture"),
        LeftOut("other files", 2, Code.NOT_DICOM),
    )


@pytest.mark.parametrize("kept", [140, 200, 330, -60])
def test_a_header_that_is_cut_short_is_left_out(tmp_path: Path, kept: int) -> None:
    whole = save(mr_image(), tmp_path / "image").read_bytes()
    path = _write(tmp_path / "image", whole[:kept])
    assert _refused(path).code in {Code.UNREADABLE_FILE, Code.TRUNCATED_FILE}


def test_a_file_cut_inside_its_pixels_is_told_from_a_whole_one(tmp_path: Path) -> None:
    whole = save(mr_image(), tmp_path / "image").read_bytes()
    for missing in (1, 24):
        (frame,) = read_study([_write(tmp_path / "image", whole[:-missing])]).frames
        assert not frame.complete


def test_a_directory_of_a_disc_is_no_image(tmp_path: Path) -> None:
    meta = element(0x00020002, b"1.2.840.10008.1.3.10", "UI") + element(0x00020010, b"1.2.840.10008.1.2.1", "UI")
    path = _write(tmp_path / "DICOMDIR", bytes(128) + b"DICM" + meta + element(0x00041130, b"A DISC", "CS"))
    assert _refused(path).code == Code.NOT_AN_IMAGE


def test_pixels_that_are_not_written_as_the_transfer_syntax_says_are_left_out(tmp_path: Path) -> None:
    image = save(mr_image(), tmp_path / "image").read_bytes()
    told = image.replace(b"\x14\x001.2.840.10008.1.2.1\0", b"\x16\x00" + JPEGLSLossless.encode())
    assert told != image
    assert _refused(_write(tmp_path / "image", told)).code == Code.UNREADABLE_FILE


def test_nothing_at_all_is_no_dicom(tmp_path: Path) -> None:
    assert _refused().code == Code.NOT_DICOM
    assert _refused(_write(tmp_path / "a", b""), _write(tmp_path / "b", b"text")).code == Code.NOT_DICOM
    assert _refused(tmp_path / "missing").code == Code.UNREADABLE_FILE
    assert _refused(tmp_path).code == Code.UNREADABLE_FILE


def test_a_study_without_mr_images_is_refused_with_what_most_of_it_is(tmp_path: Path) -> None:
    computed = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT"}
    paths = [save(mr_image(InstanceNumber=n, **computed), tmp_path / str(n)) for n in range(2)]
    paths += [_write(tmp_path / name, b"text") for name in "abc"]
    refused = _refused(*paths)
    assert refused.code == Code.NOT_MR
    assert [(entry.series, entry.images) for entry in refused.left_out] == [("series 1", 2), ("other files", 3)]


def test_images_of_several_studies_or_patients_are_refused(tmp_path: Path) -> None:
    first = save(mr_image(), tmp_path / "1")
    other = save(mr_image(StudyInstanceUID="1.7"), tmp_path / "2")
    assert _refused(first, other).code == Code.SEVERAL_STUDIES
    stranger = save(mr_image(PatientID="P2", InstanceNumber=2), tmp_path / "3")
    assert _refused(first, stranger).code == Code.SEVERAL_PATIENTS
    nameless = save(mr_image(PatientID=None, InstanceNumber=2), tmp_path / "4")
    assert len(read_study([first, nameless]).frames) == 2
