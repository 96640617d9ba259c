"""Eight bits are taken only if the group that is served worst hardly notices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pipeline.cli import main
from pipeline.deployment import quantise
from pipeline.deployment.answers import PreparedStudies, prepared_studies
from pipeline.deployment.onnx_file import onnx_model
from pipeline.deployment.package import read_package
from pipeline.deployment.quantise import accepted_int8, quantised, worst_accuracy
from pipeline.deployment.session import cpu_session
from pipeline.training.checkpoint import load_network
from tests.deployment.small_student import CLASSES, PATIENTS, RECIPE, SmallStudent

FAR_OFF = 1000.0  # a calibration on studies so much brighter leaves no steps for the real ones


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def float32(small: SmallStudent) -> bytes:
    return onnx_model(load_network(small.run / "model.pt"), torch.from_numpy(small.images()[:4]))


@pytest.fixture(scope="module")
def training(small: SmallStudent) -> PreparedStudies:
    return prepared_studies(small.prepared, ["training"], RECIPE.digest, CLASSES)


@pytest.fixture(scope="module")
def tested(small: SmallStudent) -> PreparedStudies:
    return prepared_studies(small.prepared, ["test"], RECIPE.digest, CLASSES)


def test_convolutions_are_rounded_and_the_last_layer_is_not(float32: bytes, training: PreparedStudies) -> None:
    graph = onnx.load_from_string(quantised(float32, training.spread(8))).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    inputs = {kind: {made_by.get(n.input[1]) for n in graph.node if n.op_type == kind} for kind in ("Conv", "Gemm")}
    assert inputs == {"Conv": {"DequantizeLinear"}, "Gemm": {None}}
    held = {tensor.name: tensor for tensor in graph.initializer}
    weights = [
        onnx.numpy_helper.to_array(held[node.input[0]])
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in held
    ]
    bits8 = [weight for weight in weights if weight.dtype == np.int8]
    assert bits8
    assert all(np.abs(weight.astype(int)).max() <= 64 for weight in bits8)


def test_eight_bits_answer_nearly_as_before(small: SmallStudent, float32: bytes, training: PreparedStudies) -> None:
    images = small.images()
    before, after = (
        cpu_session(model).run(["logits"], {"image": images})[0]
        for model in (float32, quantised(float32, training.images()))
    )
    assert 0 < np.abs(after - before).max() < 0.1 * np.ptp(before)


def test_a_harmless_rounding_is_accepted_with_both_values(
    float32: bytes, training: PreparedStudies, tested: PreparedStudies
) -> None:
    rounded, said = accepted_int8(float32, training.images(), tested)
    assert rounded != float32
    assert said == {
        "float32": worst_accuracy(float32, tested),
        "int8": worst_accuracy(rounded, tested),
        "column": "vendor",
        "cases": 27,
    }
    assert said["int8"] >= said["float32"] - 0.01


def test_the_worst_group_is_found_by_the_datalists_own_groups(
    small: SmallStudent, float32: bytes, tested: PreparedStudies
) -> None:
    """Worked out by hand from torch's answers."""
    with torch.no_grad():
        logits = load_network(small.run / "model.pt")(torch.from_numpy(tested.images())).numpy()
    right = logits.argmax(1) == [item["label"] for item in tested.items]
    vendors = np.array([item["vendor"] for item in tested.items])
    assert worst_accuracy(float32, tested) == min(right[vendors == vendor].mean() for vendor in PATIENTS)


def test_a_rounding_that_costs_the_worst_group_is_refused_with_both_values(
    float32: bytes, training: PreparedStudies, tested: PreparedStudies
) -> None:
    before = worst_accuracy(float32, tested)
    assert before > 0.5
    with pytest.raises(ValueError, match=rf"within 0.01 of float32's {before:.4f}; it is 0\.\d{{4}} on 27 studies"):
        accepted_int8(float32, training.images() * FAR_OFF, tested)


def test_exactly_one_point_is_still_accepted(
    float32: bytes, tested: PreparedStudies, training: PreparedStudies, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter((0.90, 0.89, 0.90, 0.8899))
    monkeypatch.setattr(quantise, "worst_accuracy", lambda *_: next(values))
    assert accepted_int8(float32, training.spread(4), tested)[1]["int8"] == 0.89
    with pytest.raises(ValueError, match=r"float32's 0\.9000; it is 0\.8899"):
        accepted_int8(float32, training.spread(4), tested)


def test_a_refused_rounding_ends_the_command_and_writes_nothing(
    small: SmallStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = quantise.quantised
    monkeypatch.setattr(quantise, "quantised", lambda model, studies: real(model, studies * FAR_OFF))
    place = tmp_path / "package"
    command = ["export", str(small.run), "-o", str(place), "--dataset_dir", str(small.prepared), "--int8"]
    assert main(command) == 2
    assert list(tmp_path.iterdir()) == []
    assert "export without --int8" in capsys.readouterr().err


def test_an_accepted_package_says_how_precise_it_is(small: SmallStudent, tmp_path: Path) -> None:
    place = tmp_path / "package"
    command = ["export", str(small.run), "-o", str(place), "--dataset_dir", str(small.prepared), "--int8"]
    assert main([*command, "--audit", str(small.audit)]) == 0
    assert read_package(place).precision == "int8"
    said = json.loads((place / "package.json").read_text())
    assert set(said["int8"]) == {"float32", "int8", "column", "cases"}
    assert said["checked_with"]["audit_reproduced"]
    assert "the audit's values are those before it" in (place / "MODEL_CARD.md").read_text()


def test_eight_bits_need_studies(small: SmallStudent, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(small.run), "-o", str(tmp_path / "p"), "--int8"]) == 2
    assert "add --dataset_dir" in capsys.readouterr().err
