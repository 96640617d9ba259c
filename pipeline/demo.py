"""The whole way on a synthetic cohort: every step is the command that a user would type."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bundles import bundle_folders
from pipeline.files import atomic_path

if TYPE_CHECKING:
    from pipeline.cohort.case import Datalist

CLASSES = ("NOR", "HCM", "DCM")
NOTE = "Synthetic hearts on simulated scanners: this shows that the pipeline runs, not how a model serves patients."
TO_EXPORT, TO_READ = ("onnx", "onnxscript", "onnxruntime"), ("onnxruntime", "pydicom", "highdicom")
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

    def command(self, *words: object) -> None:
        """Run ``evenbeat`` in a process of its own and show the command.

        Raises:
            RuntimeError: if it fails; its own message stands above.
        """
        said = [str(word) for word in words]
        print("  evenbeat " + shlex.join(said), flush=True)
        if subprocess.run([sys.executable, "-m", "pipeline.cli", *said], check=False).returncode != 0:
            raise RuntimeError(
                f"evenbeat {said[0]} stopped with an error, printed above; mend it and run the demo again"
            )

    def lacks(self, title: str, libraries: Sequence[str], extra: str) -> bool:
        """Whether a step's libraries are missing; it is then counted and left out, with a word on what it needs."""
        missing = [name for name in libraries if importlib.util.find_spec(name) is None]
        if missing:
            self.done += 1
            needed = f"needs {', '.join(missing)}: pip install 'evenbeat[{extra}]'"
            print(f"[{self.done}/{self.count}] {title}: left out, {needed}", flush=True)
        return bool(missing)


def run_demo(out: str | Path, *, studies: int = 272, epochs: int | None = None, seed: int = 0) -> None:
    """Phantom cohort, datalist, preprocessing, teacher, two students, evaluation, audit, package, one study read.

    Args:
        out: folder to fill: ``cohort/ datalist.json prepared/ teacher/ student/ predictions.csv mlflow.db report/
            study/ reading/``.
        studies: training studies of the cohort.
        epochs: of every training; the bundles' own if ``None``.
        seed: of the cohort, the split and the trainings.

    Raises:
        ValueError: if the folder holds a demo with other settings.
    """
    from pipeline.cohort.case import read_datalist

    out = Path(out).resolve()
    _same_settings(out, {"studies": studies, "epochs": epochs, "seed": seed})
    start = time.monotonic()
    demo = Demo(out, epochs, seed, count=11)
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
    _train(demo, "cardiac_cine_teacher", _teacher_configs(read_datalist(datalist)), teacher, {})
    tables = [teacher / "predictions.csv"]
    for method, configs in (("kd", ["train.yaml", "methods/kd.yaml"]), ("groupdistil", ["train.yaml"])):
        folder = out / "student" / method
        _train(demo, "cardiac_cine_student", configs, folder, {"teacher_checkpoint": teacher / "model.pt"})
        tables.append(folder / "predictions.csv")
    _report(demo, tables)
    reading = _read_a_study(demo, _package(demo, out / "student" / "groupdistil"), datalist)
    print(f"\ndone in {time.monotonic() - start:.0f} s. To open:")
    print(f"  {out / 'report' / 'audit.html'}    per-scanner audit, in any browser")
    print(f"  {out / 'predictions.csv'}    one row per study and model")
    if reading is not None:
        print(f"  {reading / 'summary.png'}    what a hospital sees of one study; result.json beside it says the rest")
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


def _teacher_configs(datalist: Datalist) -> list[str]:
    """Of the teacher: its last layer is fitted anew to validation patients, where there are enough of them."""
    from pipeline.training.last_layer import FOLDS

    patients = Counter(
        label for label, _ in {(case.label, case.patient_id) for case in datalist.sections["validation"]}
    )
    fewest = min(patients[name] for name in datalist.classes)
    if fewest >= FOLDS:
        return ["train.yaml", "methods/dfr.yaml"]
    print(
        f"the teacher's last layer is not fitted anew: that takes {FOLDS} validation patients of a class, not {fewest}"
    )
    return ["train.yaml"]


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


def _package(demo: Demo, run: Path) -> Path | None:
    """The package of a student with the demo's audit; ``None`` without the libraries."""
    title, folder, audit = "package", demo.out / "student" / "package", demo.out / "report" / "audit.json"
    manifest = folder / "package.json"
    if demo.lacks(title, TO_EXPORT, "export"):
        return None
    demo.step(
        title,
        manifest if _holds(manifest, audit) else None,
        [run / "trained"],
        lambda: demo.command(
            "export", run, "-o", folder, "--audit", audit, "--dataset_dir", demo.out / "prepared", "--force"
        ),
    )
    return folder


def _holds(manifest: Path, audit: Path) -> bool:
    """Whether a package was made with this audit, which every run writes anew, mostly with the same bytes."""
    if not manifest.is_file():
        return False
    made_with = json.loads(manifest.read_text()).get("audit") or {}
    return bool(made_with.get("sha256") == hashlib.sha256(audit.read_bytes()).hexdigest())


def _read_a_study(demo: Demo, package: Path | None, datalist: Path) -> Path | None:
    """Read the first test study as a hospital would; the folder of results, or ``None`` where it cannot be done."""
    title, study, reading = "one study, as a hospital reads it", demo.out / "study", demo.out / "reading"
    if demo.lacks(title, TO_READ, "hospital"):
        return None
    if package is None:
        demo.done += 1
        print(f"[{demo.done}/{demo.count}] {title}: left out, there is no package", flush=True)
        return None

    def read() -> None:
        _study_without_truth(datalist, study)
        demo.command("predict", "--package", package, "--in", study, "--out", reading)

    demo.step(title, reading / "result.json", [package / "package.json"], read)
    return reading


def _study_without_truth(datalist: Path, folder: Path) -> None:
    """Copy the first test study's cine and write what a header would tell of its scanner."""
    from pipeline.cohort.case import read_datalist

    case = read_datalist(datalist).sections["test"][0]
    assert case.image is not None  # noqa: S101  # M&Ms' studies are cines
    folder.mkdir(exist_ok=True)
    with atomic_path(folder / "cine.nii.gz") as temporary:
        shutil.copyfile(case.image, temporary)
    with atomic_path(folder / "cine.json") as temporary:
        temporary.write_text(json.dumps({"manufacturer": case.vendor, "field_strength": case.field_strength_t}))


def _same_settings(out: Path, settings: Mapping[str, int | None]) -> None:
    path = out / "demo.json"
    if path.is_file() and (before := json.loads(path.read_text())) != settings:
        raise ValueError(
            f"{out} holds a demo made with {before}, not {dict(settings)}; choose another folder or remove it"
        )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings))
