from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.benchmark.comparison import Regime, summarise
from pipeline.benchmark.document import write_document
from pipeline.benchmark.figures import layout, methods_figure, save
from pipeline.benchmark.plan import ModelPlan, Plan, TeacherPlan
from pipeline.benchmark.reading import Measurement
from pipeline.benchmark.sections import verdict
from tests.benchmark.synthetic import (
    VENDORS,
    crossed_test_set,
    measurement,
    phantom_test_set,
    probabilities,
    write_results,
)

GOOD, POOR = dict.fromkeys(VENDORS, 0.95), {**dict.fromkeys(VENDORS, 0.85), "GE": 0.4}


OUTDATED = 0.0  # seconds of a row that its plan would not make today


def _plan(name: str, *, seeds: int = 2, folds: int = 1, models: Sequence[str] = ()) -> Plan:
    return Plan(
        name, "Is it so?", "phantom", {"studies": 272}, ({},), tuple(range(seeds)), folds,
        {"student": {"num_epochs": 5}}, {}, {model: ModelPlan(model) for model in models}, {"": {}}, {},
    )  # fmt: skip


def _cells(plan: str, models: Mapping[str, Mapping[str, float]], seeds: int = 2, **cell: Any) -> list[Measurement]:
    test, rng = phantom_test_set(), np.random.default_rng(0)
    return [
        measurement(
            test, probabilities(test, accuracy, rng), plan=plan, model=model, seed=seed,
            role="teacher" if model == "teacher" else "student",
            **{"validation_worst_accuracy": accuracy["GE"], "vendor_probe": 0.5, **cell},
        )
        for model, accuracy in models.items()
        for seed in range(seeds)
    ]  # fmt: skip


def _page(folder: Path, measurements: Sequence[Measurement], *plans: Plan) -> str:
    """Plans without models get those of their rows; these are what the plan asks for, unless they took no time."""
    write_results(folder / "benchmark", measurements)
    write_document(folder / "benchmark", folder / "benchmark.md", plans=[
        plan if plan.models else replace(plan, models={
            m.cell.model: ModelPlan(m.cell.model, ("methods/dfr.yaml",) if "dfr" in m.cell.model else ())
            for m in measurements if (m.cell.plan, m.cell.role, "@" in m.cell.model) == (plan.name, "student", False)
        })
        for plan in plans
    ], planned=lambda *_: {m.cell.config_digest for m in measurements if m.cell.seconds != OUTDATED})  # fmt: skip
    return (folder / "benchmark.md").read_text()


def test_a_baseline_that_wins_is_named_as_the_winner(tmp_path: Path) -> None:
    """The proposed method is worse here, and the page says so in a sentence."""
    cells = _cells("headline", {"teacher": GOOD, "kd": GOOD, "erm": POOR, "groupdistil": POOR})
    page = _page(tmp_path, cells, _plan("headline"))
    assert re.search(r"- kd is better than groupdistil by \d+\.\d \[\d+\.\d, \d+\.\d\] points\.", page)
    assert re.search(r"Baselines that are better than groupdistil: kd \(\+\d+\.\d \[\+\d+\.\d, \+\d+\.\d\]\)\.", page)
    assert "| kd (best baseline) |" in page
    assert "| teacher | 80 k |" in page


def test_the_rule_of_selection_stands_above_every_table(tmp_path: Path) -> None:
    page = _page(tmp_path, _cells("headline", {"kd": GOOD, "groupdistil": GOOD}), _plan("headline"))
    assert page.index("*Choice* is the accuracy") < page.index("| model |")
    assert page.index("Nothing was\nchosen, given up or stopped for what it did on test") < page.index("| model |")


def test_the_student_to_take_is_chosen_by_validation_though_another_tests_better(tmp_path: Path) -> None:
    """Plain distillation tests better; validation, which alone may choose, has the other on top."""
    cells = _cells("headline", {"kd": GOOD, "kd_no_appearance": POOR}, validation_worst_accuracy=0.6)
    cells += _cells("headline", {"groupdistil_swa": POOR, "teacher": GOOD}, validation_worst_accuracy=0.7)
    blocks = _page(tmp_path, cells, _plan("headline")).split("\n\n")
    place = next(k for k, block in enumerate(blocks) if "The student to take is `groupdistil_swa`" in block)
    rows = [line.split("|")[1].strip() for line in blocks[place + 1].splitlines()]
    assert rows == ["groupdistil_swa minus", "---", "kd_no_appearance", "kd (best baseline)", "teacher"]
    differences = [float(line.split("|")[2].strip(" *").split()[0].replace("−", "-")) for line in
                   blocks[place + 1].splitlines()[2:]]  # fmt: skip
    assert abs(differences[0]) < 20 < -differences[1]


