"""Handwritten digits on photographs: a small stand-in for Waterbirds, made of real pixels, in its layout.

The class is whether a digit is small (0 to 4) or large (5 to 9): either class has five shapes, each much like one of
the other class (3 and 8, 1 and 7, 4 and 9), so that no single stroke decides and a small network has to learn them
all. The place is the photograph behind the digit: the ground (brick, grass, gravel) or a scene (a portrait, a cat, a
cup), easily told apart by colour. In training the place goes with the class as often as asked; a network that reads
the place is then mostly right, and wrong where the two disagree.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.cohort.digits_paint import paint, photographs
from pipeline.cohort.digits_plan import CLASSES, PLACES, SPLITS, Drawing, Settings, draw
from pipeline.files import atomic_path

SETTINGS_NAME, TABLE_NAME = "digits.json", "metadata.csv"
COLUMNS = ("img_id", "img_filename", "y", "split", "place", "place_filename", "unit")

_FORMAT = 1  # raise when the same settings would give other images


@dataclass(frozen=True)
class DigitsSummary:
    """What :func:`write_digits` left behind; counts are by split, then class and place."""

    root: Path
    counts: dict[str, dict[str, int]]
    written: int
    kept: int


def write_digits(
    out: str | Path,
    *,
    seed: int = 0,
    training: int = 2000,
    confounding: float = 0.95,
    minority_share: float = 1.0,
    test_per_cell: int = 100,
    pixels: int = 32,
    progress: bool = True,
) -> DigitsSummary:
    """Write digits on photographs in Waterbirds' layout; a second call writes only what is missing.

    No digit and no part of a photograph occurs in two splits. The digits' file is in the order of the hands that
    wrote them, about 128 in a row each; whole hands are given to the splits. The test images depend on the seed,
    ``test_per_cell`` and ``pixels`` alone, and show each of their digits twice, alike in all but the place.

    Args:
        out: the folder; made if absent, else empty or of the same settings.
        seed: chooses hands, blocks of photographs, digits, and how each is drawn.
        training: training images, half of each class, before ``minority_share`` is applied. Above about 1000, digits
            occur again with another background. The validation images are a quarter of these, drawn by the same
            shares, and at least 20 of each class and place.
        confounding: share of the images of a class that stand at its own place (small: ground, large: scene): 0.5
            leaves class and place independent, 1 makes them one. Waterbirds has 0.95.
        minority_share: factor on the training and validation images with a scene: 1 makes both places alike
            frequent.
        test_per_cell: test images of each class at each place.
        pixels: height and width.
        progress: whether to show a progress bar.

    Returns:
        Folder and counts.

    Raises:
        ValueError: if a setting is out of range, or the test split has too few digits for ``test_per_cell``.
        FileExistsError: if ``out`` holds something else, or a cohort of other settings.

    Source: scikit-learn's digits (Alpaydin & Kaynak 1998, UCI); photographs from scikit-image; the task after
        Sagawa et al. 2020, arXiv:1911.08731.
    """
    settings = Settings(seed, training, confounding, minority_share, test_per_cell, pixels)
    images, values = _digits()
    drawings = draw(settings, values)
    root = Path(out)
    _claim(root, settings)
    available, table, written = photographs(), [], 0
    for drawing in tqdm(drawings, desc="digits", unit="image", disable=not progress):
        image, photograph = paint(drawing, images[drawing.digit], available, seed=seed, pixels=pixels)
        if not (root / drawing.path).is_file():
            _write_png(root / drawing.path, image)
            written += 1
        table.append(_table_row(drawing, photograph))
    _write_table(root / TABLE_NAME, table)
    return DigitsSummary(root, _counts(drawings), written, len(drawings) - written)


def summary_lines(summary: DigitsSummary) -> Iterator[str]:
    """Counts of each split by class and place, as printed."""
    for split, counts in summary.counts.items():
        yield f"{split}: {sum(counts.values())} images: " + ", ".join(f"{name} {n}" for name, n in counts.items())
    yield f"wrote {summary.written} images, {summary.kept} were there already"


def _table_row(drawing: Drawing, photograph: str) -> list[Any]:
    codes = (drawing.label, drawing.split, drawing.place)
    return [drawing.number, drawing.path, *codes, f"{photograph}.png", f"digit-{drawing.digit:04d}"]


def _digits() -> tuple[NDArray[Any], NDArray[Any]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target


def _claim(root: Path, settings: Settings) -> None:
    """Say in the folder what it is made with, or check that it says so already."""
    path, record = root / SETTINGS_NAME, {"format": _FORMAT, **asdict(settings)}
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != record:
            unlike = [field.name for field in fields(Settings) if found.get(field.name) != record[field.name]]
            raise FileExistsError(
                f"{root} must be empty or hold a cohort of the same settings; {unlike or ['format']} differ; "
                "choose another folder"
            )
        return
    if root.is_dir() and any(not entry.name.startswith(".") for entry in root.iterdir()):
        raise FileExistsError(f"{root} must be empty or hold a cohort of digits; it holds other files; choose another")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def _write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows)


def _counts(drawings: Iterable[Drawing]) -> dict[str, dict[str, int]]:
    found = Counter((drawing.split, drawing.label, drawing.place) for drawing in drawings)
    return {
        name: {
            f"{CLASSES[label]} x {PLACES[place]}": found[split, label, place]
            for label in range(2)
            for place in range(2)
        }
        for split, name in enumerate(SPLITS)
    }
