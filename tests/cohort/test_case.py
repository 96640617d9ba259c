"""Datalists: what is written comes back, and every broken rule is named with its remedy."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.cohort.case import (
    Case,
    Datalist,
    DatalistError,
    column_value,
    group_of,
    read_datalist,
    write_datalist,
)
from pipeline.cohort.validation import PATHS, RECORD_KEYS
from transforms.scanner import VENDORS

CLASSES = ("NOR", "HCM", "DCM")
DIGEST = "0123456789abcdef" * 4


def a_case(case_id: str = "A1", **changes: Any) -> Case:
    case = Case(
        case_id=case_id,
        patient_id=f"patient of {case_id}",
        label="NOR",
        site="Dijon",
        vendor="Siemens",
        scanner="Siemens Avanto 1.5 T",
        field_strength_t=1.5,
        image=Path("/data/a.nii.gz"),
    )
    return replace(case, **changes)


def a_datalist(training: tuple[Case, ...] = (a_case(),), **changes: Any) -> Datalist:
    datalist = Datalist(
        classes=CLASSES,
        source="test",
        group_by=("vendor",),
        sections={"training": training},
        created_with="evenbeat 0",
    )
    return replace(datalist, **changes)


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Any]:
    """A record whose image exists beside the datalist."""
    (tmp_path / "a.nii.gz").touch()
    return {
        "case_id": "A1",
        "patient_id": "Jane Doe",
        "label": "NOR",
        "site": "Dijon",
        "vendor": "GE",
        "scanner": "GE",
        "image": "a.nii.gz",
    }


def write_json(folder: Path, *records: Any, header: dict[str, Any] | None = None, **sections: Any) -> Path:
    raw = {"classes": list(CLASSES), "source": "test", "group_by": ["vendor"], "created_with": "test"}
    path = folder / "datalist.json"
    path.write_text(json.dumps({**raw, "training": list(records), **sections, **(header or {})}))
    return path


names = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1).filter(
    lambda text: text.strip() and text not in {".", ".."}
)
file_names = st.from_regex(r"[a-z0-9]{1,6}(/[a-z0-9]{1,6}){0,2}\.nii", fullmatch=True)
paths = st.builds(lambda up, name: Path(f"/{up}") / name, st.sampled_from(["data", "data/x", "else"]), file_names)
sizes = st.floats(0.1, 100)


@st.composite
def any_case(draw: st.DrawFn, case_id: str) -> Case:
    vendor = draw(st.sampled_from(VENDORS))
    cine = draw(st.booleans())
    images = {"image": draw(paths)} if cine else {"image_ed": draw(paths), "image_es": draw(paths)}
    masks = draw(st.sampled_from([(), ("mask_ed", "mask_es"), *([("mask",)] if cine else [])]))
    phases = draw(st.none() | st.lists(st.integers(0, 40), min_size=2, max_size=2, unique=True))
    optional = {
        "sex": st.sampled_from("MFO"),
        "age": sizes,
        "height_cm": sizes,
        "weight_kg": sizes,
        "field_strength_t": st.floats(0.1, 20),
        "heart": st.dictionaries(names, st.lists(sizes) | names | st.integers()),
    }
    if vendor != "unknown":
        optional["simulated"] = st.builds(lambda seed: {"vendor": vendor, "seed": seed}, st.integers(0))
    return Case(
        case_id=case_id,
        patient_id=f"p-{case_id}",
        label=draw(st.sampled_from(CLASSES)),
        site=draw(names),
        vendor=vendor,
        scanner=draw(names),
        vendor_raw=draw(names | st.just("")),
        **images,
        **{key: draw(paths) for key in masks},
        **(dict(zip(("ed", "es"), phases, strict=True)) if phases else {}),
        **draw(st.fixed_dictionaries({}, optional=optional)),
    )


@st.composite
def any_datalist(draw: st.DrawFn) -> Datalist:
    ids = draw(st.lists(names, unique=True, max_size=6))
    cases = [draw(any_case(case_id)) for case_id in ids]
    cuts = sorted(draw(st.tuples(st.integers(0, len(ids)), st.integers(0, len(ids)))))
    prepared = draw(st.booleans())
    reasons = st.fixed_dictionaries({"case_id": names, "reason": names})
    return Datalist(
        classes=CLASSES,
        source=draw(names),
        group_by=draw(st.sampled_from([("vendor",), ("vendor", "label"), ("site", "field_strength_t")])),
        sections={
            "training": tuple(cases[: cuts[0]]),
            "validation": tuple(cases[cuts[0] : cuts[1]]),
            "test": tuple(cases[cuts[1] :]),
        },
        created_with=draw(names),
        set_aside=tuple(draw(st.lists(reasons, max_size=3))),
        notes=tuple(draw(st.lists(names, max_size=3))),
        recipe=draw(st.dictionaries(names, st.integers())) if prepared else None,
        recipe_digest=DIGEST if prepared else None,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(datalist=any_datalist())
def test_what_is_written_is_read_back(datalist: Datalist, tmp_path: Path) -> None:
    """Every field, every section, every path: nothing is rounded, renamed or lost on the way."""
    write_datalist(datalist, tmp_path / "lists" / "datalist.json")
    assert read_datalist(tmp_path / "lists" / "datalist.json", check_files=False) == datalist


def test_a_cohort_can_be_moved_with_its_datalist(tmp_path: Path) -> None:
    """Paths are relative to the file, so that a copied folder finds its own images."""
    image = tmp_path / "old" / "images" / "a.nii.gz"
    image.parent.mkdir(parents=True)
    image.touch()
    write_datalist(a_datalist((a_case(image=image),)), tmp_path / "old" / "datalist.json")
    shutil.move(tmp_path / "old", tmp_path / "new")
    [(section, case)] = read_datalist(tmp_path / "new" / "datalist.json").cases()
    assert (section, case.image) == ("training", tmp_path / "new" / "images" / "a.nii.gz")


def test_a_datalist_behind_a_link_finds_its_images(tmp_path: Path) -> None:
    """``..`` leads out of where a linked folder really stands, not out of the link."""
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "a.nii.gz").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    write_datalist(a_datalist((a_case(image=tmp_path / "a.nii.gz"),)), tmp_path / "link" / "datalist.json")
    [(_, case)] = read_datalist(tmp_path / "link" / "datalist.json").cases()
    assert case.image == tmp_path / "a.nii.gz"


def test_values_that_are_not_known_are_not_written(tmp_path: Path) -> None:
    """A missing height is no key, not null and not 0."""
    write_datalist(a_datalist((a_case(field_strength_t=None),)), tmp_path / "datalist.json")
    [record] = json.loads((tmp_path / "datalist.json").read_text())["training"]
    assert set(record) == {"case_id", "patient_id", "label", "site", "vendor", "scanner", "image"}


def test_every_field_of_a_case_has_a_rule() -> None:
    """A field added to the class without a rule would be refused on reading."""
    assert {field.name for field in fields(Case)} == set(RECORD_KEYS)


def test_a_broken_datalist_is_not_written_over_a_good_one(tmp_path: Path) -> None:
    """The check stands before the write."""
    path = tmp_path / "datalist.json"
    write_datalist(a_datalist(), path)
    before = path.read_bytes()
    with pytest.raises(DatalistError, match="label is 'XYZ'"):
        write_datalist(a_datalist((a_case(label="XYZ"),)), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["datalist.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vendor": "SIEMENS"}, r"vendor is 'SIEMENS'.*write 'Siemens'"),
        ({"vendor": "Acme"}, r"vendor is 'Acme'.*write 'unknown'"),
        ({"label": "MINF"}, r"label is 'MINF', not one of the classes \['NOR', 'HCM', 'DCM'\]; correct it"),
        ({"field_strength_t": -1.5}, r"field_strength_t is -1.5; it must be a number above 0 and at most 20"),
        ({"field_strength_t": 15000}, r"field_strength_t is 15000; it must be a number above 0 and at most 20"),
        ({"field_strength_t": "1.5"}, r"field_strength_t is '1.5'; it must be a number"),
        ({"field_strength_t": float("nan")}, r"field_strength_t is nan"),
        ({"age": True}, r"age is True; it must be a number"),
        ({"weight_kg": 0}, r"weight_kg is 0; it must be a number above 0.*leave it out if it is not known"),
        ({"sex": "female"}, r"sex is 'female'; it must be one of \('M', 'F', 'O'\)"),
        ({"ed": 3.0, "es": 1}, r"ed is 3.0; it must be a whole number from 0"),
        ({"ed": -1, "es": 1}, r"ed is -1; it must be a whole number from 0"),
        ({"ed": "3", "es": 1}, r"ed is '3'; it must be a whole number from 0"),
        ({"ed": 3}, r"only one of ed and es is given; give both or none"),
        ({"ed": 3, "es": 3}, r"ed and es are both 3; they must be two phases"),
        ({"image_ed": "a.nii.gz"}, r"image and image_ed are both given; keep image"),
        ({"image": None}, r"image is None; it must be a path"),
        ({"mask_ed": "a.nii.gz"}, r"only mask_ed is given; give both"),
        ({"mask": "a.nii.gz", "mask_es": "a.nii.gz"}, r"mask and mask_es are both given"),
        ({"image": "b.nii.gz"}, r"image does not exist: .*b.nii.gz; restore the file"),
        ({"mask": "b.nii.gz"}, r"mask does not exist: .*b.nii.gz; restore the file"),
        ({"case_id": "a/b"}, r"case_id cannot be a file's name"),
        ({"scanner": ""}, r"scanner is ''; it must be a text that is not empty"),
        ({"vender": "GE"}, r"field 'vender' is not known; did you mean 'vendor'\?"),
        ({"simulated": {"vendor": "Philips", "seed": 1}}, r"vendor is 'GE' but the scanner .* is 'Philips'"),
        ({"simulated": {"vendor": "GE"}}, r"simulated is .*; it must be as"),
    ],
)
def test_a_broken_rule_names_case_field_value_and_remedy(
    study: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """One rule broken in a record that is otherwise right."""
    path = write_json(tmp_path, study | changes)
    with pytest.raises(DatalistError, match=rf"^case '{changes.get('case_id', 'A1')}' in training: {message}"):
        read_datalist(path)


def test_the_record_that_the_rules_are_tried_on_is_right(study: dict[str, Any], tmp_path: Path) -> None:
    """Otherwise the refusals above would prove nothing; ED may come after ES."""
    [(_, case)] = read_datalist(write_json(tmp_path, study | {"ed": 24, "es": 9})).cases()
    assert (case.vendor, case.ed, case.es, case.field_strength_t) == ("GE", 24, 9, None)


def test_a_case_may_come_without_its_label_in_the_test_section_only(tmp_path: Path) -> None:
    """New studies have none; training and validation could not use them."""
    new = a_case(label="", image=tmp_path / "a.nii.gz")
    for section in ("training", "validation"):
        with pytest.raises(DatalistError, match=f"case 'A1' in {section}: label is missing"):
            write_datalist(a_datalist(sections={section: (new,)}), tmp_path / "datalist.json")
    write_datalist(a_datalist(sections={"test": (new,)}), tmp_path / "datalist.json")
    (tmp_path / "a.nii.gz").touch()
    assert read_datalist(tmp_path / "datalist.json").sections["test"] == (new,)
    assert column_value(new, "label") == "unknown"


@pytest.mark.parametrize("key", ["case_id", "patient_id", "label", "site", "vendor", "scanner"])
def test_a_missing_field_is_named(study: dict[str, Any], tmp_path: Path, key: str) -> None:
    """A record without a case id is named by its place."""
    del study[key]
    name = "number 0 of training" if key == "case_id" else "A1"
    with pytest.raises(DatalistError, match=rf"^case '{name}' in training: {key} is missing"):
        read_datalist(write_json(tmp_path, study))


def test_a_pair_of_frames_must_be_complete(study: dict[str, Any], tmp_path: Path) -> None:
    """End-systole without end-diastole is no student input; a cine mask needs a cine."""
    del study["image"]
    with pytest.raises(DatalistError, match=r"no complete image; got \['image_es'\]"):
        read_datalist(write_json(tmp_path, study | {"image_es": "a.nii.gz"}))
    frames = {"image_ed": "a.nii.gz", "image_es": "a.nii.gz"}
    with pytest.raises(DatalistError, match=r"mask \(a cine\) is given without image"):
        read_datalist(write_json(tmp_path, study | frames | {"mask": "a.nii.gz"}))


def test_a_patient_in_two_sections_is_refused_without_the_patients_name(study: dict[str, Any], tmp_path: Path) -> None:
    """Leakage between sections; messages name cases only, since a patient id may be a name."""
    path = write_json(tmp_path, study, test=[study | {"case_id": "A2"}])
    with pytest.raises(DatalistError, match=r"case 'A2' in test: .* of case 'A1' in training.*patient level") as error:
        read_datalist(path)
    assert "Jane" not in str(error.value)


def test_a_patient_may_have_several_cases_in_one_section(study: dict[str, Any], tmp_path: Path) -> None:
    """The same heart under several simulated scanners."""
    path = write_json(tmp_path, study, study | {"case_id": "A2"})
    assert len(list(read_datalist(path).cases())) == 2


def test_a_case_id_twice_is_refused(study: dict[str, Any], tmp_path: Path) -> None:
    """Prepared files and predictions are named by it."""
    with pytest.raises(DatalistError, match=r"case 'A1' in training: case_id stands in training already"):
        read_datalist(write_json(tmp_path, study, study))


def test_missing_files_can_be_left_unchecked(study: dict[str, Any], tmp_path: Path) -> None:
    """An audit needs the groups, not the images."""
    (tmp_path / "a.nii.gz").unlink()
    path = write_json(tmp_path, study)
    assert len(list(read_datalist(path, check_files=False).cases())) == 1
    with pytest.raises(DatalistError, match="image does not exist"):
        read_datalist(path)


def test_many_problems_are_shown_in_part_and_counted(study: dict[str, Any], tmp_path: Path) -> None:
    """Of 8 missing images 5 are named: enough to see the pattern."""
    records = [study | {"case_id": f"A{i}", "image": f"{i}.nii"} for i in range(8)]
    with pytest.raises(DatalistError) as error:
        read_datalist(write_json(tmp_path, *records))
    lines = str(error.value).splitlines()
    assert len(lines) == 6
    assert lines[-1] == "and 3 more of the like"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"group_by": ["vender"]}, r"group_by names the column 'vender'; did you mean 'vendor'\?"),
        ({"group_by": []}, r"'group_by' must be a list of columns"),
        ({"classes": ["NOR", "NOR"]}, r"'classes' must be a list of class names, none twice"),
        ({"classes": "NOR"}, r"'classes' must be a list of class names"),
        ({"trainig": []}, r"key 'trainig' is not known; did you mean 'training'\?"),
        ({"training": {}}, r"'training' must be a list of cases"),
        ({"recipe_digest": "abc"}, r"'recipe_digest' must be 64 hexadecimal digits"),
        ({"set_aside": [{"case_id": "A"}]}, r"'set_aside' must be a list of objects with case_id and reason"),
    ],
)
def test_a_broken_header_names_key_and_remedy(tmp_path: Path, header: dict[str, Any], message: str) -> None:
    """A misspelt section would otherwise be an empty one."""
    with pytest.raises(DatalistError, match=message):
        read_datalist(write_json(tmp_path, header=header))


@pytest.mark.parametrize("key", ["classes", "source", "group_by", "created_with"])
def test_a_missing_header_key_is_named(tmp_path: Path, key: str) -> None:
    """Nothing of the header has a default on disk."""
    path = write_json(tmp_path)
    raw = json.loads(path.read_text())
    del raw[key]
    path.write_text(json.dumps(raw))
    with pytest.raises(DatalistError, match=f"key '{key}' is missing"):
        read_datalist(path)


@pytest.mark.parametrize(("text", "message"), [("{", "must be JSON"), ("[]", "got list"), ("{}", "no section")])
def test_a_file_that_is_no_datalist_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """A truncated file is an error that names it, no empty cohort."""
    (tmp_path / "datalist.json").write_text(text)
    with pytest.raises(DatalistError, match=message):
        read_datalist(tmp_path / "datalist.json")


def test_a_missing_datalist_is_named(tmp_path: Path) -> None:
    """With the path, since a working folder is easily another than one thinks."""
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "datalist.json")):
        read_datalist(tmp_path / "datalist.json")


def test_a_section_that_is_not_known_is_refused_when_built() -> None:
    """Its cases would vanish on writing."""
    with pytest.raises(DatalistError, match="section 'testing' is not known; did you mean 'test'"):
        a_datalist(sections={"testing": ()})


def test_column_values_are_texts_and_unknown_is_explicit() -> None:
    """Field strength carries its unit, so that no table shows a bare 1.5."""
    case = a_case()
    values = [column_value(case, column) for column in ("vendor", "site", "label", "field_strength_t", "sex")]
    assert values == ["Siemens", "Dijon", "NOR", "1.5 T", "unknown"]
    assert column_value(replace(case, field_strength_t=None), "field_strength_t") == "unknown"
    with pytest.raises(ValueError, match=r"cannot be grouped by 'vendr'; did you mean 'vendor'\?"):
        column_value(case, "vendr")


def test_a_group_is_its_columns_values_in_order() -> None:
    """Groups are named by value, never numbered."""
    case = a_case(label="DCM", vendor="GE")
    assert group_of(case, ("vendor",)) == "GE"
    assert group_of(case, ("vendor", "label")) == "GE x DCM"
    assert group_of(case, ("label", "vendor")) == "DCM x GE"


def test_all_paths_are_fields_that_are_checked() -> None:
    """A path that is no path in the rules would be written as it is, absolute."""
    assert {name for name in (field.name for field in fields(Case)) if name.startswith(("image", "mask"))} == set(PATHS)
