"""Anybody's table is read as it was meant, or refused with file, column, row, value and remedy."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audit.grouping import age_bands, check_spellings, folded, merge_names
from pipeline.audit.layout import Layout, find_columns
from pipeline.audit.reading import read_table
from pipeline.audit.table_file import open_table, read_columns, with_decimal_points
from pipeline.tracking.predictions import PredictionsError, classes_of, write_predictions

PERSON = "Mustermann"
FOREIGN = Layout(
    ("vendor",),
    endpoints=("dice",),
    columns={"patient_id": "PatID", "label": "truth", "prob": "p_dcm", "vendor": "Hersteller", "dice": "Dice LV"},
    positive="DCM",
)
ROWS = [
    {"PatID": "007", "Name": PERSON, "truth": "DCM", "p_dcm": "0.93", "Hersteller": "GE", "Dice LV": "0.91"},
    {"PatID": "007", "Name": PERSON, "truth": "DCM", "p_dcm": "0.4", "Hersteller": "GE", "Dice LV": "0.8"},
    {"PatID": "8", "Name": PERSON, "truth": "NOR", "p_dcm": "0.1", "Hersteller": "Canon", "Dice LV": "1"},
]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as a CSV; keyword arguments replace columns, None leaves one out."""

    def written(name: str = "unet.csv", separator: str = ",", **changes: Any) -> Path:
        frame = pd.DataFrame(ROWS)
        for column, values in changes.items():
            frame = frame.drop(columns=column) if values is None else frame.assign(**{column: values})
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        frame.to_csv(path, index=False, sep=separator)
        return path

    return written


def layout(**changes: Any) -> Layout:
    return dataclasses.replace(FOREIGN, **changes)


def columns(**changes: str) -> dict[str, str]:
    return {**FOREIGN.columns, **changes}


def test_a_foreign_table_becomes_the_one_that_an_audit_reads(write: Write) -> None:
    """Every value by hand: mapped, made up, or unknown."""
    table = read_table(write(), FOREIGN)
    assert table.frame.to_dict("list") == {
        "case_id": ["007-1", "007-2", "8-1"],
        "patient_id": ["007", "007", "8"],
        "site": ["unknown"] * 3,
        "vendor": ["GE", "GE", "Canon"],
        "scanner": ["unknown"] * 3,
        "field_strength_t": [pytest.approx(np.nan, nan_ok=True)] * 3,
        "label": ["DCM", "DCM", "NOR"],
        "prob_NOR": pytest.approx([0.07, 0.6, 0.9]),
        "prob_DCM": [0.93, 0.4, 0.1],
        "split": ["test"] * 3,
        "model": ["unet"] * 3,
        "dice": [0.91, 0.8, 1.0],
    }
    assert table.notes == (
        "unet.csv has no column model: its rows are called 'unet', as the file.",
        "unet.csv has no column split: all its rows count as test.",
        "Rows have no case_id: they are numbered within their patient, and two models are paired by that number.",
    )


@pytest.mark.parametrize(("separator", "decimal"), [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ",")])
def test_every_dialect_gives_the_same_table(write: Write, separator: str, decimal: str) -> None:
    """Decimal commas where the separator leaves no doubt; a decimal point is not taken for thousands."""
    numbers = {name: [row[name].replace(".", decimal) for row in ROWS] for name in ("p_dcm", "Dice LV")}
    read = read_table(write("other.csv", separator, **numbers), FOREIGN).frame
    pd.testing.assert_frame_equal(read.assign(model="unet"), read_table(write(), FOREIGN).frame)


def test_parquet_gives_the_same_table_as_csv(write: Write, tmp_path: Path) -> None:
    """Numbers as numbers, ids as numbers or an index, and an integer that pandas holds as 8.0."""
    frame = pd.DataFrame(ROWS).astype({"p_dcm": float, "Dice LV": float}).assign(PatID=[7.0, 7.0, 8.0])
    frame.set_index("PatID").to_parquet(tmp_path / "unet.parquet")
    read = read_table(tmp_path / "unet.parquet", FOREIGN).frame
    pd.testing.assert_frame_equal(read, read_table(write(PatID=["7", "7", "8"]), FOREIGN).frame)


