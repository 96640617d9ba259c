"""A package says what its student says, and of whom; what does not belong together is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from jsonschema import validate

from pipeline.audit.audited import read_audited
from pipeline.audit.records import schema
from pipeline.cli import main
from pipeline.deployment.answers import answers, prepared_studies, reproduces
from pipeline.deployment.card import package_card
from pipeline.deployment.envelope import judge
from pipeline.deployment.example_inputs import rendered_inputs
from pipeline.deployment.export import Packed, export_package
from pipeline.deployment.outcome import Verdict
from pipeline.deployment.package import read_package
from pipeline.deployment.session import cpu_session
from pipeline.deployment.student import Student
from pipeline.training.checkpoint import load_network
from tests.deployment.made_package import manifest
from tests.deployment.small_student import CLASSES, NAME, RECIPE, SmallStudent
from transforms.scanner import Scanner

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packed(small: SmallStudent) -> Packed:
    """Exported as the README says, with audit and prepared studies."""
    return export_package(small.run, small.run / "package", audit=small.audit, dataset_dir=small.prepared)


Changed = Callable[..., Path]


@pytest.fixture
def changed(small: SmallStudent, tmp_path: Path) -> Changed:
    """The student's checkpoint with some entries changed."""

    def change(**entries: Any) -> Path:
        torch.save({**torch.load(small.run / "model.pt", weights_only=True), **entries}, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    return change


def _manifest(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "package.json").read_text()))


def test_onnxruntime_says_of_prepared_studies_what_the_trained_network_says(
    small: SmallStudent, packed: Packed
) -> None:
    """Both ways as they are used: the bundle's network in torch, the hospital's student in onnxruntime."""
    images = small.images()
    with torch.no_grad():
        expected = load_network(small.run / "model.pt")(torch.from_numpy(images)).numpy()
    session = cpu_session(packed.package.onnx_bytes())
    (found,) = session.run(["logits"], {"image": images})
    np.testing.assert_allclose(found, expected, atol=1e-4)
    student = Student(packed.package)
    for image, logits in zip(images, expected, strict=True):
        shares = student.probabilities(image)
        assert tuple(shares) == CLASSES
        np.testing.assert_allclose(list(shares.values()), torch.from_numpy(logits).softmax(0), atol=1e-4)


def test_a_package_holds_everything_that_its_manifest_promises(small: SmallStudent, packed: Packed) -> None:
    package, said = packed.package, _manifest(packed.package.folder)
    assert {path.name for path in package.folder.iterdir()} == {*said["files"], "package.json"}
    assert said["training_groups"] == {"vendor": {"Canon": 12, "GE": 12, "Siemens": 24}}
    assert said["runs"] == {"student": "student-1", "teachers": ["teacher-1", "teacher-2"]}
    assert (said["method"], said["input_shape"], said["precision"]) == ("groupdistil", [2, 4, 32, 32], "float32")
    assert said["checked_with"] == {
        "inputs": "prepared studies of the section 'test'", "cases": 8, "audit_reproduced": True,
    }  # fmt: skip
    assert said["audit"]["sha256"] == read_audited(small.audit, NAME).digest


def test_the_envelope_is_the_audits_table_without_what_headers_do_not_tell(packed: Packed, small: SmallStudent) -> None:
    envelope = packed.package.envelope
    assert envelope is not None
    assert (envelope.columns, envelope.left_out, envelope.model) == (("vendor",), ("site",), NAME)
    groups = pd.read_csv(small.audit / "groups.csv", keep_default_na=False)
    listed = groups[(groups["model"] == NAME) & (groups["column"] == "vendor")]
    expected = [(r.group, r.measure, r.n_patients, r.value, r.low or None) for r in listed.itertuples()]
    found = [(e.group, e.measure, e.n_patients, e.value, e.low) for e in envelope.groups]
    assert [e[:3] for e in found] == [e[:3] for e in expected]
    for one, other in zip(found, expected, strict=True):
        assert one[3] == pytest.approx(float(other[3]))
        assert one[4] == (None if other[4] is None else pytest.approx(float(other[4])))
    assert {e.measure: e.n_patients for e in envelope.everybody} == {"accuracy": 27, "auc": 27}
    verdicts = [judge(envelope, Scanner(vendor)).verdict for vendor in ("Siemens", "Canon", "Philips")]
    assert verdicts == [Verdict.AUDITED, Verdict.TOO_FEW, Verdict.UNSEEN]


