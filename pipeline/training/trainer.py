"""The one distillation step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import convert_to_tensor
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from pipeline.training.objective import DistillationObjective


class DistillationTrainer(SupervisedTrainer):
    """MONAI's supervised trainer whose loss also sees the teacher's logits and the group of each case.

    Batches carry ``image``, ``label`` and ``group``. The teacher runs without gradient on the very images that the
    student sees, augmentation included, and stays in evaluation mode.

    Args:
        teacher: frozen network, or ``None`` to train on labels alone.
        objective: called with student logits, teacher logits, labels and groups; returns a scalar.
        arguments: those of ``monai.engines.SupervisedTrainer``, other than ``loss_function`` and ``amp``.

    Raises:
        ValueError: if ``amp`` is asked for.
    """

    def __init__(
        self,
        *,
        teacher: nn.Module | None,
        objective: DistillationObjective,
        **arguments: Any,  # noqa: ANN401  MONAI's own arguments are handed through
    ) -> None:
        super().__init__(loss_function=objective, **arguments)
        if self.amp:
            raise ValueError("the distillation step runs in float32, got amp=True; leave amp out")
        self.objective = objective
        self.teacher = teacher.eval().requires_grad_(False) if teacher is not None else None

    def _iteration(self, engine: SupervisedTrainer, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """One optimiser step on one batch; fires the events of MONAI's trainer."""
        device, non_blocking = engine.state.device, engine.non_blocking
        images, labels = engine.prepare_batch(batchdata, device, non_blocking, **engine.to_kwargs)
        images = convert_to_tensor(
            images, track_meta=False
        )  # else metadata follows into the group weights, and is slow
        groups = batchdata["group"].to(device, non_blocking=non_blocking)
        output = engine.state.output = {Keys.IMAGE: images, Keys.LABEL: labels}
        self.network.train()
        self.objective.train()
        self.optimizer.zero_grad(set_to_none=True)
        output[Keys.PRED] = self.inferer(images, self.network)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        output[Keys.LOSS] = self.objective(output[Keys.PRED], self._teach(images), labels, groups)
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        output[Keys.LOSS].backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self.optimizer.step()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output

    @torch.no_grad()
    def _teach(self, images: torch.Tensor) -> torch.Tensor | None:
        return None if self.teacher is None else self.inferer(images, self.teacher)
