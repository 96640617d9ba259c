"""Who is in a phantom cohort: studies per vendor and pathology, and every drawn property of each study.

Anatomy, scanner and noise come from streams of chance of their own, so that a cohort with another appearance has the
same hearts, and a study does not depend on how many others there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.cohort.phantom_anatomy import PATHOLOGIES, Anatomy, draw_anatomy
from pipeline.cohort.phantom_heart import Pose
from transforms.simulate import Appearance, draw_appearance

VENDORS = ("Siemens", "Philips", "GE", "Canon")
MINORITY_VENDORS = ("GE", "Canon")
OWN_PATHOLOGY = {"Siemens": "DCM", "Philips": "NOR", "GE": "HCM", "Canon": "HCM"}  # of an aligned table
MNMS_COUNTS = np.array([[22, 25, 37], [65, 51, 5], [21, 8, 0], [14, 15, 9]])  # (vendors, pathologies), M&Ms' own

Part = Literal["Training", "Testing"]
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_ED_FIRST = {"Siemens": 67 / 75, "Philips": 10 / 75, "GE": 0.9, "Canon": 0.9}  # M&Ms' sheet; the last two are guesses
_STORAGE_QUIRKS = ("reversed slices", "flipped columns", "flipped rows")
_STORAGE_QUIRK_SHARE = 0.08


@dataclass(frozen=True)
class Settings:
    """What decides a cohort. Two cohorts of equal settings are equal byte by byte; see :func:`write_phantom`."""

    seed: int = 0
    studies: int | None = None
    minority_share: float = 1.0
    confounding: float = 1.0
    strength: float = 1.0
    test_per_cell: int = 12
    full_size: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0 or self.test_per_cell < 0:
            raise ValueError(f"seed and test_per_cell must be at least 0; got {self.seed} and {self.test_per_cell}")
        if not 0.0 <= self.minority_share < np.inf:
            raise ValueError(f"minority_share must be a finite number of at least 0; got {self.minority_share}")
        if not 0.0 <= self.confounding <= 1.0:
            raise ValueError(f"confounding must lie in [0, 1]; got {self.confounding}; 1 is M&Ms' own")
        if not 0.0 <= self.strength < np.inf:
            raise ValueError(f"strength must be a finite number of at least 0; got {self.strength}")


@dataclass(frozen=True)
class Study:
    """One phantom study, drawn but not yet rendered; frames are those of the stored file."""

    code: str
    part: Part
    index: int
    vendor: str
    pathology: str
    site: int
    sex: str
    age: int
    height_cm: float | None
    weight_kg: float | None
    anatomy: Anatomy
    pose: Pose
    appearance: Appearance
    ed: int
    es: int
    storage: str
    axes: NDArray[np.float64]
    origin_mm: NDArray[np.float64]


def training_counts(settings: Settings) -> NDArray[np.int_]:
    """Training studies per vendor and pathology.

    The minority vendors' rows are multiplied by their share; then the table moves towards the one in which vendor and
    pathology are independent, vendor totals fixed; then it is scaled to ``studies``, with at least one in each cell
    that had any.

    Returns:
        ``(4, 3)``, vendors in the order of ``VENDORS``, pathologies in that of ``PATHOLOGIES``.

    Raises:
        ValueError: if ``studies`` is below the number of cells to fill.
    """
    share = [settings.minority_share if vendor in MINORITY_VENDORS else 1.0 for vendor in VENDORS]
    wanted = MNMS_COUNTS * np.array(share)[:, None]
    independent = wanted.sum(1, keepdims=True) * wanted.sum(0, keepdims=True) / wanted.sum()
    mixed = settings.confounding * wanted + (1 - settings.confounding) * independent
    counts = np.stack([largest_remainder(row, round(row.sum())) for row in mixed])
    if settings.studies is None:
        return counts
    filled = counts > 0
    if settings.studies < filled.sum():
        raise ValueError(
            f"studies must be at least {filled.sum()}, one per vendor and pathology present; got {settings.studies}"
        )
    scaled = counts * settings.studies / counts.sum()
    at_least_one = np.where(filled, np.maximum(scaled, 1.0), 0.0)
    spare = settings.studies - filled.sum()
    above = at_least_one - filled
    return filled + largest_remainder(above * (spare / max(above.sum(), 1e-9)), int(spare))


def aligned_counts(studies: int, *, alignment: float, minority_share: float) -> NDArray[np.int_]:
    """Training studies per vendor and pathology where each vendor has a pathology of its own, as a shortcut to learn.

    Siemens and Philips have equal parts, GE and Canon ``minority_share`` of such a part. Of each vendor's studies the
    share ``alignment`` has its own pathology (Siemens DCM, Philips NOR, GE and Canon HCM), the others split the rest.

    Args:
        studies: in total.
        alignment: 1/3 leaves vendor and pathology independent, 1 makes the vendor tell the pathology.
        minority_share: positive.

    Returns:
        ``(4, 3)``, vendors in the order of ``VENDORS``, pathologies in that of ``PATHOLOGIES``.

    Raises:
        ValueError: if ``alignment`` is not in [1/3, 1] or ``minority_share`` not positive.

    Example:
        >>> aligned_counts(400, alignment=0.9, minority_share=1.0).tolist()
        [[5, 5, 90], [90, 5, 5], [5, 90, 5], [5, 90, 5]]
    """
    if not 1 / 3 - 1e-9 <= alignment <= 1 or not minority_share > 0:
        raise ValueError(
            f"alignment must lie in [1/3, 1] and minority_share be positive; got {alignment} and {minority_share}"
        )
    parts = np.array([minority_share if vendor in MINORITY_VENDORS else 1.0 for vendor in VENDORS])
    own = np.array([[float(OWN_PATHOLOGY[vendor] == name) for name in PATHOLOGIES] for vendor in VENDORS])
    shares = own * alignment + (1 - own) * (1 - alignment) / 2
    return largest_remainder(shares * parts[:, None] * studies / parts.sum(), studies)


def largest_remainder(shares: NDArray[np.float64], total: int) -> NDArray[np.int_]:
    """Whole numbers near ``shares`` that sum to ``total``: round down, then up where most was lost.

    Args:
        shares: any shape, at least 0, summing to about ``total``.
        total: the sum wanted.

    Returns:
        Integers, the shape of ``shares``.

    Example:
        >>> largest_remainder(np.array([1.5, 1.25, 0.25]), 3).tolist()
        [2, 1, 0]
    """
    counts = np.floor(shares + 1e-9).astype(int)
    order = np.argsort(-(shares - counts), axis=None, kind="stable")
    counts.flat[order[: total - int(counts.sum())]] += 1
    return counts


def draw_studies(settings: Settings) -> list[Study]:
    """Draw every study of a cohort, training part first; nothing is rendered yet."""
    counts: dict[Part, NDArray[np.int_]] = {
        "Training": training_counts(settings),
        "Testing": np.full_like(MNMS_COUNTS, settings.test_per_cell),
    }
    cells: list[tuple[Part, int, str, str]] = []
    for part, table in counts.items():
        flat = [(v, p) for i, v in enumerate(VENDORS) for j, p in enumerate(PATHOLOGIES) for _ in range(table[i, j])]
        cells += [(part, index, vendor, pathology) for index, (vendor, pathology) in enumerate(flat)]
    codes = _draw_codes(len(cells), stream(settings, 2, 0, 0))
    return [_draw_study(settings, code, *cell) for code, cell in zip(codes, cells, strict=True)]


def stream(settings: Settings, *key: int) -> np.random.Generator:
    """A stream of chance of its own for each key: (part, study, purpose)."""
    return np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=key))


def study_stream(settings: Settings, part: Part, index: int, purpose: int) -> np.random.Generator:
    """Chance for one study: purpose 0 anatomy and pose, 1 scanner, 2 storage, 3 organs, texture, coil and noise."""
    return stream(settings, 0 if part == "Training" else 1, index, purpose)


def _draw_study(settings: Settings, code: str, part: Part, index: int, vendor: str, pathology: str) -> Study:
    rng = study_stream(settings, part, index, 0)
    person = _draw_person(rng)
    anatomy = draw_anatomy(pathology, rng, body_surface_m2=person["body_surface_m2"])
    pose = _draw_pose(anatomy, rng, full_size=settings.full_size)
    appearance = draw_appearance(vendor, study_stream(settings, part, index, 1), strength=settings.strength)
    rng = study_stream(settings, part, index, 2)
    shift = 0 if rng.random() < _ED_FIRST[vendor] else -1  # -1: the file begins one frame late, ED comes last
    odd = rng.random() < _STORAGE_QUIRK_SHARE and part == "Training"
    return Study(
        code=code,
        part=part,
        index=index,
        vendor=vendor,
        pathology=pathology,
        site=_draw_site(vendor, rng),
        sex="F" if person["female"] else "M",
        age=int(rng.integers(18, 80)),
        height_cm=None if rng.random() < 0.1 else round(person["height_cm"], 0),
        weight_kg=None if rng.random() < 0.04 else round(person["weight_kg"], 0),
        anatomy=anatomy,
        pose=pose,
        appearance=appearance,
        ed=shift % pose.phases,
        es=pose.es + shift,
        storage=str(rng.choice(_STORAGE_QUIRKS)) if odd else "plain",
        axes=_draw_axes(rng),
        origin_mm=rng.normal((-30.0, 25.0, 10.0), 12.0),
    )


def _draw_person(rng: np.random.Generator) -> dict[str, float]:
    """Body surface by Mosteller's formula (N Engl J Med 1987;317:1098)."""
    female = rng.random() < 0.4
    height_cm = float(np.clip(rng.normal(164 if female else 177, 7), 145, 205))
    weight_kg = float(np.clip(rng.normal(26, 4), 17, 42)) * (height_cm / 100) ** 2
    surface = float(np.sqrt(height_cm * weight_kg / 3600))
    return {"female": female, "height_cm": height_cm, "weight_kg": weight_kg, "body_surface_m2": surface}


