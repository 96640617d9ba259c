"""The DICOM importer: what a study becomes, what a bad one costs, and that nobody can be recognised."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from pipeline.cohort import dicom, dicom_study
from pipeline.cohort.case import SECTIONS, Case, Datalist, read_datalist, write_datalist
from pipeline.cohort.case_report import CaseReport
from pipeline.cohort.dicom import dicom_lines, import_dicom
from pipeline.cohort.pseudonym import Pseudonyms
from pipeline.dicom.cine import Cine
from pipeline.dicom.frames import StudyTags
from pipeline.dicom.refusal import Code, LeftOut, Refusal
from transforms.phases import Phases

NAMES = Pseudonyms(bytes(range(32)))
SHAPE = (8, 3, 64, 60)
# Columns to the left, rows to the back and down, slices to the apex: as a short-axis stack is stored.
AFFINE = np.array([[-1.5, 0, -7, 40], [0, -1.4, 6, 50], [0, -1.4, -6, 60], [0, 0, 0, 1]], dtype=float)


def beating() -> np.ndarray:
    """A bright disc, largest at phase 6 and smallest at phase 2."""
    phases, slices, rows, cols = SHAPE
    row, col = np.mgrid[:rows, :cols]
    radius = 12 + 4 * np.cos(2 * np.pi * (np.arange(phases) - 6) / phases)
    disc = np.clip(radius[:, None, None] - np.hypot(row - 30, col - 32), 0, 1)
    return np.asarray(100 + 300 * np.repeat(disc[:, None], slices, axis=1), dtype=np.int32)


def cine(tags: StudyTags, **known: Any) -> Cine:
    phases, slices = SHAPE[:2]
    fixed = {
        "values": beating(),
        "affine": AFFINE,
        "times_ms": np.arange(phases)[:, None] * np.array([100.0, 98.0, 102.0]),
        "rr_ms": np.array([800.0, 784.0, np.nan]),
        "sources": tuple(tuple((f"{p}.{s}", 0) for s in range(slices)) for p in range(phases)),
        "tags": tags,
        "warnings": (),
        "left_out": (),
    }
    return Cine(**{**fixed, **known})


@dataclass
class Hospital:
    """Studies as the assembly would give them, so that every outcome can be had at will."""

    root: Path
    outcomes: dict[str, Cine | Exception] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)

    def add(self, uid: str, patient: str = "P1", *, error: Exception | None = None, **known: Any) -> None:
        tags = StudyTags(
            study_uid=uid, patient_id=patient, manufacturer="GE MEDICAL SYSTEMS", model="SIGNA HDx",
            field_strength="15000", station="MR1", serial="42", institution="St. Anywhere", sex="F", age_years=61.0,
            software=("27", "LX", "MR Software release:DV26.0_R01"),
        )  # fmt: skip
        tags = replace(tags, **{key: known.pop(key) for key in list(known) if hasattr(tags, key)})
        (self.root / uid).mkdir(parents=True)
        (self.root / uid / "1").write_text(uid)
        self.outcomes[uid] = error or cine(tags, **known)

    def studies_in(self, root: Path, on_file: Callable[[], object]) -> tuple[dict[str, list[Path]], int]:
        on_file()
        return {uid: [root / uid / "1"] for uid in self.outcomes}, 0

    def read_cine(self, paths: list[Path]) -> Cine:
        uid = paths[0].parent.name
        self.read.append(uid)
        found = self.outcomes[uid]
        if isinstance(found, Exception):
            raise found
        return found

    def imported(self, **options: Any) -> Datalist:
        options = {"cines_dir": self.root.parent / "cines", "pseudonyms": NAMES, "progress": False, **options}
        return import_dicom(self.root, **options)


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    made = Hospital(tmp_path / "root")
    monkeypatch.setattr(dicom, "studies_in", made.studies_in)
    monkeypatch.setattr(dicom_study, "read_cine", made.read_cine)
    return made


def counts(datalist: Datalist) -> list[int]:
    return [len(datalist.sections[section]) for section in SECTIONS]


def labels(hospital: Hospital, *rows: str, header: str = "patient_id,label") -> Path:
    path = hospital.root.parent / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_study_becomes_a_case_under_pseudonyms(hospital: Hospital, tmp_path: Path) -> None:
    hospital.add("1.2.3")
    [(section, case)] = hospital.imported().cases()
    assert section == "test"
    assert case == Case(
        case_id=NAMES.study("1.2.3"),
        patient_id=NAMES.patient("P1"),
        label="",
        site=NAMES.site("MR1", "42", "St. Anywhere"),
        vendor="GE",
        scanner="GE SIGNA HDx 1.5 T",
        field_strength_t=1.5,
        vendor_raw="GE MEDICAL SYSTEMS",
        software="DV26",
        image=tmp_path / "cines" / f"{NAMES.study('1.2.3')}.nii.gz",
        sex="F",
        age=61.0,
    )


def test_a_datalist_of_dicom_passes_its_own_checks(hospital: Hospital, tmp_path: Path) -> None:
    hospital.add("1.2.3")
    hospital.add("1.2.4", age_years=0.0)
    hospital.add("1.2.5", error=Refusal(Code.NO_CINE))
    write_datalist(hospital.imported(), tmp_path / "list.json")
    assert counts(read_datalist(tmp_path / "list.json")) == [0, 0, 2]


def test_the_cine_on_disk_lies_where_the_study_lay(hospital: Hospital) -> None:
    """x, y, z, t are cols, rows, slices, phases; integers are kept exactly; 100, 98 and 102 ms are 0.1 s on average."""
    hospital.add("1.2.3")
    [(_, case)] = hospital.imported().cases()
    image = nibabel.load(case.image)
    assert image.shape == SHAPE[::-1]
    assert image.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(image.dataobj), beating().transpose(3, 2, 1, 0))
    assert np.allclose(image.affine, AFFINE, atol=1e-4)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert float(image.header["pixdim"][4]) == pytest.approx(0.1)
    for text in ("descrip", "aux_file", "intent_name", "db_name"):
        assert not bytes(image.header[text]).strip(b"\0")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([0, 40000]), np.uint16),
        (np.array([-1, 40000]), np.int32),
        (np.array([0.5, 1.0], dtype=np.float32), np.float32),
    ],
)
def test_values_are_stored_as_they_are(tmp_path: Path, values: np.ndarray, kind: type) -> None:
    path = tmp_path / "cine.nii.gz"
    dicom_study.write_nifti(path, values.reshape(2, 1, 1, 1), AFFINE, phase_ms=None)
    image = nibabel.load(path)
    assert image.get_data_dtype() == kind
    assert np.asarray(image.dataobj).ravel().tolist() == values.tolist()


def test_without_times_phases_share_the_heart_cycle(hospital: Hospital) -> None:
    """Mean of 800 and 784 ms, over 8 phases."""
    hospital.add("1.2.3", times_ms=np.full(SHAPE[:2], np.nan))
    reports: list[CaseReport] = []
    hospital.imported(on_study=reports.append)
    assert reports[0].phase_ms == pytest.approx(99.0)
    assert reports[0].rr_ms == (784.0, 800.0)


def test_identifiers_and_sites_are_kept_only_if_asked_for(hospital: Hospital) -> None:
    hospital.add("1.2.3", "Jane^Doe")
    [(_, hidden)] = hospital.imported().cases()
    [(_, kept)] = hospital.imported(keep_ids=True, keep_sites=True).cases()
    assert (kept.patient_id, kept.site) == ("Jane^Doe", "St. Anywhere")
    assert kept.case_id == hidden.case_id
    assert hidden.patient_id == NAMES.patient("Jane^Doe")


def test_a_hospitals_name_is_gone_again_when_it_is_no_longer_asked_for(hospital: Hospital) -> None:
    """What was assembled with it is not taken."""
    hospital.add("1.2.3", "Jane^Doe")
    [(_, kept)] = hospital.imported(keep_sites=True).cases()
    [(_, hidden)] = hospital.imported().cases()
    assert kept.site == "St. Anywhere"
    assert re.fullmatch(r"site-[0-9a-f]{12}", hidden.site)


@pytest.mark.parametrize("keep_ids", [False, True])
def test_studies_without_a_patient_are_patients_of_their_own(hospital: Hospital, keep_ids: bool) -> None:
    """One common name would move all of them together through every split."""
    hospital.add("1.2.3", "")
    hospital.add("1.2.4", "anonymous")
    cases = [case for _, case in hospital.imported(keep_ids=keep_ids).cases()]
    assert {case.patient_id for case in cases} == {NAMES.patient("", "1.2.3"), NAMES.patient("", "1.2.4")}


def test_a_refused_study_is_set_aside_with_code_sentence_and_remedy(hospital: Hospital) -> None:
    hospital.add("1.2.3")
    hospital.add("1.2.4", error=Refusal(Code.MISSING_PHASE, "slice 4 of 12 has 19 phases, others 20"))
    datalist = hospital.imported()
    assert counts(datalist) == [0, 0, 1]
    assert datalist.set_aside == (
        {
            "case_id": NAMES.study("1.2.4"),
            "reason": "MISSING_PHASE: A slice lacks phases that others have. Slice 4 of 12 has 19 phases, others 20. "
            "Export the study again, whole.",
        },
    )


def test_an_unexpected_error_costs_one_study_and_tells_its_place_not_its_words(hospital: Hospital) -> None:
    """Libraries quote header values in their errors."""
    hospital.add("1.2.3")
    hospital.add("1.2.4", error=KeyError("Jane^Doe"))
    hospital.add("1.2.5", error=OSError(28, "No space left on device", "/data/Jane_Doe/1.dcm"))
    datalist = hospital.imported()
    assert counts(datalist) == [0, 0, 1]
    reasons = {item["case_id"]: item["reason"] for item in datalist.set_aside}
    assert reasons[NAMES.study("1.2.4")].startswith("UNEXPECTED_ERROR: ")
    assert "KeyError at line " in reasons[NAMES.study("1.2.4")]
    assert "report this line" in reasons[NAMES.study("1.2.4")]
    assert reasons[NAMES.study("1.2.5")].startswith("SYSTEM_ERROR: ")
    assert "OSError (No space left on device) at line " in reasons[NAMES.study("1.2.5")]
    assert "Jane" not in json.dumps(reasons)


def test_a_disk_that_fails_while_files_are_looked_for_ends_the_import_and_names_no_file(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who knows which study would lack the file that could not be read?"""

    def fail(root: Path, on_file: Callable[[], object]) -> None:
        for _ in range(3):
            on_file()
        raise OSError(5, "Input/output error", "/data/Jane_Doe/1.dcm")

    hospital.add("1.2.3")
    monkeypatch.setattr(dicom, "studies_in", fail)
    with pytest.raises(OSError, match="got 'Input/output error' after 3 files") as failed:
        hospital.imported()
    assert "Jane" not in str(failed.value)


