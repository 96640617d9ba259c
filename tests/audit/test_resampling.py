"""Draws that hold for all groups of a column at once."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.audit.findings import Measure
from pipeline.audit.measured import MeasuredMean
from pipeline.audit.resampling import SEVERAL, Pools, pools
from pipeline.audit.statistics import worst_group

PATIENTS = np.array([0, 1, 2, 3, 4, 4, 6, 6, 6])
GROUPS = np.array(["GE", "GE", "UIH", "UIH", "GE", "UIH", "GE", "GE", "UIH"])


def seeded(pool: str) -> np.random.Generator:
    return np.random.default_rng(len(pool))


@pytest.fixture
def mixed() -> Pools:
    """Two patients on GE, two on UIH, patients 4 and 6 on both; nobody is coded 5."""
    return pools(PATIENTS, GROUPS, seeded)


def test_patients_of_several_groups_are_one_pool(mixed: Pools) -> None:
    assert {name: codes.tolist() for name, codes in mixed.members.items()} == {
        SEVERAL: [4, 6],
        "GE": [0, 1],
        "UIH": [2, 3],
    }


def test_each_pool_keeps_its_number_of_patients_in_every_draw(mixed: Pools) -> None:
    """And its halves are halves; nobody is drawn who is not there."""
    drawn = np.concatenate(list(mixed.draws(50, 7)))
    halves = np.concatenate(list(mixed.halves(50, 7)))
    for codes in mixed.members.values():
        assert (drawn[:, codes].sum(axis=1) == 2).all()
        assert (halves[:, codes].sum(axis=1) == 1).all()
        assert len(np.unique(drawn[:, codes], axis=0)) == 3
    assert not drawn[:, 5].any()


def test_draws_do_not_depend_on_the_size_of_the_blocks(mixed: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(mixed.draws(50, 7)))
    monkeypatch.setattr("pipeline.audit.resampling.BLOCK_SIZE", 50)
    parts = list(mixed.draws(50, 7))
    assert len(parts) == 8
    assert np.array_equal(np.concatenate(parts), whole)


def test_draws_of_one_group_are_those_of_its_own_generator(mixed: Pools) -> None:
    """They do not depend on which other groups there are."""
    (alone,) = pools(PATIENTS[:2], GROUPS[:2], seeded).draws(20, 7)
    (together,) = mixed.draws(20, 7)
    assert np.array_equal(alone[:, :2], together[:, :2])


def test_scanners_that_read_the_same_patients_rise_and_fall_together() -> None:
    """UIH is always a little worse: the worst in every draw, where draws of different patients would often say GE."""
    own = np.random.default_rng(0).normal(size=30)
    values, groups = np.r_[own, own - 0.1], np.repeat(["GE", "UIH"], 30)
    frequency = {}
    for kind, patients in (("same", np.tile(np.arange(30), 2)), ("others", np.arange(60))):
        found = MeasuredMean(Measure("dice", "Dice", scale="plain"), values, patients)
        inside = {group: groups == group for group in ("GE", "UIH")}
        draws = found.over(inside, pools(patients, groups, lambda _: np.random.default_rng()).draws(400, 60))
        worst = worst_group({"GE": 0.0, "UIH": -0.1}, draws)
        assert worst is not None
        frequency[kind] = worst.frequencies["UIH"]
    assert frequency["same"] == 1
    assert frequency["others"] < 0.9
