"""The console table."""

from __future__ import annotations

import pytest

from pipeline.audit.findings import Audit
from pipeline.audit.statistics import Estimate
from pipeline.audit.tables import console_table, in_figures
from pipeline.audit.words import Digits
from tests.audit.made import made_audit


@pytest.fixture(scope="module")
def audit() -> Audit:
    return made_audit()


def test_every_group_stands_in_the_console_table(audit: Audit) -> None:
    """Also those about which little or nothing is known, and the worst is marked once per model and measure."""
    text = console_table(audit)
    models = len(audit.models)
    for vendor in ("Canon", "GE", "Hitachi", "Philips", "Siemens", "UIH"):
        assert sum(line.startswith(f"  {vendor} ") for line in text.splitlines()) == models
    assert text.count("(no patients)") == models * len(audit.measures)
    assert text.count("(too few patients)") >= models * len(audit.measures)
    marked = sum(row.worst is not None for row in audit.worst)
    assert text.count("of draws)") == marked
    assert text.splitlines()[-1].startswith("all patients")
    for heading in ("Accuracy [95 %]", "HD95 [95 %] mm"):
        assert heading in text.splitlines()[0]


def test_columns_of_the_console_table_are_aligned(audit: Audit) -> None:
    """Numbers of patients end below the heading's last letter."""
    lines = console_table(audit).splitlines()
    end = lines[0].index("patients") + len("patients")
    rows = [line for line in lines[2:] if "[" in line]
    assert len(rows) > 10
    assert all(line[end - 1].isdigit() and line[end] == " " for line in rows)


def test_an_estimate_in_figures() -> None:
    """With its interval, or with the reason for none."""
    assert in_figures(Estimate(36, 36, 0.861, 0.75, 0.944, "Wilson"), Digits()) == "0.86 [0.75, 0.94]"
    assert in_figures(Estimate(36, 36, 8.61, 7.5, 9.44, "Wilson"), Digits(1, "mm")) == "8.6 [7.5, 9.4]"
    assert in_figures(Estimate(4, 4, 2 / 3, reason="too few patients"), Digits()) == "0.67 (too few patients)"
    assert in_figures(Estimate(0, 0, reason="no patients"), Digits()) == "- (no patients)"