def test_our_own_table_is_read_as_it_was_written(frame: pd.DataFrame, tmp_path: Path) -> None:
    """All columns of groups asked for: nothing is made up, and nothing is to be said."""
    write_predictions(frame, tmp_path / "p.csv")
    table = read_table(tmp_path / "p.csv", Layout(("vendor", "scanner", "site", "field_strength_t x label")))
    pd.testing.assert_frame_equal(table.frame, frame)
    assert table.notes == ("site: 219 rows without one form the group unknown.",)


@pytest.mark.parametrize("place", ["Name", "site", "scanner", "note, private", "case"])
def test_a_name_in_a_column_that_is_not_asked_for_survives_nowhere(write: Write, place: str) -> None:
    """Not even where the column is one that an audit could have asked for."""
    table = read_table(write(**{place: [f"{PERSON} {i}" for i in range(3)]}), FOREIGN)
    assert PERSON not in table.frame.to_csv() + str(table.notes)


def test_a_mapped_column_is_not_read_under_its_own_name_as_well(write: Write) -> None:
    """Many tables call the scanner's model `model`: it does not name three classifiers."""
    path = write(model=["Avanto", "Avanto", "Vantage"])
    found = read_table(path, layout(columns=columns(scanner="model"))).frame
    assert found["model"].tolist() == ["unet"] * 3
    assert found["scanner"].tolist() == ["Avanto", "Avanto", "Vantage"]


def test_only_named_probabilities_are_read(write: Write) -> None:
    """A wide table has those of several models."""
    path = write(prob_DCM_b=0.5, prob_NOR_b=0.5, a=[0.2, 0.4, 0.9], b=[0.8, 0.6, 0.1])
    mapped = {k: v for k, v in FOREIGN.columns.items() if k != "prob"} | {"prob_DCM": "b", "prob_NOR": "a"}
    found = read_table(path, layout(columns=mapped)).frame
    assert classes_of(found) == ("NOR", "DCM")  # the positive class is the second
    assert found["prob_DCM"].tolist() == [0.8, 0.6, 0.1]


def test_continuous_values_need_no_label_and_no_probability(write: Write) -> None:
    """Dice alone; a label may still be a group."""
    path = write(p_dcm=None)
    alone = layout(columns={k: v for k, v in FOREIGN.columns.items() if k not in {"label", "prob"}}, positive=None)
    found = read_table(path, alone).frame
    assert classes_of(found) == ()
    assert "label" not in found
    by_label = layout(group_by=("label",), columns={**alone.columns, "label": "truth"}, positive=None)
    assert read_table(path, by_label).frame["label"].tolist() == ["DCM", "DCM", "NOR"]


def test_a_classification_without_probabilities_is_refused(write: Write) -> None:
    """Where nothing else is asked for, the table must have them."""
    mapped = {k: v for k, v in FOREIGN.columns.items() if k not in {"prob", "dice"}}
    with pytest.raises(PredictionsError, match=r"missing: 'prob_<class>'"):
        read_table(write(), layout(columns=mapped, endpoints=()))


def test_two_models_of_two_files_are_paired_by_patient_and_row(write: Write) -> None:
    """The patient has rows 1 and 2 of both."""
    found = read_table([write(), write("vit.csv")], FOREIGN).frame
    assert found.groupby("model")["case_id"].agg(list).to_dict() == {
        model: ["007-1", "007-2", "8-1"] for model in ("unet", "vit")
    }


def test_one_model_in_two_files_is_numbered_through(write: Write) -> None:
    """A table per site, and one patient at both."""
    found = read_table([write(model="m"), write("b.csv", model="m")], FOREIGN).frame
    assert found["case_id"].tolist() == ["007-1", "007-2", "8-1", "007-3", "007-4", "8-2"]


def test_rows_that_cannot_be_paired_are_refused(write: Write, tmp_path: Path) -> None:
    """Two slices here, one there: which one? And ids in one of two tables pair nothing."""
    path = write()
    (tmp_path / "b.csv").write_text("".join(path.read_text().splitlines(keepends=True)[::2]))
    with pytest.raises(PredictionsError, match="not so for 1 of the patients") as refused:
        read_table([path, tmp_path / "b.csv"], FOREIGN)
    assert "007" not in str(refused.value)
    with pytest.raises(PredictionsError, match=r"unet\.csv: all tables must have a case_id, or none"):
        read_table([path, write("c.csv", case_id=["a", "b", "c"])], FOREIGN)


