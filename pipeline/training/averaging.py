"""Averages of a network's weights over the epochs of its training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import torch
from ignite.engine import Engine, Events
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from pipeline.training.batch_norm import share_batch_norm
from pipeline.training.randomness import generators_kept

Kind = Literal["none", "swa", "ema"]


class WeightAveraging:
    """A second network whose weights are an average of the trained one's, taken as each epoch ends.

    Validate, choose, save and evaluate `network`: a model chosen by the scores of other weights than its own was not
    chosen. Up to ``start`` it equals the trained network; then each epoch's weights enter the average, and the
    statistics of batch normalisation, which belong to other weights, are taken anew over the training batches, those
    of all processes together.

    ``swa`` counts every epoch alike. ``ema`` keeps ``decay`` of the average with each epoch: once per epoch and not
    per step, so that ``decay`` means the same for every batch size and number of processes.

    Attach it before the validation, which otherwise sees the average of the epoch before. Training does not notice
    it: the trained network stays as it is, and so do the generators of random numbers; transforms that hold a
    generator of their own must be seeded at each epoch's start.

    Args:
        network: the network trained; inside ``DistributedDataParallel``, the network inside.
        kind: ``none`` leaves `network` the trained one itself.
        start: share of the epochs, rounded down, after which averaging starts, in [0, 1).
        decay: of ``ema``, per epoch, in (0, 1).
        batches: training batches with ``image``; in several processes, each process's own share.
        device: of the averaged network.

    Attributes:
        network: the network to validate, choose, save and evaluate.

    Raises:
        ValueError: if ``kind`` is unknown, or ``start`` or ``decay`` lies outside its range.

    Source: ``swa``: Izmailov et al. 2018, arXiv:1803.05407, algorithm 1. ``ema``: Polyak & Juditsky 1992,
    doi:10.1137/0330046, with a decay.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        kind: Kind,
        start: float,
        decay: float,
        batches: Iterable[Mapping[str, Any]],
        device: torch.device | str,
    ) -> None:
        if kind not in get_args(Kind):
            raise ValueError(f"averaging must be one of {get_args(Kind)}, got {kind!r}")
        if not 0 <= start < 1:
            raise ValueError(f"averaging must start after a share of the epochs in [0, 1), got {start}")
        if not 0 < decay < 1:
            raise ValueError(f"the decay per epoch must lie in (0, 1), got {decay}")
        self.trained = network.module if isinstance(network, DistributedDataParallel) else network
        self.start = start
        self.batches = batches
        self.device = torch.device(device)
        self.average: AveragedModel | None = None
        self.network: nn.Module = self.trained
        if kind != "none":
            rule = get_ema_multi_avg_fn(decay) if kind == "ema" else None
            self.average = AveragedModel(self.trained, device=self.device, multi_avg_fn=rule)
            self.network = self.average.module
            if distributed.is_initialized():
                share_batch_norm(self.network)  # the copy may be older than the processes' sharing

    def attach(self, trainer: Engine) -> None:
        """Update as each epoch ends."""
        if self.average is not None:
            trainer.add_event_handler(Events.EPOCH_COMPLETED, self.update)

    def first_epoch(self, epochs: int) -> int:
        """The first of so many epochs after which `network` is what was asked for: an average, or the trained one."""
        return 1 if self.average is None else int(self.start * epochs) + 1

    def update(self, trainer: Engine) -> None:
        """Take in the weights of the epoch that ended."""
        if self.average is None:
            return
        if trainer.state.epoch < self.first_epoch(trainer.state.max_epochs or 0):
            self.network.load_state_dict(self.trained.state_dict())
            return
        self.average.update_parameters(self.trained)
        with generators_kept(self.device):
            update_bn((batch["image"] for batch in self.batches), self.network, device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """Averaged weights, statistics and the number of epochs averaged; nothing for ``none``."""
        return {} if self.average is None else dict(self.average.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        if self.average is not None:
            self.average.load_state_dict(dict(state))
