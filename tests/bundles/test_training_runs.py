"""Runs of the training bundles, as users start them: from any folder, again, and after a kill."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.cohort.case import read_datalist
from pipeline.tracking.mlflow_store import resolve_tracking_uri
from pipeline.tracking.predictions import read_predictions
from pipeline.training.checkpoint import load_checkpoint, load_network

TEACHER, STUDENT = "cardiac_cine_teacher", "cardiac_cine_student"
VENDORS = ("canon", "ge", "philips", "siemens")
EPOCHS = 12
LONG = {"widths": [4, 8, 8, 8], "batch_size": 2, "num_epochs": EPOCHS, "group_step": 0.5}

Launch = Callable[..., subprocess.Popen[str]]
Finish = Callable[[subprocess.Popen[str]], None]


def client(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=resolve_tracking_uri(None, folder))


def runs_of(folder: Path) -> dict[str, Run]:
    """Runs in a folder's database by the beginning of their names: teacher, student, student-evaluate, …"""
    server = client(folder)
    found = server.search_runs([experiment.experiment_id for experiment in server.search_experiments()])
    named = {re.split(r"-(?=groupdistil|kd|erm)", run.info.run_name)[0]: run for run in found}
    assert len(named) == len(found), [run.info.run_name for run in found]
    return named


def history(folder: Path, run: Run, metric: str) -> dict[int, float]:
    """Epoch -> value; an epoch that was logged twice is a defect."""
    points = client(folder).get_metric_history(run.info.run_id, metric)
    assert len({point.step for point in points}) == len(points), metric
    return {point.step: point.value for point in points}


def last(folder: Path) -> dict[str, Any]:
    return dict(torch.load(folder / "last.pt", weights_only=True))


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two nested states are not bitwise the same."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, Mapping):
        assert one.keys() == other.keys(), path
        return [found for key in one for found in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple):
        assert len(one) == len(other), path
        return [
            found for i, pair in enumerate(zip(one, other, strict=True)) for found in differences(*pair, f"{path}/{i}")
        ]
    return [] if one == other else [path]


