"""Several teachers as one: each kind equals its simpler relative, and AGRE-KD's weights equal autograd's."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.nn import functional

from pipeline.training.combination import TeacherCombination, gradient_shares, mixed_logits
from pipeline.training.losses import kd_divergence

K, B, C, T = 3, 8, 4, 3.0


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student ``(B, C)``, teachers ``(K, B, C)``, groups ``(B,)`` of two."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(B, C, generator=generator)
    return student, 3 * torch.randn(K, B, C, generator=generator), torch.arange(B) % 2


def test_the_mixture_is_that_of_the_softened_classes(batch: tuple[torch.Tensor, ...]) -> None:
    _, teachers, _ = batch
    shares = torch.tensor([[0.5], [0.5], [0.0]])
    mixed = functional.softmax(mixed_logits(teachers, shares, temperature=T) / T, dim=1)
    first, second, _ = functional.softmax(teachers / T, dim=2)
    torch.testing.assert_close(mixed, (first + second) / 2)


def test_the_gradient_is_that_of_the_weighted_sum_of_divergences(batch: tuple[torch.Tensor, ...]) -> None:
    """The values differ: the mixture leaves out how far the teachers disagree."""
    student, teachers, _ = batch
    shares = torch.tensor([0.7, 0.2, 0.1])
    one, other = student.clone().requires_grad_(), student.clone().requires_grad_()
    mixed = kd_divergence(one, mixed_logits(teachers, shares[:, None], temperature=T), temperature=T)
    summed = sum(w * kd_divergence(other, t, temperature=T) for w, t in zip(shares, teachers, strict=True))
    mixed.sum().backward()
    assert isinstance(summed, torch.Tensor)
    summed.sum().backward()
    torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)
    assert (summed > mixed).all()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mean", {}),
        ("random", {}),
        ("permuted", {"weights": [1.0]}),
        ("trust", {"trust": torch.ones(2, 1)}),
        ("group", {"matched": [0, 0]}),
    ],
)
def test_one_teacher_stays_itself(batch: tuple[torch.Tensor, ...], kind: Any, settings: dict[str, Any]) -> None:
    student, teachers, groups = batch
    combined = TeacherCombination(kind, 1, **settings, temperature=T)(student, teachers[:1], groups)
    expected = kd_divergence(student, teachers[0], temperature=T)
    torch.testing.assert_close(kd_divergence(student, combined, temperature=T), expected)


def test_one_teacher_beside_the_reference_stays_itself(batch: tuple[torch.Tensor, ...]) -> None:
    """AGRE-KD's weights only share out between teachers; the last one is not distilled."""
    student, teachers, groups = batch
    combined = TeacherCombination("gradient", 2, temperature=T)(student, teachers[:2], groups)
    expected = kd_divergence(student, teachers[0], temperature=T)
    torch.testing.assert_close(kd_divergence(student, combined, temperature=T), expected)


def test_equal_weights_permuted_are_the_mean(batch: tuple[torch.Tensor, ...]) -> None:
    permuted = TeacherCombination("permuted", K, weights=[1 / 3] * 3, temperature=T)
    torch.testing.assert_close(permuted(*batch), TeacherCombination("mean", K, temperature=T)(*batch))


def test_one_weight_of_one_permuted_is_a_random_teacher(batch: tuple[torch.Tensor, ...]) -> None:
    student, teachers, groups = batch
    permuted = TeacherCombination("permuted", K, weights=[1, 0, 0], temperature=T, seed=5)
    random = TeacherCombination("random", K, temperature=T, seed=5)
    alone = [T * functional.log_softmax(teacher / T, dim=1) for teacher in teachers]
    drawn = set()
    for _ in range(20):
        combined = random(student, teachers, groups)
        torch.testing.assert_close(combined, permuted(student, teachers, groups))
        drawn.add(next(index for index, teacher in enumerate(alone) if torch.allclose(combined, teacher, atol=1e-5)))
    assert drawn == {0, 1, 2}


def test_every_teacher_gets_every_weight_equally_often() -> None:
    """600 batches, six orders of (0.7, 0.2, 0.1): each is dealt about 100 times (standard deviation 9)."""
    combination = TeacherCombination("permuted", K, weights=[0.7, 0.2, 0.1], temperature=1.0)
    student, groups = torch.zeros(1, 3), torch.zeros(1, dtype=torch.long)
    certain = 50 * torch.eye(3)[:, None]  # teacher k says class k: the mixture shows the shares
    dealt = [functional.softmax(combination(student, certain, groups), dim=1)[0] for _ in range(600)]
    orders = Counter(tuple(round(share, 3) for share in shares.tolist()) for shares in dealt)
    assert set(orders) == {(a, b, c) for a in (0.7, 0.2, 0.1) for b in (0.7, 0.2, 0.1) for c in (0.7, 0.2, 0.1)
                           if len({a, b, c}) == 3}  # fmt: skip
    assert all(60 < count < 140 for count in orders.values())


def test_a_run_that_goes_on_draws_what_an_unbroken_one_does(batch: tuple[torch.Tensor, ...]) -> None:
    """Neither the global generator nor a pass in evaluation mode moves the draws."""
    unbroken, broken, again = (TeacherCombination("random", K, temperature=T, seed=7) for _ in range(3))
    expected = [unbroken(*batch) for _ in range(12)]
    for step in range(6):
        torch.manual_seed(step)
        assert torch.equal(broken(*batch), expected[step])
    broken.eval()
    broken(*batch)
    again.load_state_dict(broken.state_dict())
    assert all(torch.equal(again(*batch), value) for value in expected[6:])
    other = TeacherCombination("random", K, temperature=T, seed=8)
    assert not all(torch.equal(other(*batch), value) for value in expected)


