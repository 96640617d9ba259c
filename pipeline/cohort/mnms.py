"""M&Ms (Campello et al., IEEE TMI 2021): OpenDataset folder to datalist.

Layout: the information table beside ``Training/{Labeled,Unlabeled}/CODE``, ``Validation/CODE`` and
``Testing/CODE``, each with ``CODE_sa.nii.gz`` and ``CODE_sa_gt.nii.gz``, both ``(x, y, z, t)``, the mask zero
outside end-diastole and end-systole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from pipeline.cohort.case import Case, Datalist, created_with
from pipeline.cohort.mnms_table import MnmsRow, find_table, parse_row, read_table
from pipeline.cohort.nifti import Header, SetAsideError, annotated_phases, find_image, find_mask, read_header
from pipeline.cohort.split import DEFAULT_FRACTIONS, kept_note
from pipeline.cohort.table_import import (
    FOUND_LATER,
    Row,
    Taken,
    check_split,
    class_of,
    class_of_pathology,
    divide,
    gather,
)
from pipeline.cohort.validation import check_group_by
from transforms.scanner import Scanner

LABELS: Mapping[int, str] = {1: "left ventricle", 2: "myocardium", 3: "right ventricle"}
CAVITY = 1
PATHOLOGIES = ("NOR", "HCM", "DCM", "HHD", "ARV", "AHS", "IHD", "LVNC", "Other")
FOLDERS: Mapping[str, str] = {"Training": "training", "Validation": "validation", "Testing": "test"}
PARTS_OF_TRAINING = ("Labeled", "Unlabeled")

Phases = tuple[int, int] | tuple[None, None]


def import_mnms(
    root: str | Path,
    *,
    classes: Sequence[str],
    group_by: Sequence[str] = ("vendor",),
    split: str = "stratified",
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    class_map: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Datalist:
    """Import M&Ms. Headers are read, images are not; a mask is read only where the table lacks ED and ES.

    Args:
        root: the OpenDataset folder, or one that contains it.
        classes: class names in order: pathologies of the table, or what ``class_map`` makes of them.
        group_by: columns of a group.
        split: ``stratified`` splits all patients anew (the challenge's own training part holds no Canon);
            ``folders`` keeps the challenge's: Training, Validation, Testing. Without cases in Validation, it is
            carved out of training.
        fractions: share of each section.
        seed: chooses the patients.
        class_map: pathology to class, e.g. ``{"HHD": "HCM"}``.
        progress: whether to show a progress bar.

    Returns:
        The datalist. Every study of the table or the folders is either a case or in ``set_aside``,
        even if that leaves no case.

    Raises:
        FileNotFoundError: if the table or the folders are not there.
        ValueError: if a column, class, pathology or split is not known.

    Source: layout, quirks and label codes as six independent public loaders agree on them.
    """
    check_group_by(group_by)
    check_split(split)
    wanted = class_of_pathology(classes, class_map or {}, PATHOLOGIES)
    table, n_tables = find_table(Path(root).resolve())
    folders, rows = _case_folders(table.parent), read_table(table)
    coded = [(row["External code"], row) for row in rows]
    gathered = gather(coded, folders, partial(_take, folders, wanted), source="M&Ms", progress=progress)
    if n_tables > 1:
        gathered.notes.insert(0, f"table {table.name}, the newest of {n_tables} that has all columns")
    sections, kept = divide(gathered.sections, split, group_by=group_by, fractions=fractions, seed=seed)
    return Datalist(
        classes=tuple(classes),
        source="M&Ms",
        group_by=tuple(group_by),
        sections=sections,
        created_with=created_with(),
        set_aside=tuple(sorted(gathered.set_aside, key=lambda item: item["case_id"])),
        notes=(*gathered.notes, *map(kept_note, kept)),
    )


def _take(folders: Mapping[str, list[tuple[str, Path]]], wanted: Mapping[str, str], row: Row) -> Taken:
    """Section of the challenge, case, and notes on it, of one row."""
    entry = parse_row(row)
    _, label = class_of(entry.pathology, wanted, PATHOLOGIES)
    places = folders.get(entry.code, [])
    if len(places) != 1:
        raise SetAsideError("row has no folder" if not places else "code has several folders")
    section, folder = places[0]
    image = find_image(folder, f"{entry.code}_sa")
    if image is None:
        raise SetAsideError(f"folder has no image: {entry.code}_sa.nii.gz")
    header = read_header(image, dimensions=4)
    mask, mask_notes = find_mask(folder, f"{entry.code}_sa_gt", shape=header.shape)
    phases, phase_notes = _phases(entry, mask, header)
    case = _case(entry, label, image, mask, phases)
    return section, case, [*header.warnings, *mask_notes, *phase_notes]


def _case(entry: MnmsRow, label: str, image: Path, mask: Path | None, phases: Phases) -> Case:
    scanner = Scanner(entry.vendor, site=entry.site, vendor_raw=entry.vendor_raw)
    return Case(
        case_id=entry.code,
        patient_id=entry.code,
        label=label,
        site=scanner.site,
        vendor=scanner.vendor,
        scanner=scanner.name,
        vendor_raw=scanner.vendor_raw,
        image=image,
        mask=mask,
        ed=phases[0],
        es=phases[1],
        sex=entry.sex,
        age=entry.age,
        height_cm=entry.height_cm,
        weight_kg=entry.weight_kg,
    )


def _phases(entry: MnmsRow, mask: Path | None, header: Header) -> tuple[Phases, list[str]]:
    """ED and ES of the table; where they are equal or not readable (25 GE studies), the mask's, if it has them."""
    if entry.ed is None or entry.es is None or entry.ed == entry.es:
        return _phases_from_mask(mask, f"the table says {entry.ed} and {entry.es}")
    if max(entry.ed, entry.es) >= header.shape[3]:
        raise SetAsideError(f"ED or ES lies beyond the cine: ED {entry.ed}, ES {entry.es}, {header.shape[3]} phases")
    return (entry.ed, entry.es), []


def _phases_from_mask(mask: Path | None, said: str) -> tuple[Phases, list[str]]:
    try:
        if mask is None:
            raise SetAsideError("there is no mask")
        ed, es = annotated_phases(mask, cavity=CAVITY)
    except SetAsideError as reason:
        return (None, None), [f"{FOUND_LATER}: {said}, and {reason}"]
    return (ed, es), [f"ED {ed} and ES {es} are taken from the mask; {said}"]


def _case_folders(root: Path) -> dict[str, list[tuple[str, Path]]]:
    """Section and folder of each code."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for name, section in FOLDERS.items():
        for folder in _children(root / name):
            found.setdefault(folder.name, []).append((section, folder))
    if not found:
        raise FileNotFoundError(f"no studies in {root}; it must hold one of the folders {list(FOLDERS)}")
    return found


def _children(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and path.name in PARTS_OF_TRAINING:
            yield from _children(path)
        elif path.is_dir():
            yield path