def test_development_patients_choose_where_there_are_any(tmp_path: Path) -> None:
    """Their worst group is that of the mean over seeds, (0.6 + 0.9) / 2 here, not the mean of each seed's worst."""
    of_seeds = [{"GE": 0.9, "Canon": 0.6}, {"GE": 0.7, "Canon": 0.9}]
    cells = [
        replace(m, cell=replace(m.cell, extra={"development": of_seeds[m.cell.seed]}))
        for m in _cells("headline", {"kd_dfr": GOOD})
    ]
    cells += _cells("headline", {"kd": GOOD, "erm_dfr": GOOD}, validation_worst_accuracy=0.74)
    page = _page(tmp_path, cells, _plan("headline"))
    choices = {line.split("|")[1].split()[0]: line.split("|")[-2].strip() for line in page.splitlines()
               if line.startswith(("| kd", "| erm")) and line.count("|") == 11}  # fmt: skip
    assert choices == {"kd_dfr": "0.750", "kd": "0.740", "erm_dfr": "–"}
    assert "The student to take is `kd_dfr`" in page


def test_where_no_student_may_be_chosen_none_is_and_the_page_says_why(tmp_path: Path) -> None:
    cells = _cells("acdc", {"kd": GOOD, "groupdistil": POOR, "teacher": GOOD}, validation_worst_accuracy=0.7)
    page = _page(tmp_path, cells, replace(_plan("acdc"), no_choice="who validates is tested, too"))
    assert "No student is chosen here: who validates is tested, too." in page
    assert "**The student to take is" not in page
    assert "best baseline)" not in page
    assert "| groupdistil | **−" in page, "differences to plain distillation stand all the same"


def test_every_groups_accuracy_stands_on_the_page(tmp_path: Path) -> None:
    page = _page(tmp_path, _cells("headline", {"kd": POOR}), _plan("headline"))
    table = next(
        block for block in page.split("\n\n") if block.startswith(f"| model | {' | '.join(sorted(VENDORS))} |")
    )
    of_groups = dict(
        zip(sorted(VENDORS), [cell.split()[0] for cell in table.splitlines()[2].split("|")[2:-1]], strict=True)
    )
    cell = _cells("headline", {"kd": POOR})
    right = [m.probabilities.argmax(axis=1) == m.held_out.labels for m in cell]
    for index, name in enumerate(cell[0].held_out.groups):
        mean = np.mean([r[m.held_out.group_index == index].mean() for r, m in zip(right, cell, strict=True)])
        assert of_groups[name] == f"{mean:.2f}"


def test_labels_of_validation_are_told_beside_a_model_that_learned_from_them(tmp_path: Path) -> None:
    page = _page(tmp_path, _cells("headline", {"kd": GOOD, "kd_dfr": GOOD}), _plan("headline"))
    assert "| kd_dfr (validation labels) |" in page
    assert "| kd (validation labels) |" not in page


def test_a_difference_that_cannot_be_told_is_not_called_one() -> None:
    """The same model under two names: neither is better."""
    one, other = (summarise(_cells("headline", {name: POOR}), metrics=()) for name in ("kd", "groupdistil"))
    assert verdict(one, other) == "kd and groupdistil cannot be told apart: 0.0 [0.0, 0.0] points."


def test_numbers_of_the_table_are_those_of_the_predictions(tmp_path: Path) -> None:
    """Wrong in 6 of GE's 36 patients, all of one class: accuracy 138/144, worst group 30/36, cell 6/12, gap 1/6."""
    test = phantom_test_set()
    wrong = np.flatnonzero((test.group_index == 1) & (test.labels == 2))[:6]
    decision = test.labels.copy()
    decision[wrong] = 0
    page = _page(tmp_path, [measurement(test, np.eye(3)[decision])], _plan("headline", seeds=1))
    row = next(line for line in page.splitlines() if line.startswith("| kd") and "GE |" in line)
    values = [cell.split()[0] for cell in row.split("|")[3:9]]
    assert values[:3] == ["0.96", "0.83", "0.50"]
    assert values[4:] == ["0.17", "0.04"], "gap, and calibration error: always certain, right in 138 of 144"
    assert "] GE |" in row


