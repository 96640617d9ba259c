"""Group weights that follow held-out cases: losses on training cases fade, and with them what they say of groups."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import distributed

from pipeline.training.losses import cross_entropy
from pipeline.training.objective import DistillationObjective


class ValidationFeedback:
    """Move an objective's group weights at the end of every validation pass.

    They move by each group's mean cross-entropy over the pass, all processes together. Cases of a group that training
    does not have (index -1) are passed over. Where training drives the weights, or cases are not weighted by group,
    nothing is attached, so that one config serves every method.

    The evaluator's output holds ``pred`` ``(B, C)`` and ``label`` ``(B,)``, its batch ``group`` ``(B,)``, not
    decollated.

    Args:
        objective: whose weights move.

    Source: after Wang et al. 2023, arXiv:2206.06479, who drive the weights of classes by held-out losses.
    """

    def __init__(self, objective: DistillationObjective) -> None:
        self.objective = objective

    def attach(self, evaluator: Engine) -> None:
        """Listen to the evaluator's passes, if validation drives the weights."""
        if self.objective.weighting == "groups" and self.objective.group_feedback == "validation":
            evaluator.add_event_handler(Events.EPOCH_STARTED, self.start)
            evaluator.add_event_handler(Events.ITERATION_COMPLETED, self.add)
            evaluator.add_event_handler(Events.EPOCH_COMPLETED, self.finish)

    def start(self) -> None:
        """Forget the cases of the last pass."""
        weights = self.objective.group_weights.weights
        self.sums = torch.zeros_like(weights, dtype=torch.float64)
        self.counts = torch.zeros_like(self.sums)

    @torch.no_grad()
    def add(self, evaluator: Engine) -> None:
        """Take in the cases of one batch."""
        state: Any = evaluator.state
        groups = state.batch["group"].to(self.sums.device)
        known = groups >= 0
        losses = cross_entropy(state.output["pred"], state.output["label"]).to(self.sums)
        self.sums = self.sums.index_add(0, groups[known], losses[known])
        self.counts = self.counts.index_add(0, groups[known], torch.ones_like(losses[known]))

    def finish(self) -> None:
        """Move the weights."""
        both = torch.stack([self.sums, self.counts])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(both)
        sums, counts = both.to(self.objective.group_weights.weights.dtype)
        self.objective.group_weights.update(sums / counts.clamp(min=1), counts)
