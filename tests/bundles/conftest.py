"""A cohort of prepared studies small enough to train on in seconds, and ways to run a bundle on it."""

from __future__ import annotations

import copy
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import monai
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow
from numpy.typing import NDArray

from pipeline.bundles import bundle_folders
from pipeline.cohort.case import Case, Datalist, created_with, read_datalist, write_datalist
from transforms.files import write_prepared
from transforms.recipe import StudentInput

ROOT = Path(__file__).parents[2]
RECIPE = StudentInput(rows=32, cols=32, slices=4)
CLASSES = ("NOR", "HCM", "DCM")
PATIENTS = {  # vendor -> patients in training, validation, test; Canon stays below min_group_size
    "Siemens": (9, 3, 3),
    "Philips": (6, 3, 3),
    "GE": (5, 3, 3),
    "Canon": (4, 3, 3),
}
SMALL: dict[str, Any] = {"widths": [4, 8, 8, 8], "batch_size": 8, "num_epochs": 2}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Give back what a bundle sets for its whole process: seeds, metadata switch, logging, a server's address."""
    root = logging.getLogger()
    handlers, level, tracked = list(root.handlers), root.level, monai.data.get_track_meta()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            monai.data.set_track_meta(tracked)
            monai.utils.set_determinism(seed=None)


@pytest.fixture(autouse=True)
def _undisturbed() -> Iterator[None]:
    with undisturbed():
        yield


@pytest.fixture(scope="module", autouse=True)
def _the_checkout_stays_as_it_is() -> Iterator[None]:
    """No run may leave a file in the bundles or beside them, those that git ignores included."""
    before = _files_of_runs()
    yield
    assert sorted(_files_of_runs() - before) == []


def _files_of_runs() -> set[Path]:
    names = ("bundles/**/*", "*.db", "*.pt", "*.csv", "eval", "models", "ml*", "prepared", "teacher", "student")
    return {path for name in names for path in ROOT.glob(name) if "__pycache__" not in path.parts}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a prepared cohort: 48 patients, three classes told apart by the size of a disc, four vendors."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "studies").mkdir()
    rng = np.random.default_rng(0)
    sections: dict[str, list[Case]] = {"training": [], "validation": [], "test": []}
    for vendor, counts in PATIENTS.items():
        for section, count in zip(sections, counts, strict=True):
            sections[section] += [_study(folder, rng, vendor, section, number) for number in range(count)]
    datalist = Datalist(
        classes=CLASSES,
        source="discs",
        group_by=("vendor",),
        sections={section: tuple(cases) for section, cases in sections.items()},
        created_with=created_with(),
        recipe=RECIPE.to_dict(),
        recipe_digest=RECIPE.digest,
    )
    write_datalist(datalist, folder / "datalist.json")
    return folder


@pytest.fixture(scope="session")
def unlabelled(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datalist of the same test studies, the first of them with its label, the others without."""
    path = tmp_path_factory.mktemp("unlabelled") / "datalist.json"
    known = read_datalist(prepared / "datalist.json")
    first, *others = known.sections["test"]
    test = (first, *(replace(case, label="") for case in others))
    write_datalist(replace(known, sections={"test": test}), path)
    return path


def _study(folder: Path, rng: np.random.Generator, vendor: str, section: str, number: int) -> Case:
    label, name = CLASSES[number % 3], f"{vendor}-{section}-{number}"
    path = folder / "studies" / f"{name}.npz"
    write_prepared(path, _disc(rng, label), {"recipe_digest": RECIPE.digest})
    return Case(
        case_id=name,
        patient_id=f"patient-{name}",
        label=label,
        site=f"{vendor} hospital",
        vendor=vendor,
        scanner=f"{vendor} 1.5 T",
        field_strength_t=1.5,
        image=path,
        ed=0,
        es=1,
    )


def _disc(rng: np.random.Generator, label: str) -> NDArray[np.float32]:
    """A bright disc in noise, ``RECIPE.shape``; its radius [pixels] at ED and ES tells the class."""
    rows, cols = np.mgrid[: RECIPE.rows, : RECIPE.cols]
    distance = np.hypot(rows - RECIPE.rows / 2, cols - RECIPE.cols / 2)
    radii = {"NOR": (7, 4), "HCM": (5, 2), "DCM": (11, 10)}[label]
    phases = np.stack([distance < radius + rng.normal(0, 0.5) for radius in radii])
    image = phases[:, None] + rng.normal(0, 0.4, RECIPE.shape)
    return np.asarray((image - image.mean()) / image.std(), dtype=np.float32)


InProcess = Callable[..., ConfigWorkflow]


@pytest.fixture(scope="session")
def workflow(prepared: Path) -> InProcess:
    """Run a bundle in this process; returns the finished workflow."""

    def run(bundle: str, configs: Sequence[str], kind: str = "train", **overrides: Any) -> ConfigWorkflow:
        folder = bundle_folders()[bundle] / "configs"
        files = [str(folder / name) for name in configs]
        options = {"dataset_dir": str(prepared), **copy.deepcopy(overrides)}
        made = ConfigWorkflow(files[0] if len(files) == 1 else files, workflow_type=kind, **options)
        made.initialize()
        assert made.check_properties() == []
        made.run()
        made.finalize()
        return made

    return run


@pytest.fixture(scope="session")
def trained_teacher(workflow: InProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small teacher, trained for two epochs: model.pt, last.pt, mlflow.db."""
    folder = tmp_path_factory.mktemp("teacher")
    with undisturbed():
        workflow("cardiac_cine_teacher", ["train.yaml"], output_dir=str(folder), **SMALL)
    return folder


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    """Overrides that make a training take seconds."""
    return dict(SMALL)


Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def launch(prepared: Path) -> Launch:
    """Start ``python -m monai.bundle run`` in a folder of the caller's, as a user would, one thread per process."""

    def start(
        bundle: str, configs: Sequence[str], cwd: Path, processes: int = 1, **overrides: Any
    ) -> subprocess.Popen[str]:
        folder = bundle_folders()[bundle] / "configs"
        files = [str(folder / name) for name in configs]
        options = {"config_file": files[0] if len(files) == 1 else str(files).replace(" ", "")}
        options |= {"dataset_dir": prepared, **overrides}
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [sys.executable, *(torchrun if processes > 1 else []), "-m", "monai.bundle", "run"]
        command += [text for key, value in options.items() for text in (f"--{key}", str(value).replace(" ", ""))]
        unset = {"MLFLOW_TRACKING_URI", "PYTHONPATH"}
        environment = {key: value for key, value in os.environ.items() if key not in unset} | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


@pytest.fixture(scope="session")
def finish() -> Callable[[subprocess.Popen[str]], None]:
    """Wait for a started run and ask that it ended well."""

    def wait(process: subprocess.Popen[str]) -> None:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, f"{process.args}\n{out[-3000:]}\n{err[-3000:]}"

    return wait
