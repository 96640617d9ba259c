"""One engine's run is one MLflow run, whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Engine, Events
from mlflow import MlflowClient
from mlflow.entities import Run
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import CheckpointLoader, CheckpointSaver, StatsHandler, ValidationHandler
from torch.utils.data import DataLoader

from pipeline.tracking.metric_values import new_metrics
from pipeline.tracking.mlflow_handler import MLflowTracker
from pipeline.tracking.mlflow_store import ensure_store, resolve_tracking_uri

CASES: Any = [{"image": torch.full((4,), float(i)), "label": i % 2} for i in range(4)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a database; making one takes seconds."""
    folder = tmp_path_factory.mktemp("tracking")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        ensure_store(resolve_tracking_uri(None, folder), "evenbeat")
    return folder


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test may write elsewhere, and none may leave a tracking address behind."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    yield
    assert list(here.iterdir()) == []  # MLflow's own default is a database in the working folder
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert mlflow.active_run() is None


def client(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=resolve_tracking_uri(None, folder))


def recorded(folder: Path, tracker: MLflowTracker) -> Run:
    return client(folder).get_run(tracker.run_id)


def engine(metrics: Callable[[int], dict[str, Any]] = lambda epoch: {"loss": 1 / epoch}) -> Engine:
    """Engine whose only work is to have metrics."""
    made = Engine(lambda _, batch: batch)
    made.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(metrics(e.state.epoch)))
    return made


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 2))


def trainer(handlers: list[Any], epochs: int = 2, net: torch.nn.Module | None = None) -> SupervisedTrainer:
    net = net or network()
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(CASES, batch_size=2),
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), 0.1),
        loss_function=torch.nn.CrossEntropyLoss(),
        decollate=False,
        train_handlers=handlers,
    )


def history(folder: Path, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client(folder).get_metric_history(run_id, name)]


# ---- a run that goes well


def test_a_training_is_recorded_as_one_finished_run(shared: Path) -> None:
    tags = {"bundle": "cardiac_cine_student", "method": "kd", "seed": 3, "teacher_run_id": None}
    learning_rate = lambda: {"train/learning_rate": 0.5}  # noqa: E731
    tracker = MLflowTracker(
        output_dir=shared,
        run_name="student",
        tags=tags,
        params={"alpha": 0.5, "loss": {"temperature": 4}},
        metrics=[learning_rate],
        config=lambda: "alpha: 0.5\n",
    )
    made = engine()
    tracker.attach(made)
    made.run([0], max_epochs=2)
    run = recorded(shared, tracker)
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("student-kd-seed3-")
    assert run.data.params == {"max_epochs": "2", "epoch_length": "1", "alpha": "0.5", "loss": "{'temperature': 4}"}
    assert history(shared, tracker.run_id, "loss") == [(1, 1.0), (2, 0.5)]
    assert history(shared, tracker.run_id, "train/learning_rate") == [(1, 0.5), (2, 0.5)]
    assert run.data.tags["mlflow.source.name"] == "cardiac_cine_student"
    assert run.data.tags["git_commit"]
    assert "teacher_run_id" not in run.data.tags
    stored = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/config/executed.yaml")
    assert stored == "alpha: 0.5\n"  # T12


def test_what_is_final_is_logged_once_at_the_last_epoch(shared: Path) -> None:
    """What is not finite is left out, as of other metrics."""
    tracker = MLflowTracker(output_dir=shared, final=lambda: {"model/epoch": 1, "model/auc": float("nan")})
    made = engine()
    tracker.attach(made)
    made.run([0], max_epochs=2)
    assert history(shared, tracker.run_id, "model/epoch") == [(2, 1.0)]
    assert "model/auc" not in recorded(shared, tracker).data.metrics


def test_nothing_is_written_before_the_engine_starts(tmp_path: Path) -> None:
    """A configuration that is only parsed, or refused, leaves no database."""
    tracker = MLflowTracker(output_dir=tmp_path)
    tracker.attach(engine())
    assert list(tmp_path.iterdir()) == []
    assert tracker.run_id == ""


