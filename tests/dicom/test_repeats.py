"""Slices that were acquired again: the last complete run is read, or none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.dicom.frame_records import Frame
from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.repeats import Chosen, choose_runs
from tests.dicom.frame_builder import by_slice, frame, stack

PHASES, AGAIN = 20, 3
RR_OF_THE_REPEAT = 1.02  # another breath-hold, another heart rate


def repeat(**changes: Any) -> list[Frame]:
    """Slice 3 once more; like the first but for what is given."""
    own = {"sop_uid": lambda p: f"9.{p}", "trigger_ms": lambda p: RR_OF_THE_REPEAT * (20 + 40 * p)} | changes
    return [
        replace(frame(AGAIN, p), **{name: value(p) if callable(value) else value for name, value in own.items()})
        for p in range(PHASES)
    ]


def chosen(more: list[Frame], first: list[Frame] | None = None) -> Chosen:
    slices = by_slice(stack(phases=PHASES))
    slices[AGAIN] = [*more, *(slices[AGAIN] if first is None else first)]
    return choose_runs(slices)


def code_of(more: list[Frame], first: list[Frame] | None = None) -> Code:
    with pytest.raises(Refusal) as caught:
        chosen(more, first)
    return caught.value.code


LATER = {
    "series": {"series_uid": "1.9", "acquisition_s": 37_000.0},
    "acquisition number": {"acquisition_number": 2, "acquisition_s": None},
    "acquisition time": {"acquisition_s": 37_000.0},
    "instance numbers that go on": {"instance_number": lambda p: 5000 + p},
}


@pytest.mark.parametrize("told_by", LATER)
def test_the_later_run_is_read_and_the_other_spared(told_by: str) -> None:
    first = [replace(frame(AGAIN, p), acquisition_number=1, acquisition_s=36_000.0) for p in range(PHASES)]
    if told_by == "acquisition number":
        first = [replace(one, acquisition_s=None) for one in first]
    found = chosen(repeat(**{"acquisition_number": 1, "acquisition_s": 36_000.0} | LATER[told_by]), first)
    assert {one.sop_uid[0] for one in found.slices[AGAIN]} == {"9"}
    assert {one.sop_uid for one in found.spare} == {one.sop_uid for one in first}
    assert found.warnings == ("REPEATED_SLICE: slice 4 of 7 was acquired 2 times; the last complete one is read",)


def test_an_earlier_run_that_comes_last_in_the_files_is_spared() -> None:
    """Order is told by the clock, never by files."""
    found = chosen(repeat(series_uid="1.9", acquisition_s=35_000.0))
    assert {one.sop_uid[0] for one in found.slices[AGAIN]} == {"1"}


def test_a_later_run_that_is_not_whole_is_not_read() -> None:
    """A phase is missing, or a file ends too early."""
    again = repeat(series_uid="1.9", acquisition_s=37_000.0)
    for broken in (again[1:], [replace(again[0], complete=False), *again[1:]]):
        assert {one.sop_uid[0] for one in chosen(broken).slices[AGAIN]} == {"1"}


def test_runs_that_nothing_tells_apart_are_refused() -> None:
    """The same again under other UIDs: in the same series, or in another, with the same times."""
    same = {"trigger_ms": lambda p: 20.0 + 40 * p}
    assert code_of(repeat(**same)) is Code.DUPLICATE_POSITION
    assert code_of(repeat(series_uid="1.9", **same)) is Code.DUPLICATE_POSITION


def test_one_image_twice_is_refused_even_beside_a_whole_earlier_run() -> None:
    """Which of the two is right cannot be told, and the earlier run is not the last."""
    again = repeat(series_uid="1.9", acquisition_s=37_000.0)
    assert code_of([*again, replace(again[4], sop_uid="9.99")]) is Code.DUPLICATE_POSITION
    assert code_of([replace(frame(AGAIN, 4), sop_uid="9.99")]) is Code.DUPLICATE_POSITION


def test_a_slice_that_lacks_phases_is_refused_with_its_number() -> None:
    slices = by_slice(stack(phases=PHASES))
    slices[2] = slices[2][:-1]
    with pytest.raises(Refusal, match="Slice 3 of 7 has 19 phases, others 20") as caught:
        choose_runs(slices)
    assert caught.value.code is Code.MISSING_PHASE


def test_a_slice_with_an_image_of_another_series_in_place_of_its_own_is_a_contradiction() -> None:
    """As many images as there should be, but of two acquisitions."""
    first = [frame(AGAIN, p) for p in range(1, PHASES)]
    assert code_of([replace(frame(AGAIN, 0), series_uid="1.9")], first) is Code.CONTRADICTORY_HEADERS


def test_an_exchange_in_the_last_run_does_not_bring_back_the_first() -> None:
    """19 images of the last run and one of another slice: the first is whole, but was made again for a reason."""
    again = repeat(series_uid="1.9", acquisition_s=37_000.0)
    assert code_of([*again[1:], replace(again[0], series_uid="1.8")]) is Code.CONTRADICTORY_HEADERS


def test_a_truncated_file_is_named_as_such() -> None:
    first = [replace(frame(AGAIN, p), complete=p != 4) for p in range(PHASES)]
    assert code_of([], first) is Code.TRUNCATED_FILE


def test_halves_of_one_run_are_no_runs() -> None:
    """The clock ticks once in the middle of a slice, 10 phases on each side: they do not cover the same heartbeat."""
    slices = by_slice(stack(phases=PHASES, acquisition_s=lambda at: 36_000.0 + 20 * at.s + (at.p >= 10)))
    assert choose_runs(slices).warnings == ()


def test_a_series_for_each_phase_is_one_run() -> None:
    slices = by_slice(stack(phases=PHASES, series_uid=lambda at: f"1.{at.p}"))
    assert [len(one) for one in choose_runs(slices).slices] == [PHASES] * 7


def test_too_few_phases_are_no_cine() -> None:
    with pytest.raises(Refusal) as caught:
        choose_runs(by_slice(stack(phases=9), 9))
    assert caught.value.code is Code.TOO_FEW_PHASES
