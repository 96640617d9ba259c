"""Names from somebody's table in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pandas as pd
import pytest

from pipeline.audit.report import TABLES, write_report
from tests.audit.made import DICE, made_audit


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-2", "@SUM(A1)", "\t=1", "a=1", "GE - 3 T"])
def test_no_name_becomes_a_formula_and_numbers_stay_numbers(name: str, tmp_path: Path) -> None:
    """In every table, first in its cell; the JSON keeps the name, negative differences keep their sign."""
    audit = made_audit({"vendor": {name: 40, "GE": 30, "UIH": 4}}, measures=(DICE,))
    write_report(audit, tmp_path)
    formulas = name[0] in "=+-@\t"
    for table in TABLES:
        for row in csv.DictReader(io.StringIO((tmp_path / table).read_text(encoding="utf-8"))):
            for cell in row.values():
                assert cell[:1] not in "=+-@\t" or not cell or math.isfinite(float(cell))
    groups = pd.read_csv(tmp_path / "groups.csv")["group"]
    assert (f"'{name}" if formulas else name) in set(groups)
    contrasts = pd.read_csv(tmp_path / "contrasts.csv")
    assert contrasts["value"].dtype == float
    assert (contrasts["low"] < 0).any()
    assert json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))["group_names"]["vendor"].count(name) == 1
