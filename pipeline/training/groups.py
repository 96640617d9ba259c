r"""Group weights that follow the losses of the groups, after distributionally robust optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, distributed, nn

Rule = Literal["gradient", "cvar"]


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

    over the groups that move and have a case in the batch. All others keep their weight exactly: were they normalised
    along, a rare group would lose weight in every batch without it, however high its loss. A weight too small for its
    type counts as the smallest there is, so that a group that has lost all can rise again.

    Args:
        weights: ``(n_groups,)``, on the simplex.
        losses: ``(n_groups,)``, mean loss of each group.
        counts: ``(n_groups,)``, cases of each group in the batch.
        step: :math:`\eta \ge 0`, per unit of loss; 0 leaves the weights at rest.
        moving: ``(n_groups,)``, bool.

    Returns:
        ``(n_groups,)``, a new tensor on the simplex, without gradient.

    Source: Sagawa et al. 2020, arXiv:1911.08731, algorithm 1; that absent groups rest is ours.
    """
    stepping = moving & (counts > 0)
    if not bool(stepping.any()):
        return weights.clone()
    log_factors = step * losses.detach()
    held = weights.clamp(min=torch.finfo(weights.dtype).tiny)
    raised = held * (log_factors - log_factors[stepping].max()).exp()
    mass = weights[stepping].sum()
    return torch.where(stepping, mass * raised / raised[stepping].sum(), weights)


def cvar_weights(losses: Tensor, shares: Tensor, *, worst_share: float) -> Tensor:
    r"""Weights that average the loss over the worst-off part of the patients, groups taken whole.

    From the highest loss downwards each group takes :math:`p_g / \rho` until the weights sum to 1; the last one takes
    what is left. Groups of one loss share what is left for them by size, so that their order does not matter.

    Args:
        losses: ``(n_groups,)``.
        shares: ``(n_groups,)``, :math:`p_g`, share of the patients in each group; they sum to 1.
        worst_share: :math:`\rho \in (0, 1]`, part of the patients that counts; 1 weighs groups by their size.

    Returns:
        ``(n_groups,)``, on the simplex.

    Example:
        >>> cvar_weights(torch.tensor([1.0, 3.0]), torch.tensor([0.75, 0.25]), worst_share=0.5).tolist()
        [0.5, 0.5]

    Source: Sagawa et al. 2020, arXiv:1911.08731, the greedy variant in the authors' code; ties are ours.
    """
    above = (losses > losses[:, None]).to(shares) @ shares  # patients of groups that are worse off
    level = (losses == losses[:, None]).to(shares) @ shares
    taken = (worst_share - above).clamp(min=0).minimum(level)
    return shares * taken / (level * worst_share)


