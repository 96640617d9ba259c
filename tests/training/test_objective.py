"""The student's objective: each method equals its simpler relative where it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.training.combination import TeacherCombination
from pipeline.training.losses import kd_divergence
from pipeline.training.objective import DistillationObjective

NAMES, SIZES = ("Canon", "GE", "Siemens"), (20, 10, 70)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Twelve cases, of which none is Siemens' (index 2) in this batch."""
    generator = torch.Generator().manual_seed(0)
    return {
        "student_logits": torch.randn(12, 3, generator=generator).requires_grad_(),
        "teacher_logits": torch.randn(1, 12, 3, generator=generator),
        "labels": torch.randint(0, 3, (12,), generator=generator),
        "groups": torch.randint(0, 2, (12,), generator=generator),
    }


def test_without_teacher_it_is_cross_entropy(batch: dict[str, torch.Tensor]) -> None:
    objective = DistillationObjective(NAMES, SIZES, weighting="cases")
    value = objective(batch["student_logits"], None, batch["labels"], batch["groups"])
    assert value.item() == pytest.approx(functional.cross_entropy(batch["student_logits"], batch["labels"]).item())


def test_over_cases_it_is_plain_distillation(batch: dict[str, torch.Tensor]) -> None:
    """Oracle: torch's own KLDivLoss with batchmean, times tau^2."""
    objective = DistillationObjective(NAMES, SIZES, weighting="cases", alpha=0.7, temperature=3.0)
    log_student = functional.log_softmax(batch["student_logits"] / 3, dim=1)
    teacher = functional.softmax(batch["teacher_logits"][0] / 3, dim=1)
    kd = 9 * functional.kl_div(log_student, teacher, reduction="batchmean")
    ce = functional.cross_entropy(batch["student_logits"], batch["labels"])
    assert objective(**batch).item() == pytest.approx((0.3 * ce + 0.7 * kd).item(), rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"group_scope": "kd"}, {"group_scope": "ce"}, {"group_rule": "cvar"}])
def test_one_group_is_plain_distillation(batch: dict[str, torch.Tensor], settings: dict[str, Any]) -> None:
    batch["groups"] = torch.zeros(12, dtype=torch.long)
    robust = DistillationObjective(["all"], [100], weighting="groups", group_step=1.0, **settings)
    plain = DistillationObjective(["all"], [100], weighting="cases")
    assert robust(**batch).item() == pytest.approx(plain(**batch).item(), rel=1e-6)


def test_a_step_of_zero_is_the_weighted_sum_of_group_means(batch: dict[str, torch.Tensor]) -> None:
    """Weights stay at 1/3; the group that is absent adds nothing and the others are not scaled up."""
    objective = DistillationObjective(NAMES, SIZES, group_step=0.0, alpha=0.0)
    ce = functional.cross_entropy(batch["student_logits"], batch["labels"], reduction="none")
    expected = sum(ce.detach()[batch["groups"] == group].mean() for group in (0, 1)) / 3
    assert objective(**batch).item() == pytest.approx(float(expected), rel=1e-5)
    assert objective.group_weights.weights.tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("adjustment", [0.0, 2.0])
def test_it_equals_group_dro_written_from_the_equations(adjustment: float) -> None:
    """Oracle: q_g <- q_g exp(eta (L_g + C / sqrt(n_g))), normalised over the groups in the batch; sum of q_g L_g."""
    generator = np.random.default_rng(0)
    objective = DistillationObjective(NAMES, SIZES, alpha=0.0, group_step=0.5, group_adjustment=adjustment)
    q = np.full(3, 1 / 3)
    for _ in range(20):
        logits, labels = generator.normal(size=(6, 3)), generator.integers(0, 3, 6)
        groups = generator.choice(3, size=6, p=[0.3, 0.1, 0.6])
        losses = -np.log((np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))[np.arange(6), labels])
        means = {g: losses[groups == g].mean() for g in set(groups.tolist())}
        mass = sum(q[g] for g in means)
        for g, mean in means.items():
            q[g] *= np.exp(0.5 * (mean + adjustment / np.sqrt(SIZES[g])))
        q[list(means)] *= mass / sum(q[g] for g in means)
        value = objective(torch.tensor(logits).float(), None, torch.tensor(labels), torch.tensor(groups))
        assert value.item() == pytest.approx(sum(q[g] * mean for g, mean in means.items()), rel=1e-4)
    assert objective.group_weights.weights.tolist() == pytest.approx(q.tolist(), rel=1e-4)
    assert q.min() < 0.2  # the steps moved them


