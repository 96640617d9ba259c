"""Where runs are recorded, and what is recorded of them, before any engine runs."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric_name

from pipeline.tracking.metric_values import flat_scalars, merged_scalars, server_name
from pipeline.tracking.mlflow_artifacts import check_artifact_path
from pipeline.tracking.mlflow_registry import check_registration
from pipeline.tracking.mlflow_store import ensure_store, quiet, resolve_tracking_uri
from pipeline.tracking.run_identity import git_commit, source_tags, unique_run_name
from pipeline.tracking.termination import sigterm_raises


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_without_a_wish_runs_go_to_a_database_in_the_output_folder(tmp_path: Path) -> None:
    assert resolve_tracking_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_environment_is_asked_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert resolve_tracking_uri(None, "eval") == "http://mlflow:5000"


def test_what_is_asked_for_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap T2: in MONAI's handler the environment wins."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert resolve_tracking_uri("http://mlflow:5000", "eval") == "http://mlflow:5000"


def test_a_relative_database_is_the_same_one_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_tracking_uri("sqlite:///runs.db", "eval") == f"sqlite:///{tmp_path}/runs.db"


@pytest.mark.parametrize("uri", ["./mlruns", "/data/mlruns", "file:///data/mlruns", "mlruns"])
def test_a_folder_is_refused_and_a_database_named_instead(uri: str) -> None:
    """Trap T1: MLflow itself raises an error about a file store when the run starts."""
    with pytest.raises(ValueError, match=r"use sqlite:///.*mlruns/mlflow\.db"):
        resolve_tracking_uri(uri, "eval")


@pytest.mark.parametrize("uri", ["sqlite:///", "sqlite:///:memory:", "sqlite:///a.db?timeout=1"])
def test_a_database_without_a_file_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="must name a file"):
        resolve_tracking_uri(uri, "eval")


def _start(uri: str, ready: object, answers: object) -> None:
    ready.wait()  # type: ignore[attr-defined]
    try:
        answers.put(ensure_store(uri, "evenbeat"))  # type: ignore[attr-defined]
    except Exception as error:
        answers.put(repr(error))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_two_processes_may_start_on_a_new_database_together(tmp_path: Path) -> None:
    """Trap T13: MLflow's migration is not locked, one of the two would die of a duplicate column."""
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(2), context.Queue()
    uri = resolve_tracking_uri(None, tmp_path)
    processes = [context.Process(target=_start, args=(uri, ready, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=120) for _ in processes}
    for process in processes:
        process.join(timeout=60)
    assert len(found) == 1
    assert MlflowClient(tracking_uri=uri).get_experiment(found.pop()).name == "evenbeat"


def test_a_new_database_keeps_its_artifacts_beside_it_and_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """T14: the place is stored as an absolute address."""
    uri = resolve_tracking_uri(None, tmp_path / "new")
    number = ensure_store(uri, "evenbeat")
    assert capfd.readouterr() == ("", "")
    location = MlflowClient(tracking_uri=uri).get_experiment(number).artifact_location
    assert location == (tmp_path / "new" / "mlartifacts").as_uri()
    assert ensure_store(uri, "evenbeat") == number


def test_a_deleted_experiment_is_refused(tmp_path: Path) -> None:
    uri = resolve_tracking_uri(None, tmp_path)
    MlflowClient(tracking_uri=uri).delete_experiment(ensure_store(uri, "evenbeat"))
    with pytest.raises(ValueError, match="'evenbeat' must exist"):
        ensure_store(uri, "evenbeat")


def test_silence_ends_with_the_block() -> None:
    before = logging.getLogger("alembic").level
    with quiet():
        assert logging.getLogger("alembic").level == logging.WARNING
    assert logging.getLogger("alembic").level == before


def test_mlflow_reports_nothing_to_its_makers() -> None:
    from mlflow.telemetry import get_telemetry_client

    assert get_telemetry_client() is None


@pytest.mark.parametrize(
    "name",
    [
        "val/auc/Siemens 1,5T (Avanto)",
        "a=b",
        "50%",
        "x@y",
        "/a//b/",
        "../a",
        "a/./b",
        "",
        "%",
        "Hôpital",
        "n" * 400,
        "a:b",
    ],
)
def test_every_name_becomes_one_that_mlflow_takes(name: str) -> None:
    """Trap T7: a comma in a scanner's name would end the training."""
    _validate_metric_name(server_name(name))
    assert 0 < len(server_name(name)) <= 250


@pytest.mark.parametrize("name", ["val/accuracy/vendor/ge", "train/group_weight/vendor/1.5-t"])
def test_good_names_stay_as_they_are(name: str) -> None:
    assert server_name(name) == name


def test_equal_keys_under_different_parents_stay_apart() -> None:
    """Trap T6: MONAI's handler drops the parents and the values overwrite each other."""
    assert flat_scalars({"auc": {"A": 0.5}, "f1": {"A": 0.25}}) == {"auc/A": 0.5, "f1/A": 0.25}


def test_metrics_whose_names_would_fall_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'a\(b' and 'a\)b' are both 'a-b'"):
        flat_scalars({"a(b": 1.0, "a)b": 2.0})


def test_a_metric_of_several_values_becomes_several_metrics() -> None:
    """Trap T8: a tensor of more than one element would end the training."""
    assert flat_scalars({"recall": torch.tensor([0.5, 0.25])}) == {"recall/0": 0.5, "recall/1": 0.25}


def test_values_that_are_not_finite_are_left_out() -> None:
    values = {"nan": float("nan"), "inf": np.float32("inf"), "fine": torch.tensor(1.0, requires_grad=True)}
    assert flat_scalars(values) == {"fine": 1.0}


def test_text_among_metrics_is_refused() -> None:
    with pytest.raises(TypeError, match="'vendor' is 'GE'"):
        flat_scalars({"vendor": "GE"})


def test_two_sources_may_repeat_a_metric_but_not_contradict_each_other() -> None:
    assert merged_scalars([{"a": 1.0}, {"a": 1.0}]) == {"a": 1.0}
    with pytest.raises(ValueError, match="'a' is both 1 and 2"):
        merged_scalars([{"a": 1.0}, {"a": 2.0}])


def test_two_runs_of_one_setting_have_two_names() -> None:
    """Trap T5: MONAI's handler continues an unfinished run of the same name."""
    names = {unique_run_name("student", "kd", "seed0") for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("student-kd-seed0-") for name in names)


def _git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_code_and_says_if_the_code_differs(tmp_path: Path) -> None:
    _git(tmp_path, "init", "-q")
    code = tmp_path / "code.py"
    code.write_text("1")
    assert git_commit(code) == "unknown"  # not tracked, as in an environment inside a repository
    _git(tmp_path, "add", "code.py")
    _git(tmp_path, "commit", "-qm", "first")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(code) == commit
    code.write_text("2")
    assert git_commit(code) == f"{commit}-dirty"


def test_outside_a_repository_the_commit_is_unknown(tmp_path: Path) -> None:
    assert git_commit(tmp_path / "code.py") == "unknown"


def test_a_run_names_its_source_by_the_bundle() -> None:
    """Trap T17: runs made through the client have neither user nor source."""
    tags = source_tags("cardiac_cine_student")
    assert tags["mlflow.source.name"] == "cardiac_cine_student"
    assert tags["mlflow.user"]


@pytest.mark.parametrize("path", ["", "/a.json", "../a.json", "a/../b.json", "a//b.json", "a/"])
def test_an_artifact_path_that_mlflow_would_refuse_is_refused_at_once(path: str) -> None:
    with pytest.raises(ValueError, match="must be relative and plain"):
        check_artifact_path(path)


@pytest.mark.parametrize(
    ("name", "alias"), [("a/b", "candidate"), ("a:b", "candidate"), ("a", "latest"), ("a", "v2"), ("a", "b c")]
)
def test_a_name_that_the_registry_would_refuse_is_refused_before_training(name: str, alias: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_registration(name, alias)


def test_sigterm_becomes_an_exception_inside_the_block_only() -> None:
    with pytest.raises(SystemExit) as ended, sigterm_raises():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
