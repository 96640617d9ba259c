"""Classifiers of a student input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.networks.nets import ResNet
from torch import Tensor, nn


class CineResNet(nn.Module):
    """Residual network that reads phases and slices as channels of one 2-D image.

    Slices of a short-axis stack are 8–10 mm apart and few: as channels they cost little, and the first layer may
    compare end-diastole with end-systole directly.

    Args:
        classes: number of classes.
        slices: slices of the student input; two phases are read.
        widths: channels of the four stages. ``(8, 16, 32, 64)`` is the compact student (0.08 M parameters),
            ``(64, 128, 256, 512)`` the teacher (4.9 M).
        blocks: residual blocks of each stage.

    Shape:
        ``(B, 2, slices, rows, cols)`` to ``(B, classes)``, unnormalised.

    Source: He et al. 2016, arXiv:1512.03385, through MONAI's ``ResNet``.
    """

    def __init__(
        self,
        classes: int,
        *,
        slices: int = 8,
        widths: Sequence[int] = (8, 16, 32, 64),
        blocks: Sequence[int] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "classes": classes,
            "slices": slices,
            "widths": list(widths),
            "blocks": list(blocks),
        }
        self.body = ResNet(
            block="basic",
            layers=list(blocks),
            block_inplanes=list(widths),
            spatial_dims=2,
            n_input_channels=2 * slices,
            num_classes=classes,
            conv1_t_size=3,
            conv1_t_stride=2,
            no_max_pool=True,
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, 2, slices, rows, cols)``."""
        logits: Tensor = self.body(image.flatten(1, 2))
        return logits


def parameter_count(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