def test_an_explicit_address_wins_over_the_environment(shared: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Trap T2: otherwise an evaluation lands in another project's database."""
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
        tracker = MLflowTracker(
            output_dir=tmp_path, tracking_uri=resolve_tracking_uri(f"sqlite:///{shared}/mlflow.db", ".")
        )
        made = engine()
        tracker.attach(made)
        made.run([0])
        assert os.environ["MLFLOW_TRACKING_URI"].endswith("other.db")
    assert recorded(shared, tracker).info.status == "FINISHED"
    assert not (tmp_path / "other.db").exists()


def test_an_unfinished_run_of_somebody_else_is_not_written_into(shared: Path) -> None:
    """Trap T5: MONAI's handler appends to the oldest unfinished run of the experiment."""
    stale = client(shared).create_run(ensure_store(resolve_tracking_uri(None, shared), "evenbeat"), run_name="student")
    tracker = MLflowTracker(output_dir=shared, run_name="student")
    made = engine()
    tracker.attach(made)
    made.run([0])
    assert tracker.run_id != stale.info.run_id
    assert client(shared).get_run(stale.info.run_id).data.metrics == {}


def test_an_evaluation_alone_ends_finished_with_its_metrics(shared: Path) -> None:
    """Trap T3: MONAI leaves an evaluation RUNNING for ever."""
    tracker = MLflowTracker(output_dir=shared, run_name="evaluate")
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(CASES, batch_size=2),
        network=network(),
        decollate=False,
        val_handlers=[tracker],
    )
    evaluator.add_event_handler(
        Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update({"test/accuracy/average": 0.5})
    )
    evaluator.run()
    run = recorded(shared, tracker)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"test/accuracy/average": 0.5}


def test_validation_is_recorded_wherever_the_tracker_stands_and_only_where_it_took_place(shared: Path) -> None:
    """Trap T9: a tracker before the validation would log the figures of the epoch before, or none."""
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=DataLoader(CASES, batch_size=2), network=network(), decollate=False
    )
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update({"val/seen": e.state.epoch}))
    tracker = MLflowTracker(output_dir=shared, metrics=[new_metrics(evaluator)])
    validation = ValidationHandler(interval=2, validator=evaluator)
    trainer([tracker, validation], epochs=5).run()
    assert history(shared, tracker.run_id, "val/seen") == [(2, 2.0), (4, 4.0)]


def test_odd_names_and_values_do_not_end_the_training(shared: Path) -> None:
    """Traps T6, T7, T8."""
    odd = {"auc": {"Siemens 1,5T (Avanto)": 0.5, "GE": float("nan")}, "recall": torch.tensor([0.5, 0.25])}
    tracker = MLflowTracker(output_dir=shared)
    made = engine(lambda _: odd)
    tracker.attach(made)
    made.run([0])
    expected = {"auc/Siemens 1-5T -Avanto-": 0.5, "recall/0": 0.5, "recall/1": 0.25}
    assert recorded(shared, tracker).data.metrics == expected


def test_a_long_setting_is_cut_where_the_reader_can_see_it(shared: Path) -> None:
    """Trap T11: MLflow would cut with a warning."""
    tracker = MLflowTracker(output_dir=shared, params={"transforms": "x" * 7000})
    made = engine()
    tracker.attach(made)
    made.run([0])
    assert recorded(shared, tracker).data.params["transforms"] == "x" * 4999 + "…"


def test_tables_data_and_folders_keep_their_paths(shared: Path, tmp_path: Path) -> None:
    """Trap T11: MONAI's handler flattens folders, and files of one name overwrite each other."""
    for part in ("a", "b"):
        (tmp_path / "figures" / part).mkdir(parents=True)
        (tmp_path / "figures" / part / "f.txt").write_text(part)
    table = pd.DataFrame({"case_id": ["c1"], "prob_NOR": [0.25]})
    tracker = MLflowTracker(
        output_dir=shared,
        artifacts={
            "predictions.parquet": lambda: table,
            "per_group.json": lambda: {"GE": 0.5},
            "figures": lambda: tmp_path / "figures",
            "renamed/one.txt": lambda: tmp_path / "figures" / "a" / "f.txt",
            "absent.json": lambda: None,
        },
    )
    made = engine()
    tracker.attach(made)
    made.run([0])
    root = Path(recorded(shared, tracker).info.artifact_uri.removeprefix("file://"))
    found = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
    assert found == {"predictions.parquet", "per_group.json", "figures/a/f.txt", "figures/b/f.txt", "renamed/one.txt"}
    pd.testing.assert_frame_equal(pd.read_parquet(root / "predictions.parquet"), table)


def test_other_ranks_record_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    tracker = MLflowTracker(output_dir=tmp_path)
    made = engine()
    tracker.attach(made)
    made.run([0])
    assert list(tmp_path.iterdir()) == []
    assert tracker.state_dict() == {"run_id": ""}


# ---- a run that goes wrong


def explode(engine: Engine) -> None:
    raise ArithmeticError("loss of case c7 is not finite")


