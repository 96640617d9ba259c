"""A student small enough to train in a second, with the prepared studies and the audit that belong to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from pipeline.audit.assessment import assess
from pipeline.audit.model_card import model_card
from pipeline.audit.plan import Plan
from pipeline.audit.records import as_json, fields
from pipeline.audit.report import as_csv
from pipeline.cohort.case import Case, Datalist, created_with, write_datalist
from pipeline.deployment.student import softmax
from pipeline.tracking.predictions import predictions_frame
from pipeline.training.checkpoint import load_network
from pipeline.training.networks import Classifier
from transforms.files import read_prepared, write_prepared
from transforms.recipe import StudentInput

RECIPE = StudentInput(rows=32, cols=32, slices=4)
CLASSES = ("NOR", "HCM", "DCM")
PATIENTS = {"Siemens": (24, 12), "GE": (12, 12), "Canon": (12, 3)}  # vendor -> patients in training and test
NAME = "student (groupdistil)"
STEPS = 60


@dataclass(frozen=True)
class SmallStudent:
    """Where everything lies."""

    run: Path
    prepared: Path
    audit: Path

    def images(self) -> NDArray[np.float32]:
        """Inputs of the test section, ``(27, 2, 4, 32, 32)``."""
        return np.stack([read_prepared(path)[0] for path in sorted((self.prepared / "studies").glob("*-test-*.npz"))])


def small_student(folder: Path, *, seed: int = 0, group_by: tuple[str, ...] = ("vendor", "site")) -> SmallStudent:
    """Prepare, train, audit.

    Args:
        folder: to fill.
        seed: of the weights that training starts with.
        group_by: of the audit.
    """
    prepared, run = folder / "prepared", folder / "run"
    datalist = _prepare(prepared)
    _train(run, datalist, seed)
    _audit(folder / "audit", run, datalist, group_by)
    return SmallStudent(run, prepared, folder / "audit")


def _prepare(folder: Path) -> Datalist:
    (folder / "studies").mkdir(parents=True)
    rng = np.random.default_rng(0)
    sections: dict[str, list[Case]] = {"training": [], "test": []}
    for vendor, counts in PATIENTS.items():
        for section, count in zip(sections, counts, strict=True):
            sections[section] += [_case(folder, rng, vendor, section, number) for number in range(count)]
    datalist = Datalist(
        classes=CLASSES,
        source="discs",
        group_by=("vendor",),
        sections={name: tuple(cases) for name, cases in sections.items()},
        created_with=created_with(),
        recipe=RECIPE.to_dict(),
        recipe_digest=RECIPE.digest,
    )
    write_datalist(datalist, folder / "datalist.json")
    return datalist


def _case(folder: Path, rng: np.random.Generator, vendor: str, section: str, number: int) -> Case:
    label, name = CLASSES[number % 3], f"{vendor}-{section}-{number}"
    path = folder / "studies" / f"{name}.npz"
    write_prepared(path, _disc(rng, label), {"recipe_digest": RECIPE.digest})
    return Case(name, f"patient-{name}", label, f"{vendor} hospital", vendor, vendor, image=path, ed=0, es=1)


def _disc(rng: np.random.Generator, label: str) -> NDArray[np.float32]:
    """A bright disc in noise; its radius [pixels] at ED and ES tells the class."""
    rows, cols = np.mgrid[: RECIPE.rows, : RECIPE.cols]
    distance = np.hypot(rows - RECIPE.rows / 2, cols - RECIPE.cols / 2)
    radii = {"NOR": (7, 4), "HCM": (4, 1), "DCM": (11, 10)}[label]
    phases = np.stack([distance < radius + rng.normal(0, 0.4) for radius in radii])
    image = phases[:, None] + rng.normal(0, 0.3, RECIPE.shape)
    return np.asarray((image - image.mean()) / image.std(), dtype=np.float32)


def _train(run: Path, datalist: Datalist, seed: int) -> None:
    cases = datalist.sections["training"]
    images = torch.from_numpy(np.stack([read_prepared(case.image or "")[0] for case in cases]))
    labels = torch.tensor([CLASSES.index(case.label) for case in cases])
    torch.manual_seed(seed)
    network = Classifier("resnet", classes=3, channels=8, widths=[4, 8, 8, 8])
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimiser.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimiser.step()
    run.mkdir()
    torch.save(
        {
            "model": network.state_dict(),
            "network": network.settings,
            "classes": list(CLASSES),
            "recipe": RECIPE.to_dict(),
            "recipe_digest": RECIPE.digest,
            "group_by": "vendor",
            "training_groups": {vendor: counts[0] for vendor, counts in sorted(PATIENTS.items())},
            "bundle": "cardiac_cine_student",
            "method": "groupdistil",
            "teacher_run_id": "teacher-1,teacher-2",
            "mlflow_run_id": "student-1",
        },
        run / "model.pt",
    )


def _audit(folder: Path, run: Path, datalist: Datalist, group_by: tuple[str, ...]) -> None:
    """Of this student, and of a constant as the reference, so that two models are in it; without the page."""
    network = load_network(run / "model.pt")
    cases = datalist.sections["test"]
    with torch.no_grad():
        logits = network(torch.from_numpy(np.stack([read_prepared(case.image or "")[0] for case in cases]))).numpy()
    records = [
        {name: getattr(case, name) for name in ("case_id", "patient_id", "label", "site", "vendor", "scanner")}
        for case in cases
    ]
    frame = predictions_frame(records, softmax(logits), CLASSES, split="test", model=NAME)
    constant = frame.assign(model="teacher (erm)", prob_NOR=0.4, prob_HCM=0.3, prob_DCM=0.3)
    plan = Plan(group_by=group_by, reference_model="teacher (erm)", replicates=100)
    audit = assess(pd.concat([frame, constant], ignore_index=True), plan)
    numbers = as_json(audit)
    folder.mkdir()
    (folder / "audit.json").write_text(json.dumps(numbers))
    (folder / "model_card.md").write_text(model_card(audit))
    (folder / "groups.csv").write_text(as_csv(numbers["groups"], fields("groups")))
