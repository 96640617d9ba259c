"""True anatomy of phantom hearts: drawn per pathology, with overlap, from densities that are known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

PATHOLOGIES = ("NOR", "HCM", "DCM")

# Normal densities cut off at common limits, independent within a pathology: (mean, SD). Near the literature for
# healthy adults (Kawel-Boehm et al., J Cardiovasc Magn Reson 2020;22:87) and near the ranges that define the two
# diseases, pulled together until a reader of the true anatomy errs in about one study of twenty.
_DENSITIES: dict[str, dict[str, tuple[float, float]]] = {
    "lv_edv_ml_per_m2": {"NOR": (78, 13), "HCM": (74, 14), "DCM": (113, 20)},
    "lv_ef_percent": {"NOR": (61, 5.5), "HCM": (65, 6.5), "DCM": (39, 9)},
    "septal_wall_mm": {"NOR": (8.8, 1.4), "HCM": (14.6, 2.8), "DCM": (8.6, 1.5)},
    "lateral_wall_mm": {"NOR": (7.6, 1.2), "HCM": (9.2, 1.8), "DCM": (7.6, 1.3)},
    "rv_edv_ml_per_m2": {"NOR": (83, 14), "HCM": (77, 14), "DCM": (90, 19)},
    "rv_ef_percent": {"NOR": (58, 6), "HCM": (61, 7), "DCM": (47, 10)},
}
_LIMITS: dict[str, tuple[float, float]] = {
    "lv_edv_ml_per_m2": (45, 190),
    "lv_ef_percent": (12, 80),
    "septal_wall_mm": (5.5, 26),
    "lateral_wall_mm": (4.5, 16),
    "rv_edv_ml_per_m2": (45, 160),
    "rv_ef_percent": (18, 80),
}


@dataclass(frozen=True)
class Anatomy:
    """One heart, as it is: volumes indexed to body surface [mL/m2], walls at end-diastole [mm]."""

    body_surface_m2: float
    lv_edv_ml_per_m2: float
    lv_ef_percent: float
    septal_wall_mm: float
    lateral_wall_mm: float
    rv_edv_ml_per_m2: float
    rv_ef_percent: float

    @property
    def lv_edv_ml(self) -> float:
        """Left ventricular end-diastolic volume [mL]."""
        return self.lv_edv_ml_per_m2 * self.body_surface_m2

    @property
    def lv_esv_ml(self) -> float:
        """Left ventricular end-systolic volume [mL]."""
        return self.lv_edv_ml * (1 - self.lv_ef_percent / 100)

    @property
    def rv_edv_ml(self) -> float:
        """Right ventricular end-diastolic volume [mL]."""
        return self.rv_edv_ml_per_m2 * self.body_surface_m2

    @property
    def rv_esv_ml(self) -> float:
        """Right ventricular end-systolic volume [mL]."""
        return self.rv_edv_ml * (1 - self.rv_ef_percent / 100)


def draw_anatomy(pathology: str, rng: np.random.Generator, *, body_surface_m2: float) -> Anatomy:
    """Draw a heart of one pathology.

    Args:
        pathology: one of ``PATHOLOGIES``.
        rng: source of chance.
        body_surface_m2: of the patient; volumes scale with it.

    Returns:
        The heart.

    Raises:
        ValueError: if the pathology has no densities.
    """
    if pathology not in PATHOLOGIES:
        raise ValueError(f"pathology must be one of {list(PATHOLOGIES)}; got {pathology!r}")
    drawn = {name: _draw_within(rng, *_DENSITIES[name][pathology], *_LIMITS[name]) for name in _DENSITIES}
    return Anatomy(body_surface_m2=body_surface_m2, **drawn)


def class_probabilities(anatomy: Anatomy) -> dict[str, float]:
    """Probability of each pathology given the true anatomy, all pathologies being equally common beforehand.

    The best that any reader can do on a balanced cohort is to name the most probable one.

    Returns:
        One value per name in ``PATHOLOGIES``; they sum to 1.
    """
    logs = np.array([_log_density(anatomy, pathology) for pathology in PATHOLOGIES])
    shares = np.exp(logs - logs.max())
    return dict(zip(PATHOLOGIES, map(float, shares / shares.sum()), strict=True))


def _draw_within(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    while not low <= (value := float(rng.normal(mean, sd))) <= high:
        pass
    return value


def _log_density(anatomy: Anatomy, pathology: str) -> float:
    """Log density of the six measures, each a normal cut off at its limits, up to a shared constant."""
    total = 0.0
    for name, densities in _DENSITIES.items():
        mean, sd = densities[pathology]
        inside = [0.5 * math.erf((limit - mean) / (sd * math.sqrt(2))) for limit in _LIMITS[name]]
        total -= 0.5 * ((getattr(anatomy, name) - mean) / sd) ** 2 + math.log(sd * (inside[1] - inside[0]))
    return total
