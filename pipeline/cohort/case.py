"""Case and datalist: what is known about each study, and which section of the split it belongs to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.cohort.validation import (
    GROUP_COLUMNS,
    HEADER_KEYS,
    PATHS,
    SECTIONS,
    DatalistError,
    check_datalist,
    check_group_by,
    nearest,
)
from pipeline.files import atomic_path
from transforms.scanner import UNKNOWN, field_text

__all__ = [
    "GROUP_COLUMNS",
    "SECTIONS",
    "Case",
    "Datalist",
    "DatalistError",
    "column_value",
    "created_with",
    "group_of",
    "read_datalist",
    "write_datalist",
]

GROUP_SEPARATOR = " x "


@dataclass(frozen=True)
class Case:
    """One study of one patient.

    Attributes:
        case_id: name of the study; unique in a datalist, usable as a file's name.
        patient_id: the patient; one patient stands in one section only.
        label: class name; empty where it is not known, which only the section ``test`` allows.
        site: the hospital.
        vendor: one of ``transforms.scanner.VENDORS``; of a study with ``simulated``, the simulated vendor.
        scanner: vendor, model and field strength in one line.
        field_strength_t: nominal field [T].
        vendor_raw: the vendor as the source spelt it.
        software: major version of the scanner's software; empty where it is not known.
        image: cine (4-D), or a prepared study; without it ``image_ed`` and ``image_es`` (3-D).
        image_ed: end-diastole (3-D).
        image_es: end-systole (3-D).
        mask: segmentation for ``image`` (4-D, zero outside the annotated phases); never used at inference.
        mask_ed: segmentation at end-diastole (3-D).
        mask_es: segmentation at end-systole (3-D).
        ed: index of end-diastole in the cine, from 0; may be greater than ``es``.
        es: index of end-systole in the cine, from 0.
        sex: ``M``, ``F`` or ``O``.
        age: years.
        height_cm: body height [cm].
        weight_kg: body weight [kg].
        simulated: a scanner to be simulated on this study, ``{"vendor": "GE", "seed": 123}``.
        heart: where preprocessing found the heart.
    """

    case_id: str
    patient_id: str
    label: str
    site: str
    vendor: str
    scanner: str
    field_strength_t: float | None = None
    vendor_raw: str = ""
    software: str = ""
    image: Path | None = None
    image_ed: Path | None = None
    image_es: Path | None = None
    mask: Path | None = None
    mask_ed: Path | None = None
    mask_es: Path | None = None
    ed: int | None = None
    es: int | None = None
    sex: str | None = None
    age: float | None = None
    height_cm: float | None = None
    weight_kg: float | None = None
    simulated: dict[str, Any] | None = None
    heart: dict[str, Any] | None = None


@dataclass(frozen=True)
class Datalist:
    """The cases of a cohort, split by patient.

    Attributes:
        classes: class names, in the order of the label index.
        source: where the studies come from.
        group_by: columns whose values make a group.
        sections: cases by section; sections that are not given are empty.
        created_with: program and version.
        set_aside: what was not taken, ``{"case_id", "reason"}``; a reason's detail follows after ``": "``.
        recipe: parameters of the student input, once prepared.
        recipe_digest: its SHA-256.
        notes: what a reader should know of how the datalist came about.
    """

    classes: tuple[str, ...]
    source: str
    group_by: tuple[str, ...]
    sections: Mapping[str, tuple[Case, ...]]
    created_with: str
    set_aside: tuple[dict[str, str], ...] = ()
    recipe: dict[str, Any] | None = None
    recipe_digest: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.sections:
            if name not in SECTIONS:
                raise DatalistError(f"section {name!r} is not known; {nearest(name, SECTIONS)}")
        complete = {name: tuple(self.sections.get(name, ())) for name in SECTIONS}
        object.__setattr__(self, "sections", complete)

    def cases(self) -> Iterator[tuple[str, Case]]:
        """Iterate over ``(section, case)``, in the order of the sections."""
        for section in SECTIONS:
            for case in self.sections[section]:
                yield section, case


def read_datalist(path: str | Path, *, check_files: bool = True) -> Datalist:
    """Read and validate a datalist.

    Args:
        path: JSON file.
        check_files: whether the images and masks that it names must exist.

    Returns:
        The datalist, with absolute paths.

    Raises:
        FileNotFoundError: if there is no file at ``path``.
        DatalistError: if a rule is broken; the message names case, field, value and remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no datalist at {path}; write one with `evenbeat datalist`")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatalistError(f"{path} must be JSON: {error}; make the datalist anew") from error
    folder = path.parent.resolve()
    check_datalist(raw, folder=folder if check_files else None)
    return _from_json(raw, folder)


