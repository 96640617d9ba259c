"""The group weights and the gradients of two processes are those of one. Little is imported, as each process does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.training.objective import DistillationObjective


@pytest.mark.slow
def test_two_processes_weigh_groups_and_average_gradients_as_one_does(tmp_path: Path) -> None:
    """Cases of a group are split unevenly, one group is on one process only, and batches differ in size of groups."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(12, 6, generator=generator), torch.arange(12) % 3
    teacher = torch.randn(12, 3, generator=generator)
    groups = torch.tensor([0, 0, 0, 0, 1, 1, 0, 1, 1, 1, 2, 2])
    torch.save({"images": images, "labels": labels, "teacher": teacher, "groups": groups}, tmp_path / "batch.pt")
    torch.multiprocessing.spawn(_one_of_two, args=(str(tmp_path),), nprocs=2)
    alone = _steps(torch.nn.Linear(6, 3), slice(None), str(tmp_path))
    for rank in (0, 1):
        together = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        torch.testing.assert_close(together["weights"], alone["weights"], atol=1e-6, rtol=0)
        torch.testing.assert_close(together["gradient"], alone["gradient"], atol=1e-5, rtol=0)
    assert alone["weights"].max() > 0.4  # the steps moved them


def _one_of_two(rank: int, folder: str) -> None:
    """What one process does: half of the batch, gradients averaged by DistributedDataParallel."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(6, 3))
    torch.save(_steps(network, slice(6 * rank, 6 * rank + 6), folder), f"{folder}/rank{rank}.pt")
    del network  # freed after the group of processes, it now and then waits for ever
    torch.distributed.destroy_process_group()


def _steps(network: torch.nn.Module, part: slice, folder: str) -> dict[str, torch.Tensor]:
    """Three batches of the same cases through the objective; weights and the last gradient."""
    parameters = list(network.parameters())
    with torch.no_grad():
        parameters[0].copy_(torch.linspace(-1, 1, 18).reshape(3, 6))
        parameters[1].zero_()
    objective = DistillationObjective(["a", "b", "c"], [9, 9, 9], group_step=0.5, temperature=2.0)
    batch = torch.load(f"{folder}/batch.pt", weights_only=True)
    for _ in range(3):
        network.zero_grad()
        logits = network(batch["images"][part])
        objective(logits, batch["teacher"][None, part], batch["labels"][part], batch["groups"][part]).backward()
    gradient = parameters[0].grad
    assert gradient is not None
    return {"weights": objective.group_weights.weights, "gradient": gradient}