@pytest.fixture(scope="module")
def twins(
    launch: Launch, finish: Finish, trained_teacher: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two students of one seed, trained and evaluated by the same commands in folders of their own."""
    folders = (tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two"))
    options = {"teacher_checkpoint": trained_teacher / "model.pt", "output_dir": "student", **LONG}
    for process in [launch(STUDENT, ["train.yaml"], folder, **options) for folder in folders]:
        finish(process)
    evaluate = {"output_dir": "student"}
    for process in [launch(STUDENT, ["train.yaml", "evaluate.yaml"], folder, **evaluate) for folder in folders]:
        finish(process)
    return folders[0] / "student", folders[1] / "student"


@pytest.mark.slow
def test_two_runs_with_one_seed_give_the_same_weights_and_the_same_table(twins: tuple[Path, Path]) -> None:
    one, other = twins
    assert differences(load_checkpoint(one / "model.pt")["model"], load_checkpoint(other / "model.pt")["model"]) == []
    first, second = last(one), last(other)
    assert first["parts"]["tracker"] != second["parts"]["tracker"]
    first["parts"].pop("tracker"), second["parts"].pop("tracker")
    assert differences(first, second) == []
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()
    assert len(read_predictions(one / "predictions.csv")) == 12


@pytest.mark.slow
def test_killed_training_goes_on_and_ends_as_an_unbroken_one(
    launch: Launch, finish: Finish, trained_teacher: Path, twins: tuple[Path, Path], tmp_path: Path
) -> None:
    """SIGKILL gives a process no chance to tidy up; the MLflow run goes on as well, each epoch logged once."""
    options = {"teacher_checkpoint": trained_teacher / "model.pt", "output_dir": "student", **LONG}
    process = launch(STUDENT, ["train.yaml"], tmp_path, **options)
    reached = _kill_after(process, tmp_path / "student" / "last.pt", epoch=2)
    assert 2 <= reached < EPOCHS
    finish(launch(STUDENT, ["train.yaml"], tmp_path, **options))

    unbroken, resumed = last(twins[0]), last(tmp_path / "student")
    assert resumed["epoch"] == EPOCHS
    unbroken["parts"].pop("tracker"), resumed["parts"].pop("tracker")
    assert set(resumed["parts"]) == {"optimizer", "schedule", "objective", "averaging"}
    assert differences(unbroken, resumed) == []
    models = [load_checkpoint(folder / "model.pt") for folder in (twins[0], tmp_path / "student")]
    assert differences(models[0]["model"], models[1]["model"]) == []
    assert models[0]["epoch"] == models[1]["epoch"]

    runs = runs_of(tmp_path / "student")
    assert [run.info.status for run in runs.values()] == ["FINISHED"]
    weights = history(tmp_path / "student", runs["student"], "train/group_weight/vendor/ge")
    assert weights == history(twins[0], runs_of(twins[0])["student"], "train/group_weight/vendor/ge")
    assert sorted(weights) == list(range(1, EPOCHS + 1))


def _kill_after(process: subprocess.Popen[str], checkpoint: Path, *, epoch: int) -> int:
    """Wait until the checkpoint says that ``epoch`` is done, kill at once, and say which epoch was reached."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if checkpoint.is_file() and torch.load(checkpoint, weights_only=True)["epoch"] >= epoch:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return int(torch.load(checkpoint, weights_only=True)["epoch"])


@pytest.mark.slow
def test_a_misspelt_override_stops_the_run_before_any_data_is_read(launch: Launch, tmp_path: Path) -> None:
    """There is no data here, and the message is about the key."""
    process = launch(STUDENT, ["train.yaml"], tmp_path, dataset_dir="nowhere", group_stp=0.5)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    said = [line for line in err.splitlines() if "group_stp" in line]
    assert len(said) == 1
    assert "--group_stp" in said[0]
    assert "--group_step" in said[0]
    assert "Traceback" not in err
    assert "nowhere" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_command_runs_alone_from_another_folder(
    launch: Launch,
    finish: Finish,
    trained_teacher: Path,
    twins: tuple[Path, Path],
    unlabelled: Path,
    small: dict[str, Any],
    tmp_path: Path,
) -> None:
    """Each by its config files and overrides alone: no PYTHONPATH, no folder of the bundle's to stand in."""
    teacher = {"teacher_checkpoint": trained_teacher / "model.pt"}
    short = {**small, "num_epochs": 1}
    read = {"datalist": unlabelled, "checkpoint": twins[0] / "model.pt", "predictions": "read/table.csv"}
    started = [
        launch(STUDENT, ["train.yaml", "methods/kd.yaml"], tmp_path, output_dir="kd", **teacher, **short),
        launch(STUDENT, ["train.yaml", "methods/erm.yaml"], tmp_path, output_dir="erm", **short),
        launch(TEACHER, ["train.yaml"], tmp_path, output_dir="teacher", **short),
        launch(STUDENT, ["inference.yaml"], tmp_path, **read),
    ]
    for process in started:
        finish(process)
    for method in ("kd", "erm"):
        assert load_checkpoint(tmp_path / method / "model.pt")["method"] == method
        run = runs_of(tmp_path / method)["student"]
        assert "train/loss" in run.data.metrics
        assert not [name for name in run.data.metrics if name.startswith("train/group_weight")]
    assert "teacher_run_id" not in runs_of(tmp_path / "erm")["student"].data.tags

    started = [
        launch(TEACHER, ["train.yaml", "evaluate.yaml"], tmp_path, output_dir="teacher"),
        launch(STUDENT, ["train.yaml", "evaluate.yaml"], tmp_path, output_dir="erm"),
    ]
    for process in started:
        finish(process)
    _check_unlabelled(tmp_path / "read" / "table.csv", twins[0] / "predictions.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"kd", "erm", "teacher", "read"}
    assert set(read_predictions(tmp_path / "teacher" / "predictions.csv")["model"]) == {"teacher (erm)"}


def _check_unlabelled(inferred: Path, evaluated: Path) -> None:
    """The table of cases without labels has the numbers of the evaluation, and no labels but the one that was known."""
    known = read_predictions(evaluated)
    table = pd.read_csv(inferred, keep_default_na=False)
    assert table["label"].tolist() == [known["label"][0], *[""] * 11]
    assert table["case_id"].tolist() == known["case_id"].tolist()
    columns = ["prob_NOR", "prob_HCM", "prob_DCM"]
    np.testing.assert_allclose(table[columns], known[columns], rtol=1e-5)


@pytest.mark.slow
def test_the_students_run_is_recorded_with_curves_tags_tables_and_its_teacher(
    twins: tuple[Path, Path], trained_teacher: Path
) -> None:
    folder, (trained, evaluated) = twins[0], _student_runs(twins[0])
    assert trained.info.status == evaluated.info.status == "FINISHED"
    curves = [history(folder, trained, f"train/group_weight/vendor/{vendor}") for vendor in VENDORS]
    assert [sorted(curve) for curve in curves] == [list(range(1, EPOCHS + 1))] * 4
    np.testing.assert_allclose([sum(curve[epoch] for curve in curves) for epoch in curves[0]], 1, atol=1e-5)
    assert len(set(curves[1].values())) == EPOCHS  # GE moves
    assert len(set(curves[0].values())) == 1  # Canon has four patients, fewer than min_group_size

    record = load_checkpoint(folder / "model.pt")
    teacher_run = load_checkpoint(trained_teacher / "model.pt")["mlflow_run_id"]
    expected = {
        "bundle": STUDENT,
        "bundle_version": "0.6.0",
        "method": "groupdistil",
        "seed": "0",
        "data_digest": record["data_digest"],
        "recipe_digest": record["recipe_digest"],
        "teacher_run_id": teacher_run,
    }
    for run in (trained, evaluated):
        assert run.data.tags.items() >= expected.items()
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", run.data.tags["git_commit"])
    assert runs_of(trained_teacher)["teacher"].info.run_id == teacher_run
    assert evaluated.data.tags["trained_run_id"] == trained.info.run_id == record["mlflow_run_id"]


def _student_runs(folder: Path) -> tuple[Run, Run]:
    runs = runs_of(folder)
    assert set(runs) == {"student", "student-evaluate"}
    return runs["student"], runs["student-evaluate"]


@pytest.mark.slow
def test_the_executed_config_in_mlflow_holds_the_overrides(twins: tuple[Path, Path], tmp_path: Path) -> None:
    trained, evaluated = _student_runs(twins[0])
    for run, expected in (
        (trained, {"group_step": 0.5, "num_epochs": EPOCHS, "output_dir": "student"}),
        (evaluated, {"group_step": 0.002, "section": "test", "output_dir": "student"}),
    ):
        path = client(twins[0]).download_artifacts(run.info.run_id, "config/executed.yaml", str(tmp_path))
        config = yaml.safe_load(Path(path).read_text())
        assert config.items() >= expected.items()


@pytest.mark.slow
def test_the_evaluations_tables_in_mlflow_agree_with_the_predictions(twins: tuple[Path, Path], tmp_path: Path) -> None:
    """Accuracy by vendor is recomputed from the table on disk."""
    _, evaluated = _student_runs(twins[0])
    table = read_predictions(twins[0] / "predictions.csv")
    said = table[["prob_NOR", "prob_HCM", "prob_DCM"]].to_numpy().argmax(axis=1)
    right = pd.Series(np.array(["NOR", "HCM", "DCM"])[said] == table["label"])
    by_vendor = right.groupby(table["vendor"].str.lower()).mean()
    metrics = evaluated.data.metrics
    assert {v: metrics[f"test/accuracy/vendor/{v}"] for v in VENDORS} == pytest.approx(by_vendor.to_dict())
    assert metrics["test/accuracy/worst/vendor"] == pytest.approx(by_vendor.min())
    assert metrics["test/accuracy/average"] == pytest.approx(right.mean())
    assert metrics["test/n/scanner/ge-1.5-t"] == 3
    assert metrics["test/n/field_strength_t/1.5-t"] == 12

    download = client(twins[0]).download_artifacts
    parquet = download(evaluated.info.run_id, "predictions.parquet", str(tmp_path))
    pd.testing.assert_frame_equal(read_predictions(parquet), table)
    rows = yaml.safe_load(Path(download(evaluated.info.run_id, "per_group.json", str(tmp_path))).read_text())
    found = {row["group"].lower(): row["accuracy"] for row in rows if row["column"] == "vendor"}
    assert found == pytest.approx(by_vendor.to_dict())


@pytest.mark.slow
def test_the_registered_student_loads_by_its_alias_and_takes_any_batch_size(
    twins: tuple[Path, Path], prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives the probabilities of the evaluation; it was traced with two cases."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", resolve_tracking_uri(None, twins[0]))
    loaded = mlflow.pyfunc.load_model(f"models:/{STUDENT}@candidate")
    assert loaded.metadata.signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 2, 4, 32, 32)
    cases = read_datalist(prepared / "datalist.json").sections["test"][:5]
    logits = loaded.predict(np.stack([np.load(case.image)["image"] for case in cases]))
    probabilities = torch.softmax(torch.as_tensor(np.asarray(logits)), dim=1)
    table = read_predictions(twins[0] / "predictions.csv").set_index("case_id")
    expected = table.loc[[case.case_id for case in cases], ["prob_NOR", "prob_HCM", "prob_DCM"]]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4)


