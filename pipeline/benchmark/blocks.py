"""A block of cells in one process: its cohort, the teachers that are needed, the students, each measured."""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.benchmark.bundle_runs import config_keys
from pipeline.benchmark.cells import Block, PlannedCell, Training
from pipeline.benchmark.plan import BUNDLES
from pipeline.benchmark.records import Cell
from pipeline.benchmark.results import Results
from pipeline.benchmark.tools import Tools
from pipeline.files import atomic_path

TRAINED = "trained.json"  # stands beside a model that is finished
MODEL, LAST = "model.pt", "last.pt"

Tell = Callable[[str, int], None]


@dataclass
class BlockRun:
    """Works on a block.

    Args:
        block: its cells are those that are not finished yet.
        folder: of the benchmark's work; models lie in ``models/<digest>``.
        results: takes the finished cells.
        mlflow_uri: where every training is recorded, in the experiment ``benchmark-<plan>``.
        tools: what does the work.
        tell: called with what is being done, and how many cells have been finished since the last call.
    """

    block: Block
    folder: Path
    results: Results
    mlflow_uri: str
    tools: Tools
    tell: Tell
    failed: dict[str, str] = field(default_factory=dict, init=False)

    def run(self) -> list[str]:
        """Work on all cells.

        Returns:
            One line for each cell that failed; the others are finished.
        """
        block, failures = self.block, []
        self.tell(f"{block.name}: cohort", 0)
        try:
            datalist = self.tools.build_cohort(
                block.cohorts, seed=block.seed, fold=block.fold, folds=block.folds, folder=self.folder
            )
        except Exception as error:  # one bad cohort must not end a night's run; it is named at the end
            traceback.print_exc()
            self.tell(block.name, len(block.cells))
            return [f"{block.name}, {cell.training.name}: its cohort, {_cause(error)}" for cell in block.cells]
        for cell in block.cells:
            try:
                self._finish(cell, datalist)
            except Exception as error:  # one bad cell must not end a night's run; it is named at the end
                traceback.print_exc()
                failures.append(f"{block.name}, {cell.training.name}: {_cause(error)}")
            self.tell(block.name, 1)
        shutil.rmtree(self._cache, ignore_errors=True)  # rendered views: hundreds of megabytes
        return failures

    @property
    def _cache(self) -> Path:
        return self.folder / "cache" / f"{self.block.plan}-{self.block.cohort_digest}"

    def _finish(self, planned: PlannedCell, datalist: Path) -> None:
        block, training = self.block, planned.training
        home, seconds = self._trained(training, datalist)
        self.tell(f"{block.name}: measuring {training.name}", 0)
        measured = self.tools.measure(home / MODEL, datalist, evaluate=block.evaluate)
        curves = self.tools.curves(home / MODEL, self.mlflow_uri) if block.curves else {}
        cell = Cell(
            plan=block.plan,
            cohort=block.cohorts.kind,
            dials=block.dials,
            seed=block.seed,
            fold=block.fold,
            model=training.name,
            role=training.role,
            config_digest=planned.config_digest,
            n_training=self._training_size(training, datalist),
            seconds=seconds,
            extra={**measured.extra, **({"curves": curves} if curves else {})},
            **measured.row,
        )
        self.results.append(cell, measured.held_out, measured.probabilities)

    def _training_size(self, training: Training, datalist: Path) -> int:
        overrides = {**training.overrides, "dataset_dir": str(datalist.parent)}
        return self.tools.training_size(BUNDLES[training.role], training.configs, overrides)

    def _trained(self, training: Training, datalist: Path) -> tuple[Path, float]:
        """Folder of a trained model, and CPU time of its training, or of its last part [s]; trains it if need be."""
        home = self.folder / "models" / training.digest
        if not (home / TRAINED).is_file():
            if training.digest in self.failed:
                raise RuntimeError(
                    f"{training.name} must be trained first, which failed: {self.failed[training.digest]}"
                )
            paths = self._paths(training, home, datalist)
            self.tell(f"{self.block.name}: training {training.name}", 0)
            try:
                self._train(training, home, paths)
            except Exception as error:
                self.failed[training.digest] = _cause(error)
                raise
        return home, float(json.loads((home / TRAINED).read_text(encoding="utf-8"))["seconds"])

    def _train(self, training: Training, home: Path, paths: Mapping[str, Any]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock"):  # a block of another plan may want the very same model
            if (home / TRAINED).is_file():
                return
            start = time.process_time()
            self.tools.run_bundle(BUNDLES[training.role], training.configs, {**training.overrides, **paths})
            seconds = time.process_time() - start
            (home / LAST).unlink(missing_ok=True)  # three times the model; nothing goes on from here
            with atomic_path(home / TRAINED) as temporary:
                temporary.write_text(json.dumps({"name": training.name, "seconds": seconds}), encoding="utf-8")

    def _paths(self, training: Training, home: Path, datalist: Path) -> dict[str, Any]:
        """Overrides that say where a training works; its teachers are trained first."""
        teachers = [str(self._trained(teacher, datalist)[0] / MODEL) for teacher in training.teachers]
        paths: dict[str, Any] = {
            "dataset_dir": str(datalist.parent),
            "output_dir": str(home),
            "mlflow_uri": self.mlflow_uri,
            "experiment": f"benchmark-{self.block.plan}",
            "registered_model": None,
            "tracker#model": None,  # model.pt is kept here; the registry is for models that may be used
            "tracker#run_name": f"{self.block.name} {training.name}",
        }
        if teachers:
            paths["teacher_checkpoints"] = teachers
        if training.biased is not None:
            paths["biased_checkpoint"] = str(self._trained(training.biased, datalist)[0] / MODEL)
        if training.start is not None:
            paths["start_checkpoint"] = str(self._trained(training.start, datalist)[0] / MODEL)
        if "cache_dir" in config_keys(BUNDLES[training.role], training.configs):
            paths["cache_dir"] = str(self._cache)
        return paths


def _cause(error: BaseException) -> str:
    """The first of the errors that led to this one: MONAI's say only which entry of a config they came from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"
