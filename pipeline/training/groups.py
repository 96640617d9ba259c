r"""Group weights that follow the losses of the groups, after distributionally robust optimisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn


def group_means(losses: Tensor, groups: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    r"""Mean loss of each group in the batch, over all processes where training is distributed.

    The mean of group :math:`g` is :math:`L_g = \frac{1}{n_g} \sum_{b : g_b = g} \ell_b`. With :math:`W` processes
    the sum and :math:`n_g` run over all of them; the gradient is that of the local cases times :math:`W`, so that
    averaging gradients over processes, as DistributedDataParallel does, gives the gradient of the global mean.

    Args:
        losses: ``(B,)``, any unit.
        groups: ``(B,)``, group indices in ``[0, n_groups)``.
        n_groups: number of groups.

    Returns:
        ``(n_groups,)`` means, 0 for a group without a case, and ``(n_groups,)`` counts.

    Example:
        >>> means, counts = group_means(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2]), 3)
        >>> means.tolist(), counts.tolist()
        ([2.0, 0.0, 5.0], [2.0, 0.0, 1.0])
    """
    counts = torch.zeros(n_groups, dtype=losses.dtype, device=losses.device)
    counts = counts.index_add(0, groups, torch.ones_like(losses))
    sums = torch.zeros_like(counts).index_add(0, groups, losses)
    if distributed.is_available() and distributed.is_initialized():
        both = torch.stack([sums.detach(), counts]).double()
        distributed.all_reduce(both)
        total, counts = both.to(losses.dtype)
        local = sums * distributed.get_world_size()
        sums = local + (total - local).detach()  # value: the global sum; gradient: W times the local one
    return sums / counts.clamp(min=1), counts


def step_weights(weights: Tensor, losses: Tensor, counts: Tensor, *, step: float, moving: Tensor) -> Tensor:
    r"""One exponentiated-gradient step: groups with a high loss gain weight.

    .. math:: w_g \leftarrow w_g \exp(\eta L_g) \cdot \frac{\sum_h w_h}{\sum_h w_h \exp(\eta L_h)}

    over the groups that move. A group without a case in the batch has factor 1: it changes through the
    normalisation alone. Groups that do not move keep their weight exactly.

    Args:
        weights: ``(n_groups,)``, on the simplex.
        losses: ``(n_groups,)``, mean loss of each group.
        counts: ``(n_groups,)``, cases of each group in the batch.
        step: :math:`\eta \ge 0`, per unit of loss; 0 leaves the weights at rest.
        moving: ``(n_groups,)``, bool.

    Returns:
        ``(n_groups,)``, a new tensor on the simplex, without gradient.

    Source: Sagawa et al. 2020, arXiv:1911.08731, algorithm 1; the update of absent groups is ours.
    """
    log_factors = torch.where(counts > 0, step * losses.detach(), torch.zeros_like(weights))
    log_factors = log_factors - log_factors[moving].max() if bool(moving.any()) else log_factors
    raised = weights * log_factors.exp()
    mass = weights[moving].sum()
    return torch.where(moving, mass * raised / raised[moving].sum().clamp(min=1e-30), weights)


class GroupWeights(nn.Module):
    """Weights of the groups, saved in checkpoints as a buffer.

    They start uniform over the groups that may move. A group of fewer than ``min_group_size`` training patients
    does not take part: it keeps the weight of its share of the patients, so that one patient cannot seize the loss.

    Args:
        names: name of each group.
        sizes: training patients of each group.
        step: exponentiated-gradient step per unit of loss, at least 0.
        min_group_size: patients from which on a group's weight moves.

    Raises:
        ValueError: if names and sizes do not match, a size is below 1, or ``step`` is negative.
    """

    weights: Tensor
    moving: Tensor

    def __init__(self, names: Sequence[str], sizes: Sequence[int], *, step: float, min_group_size: int = 5) -> None:
        super().__init__()
        if len(names) != len(sizes) or not sizes or min(sizes) < 1:
            raise ValueError(
                f"every group needs at least one training patient, got {dict(zip(names, sizes, strict=False))}"
            )
        if step < 0:
            raise ValueError(f"the step of the group weights must be at least 0, got {step}; 0 leaves them at rest")
        self.names = tuple(names)
        self.step = step
        patients = torch.tensor(sizes, dtype=torch.float32)
        moving = patients >= min_group_size
        shares = patients / patients.sum()
        rest = 1 - shares[~moving].sum()
        self.register_buffer("moving", moving)
        self.register_buffer("weights", torch.where(moving, rest / moving.sum().clamp(min=1), shares))

    def update(self, losses: Tensor, counts: Tensor) -> None:
        """Move the weights by the groups' mean losses, each ``(n_groups,)``; no gradient is kept."""
        self.weights = step_weights(self.weights, losses, counts, step=self.step, moving=self.moving)

    def by_name(self) -> dict[str, float]:
        """Weight of each group."""
        return dict(zip(self.names, self.weights.tolist(), strict=True))