def test_every_table_and_figure_has_its_command(tmp_path: Path) -> None:
    page = _page(tmp_path, _cells("headline", {"kd": GOOD, "groupdistil": GOOD}), _plan("headline"))
    page = re.sub(r"<details>.*?</details>", "", page.partition("\n## ")[2], flags=re.DOTALL)
    blocks = page.split("\n\n")
    shown = [k for k, block in enumerate(blocks) if block.startswith(("|", "!["))]
    assert len(shown) == 5
    assert {blocks[k + 1] for k in shown} == {"`evenbeat benchmark headline`"}


def test_results_of_former_settings_are_left_out_and_counted(tmp_path: Path) -> None:
    cells = _cells("headline", {"kd": GOOD}) + _cells("headline", {"groupdistil": GOOD}, seconds=OUTDATED)
    cells += _cells("digits", {"kd": GOOD}, seconds=OUTDATED)
    page = _page(tmp_path, cells, _plan("headline"), _plan("digits"))
    first, second = page.split("## Methods, on digits")
    told = "**2 results are left out: the plan and the bundles' settings as they are today would not make them.**"
    assert told in first
    assert re.search(r"^\| kd .* \|$", first, re.MULTILINE)
    assert not re.search(r"^\| groupdistil \d", first, re.MULTILINE)
    assert second.strip() == f"{told} Run the plan again."


def test_what_a_name_stands_for_can_be_unfolded(tmp_path: Path) -> None:
    teachers = {"big": TeacherPlan("big", each=({"seed": 1}, {"seed": 2}), seed_offsets=(0, 0), start="first")}
    models = {"kd_dfr": ModelPlan("kd_dfr", ("methods/kd.yaml", "methods/dfr.yaml"), {"alpha": 0.5}, ("big",), "first")}
    teachers |= {"first": TeacherPlan("first"), "twice": TeacherPlan("twice", each=({}, {}), seed_offsets=(0, 100))}
    plan = replace(_plan("headline"), teachers=teachers, models=models)
    page = _page(tmp_path, _cells("headline", {"kd_dfr": GOOD}), plan)
    assert "| twice (teacher) |  |  | 2 of them: `seed: the run's + 0`; `seed: the run's + 100` |" in page
    assert "| kd_dfr | kd + dfr | `alpha: 0.5` | big, away from first |" in page
    assert "| kd | student | Plain knowledge distillation: every case counts the same. |" in page
    assert "| big (teacher) |  |  | goes on from first. 2 of them: `seed: 1`; `seed: 2` |" in page


def test_linked_figures_are_there_and_their_words_are_text(tmp_path: Path) -> None:
    page = _page(tmp_path, _cells("headline", {"kd": GOOD, "groupdistil": GOOD}), _plan("headline"))
    links = re.findall(r"\]\(([^)]+\.svg)\)", page)
    assert links == ["benchmark/headline-methods.svg"]
    told = "".join(ElementTree.parse(tmp_path / links[0]).getroot().itertext())  # noqa: S314  # drawn above
    assert "groupdistil" in told
    assert "Worst-group accuracy" in told


def test_the_same_numbers_give_the_same_page_and_figures(tmp_path: Path) -> None:
    cells = _cells("headline", {"kd": GOOD, "groupdistil": POOR})
    pages = [_page(tmp_path / name, cells, _plan("headline")) for name in "ab"]
    assert pages[0] == pages[1]
    figures = [(tmp_path / name / "benchmark" / "headline-methods.svg").read_bytes() for name in "ab"]
    assert figures[0] == figures[1]


def test_an_incomplete_plan_says_what_is_missing(tmp_path: Path) -> None:
    """Three of five seeds, one model with two, and a model that has not begun."""
    cells = [c for c in _cells("headline", {"kd": GOOD, "groupdistil": GOOD}, seeds=3)
             if (c.cell.model, c.cell.seed) != ("kd", 2)]  # fmt: skip
    page = _page(tmp_path, cells, _plan("headline", seeds=5, models=["kd", "groupdistil", "roskd"]))
    assert "**Incomplete: 2 of 5 seeds.**" in page
    assert "no result yet, or not with every setting, of roskd." in page
    assert "| kd (best baseline, 2 of 5 seeds) |" in page
    assert "| groupdistil (3 of 5 seeds) |" in page


