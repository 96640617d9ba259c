"""Waterbirds' layout: what the table says comes in, and what it says wrongly is refused at its line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.cohort.case import Datalist, read_datalist, write_datalist
from pipeline.cohort.waterbirds import import_waterbirds
from transforms.files import read_prepared
from transforms.natural_image import MEAN, STD, NaturalImage, standardise_rgb

HEADER = ["img_id", "img_filename", "y", "split", "place", "place_filename"]  # in the order of the real table
ROWS = [
    ["1", "001.Albatross/a.jpg", "1", "0", "1", "/o/ocean/1.jpg"],
    ["2", "001.Albatross/b.jpg", "1", "1", "0", "/b/bamboo_forest/1.jpg"],
    ["3", "009.Blackbird/c.jpg", "0", "2", "0", "/b/bamboo_forest/2.jpg"],
    ["4", "009.Blackbird/d.jpg", "0", "0", "1", "/l/lake/2.jpg"],
]
COLOURS = {"1": (250, 10, 20), "2": (10, 250, 20), "3": (10, 20, 250), "4": (120, 120, 120)}
RECIPE = NaturalImage(rows=12, cols=8)


def write_table(root: Path, rows: list[list[str]], header: list[str] = HEADER) -> None:
    with (root / "metadata.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four pictures of one colour each, of unlike sizes."""
    root = tmp_path / "waterbirds"
    for size, row in enumerate(ROWS):
        path = root / row[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30 + size, 50), COLOURS[row[0]]).save(path, quality=100)
    write_table(root, ROWS)
    return root


def imported(root: Path, recipe: NaturalImage = RECIPE) -> Datalist:
    return import_waterbirds(root, root.parent / "images", recipe=recipe, workers=2, progress=False)


def test_every_line_comes_in_with_its_class_place_and_split(root: Path) -> None:
    listed = imported(root)
    found = {(section, case.case_id, case.label, case.site) for section, case in listed.cases()}
    assert found == {
        ("training", "1", "waterbird", "water"),
        ("validation", "2", "waterbird", "land"),
        ("test", "3", "landbird", "land"),
        ("training", "4", "landbird", "water"),
    }
    assert listed.classes == ("landbird", "waterbird")
    assert listed.group_by == ("site", "label")
    assert all(case.patient_id == case.case_id for _, case in listed.cases())


def test_the_datalist_passes_the_rules_and_names_the_recipe(root: Path, tmp_path: Path) -> None:
    write_datalist(imported(root), tmp_path / "datalist.json")
    listed = read_datalist(tmp_path / "datalist.json")
    assert listed.recipe is not None
    assert {key: listed.recipe[key] for key in ("kind", "rows", "cols", "channels")} == {
        "kind": "natural-image", "rows": 12, "cols": 8, "channels": 3,
    }  # fmt: skip
    assert listed.recipe_digest == RECIPE.digest
    assert "not comparable with published" in listed.notes[0]


def test_a_picture_of_one_colour_becomes_that_colour_standardised(root: Path) -> None:
    """A picture of one colour has it after any resizing; JPEG may be off by a few of 255."""
    for _, case in imported(root).cases():
        assert case.image is not None
        image, record = read_prepared(case.image, recipe_digest=RECIPE.digest)
        assert image.shape == (3, 12, 8)
        assert image.dtype == np.float32
        seen = (image.transpose(1, 2, 0) * STD + MEAN) * 255
        np.testing.assert_allclose(seen, np.broadcast_to(COLOURS[case.case_id], (12, 8, 3)), atol=4)
        assert record["case_id"] == case.case_id


def test_reduction_does_not_alias(root: Path) -> None:
    """Stripes finer than the output's pixels become their mean, 127.5."""
    stripes = np.zeros((50, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(root / "001.Albatross" / "stripes.png")
    write_table(root, [["9", "001.Albatross/stripes.png", "0", "0", "0", "x"]])
    (case,) = imported(root).sections["training"]
    assert case.image is not None
    seen = (read_prepared(case.image)[0].transpose(1, 2, 0) * STD + MEAN) * 255
    np.testing.assert_allclose(seen, 127.5, atol=5)


def test_standardisation_keeps_rows_columns_and_channels_apart() -> None:
    """Red 255 at (0, 1) alone: (1 - 0.485) / 0.229 there, -mean/std elsewhere."""
    image = np.zeros((2, 3, 3), dtype=np.uint8)
    image[0, 1, 0] = 255
    out = standardise_rgb(image)
    assert out[0, 0, 1] == pytest.approx((1 - 0.485) / 0.229)
    assert out[0, 1, 0] == pytest.approx(-0.485 / 0.229)
    assert out[2, 0, 1] == pytest.approx(-0.406 / 0.225)


@pytest.mark.parametrize("image", [np.zeros((2, 3), np.uint8), np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 3))])
def test_standardisation_refuses_what_is_not_rgb(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be uint8"):
        standardise_rgb(image)


def test_another_size_is_another_digest() -> None:
    sizes = [(12, 8), (8, 12), (12, 12)]
    assert len({NaturalImage(*size).digest for size in sizes}) == 3
    with pytest.raises(ValueError, match="cols must be a whole number above 0; got 0"):
        NaturalImage(8, 0)


def test_a_second_import_writes_nothing_and_a_changed_file_or_recipe_writes_again(root: Path) -> None:
    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (root.parent / "images").iterdir()}

    imported(root)
    first = times()
    imported(root)
    assert times() == first
    Image.new("RGB", (7, 7)).save(root / ROWS[0][1])
    imported(root)
    second = times()
    assert {name for name in first if first[name] != second[name]} == {"1.npz"}
    imported(root, NaturalImage(6, 6))
    assert all(second[name] != time for name, time in times().items())