def _draw_pose(anatomy: Anatomy, rng: np.random.Generator, *, full_size: bool) -> Pose:
    size = float(np.sqrt(anatomy.body_surface_m2 / 1.9))
    long_axis_mm = 84.0 * (anatomy.lv_edv_ml / 150) ** (1 / 3) * float(np.exp(rng.normal(0, 0.05)))
    slice_mm = float(rng.choice([8.0, 9.0, 10.0])) if full_size else 10.0
    first_mm = float(rng.uniform(-0.6, 0.4)) * slice_mm
    phases = 25 if full_size else 10
    angle, radius = rng.uniform(0, 2 * np.pi), 25 * np.sqrt(rng.random())
    pixels = 256 if full_size else 88
    return Pose(
        rows=pixels,
        cols=pixels,
        slices=int(np.ceil((long_axis_mm + 5 - first_mm) / slice_mm)),
        phases=phases,
        spacing_mm=round(float(rng.uniform(1.2, 1.4) if full_size else rng.uniform(2.35, 2.65)), 3),
        slice_spacing_mm=slice_mm,
        first_slice_mm=first_mm,
        es=round(phases * float(rng.uniform(0.35, 0.4))),
        centre_mm=(float(radius * np.cos(angle)), float(radius * np.sin(angle))),
        tilt=(float(rng.normal(0, 0.05)), float(rng.normal(0, 0.05))),
        septum_rad=float(np.pi + np.deg2rad(rng.normal(0, 14))),
        long_axis_mm=long_axis_mm,
        fat_mm=float(rng.gamma(4.0, 0.6)),
        body=(152 * size, 106 * size, float(np.clip(rng.normal(17, 5), 7, 32))),
    )


