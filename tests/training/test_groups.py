"""Group weights: on the simplex, monotone, at rest where they should be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.groups import GroupWeights, cvar_weights, group_means, step_weights

ALL = torch.ones(3, dtype=torch.bool)
UNIFORM = torch.full((3,), 1 / 3)


@dataclass(frozen=True)
class Situation:
    """Groups and what two batches say of them; losses are multiples of 1/2, so that sums do not depend on order."""

    sizes: list[int]
    losses: list[list[float]]
    counts: list[list[int]]
    settings: dict[str, Any]

    def weights(self) -> GroupWeights:
        """After both batches."""
        weights = GroupWeights([str(g) for g in range(len(self.sizes))], self.sizes, **self.settings)
        for losses, counts in zip(self.losses, self.counts, strict=True):
            weights.update(torch.tensor(losses), torch.tensor(counts))
        return weights


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    n_groups = draw(st.integers(2, 5))
    halves = st.lists(st.integers(0, 20).map(lambda n: n / 2), min_size=n_groups, max_size=n_groups)
    rule = draw(st.sampled_from(["gradient", "cvar"]))
    return Situation(
        sizes=draw(st.lists(st.integers(1, 100), min_size=n_groups, max_size=n_groups)),
        losses=[draw(halves), draw(halves)],
        counts=[draw(st.lists(st.integers(0, 3), min_size=n_groups, max_size=n_groups)) for _ in range(2)],
        settings={
            "step": draw(st.sampled_from([0.0, 0.1, 1.0])),
            "adjustment": draw(st.sampled_from([0.0, 1.0, 4.0])),
            "normalise": rule == "gradient" and draw(st.booleans()),
            "rule": rule,
            "cvar_share": draw(st.sampled_from([0.2, 0.5, 1.0])),
        },
    )


@given(situations())
def test_weights_stay_on_the_simplex_and_small_groups_keep_their_share(situation: Situation) -> None:
    weights = situation.weights()
    assert weights.weights.sum().item() == pytest.approx(1, abs=1e-5)
    assert (weights.weights >= 0).all()
    for size, weight in zip(situation.sizes, weights.weights.tolist(), strict=True):
        if size < 5:
            assert weight == pytest.approx(size / sum(situation.sizes), rel=1e-6)


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_in_which_groups_are_listed_does_not_matter(situation: Situation, random: Any) -> None:
    order = list(range(len(situation.sizes)))
    random.shuffle(order)

    def shuffled(values: list[Any]) -> list[Any]:
        return [values[index] for index in order]

    other = Situation(
        shuffled(situation.sizes),
        [shuffled(row) for row in situation.losses],
        [shuffled(row) for row in situation.counts],
        situation.settings,
    )
    assert other.weights().weights.tolist() == pytest.approx(shuffled(situation.weights().weights.tolist()), abs=1e-5)


@given(situations(), st.integers(0, 4), st.sampled_from([0.5, 3.0]))
def test_a_group_that_does_worse_does_not_lose_weight(situation: Situation, which: int, more: float) -> None:
    which %= len(situation.sizes)
    worse = [situation.losses[0], list(situation.losses[1])]
    worse[1][which] += more
    other = Situation(situation.sizes, worse, situation.counts, situation.settings)
    assert other.weights().weights[which] >= situation.weights().weights[which] - 1e-5


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
def test_weights_of_the_groups_in_the_batch_rise_with_their_loss_and_others_rest(
    losses: list[float], counts: list[int], step: float
) -> None:
    weights = step_weights(UNIFORM, torch.tensor(losses), torch.tensor(counts), step=step, moving=ALL)
    assert weights.sum().item() == pytest.approx(1, abs=1e-5)
    assert (weights >= 0).all()
    present = sorted((g for g in range(3) if counts[g]), key=losses.__getitem__)
    assert all(weights[a] <= weights[b] + 1e-6 for a, b in pairwise(present))
    assert all(weights[g] == UNIFORM[g] for g in range(3) if not counts[g])


@given(
    st.lists(st.sampled_from([0.0, 1e-38, 1e-9, 0.3, 1.0]), min_size=3, max_size=3).filter(any),
    st.lists(st.sampled_from([0.0, 0.5, 10.0, 1e6]), min_size=3, max_size=3),
    st.lists(st.integers(0, 2), min_size=3, max_size=3),
    st.sampled_from([0.0, 0.5, 2.0]),
)
def test_weights_stay_on_the_simplex_from_wherever_they_are_however_large_the_losses(
    start: list[float], losses: list[float], counts: list[int], step: float
) -> None:
    before = torch.tensor(start) / sum(start)
    after = step_weights(before, torch.tensor(losses), torch.tensor(counts), step=step, moving=ALL)
    assert after.sum().item() == pytest.approx(1, abs=1e-5)
    assert (after >= 0).all()


def test_a_group_that_has_lost_all_its_weight_rises_again_when_it_does_worse() -> None:
    weights = GroupWeights(["a", "b"], [50, 50], step=0.5)
    for _ in range(40):
        weights.update(torch.tensor([10.0, 1.0]), torch.ones(2))
    assert weights.weights[1] < 1e-30
    for _ in range(40):
        weights.update(torch.tensor([0.1, 10.0]), torch.ones(2))
    assert weights.weights[1] > 0.99


def test_a_rare_group_gains_by_its_loss_and_not_by_its_absence() -> None:
    """In every tenth batch; at a loss of 1.5 against 1 its weight grows, at equal losses it stays."""
    for rare, ratio in ((1.0, 1.0), (1.5, math.exp(0.05 * 0.5 * 20))):
        weights = GroupWeights(["common", "rare"], [90, 10], step=0.05)
        for batch in range(200):
            weights.update(torch.tensor([1.0, rare]), torch.tensor([30, 3 * (batch % 10 == 0)]))
        assert (weights.weights[1] / weights.weights[0]).item() == pytest.approx(ratio, rel=1e-4)


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


@pytest.mark.parametrize("rule", ["gradient", "cvar"])
def test_weights_and_their_past_survive_a_checkpoint(rule: Any) -> None:
    """The next update moves both alike: the average that cvar goes by is saved too."""
    weights = GroupWeights(["a", "b"], [30, 20], step=0.3, rule=rule, cvar_share=0.6)
    weights.update(torch.tensor([1.0, 2.0]), torch.ones(2))
    again = GroupWeights(["a", "b"], [30, 20], step=0.3, rule=rule, cvar_share=0.6)
    again.load_state_dict(weights.state_dict())
    assert again.weights.tolist() == weights.weights.tolist()
    for one in (weights, again):
        one.update(torch.tensor([2.0, 0.0]), torch.ones(2))
    assert again.weights.tolist() == weights.weights.tolist()


def test_small_groups_are_driven_by_more_than_their_loss() -> None:
    """Equal losses, C = 6 over 4 and 9 patients: driven by 3 and 2, so that the ratio is e at step 1."""
    weights = GroupWeights(["a", "b"], [4, 9], step=1.0, min_group_size=1, adjustment=6.0)
    weights.update(torch.ones(2), torch.ones(2))
    assert (weights.weights[0] / weights.weights[1]).item() == pytest.approx(math.e, rel=1e-5)


def test_normalised_losses_move_the_weights_alike_whatever_multiplies_them() -> None:
    """Losses (1, 3), mean 2: the ratio is exp(3/2 - 1/2) = e, at 16 times the losses as well."""
    for scale in (1.0, 16.0):
        weights = GroupWeights(["a", "b", "absent"], [40, 40, 40], step=1.0, normalise=True)
        weights.update(scale * torch.tensor([1.0, 3.0, 100.0]), torch.tensor([2, 7, 0]))
        assert (weights.weights[1] / weights.weights[0]).item() == pytest.approx(math.e, rel=1e-5)


def test_a_group_at_rest_does_not_scale_the_losses_of_the_others() -> None:
    moved = []
    for tiny in (0.0, 50.0):
        weights = GroupWeights(["a", "b", "tiny"], [50, 49, 1], step=1.0, normalise=True)
        weights.update(torch.tensor([1.0, 2.0, tiny]), torch.ones(3))
        moved.append(weights.weights.tolist())
    assert moved[0] == moved[1]


def test_the_worst_part_of_the_patients_is_filled_from_the_worst_group() -> None:
    """The worst 2/5: all of the 1/5 at loss 3 (half of it), and 1/5 of the 3/10 at loss 2."""
    weights = cvar_weights(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([0.5, 0.2, 0.3]), worst_share=0.4)
    assert weights.tolist() == pytest.approx([0.0, 0.5, 0.5])


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50)), min_size=1, max_size=6), st.sampled_from([0.1, 0.3, 1])
)
def test_the_loss_is_the_conditional_value_at_risk(groups: list[tuple[int, int]], worst_share: float) -> None:
    """Oracle: min over t of t + E[max(L - t, 0)] / rho (Rockafellar and Uryasev 2000); it lies at one of the losses."""
    losses, sizes = zip(*groups, strict=True)
    shares = [size / sum(sizes) for size in sizes]
    risk = min(
        t + sum(share * max(loss - t, 0) for share, loss in zip(shares, losses, strict=True)) / worst_share
        for t in losses
    )
    weights = cvar_weights(torch.tensor(losses).double(), torch.tensor(shares).double(), worst_share=worst_share)
    assert (weights * torch.tensor(losses)).sum().item() == pytest.approx(risk, rel=1e-6)


def test_a_share_of_one_weighs_groups_by_their_patients() -> None:
    weights = GroupWeights(["a", "b", "tiny"], [60, 38, 2], step=0.1, rule="cvar", cvar_share=1.0)
    weights.update(torch.tensor([0.1, 5.0, 3.0]), torch.ones(3))
    assert weights.weights.tolist() == pytest.approx([0.6, 0.38, 0.02])


def test_an_average_over_batches_decides_who_is_worst() -> None:
    """Memory 1/2: a goes 1, 1/2, 1/4; b goes 0, 0.4, 0.6; a batch without cases of a group leaves its average."""
    weights = GroupWeights(["a", "b"], [50, 50], step=0.0, rule="cvar", cvar_share=0.5, memory=0.5)
    seen = []
    for losses, counts in (([1.0, 0.0], [3, 3]), ([0.0, 0.8], [3, 3]), ([0.0, 9.0], [1, 0]), ([0.0, 0.8], [0, 2])):
        weights.update(torch.tensor(losses), torch.tensor(counts))
        seen.append(weights.weights.tolist())
    assert seen == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert weights.tracked.tolist() == pytest.approx([0.25, 0.6])


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
    ("setting", "message"),
    [
        ({"sizes": [5, 0]}, "at least one training patient"),
        ({"step": -1.0}, "at least 0, got -1"),
        ({"adjustment": -0.5}, "at least 0, got -0.5"),
        ({"rule": "worst"}, "one of gradient, cvar, got 'worst'"),
        ({"cvar_share": 0.0}, r"cvar_share must lie in \(0, 1\], got 0.0"),
        ({"rule": "cvar", "normalise": True}, "got normalise=True beside it"),
        ({"memory": 1.5}, r"memory must lie in \(0, 1\], got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GroupWeights(**({"names": ["a", "b"], "sizes": [5, 5], "step": 0.1} | setting))


def test_the_floor_shares_a_part_of_the_weight_out_by_size() -> None:
    """Sizes 30 and 10, all weight on the second group: 0.4 x (3/4, 1/4) + 0.6 x (0, 1) = (0.3, 0.7)."""
    weights = GroupWeights(["a", "b"], [30, 10], step=1.0, floor=0.4)
    weights.weights = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(weights.applied, torch.tensor([0.3, 0.7]))
    assert weights.by_name() == pytest.approx({"a": 0.3, "b": 0.7})


def test_without_a_floor_the_weights_are_applied_as_they_are() -> None:
    weights = GroupWeights(["a", "b"], [30, 10], step=1.0)
    weights.update(torch.tensor([1.0, 3.0]), torch.tensor([4.0, 4.0]))
    assert torch.equal(weights.applied, weights.weights)


@pytest.mark.parametrize("floor", [-0.1, 1.1])
def test_a_floor_beyond_its_range_is_refused(floor: float) -> None:
    with pytest.raises(ValueError, match=rf"must lie in \[0, 1\], got {floor}"):
        GroupWeights(["a"], [3], step=0.0, floor=floor)
