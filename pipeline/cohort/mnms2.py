"""M&Ms-2 (Martín-Isla et al., IEEE JBHI 2023): MnM2 folder to datalist.

Layout: ``dataset_information.csv`` beside ``dataset/NNN``, each with ``NNN_SA_CINE.nii.gz`` ``(x, y, z, t)`` and,
``(x, y, z)``, ``NNN_SA_ED.nii.gz``, ``NNN_SA_ES.nii.gz`` and their masks ``NNN_SA_ED_gt.nii.gz``,
``NNN_SA_ES_gt.nii.gz``. Long-axis images (``LA``) are not read. The table knows vendor, scanner and field, but neither
the hospital nor which phases of the cine ED and ES are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from pipeline.cohort.case import Case, Datalist, created_with
from pipeline.cohort.mnms2_images import subject_images, subject_masks
from pipeline.cohort.mnms_table import find_table, read_table
from pipeline.cohort.nifti import SetAsideError
from pipeline.cohort.split import DEFAULT_FRACTIONS, kept_note
from pipeline.cohort.table_import import (
    Gathered,
    Row,
    Taken,
    check_split,
    class_of,
    class_of_pathology,
    divide,
    gather,
)
from pipeline.cohort.validation import check_group_by
from transforms.scanner import UNKNOWN, Scanner

LABELS: Mapping[int, str] = {1: "left ventricle", 2: "myocardium", 3: "right ventricle"}
TABLE_PATTERN = "*dataset_information*.csv"
REQUIRED_COLUMNS = ("SUBJECT_CODE", "DISEASE", "VENDOR", "SCANNER", "FIELD")
# Normal, dilated left ventricle, hypertrophic and arrhythmogenic cardiomyopathy, tetralogy of Fallot, interatrial
# communication, dilated right ventricle, tricuspid regurgitation.
PATHOLOGIES = ("NOR", "LV", "HCM", "ARR", "FALL", "CIA", "RV", "TRI")
SHARED_WITH_MNMS = ("NOR", "LV", "HCM")  # from the hospitals of M&Ms: some may be the same patients
LAST_OF_SECTION: Mapping[str, int] = {"training": 160, "validation": 200, "test": 360}  # the challenge's, by subject


def import_mnms2(
    root: str | Path,
    *,
    classes: Sequence[str],
    group_by: Sequence[str] = ("vendor",),
    split: str = "stratified",
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    class_map: Mapping[str, str] | None = None,
    without_mnms_overlap: bool = False,
    progress: bool = True,
) -> Datalist:
    """Import M&Ms-2. Images are read, once, to find out which phases of the cine ED and ES are.

    A case is the cine, since the heart is found best over the whole cycle. Where ED and ES cannot be told in it
    beyond doubt, the case is the pair of volumes instead, with a note; where there is no pair, ED and ES are found
    while preprocessing. The hospital is not known.

    Args:
        root: the folder ``MnM2``, or one that contains it.
        classes: class names in order: diseases of the table, or what ``class_map`` makes of them.
        group_by: columns of a group.
        split: ``stratified`` splits all patients anew (the challenge's training part holds neither RV nor TRI);
            ``folders`` keeps the challenge's: subjects 1-160 for training, 161-200 validation, 201-360 test.
        fractions: share of each section.
        seed: chooses the patients.
        class_map: disease to class, e.g. ``{"LV": "DCM"}``.
        without_mnms_overlap: leave out the diseases NOR, LV and HCM, whose patients may be in M&Ms too. Needed
            where both sets are used, or one tests a model that the other trained.
        progress: whether to show a progress bar.

    Returns:
        The datalist. Every subject of the table or the folders is either a case or in ``set_aside``,
        even if that leaves no case.

    Raises:
        FileNotFoundError: if the table or the folders are not there.
        ValueError: if a column, class, disease or split is not known.

    Source: layout, quirks, label codes and the overlap as four independent public loaders agree on them; the split
    from the challenge's description.
    """
    check_group_by(group_by)
    check_split(split)
    wanted = class_of_pathology(classes, class_map or {}, PATHOLOGIES)
    table, _ = find_table(Path(root).resolve(), pattern=TABLE_PATTERN, required=REQUIRED_COLUMNS, folder="MnM2")
    rows = read_table(table, required=REQUIRED_COLUMNS, remedy="use the table as it was published")
    folders = _subject_folders(table.parent / "dataset")
    take = partial(_take, folders, wanted, SHARED_WITH_MNMS if without_mnms_overlap else ())
    coded = [(_case_id(row["SUBJECT_CODE"]), row) for row in rows]
    gathered = gather(coded, folders, take, source="M&Ms-2", progress=progress)
    sections, kept = divide(gathered.sections, split, group_by=group_by, fractions=fractions, seed=seed)
    return Datalist(
        classes=tuple(classes),
        source="M&Ms-2",
        group_by=tuple(group_by),
        sections=sections,
        created_with=created_with(),
        set_aside=tuple(sorted(gathered.set_aside, key=lambda item: item["case_id"])),
        notes=(*_overlap_note(coded, gathered), *gathered.notes, *map(kept_note, kept)),
    )


def _case_id(code: str) -> str:
    """``mnms2-007`` for 7, ``7.0`` or ``007``: not a bare number, which loses its zeros in tables; empty for none."""
    try:
        number = float(code)
    except ValueError:
        return f"mnms2-{code}" if code else ""
    return f"mnms2-{int(number):03d}" if number.is_integer() and number >= 0 else f"mnms2-{code}"


def _subject_folders(root: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ():
        found.setdefault(_case_id(folder.name), []).append(folder)
    if not found:
        raise FileNotFoundError(f"no subjects in {root}; it must hold the folders 001, 002, …")
    return found


def _take(folders: Mapping[str, list[Path]], wanted: Mapping[str, str], left_out: Sequence[str], row: Row) -> Taken:
    """Section of the challenge, case, and notes on it, of one row."""
    case_id = _case_id(row["SUBJECT_CODE"])
    disease, label = class_of(row["DISEASE"], wanted, PATHOLOGIES)
    if disease in left_out:
        raise SetAsideError(f"patient may be in M&Ms too: {disease}")
    section = _section(case_id)
    places = folders.get(case_id, [])
    if len(places) != 1:
        raise SetAsideError("row has no folder" if not places else "code has several folders")
    [folder] = places
    images = subject_images(folder)
    masks, mask_notes = subject_masks(folder, images.shape)
    scanner = Scanner.from_raw(manufacturer=row["VENDOR"], model=row["SCANNER"], field_strength=row["FIELD"])
    case = Case(
        case_id=case_id,
        patient_id=case_id,
        label=label,
        site=scanner.site,
        vendor=scanner.vendor,
        scanner=scanner.name,
        field_strength_t=scanner.field_strength_t,
        vendor_raw=scanner.vendor_raw,
        image=images.image,
        image_ed=images.image_ed,
        image_es=images.image_es,
        mask_ed=masks.get("ED"),
        mask_es=masks.get("ES"),
        ed=images.ed,
        es=images.es,
    )
    return section, case, [*images.notes, *mask_notes, *_vendor_note(scanner)]


def _section(case_id: str) -> str:
    number = case_id.removeprefix("mnms2-")
    for section, last in LAST_OF_SECTION.items():
        if number.isdecimal() and 1 <= int(number) <= last:
            return section
    raise SetAsideError(f"subject code is no number from 1 to {LAST_OF_SECTION['test']}: {number}")


def _vendor_note(scanner: Scanner) -> list[str]:
    return [f"vendor is not known: {scanner.vendor_raw!r}"] if scanner.vendor == UNKNOWN else []


def _overlap_note(rows: Sequence[tuple[str, Row]], gathered: Gathered) -> list[str]:
    """Says how many cases may be patients of M&Ms, which no label shows once classes are mapped."""
    diseases = {code: row["DISEASE"].upper() for code, row in rows}
    taken = [case.case_id for cases in gathered.sections.values() for case in cases]
    shared = sum(diseases[case_id] in SHARED_WITH_MNMS for case_id in taken)
    said = f"{shared} cases of {', '.join(SHARED_WITH_MNMS)} may be patients of M&Ms too; leave them out where both "
    return [said + "sets are used (without_mnms_overlap)"] if shared else []