def test_the_audit_travels_without_single_cases(small: SmallStudent, packed: Packed) -> None:
    """A case_id may be made of a patient's; whoever gets the package has no right to it."""
    assert "-test-" in (small.audit / "audit.json").read_text()
    said = "".join(path.read_text(errors="replace") for path in packed.package.folder.iterdir())
    assert "-test-" not in said
    copied = json.loads((packed.package.folder / "audit.json").read_text())
    validate(copied, schema())
    assert read_audited(packed.package.folder, NAME).estimates == read_audited(small.audit, NAME).estimates


def test_nothing_in_a_package_tells_where_it_was_made(packed: Packed) -> None:
    for path in packed.package.folder.iterdir():
        assert str(ROOT).encode() not in path.read_bytes(), path.name
        assert b"site-packages" not in path.read_bytes(), path.name


def test_the_card_says_for_whom_it_is_and_takes_the_audits_findings_along(packed: Packed) -> None:
    card = (packed.package.folder / "MODEL_CARD.md").read_text()
    assert "Research only" in card
    assert "Not a medical device" in card
    assert "| Canon | 12 |" in card
    assert "gave the audited values" in card
    assert "## Robustness and precision of estimates" in card


def test_the_card_says_that_an_audits_operating_threshold_is_not_applied() -> None:
    assert "the audit's operating threshold is not applied" in package_card(manifest(), "")
    assert "threshold" not in package_card(manifest(operating_threshold=None), "")


def test_the_reference_is_what_the_student_said_of_the_audited_studies(small: SmallStudent, packed: Packed) -> None:
    with torch.no_grad():
        logits = load_network(small.run / "model.pt")(torch.from_numpy(small.images()))
    shares = logits.softmax(1).numpy()
    reference = packed.package.reference
    assert reference is not None
    predicted = [CLASSES[index] for index in shares.argmax(1)]
    assert reference["classes"] == {name: pytest.approx(predicted.count(name) / 27) for name in CLASSES}
    expected = np.histogram(shares.max(1), bins=10, range=(0, 1))[0] / 27
    np.testing.assert_allclose(reference["features"]["max_probability"], expected)
    groups = {"Siemens": pytest.approx(12 / 27), "GE": pytest.approx(12 / 27), "Canon": pytest.approx(3 / 27)}
    assert (reference["groups"], reference["n_cases"]) == ({"vendor": groups}, 27)
    assert {vendor: said["n_cases"] for vendor, said in reference["vendors"].items()} == {"Siemens": 12, "GE": 12}


@pytest.mark.slow
def test_the_same_student_gives_the_same_bytes(small: SmallStudent, packed: Packed, tmp_path: Path) -> None:
    again = export_package(small.run, tmp_path / "package", audit=small.audit, dataset_dir=small.prepared)
    assert again.package.digest == packed.package.digest


def test_without_audit_and_studies_hearts_are_rendered_and_every_scanner_is_unseen(
    small: SmallStudent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(small.run), "-o", str(tmp_path / "p"), "--name", "other", "--version", "2.0"]) == 0
    package = read_package(tmp_path / "p")
    assert (package.name, package.version, package.envelope, package.reference) == ("other", "2.0", None, None)
    assert judge(package.envelope, Scanner("Siemens")).verdict == Verdict.UNSEEN
    assert _manifest(tmp_path / "p")["checked_with"]["inputs"] == "rendered hearts"
    assert "holds no audit" in (tmp_path / "p" / "MODEL_CARD.md").read_text()
    said = capsys.readouterr().out
    assert f"digest {package.digest}" in said
    assert "every scanner will be called unseen" in said


def test_rendered_hearts_are_prepared_studies_that_differ() -> None:
    images = rendered_inputs(RECIPE)
    assert images.shape == (2, *RECIPE.shape)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3, 4)), 0, atol=1e-3)
    assert not np.allclose(images[0], images[1], atol=0.1)


def test_an_audit_of_another_model_is_refused(small: SmallStudent, tmp_path: Path) -> None:
    """It is under the right name and on the right studies: only running the model on them tells."""
    state = torch.load(small.run / "model.pt", weights_only=True)
    state["model"]["head.weight"] = state["model"]["head.weight"].flip(0)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"audit must be of this model; it says .* on as many prepared studies"):
        export_package(tmp_path / "model.pt", tmp_path / "p", audit=small.audit, dataset_dir=small.prepared)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_answers_on_other_studies_neither_confirm_nor_refute_an_audit(small: SmallStudent, packed: Packed) -> None:
    audited = read_audited(small.audit, NAME)
    package = packed.package
    studies = prepared_studies(small.prepared, ["test"], RECIPE.digest, CLASSES)
    frame = answers(package.onnx_bytes(), studies, NAME)
    assert reproduces(frame, audited)
    assert not reproduces(frame.iloc[1:], audited)