class GroupWeights(nn.Module):
    r"""Weights of the groups, saved in checkpoints as a buffer.

    What drives them is each group's loss :math:`L_g + C / \sqrt{n_g}`. With ``normalise`` the losses of the groups in
    the batch are first divided by their mean, so that ``step`` and ``adjustment`` have no unit and mean the same
    whatever the temperature multiplies the losses by.

    A group of fewer than ``min_group_size`` training patients does not take part: it keeps the weight of its share of
    the patients, so that one patient cannot seize the loss. The others start uniform with the rule ``gradient``, by
    size with ``cvar``, and move

    - ``gradient``: by an exponentiated-gradient step, :func:`step_weights`;
    - ``cvar``: to :func:`cvar_weights` of an exponential average of each group's driving loss. It takes the first
      loss as it is; a group that has not been seen yet has loss 0. Only the order of the groups counts, so that
      ``normalise``, which compares the groups of one batch alone, is refused.

    Args:
        names: name of each group.
        sizes: training patients of each group, :math:`n_g`.
        step: exponentiated-gradient step per unit of loss, at least 0.
        min_group_size: patients from which on a group's weight moves.
        adjustment: :math:`C \ge 0`, in the unit of the loss: small groups generalise worse than their loss says.
        normalise: divide the losses by their mean.
        rule: ``gradient`` or ``cvar``.
        cvar_share: part of the patients that counts, in (0, 1].
        memory: weight of the newest loss in the exponential average, in (0, 1].
        floor: :math:`f \in [0, 1]`, part of the weight that is shared out by the groups' sizes, whatever their losses.

    Raises:
        ValueError: if names and sizes do not match, a size is below 1, or a setting is out of its range.

    Source: Sagawa et al. 2020, arXiv:1911.08731, section 3.3 (adjustment); the floors and the scaling are ours.
    """

    weights: Tensor
    moving: Tensor
    tracked: Tensor
    seen: Tensor
    shares: Tensor
    adjustments: Tensor

    def __init__(
        self,
        names: Sequence[str],
        sizes: Sequence[int],
        *,
        step: float,
        min_group_size: int = 5,
        adjustment: float = 0.0,
        normalise: bool = False,
        rule: Rule = "gradient",
        cvar_share: float = 0.2,
        memory: float = 0.1,
        floor: float = 0.0,
    ) -> None:
        super().__init__()
        if len(names) != len(sizes) or not sizes or min(sizes) < 1:
            raise ValueError(
                f"every group needs at least one training patient, got {dict(zip(names, sizes, strict=False))}; "
                "leave out groups that training does not have"
            )
        _check_settings(step, adjustment, rule, cvar_share, memory, normalise=normalise)
        if not 0 <= floor <= 1:
            raise ValueError(f"the floor of the group weights must lie in [0, 1], got {floor}; 0 lets groups lose all")
        self.names = tuple(names)
        self.step, self.normalise, self.rule = step, normalise, rule
        self.cvar_share, self.memory, self.floor = cvar_share, memory, floor
        patients = torch.tensor(sizes, dtype=torch.float32)
        moving = patients >= min_group_size
        shares = patients / patients.sum()
        rest = 1 - shares[~moving].sum()
        uniform = torch.where(moving, rest / moving.sum().clamp(min=1), shares)
        self.register_buffer("moving", moving)
        self.register_buffer("weights", uniform if rule == "gradient" else shares.clone())
        self.register_buffer("tracked", torch.zeros_like(shares))
        self.register_buffer("seen", torch.zeros_like(moving))
        self.register_buffer("shares", shares, persistent=False)
        self.register_buffer("adjustments", adjustment / patients.sqrt(), persistent=False)

    def update(self, losses: Tensor, counts: Tensor) -> None:
        """Move the weights by the groups' mean losses, each ``(n_groups,)``; no gradient is kept."""
        present = counts > 0
        driving = self._driving(losses.detach(), present)
        if self.rule == "gradient":
            self.weights = step_weights(self.weights, driving, counts, step=self.step, moving=self.moving)
            return
        newest = torch.where(self.seen, self.memory, 1.0) * present
        self.tracked = self.tracked + newest * (driving - self.tracked)
        self.seen = self.seen | present
        shares, losses = self.shares[self.moving], self.tracked[self.moving]
        moved = shares.sum() * cvar_weights(losses, shares / shares.sum(), worst_share=self.cvar_share)
        self.weights = self.shares.masked_scatter(self.moving, moved.to(self.shares))

    def _driving(self, losses: Tensor, present: Tensor) -> Tensor:
        if self.normalise:
            counted = present & self.moving
            mean = (losses * counted).sum() / counted.sum().clamp(min=1)
            losses = losses / mean.clamp(min=1e-12)  # all losses 0: they stay 0
        return losses + self.adjustments

    @property
    def applied(self) -> Tensor:
        r"""Weights that multiply the losses, ``(n_groups,)``: :math:`f p_g + (1 - f) w_g`, on the simplex."""
        return self.floor * self.shares + (1 - self.floor) * self.weights

    def by_name(self) -> dict[str, float]:
        """Weight of each group, as it is applied."""
        return dict(zip(self.names, self.applied.tolist(), strict=True))


def _check_settings(
    step: float, adjustment: float, rule: str, cvar_share: float, memory: float, *, normalise: bool
) -> None:
    if step < 0:
        raise ValueError(f"the step of the group weights must be at least 0, got {step}; 0 leaves them at rest")
    if adjustment < 0:
        raise ValueError(f"the adjustment for small groups must be at least 0, got {adjustment}; 0 makes none")
    if rule not in get_args(Rule):
        raise ValueError(f"the rule of the group weights must be one of {', '.join(get_args(Rule))}, got {rule!r}")
    if rule == "cvar" and normalise:
        raise ValueError(
            "the rule cvar goes by losses as they are, got normalise=True beside it; leave one of them out"
        )
    for name, value in (("cvar_share", cvar_share), ("memory", memory)):
        if not 0 < value <= 1:
            raise ValueError(f"{name} must lie in (0, 1], got {value}; 1 is everything at once")
