"""What a report says of an error that nobody foresaw."""

from __future__ import annotations

import numpy as np

from pipeline.cohort.case_report import failed
from pipeline.dicom.time_order import check_steps


def test_an_unexpected_error_is_placed_in_our_code_that_met_it_and_not_in_a_librarys() -> None:
    """A row of three phases and one of two: numpy raises, ``pipeline/dicom/time_order.py`` called it."""
    try:
        check_steps("TriggerTime", np.asarray(7.0))
    except ValueError as error:
        report = failed("study-1", 3, error)
    assert report.sentence.endswith("of time_order.py.")
