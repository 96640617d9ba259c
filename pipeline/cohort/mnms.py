"""M&Ms (Campello et al., IEEE TMI 2021): OpenDataset folder to datalist.

Layout: the information table beside ``Training/{Labeled,Unlabeled}/CODE``, ``Validation/CODE`` and
``Testing/CODE``, each with ``CODE_sa.nii.gz`` and ``CODE_sa_gt.nii.gz``, both ``(x, y, z, t)``, the mask zero
outside end-diastole and end-systole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from pipeline.cohort.case import Case, Datalist, created_with
from pipeline.cohort.mnms_table import MnmsRow, find_table, parse_row, read_table
from pipeline.cohort.nifti import Header, SetAsideError, annotated_phases, find_image, find_mask, read_header
from pipeline.cohort.split import DEFAULT_FRACTIONS, Sections, carve_validation, kept_note, ordered, stratified_split
from pipeline.cohort.validation import check_group_by, nearest
from transforms.scanner import Scanner

LABELS: Mapping[int, str] = {1: "left ventricle", 2: "myocardium", 3: "right ventricle"}
CAVITY = 1
PATHOLOGIES = ("NOR", "HCM", "DCM", "HHD", "ARV", "AHS", "IHD", "LVNC", "Other")
FOLDERS: Mapping[str, str] = {"Training": "training", "Validation": "validation", "Testing": "test"}
PARTS_OF_TRAINING = ("Labeled", "Unlabeled")
SPLITS = ("stratified", "folders")


@dataclass
class _Gathered:
    """What came in, by the challenge's folder, and what did not."""

    sections: dict[str, list[Case]]
    set_aside: list[dict[str, str]]
    notes: list[str]


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
    wanted = _class_of_pathology(classes, class_map or {})
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}; got {split!r}")
    table, n_tables = find_table(Path(root).resolve())
    gathered = _gather(table, wanted, progress=progress)
    if n_tables > 1:
        gathered.notes.insert(0, f"table {table.name}, the newest of {n_tables}")
    sections, kept = _split(gathered.sections, split, group_by, fractions, seed)
    return Datalist(
        classes=tuple(classes),
        source="M&Ms",
        group_by=tuple(group_by),
        sections=sections,
        created_with=created_with(),
        set_aside=tuple(sorted(gathered.set_aside, key=lambda item: item["case_id"])),
        notes=(*gathered.notes, *map(kept_note, kept)),
    )


def _class_of_pathology(classes: Sequence[str], class_map: Mapping[str, str]) -> dict[str, str]:
    for pathology in class_map:
        if pathology not in PATHOLOGIES:
            raise ValueError(f"class_map names the pathology {pathology!r}; {nearest(pathology, PATHOLOGIES)}")
    mapped = {pathology: class_map.get(pathology, pathology) for pathology in PATHOLOGIES}
    for name in classes:
        if name not in mapped.values():
            raise ValueError(f"no pathology becomes the class {name!r}; {nearest(name, {*mapped.values()})}")
    for name in class_map.values():
        if name not in classes:
            raise ValueError(f"class_map makes the class {name!r}, which is not one of {list(classes)}; add it")
    return {pathology: name for pathology, name in mapped.items() if name in classes}


def _gather(table: Path, wanted: Mapping[str, str], *, progress: bool) -> _Gathered:
    gathered = _Gathered({section: [] for section in FOLDERS.values()}, [], [])
    folders, rows = _case_folders(table.parent), read_table(table)
    times = Counter(row["External code"] for row in rows)
    for row in tqdm(rows, desc="M&Ms", unit="study", disable=not progress):
        code = row["External code"] or "row without code"
        try:
            if times[row["External code"]] > 1:
                raise SetAsideError("code stands in several rows of the table")
            section, case, notes = _take(row, folders, wanted)
        except SetAsideError as reason:
            gathered.set_aside.append({"case_id": code, "reason": str(reason)})
        else:
            gathered.sections[section].append(case)
            gathered.notes += [f"{code}: {note}" for note in notes]
    for code in sorted(set(folders) - set(times)):
        gathered.set_aside.append({"case_id": code, "reason": "folder has no row in the table"})
    return gathered


def _take(
    row: Mapping[str, str], folders: Mapping[str, list[tuple[str, Path]]], wanted: Mapping[str, str]
) -> tuple[str, Case, list[str]]:
    """Section of the challenge, case, and notes on it, of one row."""
    entry = parse_row(row)
    pathology = _spelt(entry.pathology)
    if pathology not in wanted:
        raise SetAsideError(f"pathology {pathology or '(none)'} is not among the classes")
    places = folders.get(entry.code, [])
    if len(places) != 1:
        raise SetAsideError("row has no folder" if not places else "code has several folders")
    section, folder = places[0]
    image = find_image(folder, f"{entry.code}_sa")
    if image is None:
        raise SetAsideError(f"folder has no image: {entry.code}_sa.nii.gz")
    header = read_header(image, dimensions=4)
    mask, mask_notes = find_mask(folder, f"{entry.code}_sa_gt", shape=header.shape)
    (ed, es), phase_notes = _phases(entry, mask, header)
    case = _case(entry, wanted[pathology], image, mask, (ed, es))
    return section, case, [*header.warnings, *mask_notes, *phase_notes]


def _case(entry: MnmsRow, label: str, image: Path, mask: Path | None, phases: tuple[int, int]) -> Case:
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


def _phases(entry: MnmsRow, mask: Path | None, header: Header) -> tuple[tuple[int, int], list[str]]:
    """ED and ES of the table; where they are equal or not readable (25 GE studies), those of the mask."""
    ed, es, notes = entry.ed, entry.es, []
    if ed is None or es is None or ed == es:
        if mask is None:
            raise SetAsideError(f"ED and ES are not known: the table says {ed} and {es}, and there is no mask")
        (ed, es), said = annotated_phases(mask, cavity=CAVITY), (ed, es)
        notes = [f"ED {ed} and ES {es} are taken from the mask; the table says {said[0]} and {said[1]}"]
    n_phases = header.shape[3]
    if max(ed, es) >= n_phases:
        raise SetAsideError(f"ED or ES lies beyond the cine: ED {ed}, ES {es}, {n_phases} phases")
    return (ed, es), notes


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


def _spelt(pathology: str) -> str:
    """Our spelling of a pathology; as written if it is not known."""
    known = {name.lower(): name for name in PATHOLOGIES}
    return known.get(pathology.lower(), pathology)


def _split(
    sections: Mapping[str, list[Case]],
    split: str,
    group_by: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
) -> tuple[Sections, list[str]]:
    if split == "stratified":
        cases = [case for found in sections.values() for case in found]
        return stratified_split(cases, group_by=group_by, fractions=fractions, seed=seed)
    if not sections["validation"]:
        return carve_validation(sections, group_by=group_by, fractions=fractions, seed=seed)
    return {name: ordered(found) for name, found in sections.items()}, []