def test_a_model_with_fewer_seeds_is_compared_on_these_but_not_chosen(tmp_path: Path) -> None:
    """`erm` is ahead on the one seed that it was asked for; nothing is missing, and `kd` is the student to take."""
    plan = _plan("headline", seeds=2, models=["kd", "erm", "groupdistil"])
    plan = replace(plan, models=plan.models | {"erm": ModelPlan("erm", seeds=(0,))})
    cells = _cells("headline", {"kd": GOOD}, validation_worst_accuracy=0.7, seconds=600.0)
    cells += _cells("headline", {"groupdistil": POOR}, validation_worst_accuracy=0.6)
    cells += _cells("headline", {"erm": GOOD}, seeds=1, validation_worst_accuracy=0.9)
    page = _page(tmp_path, cells, plan)
    assert "Incomplete" not in page
    assert "5 models in 0.4 core-hours" in page
    ranked, variants = page.partition("</details>")[2].split("With fewer seeds, not to be ranked with those above:")
    assert "| erm (1 of 2 seeds) |" in variants
    assert "| erm" not in ranked
    assert "| kd (best baseline) |" in page
    assert "The student to take is `kd`" in page


def test_group_weights_are_judged_beside_the_same_student_without_them(tmp_path: Path) -> None:
    """By teachers and overlays, whatever the names: a step of 0 is another such student, one with DFR is not."""
    overlays = {"kd_b": "kd", "means_b": "groupdistil", "groupdistil_b": "groupdistil", "kd_dfr_b": "dfr", "kd": "kd"}
    models = {
        name: ModelPlan(name, (f"methods/{overlay}.yaml",), {"group_step": 0.1}, ("a" if name == "kd" else "b",))
        for name, overlay in overlays.items()
    }
    plan = replace(_plan("headline", models=list(models)), models=models)
    plan = replace(plan, teachers={name: TeacherPlan(name) for name in "ab"})
    cells = [m for name in models for m in _cells("headline", {name: GOOD})]
    page = _page(tmp_path, cells, plan).partition("In the worst group:")[2]
    assert re.findall(r"groupdistil_b and (\w+) cannot", page) == ["kd_b", "means_b", "kd"]  # the last: best baseline


def test_the_steps_that_a_plan_names_are_taken_one_by_one(tmp_path: Path) -> None:
    cells = _cells("headline", {"kd": GOOD, "erm": POOR})
    plan = _plan("headline", models=["kd", "erm", "ros_kd"])
    steps = (("kd", "erm", "a teacher"), ("ros_kd", "kd", "several teachers"))
    page = _page(tmp_path, cells, replace(plan, contrasts=steps))
    assert re.search(r"^\| a teacher \| kd minus erm \| \*\*\+[45]\d\.\d \[", page, re.MULTILINE)
    assert "several teachers" not in page


def test_folds_of_different_models_are_not_ranked_together_and_empty_columns_are_left_out(tmp_path: Path) -> None:
    rng, cells = np.random.default_rng(0), []
    for fold in (0, 1):
        test = crossed_test_set([f"P{k}" for k in range(24) if k % 2 == fold])
        cells.append(measurement(test, probabilities(test, GOOD, rng), plan="acdc", fold=fold, vendor_probe=np.nan))
    plan = replace(_plan("acdc", seeds=1, folds=2), no_choice="so it is")
    assert "| model | weights | accuracy | worst group | gap | ECE |\n" in _page(tmp_path, cells, plan)


def test_a_seed_without_all_its_folds_does_not_count(tmp_path: Path) -> None:
    rng, cells = np.random.default_rng(0), []
    for seed, fold in ((0, 0), (0, 1), (1, 0)):
        test = crossed_test_set([f"P{k}" for k in range(24) if k % 2 == fold])
        cells.append(measurement(test, probabilities(test, GOOD, rng), plan="acdc", seed=seed, fold=fold))
    page = _page(tmp_path, cells, _plan("acdc", folds=2))
    assert "**Incomplete: 1 of 2 seeds.**" in page
    assert "24 test patients" in page


def test_sections_come_in_order_and_only_with_results(tmp_path: Path) -> None:
    cells = _cells("acdc", {"kd": GOOD}) + _cells("headline", {"kd": GOOD})
    page = _page(tmp_path, cells, *(_plan(name) for name in ("acdc", "sizes", "headline")))
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["Methods, on the phantom", "Methods, on real hearts"]


