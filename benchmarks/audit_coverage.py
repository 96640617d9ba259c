"""How often the audit's 95 % intervals cover the truth, and how wide they are, beside those of other methods.

    python -m benchmarks.audit_coverage --repeats 4000 --drawn 400
    python -m benchmarks.audit_coverage --kinds share --patients 15 40 --repeats 300 --drawn 50

Patients are drawn again and again from a known truth: shares of right answers (beta-binomial), means that lean like
Dice and like HD95 [mm], AUCs of two classes (patients all of one class, or of both) and of three. Rows of a patient are
alike by the intraclass correlation. One line per setting and method: coverage and mean width; then one per method over
all settings, worst coverages first to be looked at. Methods that draw (the bootstraps) run in the first ``--drawn``
repeats of each setting. The methods of the audit are marked with a star.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from pipeline.audit.bootstrap import bca_interval, leave_one_out_weights
from pipeline.audit.delong import areas
from pipeline.audit.intervals import auc_interval, mean_interval, proportion_interval
from pipeline.audit.statistics import FloatArray, IntArray, Z, newcombe_auc_interval, patient_weights, wilson_interval
from pipeline.tracking.group_metrics import overall_metrics, weighted_auc

Ends = tuple[float, float]
KINDS = ("share", "dice", "hd95", "auc", "auc-mixed", "auc-3")
LEVELS = {
    "share": (0.6, 0.8, 0.9, 0.95, 0.98),
    "dice": (0.88,),
    "hd95": (9.4,),
    "auc": (0.7, 0.85, 0.93, 0.97),
    "auc-mixed": (0.7, 0.85, 0.93, 0.97),
    "auc-3": (0.6, 1.15, 1.65, 2.05),  # how far the own class stands out: AUC 0.70, 0.85, 0.93, 0.97
}
TARGET = (0.93, 0.97)
REPLICATES = 1000
DICE = stats.beta(9, 1.2)
DICE_GRID = np.linspace(-6, 6, 2001)
DICE_VALUES = DICE.ppf(stats.norm.cdf(DICE_GRID))
HD95_SPREAD = 0.7  # of the logarithm
POSITIVE = 0.4  # share of patients, or of rows


@dataclass(frozen=True)
class Setting:
    """What patients are drawn from.

    Attributes:
        kind: of value.
        patients: number of them.
        rows: of each patient; with ``uneven`` any number from 1 to this.
        icc: intraclass correlation.
        level: true share or AUC; for three classes how far the own class stands out.
        uneven: whether patients have unlike numbers of rows.
    """

    kind: str
    patients: int
    rows: int
    icc: float
    level: float
    uneven: bool = False

    def __str__(self) -> str:
        rows = f"1-{self.rows}" if self.uneven else str(self.rows)
        return f"{self.kind:<10}{self.patients:>4} x {rows:<5}ICC {self.icc:<5}{self.level:<5}"


@dataclass(frozen=True)
class Rows:
    """Drawn rows: values, or labels and scores."""

    patients: IntArray
    values: FloatArray
    labels: IntArray
    scores: FloatArray

    def statistic(self, weights: FloatArray) -> FloatArray:
        """Values of weighted rows, ``(replicates,)``."""
        if self.scores.size:
            return weighted_auc(self.labels, self.scores, weights)
        return np.asarray(weights @ self.values / weights.sum(axis=1))


Method = Callable[[Rows, np.random.Generator], Ends]


def draw(setting: Setting, rng: np.random.Generator) -> Rows:
    """Rows of new patients."""
    sizes = np.full(setting.patients, setting.rows)
    if setting.uneven:
        sizes = rng.integers(1, setting.rows + 1, setting.patients)
    patients = np.repeat(np.arange(setting.patients), sizes)
    nothing = np.empty(0)
    if setting.kind.startswith("auc"):
        labels = labels_for(setting, patients, rng)
        return Rows(patients, nothing, labels, scores_for(setting, labels, patients, rng))
    if setting.kind == "share":
        values = (rng.uniform(size=len(patients)) < chances(setting, rng)[patients]).astype(np.float64)
    else:
        normal = correlated(setting.icc, patients, rng)
        values = np.interp(normal, DICE_GRID, DICE_VALUES) if setting.kind == "dice" else hd95(normal)
    return Rows(patients, values, nothing.astype(np.int64), nothing)


def chances(setting: Setting, rng: np.random.Generator) -> FloatArray:
    """Each patient's chance of a right answer: beta, so that rows correlate by the ICC."""
    if not setting.icc:
        return np.full(setting.patients, setting.level)
    prior = (1 - setting.icc) / setting.icc
    return np.asarray(rng.beta(setting.level * prior, (1 - setting.level) * prior, setting.patients))


