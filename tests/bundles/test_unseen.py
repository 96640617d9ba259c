"""Leave one scanner out: what is trained on what, what is kept, and what the table says."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.audit.assessment import assess, choose_reference
from pipeline.audit.plan import Plan
from pipeline.cli_unseen import add_unseen
from pipeline.cohort.case import Datalist, read_datalist, write_datalist
from pipeline.tracking.predictions import predictions_frame, read_predictions, write_predictions
from pipeline.unseen import Network, leave_out, run_unseen, values_to_leave_out

VENDORS = ("Canon", "GE", "Philips", "Siemens")


@pytest.fixture(scope="module")
def whole(prepared: Path) -> Datalist:
    return read_datalist(prepared / "datalist.json")


class Runs:
    """Runs bundles in words: a model is sure of the label of scanners that it has trained on, and of no other."""

    def __init__(self, stop_at: int = 10**9) -> None:
        self.asked: list[tuple[str, Sequence[str], dict[str, Any]]] = []
        self.stop_at = stop_at

    def __call__(self, bundle: str, configs: Sequence[str], overrides: Mapping[str, Any]) -> None:
        self.asked.append((bundle, configs, dict(overrides)))
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        folder, learnt = Path(overrides["output_dir"]), read_datalist(overrides["datalist"])
        if "evaluate.yaml" not in configs:
            folder.mkdir(parents=True)
            return
        seen = {case.vendor for case in learnt.sections["training"]}
        test, classes = learnt.sections["test"], list(learnt.classes)
        records = [
            {key: getattr(case, key) for key in ("case_id", "patient_id", "label", "site", "vendor", "scanner")}
            for case in test
        ]
        scores = np.full((len(test), len(classes)), 0.2)
        for row, case in enumerate(test):
            right = classes.index(case.label) + (case.vendor not in seen)
            scores[row, right % len(classes)] = 0.6
        name = bundle.removeprefix("cardiac_cine_")
        table = predictions_frame(records, scores, classes, split="test", model=name)
        write_predictions(table, folder / "predictions.csv")

    @property
    def names(self) -> list[str]:
        return [overrides["tracker#run_name"] for _, _, overrides in self.asked]


def test_a_scanner_left_out_is_in_nothing_that_is_learnt_from_and_stays_in_the_test(whole: Datalist) -> None:
    """All other cases stay where they were, so no patient is in two sections."""
    without = leave_out(whole, "vendor", "GE")
    for section in ("training", "validation"):
        kept = tuple(case for case in whole.sections[section] if case.vendor != "GE")
        assert without.sections[section] == kept
        assert len(kept) < len(whole.sections[section])
    assert without.sections["test"] == whole.sections["test"]
    learnt = {case.patient_id for section in ("training", "validation") for case in without.sections[section]}
    assert learnt.isdisjoint(case.patient_id for case in without.sections["test"])
    assert "GE is left out" in without.notes[-1]


def test_a_case_of_an_unknown_scanner_is_left_out_with_each(whole: Datalist) -> None:
    """It could be of the very scanner that the model shall not have seen."""
    first, *others = whole.sections["training"]
    some = replace(whole, sections={**whole.sections, "training": (replace(first, vendor="unknown"), *others)})
    for vendor in VENDORS:
        assert first.case_id not in {case.case_id for case in leave_out(some, "vendor", vendor).sections["training"]}
    assert values_to_leave_out(some, "vendor") == VENDORS


def test_what_cannot_be_left_out_is_refused(whole: Datalist) -> None:
    """A column that is no scanner, a value that is not tested, a class that would have no case."""
    with pytest.raises(
        ValueError, match="must be one of vendor, site, scanner, field_strength_t, software; got 'label'"
    ):
        leave_out(whole, "label", "NOR")
    with pytest.raises(ValueError, match="Canon, GE, Philips, Siemens; got 'Hitachi'"):
        leave_out(whole, "vendor", "Hitachi")
    with pytest.raises(ValueError, match=r"'1.5 T' cannot be left out: .* no training case of DCM, HCM, NOR"):
        leave_out(whole, "field_strength_t", "1.5 T")
    no_validation = replace(
        whole,
        sections={**whole.sections, "validation": tuple(c for c in whole.sections["validation"] if c.vendor == "GE")},
    )
    with pytest.raises(ValueError, match="no validation case"):
        leave_out(no_validation, "vendor", "GE")


def test_each_case_is_read_with_its_scanner_seen_and_unseen(prepared: Path, tmp_path: Path) -> None:
    """The models in this test are right on scanners they know and wrong on others: seen 1, unseen 0."""
    runs = Runs()
    frame = read_predictions(run_unseen(prepared / "datalist.json", tmp_path, run=runs))
    assert len(frame) == 12 * 2 * 2
    assert set(frame.groupby(["case_id", "model"]).size()) == {1}
    assert set(frame["model"]) == {"teacher, seen", "teacher, unseen", "student, seen", "student, unseen"}
    assert (frame["seen"] == frame["model"].str.split(", ").str[1]).all()
    reference = choose_reference(list(frame["model"]))
    audit = assess(frame, Plan(("vendor",), replicates=100, min_patients=2, reference_model=reference))
    for vendor in VENDORS:
        assert audit.find("student, seen", "vendor", vendor, "accuracy").value == 1.0
        assert audit.find("student, unseen", "vendor", vendor, "accuracy").value == 0.0
    assert audit.models[0] == "teacher, seen"


def test_a_student_learns_from_the_teacher_that_has_seen_no_more_than_itself(prepared: Path, tmp_path: Path) -> None:
    """And none of these models becomes a candidate for use."""
    runs = Runs()
    run_unseen(prepared / "datalist.json", tmp_path, only=["GE"], run=runs)
    assert runs.names == [
        "teacher, all scanners",
        "teacher-evaluate, all scanners",
        "student, all scanners",
        "student-evaluate, all scanners",
        "teacher, without vendor GE",
        "teacher-evaluate, without vendor GE",
        "student, without vendor GE",
        "student-evaluate, without vendor GE",
    ]
    for bundle, _, overrides in runs.asked:
        folder = Path(overrides["output_dir"]).parent
        assert Path(overrides["datalist"]) == folder / "datalist.json"
        assert overrides["dataset_dir"] == str(prepared)
        assert overrides["registered_model"] is None
        if bundle == "cardiac_cine_student":
            assert Path(overrides["teacher_checkpoint"]) == folder / "teacher" / "model.pt"


def test_a_broken_run_goes_on_where_it_was(prepared: Path, tmp_path: Path) -> None:
    """Interrupted while the second fold's teacher is trained; then all is there and nothing is run."""
    datalist = prepared / "datalist.json"
    with pytest.raises(KeyboardInterrupt):
        run_unseen(datalist, tmp_path, only=["GE"], run=Runs(stop_at=5))
    resumed = Runs()
    table = run_unseen(datalist, tmp_path, only=["GE"], run=resumed)
    assert [name.split(",")[0] for name in resumed.names] == [
        "teacher",
        "teacher-evaluate",
        "student",
        "student-evaluate",
    ]
    before, again = table.read_bytes(), Runs()
    assert run_unseen(datalist, tmp_path, only=["GE"], run=again).read_bytes() == before
    assert again.asked == []
    more = Runs()
    run_unseen(datalist, tmp_path, only=["GE", "Canon"], run=more)
    assert {name.split(" ")[-1] for name in more.names} == {"Canon"}


