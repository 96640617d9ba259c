"""What a run is called and where its code came from."""

from __future__ import annotations

import getpass
import secrets
import subprocess
import sys
import time
from pathlib import Path

UNKNOWN = "unknown"


def unique_run_name(prefix: str, *details: object) -> str:
    """Name that no other run has: prefix, details, local time and four random hex digits.

    Args:
        prefix: e.g. the bundle's name.
        details: e.g. method and seed; None is left out.
    """
    known = [str(detail) for detail in (prefix, *details) if detail is not None and str(detail)]
    return "-".join([*known, time.strftime("%Y%m%d-%H%M%S"), secrets.token_hex(2)])


def git_commit(path: str | Path = __file__) -> str:
    """Commit of the repository that tracks ``path``, with ``-dirty`` if tracked files differ from it.

    Returns:
        40 hex digits, or ``unknown`` where the file is in no repository, is not tracked by it, or git is missing.
    """
    path = Path(path).resolve()
    if not _git(path.parent, "ls-files", "--", path.name):
        return UNKNOWN  # installed into an environment that lies inside somebody else's repository
    return _git(path.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or UNKNOWN


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def source_tags(name: str | None = None) -> dict[str, str]:
    """Tags that MLflow's pages show as user and source; its client sets none by itself.

    Args:
        name: what ran, e.g. the bundle; by default the program's file name.
    """
    return {
        "mlflow.user": _user(),
        "mlflow.source.name": name or Path(sys.argv[0] or "python").name,
        "mlflow.source.type": "LOCAL",
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return UNKNOWN
