"""The project's own files agree with each other."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED = {
    canonicalize_name(name): version
    for name, version in (line.split("==") for line in (ROOT / "requirements.lock").read_text().split() if line)
}
EXTRAS = (
    "train",
    "audit",
    "dicom",
    "sheet",
    "hospital",
    "export",
    "benchmark",
    "dev",
)  # `scale` is not part of the lock: nothing here needs it yet


def _requirements(extra: str) -> list[Requirement]:
    listed = [Requirement(text) for text in PROJECT["optional-dependencies"][extra]]
    return [requirement for requirement in listed if requirement.name != PROJECT["name"]]


def test_the_lock_names_plain_versions_only() -> None:
    """A local version such as +cpu, a path or an address would not install elsewhere."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert len(lines) > 50
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9._]*", line)] == []


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_lock_satisfies_every_extra(extra: str) -> None:
    wanted = [*_requirements(extra), *map(Requirement, PROJECT["dependencies"])]
    missing = [str(r) for r in wanted if LOCKED.get(canonicalize_name(r.name), "") not in r.specifier]
    assert missing == []


def test_the_conda_environment_has_the_versions_of_the_lock_and_all_that_training_and_audit_need() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    versions = dict(line.split("==") for line in pip if "==" in line)
    versions = {canonicalize_name(name): version for name, version in versions.items()}
    assert versions == {name: LOCKED[name] for name in versions}
    needed = {
        canonicalize_name(r.name)
        for extra in ("train", "audit", "dicom", "sheet", "hospital", "export", "benchmark")
        for r in _requirements(extra)
    }
    assert needed - set(versions) == set()


@pytest.mark.parametrize(
    "module",
    [
        "pipeline.cli",
        "pipeline.audit.report",
        "pipeline.cohort.case",
        "pipeline.dicom.cine",
        "pipeline.deployment.job",
        "pipeline.deployment.publish",
        "transforms.recipe",
        "transforms.scanner",
        "transforms.phases",
    ],
)
def test_hospital_and_researcher_import_no_training_library(module: str) -> None:
    code = (
        f"import sys, {module}; heavy = {{'torch', 'monai', 'ignite', 'mlflow', 'SimpleITK'}} & set(sys.modules);"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_versions_agree_between_package_and_bundles() -> None:
    from pipeline import __version__
    from pipeline.bundles import bundle_folders, bundle_version

    assert {__version__, *map(bundle_version, bundle_folders())} == {PROJECT["version"]}


@pytest.mark.slow
def test_the_wheel_carries_the_bundles(tmp_path: Path) -> None:
    """An installation without the checkout must find them, too."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, ROOT]
    subprocess.run(build, check=True)
    wheel = next(tmp_path.glob("evenbeat-*.whl"))
    unpacked = tmp_path / "unpacked"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, unpacked], check=True)
    code = "from pipeline.bundles import bundle_folders; print(*bundle_folders().items())"
    done = subprocess.run([sys.executable, "-c", code], cwd=unpacked, capture_output=True, text=True, check=True)
    assert "cardiac_cine_student" in done.stdout
    assert str(unpacked / "pipeline" / "_bundles") in done.stdout
    assert not list(unpacked.rglob("*.pt"))
    templates = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("pipeline/*/templates/*")}
    assert templates == {path.relative_to(unpacked).as_posix() for path in unpacked.glob("pipeline/*/templates/*")}
    assert "pipeline/sheet/templates/quality_sheet.html.j2" in templates
