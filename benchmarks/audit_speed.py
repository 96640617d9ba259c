"""How fast a patient is drawn again, beside fairlearn's bootstrap, and what a table of a million rows takes.

    python -m benchmarks.audit_speed
    python -m benchmarks.audit_speed --draws 500 --fairlearn-draws 5 --rows 20000

First: AUC of 2,000 patients, one row each, in 8 groups. Both sides do all their work in one run: ours draws patients
within groups; fairlearn's MetricFrame draws rows and calls scikit-learn's roc_auc_score. The time of each without
draws is taken off. Then a table of ``--rows`` rows, ten per patient, two classes, 8 scanners, an endpoint, is written
as CSV, read and assessed in a process of its own; its time and greatest memory are printed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.audit.statistics import bootstrap
from pipeline.tracking.group_metrics import weighted_auc_of

PATIENTS, GROUPS, ROWS_PER_PATIENT = 2000, 8, 10


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="of ours (2000)")
    parser.add_argument("--fairlearn-draws", type=int, default=20, help="of fairlearn's; each takes its time (20)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large table; 0 leaves it out (1,000,000)")
    parser.add_argument("--replicates", type=int, default=2000, help="of its audit (2000)")
    parser.add_argument("--table", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(assess_table(arguments.table, arguments.replicates))
        return
    print(race(arguments.draws, arguments.fairlearn_draws))
    if arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "predictions.csv"
            write_table(arguments.rows, table)
            command = [sys.executable, "-m", "benchmarks.audit_speed", "--table", str(table)]
            subprocess.run([*command, "--replicates", str(arguments.replicates)], check=True)


def race(draws: int, fairlearn_draws: int) -> str:
    """Milliseconds per draw of both, and their ratio."""
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(2, size=PATIENTS), rng.integers(GROUPS, size=PATIENTS)
    scores = 1 / (1 + np.exp(-rng.normal(2.0 * labels - 1, 1)))

    def ours(count: int) -> None:
        for group in range(GROUPS):
            inside = groups == group
            auc = weighted_auc_of(labels[inside], np.c_[1 - scores[inside], scores[inside]])
            if count:
                bootstrap(auc, np.arange(inside.sum()), count, rng)

    mine = per_draw(ours, draws)
    theirs = per_draw(lambda count: fairlearn_bootstrap(labels, scores, groups, count), fairlearn_draws)
    return (
        f"{PATIENTS} patients x {GROUPS} groups x AUC, per draw: ours {1e3 * mine:.4f} ms, fairlearn "
        f"{1e3 * theirs:.1f} ms\nfairlearn / ours: {theirs / mine:.0f}"
    )


def fairlearn_bootstrap(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, count: int) -> None:
    """Fairlearn's table of AUCs by group, with the interval of so many draws."""
    from fairlearn.metrics import MetricFrame  # type: ignore[import-untyped]
    from sklearn.metrics import roc_auc_score

    options = {"n_boot": count, "ci_quantiles": [0.025, 0.975], "random_state": 0} if count else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MetricFrame(metrics=roc_auc_score, y_true=labels, y_pred=scores, sensitive_features=groups, **options)


def per_draw(work: Callable[[int], None], draws: int) -> float:
    """Seconds of one draw: of all, less those without any; the first call warms up."""
    work(1)
    times = []
    for count in (0, draws):
        start = time.perf_counter()
        work(count)
        times.append(time.perf_counter() - start)
    return (times[1] - times[0]) / draws


def write_table(rows: int, path: Path) -> None:
    """Patients of ten rows each on eight scanners, as anybody's CSV."""
    rng = np.random.default_rng(1)
    patients = np.arange(rows) // ROWS_PER_PATIENT
    of_patient = rng.integers(GROUPS, size=patients.max() + 1), rng.integers(2, size=patients.max() + 1)
    scanners, labels = (values[patients] for values in of_patient)
    positive = (1 / (1 + np.exp(-rng.normal(2.0 * labels - 1, 1)))).round(6)
    table = pd.DataFrame(
        {
            "case_id": [f"case-{row}" for row in range(rows)],
            "patient_id": np.char.add("patient-", patients.astype(str)),
            "vendor": np.array([f"scanner {code}" for code in range(GROUPS)])[scanners],
            "label": np.array(["NOR", "DCM"])[labels],
            "prob_NOR": (1 - positive).round(6),
            "prob_DCM": positive,
            "dice": rng.beta(9, 1.2, size=rows).round(4),
        }
    )
    table.to_csv(path, index=False)


def assess_table(path: Path, replicates: int) -> str:
    """Read and assess a table, and say what it took."""
    from pipeline.audit.assessment import assess
    from pipeline.audit.plan import Endpoint, Plan
    from pipeline.audit.reading import read_table

    plan = Plan(group_by=("vendor",), endpoints={"dice": Endpoint("higher")}, replicates=replicates)
    start = time.perf_counter()
    table = read_table(path, plan.layout())
    after_reading, memory = time.perf_counter(), peak_memory()
    audit = assess(table, plan)
    done = time.perf_counter()
    return (
        f"{len(table.frame)} rows of {audit.n_patients} patients, {len(audit.groups['vendor'])} groups, 3 measures: "
        f"read in {after_reading - start:.0f} s ({memory:.2f} GiB), assessed in {done - after_reading:.0f} s "
        f"(both: {time.process_time():.0f} s of CPU)\ngreatest memory: {peak_memory():.2f} GiB"
    )


def peak_memory() -> float:
    """Largest resident size so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
