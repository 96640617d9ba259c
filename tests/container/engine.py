"""buildah and podman with a storage of their own, so that nothing else on the machine is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
TOOLS = ("buildah", "podman", "runc", "mmdebstrap")
BASE = "docker.io/library/python:3.11-slim-bookworm"  # the Dockerfiles' own name for it
# Podman asks for more files and processes than a machine without CAP_SYS_RESOURCE may give; runc also runs where cgroup
# v1 and v2 are mixed; health checks would need systemd.
ANYWHERE = (
    "--pull=never", "--no-healthcheck", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096",
)  # fmt: skip
CONTEXT = (
    "LICENSE",
    "README.md",
    "pyproject.toml",
    ".dockerignore",
    "bundles",
    "docker",
    "docs",
    "pipeline",
    "transforms",
)
SMALL = ("--memory=512m", "--memory-swap=512m")  # enough for one study
Done = subprocess.CompletedProcess[str]


def missing() -> str:
    """Why containers cannot be tested here; empty if they can."""
    if os.geteuid() != 0:
        return "containers are built and run as root here"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"{', '.join(absent)} not installed: run tests/container/install.sh" if absent else ""


def shut_in(service: str = "student") -> list[str]:
    """The limits that docker/compose.yaml puts on a service, as podman takes them."""
    told: Mapping[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"][service]
    limits = ["--read-only", "--read-only-tmpfs=false"] if told["read_only"] else []  # no more than Docker gives
    limits += [f"--tmpfs={mount}" for mount in told["tmpfs"]]
    limits += [f"--cap-drop={capability}" for capability in told["cap_drop"]]
    limits += [f"--security-opt={option.removesuffix(':true')}" for option in told["security_opt"]]
    names = {"pids_limit": "pids-limit", "mem_limit": "memory", "memswap_limit": "memory-swap", "user": "user"}
    return limits + [f"--{option}={told[name]}" for name, option in names.items() if name in told]


@dataclass(frozen=True)
class Engine:
    """A storage of images and what builds, runs and looks into them.

    Attributes:
        folder: holds the storage; the caller's, empty at first.
    """

    folder: Path

    @cached_property
    def environment(self) -> dict[str, str]:
        """Names the storage for buildah and podman."""
        conf = self.folder / "storage.conf"
        graph, run = self.folder / "graph", self.folder / "run"
        conf.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{graph}"\nrunroot = "{run}"\n')
        return {**os.environ, "CONTAINERS_STORAGE_CONF": str(conf), "BUILDER": "buildah"}

    def podman(self, *arguments: str | Path, check: bool = True, timeout: float = 300) -> Done:
        """One podman command; its output is kept."""
        command = ["podman", "--log-level=error", "--runtime=runc", *arguments]
        return _run(command, self.environment, check, timeout, self.folder)  # an `oom` file falls where it is called

    def remove(self, name: str, *, seconds: int) -> None:
        """Stop and remove a container; podman fails over one that ends by itself at that moment, and not twice.

        Args:
            name: of the container.
            seconds: that it has to stop.
        """
        command = ("rm", "--force", f"--time={seconds}", name)
        if self.podman(*command, check=False).returncode:
            self.podman(*command)

    def import_base(self, tar: Path) -> None:
        """Take a file system as the base image."""
        path = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.podman("import", "--quiet", "--change", path, "--change", 'CMD ["python3"]', tar, BASE)

    def build(self, tag: str, context: Path, *arguments: str, **settings: str) -> None:
        """Build with docker/build.sh of a checkout.

        Args:
            tag: of the image.
            context: the checkout.
            arguments: for the builder.
            settings: for the script, e.g. ``FILE``.
        """
        command = [context / "docker" / "build.sh", tag, "--pull=never", *arguments]
        _run(command, {**self.environment, **settings}, True, 900)

    def run(
        self,
        image: str,
        *command: str,
        limits: Sequence[str] | None = None,
        options: Sequence[str] = (),
        volumes: Mapping[Path, str] | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> Done:
        """Run to the end with the limits of the compose file and 512 MiB.

        Args:
            image: its name.
            command: for the entry point.
            limits: of podman; those of :func:`shut_in` by default.
            options: of podman, further ones; later ones win.
            volumes: host path -> ``/place`` or ``/place:ro``.
            environment: for the container.
            timeout: [s].
        """
        options = [*(shut_in() if limits is None else limits), *SMALL, *options]
        told = self._told(options, volumes, environment)
        return self.podman("run", "--rm", *told, image, *command, check=False, timeout=timeout)

    def start(
        self,
        image: str,
        *command: str,
        options: Sequence[str] = (),
        volumes: Mapping[Path, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """As :meth:`run`, without waiting; returns the container's id, which the caller removes."""
        told = self._told([*shut_in(), *options], volumes, environment)
        return self.podman("run", "--detach", *told, image, *command).stdout.strip()

    def close(self) -> None:
        """Remove containers, images and the storage's mounts."""
        self.podman("rm", "--all", "--force", "--time=1", check=False)
        self.podman("image", "umount", "--all", check=False)
        self.podman("rmi", "--all", "--force", check=False)
        subprocess.run(["umount", "--lazy", self.folder / "graph" / "overlay"], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _told(
        options: Sequence[str], volumes: Mapping[Path, str] | None, environment: Mapping[str, str] | None
    ) -> list[str]:
        mounted = [f"--volume={path}:{place}" for path, place in (volumes or {}).items()]
        named = [f"--env={name}={value}" for name, value in (environment or {}).items()]
        return [*ANYWHERE, "--network=none", *mounted, *named, *options]


def copy_context(folder: Path, package: Path) -> Path:
    """A checkout that holds what a build takes, and a package where a build looks for it."""
    for name in CONTEXT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pt", "eval", "figures")
            )
        else:
            shutil.copy(source, folder / name)
    shutil.copytree(package, folder / "student")
    return folder


def _run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    check: bool,
    timeout: float,
    folder: Path | None = None,
) -> Done:
    done = subprocess.run(
        command, env=dict(environment), cwd=folder, capture_output=True, text=True, check=False, timeout=timeout
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-3000:]}")
    return done
