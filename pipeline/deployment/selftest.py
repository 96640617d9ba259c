"""Whether a package works on this machine: a synthetic heart through the very lines that read a study."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

import numpy as np
from numpy.typing import NDArray

from pipeline.deployment.package import Package
from pipeline.deployment.student import Student, threads_allowed
from transforms.recipe import prepare_study

LIBRARIES = ("evenbeat", "numpy", "onnxruntime", "pydicom", "highdicom", "pillow")
SHAPE = (20, 10, 128, 128)  # (phases, slices, rows, cols)
SPACING_MM, GAP_MM = 2.0, 10.0
DIASTOLE_MM, SYSTOLE_MM, WALL_MM = 26.0, 17.0, 9.0  # radius of the cavity, and its wall
LUNG, MUSCLE, BLOOD = 60.0, 220.0, 600.0
SUM_TOLERANCE = 1e-9
NOT_EXPECTED = "but no digest is expected: any package would be taken; set EVENBEAT_PACKAGE_DIGEST"


class SelftestError(RuntimeError):
    """The package does not work here."""


@dataclass(frozen=True)
class Report:
    """What a self-test found.

    Attributes:
        probabilities: of the synthetic heart; they mean nothing.
        seconds: from the beginning of the test to its answer.
        peak_mib: most memory that the process has held [MiB].
    """

    probabilities: dict[str, float]
    seconds: float
    peak_mib: float


def selftest(package: Package) -> Report:
    """Read a synthetic study twice.

    Args:
        package: read and checked.

    Returns:
        What was found.

    Raises:
        PackageError: if the network cannot be loaded.
        SelftestError: if phases are found where they are not, probabilities do not sum to 1, or two runs differ.
    """
    start = time.perf_counter()
    student = Student(package)
    cine, affine = beating_heart()
    prepared = prepare_study(cine, affine, recipe=package.recipe)
    if not (_near(prepared.ed, 0, len(cine)) and _near(prepared.es, len(cine) // 2, len(cine))):
        raise SelftestError(f"phases must be about 0 and {len(cine) // 2}; got {prepared.ed} and {prepared.es}")
    first, second = (student.probabilities(prepared.image) for _ in range(2))
    if first != second or abs(sum(first.values()) - 1) > SUM_TOLERANCE:
        raise SelftestError(f"probabilities must sum to 1 and repeat; got {first} and {second}")
    return Report(first, time.perf_counter() - start, peak_mib())


def beating_heart() -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """A ring of muscle around blood, wide in phase 0 and narrow half a cycle later, in a short-axis stack.

    Returns:
        ``(phases, slices, rows, cols)`` and its affine, RAS [mm].
    """
    phases, slices, rows, cols = SHAPE
    row, col = np.mgrid[:rows, :cols].astype(np.float64)
    distance = SPACING_MM * np.hypot(row - (rows - 1) / 2, col - (cols - 1) / 2)
    beat = (1 + np.cos(2 * np.pi * np.arange(phases) / phases)) / 2
    taper = np.sqrt(1 - (np.linspace(-0.7, 0.85, slices)) ** 2)  # of an ellipsoid, apex last
    cavity = (SYSTOLE_MM + (DIASTOLE_MM - SYSTOLE_MM) * beat)[:, None] * taper
    outer = np.cbrt(cavity**3 + (DIASTOLE_MM + WALL_MM) ** 3 - DIASTOLE_MM**3)  # muscle keeps its volume
    inside, wall = (np.clip(radius[..., None, None] - distance, 0, 1) for radius in (cavity, outer))
    image = LUNG + (MUSCLE - LUNG) * wall + (BLOOD - MUSCLE) * inside
    return image.astype(np.uint16), _short_axis()


def _near(phase: int, true: int, phases: int) -> bool:
    """Whether a phase lies within two of the true one, the shorter way round."""
    apart = abs(phase - true) % phases
    return min(apart, phases - apart) <= 2


def _short_axis() -> NDArray[np.float64]:
    """Slices from base to apex along the common long axis of hearts, columns to the patient's left."""
    normal = np.array([-0.65, 0.65, -0.40])
    down = np.cross(normal, [-1.0, 0.0, 0.2])
    down, normal = down / np.linalg.norm(down), normal / np.linalg.norm(normal)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([SPACING_MM * np.cross(down, normal), SPACING_MM * down, GAP_MM * normal])
    return affine


def peak_mib() -> float:
    """Most memory that this process has held at a time [MiB]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def lines(package: Package, report: Report, *, expected: bool) -> Iterator[str]:
    """What the command prints.

    Args:
        package: that was tested.
        report: of the test.
        expected: whether a digest was expected of the package, which then is this one.
    """
    yield f"package: {package.name} {package.version}, {package.precision}, classes {', '.join(package.classes)}"
    yield f"digest: {package.digest}, {'as expected' if expected else NOT_EXPECTED}"
    yield f"recipe: {package.recipe.digest}"
    yield f"envelope: {'none, every scanner is unseen' if package.envelope is None else _envelope(package)}"
    yield f"python {platform.python_version()}, " + ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    yield f"threads: {threads_allowed()}; user {os.getuid()}"
    yield f"a synthetic study took {report.seconds:.2f} s; peak memory {report.peak_mib:.0f} MiB"


def _envelope(package: Package) -> str:
    columns = package.envelope.columns if package.envelope else ()
    return ", ".join(columns) or "no column that headers tell, every scanner is unseen"


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"
