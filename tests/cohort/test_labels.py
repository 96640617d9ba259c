"""The table of labels: read as people write such tables, refused without a word of what stands in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cohort.labels import Labels, read_labels
from pipeline.cohort.pseudonym import Pseudonyms

NAMES = Pseudonyms(bytes(range(32)))


def read(folder: Path, text: str | bytes) -> Labels:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_labels(path, patient=NAMES.patient, study=NAMES.study)


@pytest.mark.parametrize(
    "text",
    [
        "patient_id,label,sex,age\nP1,NOR,F,54\nP2,DCM,,\n",
        "patient_id;label;sex;age\r\nP1;NOR;f;54\r\n\r\nP2;DCM;;\r\n",
        '\ufeffLabel , Remark, Patient_ID ,SEX,age\nNOR,"one, two\nthree", P1 ,F,54.0\nDCM,,P2\n',
    ],
    ids=["plain", "as a European spreadsheet saves it", "byte order mark, other columns, short rows"],
)
def test_a_table_is_read_in_the_forms_that_spreadsheets_give_it(tmp_path: Path, text: str) -> None:
    labels = read(tmp_path, text)
    assert labels.classes == ("DCM", "NOR")
    first = labels.of(patient=NAMES.patient("P1"), case_id="study-x")
    assert first is not None
    assert (first.label, first.sex, first.age) == ("NOR", "F", 54.0)
    second = labels.of(patient=NAMES.patient("P2"), case_id="study-x")
    assert second is not None
    assert (second.label, second.sex, second.age) == ("DCM", None, None)
    assert labels.of(patient=NAMES.patient("P3"), case_id="study-x") is None


def test_a_study_is_found_by_its_uid_or_by_the_name_that_was_printed(tmp_path: Path) -> None:
    case_id = NAMES.study("1.2.3")
    for text in ("study_uid,label\n1.2.3,HCM\n", f"case_id,label\n{case_id},HCM\n"):
        found = read(tmp_path, text).of(patient="patient-of-somebody", case_id=case_id)
        assert found is not None
        assert found.label == "HCM"


def test_a_patient_is_found_by_the_pseudonym_too(tmp_path: Path) -> None:
    """A clinician may fill the table from a datalist, which has no other names."""
    name = NAMES.patient("P1")
    found = read(tmp_path, f"patient_id,label\n{name},HCM\npatient-007,NOR\n")
    assert found.of(patient=name, case_id="") is not None
    assert found.of(patient=NAMES.patient("patient-007"), case_id="") is not None


def test_rows_that_match_nothing_and_rows_without_a_label_are_counted(tmp_path: Path) -> None:
    labels = read(tmp_path, "patient_id,label\nP1,NOR\nP2,\nP3,DCM\n")
    labels.of(patient=NAMES.patient("P1"), case_id="")
    assert labels.notes() == [
        "labels: 2 rows of 3 without a study that came in; "
        "identifiers must be spelt as in DICOM, leading zeros included",
        "labels: 1 row without a label",
    ]


def test_a_table_of_which_every_row_is_used_needs_no_note(tmp_path: Path) -> None:
    labels = read(tmp_path, "patient_id,label\nP1,NOR\n")
    labels.of(patient=NAMES.patient("P1"), case_id="")
    assert labels.notes() == []


def test_the_very_old_are_ninety(tmp_path: Path) -> None:
    """An age beyond may tell who somebody is."""
    found = read(tmp_path, "patient_id;label;age\nP1;NOR;97,5\n").of(patient=NAMES.patient("P1"), case_id="")
    assert found is not None
    assert found.age == 90.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient_id,lable\nSECRET,NOR\n", "column 'label'; none of its 2 columns has that name; column 2 looks"),
        ("patientid,label\nSECRET,NOR\n", "column 1 looks like it misspelt: rename it"),
        ("SECRET,NOR\nSECRET2,DCM\n", "name the columns in the first row"),
        ("", "none of its 0 columns has that name"),
        ("patient_id\tlabel\nSECRET\tNOR\n", "its only column has another name; separate columns by commas"),
        ("patient_id,study_uid,label\nSECRET,1.2,NOR\n", "keep one"),
        ("patient_id,label,label\nSECRET,NOR,NOR\n", "remove all but one"),
        ("patient_id,label,sexx\nSECRET,NOR,F\n", "column 3 of the table of labels looks like 'sex' misspelt"),
        ("patient_id,label\nSECRET,NOR\n,DCM\n", "row 3: patient_id must not be empty"),
        ("patient_id,label\nSECRET,NOR\nP2,DCM\n SECRET ,NOR\n", "rows 2 and 4: they hold the same patient_id"),
        ("patient_id,label\nSECRET,NOR\n\nsecret,DCM\n", "rows 2 and 4: they hold the same patient_id with unlike"),
        ("patient_id,label,sex\nSECRET,NOR,SECRET\n", "row 2: sex must be one of M, F, O"),
        ("patient_id,label,age\nSECRET,NOR,SECRET\nP2,NOR,-1\n", "rows 2, 3: age must be a number of years"),
        ("patient_id,label,age\nSECRET,NOR,nan\n", "row 2: age must be"),
        ("patient_id,label\nSECRET,\n", "at least one label"),
        ("patient_id,label\nanonymous,NOR\n", "row 2: the identifier names nobody"),
        ("patient_id,label\nSECRÉT,NOR\n".encode("latin-1"), "save it as 'CSV UTF-8'"),
        ("patient_id,label\nSECRET,NOR\n".encode("utf-16"), "save it as 'CSV UTF-8'"),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused_by_numbers_alone(tmp_path: Path, text: str | bytes, said: str) -> None:
    """A message goes to logs; whoever stands in the table must not."""
    with pytest.raises(ValueError, match=r"table of labels|column") as refusal:
        read(tmp_path, text)
    assert said in str(refusal.value)
    assert "secr" not in str(refusal.value).lower()


def test_of_many_broken_rows_the_first_are_named(tmp_path: Path) -> None:
    rows = "".join(f"P{n},NOR,x\n" for n in range(9))
    with pytest.raises(ValueError, match="rows 2, 3, 4, 5, 6 and 4 more: age"):
        read(tmp_path, f"patient_id,label,age\n{rows}")


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no table of labels at .*nowhere\.csv"):
        read_labels(tmp_path / "nowhere.csv", patient=str, study=str)
