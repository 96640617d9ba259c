"""The whole way on a synthetic cohort: every step is the command that a user would type."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bundles import bundle_folders
from pipeline.files import atomic_path

CLASSES = ("NOR", "HCM", "DCM")
NOTE = "Synthetic hearts on simulated scanners: this shows that the pipeline runs, not how a model serves patients."
MARGIN = 0.05  # of accuracy and AUC, that a student may lie below the teacher


@dataclass
class Demo:
    """Steps that fill a folder, each skipped while its output is newer than its inputs.

    Args:
        out: folder to fill.
        epochs: of every training; the bundles' own if ``None``.
        seed: of everything.
    """

    out: Path
    epochs: int | None
    seed: int
    count: int
    done: int = field(default=0, init=False)

    def step(self, title: str, output: Path | None, inputs: Sequence[Path], work: Callable[[], object]) -> None:
        """Do ``work`` unless ``output`` is there and newer than ``inputs``; say which and how long it took.

        Work without an ``output`` is always called, and skips by itself what is there.
        """
        self.done += 1
        head = f"[{self.done}/{self.count}] {title}"
        if output and output.is_file() and all(output.stat().st_mtime >= path.stat().st_mtime for path in inputs):
            print(f"{head}: already there ({output})", flush=True)
            return
        print(f"{head} ...", flush=True)
        start = time.monotonic()
        work()
        print(f"{head}: {time.monotonic() - start:.0f} s", flush=True)

    def bundle(self, name: str, configs: Sequence[str], overrides: Mapping[str, object]) -> None:
        """Run a bundle in a process of its own and show its command.

        Raises:
            RuntimeError: if it fails; its own message stands above.
        """
        folder = bundle_folders()[name] / "configs"
        files = [str(folder / config) for config in configs]
        config_file = files[0] if len(files) == 1 else str(files).replace(" ", "")
        options = [text for key, value in overrides.items() for text in (f"--{key}", str(value))]
        command = ["-m", "monai.bundle", "run", "--config_file", config_file, *options]
        print("  python " + shlex.join(command), flush=True)
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        if subprocess.run([sys.executable, *command], env=environment, check=False).returncode != 0:
            raise RuntimeError(
                f"the bundle {name} stopped with an error, printed above; mend it and run the demo again"
            )


def run_demo(out: str | Path, *, studies: int = 272, epochs: int | None = None, seed: int = 0) -> None:
    """Phantom cohort, datalist, preprocessing, teacher, two students, evaluation, audit.

    Args:
        out: folder to fill: ``cohort/ datalist.json prepared/ teacher/ student/ predictions.csv mlflow.db report/``.
        studies: training studies of the cohort.
        epochs: of every training; the bundles' own if ``None``.
        seed: of the cohort, the split and the trainings.

    Raises:
        ValueError: if the folder holds a demo with other settings.
    """
    out = Path(out).resolve()
    _same_settings(out, {"studies": studies, "epochs": epochs, "seed": seed})
    start = time.monotonic()
    demo = Demo(out, epochs, seed, count=9)
    datalist = _cohort(demo, studies)
    prepared = out / "prepared" / "datalist.json"
    demo.step(
        "preprocessing",
        prepared,
        [datalist],
        lambda: demo.bundle(
            "cardiac_cine_preprocessing",
            ["preprocess.yaml"],
            {"datalist": datalist, "output_dir": prepared.parent},
        ),
    )
    teacher = out / "teacher"
    _train(demo, "cardiac_cine_teacher", ["train.yaml"], teacher, {})
    tables = [teacher / "predictions.csv"]
    for method, configs in (("kd", ["train.yaml", "methods/kd.yaml"]), ("groupdistil", ["train.yaml"])):
        folder = out / "student" / method
        _train(demo, "cardiac_cine_student", configs, folder, {"teacher_checkpoint": teacher / "model.pt"})
        tables.append(folder / "predictions.csv")
    _report(demo, tables)
    print(f"\ndone in {time.monotonic() - start:.0f} s. To open:")
    print(f"  {out / 'report' / 'audit.html'}    per-scanner audit, in any browser")
    print(f"  {out / 'predictions.csv'}    one row per study and model")
    print(f"  mlflow ui --backend-store-uri sqlite:///{out / 'mlflow.db'}    runs, by site and scanner")


def _cohort(demo: Demo, studies: int) -> Path:
    from pipeline.cohort.case import write_datalist
    from pipeline.cohort.mnms import import_mnms
    from pipeline.cohort.phantom import write_phantom
    from pipeline.cohort.summary import summary_lines

    cohort, datalist = demo.out / "cohort", demo.out / "datalist.json"
    truth = cohort / "phantom_truth.csv"
    demo.step("phantom cohort", None, [], lambda: write_phantom(cohort, studies=studies, seed=demo.seed))

    def list_cases() -> None:
        listed = import_mnms(cohort, classes=CLASSES, group_by=("vendor",), split="folders", seed=demo.seed)
        write_datalist(listed, datalist)
        print("\n".join(summary_lines(listed)))

    demo.step("datalist", datalist, [truth], list_cases)
    return datalist


def _train(demo: Demo, bundle: str, configs: Sequence[str], folder: Path, options: Mapping[str, object]) -> None:
    """Train one model and let it read the test part."""
    common = {
        "dataset_dir": demo.out / "prepared",
        "output_dir": folder,
        "mlflow_uri": f"sqlite:///{demo.out / 'mlflow.db'}",
        "seed": demo.seed,
        **options,
        **({"num_epochs": demo.epochs} if demo.epochs else {}),
    }
    inputs = [demo.out / "prepared" / "datalist.json", *(Path(str(path)) for path in options.values())]
    name = folder.name if folder.name == "teacher" else f"student, {folder.name}"
    done = folder / "trained"

    def train() -> None:
        demo.bundle(bundle, configs, common)
        done.touch()

    demo.step(f"train {name}", done, inputs, train)
    evaluate = [configs[0], "evaluate.yaml"]
    predictions = folder / "predictions.csv"
    demo.step(f"evaluate {name}", predictions, [done], lambda: demo.bundle(bundle, evaluate, common))


def _report(demo: Demo, tables: Sequence[Path]) -> None:
    from pipeline.audit.assessment import assess, choose_reference
    from pipeline.audit.plan import Plan
    from pipeline.audit.plan_file import write_plan
    from pipeline.audit.report import write_report
    from pipeline.audit.tables import console_table
    from pipeline.tracking.predictions import read_predictions, write_predictions

    print("audit ...", flush=True)
    frame, report = read_predictions(tables), demo.out / "report"
    write_predictions(frame, demo.out / "predictions.csv")
    plan = Plan(group_by=("vendor",), reference_model=choose_reference(frame["model"].tolist()), margin=MARGIN)
    audit = assess(frame, plan, progress=True)
    write_report(audit, report, title=None, note=NOTE)
    write_plan(plan, report / "plan.yaml")
    print(console_table(audit))


def _same_settings(out: Path, settings: Mapping[str, int | None]) -> None:
    path = out / "demo.json"
    if path.is_file() and (before := json.loads(path.read_text())) != settings:
        raise ValueError(
            f"{out} holds a demo made with {before}, not {dict(settings)}; choose another folder or remove it"
        )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings))
