"""What two processes train is what one trains. Little is imported, as each process does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.training.objective import DistillationObjective

STUDENT = "cardiac_cine_student"
EPOCHS, STEPS = 4, 12  # 24 studies, 8 in a step
CLOSE = {"atol": 1e-5, "rtol": 1e-6}  # variances reach 20

Launch = Callable[..., subprocess.Popen[str]]
Finish = Callable[[subprocess.Popen[str]], None]


@pytest.fixture
def train(launch: Launch, finish: Finish, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Train a student in one process with batches of 8, and in two with 4 each; gives the last states of both."""

    def run(*overlays: str, **overrides: Any) -> list[dict[str, Any]]:
        options = {"widths": [4, 8, 8, 8], "num_epochs": EPOCHS, "views": 4, **overrides}
        configs = ["train.yaml", *overlays]
        started = [
            launch(STUDENT, configs, tmp_path, output_dir="one", batch_size=8, **options),
            launch(
                STUDENT, [*configs, "multi_gpu_train.yaml"], tmp_path, processes=2, output_dir="two", batch_size=4,
                **options,
            ),
        ]  # fmt: skip
        for process in started:
            finish(process)
        states = [dict(torch.load(tmp_path / name / "last.pt", weights_only=True)) for name in ("one", "two")]
        assert [state["parts"]["optimizer"]["state"][0]["step"] for state in states] == [STEPS, STEPS]
        return states

    return run


@pytest.mark.slow
def test_two_processes_train_the_student_and_the_group_weights_of_one(
    train: Callable[..., list[dict[str, Any]]], trained_teacher: Path
) -> None:
    """Batch statistics, batches, group losses and gradients run over both."""
    alone, together = train(teacher_checkpoint=trained_teacher / "model.pt", group_step=0.5)
    torch.testing.assert_close(together["model"], alone["model"], **CLOSE)
    weights = [state["parts"]["objective"]["group_weights.weights"] for state in (alone, together)]
    torch.testing.assert_close(weights[1], weights[0], atol=1e-6, rtol=0)
    assert weights[0][1:].max() - weights[0][1:].min() > 0.001  # training moved them apart


@pytest.mark.slow
def test_two_processes_draw_the_teachers_and_average_the_students_of_one(
    train: Callable[..., list[dict[str, Any]]], trained_teacher: Path, tmp_path: Path
) -> None:
    """RoS-KD draws teachers for each batch and averages weights, whose batch statistics are taken anew."""
    contrary = torch.load(trained_teacher / "model.pt", weights_only=True)
    contrary["model"]["head.weight"] *= -1
    torch.save(contrary, tmp_path / "contrary.pt")
    teachers = [str(trained_teacher / "model.pt"), str(tmp_path / "contrary.pt")]
    alone, together = train("methods/ros_kd.yaml", teacher_checkpoints=teachers, combination_weights=[0.9, 0.1])
    torch.testing.assert_close(together["model"], alone["model"], **CLOSE)
    averages = [state["parts"]["averaging"] for state in (alone, together)]
    torch.testing.assert_close(averages[1], averages[0], **CLOSE)
    assert averages[0]["n_averaged"] == EPOCHS // 2


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
