"""Losses, against sums done by hand."""

from __future__ import annotations

from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.losses import kd_divergence


def _logits(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, log(5 / 4)), (2.0, 4 * log(9 / 8) / 2)])
def test_divergence_matches_values_worked_out_by_hand(temperature: float, expected: float) -> None:
    """Teacher (1/2, 1/2), student (4/5, 1/5): KL = ln(5/4) at tau = 1; student (2/3, 1/3) at tau = 2."""
    value = kd_divergence(_logits(0.8, 0.2), _logits(0.5, 0.5), temperature=temperature)
    assert value.item() == pytest.approx(expected, rel=1e-5)


@given(st.lists(st.floats(-20, 20), min_size=6, max_size=6), st.floats(0.5, 10), st.floats(-50, 50))
def test_divergence_is_never_negative_and_ignores_a_shift_of_the_logits(
    values: list[float], temperature: float, shift: float
) -> None:
    student, teacher = torch.tensor(values, dtype=torch.float64).view(2, 1, 3)
    value = kd_divergence(student, teacher, temperature=temperature)
    assert value.item() >= -1e-9
    assert kd_divergence(student + shift, teacher, temperature=temperature).item() == pytest.approx(
        value.item(), abs=1e-6
    )


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = torch.randn(4, 3, requires_grad=True)
    student = torch.randn(4, 3, requires_grad=True)
    kd_divergence(student, teacher, temperature=4.0).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


def test_gradients_keep_their_size_as_the_temperature_rises() -> None:
    """The factor tau^2 undoes the 1/tau^2 of softened gradients (Hinton et al. 2015, section 2.1)."""
    sizes = []
    for temperature in (20.0, 40.0):
        student = torch.tensor([[1.0, -1.0, 0.5]], requires_grad=True)
        kd_divergence(student, torch.tensor([[0.2, 0.1, -0.4]]), temperature=temperature).sum().backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_other_classes_or_a_temperature_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\) and \(2, 4\)"):
        kd_divergence(torch.zeros(2, 3), torch.zeros(2, 4), temperature=1.0)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        kd_divergence(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0.0)
