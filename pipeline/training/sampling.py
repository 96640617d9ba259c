"""Which cases make a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from monai.data import DistributedSampler, DistributedWeightedRandomSampler
from torch import distributed
from torch.utils.data import RandomSampler, Sampler, WeightedRandomSampler

Sampling = Literal["cases", "groups"]


def balancing_weights(items: Sequence[Mapping[str, Any]]) -> list[float]:
    """Weight of each case under which every group is drawn equally often.

    Args:
        items: cases with ``group``, an index.

    Returns:
        One weight per case; those of a group sum to 1.

    Example:
        >>> balancing_weights([{"group": 0}, {"group": 0}, {"group": 1}])
        [0.5, 0.5, 1.0]
    """
    sizes = Counter(item["group"] for item in items)
    return [1 / sizes[item["group"]] for item in items]


def training_sampler(items: Sequence[Mapping[str, Any]], sampling: Sampling) -> Sampler[int]:
    """Order in which an epoch visits the cases; split over processes where training is distributed.

    Args:
        items: training cases with ``group``.
        sampling: ``cases`` visits each case once in random order; ``groups`` draws as many cases with replacement,
            every group equally often.

    Raises:
        ValueError: if ``sampling`` is neither.
    """
    if sampling not in get_args(Sampling):
        raise ValueError(f"sampling must be one of {', '.join(get_args(Sampling))}, got {sampling!r}")
    shared = distributed.is_available() and distributed.is_initialized()
    if sampling == "cases":
        return DistributedSampler(items, shuffle=True, even_divisible=True) if shared else RandomSampler(items)
    weights = balancing_weights(items)
    if shared:
        return DistributedWeightedRandomSampler(items, weights, even_divisible=True)
    return WeightedRandomSampler(torch.as_tensor(weights, dtype=torch.float64).tolist(), len(items))
