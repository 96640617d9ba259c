"""Group weights: on the simplex, monotone, at rest where they should be."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.groups import GroupWeights, group_means, step_weights

ALL = torch.ones(3, dtype=torch.bool)
UNIFORM = torch.full((3,), 1 / 3)


def test_one_step_matches_the_value_worked_out_by_hand() -> None:
    """Losses (ln 2, 0, 0) at step 1 double the first of three equal weights: (1/2, 1/4, 1/4)."""
    losses = torch.tensor([math.log(2), 0.0, 0.0])
    weights = step_weights(UNIFORM, losses, torch.ones(3), step=1.0, moving=ALL)
    assert weights.tolist() == pytest.approx([0.5, 0.25, 0.25])


@given(
    st.lists(st.floats(0, 50), min_size=3, max_size=3),
    st.lists(st.integers(0, 4), min_size=3, max_size=3),
    st.floats(0, 2),
)
def test_weights_stay_on_the_simplex_and_rise_with_the_loss(
    losses: list[float], counts: list[int], step: float
) -> None:
    weights = step_weights(UNIFORM, torch.tensor(losses), torch.tensor(counts), step=step, moving=ALL)
    assert weights.sum().item() == pytest.approx(1, abs=1e-5)
    assert (weights >= 0).all()
    effective = [loss if count else 0.0 for loss, count in zip(losses, counts, strict=True)]
    order = sorted(range(3), key=effective.__getitem__)
    assert all(weights[a] <= weights[b] + 1e-6 for a, b in pairwise(order))


def test_absent_groups_keep_their_share_among_themselves() -> None:
    """Normalisation scales both absent groups alike: their ratio 2:1 stays."""
    start = torch.tensor([0.4, 0.4, 0.2])
    weights = step_weights(start, torch.tensor([3.0, 9.0, 9.0]), torch.tensor([5, 0, 0]), step=0.5, moving=ALL)
    assert weights[0] > start[0]
    assert (weights[1] / weights[2]).item() == pytest.approx(2.0)


def test_huge_losses_do_not_overflow() -> None:
    weights = step_weights(UNIFORM, torch.tensor([1e6, 0.0, 0.0]), torch.ones(3), step=1.0, moving=ALL)
    assert weights.tolist() == [1.0, 0.0, 0.0]


def test_a_group_of_one_patient_never_gains_weight() -> None:
    """50 + 49 + 1 patients: the tiny group keeps 1/100 whatever its loss, the others share the rest."""
    weights = GroupWeights(["a", "b", "tiny"], [50, 49, 1], step=1.0, min_group_size=5)
    for _ in range(20):
        weights.update(torch.tensor([0.1, 0.2, 9.0]), torch.ones(3))
    assert weights.by_name()["tiny"] == pytest.approx(0.01)
    assert weights.weights.sum().item() == pytest.approx(1.0)
    assert weights.by_name()["b"] > weights.by_name()["a"]


def test_if_every_group_is_tiny_each_keeps_its_share() -> None:
    weights = GroupWeights(["a", "b"], [3, 1], step=1.0, min_group_size=5)
    weights.update(torch.tensor([0.0, 5.0]), torch.ones(2))
    assert weights.weights.tolist() == [0.75, 0.25]


def test_weights_and_their_past_survive_a_checkpoint() -> None:
    weights = GroupWeights(["a", "b"], [30, 20], step=0.3)
    weights.update(torch.tensor([1.0, 2.0]), torch.ones(2))
    again = GroupWeights(["a", "b"], [30, 20], step=0.3)
    again.load_state_dict(weights.state_dict())
    assert again.weights.tolist() == weights.weights.tolist()


def test_group_means_equal_masked_means() -> None:
    """Oracle: select each group's cases and average; an absent group is 0 with count 0, not NaN."""
    generator = torch.Generator().manual_seed(3)
    losses = torch.rand(40, generator=generator, dtype=torch.float64)
    groups = torch.randint(0, 4, (40,), generator=generator)
    means, counts = group_means(losses, groups, 5)
    for group in range(4):
        chosen = losses[groups == group]
        assert means[group].item() == pytest.approx(chosen.mean().item())
        assert counts[group].item() == len(chosen)
    assert (means[4].item(), counts[4].item()) == (0, 0)


@pytest.mark.parametrize(
    ("sizes", "step", "message"), [([5, 0], 0.1, "at least one training patient"), ([5, 5], -1.0, "at least 0, got -1")]
)
def test_empty_groups_and_negative_steps_are_refused(sizes: list[int], step: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GroupWeights(["a", "b"], sizes, step=step)