def correlated(icc: float, patients: IntArray, rng: np.random.Generator) -> FloatArray:
    """Standard normal rows, those of a patient correlated by ``icc``."""
    own = rng.standard_normal(int(patients.max()) + 1)
    return np.asarray(np.sqrt(icc) * own[patients] + np.sqrt(1 - icc) * rng.standard_normal(len(patients)))


def hd95(normal: FloatArray) -> FloatArray:
    """Lognormal [mm]."""
    return np.asarray(np.exp(2 + HD95_SPREAD * normal))


def labels_for(setting: Setting, patients: IntArray, rng: np.random.Generator) -> IntArray:
    """Labels by row where mixed, else by patient."""
    if setting.kind == "auc-mixed":
        return (rng.uniform(size=len(patients)) < POSITIVE).astype(np.int64)
    count = setting.patients
    own = np.arange(count) % 3 if setting.kind == "auc-3" else np.arange(count) < max(2, round(POSITIVE * count))
    return np.asarray(own.astype(np.int64)[patients])


def scores_for(setting: Setting, labels: IntArray, patients: IntArray, rng: np.random.Generator) -> FloatArray:
    """``(n, C)``: two normal classes, or three logits of which the own class stands out."""
    if setting.kind != "auc-3":
        apart = np.sqrt(2) * stats.norm.ppf(setting.level)
        score = apart * labels + correlated(setting.icc, patients, rng)
        return np.asarray(np.c_[-score, score])
    logits = np.stack([correlated(setting.icc, patients, rng) for _ in range(3)], axis=1)
    logits[np.arange(len(labels)), labels] += setting.level
    return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


@cache
def three_class_truth(level: float) -> float:
    """Macro AUC of 300,000 independent rows; its error is about 0.0005."""
    rng, count = np.random.default_rng(1), 300_000
    setting = Setting("auc-3", count, 1, 0.0, level)
    labels = labels_for(setting, np.arange(count), rng)
    return overall_metrics(labels, scores_for(setting, labels, np.arange(count), rng))["auc"]


def truth(setting: Setting) -> float:
    """The value that an interval should cover."""
    if setting.kind == "dice":
        return float(DICE.mean())
    if setting.kind == "hd95":
        return float(np.exp(2 + HD95_SPREAD**2 / 2))
    return three_class_truth(setting.level) if setting.kind == "auc-3" else setting.level


def row_bootstrap(rows: Rows, rng: np.random.Generator) -> Ends:
    """Percentiles of draws of rows: what libraries do."""
    return percentiles(rows, np.arange(len(rows.patients)), rng)


def patient_bootstrap(rows: Rows, rng: np.random.Generator) -> Ends:
    """Percentiles of draws of patients."""
    return percentiles(rows, rows.patients, rng)


def percentiles(rows: Rows, units: IntArray, rng: np.random.Generator) -> Ends:
    """95 % of the draws of the units."""
    draws = np.concatenate([rows.statistic(weights) for weights in patient_weights(units, REPLICATES, rng)])
    if np.isnan(draws).all():
        return np.nan, np.nan
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return float(low), float(high)


def bca(rows: Rows, rng: np.random.Generator) -> Ends:
    """The audit's interval for any other value."""
    draws = np.concatenate([rows.statistic(w) for w in patient_weights(rows.patients, REPLICATES, rng)])
    left_out = np.concatenate([rows.statistic(w) for w in leave_one_out_weights(rows.patients)])
    return bca_interval(float(rows.statistic(np.ones((1, len(rows.patients))))[0]), draws, left_out)


