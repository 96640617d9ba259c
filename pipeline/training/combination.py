r"""Several teachers as one: whose word counts how much, batch by batch or case by case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Kind = Literal["mean", "random", "permuted", "gradient", "trust", "group"]
SETTING_OF_KIND = {"permuted": "weights", "trust": "trust", "group": "matched"}


def mixed_logits(teacher_logits: Tensor, shares: Tensor, *, temperature: float) -> Tensor:
    r"""Logits whose softened classes are the teachers' mixture, :math:`\sum_k c_{bk}\,\mathrm{softmax}(t_{bk}/\tau)`.

    The divergence from the mixture has the gradient of the weighted sum of divergences,

    .. math:: \nabla\,\mathrm{KL}(\textstyle\sum_k c_k p_k \,\|\, p_s) = \nabla \sum_k c_k\,\mathrm{KL}(p_k \,\|\, p_s)
              = -\nabla \sum_k c_k\, p_k \cdot \log p_s,

    as the student stands in the cross term alone. The sum of divergences is higher by how far the teachers disagree,
    which no student can lower: the mixture is 0 where the student has learned all there is.

    Args:
        teacher_logits: ``(K, B, C)``.
        shares: ``(K, B)`` or ``(K, 1)``, :math:`c`; they sum to 1 over the teachers.
        temperature: :math:`\tau > 0`.

    Returns:
        ``(B, C)``.

    Example:
        >>> sure, unsure = torch.tensor([[[0.8, 0.2]], [[0.4, 0.6]]]).log()
        >>> half = torch.full((2, 1), 0.5)
        >>> [round(p, 4) for p in mixed_logits(torch.stack([sure, unsure]), half, temperature=1.0).exp()[0].tolist()]
        [0.6, 0.4]
    """
    log_classes = functional.log_softmax(teacher_logits / temperature, dim=2)
    return temperature * torch.logsumexp(log_classes + shares.log().unsqueeze(2), dim=0)


def gradient_shares(student: Tensor, teachers: Tensor, reference: Tensor) -> Tensor:
    r"""Shares of teachers that pull the student elsewhere than a biased reference does.

    The weight of a teacher is :math:`W = 1 - \cos(\nabla \ell^{t}, \nabla \ell^{b})`, gradients of the distillation
    loss of one case with respect to the student. We take those of its last layer, :math:`z = V h + a`. There

    .. math:: \nabla_z \ell^{t} = \tau\,(p_s - p_t), \qquad \nabla_{(V, a)} \ell^{t} = \tau\,(p_s - p_t) \otimes (h, 1),

    with the same features :math:`(h, 1)` for every teacher. The inner product of two such gradients is
    :math:`\tau^2\,(p_s - p_t) \cdot (p_s - p_b)\,\|(h, 1)\|^2`: features and temperature cancel in the cosine, which
    is that of the differences of the softened classes.

    Args:
        student: ``(B, C)``, softened classes :math:`p_s`.
        teachers: ``(K, B, C)``, :math:`p_t`.
        reference: ``(B, C)``, :math:`p_b`.

    Returns:
        ``(K, B)``, :math:`W / \sum_t W`; equal where every teacher pulls as the reference does. With two classes all
        differences lie on one line and :math:`W` is 0 or 2: teachers on the reference's side of the student do not
        count, all others alike.

    Source: Kenfack et al. 2025, arXiv:2411.14984; the restriction to the last layer is ours.
    """
    cosines = functional.cosine_similarity(student - teachers, (student - reference).unsqueeze(0), dim=2)
    apart = (1 - cosines).clamp(min=0)
    total = apart.sum(dim=0)
    rounding = 1e-6 * len(teachers)
    return torch.where(total > rounding, apart / total.clamp(min=rounding), 1 / len(teachers))


class TeacherCombination(nn.Module):
    """Which teacher counts how much; the result is one teacher's logits.

    - ``mean``: all alike.
    - ``random``: one of them, drawn for every batch (Fukuda et al. 2017).
    - ``permuted``: ``weights`` dealt out anew for every batch, our reading of RoS-KD (Jaiswal et al. 2022,
      arXiv:2210.08388). Equal weights are ``mean``; one weight of 1 is ``random``.
    - ``gradient``: :func:`gradient_shares`, as AGRE-KD. The last teacher is the biased reference, and is not distilled.
    - ``trust``: shares by the case's group.
    - ``group``: the teacher of the case's group (Masroor et al. 2024, arXiv:2411.11939).

    A draw is a function of the seed and of the number of batches seen in training mode. That number is saved in
    checkpoints: a run that goes on draws what an unbroken one would, and all processes draw the same.

    Args:
        kind: one of the above.
        teachers: how many, the reference of ``gradient`` among them; ``K``.
        weights: of ``permuted``: ``K`` values on the simplex.
        trust: of ``trust``: ``(G, K)``, rows on the simplex.
        matched: of ``group``: index of the teacher of each of ``G`` groups.
        temperature: softens the classes before they are mixed; that of the distillation loss.
        seed: at least 0.

    Raises:
        ValueError: if a setting is missing, belongs to another kind, or is out of its range.
    """

    batches: Tensor
    weights: Tensor
    by_group: Tensor | None

    def __init__(
        self,
        kind: Kind,
        teachers: int,
        *,
        weights: Sequence[float] | None = None,
        trust: Tensor | None = None,
        matched: Sequence[int] | None = None,
        temperature: float,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_kind(kind, teachers, {"weights": weights, "trust": trust, "matched": matched})
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}; 1 leaves the teachers as they are")
        self.kind, self.teachers, self.temperature, self.seed = kind, teachers, temperature, seed
        by_group = trust if matched is None else _one_hot(matched, teachers)
        if weights is None:
            weights = [1.0] + [0.0] * (teachers - 1) if kind == "random" else [1 / teachers] * teachers
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.register_buffer("weights", _on_simplex("weights", weights, (teachers,)), persistent=False)
        if by_group is not None:
            by_group = _on_simplex("trust", by_group, (len(by_group), teachers))
        self.register_buffer("by_group", by_group, persistent=False)

    @torch.no_grad()
    def forward(self, student_logits: Tensor, teacher_logits: Tensor, groups: Tensor) -> Tensor:
        """Logits of the teachers' mixture, without gradient.

        Args:
            student_logits: ``(B, C)``.
            teacher_logits: ``(K, B, C)``.
            groups: ``(B,)``, group indices.

        Returns:
            ``(B, C)``, see :func:`mixed_logits`.

        Raises:
            ValueError: if the teachers are not as many as expected, or the shapes differ.
        """
        expected = (self.teachers, *student_logits.shape)
        if tuple(teacher_logits.shape) != expected:
            raise ValueError(
                f"teacher logits must have the shape (teachers, cases, classes) = {expected}, "
                f"got {tuple(teacher_logits.shape)}; give the logits of every teacher for the cases of the batch"
            )
        shares = self._shares(student_logits, teacher_logits, groups)
        if self.training:
            self.batches = self.batches + 1
        return mixed_logits(teacher_logits, shares, temperature=self.temperature)

    def _shares(self, student_logits: Tensor, teacher_logits: Tensor, groups: Tensor) -> Tensor:
        """``(K, B)``, or ``(K, 1)`` where all cases of the batch have the same."""
        if self.by_group is not None:
            return self.by_group[groups].T
        if self.kind == "gradient":
            student = functional.softmax(student_logits / self.temperature, dim=1)
            *teachers, reference = functional.softmax(teacher_logits / self.temperature, dim=2)
            shares = gradient_shares(student, torch.stack(teachers), reference)
            return functional.pad(shares, (0, 0, 0, 1))  # none for the reference
        if self.kind == "mean":
            return self.weights[:, None]
        order = np.random.default_rng((self.seed, int(self.batches))).permutation(self.teachers)
        return self.weights[torch.from_numpy(order).to(self.weights.device), None]


def _check_kind(kind: str, teachers: int, settings: dict[str, object]) -> None:
    if kind not in get_args(Kind):
        raise ValueError(f"the combination must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    fewest = 2 if kind == "gradient" else 1
    if teachers < fewest:
        raise ValueError(f"the combination {kind!r} needs at least {fewest} teachers, got {teachers}; add teachers")
    for name, value in settings.items():
        needed = SETTING_OF_KIND.get(kind) == name
        if needed and value is None:
            raise ValueError(f"the combination {kind!r} needs {name}, got None; give {name}")
        if not needed and value is not None:
            raise ValueError(f"the combination {kind!r} takes no {name}, got {value}; leave {name} out")


def _one_hot(matched: Sequence[int], teachers: int) -> Tensor:
    if not all(0 <= teacher < teachers for teacher in matched):
        raise ValueError(f"matched must hold indices of {teachers} teachers, from 0, got {list(matched)}; correct them")
    return functional.one_hot(torch.tensor(matched, dtype=torch.long), teachers).float()


def _on_simplex(name: str, values: Sequence[float] | Tensor, shape: tuple[int, ...]) -> Tensor:
    given = torch.as_tensor(values, dtype=torch.float32)
    sums = given.sum(dim=-1)
    if tuple(given.shape) != shape or bool((given < 0).any()) or not torch.allclose(sums, torch.ones_like(sums)):
        raise ValueError(
            f"{name} must hold {shape[-1]} shares, one per teacher, at least 0 and of sum 1, got {given.tolist()}; "
            "divide them by their sum"
        )
    return given