def test_files_of_one_name_are_two_models_or_the_same_nobody_knows(write: Write) -> None:
    """`teacher/predictions.csv` and `student/predictions.csv` would become one model."""
    with pytest.raises(PredictionsError, match="another file is called 'unet', too"):
        read_table([write("a/unet.csv"), write("b/unet.csv")], FOREIGN)
    with pytest.raises(PredictionsError, match="each once"):
        read_table([write(), write()], FOREIGN)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p_dcm": ["0.93", "1.4", "0.1"]}, r"unet\.csv: column 'prob' must hold a probability.*row 2 has 1\.4"),
        ({"p_dcm": ["0.93", "", "0.1"]}, r"unet\.csv: column 'prob'.*row 2"),
        ({"p_dcm": ["0.93", "0,4", "0.1"]}, r"column 'prob'.*row 2 has 0,4"),
        ({"truth": ["DCM", "HCM", "NOR"]}, r"labels are DCM, HCM, NOR; make one.*--merge label:NOR=HCM"),
        ({"truth": ["dcm", "dcm", "NOR"]}, r"'DCM' and one other; labels are NOR, dcm; did you mean 'dcm'\?"),
        ({"truth": ["DCM", "", "NOR"]}, r"unet\.csv: column 'label' must hold a text in every row; row 2"),
        ({"truth": ["DCM", "NOR", "NOR"], "case_id": ["a", "b", "b"]}, r"row 3 repeats .*row 2"),
        ({"Dice LV": ["0.9", "x", "1"]}, r"unet\.csv: column 'dice' must hold a finite number.*row 2 has x"),
        ({"Dice LV": ["0.9", "NA", "1"]}, r"column 'dice'.*row 2 has no value \(1 such rows\); .*--missing-values"),
        ({"Dice LV": ["0.9", "inf", "1"]}, r"column 'dice'.*row 2 has inf"),
        ({"PatID": ["1", " ", "3"]}, r"unet\.csv: column 'patient_id'.*row 2"),
        (
            {"PatID": None, "patient": "1"},
            r"unet\.csv: .*missing: 'PatID' \(did you mean 'patient'\?\).*patient_id=NAME",
        ),
        (
            {"Hersteller": ["GE", "ge", "Canon"]},
            r"'GE' \(.*unet\.csv row 1; 1 row\) and 'ge' \(.*unet\.csv row 2; 1 row",
        ),
        ({"model": ["a", "A", "a"]}, r"column 'model' must spell"),
    ],
)
def test_a_wrong_table_is_refused_with_its_remedy(write: Write, changes: dict[str, Any], message: str) -> None:
    """Row 1 is the first row of data; no message names a patient."""
    with pytest.raises(PredictionsError, match=message) as refused:
        read_table(write(**changes), FOREIGN)
    assert PERSON not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("PatID,truth\n1,0,93\n", r"as the header, 2 separated by commas; row 1 has 3 .*semicolons"),
        ("PatID;truth\n1;a\n1\n", r"2 separated by semicolons; row 2 has 1 "),
        ('PatID,truth\n1,"a\n2,b\n', "quotation mark"),
        ("", "must begin with the names"),
        ("truth,PatID,PatID\n1,2,3\n", "column 'PatID' must appear once"),
        ("Mustermann,0.93\nMeier,0.4\n", "the first row must hold the names of the columns"),
        ("PatID,truth\n", "at least one row"),
        ("PatID,truth\nä,b\n".encode("latin-1"), "UTF-8"),
        ("PatID,truth\nä,b\n".encode("utf-16"), "UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_refused_without_showing_it(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    """Moved columns, lost rows and doubled names would be read as somebody else's."""
    path = tmp_path / "p.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PredictionsError, match=message) as refused:
        read_table(path, Layout(("truth",), columns={"patient_id": "PatID"}, endpoints=("PatID",)))
    assert str(path) in str(refused.value)
    assert PERSON not in str(refused.value)


@pytest.mark.parametrize(("name", "error"), [("p.xlsx", PredictionsError), ("p.parquet", PredictionsError)])
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str, error: type[Exception]) -> None:
    """And one that is not there is missing, not wrong."""
    (tmp_path / name).write_text("a,b")
    with pytest.raises(error, match=name):
        read_table(tmp_path / name, FOREIGN)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        read_table(tmp_path / "nowhere.csv", FOREIGN)


