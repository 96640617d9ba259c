"""The student's objective: each method equals its simpler relative where it should."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pipeline.training.objective import DistillationObjective

NAMES, SIZES = ("Canon", "GE", "Siemens"), (20, 10, 70)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Twelve cases, of which none is Siemens' (index 2) in this batch."""
    generator = torch.Generator().manual_seed(0)
    return {
        "student_logits": torch.randn(12, 3, generator=generator).requires_grad_(),
        "teacher_logits": torch.randn(12, 3, generator=generator),
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
    teacher = functional.softmax(batch["teacher_logits"] / 3, dim=1)
    kd = 9 * functional.kl_div(log_student, teacher, reduction="batchmean")
    ce = functional.cross_entropy(batch["student_logits"], batch["labels"])
    assert objective(**batch).item() == pytest.approx((0.3 * ce + 0.7 * kd).item(), rel=1e-5)


def test_one_group_is_plain_distillation(batch: dict[str, torch.Tensor]) -> None:
    batch["groups"] = torch.zeros(12, dtype=torch.long)
    robust = DistillationObjective(["all"], [100], weighting="groups", group_step=1.0)
    plain = DistillationObjective(["all"], [100], weighting="cases")
    assert robust(**batch).item() == pytest.approx(plain(**batch).item(), rel=1e-6)


def test_a_step_of_zero_is_the_weighted_sum_of_group_means(batch: dict[str, torch.Tensor]) -> None:
    """Weights stay at 1/3; the group that is absent adds nothing and the others are not scaled up."""
    objective = DistillationObjective(NAMES, SIZES, group_step=0.0, alpha=0.0)
    ce = functional.cross_entropy(batch["student_logits"], batch["labels"], reduction="none")
    expected = sum(ce.detach()[batch["groups"] == group].mean() for group in (0, 1)) / 3
    assert objective(**batch).item() == pytest.approx(float(expected), rel=1e-5)
    assert objective.group_weights.weights.tolist() == pytest.approx([1 / 3] * 3)


def test_it_equals_group_dro_written_from_the_equations(batch: dict[str, torch.Tensor]) -> None:
    """Oracle: three steps of q_g <- q_g exp(eta L_g), normalise, loss = sum q_g L_g, in plain Python."""
    objective = DistillationObjective(NAMES, SIZES, alpha=0.0, group_step=0.5)
    ce = functional.cross_entropy(batch["student_logits"], batch["labels"], reduction="none")
    means = [ce[batch["groups"] == g].mean().item() if (batch["groups"] == g).any() else 0.0 for g in range(3)]
    q = [1 / 3] * 3
    for _ in range(3):
        q = [weight * torch.tensor(0.5 * mean).exp().item() for weight, mean in zip(q, means, strict=True)]
        q = [weight / sum(q) for weight in q]
        value = objective(**batch)
        expected = sum(weight * mean for weight, mean in zip(q, means, strict=True))
        assert value.item() == pytest.approx(expected, rel=1e-5)


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
    batch["teacher_logits"] = batch["student_logits"].detach().clone()
    moved = {}
    for driver in ("kd", "ce"):
        objective = DistillationObjective(NAMES, SIZES, group_step=1.0, group_driver=driver)
        objective(**batch)
        moved[driver] = (objective.group_weights.weights - 1 / 3).abs().max().item()
    assert moved["kd"] < 1e-6
    assert moved["ce"] > 0.01


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"alpha": 1.5}, r"alpha must lie in \[0, 1\], got 1.5"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"weighting": "group"}, "weighting must be one of cases, groups, got 'group'"),
        ({"group_driver": "loss"}, "group_driver must be one of joint, kd, ce"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationObjective(NAMES, SIZES, **setting)
