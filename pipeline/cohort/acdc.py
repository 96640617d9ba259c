"""ACDC (Bernard et al., IEEE TMI 2018): folder to datalist, with other vendors' scanners simulated if asked.

Layout: ``training/patientNNN`` and, in the official database, ``testing/patientNNN``, each with ``Info.cfg``
(``ED``, ``ES``: frame numbers from 1, which are also in the file names; ``Group``) and the volumes
``patientNNN_frameXX.nii.gz`` and ``patientNNN_frameXX_gt.nii.gz``, ``(x, y, z)``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pipeline.cohort.case import Case, Datalist, created_with
from pipeline.cohort.nifti import SetAsideError, find_image, find_mask, read_header
from pipeline.cohort.split import (
    DEFAULT_FRACTIONS,
    Sections,
    carve_validation,
    kept_note,
    largest_remainder,
    ordered,
    shuffled,
    stratified_split,
)
from pipeline.cohort.validation import check_group_by, nearest
from transforms.scanner import Scanner

LABELS: Mapping[int, str] = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
CLASSES = ("NOR", "MINF", "DCM", "HCM", "RV")
FOLDERS: Mapping[str, str] = {"training": "training", "testing": "test"}
REQUIRED_KEYS = ("ED", "ES", "Group")
SCANNER = Scanner("Siemens", site="Dijon")  # which of the hospital's two scanners is not recorded

# M&Ms: patients by vendor (open set, 345), and for the pathologies that ACDC shares with it.
MNMS_VENDOR_COUNTS: Mapping[str, int] = {"Siemens": 95, "Philips": 125, "GE": 75, "Canon": 50}
MNMS_VENDOR_COUNTS_OF_LABEL: Mapping[str, Mapping[str, int]] = {
    "NOR": {"Siemens": 22, "Philips": 65, "GE": 21, "Canon": 14},
    "HCM": {"Siemens": 25, "Philips": 51, "GE": 8, "Canon": 15},
    "DCM": {"Siemens": 37, "Philips": 5, "GE": 0, "Canon": 9},
}


def import_acdc(
    root: str | Path,
    *,
    classes: Sequence[str] = CLASSES,
    group_by: Sequence[str] = ("vendor",),
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    simulate_scanners: str | None = None,
    progress: bool = True,
) -> Datalist:
    """Import ACDC.

    With ``simulate_scanners="mnms"`` each training patient gets one vendor, so that vendors and labels are
    mixed as in M&Ms, and each validation and test patient appears once for every vendor, as cases of their
    own: the same hearts under every scanner. Their errors hang together, so **patients, not cases, are the unit** of
    every interval and test. The scanners are simulated while preprocessing; here they are only assigned.

    Args:
        root: the folder that holds ``training``, or one that contains it (``database``).
        classes: class names in order, of ``CLASSES``.
        group_by: columns of a group.
        fractions: share of each section. With the official testing part, that is the test section, and
            training is divided by the first two shares.
        seed: chooses the patients, their vendors, and the seed of each simulation.
        simulate_scanners: ``"mnms"``, or ``None`` for the images as they are.
        progress: whether to show a progress bar.

    Returns:
        The datalist. Every patient's folder is either a case (or several) or in ``set_aside``,
        even if that leaves no case.

    Raises:
        FileNotFoundError: if there is no patient's folder.
        ValueError: if a class, column or simulation is not known.

    Source: layout and label codes from the challenge; vendor shares from the table of Campello et al. 2021.
    """
    _check(classes, group_by, simulate_scanners)
    found, set_aside, notes = _gather(Path(root).resolve(), classes, progress=progress)
    sections, kept = _divide(found, group_by, fractions, seed)
    if simulate_scanners:
        sections = simulate_like_mnms(sections, seed=seed)
    return Datalist(
        classes=tuple(classes),
        source="ACDC with simulated scanners" if simulate_scanners else "ACDC",
        group_by=tuple(group_by),
        sections=sections,
        created_with=created_with(),
        set_aside=tuple(set_aside),
        notes=(*notes, *map(kept_note, kept)),
    )


def simulate_like_mnms(sections: Mapping[str, Sequence[Case]], *, seed: int) -> Sections:
    """Assign scanners of M&Ms' four vendors to cases.

    Args:
        sections: cases by section, one per patient.
        seed: chooses the vendors and the seed of each simulation.

    Returns:
        In training one case per patient: of each label, vendors by M&Ms' shares of that label (of all its
        patients, where M&Ms lacks the label), by largest remainder. In validation and test one case per patient
        and vendor. Case ids are ``<case>-<vendor>``.
    """
    by_label: dict[str, dict[str, Case]] = {}
    for case in ordered(sections["training"]):
        by_label.setdefault(case.label, {})[case.case_id] = case
    training = []
    for label, cases in by_label.items():
        shares = MNMS_VENDOR_COUNTS_OF_LABEL.get(label, MNMS_VENDOR_COUNTS)
        counts = largest_remainder(len(cases), shares)
        vendors = [vendor for vendor, count in counts.items() for _ in range(count)]
        names = shuffled(list(cases), seed=seed, name=f"vendors of {label}")
        training += [_simulated(cases[name], vendor, seed) for name, vendor in zip(names, vendors, strict=True)]
    every = {
        section: [_simulated(case, vendor, seed) for case in sections[section] for vendor in MNMS_VENDOR_COUNTS]
        for section in ("validation", "test")
    }
    return {"training": ordered(training)} | {section: ordered(cases) for section, cases in every.items()}


def _simulated(case: Case, vendor: str, seed: int) -> Case:
    case_id = f"{case.case_id}-{vendor}"
    scanner = Scanner(vendor, site=f"simulated-{vendor}")
    return replace(
        case,
        case_id=case_id,
        site=scanner.site,
        vendor=vendor,
        scanner=scanner.name,
        simulated={"vendor": vendor, "seed": zlib.crc32(f"{seed} {case_id}".encode())},
    )


def _divide(
    found: Mapping[str, Sequence[Case]], group_by: Sequence[str], fractions: Mapping[str, float], seed: int
) -> tuple[Sections, list[str]]:
    """Keep the official testing part if it is there, else split everybody."""
    if found["test"]:
        return carve_validation(found, group_by=group_by, fractions=fractions, seed=seed)
    return stratified_split(found["training"], group_by=group_by, fractions=fractions, seed=seed)


def _check(classes: Sequence[str], group_by: Sequence[str], simulate_scanners: str | None) -> None:
    check_group_by(group_by)
    for name in classes:
        if name not in CLASSES:
            raise ValueError(f"ACDC has no class {name!r}; {nearest(name, CLASSES)}")
    if simulate_scanners not in {None, "mnms"}:
        raise ValueError(f"simulate_scanners must be 'mnms' or None; got {simulate_scanners!r}")


def _gather(
    root: Path, classes: Sequence[str], *, progress: bool
) -> tuple[dict[str, list[Case]], list[dict[str, str]], list[str]]:
    """Cases by the challenge's part, what was set aside, notes."""
    found: dict[str, list[Case]] = {section: [] for section in FOLDERS.values()}
    set_aside, notes = [], []
    for section, folder in tqdm(_patient_folders(root), desc="ACDC", unit="study", disable=not progress):
        try:
            case, said = _take(folder, classes)
        except SetAsideError as reason:
            set_aside.append({"case_id": folder.name, "reason": str(reason)})
        else:
            found[section].append(case)
            notes += [f"{case.case_id}: {note}" for note in said]
    return found, set_aside, notes


