r"""How good each teacher is in each group, on held-out cases, and what follows for whom to trust how far."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def teacher_quality(logits: Tensor, labels: Tensor, groups: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    r"""Accuracy and mean margin of each teacher in each group.

    The margin of a case is :math:`p_y - \max_{y' \ne y} p_{y'}`. A group's mean takes in one more case, of the
    teacher's overall mean: a group without cases has that mean, and one of few cases does not reach 0 or 1 by chance.

    Args:
        logits: ``(K, N, C)``, of ``K`` teachers for ``N`` held-out cases.
        labels: ``(N,)``, class indices.
        groups: ``(N,)``, group indices; a case of index -1 counts in the overall mean alone.
        n_groups: number of groups, ``G``.

    Returns:
        ``(K, G)``, accuracy in [0, 1], and ``(K, G)``, margin in [-1, 1].

    Raises:
        ValueError: if there is no case.

    Source: Lukasik et al. 2022, arXiv:2106.10494 (margin); the additional case is ours.
    """
    if not len(labels):
        raise ValueError("the quality of teachers needs at least one held-out case, got 0; give the validation cases")
    classes = functional.softmax(logits, dim=2)
    own = labels.expand(len(logits), -1).unsqueeze(2)  # (K, N, 1)
    best_other = classes.scatter(2, own, -1.0).amax(dim=2)
    right = (logits.argmax(dim=2) == labels).to(logits.dtype)
    margins = classes.gather(2, own).squeeze(2) - best_other
    return _group_means(right, groups, n_groups), _group_means(margins, groups, n_groups)


def trust_from_accuracy(accuracy: Tensor, chance: float) -> Tensor:
    r"""Share of each teacher in each group, in proportion to how far it is above chance there.

    Args:
        accuracy: ``(K, G)``, in [0, 1].
        chance: accuracy of guessing, in [0, 1).

    Returns:
        ``(G, K)``, rows on the simplex; equal shares where no teacher is above chance.

    Example:
        >>> trust_from_accuracy(torch.tensor([[0.75, 0.5], [1.0, 0.25]]), chance=0.5)[0].tolist()
        [0.3333333432674408, 0.6666666865348816]
    """
    above = (accuracy - chance).clamp(min=0).T
    total = above.sum(dim=1, keepdim=True)
    return torch.where(total > 0, above / total.clamp(min=1e-12), 1 / len(accuracy))


def alpha_from_margins(margins: Tensor) -> Tensor:
    r"""Share of the teacher's term in each group, :math:`\alpha_g = \max(0, \bar m_g)`.

    Where the teacher is no better than its best wrong class, the student learns from the labels alone.

    Args:
        margins: ``(G,)``, mean margin in each group, from :func:`teacher_quality`.

    Returns:
        ``(G,)``, in [0, 1].

    Example:
        >>> alpha_from_margins(torch.tensor([0.5, -0.25])).tolist()
        [0.5, 0.0]

    Source: Lukasik et al. 2022, arXiv:2106.10494 (by class; by group here).
    """
    return margins.clamp(min=0)


def _group_means(values: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """``(K, N)`` to ``(K, G)``, with one more case of the overall mean."""
    members = (groups[:, None] == torch.arange(n_groups, device=groups.device)).to(values.dtype)  # (N, G)
    overall = values.mean(dim=1, keepdim=True)
    return (values @ members + overall) / (members.sum(dim=0) + 1)
