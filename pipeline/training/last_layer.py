"""Deep feature reweighting: the last layer of a trained network, fitted anew to balanced held-out cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from torch.utils.data.distributed import DistributedSampler

from pipeline.files import atomic_path
from pipeline.training.checkpoint import build_network, load_checkpoint
from pipeline.training.networks import Classifier
from pipeline.training.processes import first_process_only
from pipeline.training.randomness import generators_kept

Kind = Literal["none", "dfr"]

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
FOLDS = 5


@dataclass(frozen=True)
class LastLayer:
    """How a last layer was fitted.

    Attributes:
        strength: of the penalty, chosen.
        worst_group_accuracy: of each strength tried, over cases that were left out of the fit.
        cases: held-out cases.
        cells: groups x labels that occur among them; each has the same weight.
    """

    strength: float
    worst_group_accuracy: dict[float, float]
    cases: int
    cells: int


def retrain_last_layer(
    network: Classifier,
    images: Iterable[Mapping[str, Any]],
    *,
    seed: int,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
) -> LastLayer:
    r"""Replace the weights of ``network.head`` by a logistic regression on held-out cases, balanced by group and label.

    A network that relies on a shortcut has mostly learnt the other features, too; the last layer is where it prefers
    the shortcut. Each cell of group x label weighs the same, :math:`1 / n_\text{cell}` per case, so that a label that
    goes with a scanner among the held-out cases counts for nothing. With groups ``[vendor, label]`` the cells are the
    groups. Cases whose group does not occur in training (group -1) form one group of their own.

    Features are standardised for the fit, and the scaling is folded into weights and bias. The strength of the
    penalty :math:`\lambda \|w\|^2 / 2` is the one whose predictions for cases of left-out patients are best in the
    worst group; of equals, the strongest. The source's penalty is :math:`\ell_1`; this one has a single optimum, which
    does not hang on a solver's randomness.

    Args:
        network: trained; changed in place and left in evaluation mode.
        images: batches of held-out cases, with ``image``, ``label``, ``group`` and ``patient_id``.
        seed: of the folds.
        strengths: values of :math:`\lambda` to choose from, positive.
        folds: parts into which patients are divided, with the labels spread over all of them.

    Returns:
        What was chosen, and from what.

    Raises:
        ValueError: if a class has fewer held-out patients than there are folds, or a case has no label.

    Source: Kirichenko, Izmailov & Wilson 2023, arXiv:2204.02937.
    """
    features, labels, groups, patients = _held_out(network, images)
    _check_patients(labels, patients, classes=network.head.out_features, folds=folds)
    cells = groups * network.head.out_features + labels
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(features, labels, patients)
    left_out = {strength: np.zeros_like(labels) for strength in strengths}
    for fit, judge in splits:
        for strength, predicted in left_out.items():
            predicted[judge] = _regression(features[fit], labels[fit], cells[fit], strength).predict(features[judge])
    worst = {strength: _worst_accuracy(predicted == labels, groups) for strength, predicted in left_out.items()}
    best = max(worst, key=lambda strength: (worst[strength], strength))
    _replace_head(network, _regression(features, labels, cells, best))
    return LastLayer(best, worst, cases=len(labels), cells=len(np.unique(cells)))


class LastLayerRetraining:
    """Retrain the last layer of a ``model.pt``, once, when training has come to its end.

    Attach it before whatever logs or registers the model. In several processes the first one does it and the others
    wait.

    Args:
        checkpoint: the ``model.pt``, replaced; ``last_layer_fit`` in it tells how the layer was fitted.
        batches: of every held-out case, as `retrain_last_layer` takes them; not dealt out to processes.
        kind: ``dfr``, or ``none`` to leave the model as it is.
        device: on which features are computed.
        seed: of the folds.
        folds: see `retrain_last_layer`.

    Raises:
        ValueError: if ``kind`` is unknown, or ``batches`` are only this process's share.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        batches: Iterable[Mapping[str, Any]],
        *,
        kind: Kind,
        device: torch.device | str,
        seed: int,
        folds: int = FOLDS,
    ) -> None:
        if kind not in get_args(Kind):
            raise ValueError(f"last_layer must be one of {get_args(Kind)}, got {kind!r}")
        if isinstance(getattr(batches, "sampler", None), DistributedSampler):
            raise ValueError(
                "the last layer is fitted to every held-out case, got a loader that deals them out to processes; "
                "give one without a distributed sampler"
            )
        self.checkpoint = Path(checkpoint)
        self.batches = batches
        self.kind = kind
        self.device = torch.device(device)
        self.seed = seed
        self.folds = folds

    def attach(self, trainer: Engine) -> None:
        """Check the held-out cases before the first epoch, and run when training has come to its end."""
        if self.kind != "none":
            trainer.add_event_handler(Events.STARTED, self.check)
            trainer.add_event_handler(Events.COMPLETED, self.run)

    def check(self, trainer: Engine) -> None:
        """Refuse, before any training, what `retrain_last_layer` would refuse after it.

        Args:
            trainer: its ``network`` has the classes.

        Raises:
            ValueError: if a class has fewer held-out patients than there are folds, or a case has no label.
        """
        network: Any = trainer.network  # type: ignore[attr-defined]
        head = getattr(network, "module", network).head  # inside DistributedDataParallel, the network inside
        with generators_kept():  # a loader draws a seed
            known = [(np.asarray(batch["label"]), np.asarray(batch["patient_id"])) for batch in self.batches]
        labels, patients = (np.concatenate(values) for values in zip(*known, strict=True))
        _check_patients(labels, patients, classes=head.out_features, folds=self.folds)

    def run(self) -> None:
        """Retrain it, or say that this was done before."""
        if self.kind == "none":
            return
        first_process_only(self._retrain)

    def _retrain(self) -> None:
        state = load_checkpoint(self.checkpoint)
        if "last_layer_fit" in state:
            print(f"the last layer was retrained before: {self.checkpoint}")
            return
        network = build_network(state).to(self.device)
        fitted = asdict(retrain_last_layer(network, self.batches, seed=self.seed, folds=self.folds))
        state |= {"model": network.cpu().state_dict(), "last_layer": self.kind, "last_layer_fit": fitted}
        with atomic_path(self.checkpoint) as temporary:
            torch.save(state, temporary)


