"""Which cases make a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import distributed
from torch.utils.data import Sampler

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


class TrainingSampler(Sampler[int]):
    """Order in which an epoch visits the cases: a function of the seed and the epoch, dealt out over processes.

    One process with a batch of 32 and two with batches of 16 see the same 32 cases in each step, so that they train
    the same network; where the number of processes does not divide that of the cases, some come twice in an epoch.

    Args:
        items: the cases of the data set, in its order.
        sampling: ``cases`` visits each case once in random order; ``groups`` draws as many cases with replacement,
            every group equally often.
        seed: of the order.
        among: the cases to visit, where these are not all: a teacher's subset, in which a case may come twice.

    Raises:
        ValueError: if ``sampling`` is neither, or there is nothing to visit.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        sampling: Sampling,
        *,
        seed: int,
        among: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        if sampling not in get_args(Sampling):
            raise ValueError(f"sampling must be one of {', '.join(get_args(Sampling))}, got {sampling!r}")
        visited = items if among is None else among
        if not visited:
            raise ValueError("an epoch must visit at least one case, got none; look at the subset that was asked for")
        places = {item["case_id"]: index for index, item in enumerate(items)}
        self.places = torch.tensor([places[item["case_id"]] for item in visited])
        self.weights = torch.tensor(balancing_weights(visited), dtype=torch.float64) if sampling == "groups" else None
        self.seed, self.epoch = seed, 1
        self.rank, self.processes = 0, 1
        if distributed.is_available() and distributed.is_initialized():
            self.rank, self.processes = distributed.get_rank(), distributed.get_world_size()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is given next, from 1."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """This process's share; the first cases come again where the number of processes does not divide them."""
        state = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)
        generator = torch.Generator().manual_seed(int(state[0]))
        if self.weights is None:
            order = torch.randperm(len(self.places), generator=generator)
        else:
            order = torch.multinomial(self.weights, len(self.places), replacement=True, generator=generator)
        order = self.places[order]
        padded = torch.cat([order, order[: -len(order) % self.processes]])
        return iter(padded[self.rank :: self.processes].tolist())

    def __len__(self) -> int:
        """Cases that this process visits in an epoch."""
        return (len(self.places) + self.processes - 1) // self.processes
