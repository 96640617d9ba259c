"""Batch normalisation over all processes, also on CPUs, where torch has none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose mean and variance run over the batches of all processes.

    Two processes with half a batch each then normalise as one does with the whole. torch's
    ``SyncBatchNorm`` does this on GPUs and refuses CPUs.

    Shape:
        ``(B, channels, rows, cols)``, alike in and out.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; in training mode by the statistics of all processes, which every process must call."""
        if not (self.training and distributed.is_initialized()):
            return super().forward(input)
        n = _over_processes(input.new_tensor([input.numel() / input.shape[1]]))
        mean = _over_processes(input.sum(dim=(0, 2, 3))) / n
        centred = input - mean[:, None, None]
        variance = _over_processes(centred.square().sum(dim=(0, 2, 3))) / n
        with torch.no_grad():
            self._remember(mean, variance * n / (n - 1).clamp(min=1))
        normalised = centred * (variance + self.eps).rsqrt()[:, None, None]
        return normalised * self.weight[:, None, None] + self.bias[:, None, None]

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as torch does; ``momentum`` ``None`` is the mean over all batches so far."""
        assert self.running_mean is not None  # noqa: S101  for the type checker: tracked by default
        assert self.running_var is not None  # noqa: S101
        assert self.num_batches_tracked is not None  # noqa: S101
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.detach(), share)
        self.running_var.lerp_(variance.detach(), share)


def share_batch_norm(network: nn.Module) -> nn.Module:
    """Let every batch normalisation of a network run over all processes; weights and statistics stay.

    Args:
        network: with ``BatchNorm2d`` layers; changed in place.

    Returns:
        The same network.
    """
    for name, child in network.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(network, name, _shared(child))
        else:
            share_batch_norm(child)
    return network


def _shared(layer: nn.BatchNorm2d) -> nn.Module:
    if layer.weight.is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(layer)
    shared = SharedBatchNorm2d(layer.num_features, eps=layer.eps, momentum=layer.momentum, dtype=layer.weight.dtype)
    shared.load_state_dict(layer.state_dict())
    return shared.train(layer.training)


class _Sum(torch.autograd.Function):
    """Sum over processes; each one's output feeds the losses of all, so that the gradient is a sum, too."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:  # noqa: ANN401  torch's context
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _over_processes(values: Tensor) -> Tensor:
    """Sum over processes, through which gradients flow."""
    total: Tensor = _Sum.apply(values)
    return total
