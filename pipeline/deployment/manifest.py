"""The manifest of a package: its names, and what must hold of its values before anything relies on them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from transforms.recipe import StudentInput
from transforms.scanner import clean

FORMAT, VERSION = "evenbeat-package", 1
MANIFEST, ONNX, AUDIT, CARD = "package.json", "student.onnx", "audit.json", "MODEL_CARD.md"
INPUT, OUTPUT = "image", "logits"  # of the network: (cases, 2, slices, rows, cols) -> (cases, classes)
PRECISIONS = ("float32", "int8")
TENTHS = 10  # of the highest probability, in the reference
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
AGAIN = "take the package anew from where it was released"


class PackageError(ValueError):
    """A package that must not be used; the message says what must hold, what was found and what to do."""


def parse_manifest(raw: bytes) -> dict[str, Any]:
    """Decode a manifest, and refuse one that is none or of another version.

    Raises:
        PackageError: naming what was found.
    """
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError):
        raise PackageError(f"{MANIFEST} must be JSON; it is not; {AGAIN}") from None
    found = manifest if isinstance(manifest, dict) else {}
    if found.get("format") != FORMAT:
        raise PackageError(f"{MANIFEST} must be of the format {FORMAT}; it is of another; give a student package")
    if found.get("version") != VERSION:
        raise PackageError(
            f"this evenbeat reads packages of version {VERSION}; got version {found.get('version')!r:.20}; "
            "use the evenbeat that the package was made for, or export it with this one"
        )
    return found


def must(holds: object, rule: str, found: object) -> None:
    """Refuse a manifest whose value breaks a rule.

    Raises:
        PackageError: with rule and value.
    """
    if not holds:
        raise PackageError(f"{rule}; got {found!r:.200}; export the package again with this version")


def recipe_of(manifest: Mapping[str, Any]) -> StudentInput:
    """The recipe of the student's input, which must be one that this version runs, with numpy alone."""
    recipe = StudentInput.from_dict(manifest["recipe"])
    must(
        manifest["recipe_digest"] == recipe.digest,
        f"recipe_digest must be that of the recipe, as this version computes it, {recipe.digest}",
        manifest["recipe_digest"],
    )
    must(recipe.exportable, "the recipe must need nothing but numpy", manifest["recipe"])
    must(tuple(manifest["input_shape"]) == recipe.shape, "input_shape must be the recipe's", manifest["input_shape"])
    names = [manifest["input"], manifest["output"]]
    must(names == [INPUT, OUTPUT], f"input and output must be {INPUT} and {OUTPUT}", names)
    return recipe


def name_of(manifest: Mapping[str, Any], key: str) -> str:
    """A name that may stand in file names, in DICOM and in logs."""
    found = manifest[key]
    must(isinstance(found, str) and NAME.fullmatch(found), f"{key} must be of letters, digits and . _ + -", found)
    return str(found)


def classes_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the logits."""
    names = manifest["classes"]
    fine = isinstance(names, list) and all(isinstance(name, str) and name == clean(name) != "" for name in names)
    must(fine and len(set(names)) == len(names) >= 2, "classes must be two names or more, each once", names)
    return tuple(names)


def reference_of(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the student said of the audited studies; ``None`` if that is not known."""
    record = manifest["reference"]
    if record is None:
        return None
    return {
        **_distribution(record),
        "groups": {str(column): _shares(found) for column, found in record["groups"].items()},
        "vendors": {str(vendor): _distribution(found) for vendor, found in record.get("vendors", {}).items()},
    }


def precision_of(manifest: Mapping[str, Any]) -> str:
    """``float32`` or ``int8``."""
    found = manifest["precision"]
    must(found in PRECISIONS, f"precision must be one of {', '.join(PRECISIONS)}", found)
    return str(found)


def _distribution(record: Mapping[str, Any]) -> dict[str, Any]:
    """How many studies there were, and what the student said of them."""
    tenths = [float(share) for share in record["features"]["max_probability"]]
    must(len(tenths) == TENTHS, "max_probability of the reference must have ten shares", tenths)
    must(int(record["n_cases"]) > 0, "n_cases of the reference must be above 0", record["n_cases"])
    return {
        "n_cases": int(record["n_cases"]),
        "classes": _shares(record["classes"]),
        "features": {"max_probability": tenths},
    }


def _shares(record: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(share) for name, share in record.items()}