def test_a_folder_of_other_settings_is_refused(prepared: Path, tmp_path: Path) -> None:
    """Another override, or another cohort, would mix two experiments in one table."""
    datalist, student = prepared / "datalist.json", Network("student", overrides={"num_epochs": 3})
    run_unseen(datalist, tmp_path, only=["GE"], run=Runs())
    with pytest.raises(ValueError, match="a run of another student"):
        run_unseen(datalist, tmp_path, only=["GE"], student=student, run=Runs())
    with pytest.raises(ValueError, match="a run of another by and another cohort"):
        run_unseen(datalist, tmp_path, by="site", run=Runs())


def test_a_scanner_of_the_test_section_alone_is_never_called_seen(whole: Datalist, tmp_path: Path) -> None:
    """No model has trained on it, the one with all scanners included."""
    learnt = {
        section: tuple(case for case in whole.sections[section] if case.vendor != "GE")
        for section in ("training", "validation")
    }
    write_datalist(replace(whole, sections={**whole.sections, **learnt}), tmp_path / "datalist.json")
    frame = read_predictions(run_unseen(tmp_path / "datalist.json", tmp_path / "out", run=Runs()))
    assert set(frame.loc[frame["vendor"] == "GE", "seen"]) == {"unseen"}
    assert set(frame.loc[frame["vendor"] == "Canon", "seen"]) == {"seen", "unseen"}


