"""One bundle run, one MLflow run: metrics by group, tables, configuration, lineage, and an honest end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from mlflow.entities import LifecycleStage, Metric, Param, Run
from mlflow.exceptions import MlflowException
from monai.handlers import MLFlowHandler
from numpy.typing import NDArray

from pipeline.tracking.metric_values import merged_scalars, server_name
from pipeline.tracking.mlflow_artifacts import check_artifact_path, store_artifact
from pipeline.tracking.mlflow_registry import check_registration, log_model, register_model
from pipeline.tracking.mlflow_store import ensure_store, quiet, resolve_tracking_uri, without_environment_uri
from pipeline.tracking.run_identity import git_commit, source_tags, unique_run_name
from pipeline.tracking.termination import sigterm_raises

logger = logging.getLogger(__name__)

EPOCHS_LOGGED = "epochs_logged"
LONGEST_VALUE = 5000  # characters; MLflow allows 6000 in a parameter, 8000 in a tag
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # MLflow's limits
VERSION_TAGS = ("bundle", "bundle_version", "method", "recipe_digest", "data_digest", "git_commit", "teacher_run_id")

Tags = Mapping[str, object]
MetricSource = Callable[[], Mapping[str, Any]]
ModelSource = Callable[[], tuple[torch.nn.Module, NDArray[np.float32]]]


class MLflowTracker(MLFlowHandler):
    """Record the run of one engine, a trainer or an evaluator, as exactly one MLflow run.

    The run begins when the engine starts, takes the engine's metrics and those of ``metrics`` after every epoch, behind
    all other handlers, and ends FINISHED, or FAILED on any exception, interrupt or SIGTERM, which go on as if the
    tracker were not there. Put it into a checkpoint (``state_dict``) and a later process goes on with the same run,
    even after a SIGKILL; the loader must stand before the tracker. Ranks other than the first record nothing.

    Args:
        output_dir: folder of the default database, ``mlflow.db``, with its artifacts beside it in ``mlartifacts``.
        tracking_uri: a database's or a server's address. It wins over ``MLFLOW_TRACKING_URI``, which wins over the
            default.
        experiment: MLflow's name for what belongs together.
        run_name: beginning of the run's name; method, seed and time are added, so that every run has its own.
        tags: e.g. ``bundle, bundle_version, method, data_digest, recipe_digest, teacher_run_id, seed``; None is left
            out. ``git_commit`` is looked up if it is not given.
        params: settings, logged when the run is created. Values over 5000 characters are cut and end in ``…``.
        metrics: called after every epoch. Values that are not finite are left out.
        final: likewise, called once, when the engine completes, before ``artifacts``.
        artifacts: path in the run -> what gives the table, figure, data, file or folder when the engine completes, see
            :func:`~pipeline.tracking.mlflow_artifacts.store_artifact`.
        config: gives the text of the executed configuration, stored when the run starts as ``config/executed.yaml``,
            after a resumption as ``config/resumed-after-epoch-<n>.yaml``.
        model: gives the trained network and an example of its input when the engine completes.
        registered_model: name under which the registry keeps the network.
        alias: word that points to the newest version.

    Raises:
        ValueError: if a name, path or URI is one that MLflow would refuse later.
    """

    def __init__(
        self,
        *,
        output_dir: str | Path,
        tracking_uri: str | None = None,
        experiment: str = "evenbeat",
        run_name: str = "run",
        tags: Tags | None = None,
        params: Mapping[str, object] | None = None,
        metrics: Sequence[MetricSource] = (),
        final: MetricSource | None = None,
        artifacts: Mapping[str, Callable[[], Any]] | None = None,
        config: Callable[[], str | None] | None = None,
        model: ModelSource | None = None,
        registered_model: str | None = None,
        alias: str = "candidate",
    ) -> None:
        # MONAI's constructor connects, and makes a database, at once; ours waits until the engine starts (_connect).
        check_registration(registered_model, alias)
        if registered_model is not None and model is None:
            raise ValueError(
                f"a registered model needs a network; {registered_model!r} came without 'model'; pass both"
            )
        for path in artifacts or {}:
            check_artifact_path(path)
        self.uri = resolve_tracking_uri(tracking_uri, output_dir)
        self.experiment_name, self.prefix = experiment, run_name
        self.tags = {key: str(value)[:LONGEST_VALUE] for key, value in (tags or {}).items() if value is not None}
        self.params, self.metric_sources, self.final = dict(params or {}), tuple(metrics), final
        self.artifact_sources, self.config, self.model = dict(artifacts or {}), config, model
        self.registered_model, self.alias = registered_model, alias
        self.run_id = ""
        self.cur_run: Run | None = None
        self._resume_id = ""
        self._epochs_logged = 0
        self._news = True  # False while a reopened run that was finished has nothing to add
        self._while_running = ExitStack()

    def state_dict(self) -> dict[str, str]:
        """Id of the run, for a checkpoint."""
        return {"run_id": self.run_id}

    def load_state_dict(self, state_dict: Mapping[str, str]) -> None:
        """Go on with the run of a checkpoint when the engine starts.

        Raises:
            RuntimeError: if another run has begun already.
        """
        if self.cur_run is not None and state_dict["run_id"] != self.run_id:
            raise RuntimeError(
                f"a checkpoint must be loaded before its run starts; run {self.run_id} has started already; "
                "put the CheckpointLoader before the tracker in the list of handlers"
            )
        self._resume_id = state_dict["run_id"]

    def attach(self, engine: Engine) -> None:
        """Record ``engine``; the other handlers follow when it starts, so that they come last."""
        if _rank() == 0 and not engine.has_event_handler(self.start, Events.STARTED):
            engine.add_event_handler(Events.STARTED, self.start)

    def start(self, engine: Engine) -> None:
        """Begin the run, or go on with the one a checkpoint names."""
        if self.cur_run is not None:
            return
        self._listen(engine)
        self._connect()
        self.cur_run = self._reopened() or self._created()
        self.run_id = self.cur_run.info.run_id
        self._while_running.enter_context(sigterm_raises())
        self._log_params({"max_epochs": engine.state.max_epochs, "epoch_length": engine.state.epoch_length})
        self._log_params(self.params)
        self._log_config()

    def epoch_completed(self, engine: Engine) -> None:
        """Log the epoch's metrics; an epoch that the run has already, from before a resumption, is left as it is."""
        epoch = int(engine.state.epoch)
        values = merged_scalars([engine.state.metrics, *(source() for source in self.metric_sources)])
        if self.cur_run is None or epoch <= self._epochs_logged:
            return
        self._log_metrics(values, epoch)
        self.client.set_tag(self.run_id, EPOCHS_LOGGED, str(epoch))
        self._epochs_logged, self._news = epoch, True

    def complete(self, engine: Engine) -> None:
        """Log what is final, store artifacts and network, and end the run as FINISHED."""
        if self.cur_run is None:
            return
        if self.final is not None and self._news:
            self._log_metrics(merged_scalars([self.final()]), int(engine.state.epoch))
        for path, source in self.artifact_sources.items():
            store_artifact(self.client, self.run_id, path, source())
        if self.model is not None and self._news:
            self._store_model(*self.model())
        self.close()

    def fail(self, engine: Engine, error: BaseException) -> None:  # noqa: ARG002
        """End the run as FAILED, with the kind of error as a tag; never hide the error by one of our own."""
        if self.cur_run is None:
            return
        try:
            self.client.set_tag(self.run_id, "failure", type(error).__name__)  # a message might name a patient
            self.run_finish_status = "FAILED"
            self.close()
        except Exception:
            logger.exception("run %s could not be marked FAILED in %s", self.run_id, self.experiment_name)

    def close(self) -> None:
        """End the run and release the database."""
        self._while_running.close()
        with quiet():
            super().close()

    def _listen(self, engine: Engine) -> None:
        """Attach behind all other handlers; only the mark of a failure goes first, as others raise at once."""
        if engine.has_event_handler(self.complete, Events.COMPLETED):
            return
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)
        engine.add_event_handler(Events.COMPLETED, self.complete)
        engine.add_event_handler(Events.TERMINATE, self._terminated)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.fail)
        failing = engine._event_handlers[Events.EXCEPTION_RAISED]
        failing.insert(0, failing.pop())
        engine.add_event_handler(Events.EXCEPTION_RAISED, _raise)  # with a handler attached, ignite would not

    def _terminated(self, engine: Engine) -> None:
        if engine.should_terminate == "skip_completed":
            self.fail(engine, InterruptedError())

    def _connect(self) -> None:
        experiment_id = ensure_store(self.uri, self.experiment_name)
        with quiet(), without_environment_uri():
            super().__init__(tracking_uri=self.uri, experiment_name=self.experiment_name, iteration_log=False)
            self.experiment = self.client.get_experiment(experiment_id)

    def _reopened(self) -> Run | None:
        """The run to go on with, running again, or None if the checkpoint names none that exists."""
        if not self._resume_id:
            return None
        try:
            run = self.client.get_run(self._resume_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
            return None
        self._epochs_logged = int(run.data.tags.get(EPOCHS_LOGGED, 0))
        self._news = run.info.status != "FINISHED"
        self.client.update_run(run.info.run_id, status="RUNNING")
        return run

    def _created(self) -> Run:
        self._epochs_logged, self._news = 0, True
        tags = {"git_commit": git_commit(), **source_tags(self.tags.get("bundle")), **self.tags}
        if self._resume_id:
            tags["resumed_from"] = self._resume_id
        seed = self.tags.get("seed")
        name = unique_run_name(self.prefix, self.tags.get("method"), seed and f"seed{seed}")
        return self.client.create_run(self.experiment.experiment_id, run_name=name, tags=tags)

    def _log_metrics(self, values: Mapping[str, float], epoch: int) -> None:
        now = int(time.time() * 1000)  # ms
        points = [Metric(name, value, now, epoch) for name, value in values.items()]
        for first in range(0, len(points), METRICS_AT_ONCE):
            self.client.log_batch(self.run_id, metrics=points[first : first + METRICS_AT_ONCE])

    def _log_params(self, params: Mapping[str, object]) -> None:
        """Log what the run does not have yet; MLflow refuses to change a parameter."""
        known = self.client.get_run(self.run_id).data.params
        named = {server_name(key): _short(value) for key, value in params.items() if value is not None}
        new = [Param(key, value) for key, value in named.items() if key not in known]
        for first in range(0, len(new), PARAMS_AT_ONCE):
            self.client.log_batch(self.run_id, params=new[first : first + PARAMS_AT_ONCE])

    def _log_config(self) -> None:
        text = self.config() if self.config is not None else None
        resumed = self.run_id == self._resume_id
        name = f"resumed-after-epoch-{self._epochs_logged}" if resumed else "executed"
        if text:
            self.client.log_text(self.run_id, text, f"config/{name}.yaml")

    def _store_model(self, network: torch.nn.Module, example: NDArray[np.float32]) -> None:
        logged = log_model(self.client, self.cur_run, network, example)
        if self.registered_model is None:
            return
        tags = {key: self.tags[key] for key in VERSION_TAGS if key in self.tags} | {"run_id": self.run_id}
        register_model(self.client, logged, name=self.registered_model, alias=self.alias, tags=tags)


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _raise(engine: Engine, error: BaseException) -> None:  # noqa: ARG001
    raise error