def test_the_page_begins_with_what_it_asks_where_it_answers_and_what_that_took(tmp_path: Path) -> None:
    """2 x 2 models of half an hour and 2 of a quarter."""
    cells = _cells("headline", {"kd": GOOD, "erm": GOOD}, seconds=1800.0) + _cells("acdc", {"kd": GOOD}, seconds=900.0)
    page = _page(tmp_path, cells, *(_plan(name) for name in ("acdc", "sizes", "headline")))
    assert re.findall(r"^\| (\[.*|together.*) \|$", page.partition("\n## ")[0], re.MULTILINE) == [
        "[Methods, on the phantom](#methods-on-the-phantom) | Is it so? | 4 | 2.0",
        "[Methods, on real hearts](#methods-on-real-hearts) | Is it so? | 2 | 0.5",
        "together |  | 6 | 2.5",
    ]


def test_a_plan_that_is_not_at_hand_is_described_from_its_rows(tmp_path: Path) -> None:
    page = _page(tmp_path, _cells("mine", {"kd": GOOD, "groupdistil": POOR}, seeds=3), _plan("acdc"))
    assert "## mine" in page
    assert "*This plan's file is not at hand: whether all of it was run cannot be said.*" in page
    assert "3 of 3 seeds." in page


def test_empty_tables_make_no_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has none; run a plan first"):
        _page(tmp_path, [], _plan("acdc"))


def test_regimes_are_counted_and_mapped(tmp_path: Path) -> None:
    """At confounding 1 KD underfits and GroupDistil is far better; at 0 they are one and the same."""
    cells = []
    for confounding, kd in ((0, GOOD), (1, POOR)):
        for share in (0.25, 1.0):
            dials = {"confounding": confounding, "minority_share": share}
            for model, accuracy in (("kd", kd), ("groupdistil", GOOD), ("groupdistil_validation", POOR)):
                cells += _cells("regimes_phantom", {model: accuracy}, dials=dials, train_accuracy=0.99,
                                train_minority_accuracy=0.8 if accuracy is POOR else 0.98)  # fmt: skip
    steps = (("groupdistil", "groupdistil_validation", "weights follow training losses"),)
    page = _page(tmp_path, cells, replace(_plan("regimes_phantom"), dials=({},), contrasts=steps))
    rows = [row.split(" | ") for row in re.findall(r"^\| (KD .*) \|$", page, re.MULTILINE)]
    step = "groupdistil minus groupdistil_validation (weights follow training losses)"
    assert [row[:6] for row in rows] == [
        ["KD underfits the minority", "groupdistil minus kd", "2", "2", "0", "2"],
        ["KD underfits the minority", "groupdistil_validation minus kd", "2", "0", "0", "0"],
        ["KD underfits the minority", step, "2", "2", "0", "2"],
        ["KD does not underfit it", "groupdistil minus kd", "2", "0", "0", "0"],
        ["KD does not underfit it", "groupdistil_validation minus kd", "2", "0", "2", "0"],
        ["KD does not underfit it", step, "2", "2", "0", "2"],
    ]
    assert re.fullmatch(r"\*\*\+\d\d\.\d \[.*", rows[0][6])
    assert rows[3][6:] == ["0.0 [0.0, 0.0]", "0.0 [0.0, 0.0]"]
    assert re.fullmatch(r"\*\*−\d\d\.\d \[.*", rows[4][6])
    assert len(re.findall(r"^\| 1 \| .* −19\.0 underfitted \|", page, re.MULTILINE)) == 2 * 2
    assert "classes together |" not in page
    for name in ("groupdistil", "groupdistil_validation"):
        assert f"### {name} minus kd" in page
        assert (tmp_path / "benchmark" / f"regimes_phantom-map-{name}.svg").is_file()


def test_a_map_of_vendors_and_classes_says_what_the_worst_vendor_gains(tmp_path: Path) -> None:
    """GroupDistil is right where `kd` is wrong, in GE x NOR, and wrong in GE x HCM: nothing is gained in GE."""
    vendors = phantom_test_set()
    names = tuple(f"{vendor} x {label}" for vendor in VENDORS for label in vendors.classes)
    test = replace(vendors, groups=names, group_index=vendors.group_index * 3 + vendors.labels)
    cells = []
    for model, wrong in (("kd", "GE x NOR"), ("groupdistil", "GE x HCM")):
        missed = test.group_index == names.index(wrong)
        given = np.eye(3)[np.where(missed, (test.labels + 1) % 3, test.labels)]
        cells += [measurement(test, given, plan="regimes_phantom", model=model, seed=seed) for seed in (0, 1)]
    page = _page(tmp_path, cells, replace(_plan("regimes_phantom"), dials=({},)))
    header = "| settings | models | of them | better | worse | goal | worst group, mean |"
    assert header in page
    nothing = " | ".join(["0.0 [0.0, 0.0]"] * 3)
    assert f"| no minority | groupdistil minus kd | 1 | 0 | 0 | 0 | {nothing} |" in page


