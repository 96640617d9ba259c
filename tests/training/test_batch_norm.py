"""Batch statistics of two processes are those of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from pipeline.training.batch_norm import SharedBatchNorm2d, share_batch_norm


def _layer() -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.BatchNorm2d(3)
    nn.init.uniform_(first.weight)
    layer = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), first, nn.ReLU(), nn.Sequential(nn.BatchNorm2d(3)))
    return layer.double()


def _images() -> torch.Tensor:
    """Two halves of unlike scale."""
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    images[3:] = 5 * images[3:] + 2
    return images.double()


def _one_of_two(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    network = share_batch_norm(_layer())
    output = network(_images()[3 * rank : 3 * rank + 3])
    output.pow(3).sum().backward()
    state = {"output": output.detach(), **dict(network.named_buffers())}
    for name, parameter in network.named_parameters():
        distributed.all_reduce(parameter.grad)
        state[f"grad {name}"] = parameter.grad
    torch.save(state, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_output_gradients_and_running_statistics_equal_those_of_one_process(tmp_path: Path) -> None:
    """The oracle is torch's own layer on the whole batch; the halves differ in scale, so local means would show."""
    torch.multiprocessing.spawn(_one_of_two, args=(str(tmp_path),), nprocs=2)
    alone = _layer()
    output = alone(_images())
    output.pow(3).sum().backward()
    halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    torch.testing.assert_close(torch.cat([half["output"] for half in halves]), output.detach(), atol=1e-9, rtol=1e-9)
    for name, parameter in alone.named_parameters():
        torch.testing.assert_close(halves[0][f"grad {name}"], parameter.grad, atol=1e-9, rtol=1e-9)
    for name, buffer in alone.named_buffers():
        torch.testing.assert_close(halves[1][name], buffer, atol=1e-9, rtol=1e-9)


def test_in_one_process_the_layer_is_torch_s_own() -> None:
    plain, shared = _layer(), share_batch_norm(_layer())
    assert [type(module) for module in shared.modules()].count(SharedBatchNorm2d) == 2
    torch.testing.assert_close(shared(_images()), plain(_images()), atol=0, rtol=0)
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), shared.buffers(), strict=True))


def test_weights_and_statistics_are_kept_under_their_names() -> None:
    plain = _layer()
    plain(_images())
    state = {name: value.clone() for name, value in plain.state_dict().items()}
    shared = share_batch_norm(plain)
    assert shared is plain
    assert list(shared.state_dict()) == list(state)
    assert all(torch.equal(shared.state_dict()[name], value) for name, value in state.items())