@pytest.mark.slow
def test_the_model_kept_is_that_of_the_last_epoch_with_its_validation(
    trained_teacher: Path, twins: tuple[Path, Path]
) -> None:
    for folder, name in ((trained_teacher, "teacher"), (twins[0], "student")):
        values = history(folder, runs_of(folder)[name], "validation/accuracy/worst/vendor")
        record = load_checkpoint(folder / "model.pt")
        assert record["epoch"] == max(values)
        assert record["selection"] == values[record["epoch"]]


@pytest.mark.slow
def test_what_is_recorded_at_the_end_is_said_of_the_model_that_is_saved(
    workflow: Callable[..., Any], prepared: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Epoch 2 is validated and epoch 3 is saved: its loss is worked out from `model.pt` and the studies."""
    configs, settings = ["train.yaml", "methods/erm.yaml"], {**small, "num_epochs": 3, "val_interval": 2}
    workflow(STUDENT, configs, output_dir=str(tmp_path), **settings)
    run = runs_of(tmp_path)["student"]
    curve = history(tmp_path, run, "validation/loss/average")
    assert list(curve) == [2]

    cases = read_datalist(prepared / "datalist.json").sections["validation"]
    images = torch.from_numpy(np.stack([np.load(case.image)["image"] for case in cases]))
    labels = torch.tensor([("NOR", "HCM", "DCM").index(case.label) for case in cases])
    with torch.no_grad():
        logits = load_network(tmp_path / "model.pt")(images)
    expected = float(torch.nn.functional.cross_entropy(logits, labels))
    assert history(tmp_path, run, "model/epoch") == {3: 3}
    assert history(tmp_path, run, "model/validation/loss/average")[3] == pytest.approx(expected, rel=1e-5)
    assert curve[2] != pytest.approx(expected, rel=1e-3)
    stored = client(tmp_path).download_artifacts(run.info.run_id, "per_group.json", str(tmp_path))
    right = (logits.argmax(dim=1) == labels).numpy()
    said = {row["group"]: row["accuracy"] for row in yaml.safe_load(Path(stored).read_text()) if row["n"]}
    for vendor in ("Siemens", "Canon"):
        assert said[vendor] == pytest.approx(right[[case.vendor == vendor for case in cases]].mean())


@pytest.mark.slow
def test_a_last_layer_is_refused_before_training_or_recorded_by_left_out_patients(
    workflow: Callable[..., Any], small: dict[str, Any], tmp_path: Path
) -> None:
    """Four validation patients of each class: too few for five folds, enough for three."""
    configs = ["train.yaml", "methods/erm.yaml", "methods/dfr.yaml"]
    with pytest.raises(RuntimeError) as refused:  # MONAI's, which says where in the config
        workflow(STUDENT, configs, output_dir=str(tmp_path), **small)
    assert "each of 5 folds, but labels have so many: {0: 4, 1: 4, 2: 4}" in str(refused.value.__cause__)
    assert list(tmp_path.iterdir()) == []
    workflow(STUDENT, configs, output_dir=str(tmp_path), **small, **{"last_layer_retraining#folds": 3})
    fit = load_checkpoint(tmp_path / "model.pt")["last_layer_fit"]
    run = runs_of(tmp_path)["student"]
    found = {name: value for name, value in run.data.metrics.items() if name.startswith("model/")}
    assert found == {"model/epoch": 2, "model/left_out/accuracy/worst": fit["worst_group_accuracy"][fit["strength"]]}
    assert "per_group.json" not in [item.path for item in client(tmp_path).list_artifacts(run.info.run_id)]


@pytest.mark.slow
def test_the_teachers_run_is_recorded_by_group_and_registered(trained_teacher: Path) -> None:
    run = runs_of(trained_teacher)["teacher"]
    assert run.info.status == "FINISHED"
    names = {f"validation/{metric}/vendor/{vendor}" for metric in ("accuracy", "n", "loss") for vendor in VENDORS}
    names |= {f"validation/accuracy/worst/{c}" for c in ("vendor", "site", "scanner", "field_strength_t")}
    assert names | {"validation/auc/average", "train/loss"} <= set(run.data.metrics)
    assert run.data.tags.items() >= {"bundle": TEACHER, "method": "erm", "seed": "0"}.items()
    version = client(trained_teacher).get_model_version_by_alias(TEACHER, "candidate")
    assert version.run_id == run.info.run_id


@pytest.mark.slow
def test_two_processes_train_one_model_in_one_run(
    launch: Launch, finish: Finish, trained_teacher: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    teacher = {"teacher_checkpoint": trained_teacher / "model.pt"}
    configs = ["train.yaml", "multi_gpu_train.yaml"]
    started = {
        "student": launch(STUDENT, configs, tmp_path, processes=2, output_dir="student", **teacher, **small),
        "teacher": launch(TEACHER, configs, tmp_path, processes=2, output_dir="teacher", **small),
    }
    for name, process in started.items():
        finish(process)
        assert [run.info.status for run in runs_of(tmp_path / name).values()] == ["FINISHED"]
        saved = load_checkpoint(tmp_path / name / "model.pt")["model"]
        assert not [key for key in saved if key.startswith("module.")]
        run = runs_of(tmp_path / name)[name]
        assert sorted(history(tmp_path / name, run, "train/loss")) == [1, 2]
        assert run.data.metrics["validation/n/vendor/ge"] == run.data.metrics["model/validation/n/vendor/ge"] == 3
        assert last(tmp_path / name)["processes"] == 2
