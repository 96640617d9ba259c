"""The student's input where it is a photograph: its parameters, their digest, and the steps that make it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

KIND = "natural-image"
FORMAT_VERSION = 1  # raise it when the same parameters give other numbers

CHANNELS = 3  # red, green, blue
# of ImageNet's training images scaled to [0, 1], by channel: the constants that Waterbirds is standardised with
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class NaturalImage:
    """What a photograph is turned into before any network sees it.

    Attributes:
        rows: height [pixels].
        cols: width [pixels].

    Raises:
        ValueError: if a size is not a whole number above 0.
    """

    rows: int = 64
    cols: int = 64

    def __post_init__(self) -> None:
        for name in ("rows", "cols"):
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{name} must be a whole number above 0; got {size!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, rows, cols)`` of the student's input."""
        return CHANNELS, self.rows, self.cols

    @property
    def digest(self) -> str:
        """SHA-256 over all parameters and the format version, in hexadecimal."""
        canonical = json.dumps({"format": FORMAT_VERSION, **self.to_dict()}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The parameters and the constants of the standardisation, as JSON holds them."""
        return {
            "kind": KIND,
            "rows": self.rows,
            "cols": self.cols,
            "channels": CHANNELS,
            "mean": list(MEAN),
            "std": list(STD),
        }


def standardise_rgb(image: ArrayLike) -> NDArray[np.float32]:
    """Subtract each channel's constant mean and divide by its constant deviation.

    Args:
        image: ``(rows, cols, 3)``, uint8, red first.

    Returns:
        float32 ``(3, rows, cols)``.

    Raises:
        ValueError: if the shape or the type is another.

    Example:
        >>> [round(float(value), 3) for value in standardise_rgb(np.zeros((1, 1, 3), dtype=np.uint8)).ravel()]
        [-2.118, -2.036, -1.804]
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != CHANNELS or image.dtype != np.uint8:
        raise ValueError(f"image must be uint8 (rows, cols, 3); got {image.dtype} {image.shape}; convert it to RGB")
    standardised = (image / 255.0 - MEAN) / STD
    return np.ascontiguousarray(np.moveaxis(standardised, -1, 0), dtype=np.float32)
