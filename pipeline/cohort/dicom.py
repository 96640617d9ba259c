"""DICOM: any folder of MR studies to datalist, with nothing in it that identifies a patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pipeline.cohort.case import Case, Datalist, created_with
from pipeline.cohort.case_report import CaseReport, reason_lines
from pipeline.cohort.dicom_study import StudyReader
from pipeline.cohort.labels import Labels, patient_key, read_labels
from pipeline.cohort.pseudonym import Pseudonyms
from pipeline.cohort.split import DEFAULT_FRACTIONS, Sections, kept_note, ordered, stratified_split
from pipeline.cohort.summary import REASON_DETAIL, note_lines, section_lines
from pipeline.cohort.validation import check_group_by, nearest
from pipeline.dicom.frames import studies_in

DEFAULT_CLASSES = ("NOR", "HCM", "DCM")
CASE_NOTE = "case "  # how a note on one case begins
OPEN_SECTION = "test"  # the one in which a case needs no label


def import_dicom(
    root: str | Path,
    *,
    cines_dir: str | Path,
    pseudonyms: Pseudonyms,
    labels: str | Path | None = None,
    keep_ids: bool = False,
    keep_sites: bool = False,
    classes: Sequence[str] | None = None,
    group_by: Sequence[str] = ("vendor",),
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    on_study: Callable[[CaseReport], None] | None = None,
    progress: bool = True,
) -> Datalist:
    """Import the short-axis cines below a folder. One study is held in memory at a time.

    Each cine is written as ``cines_dir/<case_id>.nii.gz``; one that an earlier run made from the same files is kept.
    End-diastole and end-systole are found in it. A study that cannot be read is set aside with its code.

    Args:
        root: folder with DICOM files under any names, in any folders.
        cines_dir: folder for the cines.
        pseudonyms: names that stand for patients, studies and sites.
        labels: table of labels (:func:`pipeline.cohort.labels.read_labels`). Labelled studies are split by patient;
            without a table every case goes to ``test``.
        keep_ids: keep DICOM's PatientID as ``patient_id``.
        keep_sites: keep the institution's name as ``site``.
        classes: class names in order; ``None`` takes the labels that occur, sorted.
        group_by: columns of a group.
        fractions: share of each section, of the labelled patients.
        seed: chooses the patients.
        on_study: called with the report of each study as it is read.
        progress: whether to show progress bars.

    Returns:
        The datalist. Every study is either a case or in ``set_aside``, even if that leaves no case.

    Raises:
        FileNotFoundError: if there is no such folder or table.
        OSError: if the machine fails while files are looked at; while a study is read, the study is set aside.
        ValueError: if the table, a column of ``group_by`` or a class cannot be used, or the table has no label of
            any study that came in.
    """
    check_group_by(group_by)
    table = None if labels is None else read_labels(labels, patient=pseudonyms.patient, study=pseudonyms.study)
    names = _classes(classes, table)
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {root}; give the folder that holds the DICOM files")
    reader = StudyReader(Path(cines_dir).resolve(), pseudonyms, keep_ids, keep_sites)
    studies, n_others = _find(root, progress=progress)
    reports = _read(studies, reader, on_study, progress=progress)
    cases, set_aside = _cases(reports, reader, table, names)
    _check_matched(table, cases)
    sections, moved, kept = _split(cases, group_by, fractions, seed)
    set_aside += moved
    return Datalist(
        classes=names,
        source="DICOM",
        group_by=tuple(group_by),
        sections=sections,
        created_with=created_with(),
        set_aside=tuple(sorted(set_aside, key=lambda item: item["case_id"])),
        notes=(*_kept_names(keep_ids, keep_sites), *_notes(reports, table, names, n_others, kept)),
    )


def _check_matched(table: Labels | None, cases: Sequence[Case]) -> None:
    """Refuse a table of labels that belongs to other studies.

    Raises:
        ValueError: if studies came in, and no row is of one of them.
    """
    if table and cases and not any(case.label for case in cases):
        raise ValueError(
            f"labels must be of the studies in the folder; of {len(cases)} that came in none has one; "
            "let patient_id hold PatientID as the files have it, and run again: the cines written so far are kept"
        )


def dicom_lines(datalist: Datalist, reports: Sequence[CaseReport]) -> list[str]:
    """Describe an import: section by section as every datalist, then why studies, series and images are not in it.

    Args:
        datalist: what :func:`import_dicom` returned.
        reports: of all its studies.

    Returns:
        Lines for the console. Warnings are counted by code; the datalist has each.
    """
    refused = {report.case_id for report in reports if not report.came_in}
    others = Counter(
        item["reason"].split(REASON_DETAIL)[0] for item in datalist.set_aside if item["case_id"] not in refused
    )
    came_in = any(datalist.sections.values())
    lines = [*(section_lines(datalist) if came_in else [f"{datalist.source}: no case"]), *reason_lines(reports)]
    if others:
        lines += ["", f"read, but set aside: {others.total()}", *(f"  {n:4d}  {why}" for why, n in others.items())]
    return [*lines, *note_lines([note for note in datalist.notes if not note.startswith(CASE_NOTE)])]


def _classes(classes: Sequence[str] | None, table: Labels | None) -> tuple[str, ...]:
    """The classes asked for, else those of the table, else ours.

    Raises:
        ValueError: if no label of the table is one of the classes asked for.
    """
    if classes is None:
        return table.classes if table else DEFAULT_CLASSES
    if table and not set(classes) & set(table.classes):
        raise ValueError(
            f"at least one of the classes {list(classes)} must occur among the {len(table.classes)} labels of the "
            f"table; none does; {nearest(classes[0], table.classes)}"
        )
    return tuple(classes)


def _find(root: Path, *, progress: bool) -> tuple[dict[str, list[Path]], int]:
    looked_at = 0
    with tqdm(desc="Files", unit="file", disable=not progress) as bar:

        def count() -> None:
            nonlocal looked_at
            looked_at += 1
            bar.update()

        try:
            return studies_in(root, count)
        except OSError as error:  # without the file's name, which may be the patient's
            raise OSError(
                f"every file below {root} must be readable, or a study could lack one; got {error.strerror!r} after "
                f"{looked_at} files; check the disk, or copy the folder, which names the file, and run again"
            ) from None


def _read(
    studies: Mapping[str, Sequence[Path]],
    reader: StudyReader,
    on_study: Callable[[CaseReport], None] | None,
    *,
    progress: bool,
) -> list[CaseReport]:
    reports = []
    for uid in tqdm(sorted(studies), desc="DICOM", unit="study", disable=not progress):
        reports.append(reader.read(uid, studies[uid]))
        if on_study:
            on_study(reports[-1])
    return reports


def _cases(
    reports: Iterable[CaseReport], reader: StudyReader, table: Labels | None, classes: Sequence[str]
) -> tuple[list[Case], list[dict[str, str]]]:
    """Cases with their labels, and what was set aside."""
    cases, set_aside = [], []
    for report in reports:
        if not report.came_in:
            set_aside.append({"case_id": report.case_id, "reason": report.reason})
            continue
        case = _labelled(_case(report, reader), reader, table)
        if case.label and case.label not in classes:
            set_aside.append(
                {"case_id": case.case_id, "reason": f"label is not among the classes: {case.label}; add it to them"}
            )
        else:
            cases.append(case)
    return cases, set_aside


def _case(report: CaseReport, reader: StudyReader) -> Case:
    return Case(
        case_id=report.case_id,
        patient_id=report.patient_id,
        label="",
        site=report.site,
        vendor=report.vendor,
        scanner=report.scanner,
        field_strength_t=report.field_strength_t,
        vendor_raw=report.vendor_raw,
        software=report.software,
        image=reader.cine_path(report.case_id),
        sex=report.sex,
        age=report.age,
    )


def _labelled(case: Case, reader: StudyReader, table: Labels | None) -> Case:
    if table is None:
        return case
    row = table.of(patient=patient_key(case.patient_id, reader.pseudonyms.patient), case_id=case.case_id)
    return case if row is None else replace(case, label=row.label, sex=row.sex or case.sex, age=row.age or case.age)


def _split(
    cases: Sequence[Case], group_by: Sequence[str], fractions: Mapping[str, float], seed: int
) -> tuple[Sections, list[dict[str, str]], list[str]]:
    """Sections, what is set aside for them, and the cells too small to be split.

    Patients with a label are split by it. Where one lands in training or validation, its unlabelled studies can
    neither follow nor stay: they would put a patient on both sides.
    """
    labelled = [case for case in cases if case.label]
    sections, kept = stratified_split(labelled, group_by=group_by, fractions=fractions, seed=seed)
    home = {case.patient_id: section for section, members in sections.items() for case in members}
    open_to, set_aside = [], []
    for case in (case for case in cases if not case.label):
        section = home.get(case.patient_id, OPEN_SECTION)
        if section == OPEN_SECTION:
            open_to.append(case)
        else:
            reason = f"study has no label and its patient is in another part: {section}"
            set_aside.append({"case_id": case.case_id, "reason": reason})
    return sections | {OPEN_SECTION: ordered([*sections[OPEN_SECTION], *open_to])}, set_aside, kept


def _kept_names(keep_ids: bool, keep_sites: bool) -> Iterator[str]:
    """What whoever passes the datalist on must know."""
    if keep_ids:
        yield "PatientIDs are kept: this datalist, and what is made from it, identifies patients"
    if keep_sites:
        yield "institutions' names are kept: this datalist, and what is made from it, names them"


def _notes(
    reports: Sequence[CaseReport], table: Labels | None, classes: Sequence[str], n_others: int, kept: Iterable[str]
) -> Iterator[str]:
    if not reports:
        yield "no DICOM file was found"
    if n_others:
        yield f"{n_others} {'file is' if n_others == 1 else 'files are'} not DICOM, or cut before the study is named"
    yield from table.notes() if table else ()
    if table and (absent := [name for name in classes if name not in table.classes]):
        yield f"labels: no row has the class {', '.join(absent)}"
    yield from map(kept_note, kept)
    for report in reports:
        yield from (f"{CASE_NOTE}{report.case_id}: {warning}" for warning in report.warnings)
