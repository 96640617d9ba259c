"""Pictures of a study for a person's eye: all slices at two phases, and the middle slice beating."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.files import atomic_path
from transforms.geometry import resample_crop
from transforms.heart import HeartCentre

Pixels = NDArray[np.uint8]

MONTAGE_WIDTH = 1840  # pixels; shown at about half of that, sharp on dense screens
TILE_RANGE = (96, 240)  # pixels
GAP, GUTTER = 6, 52  # pixels: between tiles, and for the names of the rows
FONT_SIZE = 22  # pixels
AROUND = 1.6  # a tile shows so many sides of the crop, as far as the field of view goes
CROSS = 5  # pixels, half its width
COLOURS = 128  # of the montage
WINDOW, HEADROOM = (1.0, 98.0), 0.1  # percentiles of the heart shown as black and white, and what is left above
WINDOW_SHARE = 0.6  # of the crop's sides, in which those are taken
CROP_COLOUR, INK, BLACK = (255, 190, 60), (240, 240, 240), (0, 0, 0)

MOVIE_PIXELS = 256
LARGEST_MOVIE = 300_000  # bytes
QUALITIES = (80, 60, 40, 20)
STILL_MS = 600  # how long each of two phases is shown
SHORTEST_MS, LONGEST_MS = 20, 200  # between frames


@dataclass(frozen=True)
class View:
    """A study as it is shown.

    Attributes:
        phases: ``(phases, slices, rows, cols)``, oriented.
        spacing: ``(rows, cols)`` [mm].
        ed: index of end-diastole.
        es: index of end-systole.
        heart: centre of the crop; ``None`` if the study is cropped already.
        crop_mm: height and width of the crop [mm].
        phase_ms: distance between phases [ms]; ``None`` if not known.
    """

    phases: NDArray[np.float32]
    spacing: tuple[float, float]
    ed: int
    es: int
    heart: HeartCentre | None
    crop_mm: tuple[float, float]
    phase_ms: float | None = None

    @property
    def middle(self) -> int:
        """The slice that is shown beating."""
        return int(self.phases.shape[1]) // 2


@dataclass(frozen=True)
class Region:
    """What a tile shows.

    Attributes:
        centre: row and column of the study in the middle of the tile.
        shape: height and width [pixels].
        step: size of a pixel [mm].
    """

    centre: tuple[float, float]
    shape: tuple[int, int]
    step: float


def write_montage(view: View, path: Path) -> tuple[int, int]:
    """Write all slices, base on the left, end-diastole above end-systole, with the crop and its centre drawn.

    Returns:
        Width and height [pixels].
    """
    tiles, region = _tiles(view)
    _, n_slices, height, width = tiles.shape
    size = (GUTTER + n_slices * (width + GAP) - GAP, 2 * (height + GAP) - GAP)
    picture = Image.new("RGB", size, BLACK)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_SIZE)
    for row, name in enumerate(("ED", "ES")):
        top = row * (height + GAP)
        draw.text((6, top + height / 2), name, INK, font, anchor="lm")
        for column in range(n_slices):
            left = GUTTER + column * (width + GAP)
            picture.paste(Image.fromarray(tiles[row, column]), (left, top))
            if view.heart is not None:
                _draw_crop(draw, view, view.heart, region, (left, top))
            if row == 0:
                draw.text((left + 5, top + 3), str(column + 1), INK, font, stroke_width=2, stroke_fill=BLACK)
    with atomic_path(path) as temporary:
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(temporary, optimize=True)
    return size


def write_movie(view: View, path: Path, still: Path) -> None:
    """Write the middle slice within the crop over the cycle, looping; and its end-diastole as a still.

    Args:
        view: the study.
        path: ends in ``.webp``; below 300 kB.
        still: ends in ``.webp``; for those who have asked for less motion, and for paper.
    """
    frames = [Image.fromarray(pixels) for pixels in _crop(view)]
    with atomic_path(still) as temporary:
        frames[view.ed].save(temporary, quality=QUALITIES[0])
    first, *others = [*frames[view.ed :], *frames[: view.ed]]
    with atomic_path(path) as temporary:
        for quality in QUALITIES:
            first.save(
                temporary, save_all=True, append_images=others, duration=_duration(view), loop=0, quality=quality
            )
            if temporary.stat().st_size < LARGEST_MOVIE:
                return


def _duration(view: View) -> int:
    """Time between frames [ms]: the heart's own, or slow enough to compare two phases."""
    if len(view.phases) == 2:
        return STILL_MS
    return int(np.clip(view.phase_ms or 1000 / len(view.phases), SHORTEST_MS, LONGEST_MS))


