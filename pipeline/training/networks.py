"""Classifiers of a student input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from monai.networks.nets import DenseNet121, ResNet
from torch import Tensor, nn

from pipeline.training.mobilenet import MobileNetV2

Architecture = Literal["resnet", "resnet50", "densenet121", "mobilenetv2"]

WIDTHS = (8, 16, 32, 64)
BLOCKS = (1, 1, 1, 1)


class Classifier(nn.Module):
    """Network that reads all before the last two axes as channels of one 2-D image, and ends in a linear layer.

    Slices of a short-axis stack are 8–10 mm apart and few: as channels they cost little, and the first layer may
    compare end-diastole with end-systole directly. All architectures reduce rows and columns 16-fold before they
    average over them, so that 4 x 4 places are left of 64 x 64: the published ones, made for 224 x 224, reduce
    32-fold and would leave 2 x 2.

    Args:
        architecture: ``resnet`` has basic blocks and free widths; ``resnet50``, ``densenet121`` and ``mobilenetv2``
            are as published, but for their first layers.
        classes: number of classes.
        channels: product of the axes before the last two: phases x slices of a cine, 3 of a colour picture.
        widths: of ``resnet`` only: channels of the four stages. ``(8, 16, 32, 64)``, the default, is the compact
            student (0.08 M parameters), ``(64, 128, 256, 512)`` the teacher (4.9 M).
        blocks: of ``resnet`` only: residual blocks of each stage, by default one.

    Shape:
        ``(B, …, rows, cols)`` to ``(B, classes)``, unnormalised.

    Attributes:
        settings: the arguments, as plain values; ``Classifier(**settings)`` builds the same network.
        head: the last layer, linear in what `features` returns.

    Raises:
        ValueError: if the architecture is unknown, or ``widths`` or ``blocks`` do not go with it.

    Example:
        >>> import torch
        >>> network = Classifier(classes=3, channels=16)
        >>> network(torch.zeros(5, 2, 8, 64, 64)).shape
        torch.Size([5, 3])

    Source: He et al. 2016, arXiv:1512.03385, and Huang et al. 2017, arXiv:1608.06993, through MONAI; Sandler et al.
    2018, arXiv:1801.04381.
    """

    def __init__(
        self,
        architecture: Architecture = "resnet",
        *,
        classes: int,
        channels: int,
        widths: Sequence[int] | None = None,
        blocks: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if architecture not in get_args(Architecture):
            raise ValueError(f"architecture must be one of {get_args(Architecture)}, got {architecture!r}")
        if architecture == "resnet":
            widths, blocks = _stages(widths or WIDTHS, blocks or BLOCKS)
        elif widths is not None or blocks is not None:
            raise ValueError(
                f"widths and blocks are fixed in {architecture}, got {widths} and {blocks}; "
                "set both to null, or take the architecture resnet"
            )
        self.settings: dict[str, Any] = {
            "architecture": architecture,
            "classes": classes,
            "channels": channels,
            "widths": widths,
            "blocks": blocks,
        }
        self.body, self.head = _build(architecture, classes, channels, widths, blocks)

    def features(self, image: Tensor) -> Tensor:
        """What the last layer sees, ``(B, F)``, of images ``(B, …, rows, cols)``."""
        found: Tensor = self.body(image.flatten(1, -3))
        return found

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, …, rows, cols)``."""
        logits: Tensor = self.head(self.features(image))
        return logits


def parameter_count(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _stages(widths: Sequence[int], blocks: Sequence[int]) -> tuple[list[int], list[int]]:
    if len(widths) != len(WIDTHS) or len(blocks) != len(BLOCKS):
        raise ValueError(f"a resnet has four stages, got widths {list(widths)} and blocks {list(blocks)}; give four")
    return list(widths), list(blocks)


def _build(
    architecture: Architecture, classes: int, channels: int, widths: list[int] | None, blocks: list[int] | None
) -> tuple[nn.Module, nn.Linear]:
    """Body and head; MONAI's own last layer becomes the head."""
    if architecture == "mobilenetv2":
        return MobileNetV2(channels), nn.Linear(MobileNetV2.width, classes)
    if architecture == "densenet121":
        dense = DenseNet121(spatial_dims=2, in_channels=channels, out_channels=classes)
        head = dense.class_layers.out
        dense.class_layers.out = nn.Identity()
        dense.features.pool0 = nn.Identity()
        return dense, head
    bottleneck = architecture == "resnet50"
    residual = ResNet(
        block="bottleneck" if bottleneck else "basic",
        layers=[3, 4, 6, 3] if bottleneck else blocks,
        block_inplanes=[64, 128, 256, 512] if bottleneck else widths,
        spatial_dims=2,
        n_input_channels=channels,
        num_classes=classes,
        conv1_t_size=3,
        conv1_t_stride=2,
        no_max_pool=True,
        bias_downsample=False,  # its gradient would be rounding noise, of which AdamW makes steps
    )
    head = residual.fc
    residual.fc = nn.Identity()
    return residual, head