@pytest.mark.parametrize("order", ["tracker first", "tracker last", "tracker alone"])
def test_an_exception_leaves_a_failed_run_and_is_raised_whatever_the_order_of_handlers(
    shared: Path, order: str
) -> None:
    """Trap T4: ignite swallows what a handler does not raise, and StatsHandler raises before others are asked."""
    tracker = MLflowTracker(output_dir=shared)
    stats = StatsHandler(name="evenbeat.test", iteration_log=False, epoch_log=False)
    handlers = {"tracker first": [tracker, stats], "tracker last": [stats, tracker], "tracker alone": [tracker]}[order]
    made = trainer(handlers)
    made.add_event_handler(Events.ITERATION_COMPLETED, explode)
    with pytest.raises(ArithmeticError, match="c7"):
        made.run()
    run = recorded(shared, tracker)
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"] == "ArithmeticError"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_has_failed(shared: Path, error: type[BaseException]) -> None:
    def interrupt(engine: Engine) -> None:
        raise error

    tracker = MLflowTracker(output_dir=shared)
    made = engine()
    made.add_event_handler(Events.ITERATION_COMPLETED, interrupt)
    tracker.attach(made)
    with pytest.raises(error):
        made.run([0])
    assert recorded(shared, tracker).info.status == "FAILED"


def test_a_terminated_process_leaves_a_failed_run(shared: Path) -> None:
    """A cluster asks a job to end by SIGTERM."""
    tracker = MLflowTracker(output_dir=shared)
    made = engine()
    made.add_event_handler(Events.ITERATION_COMPLETED, lambda: os.kill(os.getpid(), signal.SIGTERM))
    tracker.attach(made)
    with pytest.raises(SystemExit):
        made.run([0])
    assert recorded(shared, tracker).info.status == "FAILED"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_failure_while_results_are_stored_is_a_failed_run(shared: Path, tmp_path: Path) -> None:
    tracker = MLflowTracker(output_dir=shared, artifacts={"audit.json": lambda: tmp_path / "audit.json"})
    made = engine()
    tracker.attach(made)
    with pytest.raises(FileNotFoundError, match=r"audit\.json"):
        made.run([0])
    assert recorded(shared, tracker).info.status == "FAILED"


def test_a_run_that_is_stopped_short_has_failed_and_one_that_stops_early_has_not(shared: Path) -> None:
    """Ignite completes an engine that is told to terminate, unless it is told to skip that."""
    for skip, status in ((True, "FAILED"), (False, "FINISHED")):
        tracker = MLflowTracker(output_dir=shared)
        made = engine()
        made.add_event_handler(Events.ITERATION_COMPLETED, lambda e, skip=skip: e.terminate(skip_completed=skip))
        tracker.attach(made)
        made.run([0], max_epochs=3)
        assert recorded(shared, tracker).info.status == status


@pytest.mark.parametrize(
    "settings", [{"tracking_uri": "./mlruns"}, {"registered_model": "student"}, {"alias": "latest"}]
)
def test_settings_that_could_not_work_are_refused_when_the_tracker_is_built(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=next(iter(settings.values()))):
        MLflowTracker(output_dir=tmp_path, **settings)  # type: ignore[arg-type]


# ---- a run that goes on


def test_a_killed_run_goes_on_as_the_same_run_with_each_epoch_once(shared: Path, tmp_path: Path) -> None:
    """Also T10: a changed setting would make MLflow refuse the whole run."""
    first = MLflowTracker(output_dir=shared, params={"alpha": 0.5}, config=lambda: "epochs: 2")
    net = network()
    saver = CheckpointSaver(
        save_dir=str(tmp_path), save_dict={"net": net, "tracker": first}, save_interval=2, n_saved=1
    )
    killed = trainer([saver, first], epochs=9, net=net)
    killed.add_event_handler(Events.EPOCH_STARTED(once=4), lambda e: e.terminate(skip_completed=True))
    first._terminated = print  # type: ignore[method-assign, assignment]  # as if by SIGKILL: nobody marks the end
    killed.run()
    first._while_running.close()
    assert recorded(shared, first).info.status == "RUNNING"

    second = MLflowTracker(output_dir=shared, params={"alpha": 0.25, "beta": 1}, config=lambda: "epochs: 4")
    (checkpoint,) = tmp_path.glob("*.pt")
    loader = CheckpointLoader(load_path=str(checkpoint), load_dict={"net": net, "tracker": second})
    goes_on = trainer([loader, second], epochs=4, net=net)
    goes_on.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", 2))
    goes_on.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update({"epoch": e.state.epoch}))
    goes_on.run()
    run = recorded(shared, second)
    assert second.run_id == first.run_id
    assert run.info.status == "FINISHED"
    assert run.data.params.items() >= {"alpha": "0.5", "beta": "1", "max_epochs": "9"}.items()
    assert history(shared, second.run_id, "epoch") == [(4, 4.0)]  # 3 was recorded before the kill
    stored = {file.path for file in client(shared).list_artifacts(second.run_id, "config")}
    assert stored == {"config/executed.yaml", "config/resumed-after-epoch-3.yaml"}


