"""Seconds per study: our preprocessing beside the same steps with MONAI's stock transforms, in one run.

python -m benchmarks.preprocessing [--studies 24] [--repeats 5] [--full-size]

Both chains read the same freshly written 4-D NIfTI files, one after the other, in turns, in one process with one
thread, as each of the bundle's workers has; the heart is found by the same function for both. The
medians over repeats and their ratio are printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    MapTransform,
    NormalizeIntensityd,
    Orientationd,
    Resized,
    ResizeWithPadOrCropd,
    ScaleIntensityRangePercentilesd,
    Spacingd,
    SpatialCrop,
)
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from transforms.dictionary import (
    CropHeartd,
    FindHeartd,
    LoadCined,
    OrientShortAxisd,
    PickPhasesd,
    ResampleSlicesd,
    StandardiseIntensityd,
)
from transforms.heart import find_heart
from transforms.recipe import StudentInput

RECIPE = StudentInput()
SMALL, FULL = (10, 9, 96, 96), (25, 11, 256, 256)  # (phases, slices, rows, cols)
SAME = 0.95  # correlation of the two chains' images of a noisy disc; a wrong flip or a shift by a pixel gives less
Chain = Callable[[dict[str, Any]], Any]


class StockHeartd(MapTransform):
    """Keep ED and ES of a channel-first MetaTensor; the heart's place in the resampled grid goes beside it."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Find the heart by the function that both chains use."""
        out = dict(data)
        for key in self.keys:
            image = out[key]
            cols_mm, rows_mm, slices_mm = (float(v) for v in image.pixdim)
            heart = find_heart(image.numpy().transpose(0, 3, 2, 1), (slices_mm, rows_mm, cols_mm))
            scale = np.array([cols_mm, rows_mm]) / RECIPE.spacing_mm
            out["centre"] = np.array([heart.col, heart.row]) * scale  # Spacing keeps the first pixel's middle
            out[key] = image[[out["ed"], out["es"]]]
        return out


class StockCropd(MapTransform):
    """Crop around the heart with MONAI's ``SpatialCrop``."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop in the plane; all slices stay."""
        out = dict(data)
        for key in self.keys:
            slices = out[key].shape[-1]
            centre = [*np.rint(out["centre"] + 0.5).astype(int).tolist(), slices // 2]
            out[key] = SpatialCrop(roi_center=centre, roi_size=(RECIPE.cols, RECIPE.rows, slices))(out[key])
        return out


def our_chain() -> Chain:
    """The faces of the preprocessing bundle."""
    return Compose(
        [
            LoadCined("image"),
            OrientShortAxisd("image"),
            FindHeartd("image"),
            PickPhasesd("image"),
            CropHeartd("image", RECIPE),
            ResampleSlicesd("image", RECIPE.slices),
            StandardiseIntensityd("image", RECIPE.percentiles),
        ]
    )


def stock_chain() -> Chain:
    """The same steps from MONAI's catalogue."""
    spacing, (lower, upper) = RECIPE.spacing_mm, RECIPE.percentiles
    return Compose(
        [
            LoadImaged("image", reader="NibabelReader"),
            EnsureChannelFirstd("image", channel_dim=-1),
            Orientationd("image", axcodes="LIA", labels=None),  # left, inferior, anterior: short-axis stacks lie so
            StockHeartd("image"),
            Spacingd("image", pixdim=(spacing, spacing, -1), mode="bilinear"),
            StockCropd("image"),
            ResizeWithPadOrCropd("image", (RECIPE.cols, RECIPE.rows, -1)),
            Resized("image", (RECIPE.cols, RECIPE.rows, RECIPE.slices), mode="trilinear"),
            ScaleIntensityRangePercentilesd("image", lower, upper, 0.0, 1.0, clip=True),
            NormalizeIntensityd("image"),
        ]
    )


def write_studies(folder: Path, count: int, shape: tuple[int, int, int, int]) -> list[dict[str, Any]]:
    """Beating discs in noise, int16, in oblique stacks."""
    rng, (phases, _, rows, cols) = np.random.default_rng(0), shape
    place = np.hypot(*(np.arange(n)[shape_] - n / 2 for n, shape_ in ((rows, np.s_[:, None]), (cols, np.s_[None]))))
    radius = rows * (0.15 + 0.04 * np.cos(2 * np.pi * np.arange(phases) / phases))
    affine = np.eye(4)
    axes = np.array([[-0.74, -0.28, -0.62], [-0.60, -0.12, 0.79], [0.30, -0.95, -0.07]])
    left, _, right = np.linalg.svd(axes)
    affine[:3, :3] = left @ right * (240 / cols, 240 / rows, 10.0)  # orthonormal: Spacing shears what is not
    cases = []
    for number in range(count):
        cine = rng.normal(200, 20, shape) + 500 * (place < radius[:, None, None, None])
        path = folder / f"{number}.nii.gz"
        nib.save(nib.Nifti1Image(cine.astype(np.int16).T, affine), path)
        cases.append({"image": path, "ed": 0, "es": phases // 2})
    return cases


def seconds_per_study(chain: Chain, cases: list[dict[str, Any]]) -> float:
    """Wall time of one pass over the studies, divided by their number [s]."""
    start = time.perf_counter()
    for case in cases:
        chain(dict(case))
    return (time.perf_counter() - start) / len(cases)


def agreement(ours: Chain, stock: Chain, case: dict[str, Any]) -> float:
    """Correlation of what both make of a study; MONAI crops at whole pixels."""
    image, other = ours(dict(case))["image"], np.asarray(stock(dict(case))["image"]).transpose(0, 3, 2, 1)
    return float(np.corrcoef(image.ravel(), other.ravel())[0, 1])


def compare(studies: int, repeats: int, shape: tuple[int, int, int, int]) -> tuple[float, float]:
    """Median seconds per study of ours and of the stock chain, in turns over the same files.

    Raises:
        RuntimeError: if the two do not show the same heart.
    """
    ours, stock = our_chain(), stock_chain()
    times: dict[str, list[float]] = {"ours": [], "stock": []}
    with tempfile.TemporaryDirectory() as folder:
        cases = write_studies(Path(folder), studies, shape)
        for case in cases[:2]:  # imports and thread pools too, outside the clock
            if (same := agreement(ours, stock, case)) < SAME:
                raise RuntimeError(f"both chains must show one heart; their images correlate by {same:.2f} only")
        for _ in range(repeats):
            times["ours"].append(seconds_per_study(ours, cases))
            times["stock"].append(seconds_per_study(stock, cases))
    return statistics.median(times["ours"]), statistics.median(times["stock"])


def main() -> None:
    """Compare, and print one line per chain and the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--full-size", action="store_true", help=f"{FULL} instead of {SMALL}")
    arguments = parser.parse_args()
    shape = FULL if arguments.full_size else SMALL
    torch.set_num_threads(1)
    with threadpool_limits(1):
        ours, stock = compare(arguments.studies, arguments.repeats, shape)
    print(f"{arguments.studies} studies of {shape} (phases, slices, rows, cols), median of {arguments.repeats} passes")
    print(f"ours         {1000 * ours:8.1f} ms per study")
    print(f"MONAI stock  {1000 * stock:8.1f} ms per study")
    print(f"ours / stock {ours / stock:8.2f}")


if __name__ == "__main__":
    main()
