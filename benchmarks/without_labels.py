"""How well heart and phases are found without labels: one table for each, per cohort.

python -m benchmarks.without_labels [--studies 60] [--per-cell 2] [--full-size] [--acdc DIR] [--sunnybrook DIR]

The phantom is written to a temporary folder. ``--acdc`` is the folder that holds ``training``: its patients as they
are, and each once more under every simulated scanner. They have two phases, so that 0 means that end-diastole was told
from end-systole. ``--sunnybrook`` is the folder that holds ``link.csv``: its contours are of the left ventricle only,
whose middle lies some 25 mm from the heart's. A heart is contained if all of its mask, or of its contours, lies in the
crop of the default recipe. Phases are counted the shorter way round the cycle.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Compose
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.sunnybrook import read_sunnybrook
from pipeline.cohort.acdc import import_acdc
from pipeline.cohort.case import Case
from pipeline.cohort.mnms import import_mnms
from pipeline.cohort.phantom import write_phantom
from pipeline.cohort.phantom_anatomy import PATHOLOGIES
from pipeline.cohort.prepare_case import cyclic_distance, heart_error, read_masks
from transforms.dictionary import LoadCined, OrientShortAxisd, SimulateScannerd
from transforms.geometry import Affine, orient_short_axis, spacing_mm
from transforms.heart import find_heart
from transforms.phases import find_phases
from transforms.recipe import StudentInput
from transforms.simulate import VENDOR_APPEARANCE

RECIPE = StudentInput()
SHOWN = 12
LOAD = Compose([LoadCined("image"), SimulateScannerd("image"), OrientShortAxisd("image")])


@dataclass(frozen=True)
class Found:
    """What was found in one study, against the truth.

    Attributes:
        name: the study.
        error_mm: distance of the heart's centre from the mask's centroid [mm].
        contained: whether all of the mask lies in the crop.
        ed: error of end-diastole [phases].
        es: error of end-systole [phases].
        confidence: of the phases.
    """

    name: str
    error_mm: float
    contained: bool
    ed: int
    es: int
    confidence: float


def measure(
    name: str, cine: np.ndarray, affine: Affine, mask: np.ndarray, stored: Affine, truth: tuple[int, int]
) -> Found:
    """Find heart and phases in an oriented cine, and hold them against a mask as stored and the true phases."""
    spacing = spacing_mm(affine)
    heart = find_heart(cine, spacing)
    phases = find_phases(cine, spacing, heart)
    oriented, _ = orient_short_axis(mask, stored)
    error = heart_error(oriented, heart, spacing, RECIPE.field_of_view_mm)
    ed, es = (cyclic_distance(a, b, len(cine)) for a, b in zip((phases.ed, phases.es), truth, strict=True))
    return Found(name, error["error_mm"], error["contained"], ed, es, phases.confidence)


def measure_case(case: Case) -> Found:
    """Measure a case of a datalist; one with a scanner to simulate is measured as that scanner shows it."""
    data: dict[str, Any] = LOAD(vars(case))
    mask = read_masks(case)
    if mask is None:
        raise ValueError(f"case {case.case_id!r} must have a mask; leave it out of the folder")
    truth = (int(data["ed"]), int(data["es"]))
    return measure(case.case_id, data["image"], data["image_affine"], mask, data["image_stored_affine"], truth)


def phantom(studies: int, per_cell: int, *, full_size: bool) -> Iterator[Found]:
    """Measure a phantom cohort of all vendors."""
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(folder, studies=studies, test_per_cell=per_cell, full_size=full_size, progress=False)
        cohort = import_mnms(folder, classes=PATHOLOGIES, progress=False)
        yield from (measure_case(case) for _, case in cohort.cases())


def acdc(root: Path, *, simulated: bool) -> Iterator[Found]:
    """Measure ACDC's patients as they are, or each under every simulated scanner."""
    for number, (_, case) in enumerate(import_acdc(root, progress=False).cases()):
        for vendor in VENDOR_APPEARANCE if simulated else (None,):
            shown = case if vendor is None else replace(case, simulated={"vendor": vendor, "seed": number})
            yield replace(measure_case(shown), name=case.case_id if vendor is None else f"{case.case_id} {vendor}")


def sunnybrook(root: Path) -> Iterator[Found]:
    """Measure the Sunnybrook cines against their contours."""
    for study in read_sunnybrook(root):
        cine, affine = orient_short_axis(study.cine, study.affine)
        truth = (study.ed, study.es)
        yield measure(study.name, np.asarray(cine), affine, study.outline, study.affine, truth)


def heart_row(cohort: str, found: Sequence[Found]) -> str:
    """One line of the table of hearts."""
    errors, misses = [one.error_mm for one in found], [one.name for one in found if not one.contained]
    return (
        f"{cohort:<24}{len(found):>5}{np.median(errors):>11.1f}{np.percentile(errors, 95):>9.1f}"
        f"{100 * (1 - len(misses) / len(found)):>13.1f}   {_some(misses)}"
    )


def phase_rows(cohort: str, found: Sequence[Found]) -> Iterator[str]:
    """Two lines of the table of phases: end-diastole and end-systole."""
    for name in ("ED", "ES"):
        errors = np.array([getattr(one, name.lower()) for one in found])
        near = "".join(f"{100 * np.mean(errors <= n):>12.1f}" for n in (0, 1, 2))
        yield f"{cohort:<24}{len(found):>5}   {name}{np.median(errors):>8.0f}{near}{errors.max():>8}"
    yield f"{'':<24}{'':>5}   lowest confidence {min(one.confidence for one in found):.2f}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _cohorts(arguments: argparse.Namespace) -> Iterator[tuple[str, Iterable[Found]]]:
    size = "phantom, full size" if arguments.full_size else "phantom"
    yield size, phantom(arguments.studies, arguments.per_cell, full_size=arguments.full_size)
    if arguments.acdc:
        yield "ACDC", acdc(arguments.acdc, simulated=False)
        yield "ACDC, simulated", acdc(arguments.acdc, simulated=True)
    if arguments.sunnybrook:
        yield "Sunnybrook", sunnybrook(arguments.sunnybrook)


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=60, help="training studies of the phantom")
    parser.add_argument("--per-cell", type=int, default=2, help="test studies of each vendor and pathology")
    parser.add_argument("--full-size", action="store_true", help="256 x 256 pixels and 25 phases")
    parser.add_argument("--acdc", type=Path, help="folder that holds training/")
    parser.add_argument("--sunnybrook", type=Path, help="folder that holds link.csv")
    arguments = parser.parse_args()
    with threadpool_limits(1):
        measured = {cohort: list(found) for cohort, found in _cohorts(arguments)}
    print(f"{'Heart':<24}{'n':>5}{'median mm':>11}{'95th mm':>9}{'contained %':>13}   not contained")
    print("\n".join(heart_row(cohort, found) for cohort, found in measured.items()))
    print(f"\n{'Phases':<24}{'n':>5}     {'median':>8}{'exact %':>12}{'within 1 %':>12}{'within 2 %':>12}{'worst':>8}")
    print("\n".join(row for cohort, found in measured.items() for row in phase_rows(cohort, found)))


if __name__ == "__main__":
    main()
