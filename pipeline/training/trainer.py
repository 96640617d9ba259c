"""The one distillation step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from pipeline.training.objective import DistillationObjective


class DistillationTrainer(SupervisedTrainer):
    """MONAI's supervised trainer whose loss also sees the teachers' logits and the group of each case.

    Batches carry ``image``, ``label``, ``group``, ``index`` and ``view``. The teachers have read every view before
    training began: what they said of the very images that the student sees, augmentation included, is looked up.

    Args:
        targets: teachers' logits, ``(teachers, views, cases, classes)``, or ``None`` to train on labels alone.
        objective: called with student logits, teacher logits, labels and groups; returns a scalar.
        arguments: those of ``monai.engines.SupervisedTrainer``, other than ``loss_function`` and ``amp``.

    Raises:
        ValueError: if ``amp`` is asked for.
    """

    def __init__(
        self,
        *,
        targets: Tensor | None,
        objective: DistillationObjective,
        **arguments: Any,  # noqa: ANN401  MONAI's own arguments are handed through
    ) -> None:
        super().__init__(loss_function=objective, **arguments)
        if self.amp:
            raise ValueError("the distillation step runs in float32, got amp=True; leave amp out")
        self.objective = objective.to(self.state.device)
        self.targets = targets

    def _iteration(self, engine: SupervisedTrainer, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """One optimiser step on one batch; fires the events of MONAI's trainer."""
        device, non_blocking = engine.state.device, engine.non_blocking
        images, labels = engine.prepare_batch(batchdata, device, non_blocking, **engine.to_kwargs)
        groups = batchdata["group"].to(device, non_blocking=non_blocking)
        output = engine.state.output = {Keys.IMAGE: images, Keys.LABEL: labels}
        self.network.train()
        self.objective.train()
        self.optimizer.zero_grad(set_to_none=True)
        output[Keys.PRED] = self.inferer(images, self.network)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        output[Keys.LOSS] = self.objective(output[Keys.PRED], self._taught(batchdata), labels, groups)
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        output[Keys.LOSS].backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self.optimizer.step()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output

    def _taught(self, batchdata: Mapping[str, Any]) -> Tensor | None:
        """Teachers' logits of this batch, ``(teachers, B, classes)``."""
        if self.targets is None:
            return None
        return self.targets[:, batchdata["view"], batchdata["index"]].to(self.state.device)
