"""Files to cine: synthetic studies of every layout, and real ones held against their headers."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from pipeline.dicom.cine import read_cine
from pipeline.dicom.frames import studies_in
from pipeline.dicom.refusal import Code, Refusal
from tests.dicom.dicom_extras import EXTRAS
from tests.dicom.dicom_writer import LAYOUTS, Study, cine_study, clock, to_bytes
from tests.dicom.mutations import mutated
from tests.dicom.verdict import RIGHT, outcome


def written(study: Study, folder: Path) -> list[Path]:
    for name, data in study.files.items():
        (folder / name).write_bytes(to_bytes(data))
    return list(folder.iterdir())


def refused(paths: list[Path]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read_cine(paths)
    return caught.value


def _seven_files(folder: Path) -> None:
    """A file for each of seven slices."""
    layout = LAYOUTS["C: enhanced, file per slice"]
    written(next(study for study in (cine_study(seed, layout) for seed in range(9)) if study.plan.slices == 7), folder)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_stack_that_was_scanned(layout: str, tmp_path: Path) -> None:
    """Pixels, affine, times, heart cycles and sources, against the writer's plan."""
    assert outcome(mutated(layout, "none", "shuffled", 5), tmp_path) == RIGHT


def test_repeated_slices_are_said(tmp_path: Path) -> None:
    study = cine_study(3, LAYOUTS["D: repeated slices, own series"])
    cine = read_cine(written(study, tmp_path))
    said = [warning for warning in cine.warnings if warning.startswith("REPEATED_SLICE")]
    assert len(said) == len(study.repeated) == 2
    assert sum(entry.images for entry in cine.left_out) == 2 * study.plan.phases
    assert {entry.code for entry in cine.left_out} == {Code.REPEATED}


def test_a_slice_that_was_acquired_again_after_midnight_is_the_one_that_is_read(tmp_path: Path) -> None:
    study, night = cine_study(3, LAYOUTS["D: repeated slices, own series"]), tmp_path / "night"
    by_day = read_cine(written(study, tmp_path))
    first_repeat = 36_000 + 20.5 * study.plan.slices
    for data in study.files.values():
        for keyword in ("AcquisitionTime", "ContentTime"):
            said = str(data[keyword].value)
            time = 3600 * int(said[:2]) + 60 * int(said[2:4]) + float(said[4:])
            data[keyword].value = clock((time - first_repeat + 15) % 86_400)
    night.mkdir()
    by_night = read_cine(written(study, night))
    assert by_night.sources == by_day.sources
    assert by_night.warnings == by_day.warnings