def test_a_cine_in_which_nothing_moves_is_refused(hospital: Hospital) -> None:
    hospital.add("1.2.3", values=np.full(SHAPE, 7), left_out=(LeftOut("series 2", 3, Code.LOCALISER),))
    reports: list[CaseReport] = []
    assert counts(hospital.imported(on_study=reports.append)) == [0, 0, 0]
    assert (reports[0].code, reports[0].left_out[0]["code"]) == ("NOTHING_MOVES", "LOCALISER")


def test_doubtful_phases_are_a_warning(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at each of 500 studies; a person looks at those that say so."""
    monkeypatch.setattr(dicom_study, "find_phases", lambda *_: Phases(0, 1, 0.1))
    hospital.add("1.2.3", warnings=("REPEATED_SLICE: slice 2",))
    reports: list[CaseReport] = []
    hospital.imported(on_study=reports.append)
    assert [text.partition(":")[0] for text in reports[0].warnings] == ["REPEATED_SLICE", "UNSURE_PHASES"]


def test_a_second_run_assembles_nothing_and_says_the_same(hospital: Hospital) -> None:
    """Reports are complete, too: the quality sheet of a second run is that of the first."""
    hospital.add("1.2.3", warnings=("REPEATED_SLICE: slice 2",), left_out=(LeftOut("series 2", 3, Code.LOCALISER),))
    first: list[CaseReport] = []
    second: list[CaseReport] = []
    datalist = hospital.imported(on_study=first.append)
    assert hospital.imported(on_study=second.append) == datalist
    assert second == first
    assert hospital.read == ["1.2.3"]
    assert datalist.notes == (f"case {NAMES.study('1.2.3')}: REPEATED_SLICE: slice 2",)


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda root: (root / "1.2.3" / "1").write_text("sent anew, whole"), {}),
        (lambda root: _shorten(next((root.parent / "cines").glob("*.nii.gz"))), {}),
        (lambda root: _shorten(next((root.parent / "cines").glob("*.json"))), {}),
        (lambda root: root, {"keep_ids": True}),
        (lambda root: root, {"keep_sites": True}),
    ],
    ids=["other files", "broken cine", "broken record", "other identifiers", "other sites"],
)
def test_a_study_is_assembled_again_where_it_must_be(
    hospital: Hospital, change: Callable[[Path], object], options: dict[str, Any]
) -> None:
    hospital.add("1.2.3")
    hospital.imported()
    change(hospital.root)
    [(_, case)] = hospital.imported(**options).cases()
    assert hospital.read == ["1.2.3", "1.2.3"]
    assert nibabel.load(case.image).get_fdata().shape == SHAPE[::-1]


def test_labelled_patients_are_split_and_others_go_to_test(hospital: Hospital) -> None:
    """Ten labelled patients of one cell: 6, 2, 2; the two without a label join the test part."""
    for n in range(12):
        hospital.add(f"1.2.{n}", f"P{n}")
    table = labels(hospital, *(f"P{n},{'NOR' if n < 10 else ''},M,{40 + n}" for n in range(11)), "P99,NOR,,",
                   header="patient_id,label,sex,age")  # fmt: skip
    datalist = hospital.imported(labels=table)
    assert counts(datalist) == [6, 2, 4]
    assert datalist.classes == ("NOR",)
    by_id = {case.case_id: case for _, case in datalist.cases()}
    assert (by_id[NAMES.study("1.2.3")].sex, by_id[NAMES.study("1.2.3")].age) == ("M", 43.0)
    assert (by_id[NAMES.study("1.2.11")].sex, by_id[NAMES.study("1.2.11")].age) == ("F", 61.0)
    assert [by_id[NAMES.study(f"1.2.{n}")].label for n in (10, 11)] == ["", ""]
    assert datalist.notes[0].startswith("labels: 1 row of 12 without a study")
    assert datalist.notes[1] == "labels: 1 row without a label"


def test_an_unlabelled_study_of_a_labelled_patient_never_crosses_the_split(hospital: Hospital) -> None:
    """In the test part it stays beside the labelled one; elsewhere it is set aside, since training needs labels."""
    for n in range(5):
        hospital.add(f"1.{n}.1", f"P{n}")
        hospital.add(f"1.{n}.2", f"P{n}")
    table = labels(hospital, *(f"1.{n}.1,NOR" for n in range(5)), header="study_uid,label")
    datalist = hospital.imported(labels=table)
    assert counts(datalist) == [3, 1, 2]
    assert sorted(case.label for case in datalist.sections["test"]) == ["", "NOR"]
    assert len({case.patient_id for case in datalist.sections["test"]}) == 1
    reasons = [item["reason"] for item in datalist.set_aside]
    assert sorted(reasons) == [
        *["study has no label and its patient is in another part: training"] * 3,
        "study has no label and its patient is in another part: validation",
    ]


def test_a_table_of_other_patients_is_refused(hospital: Hospital) -> None:
    """All would land in the test part unlabelled, and nobody would notice before the training."""
    hospital.add("1.2.3", "P1")
    with pytest.raises(ValueError, match="of 1 that came in none has one"):
        hospital.imported(labels=labels(hospital, "Q1,HCM"))


def test_classes_asked_for_pick_among_the_labels(hospital: Hospital) -> None:
    for n in range(3):
        hospital.add(f"1.2.{n}", f"P{n}")
    table = labels(hospital, "P0,NOR", "P1,HCM", "P2,ARV")
    datalist = hospital.imported(labels=table, classes=("HCM", "NOR"))
    assert datalist.classes == ("HCM", "NOR")
    assert datalist.set_aside == (
        {"case_id": NAMES.study("1.2.2"), "reason": "label is not among the classes: ARV; add it to them"},
    )
    assert hospital.imported(labels=table, classes=("HCM", "NRO")).notes[0] == "labels: no row has the class NRO"
    with pytest.raises(ValueError, match="none does; did you mean 'HCM'"):
        hospital.imported(labels=table, classes=("HCMM",))


def test_a_datalist_that_names_patients_or_hospitals_says_so(hospital: Hospital) -> None:
    """Whoever passes it on, or the page made from it, must know."""
    hospital.add("1.2.3")
    assert hospital.imported().notes == ()
    notes = hospital.imported(keep_ids=True, keep_sites=True).notes
    assert [note.partition(":")[0] for note in notes] == ["PatientIDs are kept", "institutions' names are kept"]


@pytest.mark.parametrize("keep_ids", [False, True])
def test_labels_find_their_patients_whether_identifiers_are_kept_or_not(hospital: Hospital, keep_ids: bool) -> None:
    hospital.add("1.2.3", "P1")
    hospital.add("1.2.4", "P2")
    table = labels(hospital, "P1,NOR", f"{NAMES.patient('P2')},DCM")
    datalist = hospital.imported(labels=table, keep_ids=keep_ids)
    assert {case.case_id: case.label for _, case in datalist.cases()} == {
        NAMES.study("1.2.3"): "NOR",
        NAMES.study("1.2.4"): "DCM",
    }


def test_the_console_has_a_table_of_reasons_and_one_of_series_left_out(hospital: Hospital) -> None:
    left_out = (LeftOut("series 1", 30, Code.LONG_AXIS), LeftOut("series 2", 3, Code.LOCALISER))
    hospital.add("1.2.3", left_out=left_out, warnings=("REPEATED_SLICE: slice 2",))
    hospital.add("1.2.4", error=Refusal(Code.NO_CINE, left_out=left_out[1:]))
    hospital.add("1.2.5", error=Refusal(Code.NO_CINE))
    reports: list[CaseReport] = []
    lines = dicom_lines(hospital.imported(on_study=reports.append), reports)
    assert "DICOM: 1 case of 1 patient" in lines
    for line in (
        "training: 0 cases of 0 patients",
        "      no label  all",
        "  GE         1    1",
        "studies refused: 2 of 3",
        "     2  NO_CINE  No series shows a heartbeat over time.",
        "series left out of all studies: 3",
        "     2  LOCALISER  A localiser.",
        "     1  LONG_AXIS  A cine along the heart's long axis.",
        "     1  REPEATED_SLICE",
    ):
        assert line in lines
    assert not any("case study" in line for line in lines)


def test_a_folder_that_is_not_there_is_named(hospital: Hospital) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder at .*root"):
        hospital.imported()
