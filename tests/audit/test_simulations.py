"""The simulations behind the audit's figures: they run, and they compare what the audit compares."""

from __future__ import annotations

import importlib
import re
import sys

import numpy as np
import pandas as pd
import pytest

from benchmarks.audit_noninferiority import Setting, classes, latent, models, outcome, periods, read
from benchmarks.audit_size import beside_peers
from pipeline.audit.comparison import Comparison, compare_models, compare_periods, comparisons
from pipeline.audit.scanner_effect import scanner_effect

SETTINGS = [
    Setting("accuracy", 0.9, 30, 3, 0.4),
    Setting("auc", 0.85, 30, 2, 0.4),
    Setting("dice", 0.0, 20, 2, 0.4),
    Setting("hd95", 0.0, 20),
]
GROUPS, LOSS = 2, 0.05


def drawn(setting: Setting, shared: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Patients and labels ``(n,)`` of each group, and the values of two readings ``(groups, n)``."""
    patients = np.repeat(np.arange(setting.patients), setting.rows)
    labels = classes(patients)
    errors = latent(setting, patients, np.random.default_rng(3), GROUPS, shared)
    return patients, labels, [read(setting, labels, e, lost) for e, lost in zip(errors, (LOSS, 0.0), strict=True)]


def table(setting: Setting, patients: np.ndarray, labels: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """One reading as rows of a predictions table; a case has the same name in every reading."""
    parts = []
    for group, row in enumerate(values):
        truth = labels == 1
        score = row if setting.kind == "auc" else np.where(truth, 0.9, 0.1)
        if setting.kind == "accuracy":
            score = np.where(row == 1, score, 1 - score)
        part = {
            "patient_id": [f"{group}-{patient}" for patient in patients],
            "case_id": [f"{group}-{case}" for case in range(len(patients))],
            "group": str(group),
            "label": np.where(truth, "HCM", "NOR"),
            "prob_NOR": 1 - score,
            "prob_HCM": score,
        }
        parts.append(pd.DataFrame(part | {setting.kind: row}))
    return pd.concat(parts, ignore_index=True)


def by_group(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    return {str(group): (rows["group"] == str(group)).to_numpy() for group in range(GROUPS)}


def numbers(found: list[Comparison]) -> list[list[object]]:
    rows = []
    for row in found:
        one = row.estimate
        rounded = np.round((one.value, one.low, one.high, row.p_noninferior), 9).tolist()
        rows.append([row.group, one.n_patients, one.n_rows, one.interval, row.verdict, *rounded])
    return rows


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.kind)
def test_two_models_are_simulated_as_the_audit_compares_them(setting: Setting) -> None:
    patients, labels, readings = drawn(setting)
    rows = pd.concat(
        [
            table(setting, patients, labels, values).assign(model=name)
            for name, values in zip(("student", "teacher"), readings, strict=True)
        ],
        ignore_index=True,
    )
    expected = compare_models(rows, outcome(setting), model="student", reference="teacher", groups=by_group(rows))
    found, _ = models(setting, LOSS, np.random.default_rng(3), GROUPS)
    assert numbers(comparisons("student", "teacher", outcome(setting), found)) == numbers(expected)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.kind)
def test_two_periods_are_simulated_as_the_audit_compares_them(setting: Setting) -> None:
    """A fifth of the patients came in both periods."""
    again = np.arange(setting.patients) % 5 == 0
    patients, labels, (after, before) = drawn(setting, again)
    later = table(setting, np.where(again[patients], patients, patients + 1000), labels, after)
    later["case_id"] = "again " + later["case_id"]
    rows = pd.concat(
        [later.assign(period="after"), table(setting, patients, labels, before).assign(period="before")],
        ignore_index=True,
    ).assign(model="mine")
    expected = compare_periods(
        rows, outcome(setting), column="period", after="after", before="before", groups=by_group(rows)
    )
    found, _ = periods(setting, LOSS, np.random.default_rng(3), GROUPS)
    assert numbers(comparisons("after", "before", outcome(setting), found)) == numbers(expected)


def test_the_statistic_beside_its_peers_is_that_of_the_audit() -> None:
    values, groups = np.random.default_rng(0).normal(size=60), np.arange(60) % 4
    p = beside_peers(values, groups, np.random.default_rng(1), 199)
    assert p[0] == scanner_effect(values, np.arange(60), groups, rng=np.random.default_rng(1), permutations=199).p


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "options", "line"),
    [
        ("audit_coverage", "--repeats 4 --drawn 2 --side-repeats 2 --patients 15 --rows 1 3", r"auc-3 +\* audit"),
        ("audit_size", "--repeats 5 --permutations 19 --fairlearn 0", r"permuted patients +[0-9.]+ %"),
        ("audit_noninferiority", "--repeats 2 --groups 2", r"30 patients, then as many more"),
        ("audit_crossed", "--repeats 4 --permutations 19", r"0\.95 the patient's: lowest covered"),
    ],
)
def test_a_simulation_runs_to_its_last_table(
    module: str, options: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [module, *options.split()])
    importlib.import_module(f"benchmarks.{module}").main()
    assert re.search(line, capsys.readouterr().out)