def test_the_nifti_mapping_is_the_documented_one(tmp_path: Path) -> None:
    """A voxel of the transposed array lies where the header of its image puts that pixel."""
    study = cine_study(2)
    cine = read_cine(written(study, tmp_path))
    array = cine.values.transpose(3, 2, 1, 0)
    x, y, z, t = 11, 4, 3, 5
    uid, number = cine.sources[t][z]
    source = next(data for data in study.files.values() if data.SOPInstanceUID == uid)
    assert array[x, y, z, t] == source.pixel_array[y, x]
    assert number == 0
    row, column = np.asarray(source.ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows, between_columns = map(float, source.PixelSpacing)
    lps = np.asarray(source.ImagePositionPatient, dtype=float) + x * between_columns * row + y * between_rows * column
    assert np.allclose((cine.affine @ [x, y, z, 1])[:3], lps * [-1, -1, 1], atol=0.01)


@pytest.mark.parametrize(
    ("header", "dtype"), [({}, np.int16), ({"RescaleSlope": "2", "RescaleIntercept": "-7"}, np.float32)]
)
def test_integers_stay_integers_unless_the_header_rescales(header: dict[str, Any], dtype: type, tmp_path: Path) -> None:
    """Rescaled by 2 x - 7, if so."""
    study = cine_study(1)
    for data in study.files.values():
        for keyword, value in header.items():
            setattr(data, keyword, value)
    cine = read_cine(written(study, tmp_path))
    stored = study.plan.pixels((2, 0, 3))
    assert cine.values.dtype == dtype
    assert np.array_equal(cine.values[3, 2], 2 * stored - 7 if header else stored)


def test_one_rescaled_slice_makes_all_of_them_floating_point(tmp_path: Path) -> None:
    """Some scanners rescale each slice in its own way."""
    study = cine_study(1)
    for name, [key] in study.contents.items():
        if key[0] == 4:
            study.files[name].RescaleSlope, study.files[name].RescaleIntercept = "0.5", "0"
    cine = read_cine(written(study, tmp_path))
    assert cine.values.dtype == np.float32
    assert np.array_equal(cine.values[3, 2], study.plan.pixels((2, 0, 3)))
    assert np.array_equal(cine.values[3, 4], study.plan.pixels((4, 0, 3)) / 2)


def test_a_refusal_tells_of_every_series(tmp_path: Path) -> None:
    """The cine that lacks a phase, the series beside it, and the report."""
    study = cine_study(1)
    for kind in ("late enhancement", "report"):
        study.files |= {f"{kind}-{i}": data for i, data in enumerate(EXTRAS[kind](study.plan))}
    paths = written(study, tmp_path)
    (tmp_path / "image-0004").unlink()
    found = refused([path for path in paths if path.exists()])
    assert found.code is Code.MISSING_PHASE
    assert [entry.code for entry in found.left_out] == [Code.MISSING_PHASE, Code.LATE_ENHANCEMENT, Code.NOT_AN_IMAGE]
    assert sum(entry.images for entry in found.left_out) == len(paths) - 1


def test_pixels_that_cannot_be_read_refuse_the_study_with_its_series(tmp_path: Path) -> None:
    paths = written(cine_study(1), tmp_path)
    paths[7].write_bytes(paths[7].read_bytes()[:-20])
    found = refused(paths)
    assert found.code is Code.TRUNCATED_FILE
    assert sum(entry.images for entry in found.left_out) == len(paths)


def test_a_broken_file_that_may_be_the_last_slice_refuses_the_study(tmp_path: Path) -> None:
    """A file for each slice: without that of an end, the others would pass as a whole stack."""
    _seven_files(tmp_path)
    end = tmp_path / "file-0006"
    end.write_bytes(end.read_bytes()[:400])
    assert refused(list(tmp_path.iterdir())).code is Code.TRUNCATED_FILE


def test_a_lost_slice_is_noticed_where_headers_number_the_slices_from_the_other_end(tmp_path: Path) -> None:
    """InStackPositionNumber counts from 2 where the first file is lost; the last one leaves no trace."""
    _seven_files(tmp_path)
    (tmp_path / "file-0006").unlink()
    assert read_cine(tmp_path.iterdir()).values.shape[1] == 6
    _seven_files(tmp_path)
    (tmp_path / "file-0000").unlink()
    assert refused(list(tmp_path.iterdir())).code is Code.MISSING_SLICE


def test_no_patient_no_uid_and_no_path_is_in_what_is_said(tmp_path: Path) -> None:
    study = cine_study(3, LAYOUTS["D: repeated slices, own series"])
    for data in study.files.values():
        data.PatientName, data.PatientID, data.SeriesDescription = "Doe^Jane", "4711", "Doe cine"
    paths = written(study, tmp_path)
    cine = read_cine(paths)
    said = [*cine.warnings, *map(str, cine.left_out)]
    refusal = refused(paths[1:])
    said += [str(refusal), *map(str, refusal.left_out)]
    assert not re.search(rf"Doe|4711|1\.2\.826|{tmp_path.name}|image-0", " ".join(said))


def headers(folder: Path) -> list[Dataset]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom dislikes the UIDs
        found = [dcmread(path) for path in sorted(folder.iterdir())]
        for data in found:
            data.decode()
    return found


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "slices", "spacing", "gap"), [
    ("SCD0000101", 12, 1.367188, 10.0),
    ("SCD0000201", 13, 1.367188, 10.0),
    ("SCD0000301", 10, 1.289062, 8.0),
])  # fmt: skip
def test_real_studies_match_their_headers(real_data: Path, name: str, slices: int, spacing: float, gap: float) -> None:
    """Sorted here by SliceLocation and InstanceNumber, which the assembly does not sort by; pixels by pydicom."""
    folder = real_data / "sunnybrook" / "dicoms" / name
    cine = read_cine(folder.iterdir())
    by_location: dict[float, list[Dataset]] = defaultdict(list)
    for data in headers(folder):
        by_location[float(data.SliceLocation)].append(data)
    ordered = [sorted(by_location[at], key=lambda data: data.InstanceNumber) for at in sorted(by_location)]
    where = np.asarray([one[0].ImagePositionPatient for one in ordered], dtype=float) * [-1, -1, 1]
    if (where[-1] - where[0]) @ cine.affine[:3, 2] < 0:
        ordered, where = ordered[::-1], where[::-1]
    assert cine.values.shape == (20, slices, 256, 256)
    assert cine.values.dtype == np.int16
    for s, one in enumerate(ordered):
        assert np.abs((cine.affine @ [0, 0, s, 1])[:3] - where[s]).max() < 0.01
        assert np.allclose(cine.times_ms[:, s], [float(data.TriggerTime) for data in one])
        assert cine.rr_ms[s] == float(one[0].NominalInterval)
        assert [row[s] for row in cine.sources] == [(data.SOPInstanceUID, 0) for data in one]
        assert all(np.array_equal(cine.values[p, s], data.pixel_array) for p, data in enumerate(one))
    assert np.all(np.diff(cine.times_ms, axis=0) > 0)
    assert np.allclose(np.linalg.norm(cine.affine[:3, :3], axis=0), [spacing, spacing, gap], atol=2e-4)
    assert np.linalg.det(cine.affine[:3, :3]) > 0
    assert (cine.warnings, cine.left_out) == ((), ())


@pytest.mark.real_data
def test_no_real_study_of_a_brain_or_a_phantom_is_taken_for_a_heart(real_data: Path) -> None:
    """169 files of several vendors and layouts: each study refused, each image with its reason."""
    studies, _ = studies_in(real_data / "mr_headers")
    files = 0
    for paths in studies.values():
        refusal = refused(paths)
        assert refusal.code in {Code.NO_CINE, Code.NO_GEOMETRY}
        assert sum(entry.images for entry in refusal.left_out) >= len(paths) - 8  # nine encodings of one image
        files += len(paths)
    assert files == 169