KILLED = """
import os, signal, sys
from ignite.engine import Engine, Events
from pipeline.tracking.mlflow_handler import MLflowTracker
tracker = MLflowTracker(output_dir=sys.argv[1])
engine = Engine(lambda engine, batch: batch)
engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update({"loss": 1.0}))
tracker.attach(engine)
@engine.on(Events.EPOCH_STARTED(once=2))
def die():
    print(tracker.run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
engine.run([0], max_epochs=3)
"""


@pytest.mark.slow
def test_a_process_killed_outright_is_continued_by_the_next_one(shared: Path) -> None:
    """SIGKILL leaves RUNNING behind; nothing but the checkpoint knows which run it was."""
    done = subprocess.run([sys.executable, "-c", KILLED, shared], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    run_id = done.stdout.strip()
    assert client(shared).get_run(run_id).info.status == "RUNNING"
    tracker = MLflowTracker(output_dir=shared)
    tracker.load_state_dict({"run_id": run_id})
    made = engine()
    tracker.attach(made)
    made.run([0], max_epochs=3)
    assert recorded(shared, tracker).info.status == "FINISHED"
    assert history(shared, run_id, "loss") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]


def test_a_checkpoint_whose_run_is_gone_starts_a_new_run_that_says_so(shared: Path) -> None:
    tracker = MLflowTracker(output_dir=shared)
    tracker.load_state_dict({"run_id": "0" * 32})
    made = engine()
    tracker.attach(made)
    made.run([0])
    run = recorded(shared, tracker)
    assert run.info.run_id != "0" * 32
    assert run.data.tags["resumed_from"] == "0" * 32


def test_a_checkpoint_loaded_after_the_start_is_refused(shared: Path) -> None:
    tracker = MLflowTracker(output_dir=shared)
    made = engine()
    tracker.attach(made)
    made.add_event_handler(Events.STARTED, lambda: tracker.load_state_dict({"run_id": "0" * 32}))
    with pytest.raises(RuntimeError, match="put the CheckpointLoader before the tracker"):
        made.run([0])


# ---- the model


@pytest.fixture(scope="module")
def registered(shared: Path) -> MLflowTracker:
    """Tracker of a finished run that registered its network."""
    net = network().train()
    tracker = MLflowTracker(
        output_dir=shared,
        tags={"recipe_digest": "abc", "method": "kd"},
        model=lambda: (net, np.ones((1, 4), np.float32)),
        registered_model="student",
        alias="candidate",
    )
    made = engine()
    tracker.attach(made)
    made.run([0])
    assert net.training
    return tracker


@pytest.mark.slow
def test_the_registered_model_reloads_and_answers_for_any_number_of_studies(
    shared: Path, registered: MLflowTracker
) -> None:
    """Traced from one example; dropout is off."""
    version = client(shared).get_model_version_by_alias("student", "candidate")
    assert version.run_id == registered.run_id
    assert version.tags.items() >= {"run_id": registered.run_id, "recipe_digest": "abc", "method": "kd"}.items()
    loaded = mlflow.pyfunc.load_model(client(shared).get_model_version_download_uri("student", version.version))
    assert loaded.metadata.signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 4)
    for studies in (1, 3):
        images = np.random.default_rng(0).normal(size=(studies, 4)).astype(np.float32)
        expected = network().eval()(torch.from_numpy(images)).detach().numpy()
        np.testing.assert_allclose(loaded.predict(images), expected, rtol=1e-5)


@pytest.mark.slow
def test_the_model_is_stored_beside_the_database_and_no_address_leaks(shared: Path, registered: MLflowTracker) -> None:
    """Trap T2: the fluent interface would set an environment variable for the whole process."""
    assert list((shared / "mlartifacts" / "models").glob("*/artifacts/data/model.pt2"))
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.mark.slow
def test_the_same_command_after_the_end_registers_no_second_version(shared: Path, registered: MLflowTracker) -> None:
    again = MLflowTracker(
        output_dir=shared, model=lambda: (network(), np.ones((2, 4), np.float32)), registered_model="student"
    )
    again.load_state_dict(registered.state_dict())
    made = engine()
    again.attach(made)
    made.run([0])
    assert again.run_id == registered.run_id
    assert [version.version for version in client(shared).search_model_versions("name='student'")] == [1]
    assert recorded(shared, again).info.status == "FINISHED"
