r"""The student's objective: cross-entropy and distillation, averaged over cases or over weighted groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pipeline.tracking.group_metrics import slug
from pipeline.training.combination import TeacherCombination
from pipeline.training.groups import GroupWeights, Rule, group_means
from pipeline.training.losses import cross_entropy, kd_divergence

Weighting = Literal["cases", "groups"]
Term = Literal["joint", "kd", "ce"]
Feedback = Literal["training", "validation"]


class DistillationObjective(nn.Module):
    r"""GroupDistil, Group DRO, plain distillation and plain training in one place: they differ by a few settings.

    Each case has :math:`\ell_b = (1-\alpha)\,\mathrm{CE}_b + \alpha\,\mathrm{KD}_b`. With ``weighting="cases"`` the
    objective is the mean of :math:`\ell_b`: plain distillation, or plain training where there is no teacher. With
    ``weighting="groups"`` it is our reading of GroupDistil,

    .. math:: \sum_g w_g L_g, \qquad L_g = \frac{1}{|B_g|} \sum_{b \in B_g} \ell_b,

    where :math:`w` first moves along the groups' losses in this batch. Groups absent from the batch add nothing and
    the others are not scaled up for it, so that a batch without the rare scanner does not count more for the common
    ones. ``group_scope`` leaves one of the two terms out of :math:`L_g`; it is then averaged over cases.

    Args:
        names: name of each group.
        sizes: training patients of each group.
        alpha: share of the distillation term, in [0, 1].
        temperature: softens both sides, > 0.
        weighting: ``cases`` or ``groups``.
        group_scope: what the group weights multiply: ``joint`` (:math:`\ell`), ``kd`` or ``ce``.
        group_step: :math:`\eta`, exponentiated-gradient step per nat; 0 with ``groups`` is the mean over groups.
        group_driver: which training loss drives the weights: ``joint`` (:math:`\ell`), ``kd`` or ``ce``.
        group_feedback: ``training``: the weights move at every batch; ``validation``: once per validation pass, by
            the cross-entropy of held-out cases, see :class:`~pipeline.training.feedback.ValidationFeedback`.
        min_group_size: groups of fewer training patients keep the weight of their share.
        group_adjustment: :math:`C`, added to the driving loss as :math:`C / \sqrt{n_g}`.
        group_normalise: divide the driving losses by their mean: the step then has no unit.
        group_rule: ``gradient`` or ``cvar``, see :class:`~pipeline.training.groups.GroupWeights`.
        cvar_share: part of the patients that counts with the rule ``cvar``, in (0, 1].
        group_floor: part of the weight that is shared out by the groups' sizes, in [0, 1].
        combination: of several teachers; ``None``: there is one.
        alpha_of_group: ``(n_groups,)``, takes the place of ``alpha`` for the cases of each group.

    Raises:
        ValueError: if a setting is out of its range.

    Source: Vilouras et al. 2023, arXiv:2311.00476 (abstract); Sagawa et al. 2020, arXiv:1911.08731; Lukasik et al.
    2022, arXiv:2106.10494 (``alpha_of_group``).
    """

    alpha: Tensor

    def __init__(
        self,
        names: Sequence[str],
        sizes: Sequence[int],
        *,
        alpha: float = 0.9,
        temperature: float = 4.0,
        weighting: Weighting = "groups",
        group_scope: Term = "joint",
        group_step: float = 0.002,
        group_driver: Term = "joint",
        group_feedback: Feedback = "training",
        min_group_size: int = 5,
        group_adjustment: float = 0.0,
        group_normalise: bool = False,
        group_rule: Rule = "gradient",
        cvar_share: float = 0.2,
        group_floor: float = 0.0,
        combination: TeacherCombination | None = None,
        alpha_of_group: Tensor | None = None,
    ) -> None:
        super().__init__()
        for given, kind, name in (
            (weighting, Weighting, "weighting"),
            (group_scope, Term, "group_scope"),
            (group_driver, Term, "group_driver"),
            (group_feedback, Feedback, "group_feedback"),
        ):
            if given not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {given!r}")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}; 1 leaves the teacher as it is")
        _check_combination(combination, temperature, len(names))
        self.temperature, self.combination = temperature, combination
        self.weighting, self.group_scope = weighting, group_scope
        self.group_driver, self.group_feedback = group_driver, group_feedback
        self.register_buffer("alpha", _alphas(alpha, alpha_of_group, len(names)), persistent=False)
        self.group_weights = GroupWeights(
            names,
            sizes,
            step=group_step,
            min_group_size=min_group_size,
            adjustment=group_adjustment,
            normalise=group_normalise,
            rule=group_rule,
            cvar_share=cvar_share,
            floor=group_floor,
        )

    def forward(self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor, groups: Tensor) -> Tensor:
        """Objective of a batch; moves the group weights while in training mode, if training drives them.

        Args:
            student_logits: ``(B, C)``.
            teacher_logits: ``(K, B, C)``, or ``None``: then the cases count by cross-entropy alone.
            labels: ``(B,)``, class indices.
            groups: ``(B,)``, group indices.

        Returns:
            Scalar, nats.

        Raises:
            ValueError: if the group weights need a teacher and there is none, or there are not as many as expected.
        """
        ce = cross_entropy(student_logits, labels)
        kd = self._divergences(student_logits, teacher_logits, groups)
        alpha = self.alpha[groups] if teacher_logits is not None else torch.zeros_like(ce)
        label_term, teacher_term = (1 - alpha) * ce, alpha * kd
        joint = label_term + teacher_term
        if self.weighting == "cases":
            return joint.mean()
        weighted = {"joint": joint, "kd": teacher_term, "ce": label_term}[self.group_scope]
        unweighted = {"joint": torch.zeros_like(ce), "kd": label_term, "ce": teacher_term}[self.group_scope]
        n_groups = len(self.group_weights.names)
        means, counts = group_means(weighted, groups, n_groups)
        if self.training and self.group_feedback == "training":
            drive = {"joint": joint, "kd": kd, "ce": ce}[self.group_driver]
            driving = means if drive is weighted else group_means(drive, groups, n_groups)[0]
            self.group_weights.update(driving, counts)
        return (self.group_weights.applied * means).sum() + unweighted.mean()

    def _divergences(self, student_logits: Tensor, teacher_logits: Tensor | None, groups: Tensor) -> Tensor:
        """``(B,)``; zeros where there is no teacher."""
        if teacher_logits is None:
            if self.weighting == "groups" and "kd" in (self.group_scope, self.group_driver):
                raise ValueError("group_scope and group_driver kd need a teacher, got none; choose joint or ce")
            return student_logits.new_zeros(len(student_logits))
        if self.combination is not None:
            teacher_logits = self.combination(student_logits, teacher_logits, groups)
        elif teacher_logits.ndim == 3 and len(teacher_logits) == 1:
            teacher_logits = teacher_logits[0]
        else:
            raise ValueError(
                "without a combination the teacher's logits must be (1, cases, classes), got "
                f"{tuple(teacher_logits.shape)}; say how to combine several teachers"
            )
        return kd_divergence(student_logits, teacher_logits, temperature=self.temperature)

    def figures(self, column: str) -> dict[str, float]:
        """What a tracker logs: ``train/group_weight/<column>/<group>`` of each group, where groups are weighted."""
        weights = self.group_weights.by_name() if self.weighting == "groups" else {}
        return {f"train/group_weight/{column}/{slug(name)}": weight for name, weight in weights.items()}


def _check_combination(combination: TeacherCombination | None, temperature: float, n_groups: int) -> None:
    if combination is None:
        return
    if combination.temperature != temperature:
        raise ValueError(
            f"teachers must be combined at the temperature of the loss, {temperature}, got {combination.temperature}; "
            "give both the same"
        )
    if combination.by_group is not None and len(combination.by_group) != n_groups:
        raise ValueError(
            f"the combination must know the {n_groups} groups of training, got {len(combination.by_group)}; "
            "give one row, or one teacher, per group"
        )


def _alphas(alpha: float, alpha_of_group: Tensor | None, n_groups: int) -> Tensor:
    """``(n_groups,)``, checked."""
    given = torch.full((n_groups,), float(alpha)) if alpha_of_group is None else alpha_of_group.float()
    if tuple(given.shape) != (n_groups,):
        raise ValueError(f"alpha_of_group must hold {n_groups} values, got {given.tolist()}; give one per group")
    if not bool(((given >= 0) & (given <= 1)).all()):
        came = alpha if alpha_of_group is None else given.tolist()
        raise ValueError(f"alpha must lie in [0, 1], got {came}; 0 trains on labels alone, 1 on the teacher alone")
    return given
