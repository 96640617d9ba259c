"""The global generators of random numbers, which loaders, samplers and transforms draw from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def generators_kept(device: torch.device | None = None) -> Iterator[None]:
    """Put Python's, numpy's and torch's generators back afterwards, those of a GPU ``device`` included."""
    python, numpy = random.getstate(), np.random.get_state()
    gpus = [device] if device is not None and device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
