"""The quality sheet: every study is on it, drawn where it is, and the page loads nothing and leaks nothing."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from pipeline.cohort.case import Case, Datalist
from pipeline.cohort.case_report import CaseReport, refused
from pipeline.dicom.refusal import Code, LeftOut, Refusal
from pipeline.sheet.pictures import CROP_COLOUR, GAP, GUTTER, View, write_montage, write_movie
from pipeline.sheet.quality_sheet import write_quality_sheet
from transforms.files import write_prepared
from transforms.heart import HeartCentre
from transforms.recipe import StudentInput

SPACING_MM = (8.0, 2.0, 2.0)
AFFINE = np.diag([-2.0, -2.0, 8.0, 1.0])  # columns to the left, rows to the back


def beating(phases: int = 6, slices: int = 3, rows: int = 100, cols: int = 110, seed: int = 0) -> np.ndarray:
    """A disc that shrinks and grows, ``(phases, slices, rows, cols)``; largest at phase 0."""
    row, col = np.mgrid[:rows, :cols]
    distance = 2.0 * np.hypot(row - 48, col - 60)  # mm
    radius = 24 + 8 * np.cos(2 * np.pi * np.arange(phases) / phases)
    disc = np.clip(radius[:, None, None] - distance, 0, 4) / 4
    noise = np.random.default_rng(seed).normal(0, 4, (slices, rows, cols))
    return np.asarray(100 + 300 * disc[:, None] + noise, dtype=np.float32)


def case(folder: Path, name: str = "study-a", **known: Any) -> Case:
    path = folder / f"{name}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(beating().transpose(3, 2, 1, 0), AFFINE), path)
    known = {"ed": 0, "es": 3, "vendor": "GE", "scanner": "GE SIGNA 1.5 T", "site": "unknown", **known}
    return Case(**{"case_id": name, "patient_id": f"patient-of-{name}", "label": "", "image": path, **known})


def datalist(*cases: Case, **header: Any) -> Datalist:
    fixed = {"classes": ("NOR",), "source": "DICOM", "group_by": ("vendor",), "created_with": "a test"}
    return Datalist(**{**fixed, "sections": {"test": cases}, **header})


def page(listed: Datalist, folder: Path, **options: Any) -> str:
    return write_quality_sheet(listed, folder, progress=False, **options).read_text(encoding="utf-8")


def test_a_study_is_shown_with_its_figures_and_pictures(tmp_path: Path) -> None:
    html = page(datalist(case(tmp_path)), tmp_path / "sheet")
    for text in ("study-a", "GE SIGNA 1.5 T", "6 phases × 3 slices × 100 × 110", "2.00 mm in the plane"):
        assert text in html
    assert "slices 8.0 mm apart" in html
    assert "end-diastole 0, end-systole 3, counted 0 to 5; given" in html
    pictures = sorted(path.name for path in (tmp_path / "sheet" / "images").iterdir() if path.suffix != ".json")
    assert pictures == ["study-a-still.webp", "study-a.png", "study-a.webp"]


def test_every_picture_of_the_page_is_there_and_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    """A page that a hospital opens must not call home; large pages load pictures as they are scrolled to."""
    html = page(datalist(case(tmp_path), case(tmp_path, "study-b")), tmp_path / "sheet")
    linked = re.findall(r'(?:src|srcset|href)="([^"#]+)"', html)
    assert len(linked) == 8
    assert all((tmp_path / "sheet" / name).is_file() for name in linked)
    assert not re.search(r"https?:|//|<script|@import|url\(", html)
    images = re.findall(r"<img [^>]+>", html)
    assert len(images) == 4
    for image in images:
        assert 'loading="lazy"' in image
        assert re.search(r'width="\d+" height="\d+"', image)
        assert re.search(r'alt="[^"]{20,}"', image)


def test_texts_are_escaped(tmp_path: Path) -> None:
    html = page(datalist(case(tmp_path, site="<b>x</b>"), notes=("<i>note",)), tmp_path / "sheet")
    assert "<b>x" not in html
    assert "&lt;b&gt;x" in html
    assert "&lt;i&gt;note" in html


def test_an_import_adds_cycle_software_warnings_and_series_left_out(tmp_path: Path) -> None:
    left_out = (
        {"series": "series 2", "images": 30, "code": "LONG_AXIS", "sentence": "A cine.", "detail": "30 phases"},
    )
    report = CaseReport(
        "study-a", 240, software="DV26", rr_ms=(750.0, 800.0), phase_confidence=0.87, left_out=left_out,
        warnings=("REPEATED_SLICE: slice 4 was made twice",),
    )  # fmt: skip
    listed = datalist(case(tmp_path), notes=("case study-a: REPEATED_SLICE: slice 4 was made twice", "3 files"))
    html = page(listed, tmp_path / "sheet", reports=[report])
    assert "750 to 800 ms, 75 to 80 beats a minute" in html
    assert "software DV26" in html
    assert "found, confidence 0.87" in html
    assert "<code>REPEATED_SLICE</code> slice 4 was made twice" in html
    assert "series 2, 30 images: <code>LONG_AXIS</code> A cine." in html
    assert html.count("slice 4 was made twice") == 1
    assert "<li>3 files</li>" in html
    assert '"software": "DV26"' in (tmp_path / "sheet" / "cases.json").read_text()


def test_a_refused_study_is_listed_with_sentence_remedy_and_its_series(tmp_path: Path) -> None:
    refusal = Refusal(Code.MISSING_PHASE, "slice 4 has 19 phases, others 20", [LeftOut("series 1", 239, Code.STILL)])
    report = refused("study-r", 240, refusal)
    listed = datalist(set_aside=({"case_id": "study-r", "reason": report.reason},))
    with_report = page(listed, tmp_path / "sheet", reports=[report])
    alone = page(listed, tmp_path / "sheet")
    for html in (with_report, alone):
        assert "Slice 4 has 19 phases, others 20." in html
        assert html.count(Code.MISSING_PHASE.remedy) == 1
        assert html.count(Code.MISSING_PHASE.sentence) == 2  # in the table of reasons and at the study
    assert "series 1, 239 images: <code>STILL</code>" in with_report


def test_a_datalist_without_studies_promises_no_list_of_them(tmp_path: Path) -> None:
    html = page(datalist(), tmp_path / "sheet")
    assert "No study came in: there was none." in html
    assert "listed below" not in html


def test_studies_can_be_filtered_by_scanner_and_by_warning_without_a_script(tmp_path: Path) -> None:
    cases = (case(tmp_path), case(tmp_path, "study-b", scanner="Siemens Aera 1.5 T"))
    html = page(datalist(*cases, notes=("study-b: directions are not orthonormal",)), tmp_path / "sheet")
    assert html.count('type="radio"') == 4
    assert "body:has(#show-scanner-1:checked) .study:not(.scanner-1) { display: none; }" in html
    assert '<article class="study scanner-0" id="study-a">' in html
    assert '<article class="study scanner-1 warned" id="study-b">' in html


def test_an_image_that_cannot_be_read_costs_its_pictures_only(tmp_path: Path) -> None:
    broken = case(tmp_path, "study-b")
    assert broken.image is not None
    broken.image.write_bytes(b"no image")
    html = page(datalist(case(tmp_path), broken), tmp_path / "sheet")
    assert "No pictures: ValueError: image must be readable" in html
    assert (tmp_path / "sheet" / "images" / "study-a.png").is_file()


def test_pictures_are_kept_until_the_image_or_its_phases_change(tmp_path: Path) -> None:
    """A second sheet of 500 studies takes seconds."""
    listed, folder = case(tmp_path), tmp_path / "sheet"
    picture = folder / "images" / "study-a.png"
    first = page(datalist(listed), folder)
    os.utime(picture, (1, 1))
    assert page(datalist(listed), folder) == first
    assert picture.stat().st_mtime == 1
    page(datalist(replace(listed, es=2)), folder)
    assert picture.stat().st_mtime > 1


def test_prepared_studies_are_shown_as_the_student_gets_them(tmp_path: Path) -> None:
    """Eight slices of 64 pixels, no crop drawn: the whole picture is the crop."""
    recipe = StudentInput()
    image = np.random.default_rng(0).normal(size=recipe.shape).astype(np.float32)
    phases = {"ed": 17, "es": 7, "n_phases": 20, "source": "found"}
    record = {"heart": {"row": 1.0, "col": 2.0, "confidence": 0.75}, "phases": phases}
    write_prepared(tmp_path / "study-a.npz", image, record)
    prepared = replace(case(tmp_path), image=tmp_path / "study-a.npz", ed=0, es=1)
    listed = datalist(prepared, recipe=recipe.to_dict(), recipe_digest=recipe.digest)
    html = page(listed, tmp_path / "sheet")
    assert "8 slices from base to apex, 64 × 64 pixels of 2.5 mm" in html
    assert "confidence 0.75" in html
    assert "end-diastole 17, end-systole 7, counted 0 to 19; found" in html
    montage = np.asarray(Image.open(tmp_path / "sheet" / "images" / "study-a.png").convert("RGB"))
    assert not _amber(montage).any()
    assert Image.open(tmp_path / "sheet" / "images" / "study-a.webp").n_frames == 2


def test_a_pair_of_volumes_is_shown(tmp_path: Path) -> None:
    paths = {}
    for name, phase in (("image_ed", 0), ("image_es", 3)):
        paths[name] = tmp_path / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(beating()[phase].transpose(2, 1, 0), AFFINE), paths[name])
    pair = replace(case(tmp_path), image=None, ed=None, es=None, **paths)
    html = page(datalist(pair), tmp_path / "sheet")
    assert "2 phases × 3 slices × 100 × 110" in html
    assert "counted 0 to" not in html


def test_phases_that_a_datalist_lacks_are_found(tmp_path: Path) -> None:
    html = page(datalist(case(tmp_path, ed=None, es=None)), tmp_path / "sheet")
    assert "counted 0 to 5; found" in html


def view(**known: Any) -> View:
    fixed = {
        "phases": beating(), "spacing": (2.0, 2.0), "ed": 0, "es": 3,
        "heart": HeartCentre(48.0, 60.0, 1.0), "crop_mm": (80.0, 80.0), "phase_ms": 40.0,
    }  # fmt: skip
    return View(**{**fixed, **known})


def test_the_crop_is_drawn_around_the_heart(tmp_path: Path) -> None:
    """A tile shows 1.6 crops: 128 mm in 240 pixels; the square of 80 mm is 150 pixels wide, its middle the disc's."""
    width, height = write_montage(view(), tmp_path / "montage.png")
    assert (width, height) == (GUTTER + 3 * 240 + 2 * GAP, 2 * 240 + GAP)
    tile = np.asarray(Image.open(tmp_path / "montage.png").convert("RGB"))[:240, GUTTER : GUTTER + 240]
    rows, cols = np.nonzero(_amber(tile))
    assert (cols.min() + cols.max()) / 2 == pytest.approx(119.5, abs=1)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(119.5, abs=1)
    assert cols.max() - cols.min() == pytest.approx(150, abs=2)
    bright = tile[..., 0] > 200
    assert np.argwhere(bright & ~_amber(tile)).mean(axis=0) == pytest.approx([119.5, 119.5], abs=3)


