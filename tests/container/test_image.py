"""What is in the image, and what is not."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.container.engine import ROOT, Engine

pytestmark = pytest.mark.container

MEGABYTES = 500
MAY_WRITE = {"tmp", "var/tmp", "run/lock", "var/lock", "dev/shm", "dev/mqueue"}


@pytest.fixture(scope="module")
def told(engine: Engine, image: str) -> dict[str, Any]:
    """The image's configuration."""
    return dict(json.loads(engine.podman("image", "inspect", image).stdout)[0])


@pytest.fixture(scope="module")
def tree(engine: Engine, image: str) -> Iterator[Path]:
    """The image's files."""
    yield Path(engine.podman("image", "mount", image).stdout.strip())
    engine.podman("image", "umount", image)


def _found(tree: Path, *tests: str) -> list[str]:
    command = ["find", tree, "-xdev", *tests, "-printf", "%P\n"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


def test_the_image_is_small(told: dict[str, Any]) -> None:
    assert told["Size"] / 1e6 < MEGABYTES


def test_it_runs_as_nobody_in_particular_and_predicts_unless_told_otherwise(told: dict[str, Any]) -> None:
    config = told["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["/var/holoscan/tools"]
    assert config["Cmd"] == ["predict"]
    assert told["HealthCheck" if "HealthCheck" in told else "Healthcheck"]["Test"] == ["CMD", "evenbeat", "selftest"]


def test_telemetry_is_off_and_no_secret_or_address_is_in_the_environment(told: dict[str, Any]) -> None:
    environment = dict(entry.split("=", 1) for entry in told["Config"]["Env"])
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["EVENBEAT_PACKAGE"] == "/opt/holoscan/models/student"
    assert [
        name for name in environment if any(word in name for word in ("PIP", "PROXY", "TOKEN", "PASS", "KEY"))
    ] == []


def test_labels_and_manifests_name_the_version_of_the_project(told: dict[str, Any], tree: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    labels = told["Labels"]
    assert labels["org.opencontainers.image.title"] == "evenbeat"
    assert labels["org.opencontainers.image.version"] == version
    assert json.loads((tree / "etc/holoscan/app.json").read_text())["version"] == version
    assert json.loads((tree / "etc/holoscan/pkg.json").read_text())["version"] == version


def test_the_label_for_xnat_is_a_list_of_one_command(told: dict[str, Any]) -> None:
    (command,) = json.loads(told["Labels"]["org.nrg.commands"])
    assert command["command-line"] == "evenbeat predict --in /input --out /output"


def test_no_program_gives_itself_another_users_rights(tree: Path) -> None:
    assert _found(tree, "-type", "f", "-perm", "/6000") == []


def test_nothing_but_the_usual_places_is_open_to_everybody(tree: Path) -> None:
    assert set(_found(tree, "-type", "d", "-perm", "-0002")) <= MAY_WRITE
    assert _found(tree, "-type", "f", "-perm", "-0002") == []


def test_no_installer_cache_or_history_is_left(tree: Path) -> None:
    assert [
        path for name in ("pip", "setuptools", "ensurepip") for path in _found(tree, "-type", "d", "-name", name)
    ] == []
    assert _found(tree, "-name", ".cache", "-o", "-name", ".bash_history", "-o", "-name", "*.whl") == []
    assert _found(tree / "opt/evenbeat/python/bin", "-mindepth", "1", "!", "-name", "python*") == ["evenbeat"]


def test_a_sites_pip_configuration_leaves_no_trace(tree: Path) -> None:
    """Only the empty place where it was mounted may stay."""
    conf = tree / "etc/pip.conf"
    assert not conf.exists() or conf.read_bytes() == b""
    assert {path.name for path in (tree / "opt").iterdir()} == {"evenbeat", "holoscan"}


def test_the_bill_of_materials_lists_what_is_installed_and_nothing_else(tree: Path) -> None:
    bill = json.loads((tree / "opt/evenbeat/sbom.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    listed = {entry["name"].lower().replace("_", "-"): entry["version"] for entry in bill["components"]}
    site = tree / "opt/evenbeat/python/lib/python3.11/site-packages"
    installed = {path.name.split("-")[0].lower().replace("_", "-") for path in site.glob("*.dist-info")}
    assert set(listed) == installed
    assert listed["onnxruntime"].startswith("1.31.")
    assert not {"torch", "monai", "pip", "cyclonedx-bom", "hatchling", "pylibjpeg-libjpeg"} & set(listed)


def test_the_licences_and_the_documents_come_with_it(tree: Path) -> None:
    assert (tree / "opt/holoscan/docs/hospital.md").is_file()
    assert list(tree.glob("opt/evenbeat/python/lib/python3.11/site-packages/evenbeat-*.dist-info/licenses/LICENSE"))


def test_the_package_inside_is_the_one_that_was_given(tree: Path, package: Path) -> None:
    inside = tree / "opt/holoscan/models/student"
    assert {path.name: path.read_bytes() for path in inside.iterdir()} == {
        path.name: path.read_bytes() for path in package.iterdir()
    }


def test_the_same_files_give_the_same_layers_when_all_is_built_anew(engine: Engine, image: str, context: Path) -> None:
    names = (image, "localhost/evenbeat:again")
    engine.build(names[1], context, "--no-cache")
    layers = [engine.podman("image", "inspect", "--format", "{{.RootFS.Layers}}", name).stdout for name in names]
    assert layers[0] == layers[1]
