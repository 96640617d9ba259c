"""Small changes of the input, chosen to mislead a network: FGSM and PGD.

Inputs are standardised, so that ``eps`` is in standard deviations of the study's intensities, and there is no range of
values that an image would have to keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

Attack = Literal["fgsm", "pgd"]

PGD_STEPS = 10
PGD_STEP = 0.25  # of eps: ten steps may cross the ball, as in Madry et al.


def fgsm(network: nn.Module, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    r"""One step along the sign of the loss's gradient.

    .. math:: x' = x + \epsilon \, \mathrm{sign} \, \nabla_x \, \mathrm{CE}(f(x), y)

    Args:
        network: from images to logits; attacked in evaluation mode and left as it was.
        images: ``(B, …)``, standardised intensities.
        labels: ``(B,)``, class indices.
        eps: largest change of a value [standard deviations], at least 0.

    Returns:
        Changed images, ``(B, …)``.

    Raises:
        ValueError: if ``eps`` is negative.

    Source: Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572.
    """
    _check_eps(eps)
    with _evaluated(network):
        return images + eps * _gradient(network, images, labels).sign()


def pgd(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    step: float,
    steps: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Several steps along the sign of the loss's gradient, each brought back to within ``eps``.

    Args:
        network: from images to logits; attacked in evaluation mode and left as it was.
        images: ``(B, …)``, standardised intensities.
        labels: ``(B,)``, class indices.
        eps: largest change of a value [standard deviations], at least 0.
        step: change of a value in one step, at most ``eps``: a larger one would be cut back each time.
        steps: number of steps, at least 1.
        generator: on the CPU; with it the start is drawn uniformly from within ``eps``, without it is the image.

    Returns:
        Changed images, ``(B, …)``.

    Raises:
        ValueError: if a setting is out of its range.

    Source: Madry et al. 2018, arXiv:1706.06083.
    """
    _check_eps(eps)
    if not 0 <= step <= eps or steps < 1:
        raise ValueError(
            f"step must be in [0, eps] and steps at least 1; got {step}, {steps} with eps {eps}; change it"
        )
    change = torch.zeros_like(images)
    if generator is not None:
        change = eps * (2 * torch.rand(images.shape, generator=generator, dtype=images.dtype) - 1).to(images.device)
    with _evaluated(network):
        for _ in range(steps):
            ascent = _gradient(network, images + change, labels).sign()
            change = (change + step * ascent).clamp(-eps, eps)
    return images + change


def accuracy_under_attack(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Attack,
    eps_values: Sequence[float],
    batch_size: int = 64,
    seed: int = 0,
) -> dict[float, float]:
    """Share of images that the network still classifies rightly, for each size of the attack.

    PGD takes 10 steps of a quarter of ``eps`` from a random start, the same at every ``eps`` but for its size.

    Args:
        network: from images to logits.
        images: ``(N, …)``, standardised intensities.
        labels: ``(N,)``, class indices.
        attack: ``fgsm`` or ``pgd``.
        eps_values: largest changes [standard deviations]; 0 is the accuracy without attack.
        batch_size: images at once.
        seed: of PGD's start.

    Returns:
        ``eps`` -> accuracy, in [0, 1].

    Raises:
        ValueError: if the attack is unknown, an ``eps`` is negative or there is no image.
    """
    if attack not in get_args(Attack) or not len(images):
        raise ValueError(
            f"attack must be one of {', '.join(get_args(Attack))}, on at least one image; "
            f"got {attack!r} on {len(images)}"
        )
    return {eps: _accuracy(network, images, labels, attack, eps, batch_size, seed) for eps in eps_values}


def _accuracy(
    network: nn.Module, images: Tensor, labels: Tensor, attack: Attack, eps: float, batch_size: int, seed: int
) -> float:
    generator = torch.Generator().manual_seed(seed)
    right = 0
    for batch, truth in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        if attack == "fgsm":
            changed = fgsm(network, batch, truth, eps=eps)
        else:
            changed = pgd(network, batch, truth, eps=eps, step=PGD_STEP * eps, steps=PGD_STEPS, generator=generator)
        with _evaluated(network), torch.no_grad():
            right += int((network(changed).argmax(dim=1) == truth).sum())
    return right / len(images)


def _gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of each image's cross-entropy; none is left on the network's weights."""
    with torch.enable_grad():
        leaf = images.detach().clone().requires_grad_()
        loss = functional.cross_entropy(network(leaf), labels, reduction="sum")
        return torch.autograd.grad(loss, leaf)[0]


def _check_eps(eps: float) -> None:
    if not eps >= 0:
        raise ValueError(f"eps must be at least 0, in standard deviations of the intensities; got {eps}")


@contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; afterwards each module is in its mode again."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