def test_a_column_that_the_table_lacks_is_added(whole: Datalist, tmp_path: Path) -> None:
    """Software versions are left out like scanners, and can be audited by."""
    sections = {
        section: tuple(replace(case, software=f"v{i % 2}") for i, case in enumerate(whole.sections[section]))
        for section in whole.sections
    }
    write_datalist(replace(whole, sections=sections), tmp_path / "datalist.json")
    frame = read_predictions(run_unseen(tmp_path / "datalist.json", tmp_path / "out", by="software", run=Runs()))
    assert set(frame["software"]) == {"v0", "v1"}


def test_raw_and_unlabelled_studies_are_refused_before_anything_is_trained(
    whole: Datalist, unlabelled: Path, tmp_path: Path
) -> None:
    write_datalist(replace(whole, recipe=None, recipe_digest=None), tmp_path / "raw.json")
    runs = Runs()
    with pytest.raises(ValueError, match="cardiac_cine_preprocessing"):
        run_unseen(tmp_path / "raw.json", tmp_path / "out", run=runs)
    with pytest.raises(ValueError, match="11 of 12 have no label"):
        run_unseen(unlabelled, tmp_path / "out", run=runs)
    assert runs.asked == []


def test_overrides_that_no_config_has_or_that_differ_from_run_to_run_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'group_step'"):
        Network("student", overrides={"group_stp": 0.1})
    with pytest.raises(ValueError, match="'output_dir' differs from run to run"):
        Network("teacher", overrides={"output_dir": "here"})


def test_the_command_hands_its_options_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: dict[str, Any] = {}

    def run_unseen(datalist: Path, out: Path, **options: Any) -> Path:
        asked.update(options, datalist=datalist, out=out)
        return out / "predictions.csv"

    monkeypatch.setattr("pipeline.unseen.run_unseen", run_unseen)
    parser = argparse.ArgumentParser()
    add_unseen(parser.add_subparsers())
    argv = ["unseen", "--datalist", "d.json", "-o", "out", "--by", "site", "--only", "A,B", "--method", "kd"]
    arguments = parser.parse_args([*argv, "--epochs", "3", "--student", "widths=[4,8,8,8]", "--student", "alpha=0.5"])
    assert arguments.command(arguments) == 0
    assert (asked["by"], asked["only"], asked["datalist"]) == ("site", ("A", "B"), Path("d.json"))
    assert asked["teacher"] == Network("teacher", overrides={"seed": 0, "num_epochs": 3})
    assert asked["student"].configs == ("train.yaml", "methods/kd.yaml")
    assert asked["student"].overrides == {"seed": 0, "num_epochs": 3, "widths": [4, 8, 8, 8], "alpha": 0.5}
    assert "next: evenbeat audit out/predictions.csv -o out/report --group-by site" in capsys.readouterr().out
    wrong = parser.parse_args([*argv, "--teacher", "alpha"])
    with pytest.raises(ValueError, match="KEY=VALUE; got 'alpha'"):
        wrong.command(wrong)


@pytest.mark.slow
def test_the_bundles_train_without_a_scanner_and_read_it(prepared: Path, small: dict[str, Any], tmp_path: Path) -> None:
    """Four small trainings; the models without GE know three groups, and their answers are other answers."""
    import torch

    networks = {name: Network(name, overrides={**small, "views": 2}) for name in ("teacher", "student")}
    table = run_unseen(prepared / "datalist.json", tmp_path, only=["GE"], **networks)  # type: ignore[arg-type]
    frame = read_predictions(table)
    assert len(frame) == 3 * 2 * 2
    assert set(frame["vendor"]) == {"GE"}
    assert set(frame["model"]) == {
        f"{model}, {seen}" for model in ("teacher (erm)", "student (groupdistil)") for seen in ("seen", "unseen")
    }
    for name in networks:
        groups = [
            set(torch.load(tmp_path / fold / name / "model.pt", weights_only=True)["training_groups"])
            for fold in ("all", "without-ge")
        ]
        assert groups == [set(VENDORS), set(VENDORS) - {"GE"}]
    scores = frame.pivot_table(index="case_id", columns="model", values="prob_HCM")
    assert (scores["teacher (erm), seen"] != scores["teacher (erm), unseen"]).all()
