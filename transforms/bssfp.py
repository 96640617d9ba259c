"""Signal of a balanced steady-state gradient echo, the sequence of cine MRI, for the tissues of the chest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tissue:
    """Relaxation times [ms] at 1.5 and 3 T, and proton density relative to water."""

    t1_ms: tuple[float, float]
    t2_ms: tuple[float, float]
    proton_density: float

    def at(self, field_strength_t: float) -> tuple[float, float, float]:
        """T1 [ms], T2 [ms] and proton density; linear between 1.5 and 3 T, constant outside."""
        t1_ms, t2_ms = (float(np.interp(field_strength_t, (1.5, 3.0), times)) for times in (self.t1_ms, self.t2_ms))
        return t1_ms, t2_ms, self.proton_density


# Approximate literature values, rounded. Blood, liver and muscle after Stanisz et al., Magn Reson Med 2005;54:507 and
# de Bazelaire et al., Radiology 2004;230:652; myocardium after in-vivo mapping (T1 about 1000 ms at 1.5 T and 1200 ms
# at 3 T); subcutaneous fat after Gold et al., AJR 2004;183:343; lung is a guess whose low proton density decides.
TISSUES: dict[str, Tissue] = {
    "blood": Tissue((1550.0, 1900.0), (250.0, 220.0), 0.95),
    "myocardium": Tissue((1000.0, 1180.0), (50.0, 45.0), 0.8),
    "fat": Tissue((340.0, 380.0), (70.0, 68.0), 0.9),
    "liver": Tissue((580.0, 810.0), (46.0, 34.0), 0.7),
    "muscle": Tissue((1000.0, 1400.0), (40.0, 38.0), 0.8),
    "lung": Tissue((1200.0, 1350.0), (40.0, 35.0), 0.2),
}


def bssfp_signal(
    t1_ms: float, t2_ms: float, proton_density: float, *, flip_angle_deg: float, tr_ms: float, te_ms: float
) -> float:
    r"""Steady-state signal of a balanced gradient echo, on resonance.

    .. math:: S = \rho \sin\alpha \frac{1 - E_1}{1 - (E_1 - E_2)\cos\alpha - E_1 E_2} e^{-TE/T_2},
        \quad E_i = e^{-TR/T_i}

    Args:
        t1_ms: longitudinal relaxation time [ms].
        t2_ms: transverse relaxation time [ms].
        proton_density: relative to water, dimensionless.
        flip_angle_deg: excitation angle [degrees].
        tr_ms: repetition time [ms].
        te_ms: echo time [ms].

    Returns:
        Transverse magnetisation as a share of that of water at equilibrium.

    Raises:
        ValueError: if a time is not positive.

    Source: Scheffler & Lehnhardt, Eur Radiol 2003;13:2409, equation for alternating phases.
    """
    if min(t1_ms, t2_ms, tr_ms, te_ms) <= 0:
        raise ValueError(f"times must be positive [ms]; got T1 {t1_ms}, T2 {t2_ms}, TR {tr_ms}, TE {te_ms}")
    angle = np.deg2rad(flip_angle_deg)
    e1, e2 = np.exp(-tr_ms / t1_ms), np.exp(-tr_ms / t2_ms)
    steady = np.sin(angle) * (1 - e1) / (1 - (e1 - e2) * np.cos(angle) - e1 * e2)
    return float(proton_density * steady * np.exp(-te_ms / t2_ms))
