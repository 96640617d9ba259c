r"""The student's objective: cross-entropy and distillation, averaged over cases or over weighted groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pipeline.tracking.group_metrics import slug
from pipeline.training.groups import GroupWeights, group_means
from pipeline.training.losses import cross_entropy, kd_divergence

Weighting = Literal["cases", "groups"]
Driver = Literal["joint", "kd", "ce"]


class DistillationObjective(nn.Module):
    r"""GroupDistil, plain distillation and plain training in one place: they differ by two settings.

    Each case has :math:`\ell_b = (1-\alpha)\,\mathrm{CE}_b + \alpha\,\mathrm{KD}_b`. With ``weighting="cases"`` the
    objective is the mean of :math:`\ell_b`: plain distillation, or plain training where there is no teacher. With
    ``weighting="groups"`` it is our reading of GroupDistil,

    .. math:: \sum_g w_g L_g, \qquad L_g = \frac{1}{|B_g|} \sum_{b \in B_g} \ell_b,

    where :math:`w` first takes one exponentiated-gradient step along the groups' losses in this batch. Groups
    absent from the batch add nothing and the others are not scaled up for it, so that a batch without the rare
    scanner does not count more for the common ones.

    Args:
        names: name of each group.
        sizes: training patients of each group.
        alpha: share of the distillation term, in [0, 1].
        temperature: softens both sides, > 0.
        weighting: ``cases`` or ``groups``.
        group_step: :math:`\eta`, exponentiated-gradient step per nat; 0 with ``groups`` is the mean over groups.
        group_driver: which loss drives the weights: ``joint`` (:math:`\ell`), ``kd`` or ``ce``.
        min_group_size: groups of fewer training patients keep the weight of their share.

    Raises:
        ValueError: if a setting is out of its range.

    Source: Vilouras et al. 2023, arXiv:2311.00476 (abstract); Sagawa et al. 2020, arXiv:1911.08731.
    """

    def __init__(
        self,
        names: Sequence[str],
        sizes: Sequence[int],
        *,
        alpha: float = 0.9,
        temperature: float = 4.0,
        weighting: Weighting = "groups",
        group_step: float = 0.05,
        group_driver: Driver = "joint",
        min_group_size: int = 5,
    ) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {alpha}; 0 trains on labels alone, 1 on the teacher alone")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}; 1 leaves the teacher as it is")
        for given, kind, name in (
            (weighting, Weighting, "weighting"),
            (group_driver, Driver, "group_driver"),
        ):
            if given not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {given!r}")
        self.alpha, self.temperature = alpha, temperature
        self.weighting, self.group_driver = weighting, group_driver
        self.group_weights = GroupWeights(names, sizes, step=group_step, min_group_size=min_group_size)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor, groups: Tensor) -> Tensor:
        """Objective of a batch; moves the group weights while in training mode.

        Args:
            student_logits: ``(B, C)``.
            teacher_logits: ``(B, C)``, or ``None``: then the cases count by cross-entropy alone.
            labels: ``(B,)``, class indices.
            groups: ``(B,)``, group indices.

        Returns:
            Scalar, nats.
        """
        ce = cross_entropy(student_logits, labels)
        kd = torch.zeros_like(ce)
        joint = ce
        if teacher_logits is not None:
            kd = kd_divergence(student_logits, teacher_logits, temperature=self.temperature)
            joint = (1 - self.alpha) * ce + self.alpha * kd
        if self.weighting == "cases":
            return joint.mean()
        n_groups = len(self.group_weights.names)
        means, counts = group_means(joint, groups, n_groups)
        if self.training:
            drive = {"joint": joint, "kd": kd, "ce": ce}[self.group_driver]
            driving = means if drive is joint else group_means(drive, groups, n_groups)[0]
            self.group_weights.update(driving, counts)
        return (self.group_weights.weights * means).sum()

    def figures(self, column: str) -> dict[str, float]:
        """What a tracker logs: ``train/group_weight/<column>/<group>`` of each group, where groups are weighted."""
        weights = self.group_weights.by_name() if self.weighting == "groups" else {}
        return {f"train/group_weight/{column}/{slug(name)}": weight for name, weight in weights.items()}
