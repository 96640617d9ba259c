"""The whole run: what is finished is kept, whatever ends it."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pipeline.benchmark.plan import Plan, find_plans
from pipeline.benchmark.reading import read_measurements
from pipeline.benchmark.run import run_benchmark
from tests.benchmark import fakes


def run(tmp_path: Path, *plans: Plan, tools: Any = fakes.TOOLS, workers: int = 0, **options: Any) -> int:
    folders = {"out": tmp_path / "work", "results": tmp_path / "results"}
    return run_benchmark(plans or [fakes.plan()], **folders, tools=tools, workers=workers, **options)


def rows(tmp_path: Path) -> set[tuple[str, ...]]:
    """Rows of all tables, but for the seconds that a training took."""
    found = set()
    for path in (tmp_path / "results").glob("*.csv"):
        with path.open(newline="") as file:
            table = [{**row, "seconds": ""} for row in csv.DictReader(file)]
        assert len(table) == len({tuple(row.values()) for row in table}), path
        found |= {tuple(row.values()) for row in table}
    return found


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, ...]]:
    folder = tmp_path_factory.mktemp("unbroken")
    assert run(folder) == 10
    return rows(folder)


@pytest.mark.parametrize("calls", [1, 4, 7])
def test_a_run_that_is_interrupted_and_called_again_leaves_the_tables_of_an_unbroken_one(
    tmp_path: Path, unbroken: set[tuple[str, ...]], calls: int
) -> None:
    """Interrupted while it trains, as by Ctrl-C."""
    left = iter(range(calls))

    def train(bundle: str, configs: Sequence[str], overrides: Mapping[str, Any]) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        fakes.train(bundle, configs, overrides)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tools=replace(fakes.TOOLS, run_bundle=train))
    assert run(tmp_path) == 10 - calls
    assert rows(tmp_path) == unbroken


def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path) == 0


def test_a_change_of_one_model_costs_that_model(tmp_path: Path) -> None:
    run(tmp_path)
    models = {"erm": {"overlays": ["methods/erm.yaml"]}, "kd": {"teachers": ["teacher"], "overrides": {"alpha": 0.5}}}
    assert run(tmp_path, fakes.plan(models=models)) == 2  # kd, of two seeds


def test_models_and_seeds_can_be_chosen(tmp_path: Path) -> None:
    assert run(tmp_path, seeds=[4], only=["kd"]) == 1
    (found,) = read_tables(tmp_path)
    assert (found["model"], found["seed"]) == ("kd", "4")
    with pytest.raises(ValueError, match=r"called 'groupdistill'; did you mean 'groupdistil'\?"):
        run(tmp_path, only=["groupdistill"])


def read_tables(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "results" / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_failures_are_named_after_the_others_are_finished(tmp_path: Path) -> None:
    def train(bundle: str, configs: Sequence[str], overrides: Mapping[str, Any]) -> None:
        if "group_step" in overrides:
            raise ZeroDivisionError("no steps")
        fakes.train(bundle, configs, overrides)

    with pytest.raises(
        RuntimeError, match=r"(?s)2 of 10 cells failed.*fake seed 1, groupdistil: ZeroDivisionError: no steps"
    ):
        run(tmp_path, tools=replace(fakes.TOOLS, run_bundle=train))
    assert len(read_tables(tmp_path)) == 8


def test_a_cohort_that_cannot_be_made_costs_no_other_its_place(tmp_path: Path) -> None:
    def build_cohort(cohorts: Any, **of: Any) -> Path:
        if of["seed"] == 0:
            raise ValueError("the pool must hold more")
        return fakes.build_cohort(cohorts, **of)

    with pytest.raises(RuntimeError, match=r"(?s)5 of 10 cells failed.*fake seed 0, kd: its cohort, .*hold more"):
        run(tmp_path, tools=replace(fakes.TOOLS, build_cohort=build_cohort))
    assert {row["seed"] for row in read_tables(tmp_path)} == {"1"}


def test_a_plan_without_its_data_is_left_out_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def prepare_pool(cohorts: Any, folder: Path, workers: int) -> None:
        if cohorts.strength == 2.0:
            raise FileNotFoundError("no such hearts")

    tools = replace(fakes.TOOLS, prepare_pool=prepare_pool)
    without = fakes.plan(name="other", cohort={"kind": "phantom", "settings": {"strength": 2.0}})
    assert run(tmp_path, without, fakes.plan(), tools=tools) == 10
    assert "plan other is left out: no such hearts" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="no such hearts"):
        run(tmp_path, without, tools=tools)


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with FileLock(tmp_path / "work" / ".lock"), pytest.raises(ValueError, match="one benchmark at a time"):
        run(tmp_path)


@pytest.mark.slow
def test_processes_leave_the_tables_of_one_process(tmp_path: Path, unbroken: set[tuple[str, ...]]) -> None:
    assert run(tmp_path, workers=2) == 10
    assert rows(tmp_path) == unbroken


@pytest.mark.slow
def test_a_killed_run_ends_its_processes_and_goes_on_when_called_again(
    tmp_path: Path, unbroken: set[tuple[str, ...]]
) -> None:
    """SIGKILL gives the parent no chance to end its workers: they have to see that it is gone."""
    context = multiprocessing.get_context("spawn")
    parent = context.Process(target=run, args=(tmp_path,), kwargs={"tools": fakes.SLOW_TOOLS, "workers": 2})
    parent.start()
    deadline, table = time.monotonic() + 120, tmp_path / "results" / "results.csv"
    while time.monotonic() < deadline and not (table.is_file() and len(read_tables(tmp_path)) >= 2):
        time.sleep(0.05)
    os.kill(parent.pid or 0, signal.SIGKILL)
    parent.join()
    workers = [int(path.stem) for path in (tmp_path / "work" / "logs").glob("*.log")]
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}/cmdline").is_file() for pid in workers):
        time.sleep(0.05)
    assert len(workers) == 2
    assert time.monotonic() < deadline
    reached = len(read_tables(tmp_path))
    assert 2 <= reached < 10
    assert run(tmp_path) == 10 - reached
    assert rows(tmp_path) == unbroken


@pytest.mark.slow
def test_the_quick_plan_runs_with_the_real_tools(tmp_path: Path) -> None:
    """Smaller still: one seed, few and small studies, two epochs."""
    (quick,) = find_plans(["quick"])
    tiny = replace(
        quick,
        settings={
            "studies": 22,
            "test_per_cell": 1,
            "reservoir_per_cell": 7,
            "preprocessing": {"rows": 32, "cols": 32},
        },
        budget={
            "teacher": {"num_epochs": 2, "widths": [4, 8, 8, 8]},
            "student": {"num_epochs": 2, "widths": [4, 4, 8, 8], "views": 2},
        },
        evaluate={**quick.evaluate, "curves": True},
    )
    finished = run_benchmark([tiny], out=tmp_path / "work", results=tmp_path / "results", workers=1, seeds=[0])
    found = {m.cell.model: m for m in read_measurements(tmp_path / "results")}
    assert set(found) == {"teacher", *quick.models}
    assert finished == len(found)
    assert len({m.held_out.digest for m in found.values()}) == 1
    assert all(m.cell.n_training == 22 and len(m.held_out.labels) == 12 for m in found.values())
    assert found["teacher"].cell.parameters != found["kd"].cell.parameters
    curves = {model: m.cell.extra["curves"] for model, m in found.items() if "curves" in m.cell.extra}
    assert set(curves) == {"groupdistil", "groupdistil_validation"}
    assert curves["groupdistil"]["epoch"] == [1, 2]
    assert (
        set(curves["groupdistil"]["weights"])
        == set(curves["groupdistil"]["loss"])
        == {"Siemens", "Philips", "GE", "Canon"}
    )
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'work' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("benchmark-quick").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == len(quick.models) + sum(len(teacher.members) for teacher in quick.teachers.values())