def _tiles(view: View) -> tuple[Pixels, Region]:
    """Grey tiles ``(2, slices, height, width)``, and what each shows."""
    two = view.phases[[view.ed, view.es]]
    width = int(np.clip((MONTAGE_WIDTH - GUTTER) / two.shape[1] - GAP, *TILE_RANGE))
    region = _region(view, width)
    tiles = resample_crop(two, region.centre, view.spacing, region.shape, region.step)
    return _grey(tiles, _window(view)), region


def _region(view: View, width: int) -> Region:
    """The crop with what lies around it, moved into the field of view where it would leave it."""
    sizes = view.phases.shape[2:]
    extent = [n * step for n, step in zip(sizes, view.spacing, strict=True)]
    centre = [(n - 1) / 2 for n in sizes]
    if view.heart is not None:
        extent = [min(side, AROUND * crop) for side, crop in zip(extent, view.crop_mm, strict=True)]
        room = [(n - side / step) / 2 for n, side, step in zip(sizes, extent, view.spacing, strict=True)]
        found = view.heart.row, view.heart.col
        centre = [float(np.clip(at, mid - r, mid + r)) for at, mid, r in zip(found, centre, room, strict=True)]
    step = extent[1] / width
    return Region((centre[0], centre[1]), (max(1, round(extent[0] / step)), width), step)


def _crop(view: View) -> Pixels:
    step = max(view.crop_mm) / MOVIE_PIXELS
    shape = max(1, round(view.crop_mm[0] / step)), max(1, round(view.crop_mm[1] / step))
    frames = resample_crop(view.phases[:, view.middle], _centre(view), view.spacing, shape, step)
    return _grey(frames, _window(view))


def _draw_crop(
    draw: ImageDraw.ImageDraw, view: View, heart: HeartCentre, region: Region, corner: tuple[int, int]
) -> None:
    """The crop's outline, cut at the tile's edge, and a small cross at its centre."""
    height, width = region.shape
    y = corner[1] + (heart.row - region.centre[0]) * view.spacing[0] / region.step + (height - 1) / 2
    x = corner[0] + (heart.col - region.centre[1]) * view.spacing[1] / region.step + (width - 1) / 2
    half = [side / 2 / region.step for side in view.crop_mm]
    left, top = max(x - half[1], corner[0]), max(y - half[0], corner[1])
    right, bottom = min(x + half[1], corner[0] + width - 1), min(y + half[0], corner[1] + height - 1)
    if left < right and top < bottom:
        draw.rectangle([left, top, right, bottom], outline=CROP_COLOUR, width=2)
    for colour, thick in ((BLACK, 3), (CROP_COLOUR, 1)):  # seen on bright blood, too
        draw.line([(x - CROSS, y), (x + CROSS, y)], colour, thick)
        draw.line([(x, y - CROSS), (x, y + CROSS)], colour, thick)


def _grey(values: ArrayLike, window: tuple[float, float]) -> Pixels:
    low, high = window
    shades = (np.asarray(values, dtype=np.float32) - low) / max(high - low, 1e-6)
    return np.asarray(np.clip(shades, 0, 1) * 255, dtype=np.uint8)


def _window(view: View) -> tuple[float, float]:
    """Values shown as black and white, from the heart: fat below the coil is many times as bright."""
    centre = _centre(view)
    half = [WINDOW_SHARE * side / 2 / step for side, step in zip(view.crop_mm, view.spacing, strict=True)]
    rows, cols = (
        slice(max(0, round(at - reach)), max(1, round(at + reach))) for at, reach in zip(centre, half, strict=True)
    )
    heart = view.phases[[view.ed, view.es]][..., rows, cols]
    by_slice = np.percentile(heart if heart.size else view.phases, WINDOW, axis=(0, 2, 3))
    low, high = np.median(by_slice, axis=1)  # that of most slices: at the apex, fat comes close
    return float(low), float(high + HEADROOM * (high - low))


def _centre(view: View) -> tuple[float, float]:
    rows, cols = view.phases.shape[2:]
    return (view.heart.row, view.heart.col) if view.heart else ((rows - 1) / 2, (cols - 1) / 2)
