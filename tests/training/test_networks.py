"""Networks read all before the last two axes as channels, and end in a linear layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession
from torch import nn

from pipeline.training.networks import Architecture, Classifier, parameter_count

TEACHER = (64, 128, 256, 512)

every_architecture = pytest.mark.parametrize("architecture", get_args(Architecture))


def slow(architecture: str) -> Any:
    """One of the large ones, whose compilation takes long."""
    return pytest.param(architecture, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_the_default_student_has_less_than_a_fiftieth_of_the_teachers_parameters() -> None:
    student = parameter_count(Classifier(classes=3, channels=16))
    assert student * 50 < parameter_count(Classifier(classes=3, channels=16, widths=TEACHER))


@pytest.mark.parametrize(
    ("architecture", "published"),
    [
        ("resnet50", 25_557_032 - 64 * 3 * (7 * 7 - 3 * 3)),
        ("densenet121", 7_978_856),
        ("mobilenetv2", 3_504_872),
    ],
)
def test_networks_have_the_published_number_of_parameters(architecture: Architecture, published: int) -> None:
    """Counts of torchvision's models on ImageNet; ResNet-50 has a first layer of 3 x 3."""
    assert parameter_count(Classifier(architecture, classes=1000, channels=3)) == published


@every_architecture
@pytest.mark.parametrize(("shape", "classes"), [((2, 8, 64, 64), 3), ((3, 33, 48), 9)])
def test_the_logits_are_the_head_of_the_features(
    architecture: Architecture, shape: tuple[int, ...], classes: int
) -> None:
    """A cine of 2 phases and 8 slices, and a colour picture."""
    network = Classifier(architecture, classes=classes, channels=int(np.prod(shape[:-2]))).eval()
    images = torch.randn(2, *shape)
    features = network.features(images)
    assert isinstance(network.head, nn.Linear)
    assert features.shape == (2, network.head.in_features)
    assert network(images).shape == (2, classes)
    assert torch.equal(network(images), features @ network.head.weight.T + network.head.bias)


@every_architecture
def test_the_features_are_means_over_the_image_reduced_sixteenfold(architecture: Architecture) -> None:
    """The first convolution of a 64 x 64 image leaves 32 x 32 places, the last one 4 x 4."""
    network = Classifier(architecture, classes=2, channels=3).eval()
    shapes: list[torch.Size] = []

    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            shapes.append(output.shape[-2:])

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(note)
    network(torch.randn(1, 3, 64, 64))
    assert (shapes[0], shapes[-1]) == ((32, 32), (4, 4))


@every_architecture
def test_every_parameter_learns(architecture: Architecture) -> None:
    """A layer that is built and left out of the forward pass would have no gradient."""
    network = Classifier(architecture, classes=3, channels=4)
    network(torch.randn(2, 2, 2, 64, 64)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("architecture", ["resnet", "mobilenetv2"])
def test_a_case_is_read_alike_alone_and_in_a_batch(architecture: Architecture) -> None:
    network = Classifier(architecture, classes=3, channels=8).eval()
    images = torch.randn(5, 2, 4, 32, 32)
    together = network(images)
    alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"classes": 3, "channels": 8},
        {"classes": 3, "channels": 8, "widths": (4, 4, 8, 8), "blocks": (1, 2, 1, 1)},
        {"architecture": "mobilenetv2", "classes": 2, "channels": 3},
    ],
)
def test_the_settings_are_plain_and_build_the_same_network_again(settings: dict[str, object], tmp_path: Path) -> None:
    network = Classifier(**settings)  # type: ignore[arg-type]
    torch.save({"network": network.settings, "model": network.state_dict()}, tmp_path / "model.pt")
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    again = Classifier(**saved["network"])
    again.load_state_dict(saved["model"])
    assert again.settings == network.settings
    image = torch.randn(1, saved["network"]["channels"], 32, 32)
    assert torch.equal(again.eval()(image), network.eval()(image))


def test_end_diastole_and_end_systole_are_told_apart() -> None:
    network = Classifier(classes=3, channels=8).eval()
    image = torch.randn(1, 2, 4, 32, 32)
    assert not torch.allclose(network(image), network(image.flip(1)))


def test_widths_of_an_architecture_that_fixes_them_are_refused() -> None:
    with pytest.raises(ValueError, match="fixed in densenet121"):
        Classifier("densenet121", classes=2, channels=3, widths=(8, 16, 32, 64))


def test_a_fifth_stage_is_refused_rather_than_left_out() -> None:
    with pytest.raises(ValueError, match="four stages"):
        Classifier(classes=2, channels=3, widths=(8, 16, 32, 64, 128))


def test_an_unknown_architecture_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="got 'vit'"):
        Classifier("vit", classes=2, channels=3)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of TorchScript
@pytest.mark.parametrize("architecture", ["resnet", "mobilenetv2", *map(slow, ["resnet50", "densenet121"])])
def test_the_scripted_network_gives_the_same_logits(architecture: Architecture) -> None:
    """MONAI's ``ckpt_export`` compiles the code, branches included, and does not trace an example."""
    network = Classifier(architecture, classes=3, channels=16).eval()
    images = torch.randn(2, 2, 8, 32, 32)
    torch.testing.assert_close(torch.jit.script(network)(images), network(images), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of the exporter
@pytest.mark.parametrize("architecture", ["resnet", *map(slow, ["resnet50", "densenet121", "mobilenetv2"])])
def test_the_exported_network_gives_the_same_logits_for_any_number_of_cases(
    architecture: Architecture, tmp_path: Path
) -> None:
    """The runtime is an independent implementation of every layer."""
    network = Classifier(architecture, classes=3, channels=16).eval()
    path = tmp_path / "model.onnx"
    batch = torch.export.Dim("batch")
    example = torch.randn(2, 2, 8, 64, 64)
    torch.onnx.export(
        network, (example,), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False, optimize=False
    )
    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    images = torch.randn(3, 2, 8, 64, 64)
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    np.testing.assert_allclose(logits, network(images).detach(), rtol=1e-3, atol=1e-4)
