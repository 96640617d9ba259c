"""Held-out losses move the group weights, once per validation pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch.nn import functional

from pipeline.training.feedback import ValidationFeedback
from pipeline.training.groups import GroupWeights
from pipeline.training.objective import DistillationObjective

NAMES, SIZES = ("a", "b", "c"), (30, 20, 10)


def _objective(**settings: Any) -> DistillationObjective:
    return DistillationObjective(NAMES, SIZES, **({"group_step": 0.5, "group_feedback": "validation"} | settings))


def _cases(groups: list[int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(len(groups))
    logits = 2 * torch.randn(len(groups), 3, generator=generator)
    return {"image": logits, "label": torch.arange(len(groups)) % 3, "group": torch.tensor(groups)}


def _batches(cases: dict[str, torch.Tensor], size: int) -> torch.utils.data.DataLoader[Any]:
    rows = [{key: value[i] for key, value in cases.items()} for i in range(len(cases["label"]))]
    return torch.utils.data.DataLoader(rows, batch_size=size)  # type: ignore[arg-type]


def _pass(feedback: ValidationFeedback, batches: torch.utils.data.DataLoader[Any]) -> None:
    evaluator = Engine(lambda _, batch: {"pred": batch["image"], "label": batch["label"]})
    feedback.attach(evaluator)
    evaluator.run(batches)


def _validate(objective: DistillationObjective, cases: dict[str, torch.Tensor], batch_size: int) -> None:
    """A pass of MONAI's evaluator, with a network that returns its input, so that the images are the logits."""
    from monai.engines import SupervisedEvaluator  # here, as the two processes below do without

    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=_batches(cases, batch_size),
        network=torch.nn.Identity(),
        decollate=False,
    )
    ValidationFeedback(objective).attach(evaluator)
    evaluator.run()


def test_the_weights_move_by_the_mean_loss_of_each_group_over_the_pass() -> None:
    """Batches of 5, 5 and 2: oracle is one update by masked means; the case without a training group is left out."""
    cases = _cases([0, 0, 1, 0, 1, 0, 1, -1, 0, 1, 1, 0])
    objective = _objective()
    _validate(objective, cases, batch_size=5)
    losses = functional.cross_entropy(cases["image"], cases["label"], reduction="none")
    means = torch.stack([losses[cases["group"] == group].mean() for group in (0, 1)])
    expected = GroupWeights(NAMES, SIZES, step=0.5)
    expected.update(torch.cat([means, torch.zeros(1)]), torch.tensor([6, 5, 0]))
    assert objective.group_weights.weights.tolist() == pytest.approx(expected.weights.tolist(), rel=1e-5)


def test_a_pass_knows_nothing_of_the_one_before() -> None:
    """Two passes over other cases each move the weights as two handlers, one per pass, do."""
    once, twice = _objective(), _objective()
    passes = [_cases([0, 0, 1, 2]), _cases([1, 0, 1, 2, 2])]
    for cases in passes:
        _pass(ValidationFeedback(once), _batches(cases, 2))
    kept = ValidationFeedback(twice)
    for cases in passes:
        _pass(kept, _batches(cases, 2))
    assert torch.equal(once.group_weights.weights, twice.group_weights.weights)
    assert once.group_weights.weights.tolist() != pytest.approx([1 / 3] * 3, abs=0.01)


def test_a_pass_without_a_case_of_any_training_group_moves_nothing() -> None:
    objective = _objective()
    _validate(objective, _cases([-1, -1, -1]), batch_size=2)
    assert objective.group_weights.weights.tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("settings", [{"group_feedback": "training"}, {"weighting": "cases"}])
def test_where_validation_drives_nothing_a_pass_moves_nothing(settings: dict[str, Any]) -> None:
    objective = _objective(**settings)
    _validate(objective, _cases([0, 1, 2, 0]), batch_size=2)
    assert objective.group_weights.weights.tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.slow
def test_two_processes_move_the_weights_as_one_does(tmp_path: Path) -> None:
    """One has batches of groups that the other has not, and one batch more."""
    groups = [0, 0, 1, 0, 1, 2, 2, 2]
    torch.multiprocessing.spawn(_one_of_two, args=(str(tmp_path), groups), nprocs=2)
    alone = _objective()
    _validate(alone, _cases(groups), batch_size=8)
    for rank in (0, 1):
        together = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        torch.testing.assert_close(together, alone.group_weights.weights)


def _one_of_two(rank: int, folder: str, groups: list[int]) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    part = slice(0, 5) if rank == 0 else slice(5, 8)
    objective = _objective()
    _pass(ValidationFeedback(objective), _batches({key: value[part] for key, value in _cases(groups).items()}, 2))
    torch.save(objective.group_weights.weights, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()
