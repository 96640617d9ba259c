"""The scripts that a person runs: smoke.sh says whether an image holds its promises, offline.sh packs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.container.engine import BASE, ROOT, Done, Engine

pytestmark = pytest.mark.container

HERE = {
    "ENGINE": "podman --log-level=error --runtime=runc",
    "RUN_OPTIONS": "--pull=never --no-healthcheck --ulimit nofile=1024:1024 --ulimit nproc=4096:4096",
}


def _script(engine: Engine, name: str, *arguments: str | Path, **environment: str) -> Done:
    return subprocess.run(
        [ROOT / "docker" / name, *arguments], env={**engine.environment, **HERE, **environment},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_the_image_passes_its_smoke_test(engine: Engine, image: str, study: Path) -> None:
    done = _script(engine, "smoke.sh", IMAGE=image, STUDY=str(study))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all held\n")


def test_an_image_that_runs_as_root_fails_it(engine: Engine) -> None:
    done = _script(engine, "smoke.sh", IMAGE=BASE)
    assert done.returncode == 1
    assert done.stderr.strip() == "FAILED: does not run as user 10001"


def test_what_an_offline_hospital_gets_is_verified_and_loaded_as_it_was(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    """One changed byte is found by the checksums; the loaded image has the layers of the saved one."""
    folder = tmp_path / "offline"
    done = _script(engine, "offline.sh", image, folder)
    assert done.returncode == 0, done.stderr
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == 11
    verify = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(verify, cwd=folder, check=False).returncode == 0
    with (folder / "package.json").open("ab") as file:
        file.write(b" ")
    assert subprocess.run(verify, cwd=folder, capture_output=True, check=False).returncode == 1
    (tmp_path / "hospital").mkdir()
    hospital = Engine(tmp_path / "hospital")
    try:
        # podman 4.3 does not unpack by itself
        load = ["sh", "-c", "gunzip --stdout image.tar.gz | podman load --quiet"]
        subprocess.run(load, cwd=folder, env=hospital.environment, capture_output=True, check=True)
        layers = [
            one.podman("image", "inspect", "--format", "{{.RootFS.Layers}}", image).stdout for one in (engine, hospital)
        ]
        assert layers[0] == layers[1]
    finally:
        hospital.close()
    assert not (tmp_path / "hospital").exists()
