"""Networks read phases and slices as channels."""

from __future__ import annotations

import pytest
import torch

from pipeline.training.networks import CineResNet, parameter_count

TEACHER = (64, 128, 256, 512)


def test_the_default_student_has_less_than_a_fiftieth_of_the_teachers_parameters() -> None:
    assert parameter_count(CineResNet(3)) * 50 < parameter_count(CineResNet(3, widths=TEACHER))


@pytest.mark.parametrize(("slices", "size", "classes"), [(8, 64, 3), (5, 48, 2), (1, 33, 9)])
def test_logits_have_one_column_per_class(slices: int, size: int, classes: int) -> None:
    network = CineResNet(classes, slices=slices).eval()
    assert network(torch.randn(4, 2, slices, size, size)).shape == (4, classes)


def test_a_case_is_read_alike_alone_and_in_a_batch() -> None:
    network = CineResNet(3, slices=4).eval()
    images = torch.randn(5, 2, 4, 32, 32)
    together = network(images)
    alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_settings_build_the_same_network_again() -> None:
    network = CineResNet(3, slices=4, widths=(4, 4, 8, 8), blocks=(1, 2, 1, 1))
    again = CineResNet(**network.settings)
    again.load_state_dict(network.state_dict())
    assert again.settings == network.settings


def test_end_diastole_and_end_systole_are_told_apart() -> None:
    network = CineResNet(3, slices=4).eval()
    image = torch.randn(1, 2, 4, 32, 32)
    assert not torch.allclose(network(image), network(image.flip(1)))
