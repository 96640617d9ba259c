"""Which cases make a batch."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from pipeline.training.sampling import balancing_weights, training_sampler

ITEMS = [{"group": 0}] * 90 + [{"group": 1}] * 10


def test_every_group_carries_the_same_weight() -> None:
    weights = balancing_weights(ITEMS)
    assert sum(weights[:90]) == pytest.approx(1)
    assert sum(weights[90:]) == pytest.approx(1)


def test_balanced_sampling_draws_a_tenth_of_the_cases_half_of_the_time() -> None:
    """20 epochs of 100 draws: the rare group's share has SD sqrt(0.25 / 2000) = 0.011."""
    torch.manual_seed(0)
    drawn = [ITEMS[index]["group"] for _ in range(20) for index in training_sampler(ITEMS, "groups")]
    assert len(drawn) == 2000
    assert Counter(drawn)[1] / 2000 == pytest.approx(0.5, abs=0.045)


def test_sampling_of_cases_visits_each_once_in_another_order_each_epoch() -> None:
    torch.manual_seed(0)
    sampler = training_sampler(ITEMS, "cases")
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match="sampling must be one of cases, groups, got 'group'"):
        training_sampler(ITEMS, "group")  # type: ignore[arg-type]
