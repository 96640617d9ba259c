"""Images of a study that share their planes, sorted by place: what a series is, and a stack, is told from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.dicom.frame_records import Frame
from pipeline.dicom.stack_geometry import angle_between, axes_of, places, tilt_between

Floats = NDArray[np.float64]

FEWEST_SLICES = 6  # of a stack
OTHER_ORIENTATION_DEG = 10.0
SAME_PLACE_MM = 1.0
SAME_TILT_DEG = 0.5


@dataclass(frozen=True)
class Part:
    """Images of one series that share matrix, spacing and orientation.

    Attributes:
        frames: the images, at least one; all have geometry.
    """

    frames: tuple[Frame, ...]

    @cached_property
    def normal(self) -> Floats:
        """Unit vector, LPS."""
        return axes_of(np.mean([frame.orientation or () for frame in self.frames], axis=0))[2]

    @cached_property
    def by_place(self) -> list[list[Frame]]:
        """Images at each place along the normal, upwards."""
        numbers = places(np.asarray([frame.position for frame in self.frames], dtype=float) @ self.normal)
        found: list[list[Frame]] = [[] for _ in range(int(numbers.max()) + 1)]
        for frame, number in zip(self.frames, numbers.tolist(), strict=True):
            found[number].append(frame)
        return found

    @property
    def depths_mm(self) -> Floats:
        """Place of each slice along the normal, ``(places,)``."""
        return np.asarray([depth_of(one, self.normal) for one in self.by_place])

    @property
    def per_place(self) -> int:
        """Images at most places."""
        return int(np.median([len(one) for one in self.by_place]))

    @property
    def largest(self) -> list[Frame]:
        """The place with most images."""
        return max(self.by_place, key=len)


def depth_of(images: Sequence[Frame], normal: ArrayLike) -> float:
    """Place of images along a normal [mm]: the median of their positions."""
    middle = np.median([frame.position or () for frame in images], axis=0)
    return float(middle @ np.asarray(normal, dtype=float))


def is_twin(part: Part, flow: Part) -> bool:
    """Whether a part is the magnitude that belongs to flow images: same places, as many images, same echo time.

    Scanners can also keep the phase of a whole cine stack. Its magnitude is no flow, unless velocities are encoded.
    """
    if len(part.by_place) >= FEWEST_SLICES and not any(frame.velocity_encoded for frame in flow.frames):
        return False
    if part.per_place != flow.per_place or tilt_between(_orientation(part), _orientation(flow)) > SAME_TILT_DEG:
        return False
    one, other = part.frames[0], flow.frames[0]
    if (one.rows, one.cols) != (other.rows, other.cols):
        return False
    near = np.abs(part.depths_mm[:, None] - flow.depths_mm).min(axis=1)
    if np.any(near > SAME_PLACE_MM):
        return False
    if one.series_uid == other.series_uid:
        return True
    same = (one.echo_ms, one.repetition_ms) == (other.echo_ms, other.repetition_ms)
    return same and one.echo_ms is not None


def _orientation(part: Part) -> tuple[float, ...]:
    return part.frames[0].orientation or ()


def is_turned(parts: Iterable[Part]) -> bool:
    """Whether parts of one series look in several directions."""
    normals = [part.normal for part in parts]
    return any(OTHER_ORIENTATION_DEG < angle_between(normals[0], one) < 180 - OTHER_ORIENTATION_DEG for one in normals)