def _held_out(
    network: Classifier, images: Iterable[Mapping[str, Any]]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.str_]]:
    """Features ``(N, F)``, labels, groups and patients ``(N,)``."""
    network.eval()
    features, labels, groups, patients = [], [], [], []
    for batch in images:
        with torch.no_grad():
            found = network.features(batch["image"].to(network.head.weight.device))
        features.append(found.double().cpu().numpy())
        labels.append(np.asarray(batch["label"]))
        groups.append(np.asarray(batch["group"]))
        patients.append(np.asarray(batch["patient_id"]))
    return np.concatenate(features), np.concatenate(labels), np.concatenate(groups), np.concatenate(patients)


def _check_patients(labels: NDArray[np.int64], patients: NDArray[np.str_], *, classes: int, folds: int) -> None:
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels must be 0 to {classes - 1}, got {np.unique(labels).tolist()}; hold out labelled cases"
        )
    counts = {label: len(np.unique(patients[labels == label])) for label in range(classes)}
    few = {label: count for label, count in counts.items() if count < folds}
    if few:
        raise ValueError(
            f"every class needs a held-out patient for each of {folds} folds, but labels have so many: {few}; "
            "hold out more patients, or lower folds"
        )


def _regression(
    features: NDArray[np.float64], labels: NDArray[np.int64], cells: NDArray[np.int64], strength: float
) -> Pipeline:
    """Fit, every cell weighing the same and a case 1 in the mean."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / strength, max_iter=10_000))
    return model.fit(features, labels, logisticregression__sample_weight=compute_sample_weight("balanced", cells))


def _worst_accuracy(correct: NDArray[np.bool_], groups: NDArray[np.int64]) -> float:
    return min(float(correct[groups == group].mean()) for group in np.unique(groups))


@torch.no_grad()
def _replace_head(network: Classifier, model: Pipeline) -> None:
    """Copy the regression into the head, scaling included; of two classes, each gets half of the difference."""
    scaler, regression = model[0], model[-1]
    coefficients, intercepts = regression.coef_, regression.intercept_
    if network.head.out_features == 2:
        coefficients, intercepts = (np.concatenate([-part / 2, part / 2]) for part in (coefficients, intercepts))
    weight = coefficients / scaler.scale_
    network.head.weight.copy_(torch.from_numpy(weight))
    network.head.bias.copy_(torch.from_numpy(intercepts - weight @ scaler.mean_))
