"""Writing a package: a folder that is either complete or absent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.deployment.manifest import FORMAT, MANIFEST

BROWSER_FILES = (".DS_Store", ".directory")


def check_place(out: str | Path, *, force: bool) -> Path:
    """Where a package may be written: nowhere yet, an empty folder, or with ``force`` an earlier package.

    Returns:
        The absolute path.

    Raises:
        FileExistsError: if something else is there, or a package and ``force`` is not given.
    """
    path = Path(out).resolve()
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return path
    if not _only_a_package(path):
        raise FileExistsError(f"{path} must be free or hold a student package; it holds something else; choose another")
    if not force:
        raise FileExistsError(f"{path} holds a package already; give --force to replace it, or choose another folder")
    return path


def manifest_bytes(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """A manifest that vouches for files, as it is written.

    Args:
        manifest: everything but the files.
        files: name -> content.
    """
    listed = {name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
              for name, content in files.items()}  # fmt: skip
    text = json.dumps({**manifest, "files": listed}, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def write_folder(out: Path, files: Mapping[str, bytes], check: Callable[[Path], object]) -> None:
    """Write files into a folder beside ``out`` that then takes its place.

    A package that was there is put aside first and comes back if the new one cannot take its place.

    Args:
        out: from :func:`check_place`.
        files: name -> content, the manifest among them.
        check: raises if the folder must not be used; called before it takes its place.
    """
    mark = f"{os.getpid()}-{os.urandom(4).hex()}"
    new, old = (out.with_name(f".{mark}-{word}-{out.name}") for word in ("new", "old"))
    new.mkdir(parents=True)
    try:
        for name, content in files.items():
            (new / name).write_bytes(content)
        check(new)
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _only_a_package(path: Path) -> bool:
    """Whether a folder holds a package and nothing of anybody's; what file browsers leave does not count."""
    try:
        found = json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return False
    own = {MANIFEST, *dict(found.get("files", {}))}
    return all(entry.is_file() and (entry.name in own or _of_a_browser(entry.name)) for entry in path.iterdir())


def _of_a_browser(name: str) -> bool:
    return name in BROWSER_FILES or name.startswith("._")