def test_what_an_excel_export_has_is_no_obstacle(tmp_path: Path) -> None:
    """Mark of UTF-8, Windows line ends, spaces around names, line breaks and separators in quotes, an unnamed index."""
    text = '\ufeff;PatID ; Dice LV;Hersteller\r\n0;1;0,5;"GE; old\nbuilding"\r\n\r\n1;2;0,25;NA\r\n'
    (tmp_path / "x.csv").write_text(text, encoding="utf-8", newline="")
    asked = Layout(("vendor",), ("dice",), columns={"patient_id": "PatID", "dice": "Dice LV", "vendor": "Hersteller"})
    found = read_table(tmp_path / "x.csv", asked).frame
    assert found["dice"].tolist() == [0.5, 0.25]
    assert found["vendor"].tolist() == ["GE; old\nbuilding", "NA"]


def test_missing_values_stay_and_are_counted_where_they_are_allowed(write: Write) -> None:
    """Three spellings of nothing."""
    table = read_table(write(**{"Dice LV": ["NaN", "", "0.5"]}), layout(missing_values=True))
    assert table.frame["dice"].isna().tolist() == [True, True, False]
    assert "dice: 2 rows of 1 patient have no value, and are left out." in table.notes


def test_a_patient_on_two_scanners_is_allowed_and_said(write: Write) -> None:
    """By each column of groups."""
    table = read_table(write(Hersteller=["GE", "Canon", "Canon"], sex="F"), layout(group_by=("vendor", "sex")))
    assert "vendor: 1 of 2 patients are in more than one group, and count in each." in table.notes
    assert not [note for note in table.notes if note.startswith("sex")]


def test_oddities_are_noted(write: Write) -> None:
    """Copies, ids that lost their zeros, and patients of one model only."""
    rows = {"Hersteller": "GE", "p_dcm": "0.5", "Dice LV": "1", "truth": "DCM"}
    notes = " ".join(read_table([write(**rows), write("b.csv", PatID=["7", "7", "8"], **rows)], FOREIGN).notes)
    assert "2 rows repeat another row" in notes
    assert "1 of 3 patients have rows of all models (unet 2, b 2)." in notes
    assert "2 patient_ids differ from another only by case, spaces or leading zeros" in notes


def test_spellings_are_merged_as_agreed_and_said(write: Write) -> None:
    """Over files, with spaces; one that was agreed and is not there is said, too."""
    merge = {"vendor": {"ge": "GE", "General Electric": "GE"}}
    paths = [write(Hersteller="GE"), write("b.csv", Hersteller="ge ")]
    table = read_table(paths, layout(merge=merge))
    assert set(table.frame["vendor"]) == {"GE"}
    assert "vendor: 'ge' counts as 'GE' (3 rows)." in table.notes
    assert "vendor: 'General Electric' counts as 'GE' (0 rows)." in table.notes
    with pytest.raises(
        PredictionsError, match=r"'GE' \(.*unet.csv row 1; 3 rows\) and 'ge ' \(.*b.csv row 1; 3 rows\)"
    ):
        read_table(paths, FOREIGN)


def test_names_that_are_said_to_differ_stay_apart(write: Write) -> None:
    """Each of the two remedies of the message is one."""
    path = write(Hersteller=["GE", "ge ", "GE"])
    remedies = (r"--merge 'vendor:ge =GE'", "--merge vendor:ge=ge")
    with pytest.raises(PredictionsError) as refused:
        read_table(path, FOREIGN)
    assert all(remedy in str(refused.value) for remedy in remedies)
    merged = read_table(path, layout(merge={"vendor": {"ge ": "GE"}})).frame["vendor"]
    apart = read_table(path, layout(merge={"vendor": {"ge": "ge"}})).frame["vendor"]
    assert (merged.tolist(), apart.tolist()) == (["GE", "GE", "GE"], ["GE", "ge", "GE"])


def test_ages_become_bands_and_the_age_is_gone(write: Write) -> None:
    """40 is in the second band, 59.9 as well; decimal commas count."""
    asked = layout(group_by=("age x vendor",), age_bands=(40, 60))
    found = read_table(write(separator=";", age=["40", "59,9", ""]), asked).frame
    assert found["age"].tolist() == ["40-59", "40-59", "unknown"]
    with pytest.raises(PredictionsError, match=r"unet\.csv: column 'age' must hold an age in years.*row 2 has 064Y"):
        read_table(write(age=["40", "064Y", ""]), asked)


