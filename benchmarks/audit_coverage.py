"""How often the audit's 95 % intervals cover the truth, and how wide they are, beside those of other methods.

    python -m benchmarks.audit_coverage
    python -m benchmarks.audit_coverage --kinds share --patients 15 40 --side-repeats 300 --side-drawn 50

Patients are drawn again and again from a known truth, see :mod:`benchmarks.audit_samples`: shares of right answers
(beta-binomial), means that lean like Dice and like HD95 [mm], AUCs of two classes (patients all of one class, or of
both) and of three. First come the settings of the bar, 40 patients x 10 rows at ICC 0.4, with 4,000 repeats, then a
grid of others with 1,000. One line per setting and method: coverage and mean width; then one per method over all
settings. Methods that draw (the bootstraps) run in the first 400 repeats of the bar's settings, in others only if
``--side-drawn`` says so: they would take longer than all else together. The methods of the audit are marked with a
star. All this takes some thirteen minutes on one core, the bar alone (``--side-repeats 0``) two, and one with
``--drawn 0``.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import stdtrit

from benchmarks.audit_samples import Rows, Setting, draw, truth
from pipeline.audit.bootstrap import bca_interval, leave_one_out_weights
from pipeline.audit.delong import Areas, areas
from pipeline.audit.intervals import auc_estimate, mean_interval, proportion_interval
from pipeline.audit.statistics import FloatArray, IntArray, Z, newcombe_auc_interval, patient_weights, wilson_interval

Ends = tuple[float, float]
Found = dict[str, tuple[float, float, int]]  # method -> coverage, mean width, repeats with an interval
Method = Callable[[Rows, np.random.Generator], Ends]
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
BAR = (40, 10, 0.4)  # patients, rows of each, intraclass correlation
REPLICATES = 1000


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
    half = float(stdtrit(len(sizes) - 1, 0.975)) * error
    return mean - half, mean + half


def wilson_rows(rows: Rows, _: np.random.Generator) -> Ends:
    """Wilson as if rows were independent."""
    return wilson_interval(float(rows.values.mean()), len(rows.values))


def wilson_patients(rows: Rows, _: np.random.Generator) -> Ends:
    """Wilson as if the rows of a patient were copies."""
    return wilson_interval(float(rows.values.mean()), int(rows.patients.max()) + 1)


def wald(found: Areas) -> Ends:
    """AUC with a normal interval on its own scale."""
    half = Z * float(found.standard_errors[0])
    return float(found.values[0]) - half, float(found.values[0]) + half


def newcombe(rows: Rows, _: np.random.Generator) -> Ends:
    """Newcombe's AUC interval on patients."""
    found = rows.areas
    value = float(found.values[0])
    if found.reason:
        return np.nan, np.nan
    ends = [newcombe_auc_interval(value, int(m), int(n)) for m, n in found.patients_per_class.T]
    low, high = np.mean(ends, axis=0)
    return float(low), float(high)


def audited(rows: Rows, _: np.random.Generator) -> Ends:
    """The interval that the audit prints."""
    if rows.scores.size:
        found = auc_estimate(rows.areas, len(rows.labels))
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
    "DeLong on rows": lambda rows, _: wald(areas(rows.labels, [rows.scores], np.arange(len(rows.labels)))),
    "DeLong on patients": lambda rows, _: wald(rows.areas),
    "Newcombe on patients": newcombe,
}


def methods_for(kind: str) -> tuple[dict[str, Method], dict[str, Method]]:
    """Methods that compute, and methods that draw."""
    if kind == "share":
        return SHARES, DRAWN
    if kind.startswith("auc"):
        return AUCS, DRAWN
    return MEANS, DRAWN | {"patients, bootstrap-t": bootstrap_t}


def measure(setting: Setting, repeats: int, drawn: int, seed: int) -> Found:
    """Coverage, mean width and repeats; an interval that is not estimable counts in neither."""
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


def of_the_bar(kinds: list[str]) -> list[Setting]:
    """Settings in which the bar is set."""
    return [Setting(kind, *BAR, level) for kind in kinds for level in LEVELS[kind]]


def slack(repeats: int) -> float:
    """Two Monte-Carlo standard errors of a coverage of 95 %."""
    return 2 * float(np.sqrt(0.05 * 0.95 / repeats))


def inside(coverage: float, repeats: int) -> bool:
    """Whether a coverage is in its range, give or take two standard errors of the simulation."""
    return TARGET[0] - slack(repeats) <= coverage <= TARGET[1] + slack(repeats)


def report(title: str, results: dict[Setting, Found]) -> None:
    """Per kind and method, over all settings."""
    print(f"\n{title:<44}{'lowest':>8}{'mean':>8}{'highest':>8}{'in 93-97':>10}{'below':>7}{'width':>8}")
    for kind in dict.fromkeys(setting.kind for setting in results):
        of_kind = [found for setting, found in results.items() if setting.kind == kind]
        for name in dict.fromkeys(name for found in of_kind for name in found):
            rows = [found[name] for found in of_kind if name in found]
            covered = [100 * coverage for coverage, _, _ in rows]
            share = 100 * float(np.mean([inside(coverage, count) for coverage, _, count in rows]))
            below = sum(not inside(c, count) and c < TARGET[0] for c, _, count in rows)
            width = float(np.mean([found[name][1] / found[AUDIT][1] for found in of_kind if name in found]))
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
    parser.add_argument("--repeats", type=int, default=4000, help="of the bar's settings; 0 leaves them out")
    parser.add_argument("--drawn", type=int, default=400, help="of them, repeats in which the bootstraps run")
    parser.add_argument("--side-repeats", type=int, default=1000, help="of all other settings; 0 leaves them out")
    parser.add_argument("--side-drawn", type=int, default=0, help="of them, repeats in which the bootstraps run")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    bar = of_the_bar(arguments.kinds)
    others = settings_for(arguments.kinds, arguments.patients, arguments.rows, arguments.icc)
    side = [setting for setting in others if setting not in bar]
    for title, settings, repeats, drawn in (
        ("settings of the bar", bar, arguments.repeats, arguments.drawn),
        ("all other settings", side, arguments.side_repeats, arguments.side_drawn),
    ):
        if repeats:
            print(f"\n{title}: {repeats} repeats, 95 % ± {100 * slack(repeats):.1f}; bootstraps in {drawn}", flush=True)
            report(title, dict(simulated(settings, repeats, drawn, arguments.seed)))


def simulated(settings: list[Setting], repeats: int, drawn: int, seed: int) -> Iterator[tuple[Setting, Found]]:
    """Measure each setting and print its line."""
    for setting in settings:
        found = measure(setting, repeats, drawn, seed)
        cells = (f"{name} {100 * covered:.1f} ({width:.3g})" for name, (covered, width, _) in found.items())
        print(f"{setting}| {' | '.join(cells)}", flush=True)
        yield setting, found


if __name__ == "__main__":
    main()
