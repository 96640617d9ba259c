"""How fast a patient is drawn again, beside fairlearn's bootstrap, and what a table of a million rows takes.

    python -m benchmarks.audit_speed
    python -m benchmarks.audit_speed --draws 500 --fairlearn-draws 5 --rows 20000

First: AUC of 2,000 patients, one row each, in 8 groups. Both sides do all their work in one run: ours draws patients
within groups; fairlearn's MetricFrame draws rows and calls scikit-learn's roc_auc_score. The time of each without
draws is taken off. Then two tables of ``--rows`` rows, 50 per patient, on 8 scanners, with an endpoint, the one of two
classes and the other of three, are written as CSV. ``evenbeat audit`` reads each and writes its report in a process of
its own; peer: pandas that reads the same file and does no more. Time, and the greatest memory of the process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.audit.statistics import bootstrap
from pipeline.tracking.group_metrics import weighted_auc_of

PATIENTS, GROUPS, ROWS_PER_PATIENT = 2000, 8, 50
CLASSES = ("NOR", "DCM", "HCM")
AT_ONCE = 2000  # patients written at once: a process begins with the memory of the one that starts it
READ = "import sys, pandas; pandas.read_csv(sys.argv[1])"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="of ours (2000)")
    parser.add_argument("--fairlearn-draws", type=int, default=20, help="of fairlearn's; each takes its time (20)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large tables; 0: none (1,000,000)")
    parser.add_argument("--replicates", type=int, default=2000, help="of their audits (2000)")
    arguments = parser.parse_args()
    if arguments.fairlearn_draws:
        print(race(arguments.draws, arguments.fairlearn_draws), flush=True)
    if arguments.rows:
        for line in large(arguments.rows, arguments.replicates):
            print(line, flush=True)


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


def large(rows: int, replicates: int) -> Iterator[str]:
    """Time and memory of an audit of so many rows, beside those of reading them."""
    patients = max(1, rows // ROWS_PER_PATIENT)
    yield f"{patients * ROWS_PER_PATIENT} rows of {patients} patients, {GROUPS} scanners; accuracy, AUC, an endpoint:"
    for classes in (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            table, report = Path(folder) / "predictions.csv", Path(folder) / "report"
            write_table(patients, classes, table)
            command = [sys.executable, "-m", "pipeline.cli", "audit", str(table), "-o", str(report)]
            options = ["--group-by", "vendor", "--endpoint", "dice:higher", "--replicates", str(replicates)]
            ours, reading = used([*command, *options]), used([sys.executable, "-c", READ, str(table)])
        yield (
            f"  {classes} classes: greatest memory {ours[1]:.2f} GiB in {ours[0]:.0f} s; pandas reads it in "
            f"{reading[1]:.2f} GiB and {reading[0]:.1f} s; memory ours / pandas: {ours[1] / reading[1]:.1f}"
        )


def write_table(patients: int, classes: int, path: Path) -> None:
    """Patients of 50 rows each, as anybody's CSV."""
    rng = np.random.default_rng(classes)
    for start in range(0, patients, AT_ONCE):
        part = rows_of(np.arange(start, min(start + AT_ONCE, patients)), classes, rng)
        part.to_csv(path, index=False, mode="a", header=not start)


def rows_of(patients: np.ndarray, classes: int, rng: np.random.Generator) -> pd.DataFrame:
    """Rows of these patients; each has a scanner, a class, and logits that its rows share in part."""
    each = np.repeat(np.arange(len(patients)), ROWS_PER_PATIENT)
    scanners, labels = rng.integers(GROUPS, size=len(patients)), rng.integers(classes, size=len(patients))
    logits = rng.normal(size=(len(patients), classes))[each] + rng.normal(size=(len(each), classes))
    logits[np.arange(len(each)), labels[each]] += 1.5
    shares = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).round(6)
    names = CLASSES[:classes]
    table = {
        "case_id": [f"case-{patients[0] * ROWS_PER_PATIENT + row}" for row in range(len(each))],
        "patient_id": np.char.add("patient-", patients.astype(str))[each],
        "vendor": np.char.add("scanner ", scanners.astype(str))[each],
        "label": np.array(names)[labels[each]],
    }
    table |= {f"prob_{name}": share for name, share in zip(names, shares.T, strict=True)}
    return pd.DataFrame(table | {"dice": rng.beta(9, 1.2, size=len(each)).round(4)})


def used(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and greatest resident size [GiB] of a process.

    Raises:
        CalledProcessError: if it fails.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


if __name__ == "__main__":
    main()
