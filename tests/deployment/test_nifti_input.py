"""A cine in one NIfTI file: what nibabel reads of it is what we read, and what is wrong with it has a code."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from pipeline.deployment.nifti_header import NiftiHeaderError, parse_header
from pipeline.deployment.nifti_input import is_nifti, read_nifti
from pipeline.dicom.refusal import Code, Refusal
from tests.deployment.hospital_studies import write_nifti
from transforms.files import read_volume

MANY = 1 << 30
SHAPE = (9, 8, 7, 3)  # (x, y, z, t)


def _save(path: Path, stored: np.ndarray, *, form: str = "sform", big: bool = False) -> Path:
    rng = np.random.default_rng(5)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [1.5, 1.25, 8.0], [10, -20, 30]
    header = nibabel.Nifti1Header(endianness=">" if big else "<")
    header.set_data_dtype(stored.dtype)
    image = nibabel.Nifti1Image(stored, affine if form != "none" else None, header)
    if form != "none":
        image.set_sform(affine, code=1 if form == "sform" else 0)
        image.set_qform(affine, code=1 if form == "qform" else 0)
    else:
        image.header["pixdim"][1:4] = (1.5, 1.25, 8.0)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("form", ["sform", "qform", "none"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8"])
def test_values_and_place_are_those_that_nibabel_reads(kind: str, big: bool, form: str, tmp_path: Path) -> None:
    stored = np.random.default_rng(1).integers(0, 200, SHAPE).astype(kind)
    path = _save(tmp_path / "a.nii.gz", stored, form=form, big=big)
    expected, affine = read_volume(path)
    found = read_nifti(path, most_bytes=MANY).cine()
    assert found.values.shape == (3, 7, 8, 9)
    assert np.array_equal(found.values, expected)
    assert found.values.dtype == (np.float32 if kind[0] == "f" else np.dtype(kind))
    assert np.allclose(found.affine, affine, rtol=0, atol=1e-12)


def test_scaling_is_applied_as_nibabel_does(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(np.random.default_rng(2).integers(0, 99, SHAPE).astype("i2"), np.diag([2, 2, 8, 1]))
    block = bytearray(image.to_bytes())
    struct.pack_into("<2f", block, 112, 0.37, -5.5)
    path.write_bytes(bytes(block))
    found = read_nifti(path, most_bytes=MANY).cine()
    assert np.allclose(found.values, read_volume(path)[0], rtol=1e-6)
    assert found.values.min() < 0


def test_facts_make_the_scanner_that_headers_would(tmp_path: Path) -> None:
    facts = {"manufacturer": "GE MEDICAL SYSTEMS", "model": "SIGNA HDx", "field_strength": "15000"}
    folder = write_nifti(tmp_path / "in", facts)
    scanner = read_nifti(folder / "cine.nii.gz", most_bytes=MANY).scanner
    assert scanner.name == "GE SIGNA HDx 1.5 T"
    assert read_nifti(write_nifti(tmp_path / "b") / "cine.nii.gz", most_bytes=MANY).scanner.name == "unknown"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"manufactuer": "CANARY"}, "nearest one that is known is manufacturer"),
        ({"CANARY": 1}, "has a name that is not known"),
        ({"manufacturer": 3}, "must be texts"),
        ({"field_strength": True}, "must be texts"),
        ({"field_strength": ["CANARY"]}, "must be texts"),
        (["CANARY"], "no object"),
    ],
)
def test_facts_that_are_wrong_are_refused_and_not_quoted(facts: Any, said: str, tmp_path: Path) -> None:
    folder = write_nifti(tmp_path / "in", facts)
    with pytest.raises(Refusal) as refusal:
        read_nifti(folder / "cine.nii.gz", most_bytes=MANY)
    assert refusal.value.code is Code.SCANNER_FACTS
    assert said in refusal.value.detail
    assert "CANARY" not in str(refusal.value)


def test_facts_that_are_no_json_are_refused(tmp_path: Path) -> None:
    folder = write_nifti(tmp_path / "in")
    for text in ("CANARY", "[" * 100_000, "", json.dumps({"model": "x" * 100_000})):
        (folder / "cine.json").write_text(text)
        with pytest.raises(Refusal, match="SCANNER_FACTS"):
            read_nifti(folder / "cine.nii.gz", most_bytes=MANY)


def _code(path: Path, most_bytes: int = MANY) -> Code:
    with pytest.raises(Refusal) as refusal:
        read_nifti(path, most_bytes=most_bytes).cine()
    return refusal.value.code


def test_what_is_no_cine_is_refused_by_its_code(tmp_path: Path) -> None:
    def saved(shape: tuple[int, ...], affine: Any = None, kind: str = "i2") -> Path:
        place = np.diag([2.0, 2.0, 8.0, 1.0]) if affine is None else affine
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.nii"
        image = nibabel.Nifti1Image(np.ones(shape, kind), place)
        path.write_bytes(image.to_bytes())
        return path

    assert _code(saved((9, 8, 7))) is Code.TOO_FEW_PHASES
    assert _code(saved((9, 8, 5, 4))) is Code.TOO_FEW_SLICES
    assert _code(saved((9, 8, 7, 4, 2))) is Code.UNREADABLE_FILE
    assert _code(saved(SHAPE, np.diag([0.001, 0.001, 8, 1]))) is Code.NO_GEOMETRY
    assert _code(saved(SHAPE, np.diag([900, 900, 8, 1]))) is Code.NO_GEOMETRY
    assert _code(saved(SHAPE, kind="c8")) is Code.UNREADABLE_FILE
    assert _code(saved(SHAPE), most_bytes=1000) is Code.TOO_LARGE


def test_what_does_not_hold_together_is_refused_by_its_code(tmp_path: Path) -> None:
    whole = nibabel.Nifti1Image(np.full(SHAPE, 7, "f4"), np.diag([2.0, 2.0, 8.0, 1.0])).to_bytes()

    def changed(offset: int, data: bytes) -> bytes:
        return whole[:offset] + data + whole[offset + len(data) :]

    contents = {
        Code.TRUNCATED_FILE: [whole[:-1], whole[:400], gzip.compress(whole)[:-40]],
        Code.UNREADABLE_PIXELS: [whole[:-4] + struct.pack("<f", value) for value in (np.nan, np.inf, 1e20)],
        Code.UNREADABLE_FILE: [
            *(whole[:size] for size in (4, 100, 347)),
            changed(108, struct.pack("<f", 4e9)),  # where the values begin
            changed(108, struct.pack("<f", np.nan)),
            changed(40, struct.pack("<h", 9)),  # axes
            changed(42, struct.pack("<h", -8)),
            changed(280, struct.pack("<f", np.nan)),  # the affine
            gzip.compress(whole)[:12] + b"\xff" * 40,
        ],
    }
    for code, files in contents.items():
        for number, content in enumerate(files):
            path = tmp_path / f"{code}-{number}.nii"
            path.write_bytes(content)
            assert _code(path) is code, (code, number)


def test_an_image_is_known_by_name_and_content_together(tmp_path: Path) -> None:
    """A DICOM file may be called anything."""
    nifti = write_nifti(tmp_path / "in") / "cine.nii.gz"
    assert is_nifti(nifti)
    for name, content in (("a.nii", b"DICM" * 100), ("b.nii.gz", b""), ("c.gz", nifti.read_bytes())):
        path = tmp_path / name
        path.write_bytes(content)
        assert not is_nifti(path)
    assert not is_nifti(tmp_path / "gone.nii")


def test_the_header_of_a_pair_of_files_is_refused() -> None:
    block = bytearray(nibabel.Nifti1Image(np.ones(SHAPE, "i2"), np.eye(4)).to_bytes()[:348])
    block[344:348] = b"ni1\0"
    with pytest.raises(NiftiHeaderError):
        parse_header(bytes(block))
