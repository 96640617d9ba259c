"""Training in several processes: one per GPU, or per CPU worker where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.training.batch_norm import share_batch_norm

PATIENCE = timedelta(hours=12)  # the others wait while the first renders views and asks teachers


def start() -> None:
    """Join the group of processes that torchrun started: NCCL on GPUs, gloo on CPUs.

    Raises:
        RuntimeError: if the process was not started by torchrun.
    """
    if "LOCAL_RANK" not in os.environ:
        raise RuntimeError("multi_gpu_train needs one process per device; start it with torchrun --nproc_per_node=N")
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)


def device() -> torch.device:
    """This process's GPU, or the CPU."""
    if torch.cuda.is_available():
        return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    return torch.device("cpu")


def wrap(network: nn.Module, on: torch.device) -> nn.Module:
    """The network with its gradients averaged over processes, and its batch statistics taken over all of them."""
    return DistributedDataParallel(share_batch_norm(network), device_ids=[on] if on.type == "cuda" else None)


def first_process_only(make: Callable[[], None]) -> None:
    """Call ``make`` in the first process of a group while the others wait, or here if there is no group.

    Where it fails the others go on too, and find what it should have made missing, rather than wait for ever.
    """
    if not distributed.is_initialized():
        make()
        return
    try:
        if distributed.get_rank() == 0:
            make()
    finally:
        distributed.barrier()


def stop() -> None:
    """Leave the group of processes, all at once: gloo may end a process whose peer has closed its connections."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
