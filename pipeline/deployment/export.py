"""From a checkpoint and its audit to a student package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline import __version__
from pipeline.deployment.answers import PreparedStudies, answers, prepared_studies, reference_of, reproduces
from pipeline.deployment.card import package_card
from pipeline.deployment.checkpoint_facts import exportable_recipe, likely_name, model_facts
from pipeline.deployment.example_inputs import rendered_inputs
from pipeline.deployment.manifest import AUDIT, CARD, FORMAT, MANIFEST, NAME, ONNX, VERSION
from pipeline.deployment.onnx_file import onnx_model
from pipeline.deployment.package import Package, read_package
from pipeline.deployment.package_audit import PackageAudit, read_package_audit
from pipeline.deployment.package_folder import check_place, manifest_bytes, write_folder
from pipeline.training.checkpoint import build_network, load_checkpoint
from transforms.recipe import StudentInput

MODEL = "model.pt"
CHECKED = 8  # prepared studies, evenly over the section
SECTIONS = ("test", "validation", "training")  # to check with, the first that has cases


@dataclass(frozen=True)
class Packed:
    """What an export did.

    Attributes:
        package: as a hospital will read it.
        checked_with: what torch and onnxruntime were compared on, and whether the audit's values came out again.
        int8: accuracy in the worst group before and after rounding to 8 bits, and the most that any group lost;
            ``None`` for float32.
    """

    package: Package
    checked_with: Mapping[str, Any]
    int8: Mapping[str, Any] | None

    def lines(self) -> Iterator[str]:
        """What a person is told."""
        package, checked = self.package, self.checked_with
        yield f"{package.name} {package.version}, {package.onnx_path.stat().st_size / 1000:.0f} kB, {package.precision}"
        yield f"checked against torch on {checked['cases']} {checked['inputs']}"
        if self.int8 is not None:
            before, after, most = self.int8["float32"], self.int8["int8"], self.int8["largest_loss"]
            yield f"accuracy in the worst group: float32 {before:.4f}, int8 {after:.4f}"
            yield f"largest loss of accuracy in 8 bits: {most['accuracy']:.4f}, in {most['column']} {most['group']}"
        yield _audit_line(package, checked)
        yield f"wrote {package.folder}"
        yield f"digest {package.digest}"


def export_package(
    checkpoint: str | Path,
    out: str | Path,
    *,
    audit: str | Path | None = None,
    model: str | None = None,
    dataset_dir: str | Path | None = None,
    name: str | None = None,
    version: str | None = None,
    int8: bool = False,
    force: bool = False,
) -> Packed:
    """Write a student package: network, manifest, audit, model card; the folder is complete or absent.

    Args:
        checkpoint: ``model.pt``, or a training's output folder that holds it.
        out: folder to write.
        audit: ``audit.json`` of an audit that holds this model, or its folder; without one every scanner is unseen.
        model: its name in the audit; by default the one that its bundle gives it, or the only one.
        dataset_dir: prepared studies to check the network with, and the audit against it; hearts are rendered without.
        name: of the package; the bundle's by default.
        version: of the package; this program's by default.
        int8: whether the network is rounded to 8 bits.
        force: whether a package at ``out`` is replaced.

    Returns:
        The package, read back as a hospital reads it, and what it was checked with.

    Raises:
        FileExistsError: if ``out`` holds something else, or a package without ``force``.
        FileNotFoundError: if a file is absent.
        ValueError: if model, studies and audit do not belong together, the hospital could not run the recipe, or 8
            bits cost a group more than a point of accuracy, or the audited studies to tell are not at hand.
    """
    place = check_place(out, force=force)
    if int8 and dataset_dir is None:
        raise ValueError("int8 is calibrated and judged on prepared studies; none are given; add --dataset_dir")
    state = load_checkpoint(_model_file(checkpoint))
    recipe = exportable_recipe(state)
    _check_names(name, version)
    found = _audit(audit, state, model)
    studies = None if dataset_dir is None else _studies(dataset_dir, state, found)
    onnx, checked_with = _checked_network(state, recipe, studies)
    reproduced = found is not None and studies is not None and _reproduced(onnx, studies, found)
    checked_with["audit_reproduced"] = reproduced
    loss = None
    if int8 and dataset_dir is not None and studies is not None:
        columns = _columns_to_judge_by(found, reproduced=reproduced)
        onnx, loss = _rounded(onnx, dataset_dir, studies, state, columns)
    manifest = {
        **_names(state, name, version),
        **model_facts(state, recipe),
        **_of_audit(found),
        "precision": "float32" if loss is None else "int8",
        "int8": loss,
        "checked_with": checked_with,
        "reference": _reference(onnx, studies, found) if found and studies and reproduced else None,
    }
    return Packed(_write(place, manifest, onnx, found), checked_with, loss)


def _audit_line(package: Package, checked_with: Mapping[str, Any]) -> str:
    if package.envelope is None:
        return "no audit: every scanner will be called unseen"
    columns = ", ".join(package.envelope.columns) or "no column that headers tell: every scanner will be called unseen"
    said = f"audit of {package.envelope.model!r} by {columns}"
    if checked_with["audit_reproduced"]:
        return f"{said}: its values come out again{' in float32' if package.precision == 'int8' else ''}"
    return f"{said}: its values were not computed again, for want of the audited studies (--dataset_dir)"


def _model_file(checkpoint: str | Path) -> Path:
    path = Path(checkpoint)
    return path / MODEL if path.is_dir() else path


def _check_names(name: str | None, version: str | None) -> None:
    for what, given in (("--name", name), ("--version", version)):
        if given is not None and not NAME.fullmatch(given):
            raise ValueError(
                f"{what} must be of letters, digits and . _ + -, at most 64; got {given!r}; choose another"
            )


def _audit(audit: str | Path | None, state: Mapping[str, Any], model: str | None) -> PackageAudit | None:
    if audit is None:
        if model is not None:
            raise ValueError(f"--model names a model of an audit; got {model!r} and no audit; add --audit")
        return None
    return read_package_audit(audit, state["classes"], model=model, likely=likely_name(state))


def _studies(dataset_dir: str | Path, state: Mapping[str, Any], found: PackageAudit | None) -> PreparedStudies:
    audited = () if found is None else (str(found.audited.plan["split"]),)
    return prepared_studies(dataset_dir, (*audited, *SECTIONS), state["recipe_digest"], state["classes"])


def _checked_network(
    state: Mapping[str, Any], recipe: StudentInput, studies: PreparedStudies | None
) -> tuple[bytes, dict[str, Any]]:
    """The network as ONNX, and what it was compared with torch on."""
    images = rendered_inputs(recipe) if studies is None else studies.spread(CHECKED)
    inputs = "rendered hearts" if studies is None else f"prepared studies of the section {studies.section!r}"
    return onnx_model(build_network(state), torch.from_numpy(images)), {"inputs": inputs, "cases": len(images)}


def _reproduced(onnx: bytes, studies: PreparedStudies, found: PackageAudit) -> bool:
    """Whether the network gives the audited values; False where the audited studies are not at hand."""
    if studies.section != found.audited.plan["split"] or studies.unlabelled:
        return False
    return reproduces(answers(onnx, studies, found.audited.model), found.audited)


def _reference(onnx: bytes, studies: PreparedStudies, found: PackageAudit) -> dict[str, Any]:
    """What the packed network says of the audited studies."""
    columns = tuple(dict.fromkeys(("vendor", *found.envelope.columns)))
    said = answers(onnx, studies, found.audited.model)
    return reference_of(said, columns, min_patients=int(found.audited.plan["min_patients"]))


def _rounded(
    onnx: bytes, dataset_dir: str | Path, tested: PreparedStudies, state: Mapping[str, Any], columns: Sequence[str]
) -> tuple[bytes, dict[str, Any]]:
    from pipeline.deployment.quantise import CALIBRATED_ON, accepted_int8

    if tested.section == "training":
        raise ValueError("int8 is judged on studies that it is not calibrated on; the datalist has training alone")
    training = prepared_studies(dataset_dir, ("training",), state["recipe_digest"], state["classes"])
    return accepted_int8(onnx, training.spread(CALIBRATED_ON), tested, columns)


def _columns_to_judge_by(found: PackageAudit | None, *, reproduced: bool) -> tuple[str, ...]:
    if found is None:
        return ()
    if not reproduced:
        raise ValueError(
            f"8 bits must be judged on the audited studies, labelled, of the split {found.audited.plan['split']!r}; "
            "these are others; give the --dataset_dir that was audited, or export without --int8"
        )
    return found.audited.group_by


def _names(state: Mapping[str, Any], name: str | None, version: str | None) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name or str(state.get("bundle", "student")),
        "package_version": version or __version__,
        "created_with": f"evenbeat {__version__}",
    }


def _of_audit(found: PackageAudit | None) -> dict[str, Any]:
    if found is None:
        return {"envelope": None, "operating_threshold": None, "audit": None}
    threshold = next(({"class": c, "threshold": t} for c, t in found.threshold.items()), None)
    source = {"sha256": found.audited.digest, "fingerprint": found.audited.fingerprint}
    audit = {**source, "audited_precision": "float32"}  # whatever the package's own is
    return {"envelope": found.envelope.to_dict(), "operating_threshold": threshold, "audit": audit}


def _write(place: Path, manifest: Mapping[str, Any], onnx: bytes, found: PackageAudit | None) -> Package:
    card = package_card(manifest, "" if found is None else found.card)
    files = {ONNX: onnx, CARD: card.encode(), **({} if found is None else {AUDIT: found.numbers})}
    written = {**files, MANIFEST: manifest_bytes(manifest, files)}
    write_folder(place, written, read_package)
    return read_package(place)