def test_rule_share_and_scaling_reach_the_group_weights() -> None:
    """Canon 20, GE 10, Siemens 70 of 100: the worst half is Canon, then GE, then 20 of Siemens.

    Scaled by their mean, losses (2, 1) drive Canon and GE by 4/3 and 2/3, so that the ratio is exp(2/3) at step 1.
    """
    own = torch.tensor([-2.0, -1.0]).exp()  # probability of the right class: losses 2 and 1
    logits = torch.stack([own, (1 - own) / 2, (1 - own) / 2], dim=1).log()
    labels, groups = torch.zeros(2, dtype=torch.long), torch.tensor([0, 1])
    cvar = DistillationObjective(NAMES, SIZES, group_rule="cvar", cvar_share=0.5)
    cvar(logits, None, labels, groups)
    assert cvar.group_weights.weights.tolist() == pytest.approx([0.4, 0.2, 0.4])
    scaled = DistillationObjective(NAMES, SIZES, group_step=1.0, group_normalise=True)
    scaled(logits, None, labels, groups)
    canon, ge, _ = scaled.group_weights.weights.tolist()
    assert canon / ge == pytest.approx(float(np.exp(2 / 3)), rel=1e-4)


@pytest.mark.parametrize("scope", ["joint", "kd", "ce"])
def test_the_scope_decides_which_term_the_groups_weigh(batch: dict[str, torch.Tensor], scope: Any) -> None:
    """Oracle: V2, V1 and V3, by masks; weights at rest are 1/3 each, and one group is absent."""
    objective = DistillationObjective(NAMES, SIZES, group_step=0.0, alpha=0.7, temperature=2.0, group_scope=scope)
    student, groups = batch["student_logits"].detach(), batch["groups"]
    ce = functional.cross_entropy(student, batch["labels"], reduction="none")
    kd = kd_divergence(student, batch["teacher_logits"][0], temperature=2.0)

    def weighed(losses: torch.Tensor) -> torch.Tensor:
        return (losses[groups == 0].mean() + losses[groups == 1].mean()) / 3

    expected = {
        "joint": 0.3 * weighed(ce) + 0.7 * weighed(kd),
        "kd": 0.3 * ce.mean() + 0.7 * weighed(kd),
        "ce": 0.3 * weighed(ce) + 0.7 * kd.mean(),
    }
    assert objective(**batch).item() == pytest.approx(expected[scope].item(), rel=1e-5)


def test_with_feedback_from_validation_a_batch_moves_nothing(batch: dict[str, torch.Tensor]) -> None:
    objective = DistillationObjective(NAMES, SIZES, group_step=1.0, group_feedback="validation")
    objective(**batch)
    assert objective.group_weights.weights.tolist() == pytest.approx([1 / 3] * 3)


def test_a_group_without_trust_in_its_teacher_learns_from_the_labels(batch: dict[str, torch.Tensor]) -> None:
    """Share 1 in group 0, 0 in group 1: the first have the divergence, the others cross-entropy."""
    objective = DistillationObjective(NAMES, SIZES, weighting="cases", alpha_of_group=torch.tensor([1.0, 0.0, 0.5]))
    ce = functional.cross_entropy(batch["student_logits"], batch["labels"], reduction="none")
    kd = kd_divergence(batch["student_logits"], batch["teacher_logits"][0], temperature=4.0)
    expected = torch.where(batch["groups"] == 0, kd, ce).mean()
    assert objective(**batch).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("weighting", ["cases", "groups"])
def test_one_alpha_for_every_group_is_alpha(batch: dict[str, torch.Tensor], weighting: Any) -> None:
    by_group = DistillationObjective(NAMES, SIZES, weighting=weighting, alpha_of_group=torch.full((3,), 0.4))
    plain = DistillationObjective(NAMES, SIZES, weighting=weighting, alpha=0.4)
    assert by_group(**batch).item() == pytest.approx(plain(**batch).item(), rel=1e-6)


def test_combined_teachers_enter_as_one(batch: dict[str, torch.Tensor]) -> None:
    """Two copies of a teacher, averaged, are that teacher."""
    plain = DistillationObjective(NAMES, SIZES)(**batch)
    batch["teacher_logits"] = batch["teacher_logits"].repeat(2, 1, 1)
    objective = DistillationObjective(NAMES, SIZES, combination=TeacherCombination("mean", 2, temperature=4.0))
    assert objective(**batch).item() == pytest.approx(plain.item(), rel=1e-5)


def test_the_batches_that_teachers_were_drawn_for_are_saved_with_the_objective(batch: dict[str, torch.Tensor]) -> None:
    """Counted in training mode alone: the combination follows the objective's mode."""
    batch["teacher_logits"] = batch["teacher_logits"].repeat(2, 1, 1)
    objective = DistillationObjective(NAMES, SIZES, combination=TeacherCombination("random", 2, temperature=4.0))
    objective(**batch)
    objective.eval()
    objective(**batch)
    assert objective.state_dict()["combination.batches"].item() == 1


