"""What a finished model is worth: one reading of each section of its datalist."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.benchmark.answers import Answers, Items, Load, answers, compared, evenly, group_column, mismatched
from pipeline.benchmark.evaluate import ATTACKS, MISMATCHED, check_evaluate
from pipeline.benchmark.kinds import DEVELOPMENT_DATALIST
from pipeline.benchmark.records import FloatArray, HeldOut
from pipeline.benchmark.scores import group_accuracies, group_probe, held_out_scores
from pipeline.cohort.validation import nearest
from pipeline.deployment.onnx_file import onnx_model
from pipeline.deployment.package import INPUT
from pipeline.deployment.session import cpu_session
from pipeline.training.attacks import accuracy_under_attack
from pipeline.training.checkpoint import build_network, checked_model
from pipeline.training.data import Cohort
from pipeline.training.networks import Classifier, parameter_count
from transforms.dictionary import LoadPreparedd

WARM_UPS, TIMED = 5, 50  # passes


@dataclass(frozen=True)
class Measured:
    """What was measured of one model.

    Args:
        row: columns of ``results.csv``: ``parameters``, and all from ``train_accuracy`` to ``vendor_probe``.
        held_out: the test set, cases in the order of the datalist.
        probabilities: ``(n, C)``, of its cases.
        extra: for the column of that name: ``group_accuracy`` by name, the same of ``development`` patients, if there
            are any, and, where asked for, ``fgsm`` and ``pgd``
            (accuracy by eps) and ``latency_ms``.
    """

    row: dict[str, Any]
    held_out: HeldOut
    probabilities: FloatArray
    extra: dict[str, Any]


def measure(
    model_path: str | Path, datalist: str | Path, *, evaluate: Mapping[str, Any], device: torch.device | str = "cpu"
) -> Measured:
    """Measure a model on all sections of its datalist, images as they were prepared, without augmentation.

    Where ``development.json`` lies beside the datalist, the model is measured on its patients as well.

    A group is a vendor, or a site where no vendor is known (photographs); where the datalist groups by label as well,
    results are those of vendor x label, while ``minority`` and the probe keep to vendors. Labels are those of the
    datalist, also where training was given noisy ones.

    Args:
        model_path: ``model.pt``.
        datalist: prepared ``datalist.json``.
        evaluate: what to measure; any key may be left out.
            ``minority``: names of groups whose training studies give ``train_minority_accuracy``; or ``mismatched``,
            the default: the cells group x label with less than half of the training studies that they would have if
            group and label were independent. NaN where there is no such study.
            ``probe``: false leaves out ``vendor_probe``.
            ``attack``: lists of eps [standard deviations] under ``fgsm`` and ``pgd``; a number under ``cases`` limits
            them to that many test cases, from all groups and labels in their proportions.
            ``latency``: true takes the time of one study in onnxruntime [ms], the median of 50 passes on one thread
            of the CPU.
        device: where the network runs.

    Returns:
        Row, test set, probabilities and extra values.

    Raises:
        ValueError: if a key or a group of ``evaluate`` is not known, or the model was made for other inputs or classes.

    Source: of the linear probe, Alain & Bengio 2016, arXiv:1610.01644.
    """
    check_evaluate(evaluate)
    cohort = Cohort(datalist)
    network = build_network(checked_model(model_path, cohort.recipe_digest, cohort.classes)).to(device)
    reader = LoadPreparedd("image", cohort.recipe_digest)

    def load(items: Items) -> Tensor:
        images = [reader({"image": item["image"]})["image"] for item in items]
        return torch.as_tensor(np.stack(images), device=device)

    training, validation, test = (answers(network, cohort, part, load) for part in ("training", "validation", "test"))
    on_validation = held_out_scores(compared(validation.cases, cohort), validation.probabilities)
    held_out = compared(test.cases, cohort)
    row = {
        "parameters": parameter_count(network),
        **_on_training(training, evaluate.get("minority", MISMATCHED), cohort.known_groups[group_column(cohort)]),
        "validation_accuracy": on_validation["accuracy"],
        "validation_worst_accuracy": on_validation["worst_group_accuracy"],
        **held_out_scores(held_out, test.probabilities),
        "vendor_probe": _probe(test) if evaluate.get("probe", True) else math.nan,
    }
    extra: dict[str, Any] = {"group_accuracy": group_accuracies(held_out, test.probabilities)}
    beside = Path(datalist).with_name(DEVELOPMENT_DATALIST)
    if beside.is_file():
        further = Cohort(beside)
        development = answers(network, further, "test", load)
        extra["development"] = group_accuracies(compared(development.cases, further), development.probabilities)
    extra |= _under_attack(network, test, load, evaluate.get("attack", {}))
    if evaluate.get("latency", False):
        extra["latency_ms"] = latency_ms(network, load(test.items[:2]))
    return Measured(row, held_out, test.probabilities, extra)


def _on_training(training: Answers, minority: str | Sequence[str], known: Sequence[str]) -> dict[str, float]:
    if isinstance(minority, str):
        chosen = mismatched(training.cases)
    else:
        for name in minority:
            if name not in known:
                raise ValueError(f"evaluate: no group of the minority is called {name!r}; {nearest(name, known)}")
        chosen = np.isin(np.array(training.cases.groups)[training.cases.group_index], minority)
    return {
        "train_accuracy": float(training.right.mean()),
        "train_minority_accuracy": float(training.right[chosen].mean()) if chosen.any() else math.nan,
    }


def _probe(test: Answers) -> float:
    return group_probe(test.features, test.cases.group_index, test.cases.patients)


def _under_attack(
    network: nn.Module, test: Answers, load: Load, attack: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """Accuracy by eps, as text, of each attack that is asked for."""
    if not attack:
        return {}
    chosen = evenly(test.cases, attack.get("cases", len(test.items)))
    images = load([test.items[index] for index in chosen])
    labels = torch.as_tensor(test.cases.labels[chosen], device=images.device)
    found: dict[str, dict[str, float]] = {}
    for kind in ATTACKS:
        if kind in attack:
            curve = accuracy_under_attack(network, images, labels, attack=kind, eps_values=attack[kind])
            found[kind] = {f"{eps:g}": accuracy for eps, accuracy in curve.items()}
    return found


def latency_ms(network: Classifier, images: Tensor) -> float:
    """Median time of one study in onnxruntime, on one thread of the CPU.

    Args:
        network: in evaluation mode.
        images: ``(2, …, rows, cols)``, of which the first is read.
    """
    model = onnx_model(network.cpu(), images.cpu())
    session, image = cpu_session(model), {INPUT: images[:1].cpu().numpy()}
    times = []
    for _ in range(WARM_UPS + TIMED):
        start = time.perf_counter()
        session.run(None, image)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[WARM_UPS:]))
