"""Waterbirds (Sagawa et al. 2020): folder to prepared images and their datalist.

Layout: ``metadata.csv`` with ``img_id, img_filename, y, split, place, place_filename``, and the images at
``img_filename`` in subfolders. ``y``: 0 landbird, 1 waterbird; ``place``: 0 land, 1 water; ``split``: 0 training,
1 validation, 2 test. A column ``unit``, which Waterbirds has not, says which images show the same thing.

A photograph needs none of the preprocessing of a cine, so that images are prepared here, as they are imported.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pipeline.cohort.case import SECTIONS, Case, Datalist, created_with
from pipeline.cohort.validation import check_group_by
from pipeline.files import atomic_path
from transforms.files import read_prepared, write_prepared
from transforms.natural_image import NaturalImage, standardise_rgb
from transforms.scanner import UNKNOWN

TABLE_NAME = "metadata.csv"
COLUMNS = ("img_id", "img_filename", "y", "place", "split")
CLASSES = ("landbird", "waterbird")
PLACES = ("land", "water")
GROUP_BY = ("site", "label")  # the place stands where a study has its hospital
NOTE = (
    "networks here start without pretraining: results are not comparable with published ones, which start from "
    "ImageNet's weights; nor is the image cropped as there"
)


@dataclass(frozen=True)
class _Row:
    """A line of the table, checked."""

    section: str
    case: Case
    source: Path


def import_waterbirds(
    root: str | Path,
    images_dir: str | Path,
    *,
    recipe: NaturalImage,
    classes: Sequence[str] = CLASSES,
    places: Sequence[str] = PLACES,
    group_by: Sequence[str] = GROUP_BY,
    workers: int | None = None,
    progress: bool = True,
) -> Datalist:
    """Prepare the images of a folder in Waterbirds' layout, and list them.

    Each image is brought to RGB and to the recipe's rows and columns (anti-aliased, its aspect ratio not kept),
    standardised with constants, and written to ``images_dir/<img_id>.npz``. What an earlier run made by the same
    recipe from the same file is kept. The table's split is taken as it is.

    Published figures on Waterbirds start from networks pretrained on ImageNet. Networks here start from nothing,
    and their figures are not comparable with those.

    Args:
        root: the folder that holds ``metadata.csv``.
        images_dir: folder for the prepared images.
        recipe: rows and columns.
        classes: names of ``y`` 0 and 1.
        places: names of ``place`` 0 and 1; they become the cases' ``site``.
        group_by: columns of a group.
        workers: threads; one per processor by default.
        progress: whether to show a progress bar.

    Returns:
        The datalist of the prepared images. Each image is a patient of its own, unless the table has ``unit``.

    Raises:
        FileNotFoundError: if there is no table.
        ValueError: if a column is missing, a line of the table breaks a rule, or a file cannot be read as an image.

    Source: layout from the code of Sagawa et al. 2020, arXiv:1911.08731 (kohpangwei/group_DRO, cub_dataset.py).
    """
    check_group_by(group_by)
    _check_names(classes=classes, places=places)
    folder = Path(images_dir).resolve()
    rows = _read_table(Path(root).resolve(), classes, places)
    prepared = _prepare_all(rows, folder, recipe, workers or os.cpu_count() or 1, progress=progress)
    return Datalist(
        classes=tuple(classes),
        source="Waterbirds" if tuple(classes) == CLASSES else f"{' and '.join(classes)} in Waterbirds' layout",
        group_by=tuple(group_by),
        sections={name: tuple(case for section, case in prepared if section == name) for name in SECTIONS},
        created_with=created_with(),
        notes=(NOTE,),
        recipe=recipe.to_dict(),
        recipe_digest=recipe.digest,
    )


def _check_names(**names: Sequence[str]) -> None:
    for name, values in names.items():
        if len(values) != 2 or len(set(values)) != 2:
            raise ValueError(f"{name} must be two names, for the table's 0 and 1; got {list(values)}")


def _read_table(root: Path, classes: Sequence[str], places: Sequence[str]) -> list[_Row]:
    path = root / TABLE_NAME
    if not path.is_file():
        raise FileNotFoundError(f"no {TABLE_NAME} in {root}; give the folder that waterbird_….tar.gz unpacks to")
    with path.open(newline="", encoding="utf-8") as stream:
        table = csv.DictReader(stream)
        missing = [column for column in COLUMNS if column not in (table.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} must have the columns {list(COLUMNS)}; {missing} are missing; restore the table")
        rows: list[_Row] = []
        lines: dict[str, int] = {}
        for record in table:
            row = _checked(record, _Line(path, table.line_num), classes, places)
            first = lines.setdefault(row.case.case_id, table.line_num)
            if first != table.line_num:
                raise _Line(path, table.line_num).error("img_id", f"an id of its own, not that of line {first}", record)
            rows.append(row)
    if not rows:
        raise ValueError(f"{path} must have a line for each image; it has none; restore the table")
    return rows


@dataclass(frozen=True)
class _Line:
    """Where in the table we are, for errors; the header is line 1."""

    path: Path
    number: int

    def error(self, column: str, must: str, record: Mapping[str, Any]) -> ValueError:
        got = f"must be {must}; got {record[column]!r}; correct the table"
        return ValueError(f"{self.path}, line {self.number}, column {column}: {got}")

    def code(self, column: str, names: Sequence[str], record: Mapping[str, Any]) -> str:
        """What a number of the table stands for."""
        codes = {str(code): name for code, name in enumerate(names)}
        if record[column] not in codes:
            said = ", ".join(f"{code} ({name})" for code, name in codes.items())
            raise self.error(column, f"one of {said}", record)
        return codes[record[column]]


def _checked(record: Mapping[str, Any], line: _Line, classes: Sequence[str], places: Sequence[str]) -> _Row:
    if not (record["img_id"] or "").isdecimal():
        raise line.error("img_id", "a whole number", record)
    source = line.path.parent / (record["img_filename"] or "")
    if not source.is_file():
        raise line.error("img_filename", f"a file below {line.path.parent}", record)
    if "unit" in record and not record["unit"]:
        raise line.error("unit", "the name of what the image shows", record)
    case = Case(
        case_id=record["img_id"],
        patient_id=record.get("unit", record["img_id"]),
        label=line.code("y", classes, record),
        site=line.code("place", places, record),
        vendor=UNKNOWN,
        scanner=UNKNOWN,
    )
    return _Row(line.code("split", SECTIONS, record), case, source)


def _prepare_all(
    rows: Sequence[_Row], folder: Path, recipe: NaturalImage, workers: int, *, progress: bool
) -> list[tuple[str, Case]]:
    """Section and case of every row, in their order, their images written."""
    with ThreadPoolExecutor(workers) as pool:  # decoding and resizing release Python's lock
        try:
            done = pool.map(lambda row: _prepared(row, folder, recipe), rows)
            return list(tqdm(done, total=len(rows), desc="Waterbirds", unit="image", disable=not progress))
        finally:
            pool.shutdown(cancel_futures=True)


def _prepared(row: _Row, folder: Path, recipe: NaturalImage) -> tuple[str, Case]:
    path = folder / f"{row.case.case_id}.npz"
    stat = row.source.stat()
    made_of = json.dumps([row.source.name, stat.st_size, stat.st_mtime_ns])
    expected = {"recipe_digest": recipe.digest, "fingerprint": hashlib.sha256(made_of.encode()).hexdigest()}
    if not _is_there(path, expected):
        image = standardise_rgb(_read_rgb(row.source, recipe))
        with atomic_path(path) as temporary:
            write_prepared(temporary, image, {"case_id": row.case.case_id, "recipe": recipe.to_dict(), **expected})
    return row.section, replace(row.case, image=path)


def _is_there(path: Path, expected: Mapping[str, str]) -> bool:
    try:
        _, record = read_prepared(path)
    except (FileNotFoundError, ValueError):
        return False
    return all(record.get(key) == value for key, value in expected.items())


def _read_rgb(path: Path, recipe: NaturalImage) -> np.ndarray:
    """uint8 ``(rows, cols, 3)``."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((recipe.cols, recipe.rows), Image.Resampling.BILINEAR)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be readable as an image: {error}; restore the file") from error
    return np.asarray(resized)