def test_what_was_cut_off_is_written_again(root: Path) -> None:
    listed = imported(root)
    broken = root.parent / "images" / "3.npz"
    broken.write_bytes(broken.read_bytes()[:100])
    imported(root)
    assert read_prepared(broken, recipe_digest=listed.recipe_digest)[0].shape == (3, 12, 8)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("y", "2", r"line 3, column y: must be one of 0 \(landbird\), 1 \(waterbird\); got '2'"),
        ("place", "", r"line 3, column place: must be one of 0 \(land\), 1 \(water\); got ''"),
        ("split", "3", r"line 3, column split: must be one of 0 \(training\), 1 \(validation\), 2 \(test\); got '3'"),
        ("img_id", "1", r"line 3, column img_id: must be an id of its own, not that of line 2; got '1'"),
        ("img_id", "1.5", r"line 3, column img_id: must be a whole number; got '1\.5'"),
        ("img_filename", "gone.jpg", r"line 3, column img_filename: must be a file below .*; got 'gone\.jpg'"),
        ("img_filename", "", r"line 3, column img_filename: must be a file below .*; got ''"),
    ],
)
def test_a_wrong_value_is_refused_at_its_line_and_column(root: Path, column: str, value: str, message: str) -> None:
    """The header is line 1, so that the second image stands in line 3."""
    rows = [list(row) for row in ROWS]
    rows[1][HEADER.index(column)] = value
    write_table(root, rows)
    with pytest.raises(ValueError, match=message):
        imported(root)
    assert not (root.parent / "images").exists()


def test_a_line_cut_short_is_refused(root: Path) -> None:
    write_table(root, [ROWS[0], ROWS[1][:3]])
    with pytest.raises(ValueError, match=r"line 3, column place: .* got None"):
        imported(root)


def test_a_table_without_a_column_or_without_lines_or_no_table_is_refused(root: Path) -> None:
    write_table(root, [row[:4] for row in ROWS], HEADER[:4])
    with pytest.raises(ValueError, match=r"\['place'\] are missing"):
        imported(root)
    write_table(root, [])
    with pytest.raises(ValueError, match="a line for each image; it has none"):
        imported(root)
    (root / "metadata.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no metadata\.csv"):
        imported(root)


def test_a_file_that_is_no_image_is_named(root: Path) -> None:
    (root / ROWS[2][1]).write_text("not a picture")
    with pytest.raises(ValueError, match=r"c\.jpg must be readable as an image"):
        imported(root)


def test_images_of_one_unit_are_one_patient(root: Path) -> None:
    write_table(root, [[*row, "same" if row[3] == "0" else row[0]] for row in ROWS], [*HEADER, "unit"])
    assert [case.patient_id for case in imported(root).sections["training"]] == ["same", "same"]


def test_classes_and_places_are_two_names_each(root: Path) -> None:
    with pytest.raises(ValueError, match=r"classes must be two names.*\['a'\]"):
        import_waterbirds(root, root, recipe=RECIPE, classes=["a"], progress=False)
    with pytest.raises(ValueError, match="places must be two names"):
        import_waterbirds(root, root, recipe=RECIPE, places=["a", "a"], progress=False)


def test_the_command_writes_images_beside_the_datalist(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "birds.json"
    assert main(["datalist", "waterbirds", str(root), "-o", str(output), "--pixels", "16"]) == 0
    listed = json.loads(output.read_text())
    assert (listed["recipe"]["rows"], listed["recipe"]["cols"]) == (16, 16)
    assert listed["test"][0]["image"] == "birds-images/3.npz"
    assert read_datalist(output).source == "Waterbirds"
    assert "not comparable with published" in capsys.readouterr().out
