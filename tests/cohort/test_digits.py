"""Digits on photographs: counts as asked, splits apart, the same pixels again."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.cohort.case import read_datalist
from pipeline.cohort.digits import summary_lines, write_digits
from pipeline.cohort.digits_paint import PHOTOGRAPHS, paint, photographs, render
from pipeline.cohort.digits_plan import Drawing, Settings, cell_counts, draw

VALUES = np.tile(np.arange(10), 140)  # 14 hands, ten of each digit from each
SMALL = {"training": 40, "test_per_cell": 3, "progress": False}


def rows_of(root: Path) -> list[dict[str, str]]:
    with (root / "metadata.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("confounding", "minority_share", "expected"),
    [
        (0.5, 1.0, [50, 50, 50, 50]),
        (0.95, 1.0, [95, 5, 5, 95]),
        (1.0, 1.0, [100, 0, 0, 100]),
        (0.9, 0.5, [90, 5, 10, 45]),
    ],
)
def test_counts_are_the_shares_asked_for(confounding: float, minority_share: float, expected: list[int]) -> None:
    """Of 200, 100 a class; the last: 0.9 x 100, 0.1 x 100 x 0.5, 0.1 x 100, 0.9 x 100 x 0.5."""
    drawn = draw(Settings(training=200, confounding=confounding, minority_share=minority_share), VALUES)
    found = Counter((drawing.label, drawing.place) for drawing in drawn if drawing.split == 0)
    assert [found[cell] for cell in ((0, 0), (0, 1), (1, 0), (1, 1))] == expected
    assert list(cell_counts(200, confounding=confounding, minority_share=minority_share).values()) == expected


def test_validation_is_drawn_as_training_with_twenty_in_each_cell() -> None:
    """A quarter of 2000: 250 a class, 0.95 of it is 237.5, 0.05 is 12.5."""
    found = Counter((d.label, d.place) for d in draw(Settings(training=2000), VALUES) if d.split == 1)
    assert found == {(0, 0): 238, (0, 1): 20, (1, 0): 20, (1, 1): 238}


def test_the_label_is_whether_the_digit_is_five_or_more() -> None:
    assert all(d.label == int(VALUES[d.digit] >= 5) and d.value == VALUES[d.digit] for d in draw(Settings(), VALUES))


def test_no_hand_occurs_in_two_splits() -> None:
    """A hand is 100 digits in a row here; so no digit does either."""
    hands = {split: {d.digit // 100 for d in draw(Settings(), VALUES) if d.split == split} for split in range(3)}
    assert [len(found) for found in hands.values()] == [8, 3, 3]
    assert len(set.union(*hands.values())) == 14


def test_every_digit_of_the_test_part_stands_at_both_places() -> None:
    drawn = [d for d in draw(Settings(test_per_cell=30), VALUES) if d.split == 2]
    places = [{d.digit for d in drawn if d.place == place} for place in range(2)]
    assert places[0] == places[1]
    assert len(places[0]) == 60
    assert Counter((d.label, d.place) for d in drawn) == dict.fromkeys([(0, 0), (0, 1), (1, 0), (1, 1)], 30)


def test_the_test_part_is_the_same_whatever_the_training_is() -> None:
    one, other = (
        [d for d in draw(settings, VALUES) if d.split == 2]
        for settings in (Settings(confounding=1.0, training=100), Settings(confounding=0.5, minority_share=0.2))
    )
    assert one == other
    assert one != [d for d in draw(Settings(seed=1), VALUES) if d.split == 2]


def test_digits_repeat_in_training_only_when_they_run_out() -> None:
    """Eight hands have 400 digits of each class."""
    seen = Counter(d.digit for d in draw(Settings(training=800), VALUES) if d.split == 0)
    assert set(seen.values()) == {1}
    again = Counter(d.digit for d in draw(Settings(training=1600), VALUES) if d.split == 0)
    assert set(again.values()) == {2}


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1}, {"training": 1}, {"confounding": 0.4}, {"confounding": float("nan")}, {"minority_share": 0.0},
        {"minority_share": 2.0}, {"test_per_cell": 0}, {"pixels": 8},
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused_by_name(wrong: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        write_digits(tmp_path, **wrong, progress=False)
    assert not list(tmp_path.iterdir())


def test_more_test_digits_than_there_are_are_refused() -> None:
    """Three hands have 150 of each class."""
    with pytest.raises(ValueError, match=r"at most 150 .* got 151"):
        draw(Settings(test_per_cell=151), VALUES)


def coordinates() -> dict[str, np.ndarray]:
    """Photographs whose red and green say which of the 4 x 4 blocks a pixel is of."""
    block = (np.arange(400) // 100 * 60).astype(np.uint8)
    photograph = np.zeros((400, 400, 3), dtype=np.uint8)
    photograph[..., 0], photograph[..., 1] = block[:, None], block[None, :]
    return {name: photograph for names in PHOTOGRAPHS for name in names}


def test_no_block_of_a_photograph_occurs_in_two_splits() -> None:
    """A patch lies within one block: behind an empty digit it has the one colour of that block."""
    blocks: dict[tuple[str, int], set[tuple[int, ...]]] = {}
    for split in range(3):
        for stream in range(300):
            drawing = Drawing(1, split, 0, stream % 2, 0, 0, stream)
            image, name = paint(drawing, np.zeros((8, 8)), coordinates(), seed=0, pixels=16)
            assert (image == image[0, 0]).all()
            blocks.setdefault((name, split), set()).add(tuple(int(value) for value in image[0, 0]))
    for names in PHOTOGRAPHS:
        for name in names:
            found = [blocks[name, split] for split in range(3)]
            assert [len(part) for part in found] == [8, 4, 4]
            assert len(set.union(*found)) == 16


@pytest.mark.parametrize("grey", [20, 127, 128, 235])
def test_a_digit_is_seen_on_any_background(grey: int) -> None:
    """At least 0.8 of the way to a colour of the far quarter, a quarter of 255 away at least."""
    patch = np.full((32, 32, 3), grey, dtype=np.uint8)
    for seed in range(20):
        drawn = render(np.full((8, 8), 16.0), patch, np.random.default_rng(seed)).astype(float)
        inked = np.abs(drawn - grey).mean(axis=-1)
        assert inked.max() > 0.25 * 255 * 0.8
        assert 0.75**2 * 0.9 < (inked > 0).mean() <= 0.95**2 * 1.1


def test_two_images_of_a_test_digit_are_drawn_alike() -> None:
    """On black paper at both places they are one image."""
    black = {name: np.zeros((400, 400, 3), dtype=np.uint8) for names in PHOTOGRAPHS for name in names}
    one, other = (
        paint(Drawing(1, 2, 0, place, 7, 0, 7), np.eye(8) * 16, black, seed=3, pixels=32)[0] for place in range(2)
    )
    np.testing.assert_array_equal(one, other)
    assert one.any()


def test_photographs_ship_with_scikit_image_and_places_differ_in_colour() -> None:
    """Ground is grey, scenes are not; nothing is downloaded (what would download is not installed)."""
    saturation = {name: np.ptp(photo.astype(int), axis=-1).mean() for name, photo in photographs().items()}
    assert max(saturation[name] for name in PHOTOGRAPHS[0]) == 0
    assert min(saturation[name] for name in PHOTOGRAPHS[1]) > 20


def test_the_same_settings_write_the_same_bytes_and_a_lost_file_comes_back(tmp_path: Path) -> None:
    first = write_digits(tmp_path / "a", **SMALL)
    write_digits(tmp_path / "b", **SMALL)
    before = digests(tmp_path / "a")
    assert before == digests(tmp_path / "b")
    lost = tmp_path / "a" / rows_of(tmp_path / "a")[5]["img_filename"]
    lost.unlink()
    again = write_digits(tmp_path / "a", **SMALL)
    assert (again.written, again.kept) == (1, first.written - 1)
    assert digests(tmp_path / "a") == before
    write_digits(tmp_path / "c", seed=1, **SMALL)
    assert digests(tmp_path / "c") != before


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    write_digits(tmp_path / "a", **SMALL)
    with pytest.raises(FileExistsError, match=r"\['confounding'\] differ"):
        write_digits(tmp_path / "a", confounding=0.6, **SMALL)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files"):
        write_digits(tmp_path, **SMALL)


def test_the_importer_reads_what_the_command_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints its own successor."""
    root, output = tmp_path / "digits", tmp_path / "datalist.json"
    assert main(["digits", str(root), "--training", "40", "--test-per-cell", "3", "--pixels", "16"]) == 0
    said = capsys.readouterr().out
    assert "training: 40 images: small x ground 19, small x scene 1, large x ground 1, large x scene 19" in said
    arguments = said.splitlines()[-1].removeprefix("next: evenbeat ").replace("datalist.json", str(output)).split()
    assert main(arguments) == 0
    listed = read_datalist(output)
    assert listed.classes == ("small", "large")
    assert listed.recipe is not None
    assert listed.recipe["rows"] == 16
    found = Counter((case.label, case.site) for case in listed.sections["test"])
    assert found == dict.fromkeys([(a, b) for a in ("small", "large") for b in ("ground", "scene")], 3)
    assert len({case.patient_id for case in listed.sections["test"]}) == 6


def test_the_table_says_what_the_files_are(tmp_path: Path) -> None:
    summary = write_digits(tmp_path / "a", **SMALL)
    rows = rows_of(tmp_path / "a")
    assert len(rows) == summary.written == sum(sum(counts.values()) for counts in summary.counts.values())
    assert list(summary_lines(summary))[-1] == f"wrote {len(rows)} images, 0 were there already"
    for row in rows:
        value = int(row["img_filename"].split("/")[0].removeprefix("digit-"))
        assert int(row["y"]) == int(value >= 5)
        assert row["place_filename"].removesuffix(".png") in PHOTOGRAPHS[int(row["place"])]
        with Image.open(tmp_path / "a" / row["img_filename"]) as image:
            assert (image.size, image.mode) == ((32, 32), "RGB")
