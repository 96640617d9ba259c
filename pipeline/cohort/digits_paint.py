"""A digit drawn onto a piece of a photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cohort.digits_plan import Drawing

PHOTOGRAPHS = (("brick", "grass", "gravel"), ("astronaut", "chelsea", "coffee"))  # by place; scikit-image ships them

_GRID = 4  # a photograph is cut into 4 x 4 blocks
_BLOCKS = (8, 4, 4)  # of 16, by split
_PATCH_SIDE = (40, 72)  # of a photograph's pixels
_DIGIT_SIDE = (0.75, 0.95)  # of the image
_OPACITY = (0.8, 1.0)
_CONTRAST = 0.08  # largest standard deviation of a patch, of [0, 1]: a digit is seen on any

Pixels = NDArray[np.uint8]


def photographs() -> dict[str, Pixels]:
    """All photographs by name, each ``(rows, cols, 3)``."""
    return {name: _photograph(name) for names in PHOTOGRAPHS for name in names}


def paint(
    drawing: Drawing, digit: NDArray[Any], available: Mapping[str, Pixels], *, seed: int, pixels: int
) -> tuple[Pixels, str]:
    """Paint one image of a cohort.

    Args:
        drawing: what to paint.
        digit: ``(8, 8)``, 0 to 16.
        available: the photographs.
        seed: the cohort's.
        pixels: height and width.

    Returns:
        ``(pixels, pixels, 3)``, and the name of the photograph behind the digit.
    """
    rng = np.random.default_rng([seed, 3, drawing.split, drawing.stream, drawing.place])
    names = PHOTOGRAPHS[drawing.place]
    which = int(rng.integers(len(names)))
    blocks = _blocks(drawing.split, [seed, 4, drawing.place, which])
    patch = _patch(available[names[which]], blocks, pixels, rng)
    # without the place: both images of a test digit have one size, position, opacity and tint
    pose = np.random.default_rng([seed, 2, drawing.split, drawing.stream])
    return render(digit, patch, pose), names[which]


def render(digit: NDArray[Any], patch: Pixels, rng: np.random.Generator) -> Pixels:
    """Draw a digit onto a patch, light on dark or dark on light, in a tint, a size and a place of its own.

    Args:
        digit: ``(8, 8)``, 0 to 16.
        patch: ``(pixels, pixels, 3)``.
        rng: draws size, place, opacity and tint.

    Returns:
        ``(pixels, pixels, 3)``.
    """
    from PIL import Image

    pixels = len(patch)
    side = round(pixels * rng.uniform(*_DIGIT_SIDE))
    row, col = rng.integers(pixels - side + 1, size=2)
    opacity, tint = rng.uniform(*_OPACITY), rng.uniform(0, 0.25, size=3)
    enlarged = Image.fromarray((digit * 255 / 16).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    ink = np.zeros((pixels, pixels, 1))
    ink[row : row + side, col : col + side, 0] = opacity * np.asarray(enlarged) / 255
    ground = patch / 255
    colour = tint if ground.mean() > 0.5 else 1 - tint
    return np.rint(255 * (ground * (1 - ink) + colour * ink)).astype(np.uint8)


def _patch(photograph: Pixels, blocks: NDArray[Any], pixels: int, rng: np.random.Generator) -> Pixels:
    """A piece of one of the blocks, mirrored or not, its contrast held down."""
    from PIL import Image

    block = _block(photograph, int(rng.choice(blocks)))
    side = int(rng.integers(_PATCH_SIDE[0], _PATCH_SIDE[1] + 1))
    row, col = (int(rng.integers(size - side + 1)) for size in block.shape[:2])
    crop = Image.fromarray(block[row : row + side, col : col + side])
    patch = np.asarray(crop.resize((pixels, pixels), Image.Resampling.LANCZOS)) / 255
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    mean = patch.mean(axis=(0, 1))
    patch = mean + (patch - mean) * (_CONTRAST / max(patch.std(axis=(0, 1)).max(), _CONTRAST))
    return np.asarray(np.rint(255 * patch.clip(0, 1)), dtype=np.uint8)


def _blocks(split: int, order_seed: Sequence[int]) -> NDArray[Any]:
    """Numbers of the blocks of a photograph that belong to a split."""
    order = np.random.default_rng(order_seed).permutation(_GRID**2)
    return np.split(order, np.cumsum(_BLOCKS)[:-1])[split]


def _block(photograph: Pixels, number: int) -> Pixels:
    row, col = divmod(number, _GRID)
    rows, cols = (size // _GRID for size in photograph.shape[:2])
    return photograph[row * rows : (row + 1) * rows, col * cols : (col + 1) * cols]


def _photograph(name: str) -> Pixels:
    """``(rows, cols, 3)`` of a photograph that lies in scikit-image's package; nothing is downloaded."""
    from skimage import data

    photograph = np.asarray(getattr(data, name)())
    return photograph if photograph.ndim == 3 else np.repeat(photograph[..., None], 3, axis=-1)
