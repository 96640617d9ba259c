"""Which cases make a batch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import distributed

from pipeline.training.sampling import TrainingSampler, balancing_weights

ITEMS = [{"case_id": f"c{number}", "group": int(number >= 90)} for number in range(100)]


def drawn(sampler: TrainingSampler, *epochs: int) -> list[int]:
    """Indices of some epochs, one after the other."""
    indices = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        indices += list(sampler)
    return indices


def test_every_group_carries_the_same_weight() -> None:
    weights = balancing_weights(ITEMS)
    assert sum(weights[:90]) == pytest.approx(1)
    assert sum(weights[90:]) == pytest.approx(1)


def test_balanced_sampling_draws_a_tenth_of_the_cases_half_of_the_time() -> None:
    """20 epochs of 100 draws: the rare group's share has SD sqrt(0.25 / 2000) = 0.011."""
    groups = [ITEMS[index]["group"] for index in drawn(TrainingSampler(ITEMS, "groups", seed=0), *range(1, 21))]
    assert len(groups) == 2000
    assert Counter(groups)[1] / 2000 == pytest.approx(0.5, abs=0.045)


def test_sampling_of_cases_visits_each_once_in_another_order_each_epoch_and_with_each_seed() -> None:
    orders = [drawn(TrainingSampler(ITEMS, "cases", seed=seed), epoch) for seed, epoch in ((0, 1), (0, 2), (1, 1))]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_an_epoch_s_order_does_not_depend_on_what_was_drawn_before() -> None:
    """Else an interrupted run would go on in another order."""
    torch.manual_seed(3)
    assert drawn(TrainingSampler(ITEMS, "cases", seed=0), 1, 2)[100:] == drawn(
        TrainingSampler(ITEMS, "cases", seed=0), 2
    )


def test_a_subset_is_visited_by_its_places_in_the_whole_and_a_repeated_case_twice() -> None:
    subset = [ITEMS[7], ITEMS[95], ITEMS[7]]
    assert sorted(drawn(TrainingSampler(ITEMS, "cases", seed=0, among=subset), 1)) == [7, 7, 95]


@pytest.mark.parametrize("sampling", ["cases", "groups"])
def test_processes_share_out_the_order_of_one(monkeypatch: pytest.MonkeyPatch, sampling: Any) -> None:
    """Batches of 2 in three processes hold, step by step, the cases of one process's batches of 6."""
    alone = drawn(TrainingSampler(ITEMS, sampling, seed=4), 3)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        sampler = TrainingSampler(ITEMS, sampling, seed=4)
        shares.append(drawn(sampler, 3))
        assert len(sampler) == len(shares[-1]) == 34
    for step in range(0, 33, 2):
        together = [index for share in shares for index in share[step : step + 2]]
        assert sorted(together[:6]) == sorted((alone + alone[:2])[3 * step : 3 * step + 6])


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match="sampling must be one of cases, groups, got 'group'"):
        TrainingSampler(ITEMS, "group", seed=0)  # type: ignore[arg-type]


def test_an_empty_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one case, got none"):
        TrainingSampler(ITEMS, "cases", seed=0, among=[])
