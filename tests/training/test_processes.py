"""Two processes train the network that one trains. In double precision, where rounding cannot pass for a defect."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn

from pipeline.training.networks import Classifier
from pipeline.training.processes import wrap

STEPS = 3


def _trained(network: nn.Module, part: slice) -> dict[str, Tensor]:
    """Parameters and statistics after a few steps of AdamW on the same images."""
    images = torch.randn(STEPS, 8, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.arange(8) % 3
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for batch in images:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(batch[part]), labels[part]).backward()
        optimizer.step()
    return {name.removeprefix("module."): value for name, value in network.state_dict().items()}


def _network() -> nn.Module:
    torch.manual_seed(0)
    return Classifier("mobilenetv2", classes=3, channels=3).double()


def _one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    network = wrap(_network(), torch.device("cpu"))
    torch.save(_trained(network, slice(rank, None, 2)), f"{folder}/{rank}.pt")
    del network  # freed after the group of processes, it now and then waits for ever
    distributed.destroy_process_group()


@pytest.mark.slow
def test_a_deep_network_ends_with_the_parameters_and_statistics_of_one_process(tmp_path: Path) -> None:
    """Single precision would not do: AdamW's first steps go by the signs of gradients, the smallest of which are noise.

    One process that starts 1e-7 away from another then ends as far from it as two processes do.
    """
    torch.multiprocessing.spawn(_one_of_two, args=(str(tmp_path),), nprocs=2)
    alone = _trained(_network(), slice(None))
    for rank in (0, 1):
        together = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(together, alone, atol=1e-7, rtol=0)