def test_several_teachers_need_a_combination_and_groups_that_weigh_kd_need_a_teacher(
    batch: dict[str, torch.Tensor],
) -> None:
    student, labels, groups = batch["student_logits"], batch["labels"], batch["groups"]
    with pytest.raises(ValueError, match=r"\(1, cases, classes\), got \(2, 12, 3\)"):
        DistillationObjective(NAMES, SIZES)(student, batch["teacher_logits"].repeat(2, 1, 1), labels, groups)
    for setting in ("group_scope", "group_driver"):
        with pytest.raises(ValueError, match="kd need a teacher, got none"):
            DistillationObjective(NAMES, SIZES, **{setting: "kd"})(student, None, labels, groups)


def test_no_gradient_flows_through_the_weights(batch: dict[str, torch.Tensor]) -> None:
    """The gradient is that of the weighted sum with the weights held constant."""
    objective = DistillationObjective(NAMES, SIZES, group_step=0.8, alpha=0.0)
    objective(**batch).backward()
    gradient = batch["student_logits"].grad
    constant = batch["student_logits"].detach().clone().requires_grad_()
    ce = functional.cross_entropy(constant, batch["labels"], reduction="none")
    weights = objective.group_weights.weights
    sum(weights[g] * ce[batch["groups"] == g].mean() for g in (0, 1)).backward()
    assert gradient is not None
    assert constant.grad is not None
    assert torch.allclose(gradient, constant.grad, atol=1e-7)


def test_weights_rest_in_evaluation_mode(batch: dict[str, torch.Tensor]) -> None:
    objective = DistillationObjective(NAMES, SIZES, group_step=1.0).eval()
    objective(**batch)
    assert objective.group_weights.weights.tolist() == pytest.approx([1 / 3] * 3)


def test_the_driver_decides_which_loss_moves_the_weights(batch: dict[str, torch.Tensor]) -> None:
    """A teacher that the student already equals leaves kd at 0: kd moves nothing, ce does."""
    batch["teacher_logits"] = batch["student_logits"].detach().clone()[None]
    moved = {}
    for driver in ("kd", "ce"):
        objective = DistillationObjective(NAMES, SIZES, group_step=1.0, group_driver=driver)
        objective(**batch)
        moved[driver] = (objective.group_weights.weights - 1 / 3).abs().max().item()
    assert moved["kd"] < 1e-6
    assert moved["ce"] > 0.01


@pytest.mark.parametrize("driver", ["joint", "kd", "ce"])
def test_weights_follow_the_very_loss_that_drives_them(batch: dict[str, torch.Tensor], driver: Any) -> None:
    """By the equations: q_g exp(L_g) of the groups in the batch, which keep their 2/3 of the weight together."""
    ce = functional.cross_entropy(batch["student_logits"], batch["labels"], reduction="none")
    student, teacher = (batch[name] / 2 for name in ("student_logits", "teacher_logits"))
    kd = 4 * functional.kl_div(student.log_softmax(1), teacher[0].softmax(1), reduction="none").sum(dim=1)
    losses = {"joint": 0.3 * ce + 0.7 * kd, "kd": kd, "ce": ce}[driver].detach()
    means = torch.stack([losses[batch["groups"] == group].mean() for group in (0, 1)])
    objective = DistillationObjective(NAMES, SIZES, group_step=1.0, group_driver=driver, alpha=0.7, temperature=2.0)
    objective(**batch)
    expected = [*(means.softmax(0) * 2 / 3).tolist(), 1 / 3]
    assert objective.group_weights.weights.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"alpha": 1.5}, r"alpha must lie in \[0, 1\], got 1.5"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"weighting": "group"}, "weighting must be one of cases, groups, got 'group'"),
        ({"group_driver": "loss"}, "group_driver must be one of joint, kd, ce"),
        ({"group_scope": "all"}, "group_scope must be one of joint, kd, ce, got 'all'"),
        ({"group_feedback": "test"}, "group_feedback must be one of training, validation"),
        ({"alpha_of_group": torch.tensor([0.5, 0.5])}, "alpha_of_group must hold 3 values"),
        ({"alpha_of_group": torch.tensor([0.5, 0.5, 2.0])}, r"alpha must lie in \[0, 1\], got \[0.5, 0.5, 2.0\]"),
        ({"combination": TeacherCombination("mean", 2, temperature=2.0)}, "temperature of the loss, 4.0, got 2.0"),
        ({"combination": TeacherCombination("group", 2, matched=[0, 1], temperature=4.0)}, "3 groups.*got 2"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationObjective(NAMES, SIZES, **setting)


def test_a_floor_of_one_averages_groups_by_their_size() -> None:
    """With every group in the batch in its training proportion this is plain distillation."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(4, 3, generator=generator), torch.randn(1, 4, 3, generator=generator)
    labels, groups = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 0, 1])
    floored = DistillationObjective(["a", "b"], [30, 10], weighting="groups", group_floor=1.0)
    plain = DistillationObjective(["a", "b"], [30, 10], weighting="cases")
    torch.testing.assert_close(floored(student, teacher, labels, groups), plain(student, teacher, labels, groups))