def _patient_folders(root: Path) -> list[tuple[str, Path]]:
    for base in (root, root / "database"):
        parts = [(section, base / name) for name, section in FOLDERS.items() if (base / name).is_dir()]
        folders = [(section, path) for section, part in parts for path in sorted(part.iterdir()) if path.is_dir()]
        if folders:
            return folders
    raise FileNotFoundError(f"no ACDC patients in {root}; it must hold training/patientNNN")


def _take(folder: Path, classes: Sequence[str]) -> tuple[Case, list[str]]:
    info = _read_info(folder / "Info.cfg")
    if info["Group"] not in classes:
        raise SetAsideError(f"group {info['Group']} is not among the classes")
    frames = {"ed": _frame(info, "ED"), "es": _frame(info, "ES")}
    if frames["ed"] == frames["es"]:
        raise SetAsideError(f"ED and ES are the same frame: {frames['ed']}")
    images, shape, notes = _images(folder, frames)
    masks, mask_notes = _masks(folder, frames, shape)
    case = Case(
        case_id=folder.name,
        patient_id=folder.name,
        label=info["Group"],
        site=SCANNER.site,
        vendor=SCANNER.vendor,
        scanner=SCANNER.name,
        height_cm=_positive(info.get("Height")),
        weight_kg=_positive(info.get("Weight")),
        image_ed=images["ed"],
        image_es=images["es"],
        mask_ed=masks.get("ed"),
        mask_es=masks.get("es"),
    )
    return case, [*notes, *mask_notes]


def _images(folder: Path, frames: Mapping[str, int]) -> tuple[dict[str, Path], tuple[int, ...], list[str]]:
    """Paths by phase, the shape of both, warnings on them."""
    paths, headers = {}, []
    for phase, frame in frames.items():
        path = find_image(folder, _stem(folder, frame))
        if path is None:
            raise SetAsideError(f"frame has no image: {_stem(folder, frame)}.nii.gz")
        paths[phase] = path
        headers.append(read_header(path, dimensions=3))
    shapes = [header.shape for header in headers]
    if shapes[0] != shapes[1]:
        raise SetAsideError(f"ED and ES have unlike shapes: {shapes[0]} and {shapes[1]}")
    return paths, shapes[0], list(dict.fromkeys(warning for header in headers for warning in header.warnings))


def _masks(folder: Path, frames: Mapping[str, int], shape: tuple[int, ...]) -> tuple[dict[str, Path], list[str]]:
    """Masks of both phases, or none."""
    masks: dict[str, Path] = {}
    for phase, frame in frames.items():
        mask, notes = find_mask(folder, f"{_stem(folder, frame)}_gt", shape=shape)
        if mask is None:
            return {}, notes
        masks[phase] = mask
    return masks, []


def _stem(folder: Path, frame: int) -> str:
    return f"{folder.name}_frame{frame:02d}"


def _read_info(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise SetAsideError("folder has no Info.cfg")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    info = {key.strip(): value.strip() for key, value in pairs}
    missing = [key for key in REQUIRED_KEYS if not info.get(key)]
    if missing:
        raise SetAsideError(f"Info.cfg lacks {', '.join(missing)}")
    return info


def _frame(info: Mapping[str, str], key: str) -> int:
    """Frame number from 1, as in the file names."""
    if not info[key].isdecimal() or int(info[key]) < 1:
        raise SetAsideError(f"{key} in Info.cfg is no frame number from 1: {info[key]!r}")
    return int(info[key])


def _positive(text: str | None) -> float | None:
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
