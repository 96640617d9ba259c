"""The console table."""

from __future__ import annotations

import pandas as pd

from pipeline.audit.assessment import Settings, assess
from pipeline.audit.statistics import Estimate
from pipeline.audit.tables import console_table, in_figures, in_words


def test_every_group_stands_in_the_console_table(frame: pd.DataFrame) -> None:
    """Also those about which little or nothing is known, and the worst is marked once per model."""
    audit = assess(frame, Settings(("vendor",), 300), {"vendor": ["Hitachi"]})
    text = console_table(audit)
    for vendor in ("Canon", "GE", "Hitachi", "Philips", "Siemens", "UIH"):
        assert sum(line.startswith(f"  {vendor} ") for line in text.splitlines()) == 3
    assert text.count("(no patients)") == 3 * 2
    assert text.count("(too few patients)") == 3 * 2
    assert text.count("lowest, in") == 3
    assert text.splitlines()[-1].startswith("all patients")


def test_columns_of_the_console_table_are_aligned(frame: pd.DataFrame) -> None:
    """Numbers of patients end below the heading's last letter."""
    lines = console_table(assess(frame, Settings(("vendor",), 300))).splitlines()
    end = lines[0].index("patients") + len("patients")
    rows = [line for line in lines[2:] if "[" in line]
    assert len(rows) > 10
    assert all(line[end - 1].isdigit() and line[end] == " " for line in rows)


def test_an_estimate_in_figures() -> None:
    """With its interval, or with the reason for none."""
    assert in_figures(Estimate(36, 36, 0.861, 0.75, 0.944, "patient bootstrap")) == "0.86 [0.75, 0.94]"
    assert in_figures(Estimate(4, 4, 2 / 3, reason="too few patients")) == "0.67 (too few patients)"
    assert in_figures(Estimate(0, 0, reason="no patients")) == "- (no patients)"


def test_columns_are_spoken_in_words() -> None:
    """As a reader would say them."""
    assert in_words("field_strength_t") == "field strength"
    assert in_words("vendor x label") == "vendor and class"
    assert in_words("software_version") == "software version"
