"""A student package as the hospital reads it: a folder whose every byte its manifest vouches for.

A manifest that vouches for itself proves nothing: the digest of ``package.json`` is to be known from elsewhere, and
given as the one to expect.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.deployment.envelope import Envelope
from pipeline.deployment.manifest import (
    AGAIN,
    AUDIT,
    CARD,
    INPUT,
    MANIFEST,
    ONNX,
    OUTPUT,
    VERSION,
    PackageError,
    classes_of,
    name_of,
    parse_manifest,
    precision_of,
    recipe_of,
    reference_of,
)
from pipeline.deployment.outcome import PackageIdentity
from transforms.recipe import StudentInput
from transforms.scanner import Scanner

__all__ = [
    "AUDIT",
    "CARD",
    "INPUT",
    "MANIFEST",
    "ONNX",
    "OUTPUT",
    "Package",
    "PackageError",
    "expected_sha256",
    "read_package",
]

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Package:
    """A package whose files are what its manifest says.

    Attributes:
        folder: where it lies.
        name: e.g. ``cardiac_cine_student``.
        version: of the package.
        digest: SHA-256 of its manifest, which holds the digests of all its files.
        classes: in the order of the logits.
        recipe: of the student's input.
        envelope: what was audited; ``None`` for a package without an audit.
        reference: what the student said of the audited studies, for drift; ``None`` if that is not known. ``n_cases``;
            ``classes``: class -> share of studies in which it is the most probable; ``features``:
            ``{"max_probability": 10 shares of studies, by tenths of the highest probability}``; ``groups``: column ->
            group -> share of studies; ``vendors``: vendor -> ``n_cases``, ``classes`` and ``features`` of its studies
            alone, for vendors with enough audited patients; empty where that was not noted.
        precision: ``float32`` or ``int8``.
        onnx_digest: SHA-256 of the network's file.
    """

    folder: Path
    name: str
    version: str
    digest: str
    classes: tuple[str, ...]
    recipe: StudentInput
    envelope: Envelope | None
    reference: Mapping[str, Any] | None = None
    precision: str = "float32"
    onnx_digest: str = ""

    @property
    def identity(self) -> PackageIdentity:
        """Which student speaks, for results."""
        return PackageIdentity(self.name, self.version, self.digest, self.recipe.digest)

    @property
    def onnx_path(self) -> Path:
        """The network's file."""
        return self.folder / ONNX

    def onnx_bytes(self) -> bytes:
        """The network, read once and checked: what runs is what the manifest vouches for.

        Raises:
            PackageError: if the file is not what it was.
        """
        return _checked(self.folder / ONNX, {"sha256": self.onnx_digest}, None)

    def shown(self, scanner: Scanner) -> Scanner:
        """A scanner with nothing that only a header could have said.

        The model stays if the student was audited on that scanner; site, software and raw spelling go.
        """
        known = frozenset() if self.envelope is None else self.envelope.seen("scanner")
        bare = Scanner(vendor=scanner.vendor, field_strength_t=scanner.field_strength_t)
        return replace(bare, model=scanner.model) if scanner.name in known else bare


def read_package(folder: str | Path, expected_digest: str | None = None) -> Package:
    """Read a package, and refuse one that is not whole, not unchanged or not for this version.

    Args:
        folder: with ``package.json`` and the files that it names.
        expected_digest: SHA-256 that ``package.json`` must have, in hexadecimal; ``None`` or empty takes any.

    Returns:
        The package.

    Raises:
        PackageError: if a file is missing or differs from what the manifest says; if the manifest is not the expected
            one, comes from a later version, or lacks something; if its recipe is not one that this version runs.
    """
    root = Path(folder)
    raw = _manifest_bytes(root)
    digest = hashlib.sha256(raw).hexdigest()
    _check_expected(digest, expected_digest)
    manifest = parse_manifest(raw)
    try:
        package = _package(root, digest, manifest)
        files = {str(name): dict(entry) for name, entry in manifest["files"].items()}
        _check_files(root, files, needed={ONNX, CARD} | ({AUDIT} if package.envelope else set()))
    except PackageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PackageError(
            f"{MANIFEST} must have all that a package of version {VERSION} has; {type(error).__name__}: {error}; "
            f"{AGAIN}"
        ) from error
    return package


def expected_sha256(text: str) -> str:
    """A digest as tools and people spell it, in the one way that digests are compared: 64 digits, lower case.

    Example:
        >>> expected_sha256(" sha256:" + 32 * "AB") == 32 * "ab"
        True

    Raises:
        PackageError: if it is none.
    """
    digest = text.strip().lower().removeprefix("sha256:")
    if not DIGEST.fullmatch(digest):
        raise PackageError(
            f"the expected digest must be a SHA-256 of 64 hexadecimal digits; got {len(digest)} characters; copy the "
            "one that evenbeat export printed"
        )
    return digest


def _manifest_bytes(root: Path) -> bytes:
    try:
        return (root / MANIFEST).read_bytes()
    except OSError as error:
        raise PackageError(
            f"a student package must be a folder with a {MANIFEST} that can be read; {error.strerror} at "
            f"{root / MANIFEST}; give the folder that evenbeat export wrote"
        ) from None


def _check_expected(digest: str, expected: str | None) -> None:
    if not expected:
        return
    wanted = expected_sha256(expected)
    if digest != wanted:
        raise PackageError(f"the package's digest must be the expected one, {wanted}; got {digest}; {AGAIN}")


def _package(root: Path, digest: str, manifest: Mapping[str, Any]) -> Package:
    envelope = manifest["envelope"]
    return Package(
        folder=root,
        name=name_of(manifest, "name"),
        version=name_of(manifest, "package_version"),
        digest=digest,
        classes=classes_of(manifest),
        recipe=recipe_of(manifest),
        envelope=None if envelope is None else Envelope.from_dict(envelope),
        reference=reference_of(manifest),
        precision=precision_of(manifest),
        onnx_digest=str(manifest["files"][ONNX]["sha256"]),
    )


def _check_files(root: Path, files: Mapping[str, Mapping[str, Any]], needed: set[str]) -> None:
    absent = sorted(needed - set(files))
    if absent:
        raise PackageError(f"{MANIFEST} must list {', '.join(sorted(needed))}; {absent[0]} is not listed; {AGAIN}")
    for name, entry in sorted(files.items()):
        if name != Path(name).name or name == MANIFEST:
            raise PackageError(f"{MANIFEST} must list files beside it; got {name!r:.80}; {AGAIN}")
        _checked(root / name, entry, entry.get("bytes", -1))


def _checked(path: Path, entry: Mapping[str, Any], size: int | None) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackageError(f"the package must have a {path.name} that can be read; {error.strerror}; {AGAIN}") from None
    if size is not None and len(content) != size:
        raise PackageError(f"{path.name} must have {size} bytes; got {len(content)}; {AGAIN}")
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise PackageError(f"{path.name} must have the SHA-256 {entry['sha256']!s:.64}; got {found}; {AGAIN}")
    return content