def test_shares_equal_those_of_autograd_in_the_last_layer() -> None:
    """Oracle: 1 - cosine of each case's gradients of the divergence with respect to weight and bias, one by one."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(B, 5, generator=generator).double()
    teachers = 2 * torch.randn(K, B, C, generator=generator).double()
    layer = torch.nn.Linear(5, C).double()
    expected = torch.zeros(K - 1, B).double()
    for case in range(B):
        gradients = []
        for teacher in teachers:
            loss = kd_divergence(layer(features[case : case + 1]), teacher[case : case + 1], temperature=T).sum()
            weight, bias = torch.autograd.grad(loss, tuple(layer.parameters()))
            gradients.append(torch.cat([weight.flatten(), bias]))
        *pulls, reference = (gradient / gradient.norm() for gradient in gradients)
        expected[:, case] = 1 - torch.stack(pulls) @ reference
    expected = expected / expected.sum(dim=0)
    logits = layer(features)
    softened = functional.softmax(teachers / T, dim=2)
    shares = gradient_shares(functional.softmax(logits / T, dim=1), softened[:2], softened[2])
    torch.testing.assert_close(shares, expected)
    combined = TeacherCombination("gradient", K, temperature=T)(logits, teachers, torch.zeros(B, dtype=torch.long))
    mixture = (expected[:, :, None] * softened[:2]).sum(dim=0)
    torch.testing.assert_close(functional.softmax(combined / T, dim=1), mixture)


def test_a_teacher_that_pulls_as_the_biased_one_does_is_left_out(batch: tuple[torch.Tensor, ...]) -> None:
    """And if all of them do, they share equally: there is no weight to divide by."""
    student, teachers, _ = batch
    student, (other, biased, _) = functional.softmax(student, dim=1), functional.softmax(teachers, dim=2)
    shares = gradient_shares(student, torch.stack([biased, other]), biased)
    torch.testing.assert_close(shares[0], torch.zeros(B), atol=1e-5, rtol=0)
    assert torch.equal(gradient_shares(student, torch.stack([biased, biased]), biased), torch.full((2, B), 0.5))


def test_rounding_makes_no_differences_among_many_teachers_on_the_side_of_the_reference() -> None:
    """Two classes: the student is sure of the first, all others less so; every cosine is 1 but for rounding."""
    generator = torch.Generator().manual_seed(0)
    first = 0.5 + 0.4 * torch.rand(20, 200, generator=generator)
    teachers = torch.stack([first, 1 - first], dim=2)
    student = torch.tensor([0.99, 0.01]).expand(200, 2)
    assert torch.equal(gradient_shares(student, teachers, teachers[0]), torch.full((20, 200), 1 / 20))


def test_trust_goes_by_the_group_of_the_case(batch: tuple[torch.Tensor, ...]) -> None:
    """Even cases are of group 0, odd ones of group 1."""
    student, teachers, groups = batch
    trust = torch.tensor([[0.5, 0.3, 0.2], [0.0, 0.1, 0.9]])
    combined = TeacherCombination("trust", K, trust=trust, temperature=T)(student, teachers, groups)
    softened = functional.softmax(teachers / T, dim=2)
    for group in (0, 1):
        expected = sum(trust[group, k] * softened[k, group::2] for k in range(K))
        torch.testing.assert_close(functional.softmax(combined[group::2] / T, dim=1), expected)


def test_each_case_has_its_own_groups_teacher(batch: tuple[torch.Tensor, ...]) -> None:
    student, teachers, groups = batch
    combined = TeacherCombination("group", K, matched=[2, 0], temperature=T)(student, teachers, groups)
    one_hot = TeacherCombination("trust", K, trust=torch.eye(3)[[2, 0]], temperature=T)(student, teachers, groups)
    torch.testing.assert_close(combined, one_hot)
    for case in range(B):
        own = teachers[2 if groups[case] == 0 else 0, case]
        torch.testing.assert_close(functional.softmax(combined[case] / T, dim=0), functional.softmax(own / T, dim=0))


def test_no_gradient_reaches_student_or_teachers(batch: tuple[torch.Tensor, ...]) -> None:
    """Shares that depend on the student are held constant."""
    student, teachers, groups = batch
    combination = TeacherCombination("gradient", K, temperature=T)
    assert not combination(student.requires_grad_(), teachers.requires_grad_(), groups).requires_grad


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kind": "best"}, "one of mean, random, permuted, gradient, trust, group, got 'best'"),
        ({"kind": "gradient", "teachers": 1}, "needs at least 2 teachers, got 1"),
        ({"kind": "permuted"}, "'permuted' needs weights"),
        ({"kind": "permuted", "weights": []}, r"3 shares, one per teacher.*got \[\]"),
        ({"kind": "permuted", "weights": [0.7, 0.2, 0.2]}, "of sum 1"),
        ({"kind": "permuted", "weights": [1.5, -0.5, 0.0]}, "at least 0"),
        ({"weights": [1, 0, 0]}, "'mean' takes no weights"),
        ({"kind": "trust", "trust": torch.ones(2, 2) / 2}, "trust must hold 3 shares"),
        ({"kind": "group", "matched": [0, 3]}, r"indices of 3 teachers, from 0, got \[0, 3\]"),
        ({"temperature": 0.0}, "temperature must be positive, got 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TeacherCombination(**({"kind": "mean", "teachers": K, "temperature": T} | setting))


def test_another_number_of_teachers_is_refused(batch: tuple[torch.Tensor, ...]) -> None:
    student, teachers, groups = batch
    with pytest.raises(ValueError, match=r"= \(3, 8, 4\), got \(2, 8, 4\)"):
        TeacherCombination("mean", K, temperature=T)(student, teachers[:2], groups)
