"""Blocks of MobileNet-V2."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.training.mobilenet import InvertedResidual


@pytest.mark.parametrize(("after", "stride", "adds_input"), [(6, 1, True), (6, 2, False), (8, 1, False)])
def test_the_input_is_added_where_the_shapes_are_the_same(after: int, stride: int, adds_input: bool) -> None:
    """With the last normalisation's scale at 0 the filters are silent: what is left is the input, or nothing."""
    block = InvertedResidual(6, after, factor=2, stride=stride).eval()
    last = block.layers[-1]
    assert isinstance(last, nn.BatchNorm2d)
    nn.init.zeros_(last.weight)
    image = torch.randn(2, 6, 8, 8)
    expected = image if adds_input else torch.zeros(2, after, 8 // stride, 8 // stride)
    assert torch.equal(block(image), expected)


def test_a_block_narrows_linearly() -> None:
    """No activation behind the last layer: negative values come through."""
    torch.manual_seed(0)
    assert InvertedResidual(6, 8, factor=2, stride=1).eval()(torch.randn(2, 6, 8, 8)).min() < 0


def test_each_filter_sees_its_own_channel_only() -> None:
    """Factor 1 has no widening: the first layer is the filter; a change of one channel changes one channel of it."""
    block = InvertedResidual(4, 4, factor=1, stride=1).eval()
    image = torch.zeros(1, 4, 8, 8)
    changed = image.clone()
    changed[:, 2] = 1
    difference = (block.layers[0](changed) - block.layers[0](image)).abs().sum(dim=(0, 2, 3))
    assert torch.equal(difference > 0, torch.tensor([False, False, True, False]))
