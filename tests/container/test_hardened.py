"""One study, with all that docker/compose.yaml takes from a container, and with what other hosts take."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.container.engine import Done, Engine, shut_in
from tests.container.hearts import NAME, write_heart

pytestmark = pytest.mark.container

ODD_USER = "--user=54321:12345"
INSIDE = "/opt/holoscan/models/student"
MOUNTED = {"input": "/input:ro", "output": "/output"}


def _predict(engine: Engine, image: str, study: Path, out: Path, *options: str, **environment: str) -> Done:
    volumes = {study: MOUNTED["input"], out: MOUNTED["output"]}
    return engine.run(image, options=options, volumes=volumes, environment=environment)


def _python(engine: Engine, image: str, code: str, *options: str) -> Done:
    return engine.run(image, "-c", code, options=("--entrypoint=python", *options))


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def _result(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "result.json").read_text()))


def test_the_container_has_no_rights_no_network_and_nowhere_to_write(engine: Engine, image: str) -> None:
    code = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
refused = []
for path in ("/x", "/etc/x", "/opt/evenbeat/x", "/opt/holoscan/models/student/x", "/var/holoscan/x"):
    try:
        open(path, "w")
    except OSError as error:
        refused.append(error.strerror)
print(json.dumps({
    "user": [os.getuid(), os.getgid()], "refused": refused, "network": os.listdir("/sys/class/net"),
    **{name: status[name].strip() for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")},
}))
"""
    done = _python(engine, image, code)
    assert json.loads(done.stdout) == {
        "user": [10001, 10001], "refused": ["Read-only file system"] * 5, "network": ["lo"],
        "CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2",
    }  # fmt: skip


def test_memory_beyond_the_limit_ends_the_container(engine: Engine, image: str) -> None:
    done = _python(engine, image, "x = b'1' * (600 << 20); print(len(x))")
    assert (done.returncode, done.stdout) == (137, "")


def test_processes_beyond_the_limit_are_refused(engine: Engine, image: str) -> None:
    code = """
import os, time
born = 0
try:
    for _ in range(200):
        if os.fork() == 0:
            time.sleep(5); os._exit(0)
        born += 1
except OSError as error:
    print(born, error.strerror, flush=True)
"""
    born, _, said = _python(engine, image, code).stdout.strip().partition(" ")
    assert int(born) < 64
    assert said == "Resource temporarily unavailable"


def test_a_study_is_read_with_these_limits_and_nothing_else_is_touched(
    engine: Engine, image: str, study: Path, out: Path
) -> None:
    before = _digests(study)
    done = _predict(engine, image, study, out)
    assert done.returncode == 0, done.stderr
    result = _result(out)
    assert result["status"] == "read"
    assert sum(result["prediction"]["probabilities"].values()) == pytest.approx(1)
    assert result["verdict"] == "unseen"
    assert _digests(study) == before
    listed = {entry["name"]: entry["sha256"] for entry in result["outputs"]}
    assert {name: digest for name, digest in _digests(out).items() if name != "result.json"} == listed
    assert len([name for name in listed if name.endswith(".dcm")]) == 2


def test_no_word_about_the_patient_leaves_the_dicom_objects(engine: Engine, image: str, study: Path, out: Path) -> None:
    done = _predict(engine, image, study, out)
    said = done.stdout + done.stderr + (out / "result.json").read_text()
    assert "canary" not in said.lower()
    assert "19600229" not in said
    assert NAME.encode() in b"".join(path.read_bytes() for path in out.glob("*.dcm"))


def test_any_user_can_read_a_study_without_a_single_place_to_write_but_the_output(
    engine: Engine, image: str, study: Path, out: Path
) -> None:
    """As mercure starts it: a user that no file knows, a read-only root, and no tmpfs."""
    limits = [limit for limit in shut_in() if not limit.startswith("--tmpfs")]
    volumes = {study: MOUNTED["input"], out: MOUNTED["output"]}
    done = engine.run(image, limits=limits, options=[ODD_USER], volumes=volumes)
    assert done.returncode == 0, done.stderr
    assert _result(out)["status"] == "read"
    assert {(path.stat().st_uid, path.stat().st_gid) for path in out.iterdir()} == {(54321, 12345)}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"HOLOSCAN_INPUT_PATH": "/var/holoscan/input", "HOLOSCAN_OUTPUT_PATH": "/var/holoscan/output"}, None),
        ({"MERCURE_IN_DIR": "/mnt/in", "MERCURE_OUT_DIR": "/mnt/out"}, ("/mnt/in", "/mnt/out")),
        ({"MONAI_INPUTPATH": "/mnt/in", "MONAI_OUTPUTPATH": "/mnt/out"}, ("/mnt/in", "/mnt/out")),
        ({}, ("/app/data/input_data", "/app/data/output")),
    ],
    ids=["MAP", "mercure", "older MONAI hosts", "MHub's folders"],
)
def test_every_host_finds_its_results_where_it_looks(
    engine: Engine, image: str, study: Path, out: Path, given: dict[str, str], taken: tuple[str, str] | None
) -> None:
    places = taken or tuple(given.values())
    done = engine.run(image, volumes={study: f"{places[0]}:ro", out: places[1]}, environment=given)
    assert done.returncode == 0, done.stderr
    assert _result(out)["status"] == "read"
    assert all("#" in path.name for path in out.glob("*.dcm"))
    assert set(_result(out)["__mercure_notification"]) == {"text"}