def test_field_strengths_may_be_merged(write: Write) -> None:
    """An Avanto says 1.494 T."""
    asked = layout(group_by=("field_strength_t",), merge={"field_strength_t": {"1.494": "1.5"}})
    found = read_table(write(separator=";", field_strength_t=["1,494", "1,5", ""]), asked).frame
    assert found["field_strength_t"].tolist() == pytest.approx([1.5, 1.5, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_by": ()}, "at least one column"),
        ({"endpoints": ("label",)}, "a name of its own; got 'label'"),
        ({"columns": {"patient": "PatID"}}, "'patient' is not asked for; did you mean 'patient_id'"),
        ({"group_by": ("age",)}, "bands need the column age; there are none"),
        ({"age_bands": (40,)}, "group_by or strata do not name age"),
        ({"group_by": ("age",), "age_bands": (60, 40)}, r"increasing; got \[60, 40\]"),
        ({"merge": {"vender": {"a": "b"}}}, "column 'vender' is not read; did you mean 'vendor'"),
        ({"merge": {"vendor": {"a": "b "}}}, "no spaces around it"),
        ({"merge": {"vendor": {}}}, "at least one name"),
    ],
)
def test_a_layout_that_cannot_be_followed_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layout(**changes)


def test_the_columns_of_a_file_are_found_by_mapping_then_by_name(tmp_path: Path) -> None:
    """What is mapped to nothing is left alone."""
    (tmp_path / "p.csv").write_text("id,case_id,split,vendor,prob_A,prob_B,label\n")
    asked = Layout(("vendor",), columns={"patient_id": "id", "case_id": ""})
    assert find_columns(open_table(tmp_path / "p.csv"), asked) == {
        name: {"patient_id": "id"}.get(name, name)
        for name in ("patient_id", "vendor", "label", "prob_A", "prob_B", "split")
    }


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=5), st.sampled_from(",;\t"))
def test_any_text_comes_back_from_a_csv(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], separator: str
) -> None:
    """Written by Python's csv module, which is not what reads it."""
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([("a", "b", "c"), *rows])
    path = tmp_path_factory.mktemp("any") / "any.csv"
    path.write_text(stream.getvalue(), encoding="utf-8", newline="")
    found = read_columns(open_table(path), ["c", "a"])
    assert list(found.itertuples(index=False, name=None)) == [(c, a) for a, _, c in rows]


def test_a_column_with_points_keeps_its_commas() -> None:
    """Thousands, or a mistake: not for us to say; and nothing is changed in what is no number."""
    assert with_decimal_points(pd.Series(["1,5", " -,5e-3 ", "2"])).tolist() == ["1.5", "-.5e-3", "2"]
    for values in (["1,234.5", "1,5"], ["a,b", "1,2,3"]):
        assert with_decimal_points(pd.Series(values)).tolist() == values


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("GE ", "ge", True),
        ("Siemens Avanto", "SiemensAvanto", True),
        ("Genève", "GENE\u0300VE", True),
        ("GE\u200b", "GE\u00a0", True),
        ("Straße", "STRASSE", True),
        ("GE 1", "GE 2", False),
        ("Siemens-Avanto", "Siemens Avanto", False),
    ],
)
def test_names_are_alike_by_letters(one: str, other: str, alike: bool) -> None:
    """Case, spaces, accents and what has no width do not count; signs do."""
    assert (folded(one) == folded(other)) is alike


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=4), min_size=1, max_size=8))
def test_after_the_check_no_two_groups_fold_alike(names: list[str]) -> None:
    """It refuses if and only if two different names do."""
    values = merge_names(pd.Series(names, dtype="str"), {})
    clash = len({folded(name) for name in set(values)}) < len(set(values))
    try:
        check_spellings({"t": pd.DataFrame({"vendor": values})}, "vendor", {})
    except PredictionsError:
        assert clash
    else:
        assert not clash


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 130), min_size=1), st.lists(st.integers(1, 129), min_size=1, unique=True).map(sorted))
def test_every_age_is_in_its_band(years: list[float], edges: list[int]) -> None:
    """Read back from the band's name."""
    for year, band in zip(years, age_bands(pd.Series(years), edges), strict=True):
        start, _, end = band.rstrip("+").partition("-")
        assert int(start) <= year < (int(end) + 1 if end else np.inf)