def test_the_map_has_the_minority_across_confounding_down_and_a_panel_for_each_rest() -> None:
    reference = summarise(_cells("regimes_phantom", {"kd": GOOD}), metrics=())
    regimes = [
        Regime({"confounding": c, "minority_share": m, "variant": v, "strength": 1}, {}, reference, 1)
        for c in (0, 1) for m in (0.5, 1.0) for v in ("small", "tiny")
    ]  # fmt: skip
    across, down, panels = layout(regimes)
    assert (across, down, list(panels)) == ("minority_share", "confounding", ["small", "tiny"])


def test_sizes_noise_and_attacks_have_figures_and_tables(tmp_path: Path) -> None:
    cells = []
    for width, weights in ((8, 20_000), (16, 80_000)):
        told = {"parameters": weights, "extra": {"latency_ms": width / 4}}
        cells += _cells("sizes", {f"kd@widths={width}": GOOD if width == 16 else POOR}, **told)
    cells += _cells("sizes", {"teacher": GOOD}, parameters=2_000_000, extra={"latency_ms": 50.0})
    for noise in (0.0, 0.2):
        for model, attacked in (("kd", 0.5), ("ros_kd", 0.7)):
            curves = {"fgsm": {"0": 0.9 - noise, "0.1": attacked - noise}}
            models = {model: POOR if noise and model == "ros_kd" else GOOD}
            cells += _cells("robustness", models, dials={"label_noise": noise}, extra=curves)
    page = _page(tmp_path, cells, _plan("sizes"), _plan("robustness"))
    assert "| kd@widths=8 | 20 k | 2.00 |" in page
    assert re.search(r"\| kd@widths=8 .* \| \*\*−[45]\d\.\d \[.*\| kd@widths=16 .* [+−]?[0-4]\.\d \[", page, re.DOTALL)
    assert "| model | 0 | 0.2 |" in page
    assert re.search(r"\| ros_kd \| [+−]?[0-4]\.\d \[[^|]*\| \*\*−[45]\d\.\d \[", page)
    assert "| kd | 0.90 [0.90, 0.90] | 0.50 [0.50, 0.50] |" in page, "attacks are of models without wrong labels"
    assert "Accuracy under attack, one step (FGSM), minus kd, in points:" in page
    assert "| ros_kd | 0.0 [0.0, 0.0] | **+20.0 [+20.0, +20.0]** |" in page
    assert "at most 5 points to teacher in the worst group: kd@widths=16 (80 k weights)." in page
    assert {path.name for path in (tmp_path / "benchmark").glob("*.svg")} == {
        "sizes-sizes.svg", "robustness-noise.svg", "robustness-attack.svg"
    }  # fmt: skip


def test_a_run_that_was_broken_off_has_its_page_all_the_same(tmp_path: Path) -> None:
    cells = _cells("robustness", {"kd": GOOD, "ros_kd": GOOD}, dials={"label_noise": 0.2})
    left = [m for m in cells if (m.cell.model == "kd") == (m.cell.seed == 0)]
    assert "| ros_kd | – |" in _page(tmp_path, left, _plan("robustness"))


def test_group_weights_over_epochs_are_drawn_where_a_run_has_them(tmp_path: Path) -> None:
    curves = {part: {name: [0.25, 0.3] for name in VENDORS} for part in ("weights", "loss")} | {"epoch": [1, 2]}
    cells = _cells("headline", {"kd": GOOD}) + _cells("headline", {"groupdistil": GOOD}, extra={"curves": curves})
    page = _page(tmp_path, cells, _plan("headline"))
    assert "](benchmark/headline-weights.svg)" in page


def test_models_are_drawn_from_the_best_worst_group_down(tmp_path: Path) -> None:
    summaries = [summarise(_cells("headline", {name: a})) for name, a in (("kd", POOR), ("groupdistil", GOOD))]
    save(methods_figure(summaries), tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text()
    assert text.index(">groupdistil<") < text.index(">kd<")
