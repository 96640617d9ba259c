"""How good each teacher is in each group, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from pipeline.training.teacher_quality import alpha_from_margins, teacher_quality, trust_from_accuracy


def test_accuracy_and_margin_match_values_worked_out_by_hand() -> None:
    """One teacher, four cases of which the last has no group; group 2 has none. Mean accuracy 3/4, margin 0.3.

    Group 0: (1 + 0 + 3/4) / 3 and (0.5 - 0.3 + 0.3) / 3. Group 1: (1 + 3/4) / 2 and (0.3 + 0.3) / 2. Group 2: the
    overall values.
    """
    classes = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6], [0.1, 0.8, 0.1]]).double()
    labels, groups = torch.tensor([0, 0, 2, 1]), torch.tensor([0, 0, 1, -1])
    accuracy, margin = teacher_quality(classes.log()[None], labels, groups, 3)
    assert accuracy[0].tolist() == pytest.approx([1.75 / 3, 0.875, 0.75])
    assert margin[0].tolist() == pytest.approx([0.5 / 3, 0.3, 0.3])


def test_teachers_are_judged_one_by_one() -> None:
    """The first is right everywhere and sure of it, the second wrong everywhere and sure of it."""
    labels = torch.tensor([0, 1, 1])
    right = 100.0 * torch.eye(2)[labels]
    accuracy, margin = teacher_quality(torch.stack([right, -right]), labels, torch.tensor([0, 0, 1]), 2)
    assert accuracy.tolist() == [[1, 1], [0, 0]]
    assert margin.tolist() == [[1, 1], [-1, -1]]


def test_trust_is_in_proportion_to_the_distance_from_chance() -> None:
    """Group 0: 0.2 and 0.6 above chance. Group 1: below and above. Group 2: none above, so equal shares."""
    accuracy = torch.tensor([[0.4, 0.1, 0.2], [0.8, 0.5, 0.0]])
    trust = trust_from_accuracy(accuracy, chance=0.2)
    torch.testing.assert_close(trust, torch.tensor([[0.25, 0.75], [0.0, 1.0], [0.5, 0.5]]))


def test_where_teachers_are_wrong_the_labels_alone_count() -> None:
    assert alpha_from_margins(torch.tensor([0.75, -0.5])).tolist() == [0.75, 0.0]


def test_without_a_case_nothing_can_be_said() -> None:
    none = torch.zeros(0, dtype=torch.long)
    with pytest.raises(ValueError, match="at least one held-out case, got 0"):
        teacher_quality(torch.zeros(2, 0, 3), none, none, 2)
