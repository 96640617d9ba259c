"""What commands share: the statuses with which they end, and the forms of their options."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

DONE, OUR_FAULT, WRONG_USAGE, NOTHING_USABLE = 0, 1, 2, 3
INTERRUPTED = 130  # 128 + SIGINT, as in shells
PACKAGE, DIGEST = "EVENBEAT_PACKAGE", "EVENBEAT_PACKAGE_DIGEST"  # variables of the hospital's commands
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas.

    Raises:
        ArgumentTypeError: if there is none.
    """
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise argparse.ArgumentTypeError("needs at least one name; separate several by commas")
    return found


def shares(text: str) -> tuple[float, ...]:
    """Three shares that sum to 1, separated by commas.

    Raises:
        ArgumentTypeError: if they are not.
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != 3 or min(found) < 0 or abs(sum(found) - 1) > 1e-6:
        raise argparse.ArgumentTypeError(f"must be three numbers that sum to 1, like 0.6,0.2,0.2, got {text!r}")
    return found


def file_to_write(text: str) -> Path:
    """Path of a file, which need not be there.

    Raises:
        ArgumentTypeError: if a folder is there: hours of work would end without a place to write to.
    """
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file, got the folder {text}; give {path / 'datalist.json'}, say")
    return path


def folder_to_fill(text: str) -> Path:
    """Path of a folder, which need not be there.

    Raises:
        ArgumentTypeError: if a file is there.
    """
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"must be a folder, got the file {text}; give another path")
    return path


def mapping(text: str) -> dict[str, str]:
    """Pairs such as ``HHD=HCM``, separated by commas.

    Raises:
        ArgumentTypeError: if a part is no pair.
    """
    pairs = [pair.partition("=") for pair in names(text)]
    if not all(equals and old and new for old, equals, new in pairs):
        raise argparse.ArgumentTypeError(f"must be pairs like HHD=HCM, separated by commas, got {text!r}")
    return {old: new for old, _, new in pairs}


def process_user() -> str:
    """Whose rights this process has, e.g. ``user 10001``."""
    return f"user {os.getuid()}" if hasattr(os, "getuid") else "this user"


def pair(text: str) -> tuple[str, str]:
    """Two names, such as ``patient_id=PatID``; the second may be empty.

    Raises:
        ArgumentTypeError: if the first or the sign is missing.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE; got {text!r}; write e.g. patient_id=PatID")
    return name, value


def merger(text: str) -> tuple[str, str, str]:
    """Column, name in the table and the name to use, such as ``vendor:ge=GE``.

    Raises:
        ArgumentTypeError: if one of them is missing.
    """
    column, colon, rest = text.partition(":")
    old, equals, new = rest.partition("=")
    if not (column and colon and old and equals and new):
        raise argparse.ArgumentTypeError(f"must be COLUMN:NAME=NAME; got {text!r}; write e.g. vendor:ge=GE")
    return column, old, new
