"""What importers share whose studies are rows of a table beside folders: classes, rows to cases, sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from pipeline.cohort.case import SECTIONS, Case
from pipeline.cohort.nifti import SetAsideError
from pipeline.cohort.split import Sections, carve_validation, ordered, stratified_split
from pipeline.cohort.validation import nearest

SPLITS = ("stratified", "folders")
NO_CODE = "row without code"
FOUND_LATER = "ED and ES are found from the cine while preprocessing"

Row = Mapping[str, str]
Taken = tuple[str, Case, Sequence[str]]


@dataclass
class Gathered:
    """What came in, by the challenge's section, and what did not.

    Attributes:
        sections: cases by section.
        set_aside: ``{"case_id", "reason"}`` of what was not taken.
        notes: what is odd about cases that were taken.
    """

    sections: dict[str, list[Case]] = field(default_factory=lambda: {section: [] for section in SECTIONS})
    set_aside: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def put_aside(self, code: str, reason: object) -> None:
        """Note that a study is not taken, and why."""
        self.set_aside.append({"case_id": code, "reason": str(reason)})


def gather(
    rows: Sequence[tuple[str, Row]],
    folders: Collection[str],
    take: Callable[[Row], Taken],
    *,
    source: str,
    progress: bool,
) -> Gathered:
    """Take every row of a table.

    Args:
        rows: code and row.
        folders: codes that have a folder.
        take: section, case and notes of a row; raises ``SetAsideError`` with the reason if it cannot be taken.
        source: name on the progress bar.
        progress: whether to show one.

    Returns:
        All rows and folders: as cases, or set aside with their reasons.
    """
    gathered = Gathered()
    times = Counter(code for code, _ in rows)
    for code, row in tqdm(rows, desc=source, unit="study", disable=not progress):
        try:
            if not code:
                raise SetAsideError("row has no code")
            if times[code] > 1:
                raise SetAsideError("code stands in several rows of the table")
            section, case, notes = take(row)
        except SetAsideError as reason:
            gathered.put_aside(code or NO_CODE, reason)
        else:
            gathered.sections[section].append(case)
            gathered.notes += [f"{case.case_id}: {note}" for note in notes]
    for code in sorted(set(folders) - set(times)):
        gathered.put_aside(code, "folder has no row in the table")
    return gathered


def class_of_pathology(
    classes: Sequence[str], class_map: Mapping[str, str], pathologies: Sequence[str]
) -> dict[str, str]:
    """Class of each pathology that has one.

    Args:
        classes: class names: pathologies, or what ``class_map`` makes of them.
        class_map: pathology to class.
        pathologies: those of the table.

    Raises:
        ValueError: if a class or pathology is not known.

    Example:
        >>> class_of_pathology(["NOR", "ill"], {"HCM": "ill"}, ["NOR", "HCM", "DCM"])
        {'NOR': 'NOR', 'HCM': 'ill'}
    """
    for pathology in class_map:
        if pathology not in pathologies:
            raise ValueError(f"class_map names the pathology {pathology!r}; {nearest(pathology, pathologies)}")
    mapped = {pathology: class_map.get(pathology, pathology) for pathology in pathologies}
    for name in classes:
        if name not in mapped.values():
            raise ValueError(
                f"no pathology becomes the class {name!r}; {nearest(name, {*mapped.values()})}; to count another as "
                f"{name}, map it (--map OTHER={name}); pathologies: {', '.join(pathologies)}"
            )
    for name in class_map.values():
        if name not in classes:
            raise ValueError(f"class_map makes the class {name!r}, which is not one of {list(classes)}; add it")
    return {pathology: name for pathology, name in mapped.items() if name in classes}


def class_of(pathology: str, wanted: Mapping[str, str], pathologies: Iterable[str]) -> tuple[str, str]:
    """Pathology in its known spelling, and its class.

    Raises:
        SetAsideError: if it has no class.
    """
    spelt = {name.lower(): name for name in pathologies}.get(pathology.lower(), pathology)
    if spelt not in wanted:
        raise SetAsideError(f"pathology {spelt or '(none)'} is not among the classes")
    return spelt, wanted[spelt]


def check_split(split: str) -> None:
    """Refuse a split that is not one of ``SPLITS``.

    Raises:
        ValueError: naming those that are.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}; got {split!r}")


def divide(
    sections: Mapping[str, Sequence[Case]],
    split: str,
    *,
    group_by: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
) -> tuple[Sections, list[str]]:
    """Sections of the datalist from those of the challenge.

    Args:
        sections: the challenge's.
        split: ``stratified`` splits all patients anew; ``folders`` keeps the challenge's sections, and carves a
            validation out of training if it has none.
        group_by: columns of a group.
        fractions: share of each section.
        seed: chooses the patients.

    Returns:
        As ``stratified_split``.
    """
    if split == "stratified":
        cases = [case for found in sections.values() for case in found]
        return stratified_split(cases, group_by=group_by, fractions=fractions, seed=seed)
    if not sections["validation"]:
        return carve_validation(sections, group_by=group_by, fractions=fractions, seed=seed)
    return {name: ordered(found) for name, found in sections.items()}, []
