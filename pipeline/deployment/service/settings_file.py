"""Reads the settings from a TOML file: each key known, of its type and in its range, or a message that names it."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pipeline.deployment.service.settings import Destination, Settings, SettingsError

Table = TypeVar("Table")
TYPES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


def read_settings(path: Path) -> Settings:
    """Read the settings.

    Args:
        path: a TOML file; ``docker/evenbeat.example.toml`` explains each key.

    Returns:
        The settings; what the file does not name has its default.

    Raises:
        FileNotFoundError: if there is no file.
        SettingsError: if the file is no TOML, a key is unknown, or a value has the wrong type or range.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no settings at {path}; copy docker/evenbeat.example.toml and adapt it")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings must be TOML in UTF-8; {path}: {error}; correct the line") from None
    return _table(Settings, {"dicom": {}} | found, "")


def _table(kind: type[Table], found: object, where: str) -> Table:
    """A table of the file as a dataclass."""
    if not isinstance(found, Mapping):
        raise SettingsError(f"{where.rstrip('.')} must be a table; got {found!r}; write [{where.rstrip('.')}]")
    types = get_type_hints(kind)
    known: dict[str, Field[Any]] = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            remedy = f"did you mean {where}{near[0]}?" if near else f"known are {', '.join(known)}"
            raise SettingsError(f"{where}{key} is no setting; {remedy}")
    for name, entry in known.items():
        if name not in found and entry.default is MISSING and entry.default_factory is MISSING:
            raise SettingsError(f"{where}{name} must be given; it has no default; add it to the settings")
    return kind(**{key: _value(value, types[key], known[key], where + key) for key, value in found.items()})


def _value(value: object, kind: Any, entry: Field[Any], where: str) -> Any:  # noqa: ANN401 - whatever TOML holds
    """A value of the file in its type."""
    if kind == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise SettingsError(f'{where} must be a list of texts; got {value!r}; write ["ONE", "TWO"]')
        return tuple(value)
    if kind == tuple[Destination, ...]:
        if not isinstance(value, list):
            raise SettingsError("destination must be a list of tables; got one; write [[destination]]")
        return tuple(_table(Destination, one, "destination.") for one in value)
    if hasattr(kind, "__dataclass_fields__"):
        return _table(kind, value, f"{where}.")
    kind = {Path | None: Path, bool | None: bool}.get(kind, kind)
    wanted = {Path: (str,), float: (int, float)}.get(kind, (kind,))
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise SettingsError(f"{where} must be {TYPES[kind]}; got {value!r}; correct it")
    low, high = entry.metadata.get("low"), entry.metadata.get("high")
    if low is not None and not low <= value <= high:
        raise SettingsError(f"{where} must be from {low:g} to {high:g}; got {value}; correct it")
    return kind(value)
