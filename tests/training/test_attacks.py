"""Attacks of a known size, held against the Adversarial Robustness Toolbox and against algebra."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.training.attacks import accuracy_under_attack, fgsm, pgd

CLASSES = 3


def _network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(256, CLASSES),
    )


def _batch(cases: int = 12, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(cases, 2, 8, 8, generator=generator), torch.arange(cases) % CLASSES


def _loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return functional.cross_entropy(network.eval()(images), labels, reduction="none")


def _pgd(network: nn.Module, images: Tensor, labels: Tensor, **changed: Any) -> Tensor:
    return pgd(network, images, labels, **{"eps": 0.1, "step": 0.03, "steps": 6, **changed})


@pytest.fixture(scope="module")
def toolbox() -> Callable[[nn.Module], Any]:
    """A network as the toolbox wants it, without a range of values."""
    from art.estimators.classification import PyTorchClassifier

    def classifier(network: nn.Module) -> Any:
        loss = nn.CrossEntropyLoss()
        return PyTorchClassifier(network.eval(), loss, (2, 8, 8), CLASSES, clip_values=None, device_type="cpu")

    return classifier


@pytest.mark.parametrize("seed", [0, 1])
def test_both_attacks_give_the_images_of_the_toolbox(toolbox: Callable[[nn.Module], Any], seed: int) -> None:
    from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentPyTorch

    network, (images, labels) = _network(seed), _batch(seed=seed)
    one_hot = np.eye(CLASSES)[labels.numpy()]
    single = FastGradientMethod(toolbox(network), eps=0.1, batch_size=12)
    several = ProjectedGradientDescentPyTorch(toolbox(network), eps=0.1, eps_step=0.03, max_iter=6, verbose=False)
    for ours, theirs in ((fgsm(network, images, labels, eps=0.1), single), (_pgd(network, images, labels), several)):
        expected = theirs.generate(images.numpy(), one_hot)
        np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6)
        assert np.abs(expected - images.numpy()).max() == pytest.approx(0.1, abs=1e-6)


def test_of_a_linear_network_each_attack_takes_eps_times_the_sum_of_weights() -> None:
    """Two classes with logits w·x and 0: the margin of class 0 falls by eps ||w||_1, of class 1 likewise."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 2, bias=False))
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0, -0.25, 1.25])
    network[1].weight.data = torch.stack([weights, torch.zeros(6)])
    images, labels = torch.zeros(2, 1, 2, 3), torch.tensor([0, 1])
    for changed in (
        fgsm(network, images, labels, eps=0.1),
        pgd(network, images, labels, eps=0.1, step=0.05, steps=4, generator=torch.Generator().manual_seed(0)),
    ):
        margins = network(changed)[:, 0]
        assert margins.tolist() == pytest.approx([-0.8, 0.8])


@pytest.mark.parametrize("random_start", [False, True])
def test_no_value_changes_by_more_than_eps_and_the_loss_rises(random_start: bool) -> None:
    network, (images, labels) = _network(), _batch(cases=40)
    generator = torch.Generator().manual_seed(0) if random_start else None
    stepwise = _pgd(network, images, labels, step=0.1, generator=generator)
    single = fgsm(network, images, labels, eps=0.1)
    assert float((stepwise - images).abs().max()) <= 0.1 + 1e-6
    clean, once, often = (_loss(network, x, labels).mean() for x in (images, single, stepwise))
    assert clean < once
    assert clean < often


def test_a_start_is_drawn_only_from_a_generator() -> None:
    """With steps of length 0 PGD stays where it starts: at the image, or somewhere within eps of it."""
    network, (images, labels) = _network(), _batch()
    assert torch.equal(_pgd(network, images, labels, step=0.0), images)
    drawn = [_pgd(network, images, labels, step=0.0, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert float((drawn[0] - images).std()) == pytest.approx(0.1 / np.sqrt(3), rel=0.05)  # SD of a uniform


def test_the_network_keeps_its_modes_its_statistics_and_no_gradient() -> None:
    """One module of a network in training mode may be frozen; dropout must not act during the attack."""
    network, (images, labels) = _network().train(), _batch()
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    changed = [_pgd(network, images, labels) for _ in range(2)]
    accuracy_under_attack(network, images, labels, attack="fgsm", eps_values=[0.1])
    assert torch.equal(*changed)
    assert not changed[0].requires_grad
    assert [module.training for module in network] == [True, False, True, True, True, True]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_accuracy_starts_at_that_of_clean_images_and_falls_as_a_linear_network_must(attack: Any) -> None:
    """Weight 1 on one pixel: a case with value v falls once eps exceeds |v|; of 0.05, 0.15, … 0.95 each tenth."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    network[1].weight.data = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    values = torch.arange(10) / 10 + 0.05
    images = torch.stack([values, torch.zeros(10)], dim=1).reshape(10, 1, 1, 2)
    labels = torch.zeros(10, dtype=torch.long)
    labels[9] = 1  # wrong before the attack, and after it
    curve = accuracy_under_attack(network, images, labels, attack=attack, eps_values=[0, 0.3, 1.0], batch_size=4)
    assert curve == {0: pytest.approx(0.9), 0.3: pytest.approx(0.6), 1.0: pytest.approx(0.0)}


def test_settings_out_of_range_are_refused() -> None:
    network, (images, labels) = _network(), _batch()
    with pytest.raises(ValueError, match="eps must be at least 0, in standard deviations of the intensities; got -1"):
        fgsm(network, images, labels, eps=-1)
    with pytest.raises(ValueError, match=r"step must be in \[0, eps\] and steps at least 1; got 0.2, 6 with eps 0.1"):
        _pgd(network, images, labels, step=0.2)
    with pytest.raises(ValueError, match="attack must be one of fgsm, pgd, on at least one image; got 'cw' on 12"):
        accuracy_under_attack(network, images, labels, attack="cw", eps_values=[0])  # type: ignore[arg-type]
