"""What an epoch of GroupDistil costs through the bundle, against a bare PyTorch loop in the same run.

Both train the default student under the default teacher on the same augmented views of the same prepared studies; what
the teacher says of each view was computed before. The bundle's epoch is everything from one epoch to the next: engine,
group weights, schedule, checkpoint and MLflow; validation, which the bare loop has none of, is left to the last epoch,
which does not count. The bare loop is written below. Epochs of the two alternate, so that a drift of the machine's
speed hits both.

    python -m benchmarks.training_step --cases 192 --epochs 12
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.data import DataLoader
from torch import Tensor
from torch.nn import functional

from pipeline.bundles import bundle_folders
from pipeline.cohort.case import Case, Datalist, write_datalist
from pipeline.training.networks import Classifier
from transforms.files import write_prepared
from transforms.recipe import StudentInput

VENDORS = ("Siemens", "Philips", "GE", "Canon")
CLASSES = ("NOR", "HCM", "DCM")
TEACHER = [64, 128, 256, 512]
TARGET = 1.15


def main() -> None:
    """Measure, print seconds per epoch and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=192, help="training studies")
    parser.add_argument("--epochs", type=int, default=12, help="counted epochs of each, after one that warms up")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        bundle, bare = measure(Path(folder), arguments.cases, arguments.epochs)
    pairs = [through / alone for through, alone in zip(bundle, bare, strict=True)]
    print(f"{arguments.cases} studies, {arguments.epochs} alternating epochs, {torch.get_num_threads()} threads")
    for name, seconds in (("GroupDistil through the bundle", bundle), ("bare PyTorch loop", bare)):
        print(f"{name}: median {statistics.median(seconds):.3f} s/epoch ({min(seconds):.3f} to {max(seconds):.3f})")
    print(f"ratio bundle / bare: median {statistics.median(pairs):.3f} (at most {TARGET})")


def measure(folder: Path, cases: int, epochs: int) -> tuple[list[float], list[float]]:
    """Seconds per epoch through the bundle and bare, each ``epochs`` values."""
    write_cohort(folder, cases)
    write_teacher(folder / "teacher.pt")
    logging.disable(logging.WARNING)
    workflow = ConfigWorkflow(
        config_file=str(bundle_folders()["cardiac_cine_student"] / "configs" / "train.yaml"),
        workflow_type="train",
        logging_file=False,
        dataset_dir=str(folder),
        output_dir=str(folder / "student"),
        teacher_checkpoint=str(folder / "teacher.pt"),
        num_epochs=epochs + 2,
        val_interval=epochs + 2,
        registered_model=None,
    )
    workflow.initialize()
    get = workflow.parser.get_parsed_content
    weights = get("objective").group_weights.weights.clone()
    bare = BareLoop(get("train#dataloader").dataset, get("teachers").targets[0], weights)
    trainer = get("train#trainer")
    through: list[float] = []
    alone: list[float] = []
    start = [0.0]

    def epoch_starts() -> None:
        start[0] = time.perf_counter()

    def epoch_is_over() -> None:
        through.append(time.perf_counter() - start[0])
        alone.append(bare.epoch())

    def count() -> None:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, epoch_is_over)  # behind checkpoint and MLflow

    trainer.add_event_handler(Events.EPOCH_STARTED(once=1), count)
    trainer.add_event_handler(Events.EPOCH_STARTED, epoch_starts)
    workflow.run()
    return through[1:-1], alone[1:-1]


class BareLoop:
    """GroupDistil in plain PyTorch: no engine, no handlers, no checkpoint, no tracking."""

    def __init__(self, dataset: Any, targets: Tensor, weights: Tensor) -> None:  # noqa: ANN401
        self.loader = DataLoader(dataset, batch_size=32, shuffle=True)
        self.student = Classifier(classes=len(CLASSES), channels=2 * StudentInput().slices)
        self.targets = targets
        self.weights = weights
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=0.003, weight_decay=0.05)

    def epoch(self) -> float:
        """Train for one epoch; seconds."""
        start = time.perf_counter()
        self.student.train()
        for batch in self.loader:
            taught = self.targets[batch["view"], batch["index"]]
            self.step(batch["image"], taught, batch["label"], batch["group"])
        return time.perf_counter() - start

    def step(self, images: Tensor, taught: Tensor, labels: Tensor, groups: Tensor) -> None:
        """One optimiser step on one batch."""
        self.optimizer.zero_grad()
        student = self.student(images)
        teacher = functional.log_softmax(taught / 4, dim=1)
        kd = 16 * (teacher.exp() * (teacher - functional.log_softmax(student / 4, dim=1))).sum(dim=1)
        losses = 0.1 * functional.cross_entropy(student, labels, reduction="none") + 0.9 * kd
        present = groups.unique()
        means = torch.stack([losses[groups == group].mean() for group in present])
        self.weights[present] *= torch.exp(0.05 * means.detach())
        self.weights /= self.weights.sum()
        (self.weights[present] * means).sum().backward()
        self.optimizer.step()


def write_cohort(folder: Path, cases: int) -> None:
    """Prepared studies of noise, in the default recipe, with every vendor and class."""
    recipe = StudentInput()
    generator = np.random.default_rng(0)
    sections: dict[str, list[Case]] = {"training": [], "validation": [], "test": []}
    (folder / "studies").mkdir(parents=True)
    for number in range(cases + 24):
        path = folder / "studies" / f"case{number:04}.npz"
        image = generator.standard_normal(recipe.shape, dtype=np.float32)
        write_prepared(path, image, {"recipe_digest": recipe.digest})
        vendor, label = VENDORS[number % 4], CLASSES[number % 3]
        case = Case(
            case_id=f"case{number:04}",
            patient_id=f"case{number:04}",
            label=label,
            site="site",
            vendor=vendor,
            scanner=vendor,
            field_strength_t=1.5,
            image=path,
            ed=0,
            es=1,
        )
        sections["training" if number < cases else "validation"].append(case)
    listed = Datalist(
        classes=CLASSES,
        source="noise",
        group_by=("vendor",),
        sections={name: tuple(listed) for name, listed in sections.items()},
        created_with="benchmarks.training_step",
        recipe=recipe.to_dict(),
        recipe_digest=recipe.digest,
    )
    write_datalist(listed, folder / "datalist.json")


def write_teacher(path: Path) -> None:
    """An untrained teacher: its speed is that of a trained one."""
    network = Classifier(classes=len(CLASSES), channels=2 * StudentInput().slices, widths=TEACHER)
    record = {"classes": list(CLASSES), "recipe": StudentInput().to_dict(), "recipe_digest": StudentInput().digest}
    torch.save({"model": network.state_dict(), "network": network.settings, "mlflow_run_id": "none", **record}, path)


if __name__ == "__main__":
    main()