def _draw_site(vendor: str, rng: np.random.Generator) -> int:
    philips = 2 if rng.random() < 74 / 125 else 3
    return {"Siemens": 1, "Philips": philips, "GE": 4, "Canon": 5}[vendor]


def _draw_axes(rng: np.random.Generator) -> NDArray[np.float64]:
    """Unit vectors of columns, rows and slices (in the columns of a matrix) in RAS.

    The slices go to the apex: left, anterior, inferior. The columns go left and posterior, the rows inferior.
    """
    normal = np.array([-0.6, 0.6, -0.5]) + rng.normal(0, 0.06, size=3)
    normal /= np.linalg.norm(normal)
    column = np.array([-0.7, -0.7, 0.0]) + rng.normal(0, 0.06, size=3)
    column -= normal * (normal @ column)
    column /= np.linalg.norm(column)
    return np.stack([column, np.cross(column, normal), normal], axis=1)


def _draw_codes(n: int, rng: np.random.Generator) -> list[str]:
    codes: dict[str, None] = {}
    while len(codes) < n:
        letters, digits = rng.integers(len(_LETTERS), size=3), rng.integers(10, size=3)
        codes["".join(f"{_LETTERS[a]}{b}" for a, b in zip(letters, digits, strict=True))] = None
    return list(codes)