def test_a_crop_that_leaves_the_field_of_view_is_cut(tmp_path: Path) -> None:
    """The tile stays within the image, the square at its edge, and nothing fails."""
    write_montage(view(heart=HeartCentre(3.0, 108.0, 1.0)), tmp_path / "montage.png")
    tile = np.asarray(Image.open(tmp_path / "montage.png").convert("RGB"))[:240, GUTTER : GUTTER + 240]
    rows, cols = np.nonzero(_amber(tile))
    assert rows.min() == 0
    assert cols.max() >= 238


def test_the_movie_loops_from_end_diastole_at_the_hearts_own_pace(tmp_path: Path) -> None:
    """Smallest disc at its start, since end-diastole is told to be phase 3; the still is the same image."""
    write_movie(view(ed=3, es=0), tmp_path / "movie.webp", tmp_path / "still.webp")
    movie = Image.open(tmp_path / "movie.webp")
    assert (movie.n_frames, movie.info["loop"]) == (6, 0)
    sizes = []
    for number in range(6):
        movie.seek(number)
        movie.load()
        assert movie.info["duration"] == 40
        sizes.append(np.asarray(movie.convert("L")).astype(float).mean())
    assert int(np.argmin(sizes)) == 0
    assert np.asarray(Image.open(tmp_path / "still.webp").convert("L")).astype(float).mean() == pytest.approx(
        sizes[0], rel=0.05
    )


def test_a_movie_of_noise_stays_below_its_limit(tmp_path: Path) -> None:
    """Noise is what compresses worst; 40 phases are more than scanners make."""
    noise = np.random.default_rng(0).normal(size=(40, 3, 64, 64)).astype(np.float32)
    write_movie(view(phases=noise, heart=None), tmp_path / "movie.webp", tmp_path / "still.webp")
    assert (tmp_path / "movie.webp").stat().st_size < 300_000


def _amber(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(pixels.astype(int) - CROP_COLOUR).max(axis=-1) < 40)
