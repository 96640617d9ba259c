"""Seconds per study: assembling a cine from DICOM files beside the bare cost of reading and decoding them.

python -m benchmarks.cine_assembly [FOLDER] [--repeats 7]

The bare cost is ``pydicom.dcmread(file).pixel_array`` over the study's files and nothing else: no order, no geometry,
no checks. Both read the same files in turns, in one process with one thread, after a pass outside the clock. FOLDER
holds any number of studies; without it a study is written to a temporary folder: uncompressed, 10 slices of 20 phases,
under names in no useful order. The ratio is that of the medians; the bar is 1.3.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from pipeline.dicom.cine import read_cine
from pipeline.dicom.frames import studies_in
from pipeline.dicom.refusal import Refusal

SHAPE = (20, 10, 256, 256)  # (phases, slices, rows, cols)
ROWS_ALONG, COLS_ALONG = np.array([0.71, 0.70, -0.03]), np.array([-0.31, 0.27, -0.91])
FILLERS = 60  # elements that nobody asks for: a scanner's header has some hundred


def write_study(folder: Path, shape: tuple[int, int, int, int] = SHAPE) -> None:
    """Write a beating disc in noise as a short-axis cine, one file per image."""
    rng, (phases, slices, rows, cols) = np.random.default_rng(0), shape
    place = np.hypot(np.arange(rows)[:, None] - rows / 2, np.arange(cols) - cols / 2)
    names = rng.permutation(phases * slices)
    study, series, reference = (generate_uid(entropy_srcs=[name]) for name in ("study", "series", "reference"))
    for index, name in enumerate(names.tolist()):
        number, phase = divmod(index, phases)
        radius = rows * (0.15 + 0.04 * np.cos(2 * np.pi * phase / phases))
        image = _header(index, number, phase, phases)
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, reference
        image.Rows, image.Columns = rows, cols
        image.PixelData = (rng.normal(200, 20, (rows, cols)) + 500 * (place < radius)).astype("<u2").tobytes()
        image.save_as(folder / f"{name}.dcm", enforce_file_format=True)


def _header(index: int, number: int, phase: int, phases: int) -> Dataset:
    """One image's header, in a stack of slices 10 mm apart."""
    across, down = _orthonormal(ROWS_ALONG, COLS_ALONG)
    position = np.array([20.0, -200.0, 100.0]) + 10.0 * number * np.cross(across, down)
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, generate_uid(entropy_srcs=["image", str(index)])
    image.Modality, image.ImageType, image.Manufacturer = "MR", ["ORIGINAL", "PRIMARY", "OTHER"], "SIEMENS"
    image.MRAcquisitionType, image.ScanningSequence, image.RepetitionTime, image.EchoTime = "2D", "GR", 40.0, 1.5
    image.FlipAngle, image.NominalInterval, image.CardiacNumberOfImages = 50.0, 900, phases
    image.PixelSpacing, image.SliceThickness, image.SpacingBetweenSlices = [1.4, 1.4], 8.0, 10.0
    image.ImageOrientationPatient = [f"{value:.6f}" for value in (*across, *down)]
    image.ImagePositionPatient = [f"{value:.4f}" for value in position]
    image.TriggerTime, image.InstanceNumber, image.AcquisitionTime = 900.0 * phase / phases, index + 1, "101500"
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    block = image.private_block(0x0019, "A VENDOR", create=True)
    for element in range(FILLERS):
        block.add_new(element, "DS", str(element / 7)[:12])
    return image


def _orthonormal(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = first / np.linalg.norm(first)
    second = second - first * (second @ first)
    return first, second / np.linalg.norm(second)


def bare(files: Sequence[Path]) -> None:
    """Read and decode, as the shortest program would."""
    for file in files:
        _ = pydicom.dcmread(file).pixel_array


def seconds(work: Callable[[Sequence[Path]], Any], files: Sequence[Path]) -> float:
    """Wall time of one pass over a study's files [s]."""
    start = time.perf_counter()
    work(files)
    return time.perf_counter() - start


def compare(files: Sequence[Path], repeats: int) -> tuple[float, float]:
    """Median seconds of assembling one study and of the bare cost, in turns."""
    ours, theirs = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, on the header's spelling
        read_cine(files)
        bare(files)
        for _ in range(repeats):
            ours.append(seconds(read_cine, files))
            theirs.append(seconds(bare, files))
    return statistics.median(ours), statistics.median(theirs)


def ratios_in(folder: Path, repeats: int) -> list[float]:
    """Compare study by study, and print a line for each."""
    ratios = []
    for number, files in enumerate(studies_in(folder)[0].values(), start=1):
        try:
            ours, theirs = compare(files, repeats)
        except Refusal as refusal:
            print(f"study {number}: {refusal.code}")
            continue
        ratios.append(ours / theirs)
        times = f"read_cine {1000 * ours:.0f} ms, bare pydicom {1000 * theirs:.0f} ms"
        print(f"study {number}: {len(files)} files, {times}, ratio {ratios[-1]:.2f}")
    return ratios


def main() -> None:
    """Compare the studies of a folder, or one that is written for it, and print the largest ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as written:
        if arguments.folder is None:
            write_study(Path(written))
        ratios = ratios_in(arguments.folder or Path(written), arguments.repeats)
    if not ratios:
        raise SystemExit("no study in the folder has a short-axis cine")
    print(f"read_cine / bare pydicom, the largest of {len(ratios)} medians of {arguments.repeats}: {max(ratios):.2f}")


if __name__ == "__main__":
    main()