@pytest.mark.parametrize(("cases", "same"), [(1, True), (2, False)])
def test_one_case_that_rounding_tips_over_does_not_make_another_model(
    small: SmallStudent, packed: Packed, cases: int, same: bool
) -> None:
    """12 patients of GE: the audit may say a twelfth more or less, not two."""
    audited, place = read_audited(small.audit, NAME), ("vendor", "GE", "accuracy")
    before = audited.estimates[place]
    moved = dataclasses.replace(before, value=before.value - cases / 12)
    other = dataclasses.replace(audited, estimates={**audited.estimates, place: moved})
    studies = prepared_studies(small.prepared, ["test"], RECIPE.digest, CLASSES)
    frame = answers(packed.package.onnx_bytes(), studies, NAME)
    with contextlib.nullcontext() if same else pytest.raises(ValueError, match=r"says accuracy .* in vendor GE, and"):
        assert reproduces(frame, other)


def test_the_order_of_classes_must_be_the_audits(small: SmallStudent, changed: Changed, tmp_path: Path) -> None:
    model = changed(classes=["HCM", "NOR", "DCM"])
    with pytest.raises(ValueError, match="agree in name and order; the audit has NOR, HCM, DCM, the model HCM, NOR"):
        export_package(model, tmp_path / "p", audit=small.audit)


def test_studies_prepared_for_another_model_are_refused(small: SmallStudent, changed: Changed, tmp_path: Path) -> None:
    model = changed(classes=["HCM", "NOR", "DCM"])
    with pytest.raises(ValueError, match=r"must have the model's recipe and classes, .* HCM, NOR, DCM; they have"):
        export_package(model, tmp_path / "p", dataset_dir=small.prepared)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({**RECIPE.to_dict(), "bias_correction": "n4"}, "numpy alone; the model's recipe has bias_correction 'n4'"),
        ({**RECIPE.to_dict(), "extra_steps": ["denoise"]}, r"extra_steps \['denoise'\]"),
        ({"rows": 64, "cols": 64, "channels": 3}, "the model reads photographs"),
    ],
)
def test_a_model_that_the_hospital_cannot_prepare_for_is_refused(
    changed: Changed, tmp_path: Path, recipe: dict[str, Any], message: str
) -> None:
    from transforms.recipe import StudentInput

    digest = "" if "channels" in recipe else StudentInput.from_dict(recipe).digest
    with pytest.raises(ValueError, match=message):
        export_package(changed(recipe=recipe, recipe_digest=digest), tmp_path / "p")


def test_a_model_of_a_recipe_that_has_changed_since_is_refused(changed: Changed, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prepare studies as the model's training did, recipe 0123456789ab…"):
        export_package(changed(recipe_digest="0123456789ab" * 5), tmp_path / "p")


@pytest.mark.parametrize(("option", "value"), [("name", "../x"), ("version", "1 0"), ("name", "a" * 65)])
def test_a_name_that_is_no_name_is_refused(small: SmallStudent, tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"--{option} must be of letters"):
        export_package(small.run, tmp_path / "p", **{option: value})


def test_a_package_that_is_there_stays_without_force(packed: Packed, small: SmallStudent) -> None:
    before = packed.package.digest
    assert main(["export", str(small.run), "-o", str(packed.package.folder), "--version", "9"]) == 2
    assert read_package(packed.package.folder).digest == before


def test_a_models_name_without_an_audit_is_refused(small: SmallStudent, tmp_path: Path) -> None:
    """It would be ignored, and the package have no envelope."""
    with pytest.raises(ValueError, match="got 'student' and no audit; add --audit"):
        export_package(small.run, tmp_path / "p", model="student")


def test_an_audit_of_a_split_that_the_datalist_has_not_is_packed_unconfirmed(
    small: SmallStudent, tmp_path: Path
) -> None:
    """The network is then checked on the test section, and the card says that the audit's values are taken on trust."""
    record = json.loads((small.audit / "audit.json").read_text())
    record["plan"]["split"] = "second reading"
    (tmp_path / "audit.json").write_text(json.dumps(record))
    packed = export_package(small.run, tmp_path / "p", audit=tmp_path, dataset_dir=small.prepared)
    assert packed.checked_with == {
        "inputs": "prepared studies of the section 'test'", "cases": 8, "audit_reproduced": False,
    }  # fmt: skip
    assert packed.package.reference is None
    assert "were not computed again" in (tmp_path / "p" / "MODEL_CARD.md").read_text()
    assert "were not computed again" in "\n".join(packed.lines())


def test_a_run_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), "-o", str(tmp_path / "p")]) == 2
    assert "no model at" in capsys.readouterr().err
