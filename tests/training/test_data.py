"""A prepared datalist seen from training."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.cohort.case import Case, Datalist, write_datalist
from pipeline.training.data import Cohort
from transforms.files import write_prepared
from transforms.recipe import StudentInput

RECIPE = StudentInput(rows=8, cols=8, slices=2)


def _case(folder: Path, number: int, vendor: str, label: str, patient: str | None = None) -> Case:
    path = folder / f"c{number}.npz"
    write_prepared(path, np.zeros(RECIPE.shape, np.float32), {"recipe_digest": RECIPE.digest})
    return Case(
        case_id=f"c{number}",
        patient_id=patient or f"p{number}",
        label=label,
        site=f"site-{vendor}",
        vendor=vendor,
        scanner=f"{vendor} 1.5 T",
        field_strength_t=1.5,
        image=path,
        ed=0,
        es=1,
    )


@pytest.fixture
def listed(tmp_path: Path) -> Datalist:
    """Siemens with three studies of two patients, GE with one; Canon in the test part alone."""
    training = (
        _case(tmp_path, 1, "Siemens", "NOR", "a"),
        _case(tmp_path, 2, "Siemens", "NOR", "a"),
        _case(tmp_path, 3, "Siemens", "HCM", "b"),
        _case(tmp_path, 4, "GE", "HCM"),
    )
    return Datalist(
        classes=("NOR", "HCM"),
        source="made",
        group_by=("vendor",),
        sections={"training": training, "validation": (), "test": (_case(tmp_path, 9, "Canon", "NOR"),)},
        created_with="test",
        recipe=RECIPE.to_dict(),
        recipe_digest=RECIPE.digest,
    )


@pytest.fixture
def cohort(listed: Datalist, tmp_path: Path) -> Cohort:
    write_datalist(listed, tmp_path / "datalist.json")
    return Cohort(tmp_path / "datalist.json")


def test_groups_count_patients_and_not_studies(cohort: Cohort) -> None:
    assert cohort.group_sizes == {"GE": 1, "Siemens": 2}


def test_items_carry_indices_and_the_columns_of_the_predictions_table(cohort: Cohort) -> None:
    item = cohort.items("training")[2]
    assert (item["label"], item["group"], item["case_id"], item["patient_id"]) == (1, 1, "c3", "b")
    assert (item["vendor"], item["site"], item["field_strength_t"]) == ("Siemens", "site-Siemens", "1.5 T")
    assert Path(item["image"]).is_file()


def test_a_group_that_training_never_saw_is_listed_by_name_and_has_no_index(cohort: Cohort) -> None:
    assert cohort.items("test")[0]["group"] == -1
    assert cohort.known_groups["vendor"] == ("Canon", "GE", "Siemens")


def test_two_columns_make_crossed_groups_under_one_name(listed: Datalist, tmp_path: Path) -> None:
    write_datalist(listed, tmp_path / "datalist.json")
    cohort = Cohort(tmp_path / "datalist.json", group_by=["vendor", "label"])
    assert cohort.group_column == "vendor-label"
    assert set(cohort.group_names) == {"GE x HCM", "Siemens x HCM", "Siemens x NOR"}
    assert cohort.items("training")[3]["vendor-label"] == "GE x HCM"


def test_the_digest_follows_labels_and_sections_and_not_the_folder(listed: Datalist, tmp_path: Path) -> None:
    digests = []
    flipped = replace(listed.sections["training"][0], label="HCM")
    changed = {**listed.sections, "training": (flipped, *listed.sections["training"][1:])}
    *rest, last = listed.sections["training"]
    moved = {"training": tuple(rest), "validation": (), "test": (*listed.sections["test"], last)}
    others = [replace(listed, sections=sections) for sections in (changed, moved)]
    for name, datalist in zip("abcd", (listed, listed, *others), strict=True):
        write_datalist(datalist, tmp_path / name / "datalist.json")
        digests.append(Cohort(tmp_path / name / "datalist.json").digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_the_digest_follows_the_pixels_and_not_when_they_were_written(cohort: Cohort, tmp_path: Path) -> None:
    """A study that was prepared anew in another phase makes other data; one that was written again does not."""
    path, facts = tmp_path / "c1.npz", {"recipe_digest": RECIPE.digest}
    os.utime(path, (0, 0))
    write_prepared(path, np.zeros(RECIPE.shape, np.float32), facts)
    assert Cohort(tmp_path / "datalist.json").digest == cohort.digest
    write_prepared(path, np.ones(RECIPE.shape, np.float32), facts)
    assert Cohort(tmp_path / "datalist.json").digest != cohort.digest


def test_an_empty_section_and_raw_studies_are_refused(cohort: Cohort, listed: Datalist, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'validation' must hold at least one case"):
        cohort.items("validation")
    raw = tmp_path / "c1.nii.gz"
    raw.touch()
    case = replace(listed.sections["training"][0], image=raw)
    sections = {"training": (case,), "validation": (), "test": ()}
    write_datalist(replace(listed, sections=sections, recipe=None, recipe_digest=None), tmp_path / "raw.json")
    with pytest.raises(ValueError, match="run the bundle cardiac_cine_preprocessing"):
        Cohort(tmp_path / "raw.json")


def test_a_model_remembers_what_it_was_trained_on_in_plain_values(cohort: Cohort) -> None:
    record = cohort.record()
    assert record["classes"] == ["NOR", "HCM"]
    assert record["recipe_digest"] == RECIPE.digest
    assert record["training_groups"] == {"GE": 1, "Siemens": 2}
    assert StudentInput.from_dict(record["recipe"]) == RECIPE


def test_channels_are_phases_times_slices_of_a_cine_and_the_colours_of_a_photograph(
    cohort: Cohort, listed: Datalist, tmp_path: Path
) -> None:
    assert cohort.channels == 4
    photographs = replace(listed, recipe={"kind": "natural-image", "channels": 3, "rows": 8, "cols": 8})
    write_datalist(photographs, tmp_path / "photographs.json")
    assert Cohort(tmp_path / "photographs.json").channels == 3


def test_a_model_is_chosen_on_the_worst_group_or_on_the_one_it_is_made_for(cohort: Cohort) -> None:
    assert cohort.accuracy_metric("validation") == "validation/accuracy/worst/vendor"
    assert cohort.accuracy_metric("validation", "GE") == "validation/accuracy/vendor/ge"


def test_one_group_s_cases_are_kept_and_an_unknown_group_is_refused(cohort: Cohort) -> None:
    items = cohort.items("training")
    assert [item["case_id"] for item in cohort.among(items, "GE")] == ["c4"]
    assert cohort.among(items, None) == items
    with pytest.raises(ValueError, match="only_group must be one of GE, Siemens, got 'Canon'"):
        cohort.among(items, "Canon")
