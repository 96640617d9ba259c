"""What is said at the end of a training of the model that it leaves behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from pipeline.tracking.ignite_metrics import GroupMetrics
from pipeline.training.checkpoint import build_network, load_checkpoint
from pipeline.training.randomness import generators_kept


class SavedModel:
    """A ``model.pt`` on the validation cases, read once more.

    The last validation pass of a training may have judged another network: an earlier epoch may have been kept, the
    last one not have been validated, or the last layer been retrained. A retrained layer has seen the validation
    cases; of it only what was said of left-out patients counts.

    Args:
        checkpoint: the ``model.pt``; read when training has come to its end, by one process alone.
        batches: of every validation case, not dealt out to processes.
        groups: made with ``gather=False``.
        device: on which the model runs.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        batches: Iterable[Mapping[str, Any]],
        *,
        groups: GroupMetrics,
        device: torch.device | str,
    ) -> None:
        self.checkpoint = Path(checkpoint)
        self.batches = batches
        self.groups = groups
        self.device = torch.device(device)

    def __call__(self) -> dict[str, float]:
        """Its epoch, and the metrics of ``groups`` or of the retrained layer's left-out patients, as ``model/…``."""
        fit = self._state.get("last_layer_fit")
        if fit is None:
            found = self._judged.compute()
        else:
            found = {"left_out/accuracy/worst": fit["worst_group_accuracy"][fit["strength"]]}
        return {"model/epoch": self._state["epoch"], **{f"model/{name}": value for name, value in found.items()}}

    def per_group(self) -> list[dict[str, Any]] | None:
        """Rows of every group, see :meth:`GroupMetrics.per_group`; ``None`` for a retrained last layer."""
        return None if "last_layer_fit" in self._state else self._judged.per_group()

    @cached_property
    def _state(self) -> dict[str, Any]:
        return load_checkpoint(self.checkpoint)

    @cached_property
    def _judged(self) -> GroupMetrics:
        self.groups.reset()
        with torch.no_grad(), generators_kept():  # a network is made at random before it gets its weights
            network = build_network(self._state).to(self.device)
            for batch in self.batches:
                self.groups.update((batch, {"pred": network(batch["image"].to(self.device)), "label": batch["label"]}))
        self.groups.compute()
        return self.groups
