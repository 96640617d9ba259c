"""A package is used whole and unchanged, or not at all."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.deployment.outcome import PackageIdentity
from pipeline.deployment.package import PackageError, read_package
from pipeline.deployment.package_folder import check_place, write_folder
from pipeline.deployment.session import cpu_session
from tests.deployment.made_package import CLASSES, LOGITS, RECIPE, entry, envelope, made_package, manifest, rewrite
from transforms.recipe import StudentInput
from transforms.scanner import Scanner

FILES = ("student.onnx", "audit.json", "MODEL_CARD.md")
FOR_PEOPLE = {
    "audit", "checked_with", "created_with", "int8", "method", "operating_threshold", "runs", "training_groups",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_package(tmp_path / "package")


def test_a_package_says_what_its_manifest_says(folder: Path) -> None:
    package = read_package(folder)
    digest = hashlib.sha256((folder / "package.json").read_bytes()).hexdigest()
    assert package.identity == PackageIdentity("cardiac_cine_student", "1.2.3", digest, RECIPE.digest)
    assert (package.classes, package.recipe, package.precision) == (CLASSES, RECIPE, "float32")
    assert package.envelope is not None
    assert package.envelope.to_dict() == envelope()


def test_the_network_of_a_package_answers(folder: Path) -> None:
    """Logits are its constants plus the mean of the study, 3."""
    session = cpu_session(read_package(folder).onnx_bytes())
    (found,) = session.run(["logits"], {"image": np.full((2, *RECIPE.shape), 3.0, np.float32)})
    np.testing.assert_allclose(found, np.add([LOGITS, LOGITS], 3.0), rtol=1e-6)


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_anywhere_is_refused(folder: Path, name: str, place: float) -> None:
    content = bytearray((folder / name).read_bytes())
    content[round(place * (len(content) - 1))] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(PackageError, match=rf"{name} must have the SHA-256 .*; got .*; take the package anew"):
        read_package(folder)


def test_a_changed_manifest_is_refused_by_the_digest_that_is_known_from_elsewhere(folder: Path) -> None:
    """It vouches for itself: a version that reads 1.2.4 is as well formed as one that reads 1.2.3."""
    expected = read_package(folder).digest
    rewrite(folder, package_version="1.2.4")
    assert read_package(folder).version == "1.2.4"
    with pytest.raises(PackageError, match=rf"digest must be the expected one, {expected}; got "):
        read_package(folder, expected)


def test_the_expected_digest_may_be_spelt_as_tools_print_it(folder: Path) -> None:
    digest = read_package(folder).digest
    for spelling in (digest, digest.upper(), f"sha256:{digest}", f" {digest}\n"):
        assert read_package(folder, spelling).digest == digest


@pytest.mark.parametrize(("none", "count"), [("latest", 6), ("g" * 64, 64), ("sha256:", 0), ("ab" * 33, 66)])
def test_an_expected_digest_that_is_none_is_refused_rather_than_ignored(folder: Path, none: str, count: int) -> None:
    with pytest.raises(PackageError, match=f"64 hexadecimal digits; got {count} characters"):
        read_package(folder, none)


@pytest.mark.parametrize("name", [*FILES, "package.json"])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(PackageError, match=rf"(?s){name}.*No such file"):
        read_package(folder)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="No such file"):
        read_package(tmp_path / "nothing")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused_by_its_size(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(PackageError, match=f"{name} must have {len(content)} bytes; got {len(content) - 1}"):
        read_package(folder)


def test_a_network_that_is_exchanged_after_the_check_is_not_loaded(folder: Path) -> None:
    package = read_package(folder)
    (folder / "student.onnx").write_bytes(b"another")
    with pytest.raises(PackageError, match=r"student.onnx must have the SHA-256"):
        package.onnx_bytes()


def test_an_undetected_file_beside_the_others_does_no_harm(folder: Path) -> None:
    """A file browser leaves its own files; nothing reads what the manifest does not list."""
    (folder / ".DS_Store").write_bytes(b"x")
    assert read_package(folder).classes == CLASSES


OTHER = StudentInput(rows=48, cols=48, slices=4)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a later version": ({"version": 2}, "reads packages of version 1; got version 2; use the evenbeat"),
    "a version that is no number": ({"version": "one"}, "got version 'one'"),
    "another format": ({"format": "something"}, "must be of the format evenbeat-package"),
    "another recipe's digest": ({"recipe_digest": OTHER.digest}, f"recipe_digest must be .*{RECIPE.digest}; got "),
    "another recipe": ({"recipe": OTHER.to_dict()}, f"as this version computes it, {OTHER.digest}; got "),
    "an unknown parameter": ({"recipe": {**RECIPE.to_dict(), "zoom": 2}}, "not known \\['zoom'\\]"),
    "another input": ({"input_shape": [2, 8, 64, 64]}, "input_shape must be the recipe's; got \\[2, 8, 64, 64\\]"),
    "other names of the network": ({"output": "probabilities"}, "input and output must be image and logits"),
    "one class": ({"classes": ["NOR"]}, "classes must be two names or more"),
    "a class twice": ({"classes": ["NOR", "NOR"]}, "classes must be two names or more, each once"),
    "a class of nothing": ({"classes": ["NOR", ""]}, "classes must be two names or more"),
    "a class that is a number": ({"classes": ["NOR", 1]}, "classes must be two names or more"),
    "an unknown precision": ({"precision": "int4"}, "precision must be one of"),
    "a name for a path": ({"name": "../student"}, "name must be of letters"),
    "a version for a path": ({"package_version": "1/2"}, "package_version must be of letters"),
    "an envelope by site": ({"envelope": envelope(columns=["site"])}, "which headers tell; got 'site'"),
    "an envelope's row twice": ({"envelope": envelope(groups=[entry("vendor", "GE", 9)] * 2)}, "once per column"),
    "an envelope without rows": ({"envelope": {"columns": ["vendor"]}}, "must have all that a package .* KeyError"),
    "an envelope of text": ({"envelope": "audited"}, "must have all that a package of version 1 has"),
    "files elsewhere": (
        {"files": {"student.onnx": {"sha256": "", "bytes": 0}, "MODEL_CARD.md": {}, "audit.json": {}, "../secret": {}}},
        "must list files beside it; got '../secret'",
    ),
    "no card": (
        {"files": {"student.onnx": {"sha256": "", "bytes": 0}, "audit.json": {}}},
        "MODEL_CARD.md is not listed",
    ),
    "no audit for the envelope": (
        {"files": {"student.onnx": {"sha256": ""}, "MODEL_CARD.md": {}}},
        "audit.json is not listed",
    ),
    "a file without a digest": (
        {"files": {"student.onnx": {"sha256": ""}, "MODEL_CARD.md": {"bytes": 12}, "audit.json": {}}},
        "must have all that a package of version 1 has; KeyError: 'sha256'",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_manifest_that_this_version_cannot_trust_is_refused(folder: Path, what: str) -> None:
    changes, message = REFUSED[what]
    with pytest.raises(PackageError, match=message):
        read_package(rewrite(folder, **changes))


@pytest.mark.parametrize("change", [{"bias_correction": "n4"}, {"extra_steps": ["denoise"]}])
def test_a_recipe_that_numpy_cannot_run_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    recipe = StudentInput.from_dict({**RECIPE.to_dict(), **change})
    said = manifest(recipe=recipe.to_dict(), recipe_digest=recipe.digest)
    with pytest.raises(PackageError, match="the recipe must need nothing but numpy"):
        read_package(made_package(tmp_path / "package", said))


@pytest.mark.parametrize("key", sorted(manifest()))
def test_a_manifest_lacks_nothing_that_is_read(folder: Path, key: str) -> None:
    path = folder / "package.json"
    said = json.loads(path.read_text())
    del said[key]
    path.write_text(json.dumps(said))
    if key in FOR_PEOPLE:
        assert read_package(folder).classes == CLASSES
    else:
        with pytest.raises(PackageError):
            read_package(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_no_manifest_is_refused(folder: Path, content: bytes) -> None:
    (folder / "package.json").write_bytes(content)
    with pytest.raises(PackageError, match=r"package.json must be"):
        read_package(folder)


def test_a_package_without_an_audit_needs_no_audit_file(tmp_path: Path) -> None:
    folder = made_package(tmp_path / "package", manifest(envelope=None))
    assert read_package(folder).envelope is None


def test_a_scanner_is_shown_by_name_only_if_it_was_audited(tmp_path: Path) -> None:
    """What a header says of the model may be anything, a name among it."""
    groups = [entry("scanner", "Siemens Avanto 1.5 T", 30), entry("scanner", "GE Signa 3 T", 0)]
    said = manifest(
        envelope=envelope(columns=["scanner"], groups=groups), training_groups={"scanner": {"Philips Achieva 3 T": 9}}
    )  # trained on, but not audited
    package = read_package(made_package(tmp_path / "package", said))
    audited = Scanner("Siemens", "Avanto", 1.5, site="Here", vendor_raw="SIEMENS of Jane Doe", software="XA20")
    assert package.shown(audited) == Scanner("Siemens", "Avanto", 1.5)
    assert package.shown(Scanner("Philips", "Achieva", 3.0)) == Scanner("Philips", "", 3.0)
    assert package.shown(Scanner("GE", "Signa", 3.0)) == Scanner("GE", "", 3.0)
    assert package.shown(Scanner("Siemens", "Jane Doe", 1.5)) == Scanner("Siemens", "", 1.5)


def test_reading_a_package_imports_nothing_heavy(folder: Path) -> None:
    code = (
        f"import sys; from pipeline.deployment.package import read_package; read_package({str(folder)!r});"
        "print({'torch', 'monai', 'mlflow', 'pandas', 'scipy', 'onnxruntime', 'pydicom'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="something else; choose another"):
        check_place(tmp_path, force=True)


def test_a_package_with_somebodys_file_in_it_is_never_replaced(folder: Path) -> None:
    (folder / "findings.xlsx").write_text("weeks of work")
    with pytest.raises(FileExistsError, match="something else; choose another"):
        check_place(folder, force=True)


def test_a_repository_in_a_packages_folder_is_never_replaced(folder: Path) -> None:
    (folder / ".git").mkdir()
    with pytest.raises(FileExistsError, match="something else; choose another"):
        check_place(folder, force=True)


def test_what_file_browsers_leave_keeps_no_package_from_being_replaced(folder: Path) -> None:
    for name in (".DS_Store", ".directory", "._student.onnx"):
        (folder / name).write_bytes(b"x")
    assert check_place(folder, force=True) == folder.resolve()


def test_a_package_is_replaced_only_on_request(folder: Path) -> None:
    with pytest.raises(FileExistsError, match="give --force"):
        check_place(folder, force=False)
    assert check_place(folder, force=True) == folder.resolve()


def test_a_package_that_fails_its_check_leaves_the_one_before_it_and_nothing_else(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fails(new: Path) -> None:
        assert (new / "a").read_bytes() == b"b"
        raise PackageError("no")

    with pytest.raises(PackageError, match="no"):
        write_folder(folder, {"a": b"b"}, fails)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["package"]


def test_a_replaced_package_leaves_nothing_behind(folder: Path) -> None:
    write_folder(folder, {"a": b"b"}, lambda _: None)
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert [path.name for path in folder.parent.iterdir()] == ["package"]
