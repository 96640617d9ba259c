r"""Losses of a distilled classifier, one value per case: the caller averages, over cases or over groups."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Cross-entropy of each case, :math:`-\log p_{y}`.

    Args:
        logits: ``(B, C)``, unnormalised.
        labels: ``(B,)``, class indices.

    Returns:
        ``(B,)``, nats.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(1, 4), torch.tensor([2])).exp().tolist()
        [4.0]
    """
    return functional.cross_entropy(logits, labels, reduction="none")


def kd_divergence(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    r"""Divergence of the student's softened classes from the teacher's, one value per case.

    .. math:: \ell_b = \tau^2 \, \mathrm{KL}(p^{T}_{b} \,\|\, p^{S}_{b}), \quad p = \mathrm{softmax}(z / \tau)

    Args:
        student_logits: ``(B, C)``, unnormalised.
        teacher_logits: ``(B, C)``. Held constant: no gradient reaches the teacher.
        temperature: :math:`\tau > 0`, dimensionless; 1 leaves the teacher as it is.

    Returns:
        ``(B,)``, nats, scaled by :math:`\tau^2` so that gradients keep their size; summed over classes, never
        averaged over them.

    Raises:
        ValueError: if the shapes differ or ``temperature`` is not positive.

    Example:
        >>> import torch
        >>> logits = torch.zeros(2, 3)
        >>> kd_divergence(logits, logits, temperature=2.0).tolist()
        [0.0, 0.0]

    Source: Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2.
    """
    if student_logits.shape != teacher_logits.shape:
        shapes = f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        raise ValueError(f"student and teacher logits must have one shape, got {shapes}; use the same classes")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}; 1 leaves the teacher as it is")
    teacher = functional.log_softmax(teacher_logits.detach() / temperature, dim=1)
    student = functional.log_softmax(student_logits / temperature, dim=1)
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(dim=1)
