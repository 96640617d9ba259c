"""MobileNet-V2 without its last layer, which MONAI does not have."""

from __future__ import annotations

from torch import Tensor, nn

STAGES = (  # factor of expansion, channels, blocks, stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 1),  # published: 2, for 224 x 224
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNetV2(nn.Module):
    """Inverted residual blocks, then the mean over rows and columns.

    Widths are those of the paper's table 2 at multiplier 1. The second stage keeps its resolution: rows and columns
    shrink 16-fold, not 32-fold.

    Args:
        channels: of the image.

    Shape:
        ``(B, channels, rows, cols)`` to ``(B, 1280)``.

    Source: Sandler et al. 2018, arXiv:1801.04381.
    """

    width = 1280

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(channels, 32, kernel=3, stride=2)]
        before = 32
        for factor, after, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(before, after, factor=factor, stride=stride if block == 0 else 1))
                before = after
        self.layers = nn.Sequential(*layers, _convolution(before, self.width, kernel=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, image: Tensor) -> Tensor:
        """Features ``(B, 1280)`` of images ``(B, channels, rows, cols)``."""
        found: Tensor = self.layers(image).mean(dim=(2, 3))
        return found


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow linearly; the input is added where the shapes are the same.

    Args:
        before: channels of the input.
        after: channels of the output.
        factor: of widening; 1 leaves the widening out.
        stride: of the filter.

    Shape:
        ``(B, before, rows, cols)`` to ``(B, after, rows / stride, cols / stride)``.
    """

    def __init__(self, before: int, after: int, *, factor: int, stride: int) -> None:
        super().__init__()
        wide = before * factor
        self.layers = nn.Sequential(
            *([_convolution(before, wide, kernel=1)] if factor > 1 else []),
            _convolution(wide, wide, kernel=3, stride=stride, groups=wide),
            nn.Conv2d(wide, after, kernel_size=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.adds_input = stride == 1 and before == after

    def forward(self, image: Tensor) -> Tensor:
        """One block."""
        found: Tensor = self.layers(image)
        return image + found if self.adds_input else found


def _convolution(before: int, after: int, *, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU6(inplace=True),
    )
