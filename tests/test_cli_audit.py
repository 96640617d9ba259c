"""`evenbeat audit`: options make a plan, and a plan is followed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.audit.findings import Audit
from pipeline.audit.plan import Threshold
from pipeline.audit.plan_file import read_plan
from pipeline.cli import main
from pipeline.cli_audit import pictures_in


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two models, two splits, three vendors of which one is spelt in two ways, a semicolon and decimal commas."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "PatID": f"Doe-{i}", "maker": ("Siemens", "GE", "ge", "UIH")[i % 4],
            "truth": ("healthy", "ill")[i // 4 % 2],
            "score": round(float(rng.uniform(0.3, 1) if i // 4 % 2 else rng.uniform(0, 0.7)), 3), "age": 30 + i % 50,
            "hd95_mm": round(float(rng.lognormal(2, 0.3)), 2), "model": model, "split": split,
            "physician": "Dr Zebedee",
        }
        for split in ("test", "validation") for model in ("teacher", "student") for i in range(96)
    ]  # fmt: skip
    path = tmp_path / "table.csv"
    pd.DataFrame(rows).to_csv(path, index=False, sep=";", decimal=",")
    return path


COLUMNS = [
    "--column",
    "patient_id=PatID",
    "--column",
    "vendor=maker",
    "--column",
    "label=truth",
    "--column",
    "prob=score",
]
OPTIONS = [
    *COLUMNS, "--group-by", "vendor,age", "--merge", "vendor:ge=GE", "--positive", "ill", "--age-bands", "40,60",
    "--endpoint", "hd95_mm:lower:mm:1.5", "--threshold", "sensitivity=0.9@validation", "--margin", "0.1",
    "--reference-group", "vendor=Siemens", "--replicates", "100", "--seed", "3",
]  # fmt: skip


def test_options_make_a_plan_that_is_written_beside_the_report(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the options leave open is seen from the table: the split and the teacher."""
    out = tmp_path / "report"
    assert main(["audit", str(table), "-o", str(out), *OPTIONS]) == 0
    said = capsys.readouterr().out
    plan = read_plan(out / "plan.yaml")
    assert (plan.reference_model, plan.split, plan.group_by) == ("teacher", "test", ("vendor", "age"))
    assert plan.threshold == Threshold("sensitivity", 0.9, "validation")
    assert plan.endpoints["hd95_mm"].margin == 1.5
    assert (plan.merge, plan.reference_group) == ({"vendor": {"ge": "GE"}}, {"vendor": "Siemens"})
    assert plan.fingerprint[:16] in said
    assert "40-59" in said
    assert (out / "audit.html").is_file()
    for file in out.rglob("*"):
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        assert "Zebedee" not in text, file
        assert "Doe-" not in text, file
    again = [*COLUMNS, "--plan", str(out / "plan.yaml")]
    assert main(["audit", str(table), "-o", str(tmp_path / "again"), *again]) == 0
    assert (tmp_path / "again" / "audit.json").read_bytes() == (out / "audit.json").read_bytes()


def test_an_option_that_contradicts_the_plan_is_refused(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is read."""
    plan = tmp_path / "plan.yaml"
    plan.write_text("group_by: [vendor]\nmetrics: [accuracy]\n")
    assert main(["audit", str(table), "-o", str(tmp_path / "r"), "--plan", str(plan), "--min-patients", "20"]) == 2
    assert "min_patients: 10 against 20" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_endpoints_alone_need_no_probabilities(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And no metrics are asked for."""
    out = tmp_path / "report"
    options = ["--column", "patient_id=PatID", "--group-by", "maker", "--endpoint", "hd95_mm:lower:mm"]
    merge = ["--merge", "maker:ge=GE", "--replicates", "100"]
    assert main(["audit", str(table), "-o", str(out), *options, *merge]) == 0
    assert read_plan(out / "plan.yaml").metrics == ()
    assert "HD95 [95 %] mm" in capsys.readouterr().out


def test_the_report_is_logged_where_asked(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it lies there complete, with the table that was read."""
    asked = []

    def log_audit(folder: Path, frame: pd.DataFrame, audit: Audit, uri: str, *, run_id: str | None) -> None:
        asked.append((sorted(path.name for path in folder.glob("*.html")), len(frame), audit.models, uri, run_id))

    monkeypatch.setitem(sys.modules, "pipeline.tracking.audit_run", SimpleNamespace(log_audit=log_audit))
    options = [*COLUMNS, "--positive", "ill", "--merge", "vendor:ge=GE", "--replicates", "100"]
    logged = ["--mlflow", "sqlite:///runs.db", "--mlflow-run", "abc"]
    assert main(["audit", str(table), "-o", str(tmp_path / "report"), *options, *logged]) == 0
    assert asked == [(["audit.html"], 384, ("teacher", "student"), "sqlite:///runs.db", "abc")]


def test_two_spellings_are_asked_about(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Never merged silently."""
    assert main(["audit", str(table), "-o", str(tmp_path / "r"), *COLUMNS, "--positive", "ill"]) == 2
    said = capsys.readouterr().err
    assert "'ge'" in said
    assert "merge" in said


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("--endpoint", "dice", "hd95_mm:lower:mm"),
        ("--endpoint", "dice:best", "hd95_mm:lower:mm"),
        ("--endpoint", "dice:higher::x", "must be a number"),
        ("--threshold", "youden", "youden@validation"),
        ("--threshold", "sensitivity@validation", "sensitivity=NUMBER@SPLIT"),
        ("--merge", "ge=GE", "vendor:ge=GE"),
        ("--column", "PatID", "patient_id=PatID"),
        ("--age-bands", "40;60", "40,60"),
    ],
)
def test_an_option_of_another_form_is_refused_with_an_example(
    option: str, value: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["audit", "x.csv", "-o", "y", option, value])
    assert stopped.value.code == 2
    assert remedy in capsys.readouterr().err


def test_pictures_are_found_by_case_and_linked_from_the_report(tmp_path: Path) -> None:
    """As a path from the page, whatever the folders are."""
    for name in ("c1.png", "c2.SVG", "notes.txt"):
        (tmp_path / "montage").mkdir(exist_ok=True)
        (tmp_path / "montage" / name).touch()
    found = pictures_in(tmp_path / "montage", tmp_path / "out" / "report")
    assert found == {"c1": "../../montage/c1.png", "c2": "../../montage/c2.SVG"}
    assert pictures_in(None, tmp_path) == {}
    with pytest.raises(FileNotFoundError, match="check --pictures"):
        pictures_in(tmp_path / "nowhere", tmp_path)
