"""An audit of patients who were all seen on every scanner, from the table to the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from pipeline.audit.assessment import assess
from pipeline.audit.design import BETWEEN, WITHIN
from pipeline.audit.findings import Audit
from pipeline.audit.plan import Endpoint, Plan
from pipeline.audit.records import schema
from pipeline.audit.report import write_report
from pipeline.audit.tables import console_table

PLAN = Plan(
    ("vendor", "sex"),
    endpoints={"dice": Endpoint("higher")},
    replicates=200,
    reference_model="teacher",
    margin=0.05,
)
VENDORS = ("Canon", "GE", "Philips", "Siemens")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Thirty patients on four scanners, two models; GE costs the student's Dice 0.03, where patients differ by 0.1."""
    rng = np.random.default_rng(0)
    rows = []
    for model in ("student", "teacher"):
        able, own = rng.normal(1.0, 1.5, 30), rng.normal(0.85, 0.1, 30)
        for k in range(30):
            for vendor in VENDORS:
                right = 1 / (1 + np.exp(-(able[k] + 0.7 * rng.normal())))
                loss = 0.03 if (model, vendor) == ("student", "GE") else 0.0
                rows.append(
                    {
                        "case_id": f"{k}-{vendor}",
                        "patient_id": f"patient {k}",
                        "vendor": vendor,
                        "sex": "MF"[k // 15],
                        "label": ("NOR", "DCM")[k % 2],
                        "prob_NOR": right if k % 2 == 0 else 1 - right,
                        "prob_DCM": right if k % 2 else 1 - right,
                        "dice": own[k] - loss + 0.02 * rng.normal(),
                        "split": "test",
                        "model": model,
                        "site": "one",
                        "scanner": vendor,
                        "field_strength_t": 3.0,
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def audit(frame: pd.DataFrame) -> Audit:
    return assess(frame, PLAN)


def test_vendors_are_compared_within_patients_and_sexes_between_them(audit: Audit) -> None:
    assert audit.designs("vendor") == (WITHIN,)
    assert audit.designs("sex") == (BETWEEN,)
    assert {(row.column, row.contrast.design) for row in audit.contrasts} == {("vendor", WITHIN), ("sex", BETWEEN)}


def test_a_small_loss_is_found_that_a_comparison_of_different_patients_would_miss(
    audit: Audit, frame: pd.DataFrame
) -> None:
    """The same rows, called those of 120 patients."""
    apart = assess(frame.assign(patient_id=frame["case_id"]), replace(PLAN, group_by=("vendor",)))
    mine = ("student", "vendor", "dice")
    for found, seen in ((audit, True), (apart, False)):
        (effect,) = [row.effect for row in found.effects if (row.model, row.column, row.measure) == mine]
        (ge,) = [
            row for row in found.contrasts
            if (row.model, row.column, row.measure) == mine and row.contrast.group == "GE"
        ]  # fmt: skip
        assert (effect.p < 0.02, ge.contrast.p_holm < 0.05) == (seen, seen)
        assert (ge.contrast.difference.high < 0) == seen
        assert (ge.smallest_gap.gap < 0.03) == seen


def test_a_contrast_is_the_mean_of_the_patients_own_differences(audit: Audit, frame: pd.DataFrame) -> None:
    """Dice by pandas, with an interval near that of a paired t."""
    table = frame[frame["model"] == "teacher"].pivot_table(index="patient_id", columns="vendor", values="dice")
    for vendor in VENDORS:
        own = table[vendor] - table.drop(columns=vendor).mean(axis=1)
        (row,) = [
            r.contrast for r in audit.contrasts
            if (r.model, r.measure, r.contrast.group) == ("teacher", "dice", vendor)
        ]  # fmt: skip
        assert row.difference.value == pytest.approx(own.mean())
        width = row.difference.high - row.difference.low
        assert width == pytest.approx(2 * 2.045 * own.std() / np.sqrt(30), rel=0.15)
        assert row.difference.n_patients == 30


def test_the_whole_report_says_that_the_patients_are_the_same(audit: Audit, tmp_path: Path) -> None:
    """JSON by its schema, tables, page and console."""
    write_report(audit, tmp_path)
    numbers = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(dict(schema())).validate(numbers)
    for name in ("effects", "contrasts"):
        table = pd.read_csv(tmp_path / f"{name}.csv")
        assert dict(zip(table["column"], table["design"], strict=True)) == {"vendor": WITHIN, "sex": BETWEEN}
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    for said in (
        "each patient&#39;s studies are exchanged among their own groups",
        "minus the same patients&#39; other groups",
        "Dice differs between groups in the same patients",
        "Geisser &amp; Greenhouse 1958",
        "Brown &amp; Forsythe 1974",
        "is drawn, or in a half, in all of them at once",
    ):
        assert said in page, said
    lines = console_table(audit).splitlines()
    assert "vendor, within patients" in lines
    assert "sex" in lines


def test_a_table_of_different_patients_does_not_speak_of_the_same_ones(frame: pd.DataFrame, tmp_path: Path) -> None:
    write_report(assess(frame, replace(PLAN, group_by=("sex",))), tmp_path)
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "Brown &amp; Forsythe" in page
    assert "Geisser" not in page
    assert "in the same patients" not in page


def test_an_area_is_compared_scanner_by_scanner(frame: pd.DataFrame) -> None:
    """GE's probabilities are all pushed up: ranked among themselves they are as good, and the others are no better."""
    pushed = 1 / (1 + (1 / frame["prob_DCM"] - 1) * np.where(frame["vendor"] == "GE", np.exp(-4), 1))
    found = assess(
        frame.assign(prob_DCM=pushed, prob_NOR=1 - pushed),
        replace(PLAN, metrics=("auc",), endpoints={}, replicates=100),
    )
    values = {vendor: found.find("teacher", "vendor", vendor, "auc").value for vendor in VENDORS}
    for row in found.contrasts:
        if (row.model, row.column) == ("teacher", "vendor"):
            group = row.contrast.group
            others = np.mean([value for vendor, value in values.items() if vendor != group])
            assert row.contrast.difference.value == pytest.approx(values[group] - others)
            assert row.contrast.p > 0.05
