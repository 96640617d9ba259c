"""A trained network in MLflow's model registry, with signature, alias and lineage.

Only the client is used: MLflow's fluent interface would set a tracking URI, and an environment variable, for the
whole process.
"""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import mlflow.pytorch
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from numpy.typing import NDArray
from torch.nn.parallel import DistributedDataParallel

from pipeline.tracking.mlflow_store import quiet

ARTIFACT = "model"


def check_registration(name: str | None, alias: str) -> None:
    """Refuse names that the registry would refuse only after training.

    Raises:
        ValueError: if the model's name has ``/`` or ``:``, or the alias is reserved or not a plain word.
    """
    if name is not None and (not name.strip() or re.search(r"[/:]", name) or set(name) == {"."}):
        raise ValueError(f"a registered model's name must not be empty nor have '/' or ':'; got {name!r}; rename it")
    if not re.fullmatch(r"[\w-]+", alias) or re.fullmatch(r"latest|v\d+", alias, flags=re.IGNORECASE):
        raise ValueError(
            f"an alias must be one word of letters, digits, '_' and '-', and neither 'latest' nor like 'v1'; "
            f"got {alias!r}; use e.g. 'candidate'"
        )


def log_model(client: MlflowClient, run: Run, network: torch.nn.Module, example: NDArray[np.float32]) -> LoggedModel:
    """Store a network as a traced graph that needs none of our code to be loaded and takes any batch size.

    Args:
        client: of the server that has the run.
        run: the run that trained it.
        network: left as it is; a copy goes to the CPU and into evaluation mode.
        example: ``(B, phases, slices, rows, cols)``, or whatever the network takes; its dtype becomes the signature's.

    Returns:
        The logged model; ``models:/<model_id>`` is its address.
    """
    plain = network.module if isinstance(network, DistributedDataParallel) else network
    model = client.create_logged_model(run.info.experiment_id, ARTIFACT, source_run_id=run.info.run_id)
    try:
        with quiet(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ARTIFACT
            mlflow.pytorch.save_model(
                copy.deepcopy(plain).cpu().eval(),
                str(path),
                mlflow_model=Model(
                    artifact_path=model.artifact_location,
                    model_uuid=model.model_id,
                    run_id=run.info.run_id,
                    model_id=model.model_id,
                ),
                input_example=_two_cases(example),
                serialization_format="pt2",
                pip_requirements=_requirements(),  # found out by itself, MLflow would take 10 to 20 s
            )
            client.log_model_artifacts(model.model_id, str(path))
    except BaseException:
        client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
        raise
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def register_model(client: MlflowClient, model: LoggedModel, *, name: str, alias: str, tags: Mapping[str, str]) -> str:
    """Make a logged model the newest version of a registered one and point the alias to it.

    Returns:
        The version, as in ``models:/<name>/<version>``.
    """
    with quiet():
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # by place, as MLflow would look for 'models:/<id>' on the process's server and not on the client's
        made = client.create_model_version(
            name, model.artifact_location, run_id=model.source_run_id, model_id=model.model_id, tags=dict(tags)
        )
        client.set_registered_model_alias(name, alias, made.version)
    return str(made.version)


def _two_cases(example: NDArray[np.float32]) -> NDArray[np.float32]:
    """A batch of one would be traced as the only batch size there is."""
    return np.concatenate([example, example]) if len(example) == 1 else np.asarray(example)


def _requirements() -> list[str]:
    """Packages that reload the graph, without local version labels, which no index has."""
    return [f"{name}=={version(name).split('+')[0]}" for name in ("mlflow", "torch", "numpy")]
