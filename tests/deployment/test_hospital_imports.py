"""What a hospital runs imports none of what it does not install."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from tests.deployment.hospital_studies import write_nifti
from tests.deployment.tiny_package import tiny_package

ROOT = Path(__file__).parents[2]
MAKERS = {
    "answers",
    "card",
    "checkpoint_facts",
    "example_inputs",
    "export",
    "onnx_file",
    "package_audit",
    "package_folder",
    "quantise",
}


def _contract() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return list(next(c["source_modules"] for c in contracts if c["name"] == "A hospital installs no torch"))


def test_every_part_of_deployment_that_makes_no_package_is_under_the_contract() -> None:
    """A new file is under it from its first day, or stands among those that make packages."""
    folder = ROOT / "pipeline" / "deployment"
    parts = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    expected = {f"pipeline.deployment.{part}" for part in parts - MAKERS - {"__init__"}}
    listed = {name for name in _contract() if not name.startswith("pipeline.cli_")}
    assert listed == expected


def test_the_hospitals_parts_load_nothing_heavy() -> None:
    """Import Linter sees imports as they are written; this sees what they load."""
    heavy = "{'torch', 'monai', 'mlflow', 'pandas', 'SimpleITK', 'scipy', 'skimage', 'yaml', 'onnxruntime'}"
    code = f"import sys, {', '.join(_contract())}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_study_without_dicom_is_answered_without_what_only_dicom_needs(tmp_path: Path) -> None:
    """Nor with what libraries load unasked: from start to answer is twice what onnxruntime takes alone, no more."""
    package, study = tiny_package(tmp_path / "package").folder, write_nifti(tmp_path / "in")
    unasked = {"pydicom", "highdicom", "pynetdicom", "numpy.ma", "PIL.JpegImagePlugin"}
    arguments = ["predict", "--package", str(package), "--in", str(study), "--out", str(tmp_path / "out")]
    code = f"import sys; from pipeline.cli import main; main({arguments!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert unasked.isdisjoint(done.stdout.splitlines()[-1].split())
    assert (tmp_path / "out" / "summary.png").is_file()