def write_datalist(datalist: Datalist, path: str | Path) -> None:
    """Write a datalist, atomically, with paths relative to it, after the same checks as on reading.

    Args:
        datalist: the datalist; relative paths in it are taken from the working folder.
        path: JSON file.

    Raises:
        DatalistError: if a rule is broken. Whether the files exist is checked on reading only.
    """
    folder = Path(path).parent.resolve()
    raw = _to_json(datalist, folder)
    check_datalist(raw)
    with atomic_path(path) as temporary:
        text = json.dumps(raw, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def column_value(case: Case, column: str) -> str:
    """Value of a grouping column, as text.

    Args:
        case: the case.
        column: one of ``GROUP_COLUMNS``.

    Returns:
        The value; ``unknown`` where it is not known; a field strength as ``1.5 T``.

    Raises:
        ValueError: if cases cannot be grouped by ``column``.
    """
    check_group_by((column,))
    if column == "field_strength_t":
        return field_text(case.field_strength_t)
    return getattr(case, column) or UNKNOWN


def group_of(case: Case, group_by: Sequence[str]) -> str:
    """Group of a case: the values of the columns, e.g. ``GE`` or ``GE x DCM``."""
    return GROUP_SEPARATOR.join(column_value(case, column) for column in group_by)


def created_with() -> str:
    """Name and version of this program, for a datalist's header."""
    return f"evenbeat {metadata.version('evenbeat')}"


def _to_json(datalist: Datalist, folder: Path) -> dict[str, Any]:
    header = {key: _plain(getattr(datalist, key)) for key in HEADER_KEYS}
    header = {key: value for key, value in header.items() if value is not None}
    cases = {section: [_case_to_json(case, folder) for case in datalist.sections[section]] for section in SECTIONS}
    return header | cases


def _case_to_json(case: Case, folder: Path) -> dict[str, Any]:
    record = {key: value for key, value in asdict(case).items() if value is not None and value != ""}
    return record | {key: _relative(Path(record[key]), folder) for key in PATHS if key in record}


def _from_json(raw: Mapping[str, Any], folder: Path) -> Datalist:
    header = {key: raw[key] for key in HEADER_KEYS if key in raw}
    as_tuples = {key: tuple(value) for key, value in header.items() if isinstance(value, list)}
    sections = {
        section: tuple(_case_from_json(record, folder) for record in raw.get(section, ())) for section in SECTIONS
    }
    return Datalist(**{**header, **as_tuples, "sections": sections})


def _case_from_json(record: Mapping[str, Any], folder: Path) -> Case:
    known = {field.name: record[field.name] for field in fields(Case) if field.name in record}
    return Case(**{"label": ""} | known | {key: _absolute(known[key], folder) for key in PATHS if key in known})


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _relative(path: Path, folder: Path) -> str:
    """Path from ``folder``. Links in the folders are followed, since ``..`` does; a linked file keeps its name."""
    target = path.parent.resolve() / path.name
    return Path(os.path.relpath(target, folder)).as_posix()


def _absolute(text: str, folder: Path) -> Path:
    return Path(os.path.normpath(folder / text))
