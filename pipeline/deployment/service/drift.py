"""Whether what is read looks like what was audited: counts by vendor, and the population stability index.

It compares distributions of what the student says. It knows no truth: a change calls for a look, and no change is no
proof of accuracy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.deployment.service.database import Database
from pipeline.deployment.service.log import EVERYBODY
from pipeline.deployment.service.reading import Summary
from pipeline.deployment.service.settings import Drift
from pipeline.deployment.service.store import Tally

CLASS, CONFIDENCE, VENDOR = "predicted_class", "max_probability", "vendor"
BINS = 10
HALF = 0.5  # added to each count, so that an empty bin has a logarithm
DAY_S = 86_400


@dataclass(frozen=True)
class Stability:
    """One comparison.

    Attributes:
        vendor: whose studies, or ``all``.
        measure: ``predicted_class``, ``max_probability`` or ``vendor``.
        n: readings in the window; a study that was read again counts again.
        index: ``None`` where there are too few, or the package has no reference.
        reference: whose audited studies they are compared with: the vendor's own, or ``all``; empty without an index.
    """

    vendor: str
    measure: str
    n: int
    index: float | None
    reference: str = ""


def tallies_of(summary: Summary) -> list[Tally]:
    """Counts that a reading raises; none for a refusal."""
    if not summary.probabilities:
        return []
    predicted = max(summary.probabilities, key=lambda name: summary.probabilities[name])
    tenth = min(int(summary.probabilities[predicted] * BINS), BINS - 1)
    return [(summary.vendor, CLASS, predicted), (summary.vendor, CONFIDENCE, str(tenth))]


def population_stability(counts: Sequence[int], shares: Sequence[float], n_reference: int) -> float:
    r"""Population stability index of counts against a reference.

    .. math:: \sum_b (p_b - q_b) \ln(p_b / q_b), \quad p_b = \frac{n_b + 1/2}{n + B/2}, \quad
        q_b = \frac{m s_b + 1/2}{m + B/2}

    Args:
        counts: ``(B,)``, :math:`n_b`.
        shares: ``(B,)``, :math:`s_b`, which sum to 1.
        n_reference: :math:`m`, studies behind the shares.

    Returns:
        0 for the same distribution; by custom, above 0.25 is much. Without any change its mean is about
        :math:`(B - 1)(1/n + 1/m)`.

    Example:
        >>> round(population_stability([90, 10], [0.5, 0.5], 1_000_000), 2)
        0.85

    Source: Yurdakul & Naranjo 2020, J. Risk Model Validation 14(4), for its distribution.
    """
    n, bins = sum(counts), len(counts)
    index = 0.0
    for count, share in zip(counts, shares, strict=True):
        p = (count + HALF) / (n + HALF * bins)
        q = (n_reference * share + HALF) / (n_reference + HALF * bins)
        index += (p - q) * math.log(p / q)
    return index


def stabilities(
    database: Database, package: str, reference: Mapping[str, Any] | None, settings: Drift, now: float | None = None
) -> list[Stability]:
    """Compare a window's readings with the package's reference, vendor by vendor and all together.

    A vendor is compared with its own audited studies, if they are as many as its readings must be. With fewer, chance
    alone would raise the index; it is compared with all audited studies then, and has an index to begin with if its
    patients differed from the others' even in the audit.

    Args:
        database: with tallies.
        package: digest of the package; what another has read is left out.
        reference: of the package: ``n_cases``, ``classes``, ``features``, ``groups``, ``vendors``.
        settings: window, and how many studies it takes.
        now: seconds since 1970.

    Returns:
        One entry per vendor that was read, and for all, and measure.
    """
    since = time.strftime("%Y-%m-%d", time.gmtime((time.time() if now is None else now) - settings.window_days * DAY_S))
    rows = database.rows(
        "SELECT vendor, measure, bin, sum(n) AS n FROM tallies WHERE day > ? AND package = ? "
        "GROUP BY vendor, measure, bin",
        since,
        package,
    )
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for row in rows:
        for vendor in (row["vendor"], EVERYBODY):
            found = counts.setdefault((vendor, row["measure"]), {})
            found[row["bin"]] = found.get(row["bin"], 0) + row["n"]
        if row["measure"] == CLASS:
            found = counts.setdefault((EVERYBODY, VENDOR), {})
            found[row["vendor"]] = found.get(row["vendor"], 0) + row["n"]
    return [
        _compare(vendor, measure, found, reference or {}, settings.min_studies)
        for (vendor, measure), found in sorted(counts.items())
    ]


def _compare(
    vendor: str, measure: str, counts: Mapping[str, int], reference: Mapping[str, Any], least: int
) -> Stability:
    n, own = sum(counts.values()), reference.get("vendors", {}).get(vendor, {})
    whose, audited = (vendor, own) if own.get("n_cases", 0) >= least else (EVERYBODY, reference)
    shares = _expected(audited).get(measure, {})
    if not shares or n < least:
        return Stability(vendor, measure, n, None)
    bins = sorted(b for b in {*shares, *counts} if counts.get(b) or shares.get(b))  # tenths below 1 / classes are none
    index = population_stability(
        [counts.get(b, 0) for b in bins], [shares.get(b, 0.0) for b in bins], int(audited["n_cases"])
    )
    return Stability(vendor, measure, n, index, whose)


def _expected(audited: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Shares by measure and bin, as far as the package has them."""
    tenths = audited.get("features", {}).get(CONFIDENCE, [])
    return {
        CLASS: dict(audited.get("classes", {})),
        CONFIDENCE: {str(number): share for number, share in enumerate(tenths)},
        VENDOR: dict(audited.get("groups", {}).get("vendor", {})),
    }
