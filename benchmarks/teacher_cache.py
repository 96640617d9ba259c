"""What an epoch of distillation from the teacher cache costs, against an epoch of training without a teacher.

Both train the default student with the bundle's trainer and objective on the same augmented views, in the same order;
the one also looks up a teacher's logits and compares itself with them. Epochs of the two alternate, so that a drift of
the machine's speed hits both. Rendering the views and asking the teacher come before, once, and are not counted.

    python -m benchmarks.teacher_cache --cases 256 --epochs 20
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader
from torch import Tensor

from pipeline.training.augmentation import training_augmentation
from pipeline.training.networks import Classifier
from pipeline.training.objective import DistillationObjective
from pipeline.training.teacher_cache import teacher_logits
from pipeline.training.trainer import DistillationTrainer
from pipeline.training.views import AugmentedViews
from transforms.dictionary import LoadPreparedd
from transforms.files import write_prepared
from transforms.recipe import StudentInput

VENDORS = ("Siemens", "Philips", "GE", "Canon")
CLASSES = ("NOR", "HCM", "DCM")
RECIPE = StudentInput()
CHANNELS = int(np.prod(RECIPE.shape[:2]))
VIEWS = 2
TARGET = 1.05


def main() -> None:
    """Measure, print seconds per epoch and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=256, help="training studies")
    parser.add_argument("--epochs", type=int, default=20, help="counted epochs of each, after one that warms up")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        distilled, plain = measure(Path(folder), arguments.cases, arguments.epochs)
    print(f"{arguments.cases} studies, {arguments.epochs} alternating epochs, {torch.get_num_threads()} threads")
    for name, seconds in (("distillation from the cache", distilled), ("training without a teacher", plain)):
        print(f"{name}: median {statistics.median(seconds):.3f} s/epoch ({min(seconds):.3f} to {max(seconds):.3f})")
    ratio = statistics.median(distilled) / statistics.median(plain)
    print(f"ratio distillation / plain: median {ratio:.3f} (at most {TARGET})")


def measure(folder: Path, cases: int, epochs: int) -> tuple[list[float], list[float]]:
    """Seconds per epoch of distillation and of plain training, each ``epochs`` values."""
    data = views(folder, cases)
    write_teacher(folder / "model.pt")
    targets = teacher_logits(
        [folder / "model.pt"], data, recipe_digest=RECIPE.digest, classes=CLASSES, folder=folder, device="cpu"
    )
    trainers = [trainer(data, targets), trainer(data, None)]
    seconds: list[list[float]] = [[], []]
    for epoch in range(1, epochs + 2):
        data.set_epoch(epoch)
        for each in (0, 1) if epoch % 2 else (1, 0):
            seconds[each].append(run_epoch(trainers[each], epoch))
    return seconds[0][1:], seconds[1][1:]


def run_epoch(one: DistillationTrainer, epoch: int) -> float:
    """Train up to the end of this epoch; seconds."""
    torch.manual_seed(epoch)
    one.state.max_epochs = epoch
    start = time.perf_counter()
    one.run()
    return time.perf_counter() - start


def trainer(data: AugmentedViews, targets: Tensor | None) -> DistillationTrainer:
    """The bundle's trainer without its handlers, which are alike with and without a teacher."""
    torch.manual_seed(0)
    student = Classifier(classes=len(CLASSES), channels=CHANNELS)
    return DistillationTrainer(
        max_epochs=1,
        device=torch.device("cpu"),
        train_data_loader=DataLoader(data, batch_size=32, shuffle=True),
        network=student,
        targets=targets,
        objective=DistillationObjective(VENDORS, [len(data) // len(VENDORS)] * len(VENDORS), weighting="cases"),
        optimizer=torch.optim.AdamW(student.parameters(), lr=0.003, weight_decay=0.05),
        decollate=False,
    )


def views(folder: Path, cases: int) -> AugmentedViews:
    """Augmented views of prepared studies of noise, in the default recipe."""
    generator = np.random.default_rng(0)
    items: list[dict[str, Any]] = []
    for number in range(cases):
        path = folder / f"case{number:04}.npz"
        image = generator.standard_normal(RECIPE.shape, dtype=np.float32)
        write_prepared(path, image, {"recipe_digest": RECIPE.digest})
        items.append({"image": str(path), "case_id": path.stem, "label": number % 3, "group": number % 4})
    return AugmentedViews(
        items,
        LoadPreparedd("image", RECIPE.digest),
        training_augmentation(),
        views=VIEWS,
        seed=0,
        folder=folder,
        identity={"recipe_digest": RECIPE.digest},
    )


def write_teacher(path: Path) -> None:
    """An untrained teacher, of the student's size: what it says, and how long it takes, does not count here."""
    network = Classifier(classes=len(CLASSES), channels=CHANNELS)
    record = {"classes": list(CLASSES), "recipe_digest": RECIPE.digest}
    torch.save({"model": network.state_dict(), "network": network.settings, **record}, path)


if __name__ == "__main__":
    main()
