"""The audit where every patient was seen on every scanner: how often it errs, and how often it sees a difference.

    python -m benchmarks.audit_crossed [--repeats 4000] [--permutations 499]

Patients and scans add normal noise; right or wrong cuts it. Peers: the same rows taken for those of different patients,
and, of the interval of a difference, Student's t of the patients' own differences. ``±`` is two Monte-Carlo standard
errors. AUC and the lowest value take a quarter of the repeats; 4,000 take some ten minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.audit_size import rate
from pipeline.audit.arms import Arm, proportion_arm, shared_error
from pipeline.audit.contrast_tests import mean_p_values
from pipeline.audit.design import BETWEEN, WITHIN
from pipeline.audit.differences import difference_of_arms
from pipeline.audit.intervals import mean_interval
from pipeline.audit.scanner_effect import scanner_effect, scanner_effect_auc
from pipeline.audit.statistics import FloatArray, Sample
from pipeline.audit.worst import shrink, worst_interval

SCANNERS, PATIENTS = 4, 20
OWN = 0.7  # share of the variance that is the patient's
SETTINGS = (  # patients, right on three scanners, on the fourth, and the patient's share of the variance
    (20, 0.65, 0.65, 0.7),
    (20, 0.9, 0.9, 0.9),
    (20, 0.9, 0.7, 0.7),
    (60, 0.95, 0.95, 0.7),
)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--permutations", type=int, default=499)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, repeats, permutations = np.random.default_rng(arguments.seed), arguments.repeats, arguments.permutations
    print(f"{repeats} repeats, {permutations} permutations, {PATIENTS} patients on {SCANNERS} scanners")
    for part in (
        effects(rng, repeats, permutations),
        areas(rng, max(1, repeats // 4), permutations),
        intervals(rng, repeats),
        worst(rng, max(1, repeats // 4)),
    ):
        for line in part:
            print(line, flush=True)


def scans(rng: np.random.Generator, patients: int = PATIENTS, own: float = OWN) -> FloatArray:
    """A standard normal value per patient and scanner."""
    shared, apart = rng.normal(size=(patients, 1)), rng.normal(size=(patients, SCANNERS))
    return np.asarray(math.sqrt(own) * shared + math.sqrt(1 - own) * apart)


def below(share: float) -> float:
    """Where a standard normal has this share below it."""
    return NormalDist().inv_cdf(share)


def effects(rng: np.random.Generator, repeats: int, permutations: int) -> Iterator[str]:
    """Any effect, within patients and as if they were different ones; any contrast after Holm."""
    yield "scanner effect: within patients | rows as different patients | any Holm contrast"
    for name, cut in (
        ("none: 0.65 right", [0.65] * 4),
        ("none: 0.95 right", [0.95] * 4),
        ("one of four: 0.85 becomes 0.65", [0.85] * 3 + [0.65]),
    ):
        chances = np.array([below(share) for share in cut])
        called = Counter[str]()
        for _ in range(repeats):
            called.update(tested(scans(rng) < chances, rng, permutations))
        yield f"  {name:48} {shown(called, repeats)}"
    for spread in (3, 10):
        called = Counter[str]()
        for _ in range(repeats):
            called.update(tested(scans(rng) * [1, 1, 1, spread], rng, permutations))
        yield f"  {f'none: Dice, one scanner {spread} x as noisy':48} {shown(called, repeats)}"
    called = Counter[str]()
    for _ in range(repeats):
        seen = np.argsort(rng.random((PATIENTS, SCANNERS)), axis=1) < 2
        called.update(tested(np.asarray(np.where(seen, scans(rng), np.nan)), rng, permutations))
    yield f"  {'none: Dice, each patient on two of the four':48} {shown(called, repeats)}"


def shown(called: Counter[str], repeats: int) -> str:
    """Rates side by side."""
    return " | ".join(rate(called[kind], repeats) for kind in ("within", "apart", "contrast"))


def tested(values: FloatArray | NDArray[np.bool_], rng: np.random.Generator, permutations: int) -> dict[str, bool]:
    """Which tests reject at 5 %."""
    groups, flat = np.tile(np.arange(SCANNERS), len(values)), values.ravel() * 1.0
    patients = np.repeat(np.arange(len(values)), SCANNERS)
    inside = scanner_effect(flat, patients, groups, rng=rng, permutations=permutations, design=WITHIN)
    apart = scanner_effect(flat, np.arange(flat.size), groups, rng=rng, permutations=permutations, design=BETWEEN)
    p_values = mean_p_values(flat, patients, groups, rng=rng, permutations=permutations, design=WITHIN)
    smallest = SCANNERS * min(p_values.values())
    return {"within": inside.p <= 0.05, "apart": apart.p <= 0.05, "contrast": smallest <= 0.05}


def areas(rng: np.random.Generator, repeats: int, permutations: int) -> Iterator[str]:
    """AUC within patients: identical scanners, scanners that shift or stretch the scores, one that reads worse."""
    yield "scanner effect on the AUC, 40 patients, half positive:"
    labels, groups = np.repeat(np.tile([0, 1], 20), SCANNERS), np.tile(np.arange(SCANNERS), 40)
    patients = np.repeat(np.arange(40), SCANNERS)
    for name, shift, stretch, lost in (
        ("none", 0.0, 1.0, 0.0),
        ("none: two scanners shift the scores by 1", 1.0, 1.0, 0.0),
        ("none: two scanners stretch the scores 3 x", 0.0, 3.0, 0.0),
        ("one scanner: 0.86 becomes 0.64", 0.0, 1.0, 1.0),
    ):
        called = 0
        for _ in range(repeats):
            scores = (1.5 - lost * (groups == 3)) * labels + scans(rng, 40).ravel()
            scores = np.where(groups % 2, stretch * scores + shift, scores)
            sample = Sample(labels, np.c_[-scores, scores], patients)
            called += scanner_effect_auc(sample, groups, rng=rng, permutations=permutations, design=WITHIN).p <= 0.05
        yield f"  {name:48} {rate(called, repeats)}"


def arms_of(right: NDArray[np.bool_]) -> list[Arm]:
    """Share of right patients of every scanner."""
    return [proportion_arm(column * 1.0, np.arange(len(right)), min_patients=2) for column in right.T]


def intervals(rng: np.random.Generator, repeats: int) -> Iterator[str]:
    """How often the interval of one scanner minus the others holds the truth."""
    yield "interval of a scanner's accuracy minus the same patients' others: ours | Student's t | as different patients"
    for patients, share, low, own in SETTINGS:
        held, width = Counter[str](), dict.fromkeys(("ours", "t", "apart"), 0.0)
        for _ in range(repeats):
            right = np.asarray(scans(rng, patients, own) < [below(low), *[below(share)] * 3], dtype=np.float64)
            for kind, (bottom, top) in ends(right).items():
                held[kind] += bottom <= low - share <= top
                width[kind] += top - bottom
        parts = " | ".join(
            f"{rate(held[kind], repeats)} (width {total / repeats:.2f})" for kind, total in width.items()
        )
        yield f"  {patients} patients, {share} and {low} right, {own} the patient's: {parts}"


def ends(right: FloatArray) -> dict[str, tuple[float, float]]:
    """Ends of the three intervals; the t's of no width where no patient differs."""
    n = len(right)
    one = proportion_arm(right[:, 0], np.arange(n), min_patients=2)
    other = proportion_arm(right[:, 1:].ravel(), np.repeat(np.arange(n), SCANNERS - 1), min_patients=2)
    apart = Arm(other.estimate, np.zeros(0))
    t = mean_interval(right[:, 0] - right[:, 1:].mean(axis=1), np.arange(n))
    found = {
        "ours": difference_of_arms(one, other, n_patients=n, n_rows=n).estimate,
        "apart": difference_of_arms(one, apart, n_patients=n, n_rows=n).estimate,
        "t": t,
    }
    return {kind: (e.low, e.high) if e.estimable else (e.value, e.value) for kind, e in found.items()}


def worst(rng: np.random.Generator, repeats: int) -> Iterator[str]:
    """Scanners that do not differ: the lowest true value, and every value drawn towards the others."""
    yield "four scanners alike, 0.85 right:"
    for own in (0.0, 0.7, 0.95):
        held = Counter[str]()
        for _ in range(repeats):
            arms = arms_of(scans(rng, 40, own) < below(0.85))
            found = {str(g): arm.estimate for g, arm in enumerate(arms)}
            lowest = worst_interval(found)
            held["worst"] += lowest is not None and lowest.low <= 0.85 <= lowest.high
            for kind, shared in (("shared", shared_error(arms)), ("apart", 0.0)):
                one = shrink(found, shared=shared)["0"].estimate
                held[kind] += one.low <= 0.85 <= one.high
        names = {"worst": "lowest covered", "shared": "shrunken covers", "apart": "shrunken as different patients"}
        parts = "; ".join(f"{words} {rate(held[kind], repeats)}" for kind, words in names.items())
        yield f"  {own} the patient's: {parts}"


if __name__ == "__main__":
    main()
