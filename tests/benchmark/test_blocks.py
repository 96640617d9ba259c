"""A block: teachers before students, nothing twice, one failure apart from the others."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.benchmark.blocks import BlockRun
from pipeline.benchmark.cells import Block, blocks_of, fitted_to_validation, planned_digests
from pipeline.benchmark.plan import ModelPlan, TeacherPlan
from pipeline.benchmark.results import Results
from tests.benchmark import fakes

Trained = list[dict[str, Any]]


@pytest.fixture
def trained() -> Trained:
    """What was trained: the arguments of every call, in order."""
    return []


@pytest.fixture
def work(tmp_path: Path, trained: Trained) -> Callable[..., list[str]]:
    """Work on a block; gives its failures."""

    def run(block: Block, fail: str = "nothing") -> list[str]:
        def train(bundle: str, configs: Sequence[str], overrides: Mapping[str, Any]) -> None:
            trained.append({"bundle": bundle, **overrides})
            if overrides["tracker#run_name"].endswith(fail):
                raise RuntimeError("failed to run optimizer") from ZeroDivisionError("no steps")
            fakes.train(bundle, configs, overrides)

        tools = replace(fakes.TOOLS, run_bundle=train)
        return BlockRun(
            block, tmp_path / "work", Results(tmp_path / "results"), "sqlite:///m", tools, lambda *_: None
        ).run()

    return run


def block(**changes: Any) -> Block:
    return blocks_of(fakes.plan(**changes), seeds=[3])[0]


def names(trained: Trained) -> list[str]:
    return [call["tracker#run_name"].removeprefix("fake seed 3 ") for call in trained]


def test_a_plan_is_laid_out_seed_by_seed_with_teachers_first() -> None:
    laid_out = blocks_of(fakes.plan(dials={"confounding": [0.0, 1.0]}))
    assert [(b.seed, b.dials["confounding"]) for b in laid_out] == [(0, 0.0), (0, 1.0), (1, 0.0), (1, 1.0)]
    assert [cell.training.name for cell in laid_out[0].cells] == ["teacher-0", "teacher-1", "erm", "kd", "groupdistil"]
    digests = {cell.config_digest for b in laid_out for cell in b.cells}
    assert len(digests) == 4 * 5


def test_a_model_with_seeds_of_its_own_is_laid_out_for_these_alone() -> None:
    plan = fakes.plan()
    plan = replace(plan, models=plan.models | {"erm": replace(plan.models["erm"], seeds=(1,))})
    assert [[cell.training.name for cell in b.cells][2:] for b in blocks_of(plan)] == [
        ["kd", "groupdistil"], ["erm", "kd", "groupdistil"],
    ]  # fmt: skip


def test_what_a_plan_asks_for_today_follows_its_settings() -> None:
    asked = planned_digests(fakes.plan(), [0])
    assert asked == {cell.config_digest for b in blocks_of(fakes.plan(), seeds=[0]) for cell in b.cells}
    assert not asked & planned_digests(
        fakes.plan(budget={"student": {"num_epochs": 9}, "teacher": {"num_epochs": 9}}), [0]
    )
    assert not asked & planned_digests(fakes.plan(evaluate={"latency": True}), [0])


def test_overrides_of_a_member_come_before_the_teachers_and_those_before_the_budget() -> None:
    zero, one, *_, student = block(budget={"teacher": {"weight_decay": 1.0, "num_epochs": 2}}).cells
    assert zero.training.overrides == {"weight_decay": 0.1, "num_epochs": 2, "seed": 3}
    assert one.training.overrides == {"weight_decay": 1.0, "num_epochs": 2, "seed": 103}
    assert student.training.overrides == {"group_step": 0.1, "seed": 3}


def test_every_model_is_trained_in_every_variant_and_a_teacher_once_where_it_is_the_same() -> None:
    small, noisy = {"student": {"widths": [8]}}, {"student": {"alpha": 0.5}, "teacher": {"num_epochs": 9}}
    cells = block(variants={"small": small, "noise=0.1": noisy}).cells
    teachers = [cell.training.name for cell in cells if cell.training.role == "teacher"]
    assert teachers == ["teacher-0", "teacher-1", "teacher-0@noise=0.1", "teacher-1@noise=0.1"]
    students = {cell.training.name: cell.training for cell in cells if cell.training.role == "student"}
    assert set(students) == {f"{model}@{v}" for model in ("erm", "kd", "groupdistil") for v in ("small", "noise=0.1")}
    assert [t.name for t in students["kd@noise=0.1"].teachers] == teachers[2:]
    assert students["kd@small"].overrides["widths"] == [8]


def test_a_student_follows_its_teachers_in_its_digest() -> None:
    changed = block(budget={"teacher": {"num_epochs": 9}, "student": {"num_epochs": 3}})
    before = {cell.training.name: cell.training.digest for cell in block().cells}
    after = {cell.training.name: cell.training.digest for cell in changed.cells}
    assert [name for name in before if before[name] == after[name]] == ["erm"]


def test_a_student_follows_the_biased_model_in_its_digest() -> None:
    models = {"kd": {"teachers": ["teacher"], "biased": "plain"}}
    cells = [
        block(teachers={"teacher": {}, "plain": {"overrides": {"num_epochs": n}}}, models=models).cells for n in (1, 2)
    ]
    assert cells[0][-1].training.name == "kd"
    assert cells[0][-1].config_digest != cells[1][-1].config_digest


def test_what_learns_from_validation_is_told_by_what_it_does_and_not_by_its_name() -> None:
    """Its own last layer, weights, shares, epoch, be it in a variant alone; or a teacher's, or the biased model's."""
    sound, retrained = TeacherPlan("sound"), TeacherPlan("retrained", ("methods/dfr.yaml",), each=({}, {}))
    plain = ("methods/kd.yaml",)
    models = [
        ModelPlan("kd", plain, teachers=("sound",)),
        ModelPlan("mine", (*plain, "methods/dfr.yaml")),
        ModelPlan("weighed", ("methods/groupdistil_validation.yaml",)),
        ModelPlan("shared", plain, {"adaptive_alpha": True}),
        ModelPlan("trusted", ("methods/trusted_teachers.yaml",)),
        ModelPlan("kept", plain, {"kept_epoch": "best"}),
        ModelPlan("taught", plain, teachers=("sound", "retrained")),
        ModelPlan("away", ("methods/agre_kd.yaml",), teachers=("sound",), biased="retrained"),
    ]
    plan = replace(
        fakes.plan(),
        teachers={t.name: t for t in (sound, retrained)},
        models={m.name: m for m in models},
        variants={"as_is": {}, "late": {"student": {"last_layer": "dfr"}, "teacher": {}}},
    )
    names = ["kd@as_is", "sound", "kd@late", *(m.name for m in models[1:]), "retrained-1", "not of the plan"]
    assert [fitted_to_validation(plan, name) for name in names] == [False] * 2 + [True] * (len(names) - 3) + [None]
    late = replace(plan, budget={"student": {"kept_epoch": "best"}, "teacher": {}})
    assert [fitted_to_validation(late, name) for name in names[:2]] == [True, False]


def test_a_mistaken_override_is_named_with_its_model_before_anything_is_trained() -> None:
    with pytest.raises(ValueError, match=r"student kd: .*got 'alhpa'; did you mean 'alpha'\?"):
        block(models={"kd": {"overrides": {"alhpa": 0.5}}})


def test_teachers_are_trained_once_and_handed_to_their_students(work: Any, trained: Trained, tmp_path: Path) -> None:
    assert work(block()) == []
    assert names(trained) == ["teacher-0", "teacher-1", "erm", "kd", "groupdistil"]
    called = dict(zip(names(trained), trained, strict=True))
    teachers = [str(Path(called[f"teacher-{k}"]["output_dir"]) / "model.pt") for k in range(2)]
    assert called["kd"]["teacher_checkpoints"] == called["groupdistil"]["teacher_checkpoints"] == teachers
    assert "teacher_checkpoints" not in called["erm"]
    assert called["kd"]["bundle"] == "cardiac_cine_student"
    assert called["kd"]["cache_dir"] == called["erm"]["cache_dir"]
    assert called["teacher-1"]["seed"] == 103


def test_a_teacher_is_trained_only_where_a_cell_needs_it(work: Any, trained: Trained) -> None:
    whole = block(teachers={"teacher": {}})
    work(replace(whole, cells=tuple(cell for cell in whole.cells if cell.training.name == "erm")))
    assert names(trained) == ["erm"]


def test_the_biased_model_is_handed_over_apart_from_the_teachers(work: Any, trained: Trained) -> None:
    models = {"kd": {"teachers": ["teacher"], "biased": "plain"}}
    work(block(teachers={"teacher": {}, "plain": {"overrides": {"num_epochs": 1}}}, models=models))
    called = dict(zip(names(trained), trained, strict=True))
    assert called["kd"]["biased_checkpoint"] == str(Path(called["plain"]["output_dir"]) / "model.pt")
    assert len(called["kd"]["teacher_checkpoints"]) == 1


def test_what_is_trained_is_kept_and_what_training_alone_needs_is_not(
    work: Any, trained: Trained, tmp_path: Path
) -> None:
    work(block())
    assert not list((tmp_path / "work").rglob("last.pt"))
    assert not list((tmp_path / "work" / "cache").iterdir())
    assert len(list((tmp_path / "work").rglob("model.pt"))) == 5
    (tmp_path / "results" / "results.csv").unlink()
    work(block())
    assert len(trained) == 5
    assert len(Results(tmp_path / "results").digests()) == 5


def test_a_failed_model_costs_no_other_its_place(work: Any, trained: Trained, tmp_path: Path) -> None:
    failures = work(block(), fail="kd")
    assert failures == ["fake seed 3, kd: ZeroDivisionError: no steps"]
    assert len(Results(tmp_path / "results").digests()) == 4
    assert work(block()) == []
    assert len(Results(tmp_path / "results").digests()) == 5


def test_a_failed_teacher_is_tried_once_and_named_by_its_students(work: Any, trained: Trained) -> None:
    failures = work(block(), fail="teacher-1")
    assert names(trained) == ["teacher-0", "teacher-1", "erm"]
    said = "teacher-1 must be trained first, which failed: ZeroDivisionError: no steps"
    assert failures[1:] == [f"fake seed 3, {name}: RuntimeError: {said}" for name in ("kd", "groupdistil")]


def test_a_row_says_which_cell_it_is(work: Any, tmp_path: Path) -> None:
    work(block(evaluate={"probe": True}, dials={"confounding": [0.5]}))
    with (tmp_path / "results" / "results.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    kd = rows["kd"]
    assert (kd["plan"], kd["cohort"], kd["dials"]) == ("fake", "phantom", '{"confounding":0.5}')
    assert (kd["seed"], kd["fold"], kd["role"], kd["n_training"]) == ("3", "", "student", "9")
    assert json.loads(kd["extra"]) == {"asked": {"probe": True}}
    assert (rows["teacher-0"]["role"], rows["teacher-0"]["n_training"]) == ("teacher", "7")


def test_curves_are_kept_of_the_plans_first_seed_and_fold_where_it_asks_for_them() -> None:
    asking = fakes.plan(evaluate={"curves": True}, folds=2, cohort={"kind": "acdc"})
    assert [(b.seed, b.fold) for b in blocks_of(asking) if b.curves] == [(0, 0)]
    assert not any(b.curves for b in blocks_of(asking, seeds=[1]))
    assert not any(b.curves for b in blocks_of(fakes.plan()))


def test_curves_stand_beside_what_was_measured(work: Any, tmp_path: Path) -> None:
    work(blocks_of(fakes.plan(evaluate={"curves": True}))[0])
    with (tmp_path / "results" / "results.csv").open(newline="") as file:
        extra = {row["model"]: json.loads(row["extra"]) for row in csv.DictReader(file)}
    assert {model for model in extra if "curves" in extra[model]} == {"groupdistil"}
    assert extra["groupdistil"] == {"asked": {"curves": True}, "curves": {"epoch": [1]}}


def test_the_record_of_a_training_names_it(work: Any, tmp_path: Path) -> None:
    work(block())
    records = [json.loads(path.read_text()) for path in (tmp_path / "work" / "models").glob("*/trained.json")]
    assert sorted(record["name"] for record in records) == ["erm", "groupdistil", "kd", "teacher-0", "teacher-1"]
    assert all(record["seconds"] >= 0 for record in records)


def test_a_teacher_that_starts_from_another_is_trained_after_it_and_follows_it_in_its_digest(
    work: Any, trained: Trained
) -> None:
    teachers = {"common": {}, "of_group": {"start": "common", "each": [{}, {"seed_offset": 1}]}}
    started = block(teachers=teachers, models={"kd": {"teachers": ["of_group"]}})
    work(started)
    assert names(trained) == ["common", "of_group-0", "of_group-1", "kd"]
    called = dict(zip(names(trained), trained, strict=True))
    model = str(Path(called["common"]["output_dir"]) / "model.pt")
    assert called["of_group-0"]["start_checkpoint"] == called["of_group-1"]["start_checkpoint"] == model
    changed = {**teachers, "common": {"overrides": {"num_epochs": 1}}}
    other = block(teachers=changed, models={"kd": {"teachers": ["of_group"]}})
    assert started.cells[0].training.teachers[0].digest != other.cells[0].training.teachers[0].digest
