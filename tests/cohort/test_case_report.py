"""What a report says of an error that nobody foresaw."""

from __future__ import annotations

import errno
import gzip
import os

import numpy as np
import pytest

from pipeline.cohort.case_report import failed
from pipeline.dicom.time_order import check_steps


def test_an_unexpected_error_is_placed_in_our_code_that_met_it_and_not_in_a_librarys() -> None:
    """A row of three phases and one of two: numpy raises, ``pipeline/dicom/time_order.py`` called it."""
    try:
        check_steps("TriggerTime", np.asarray(7.0))
    except ValueError as error:
        report = failed("study-1", 3, error)
    assert report.sentence.endswith("of time_order.py.")
    assert report.code == "UNEXPECTED_ERROR"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
def test_where_the_system_fails_the_operator_is_told_what_to_mend_and_that_nothing_is_lost(number: int) -> None:
    """A full disk is no fault of the program: nobody is asked to report it."""
    try:
        raise OSError(number, os.strerror(number), "/data/Doe^Jane/1.dcm")
    except OSError as error:
        report = failed("study-1", 3, error)
    assert report.code == "SYSTEM_ERROR"
    assert f"({os.strerror(number)})" in report.sentence
    for words in ("Free space", "right to read and write", "run the same command again", "Nothing is lost"):
        assert words in report.remedy
    assert "report" not in report.remedy
    assert "Doe" not in report.reason


def test_an_error_over_bytes_is_not_the_systems() -> None:
    """gzip's, say: an ``OSError`` without a number."""
    with pytest.raises(gzip.BadGzipFile) as raised:
        gzip.decompress(b"no such thing")
    assert failed("study-1", 3, raised.value).code == "UNEXPECTED_ERROR"