def bootstrap_t(rows: Rows, rng: np.random.Generator) -> Ends:
    """Studentised draws of patients."""
    sizes = np.bincount(rows.patients).astype(np.float64)
    sums = np.bincount(rows.patients, weights=rows.values).astype(np.float64)
    counts = np.concatenate(list(patient_weights(np.arange(len(sizes)), REPLICATES, rng)))
    means, errors = mean_and_error(counts, sums, sizes)
    value, error = (float(part[0]) for part in mean_and_error(np.ones((1, len(sizes))), sums, sizes))
    usable = errors > 0
    high, low = np.quantile((means[usable] - value) / errors[usable], (0.025, 0.975))
    return value - float(low) * error, value - float(high) * error


def mean_and_error(counts: FloatArray, sums: FloatArray, sizes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean over rows and its standard error by patient, of every draw."""
    means = counts @ sums / (counts @ sizes)
    squares = counts @ sums**2 - 2 * means * (counts @ (sums * sizes)) + means**2 * (counts @ sizes**2)
    patients = len(sizes)
    return means, np.sqrt(np.maximum(squares, 0) * patients / (patients - 1)) / (counts @ sizes)


def cluster_t(rows: Rows, _: np.random.Generator) -> Ends:
    """Mean with a t interval on patients."""
    sizes = np.bincount(rows.patients).astype(np.float64)
    sums = np.bincount(rows.patients, weights=rows.values).astype(np.float64)
    mean, error = (float(part[0]) for part in mean_and_error(np.ones((1, len(sizes))), sums, sizes))
    half = float(stats.t.ppf(0.975, len(sizes) - 1)) * error
    return mean - half, mean + half


def wilson_rows(rows: Rows, _: np.random.Generator) -> Ends:
    """Wilson as if rows were independent."""
    return wilson_interval(float(rows.values.mean()), len(rows.values))


def wilson_patients(rows: Rows, _: np.random.Generator) -> Ends:
    """Wilson as if the rows of a patient were copies."""
    return wilson_interval(float(rows.values.mean()), int(rows.patients.max()) + 1)


def wald(rows: Rows, patients: IntArray) -> Ends:
    """AUC with a normal interval on its own scale."""
    found = areas(rows.labels, [rows.scores], patients)
    half = Z * float(found.standard_errors[0])
    return float(found.values[0]) - half, float(found.values[0]) + half


def newcombe(rows: Rows, _: np.random.Generator) -> Ends:
    """Newcombe's AUC interval on patients."""
    found = areas(rows.labels, [rows.scores], rows.patients)
    value = float(found.values[0])
    if found.reason:
        return np.nan, np.nan
    ends = [newcombe_auc_interval(value, int(m), int(n)) for m, n in found.patients_per_class.T]
    low, high = np.mean(ends, axis=0)
    return float(low), float(high)


def audited(rows: Rows, _: np.random.Generator) -> Ends:
    """The interval that the audit prints."""
    if rows.scores.size:
        found = auc_interval(rows.labels, rows.scores, rows.patients)
    elif set(np.unique(rows.values)) <= {0.0, 1.0}:
        found = proportion_interval(rows.values, rows.patients)
    else:
        found = mean_interval(rows.values, rows.patients)
    return found.low, found.high


AUDIT = "* audit"
DRAWN: dict[str, Method] = {"rows, percentile": row_bootstrap, "patients, percentile": patient_bootstrap}
DRAWN |= {"* patients, BCa": bca}
SHARES: dict[str, Method] = {AUDIT: audited, "Wilson on rows": wilson_rows, "Wilson on patients": wilson_patients}
MEANS: dict[str, Method] = {AUDIT: audited, "t on patients": cluster_t}
AUCS: dict[str, Method] = {
    AUDIT: audited,
    "DeLong on rows": lambda rows, _: wald(rows, np.arange(len(rows.labels))),
    "DeLong on patients": lambda rows, _: wald(rows, rows.patients),
    "Newcombe on patients": newcombe,
}


def methods_for(kind: str) -> tuple[dict[str, Method], dict[str, Method]]:
    """Methods that compute, and methods that draw."""
    if kind == "share":
        return SHARES, DRAWN
    if kind.startswith("auc"):
        return AUCS, DRAWN
    return MEANS, DRAWN | {"patients, bootstrap-t": bootstrap_t}


def measure(setting: Setting, repeats: int, drawn: int, seed: int) -> dict[str, tuple[float, float, int]]:
    """Method -> coverage, mean width and repeats; an interval that is not estimable counts in neither."""
    rng, true = np.random.default_rng([seed, *str(setting).encode()]), truth(setting)
    computing, drawing = methods_for(setting.kind)
    ends: dict[str, list[Ends]] = {name: [] for name in computing | drawing}
    for repeat in range(repeats):
        rows = draw(setting, rng)
        for name, method in (computing | drawing if repeat < drawn else computing).items():
            ends[name].append(method(rows, rng))
    found = {}
    for name, pairs in ends.items():
        low, high = np.array(pairs).reshape(-1, 2).T
        usable = ~np.isnan(low)
        if usable.any():
            covers = (low - 1e-12 <= true) & (true <= high + 1e-12)
            found[name] = (float(covers[usable].mean()), float((high - low)[usable].mean()), int(usable.sum()))
    return found


def settings_for(kinds: list[str], patients: list[int], rows: list[int], icc: list[float]) -> Iterator[Setting]:
    """The grid; patients with one row have no ICC, and unlike numbers of rows come at the largest number."""
    for kind in kinds:
        for count, size, level in itertools.product(patients, rows, LEVELS[kind]):
            for correlation in icc if size > 1 else [0.0]:
                yield Setting(kind, count, size, correlation, level)
            if size == max(rows) > 1:
                yield Setting(kind, count, size, icc[-1], level, uneven=True)


def inside(coverage: float, repeats: int) -> bool:
    """Whether a coverage is in its range, give or take two standard errors of the simulation."""
    slack = 2 * float(np.sqrt(0.05 * 0.95 / repeats))
    return TARGET[0] - slack <= coverage <= TARGET[1] + slack


def report(results: dict[Setting, dict[str, tuple[float, float, int]]]) -> None:
    """Per kind and method, over all settings."""
    print(f"\n{'over all settings':<44}{'lowest':>8}{'mean':>8}{'highest':>8}{'in 93-97':>10}{'below':>7}{'width':>8}")
    for kind in dict.fromkeys(setting.kind for setting in results):
        of_kind = [found for setting, found in results.items() if setting.kind == kind]
        for name in of_kind[0]:
            rows = [found[name] for found in of_kind if name in found]
            covered = [100 * coverage for coverage, _, _ in rows]
            share = 100 * float(np.mean([inside(coverage, count) for coverage, _, count in rows]))
            below = sum(not inside(c, count) and c < TARGET[0] for c, _, count in rows)
            width = float(
                np.mean([w / found[AUDIT][1] for found in of_kind if name in found for w in [found[name][1]]])
            )
            print(
                f"{kind:<12}{name:<32}{min(covered):>8.1f}{np.mean(covered):>8.1f}{max(covered):>8.1f}"
                f"{share:>9.0f}%{below:>7}{width:>8.2f}"
            )


def main() -> None:
    """Simulate, and print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--patients", nargs="+", type=int, default=[15, 25, 40, 100, 200])
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 3, 10], help="of each patient")
    parser.add_argument("--icc", nargs="+", type=float, default=[0.0, 0.2, 0.4, 0.5])
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--drawn", type=int, default=400, help="repeats in which the bootstraps run")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    results = {}
    for setting in settings_for(arguments.kinds, arguments.patients, arguments.rows, arguments.icc):
        results[setting] = measure(setting, arguments.repeats, arguments.drawn, arguments.seed)
        cells = (f"{name} {100 * c:.1f} ({width:.3g})" for name, (c, width, _) in results[setting].items())
        print(f"{setting}| {' | '.join(cells)}", flush=True)
    report(results)


if __name__ == "__main__":
    main()