def test_the_second_run_gives_the_same_bytes(engine: Engine, image: str, study: Path, tmp_path: Path) -> None:
    """Another user, another order of files: a retry of a router is harmless."""
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    for number, path in enumerate(sorted(study.iterdir(), reverse=True)):
        shutil.copy(path, shuffled / f"{number:03d}.dcm")
    found = []
    for source, user in ((study, "--user=10001:10001"), (shuffled, ODD_USER)):
        out = tmp_path / f"out-{len(found)}"
        out.mkdir()
        out.chmod(0o777)
        assert _predict(engine, image, source, out, user).returncode == 0
        found.append(_digests(out))
    assert found[0] == found[1]


def test_a_package_other_than_the_expected_one_is_not_used(engine: Engine, image: str, study: Path, out: Path) -> None:
    done = _predict(engine, image, study, out, EVENBEAT_PACKAGE_DIGEST="0" * 64)
    assert done.returncode == 2
    assert "digest" in done.stderr
    assert not list(out.iterdir())


def test_the_expected_package_is_used(engine: Engine, image: str, study: Path, out: Path, package: Path) -> None:
    digest = hashlib.sha256((package / "package.json").read_bytes()).hexdigest()
    done = _predict(engine, image, study, out, EVENBEAT_PACKAGE_DIGEST=digest)
    assert done.returncode == 0, done.stderr
    assert _result(out)["package"]["digest"] == digest


def test_a_package_with_one_bit_changed_is_not_used(
    engine: Engine, image: str, study: Path, out: Path, package: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "package"
    shutil.copytree(package, changed)
    network = bytearray((changed / "student.onnx").read_bytes())
    network[len(network) // 2] ^= 1
    (changed / "student.onnx").write_bytes(network)
    done = engine.run(image, volumes={study: "/input:ro", out: "/output", changed: f"{INSIDE}:ro"})
    assert done.returncode == 2
    assert "student.onnx" in done.stderr
    assert not list(out.iterdir())


def test_two_studies_named_at_once_are_not_guessed_between(
    engine: Engine, image: str, study: Path, out: Path, tmp_path: Path
) -> None:
    other = write_heart(tmp_path / "other", seed=2)
    named = {"MERCURE_IN_DIR": "/mnt/a", "MERCURE_OUT_DIR": "/output", "HOLOSCAN_INPUT_PATH": "/mnt/b"}
    done = engine.run(image, volumes={study: "/mnt/a:ro", other: "/mnt/b:ro", out: "/output"}, environment=named)
    assert done.returncode == 2
    assert "MERCURE_IN_DIR" in done.stderr
    assert not list(out.iterdir())


def test_a_study_that_is_no_cine_is_refused_with_its_code_and_that_is_no_error(
    engine: Engine, image: str, study: Path, out: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(study.iterdir())[:10]:
        shutil.copy(path, few)
    done = _predict(engine, image, few, out)
    assert done.returncode == 0, done.stderr
    result = _result(out)
    assert (result["status"], result["refusal"]["code"]) == ("refused", "TOO_FEW_SLICES")
    assert [path.name for path in out.iterdir()] == ["result.json"]


def test_the_self_test_passes_within_the_limits_and_five_seconds(engine: Engine, image: str) -> None:
    began = time.monotonic()
    done = engine.run(image, "selftest")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 5


def test_a_monai_application_package_tells_what_it_is(engine: Engine, image: str, out: Path) -> None:
    assert json.loads(engine.run(image, "show", "app").stdout)["command"] == "evenbeat predict"
    assert json.loads(engine.run(image, "show", "pkg").stdout)["models"] == {"student": INSIDE}
    done = engine.run(image, "extract", volumes={out: "/var/run/holoscan/export"})
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"app", "config", "models", "docs"}
    assert (out / "models" / "student" / "package.json").is_file()
    assert engine.run(image, "show", "nonsense").returncode == 2
    assert engine.run(image, "help").stdout.startswith("show [app|pkg]")


def test_passwords_that_a_host_hands_over_are_not_printed(engine: Engine, image: str) -> None:
    given = {"XNAT_PASS": "canary", "API_TOKEN": "canary", "HARMLESS": "shown"}
    done = engine.run(image, "env", environment=given)
    assert "HARMLESS=shown" in done.stdout
    assert "canary" not in done.stdout


def test_a_router_that_looks_for_the_old_manifest_finds_none(engine: Engine, image: str) -> None:
    """Mercure would run the image as root; it looks with cat, which must be there to fail."""
    done = engine.run(image, "/etc/monai/app.json", options=("--entrypoint=cat",))
    assert done.returncode == 1
    assert "No such file" in done.stderr
