"""`evenbeat accept`: its statuses, words and files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli_accept import add_accept
from tests.audit.hospital import studies, write_audit


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """See :func:`write_audit`."""
    return write_audit(tmp_path)


def run(*arguments: Any) -> int:
    parser = argparse.ArgumentParser()
    add_accept(parser.add_subparsers())
    parsed = parser.parse_args(["accept", *map(str, arguments)])
    return int(parsed.command(parsed))


@pytest.mark.parametrize(
    ("right", "wrong", "status", "said"),
    [(95, 5, 0, "Pass"), (60, 40, 4, "Fail"), (27, 3, 5, "Too few studies to tell: 371 more patients needed")],
)
def test_the_status_is_the_verdict(
    audit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], right: int, wrong: int, status: int, said: str
) -> None:
    table = tmp_path / "local.csv"
    studies(right, wrong).to_csv(table, index=False)
    assert run(table, "--package", audit.parent, "-o", tmp_path / "out") == status
    printed = capsys.readouterr().out
    assert said in printed.splitlines()
    assert "Jane" not in printed
    assert json.loads((tmp_path / "out" / "acceptance.json").read_text())["verdict"] in said.lower()
    assert said in (tmp_path / "out" / "acceptance.html").read_text()


def test_options_reach_the_comparison(audit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Patients under another name, all of GE, a margin of ten points: 0.8 less 0.1."""
    table = tmp_path / "local.csv"
    bare = studies(50, 2)[["patient_id", "label", "prob_NOR", "prob_HCM"]]
    bare.rename(columns={"patient_id": "PatID"}).to_csv(table, index=False)
    options = ("--group", "vendor=GE", "--margin", "0.1", "--column", "patient_id=PatID", "--title", "Hospital A")
    assert run(table, "--audit", audit, "-o", tmp_path / "out", *options) == 0
    record = json.loads((tmp_path / "out" / "acceptance.json").read_text())
    assert (record["margin"], record["groups"][0]["group"], record["groups"][0]["goal"]) == (0.1, "GE", 0.7)
    assert "Hospital A" in (tmp_path / "out" / "acceptance.html").read_text()
    assert "GE: 52 patients" in capsys.readouterr().out


def test_what_is_no_pair_is_refused(audit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("local.csv", "--audit", audit, "-o", tmp_path, "--group", "Siemens")
    assert "must be NAME=VALUE; got 'Siemens'" in capsys.readouterr().err
