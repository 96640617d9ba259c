"""The real image, built once; a package of a network that has learned nothing; a synthetic study."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.container.engine import ANYWHERE, BASE, ROOT, Engine, copy_context, missing

if TYPE_CHECKING:
    from torch import nn

IMAGE = "localhost/evenbeat:test"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Buildah and podman with the base image, or a skip that says what is missing."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    made = Engine(Path(tempfile.mkdtemp(prefix="evenbeat-containers-")))
    try:
        made.import_base(_base_tar())
        tried = made.podman("run", "--rm", *ANYWHERE, "--network=none", BASE, "true", check=False)
        if tried.returncode != 0:  # whatever is tested here, it needs a machine that runs containers at all
            pytest.skip(f"this machine runs no container: {tried.stderr.strip()[-300:]}")
        yield made
    finally:
        made.close()


def _base_tar() -> Path:
    """The stand-in for the official base, made once and kept: EVENBEAT_CONTAINER_CACHE names where."""
    default = Path(tempfile.gettempdir()) / "evenbeat-container-cache"
    cache = Path(os.environ.get("EVENBEAT_CONTAINER_CACHE", default))
    cache.mkdir(parents=True, exist_ok=True)
    tar = cache / "base.tar"
    if not tar.is_file():
        command = [ROOT / "docker" / "base_stand_in.sh", tar]
        made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if made.returncode != 0:
            pytest.skip(f"no base image could be made: {made.stderr.strip()[-300:]}")
    return tar


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A student package, and the network in torch that it was made from."""
    pytest.importorskip("torch")
    from pipeline.deployment.export import export_package
    from tests.container.hearts import write_checkpoint

    folder = tmp_path_factory.mktemp("trained")
    network = write_checkpoint(folder / "model.pt")
    export_package(folder / "model.pt", folder / "student")
    for path in (folder, folder / "student"):
        path.chmod(0o755)  # whoever runs the container must be able to read it
    return folder / "student", network


@pytest.fixture(scope="session")
def package(trained: tuple[Path, nn.Module]) -> Path:
    """The student package."""
    return trained[0]


@pytest.fixture(scope="session")
def context(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is built: a copy of the checkout, with the package in it."""
    return copy_context(tmp_path_factory.mktemp("context"), package)


@pytest.fixture(scope="session")
def image(engine: Engine, context: Path) -> str:
    """The image as it is shipped, package inside; its name."""
    engine.build(IMAGE, context)
    return IMAGE


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic short-axis cine of 90 images, readable for every user."""
    from tests.container.hearts import write_heart

    folder = write_heart(tmp_path_factory.mktemp("study") / "heart")
    for path in (folder.parent, folder):
        path.chmod(0o755)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder into which every user may write."""
    folder = tmp_path / "out"
    folder.mkdir()
    folder.chmod(0o777)
    return folder
