"""Headers against each other: every way of numbering passes, every exchange between two images is noticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.dicom.cross_check import check_headers
from pipeline.dicom.frame_records import Frame
from pipeline.dicom.refusal import Code, Refusal
from tests.dicom.frame_builder import by_slice, stack

SLICES, PHASES = 7, 20
DEPTHS = 10.0 * np.arange(SLICES)
NUMBERINGS = {
    "slice by slice": lambda at: PHASES * at.s + at.p,
    "phase by phase": lambda at: SLICES * at.p + at.s,
    "from 1 in each slice": lambda at: at.p + 1,
    "downwards": lambda at: 1000 - PHASES * at.s - at.p,
    "downwards in each slice": lambda at: PHASES - at.p,
    "slices in any order": lambda at: PHASES * [3, 1, 6, 0, 5, 2, 4][at.s] + at.p,
    "one slice the other way": lambda at: PHASES * at.s + (PHASES - 1 - at.p if at.s == 4 else at.p),
    "from the middle of the beat": lambda at: PHASES * at.s + (at.p + 7) % PHASES,
    "constant": lambda _: 5,
    "absent": lambda _: None,
    "at random": lambda at: hash((at.s, at.p, 3)) % 100_003,
}


def slices(**changes: Any) -> list[list[Frame]]:
    return by_slice(stack(SLICES, PHASES, **changes))


def swapped(frames: list[list[Frame]], one: tuple[int, int], other: tuple[int, int], name: str) -> list[list[Frame]]:
    """Two images with each other's header."""
    (a, b), (c, d) = one, other
    first, second = frames[a][b], frames[c][d]
    frames[a][b] = replace(first, **{name: getattr(second, name)})
    frames[c][d] = replace(second, **{name: getattr(first, name)})
    return frames


def refused(frames: list[list[Frame]], depths: np.ndarray = DEPTHS) -> bool:
    try:
        check_headers(frames, depths)
    except Refusal as refusal:
        return refusal.code is Code.CONTRADICTORY_HEADERS
    return False


@pytest.mark.parametrize("numbering", NUMBERINGS)
def test_every_way_of_numbering_images_passes(numbering: str) -> None:
    check_headers(slices(instance_number=NUMBERINGS[numbering]), DEPTHS)


@pytest.mark.parametrize("numbering", [name for name in NUMBERINGS if name not in {"constant", "absent", "at random"}])
@pytest.mark.parametrize("other", [(2, 9), (5, 3), (5, 9)], ids=["same slice", "same phase", "neither"])
def test_images_in_each_others_place_are_noticed_by_their_numbers(numbering: str, other: tuple[int, int]) -> None:
    """Slice 2, phase 3 and another: exchanged whole, so that only the number tells. Numbers that start again in each
    slice tell nothing of slices; there the series or the slice's time must.
    """
    frames = slices(instance_number=NUMBERINGS[numbering], acquisition_s=None)
    told = not (numbering in {"from 1 in each slice", "downwards in each slice"} and other == (5, 3))
    assert refused(swapped(frames, (2, 3), other, "instance_number")) is told


TELLING: dict[str, Any] = {
    "series_uid": lambda at: f"1.{at.s}",
    "acquisition_s": lambda at: 36_000.0 + 20 * at.s,
    "content_s": lambda at: 36_000.0 + 20 * at.s + (at.p * 7 % PHASES) / 10,
    "slice_location_mm": lambda at: -7.0 * at.s,
    "acquisition_number": lambda at: at.s + 1,
    "in_stack_position": lambda at: SLICES - at.s,
}


@pytest.mark.parametrize("name", TELLING)
def test_whatever_tells_the_slice_notices_an_image_in_another(name: str) -> None:
    """Without instance numbers. Alone, each of them passes."""
    changes = {"instance_number": None, "acquisition_s": None} | {name: TELLING[name]}
    assert not refused(slices(**changes))
    assert refused(swapped(slices(**changes), (2, 3), (5, 3), name))


@pytest.mark.parametrize("between_s", [8.0, 8.9])
def test_times_of_slices_that_overlap_at_their_ends_are_no_exchange(between_s: float) -> None:
    """Images of a slice are written within 9 s, in no strict order, while those of the next already come."""
    written = {"content_s": lambda at: 36_000.0 + between_s * at.s + (at.p * 7 % PHASES) * 9 / PHASES}
    assert not refused(slices(acquisition_s=None, **written))


CLOCKS = {
    "trigger_ms": lambda at: 20.0 + 40 * at.p,
    "delay_ms": lambda at: 20.0 + 40 * at.p,
    "cycle_percent": lambda at: 5.0 * at.p,
    "temporal_index": lambda at: at.p + 1,
    "temporal_position": lambda at: at.p + 1,
}


@pytest.mark.parametrize("name", CLOCKS)
def test_whatever_tells_the_phase_notices_an_image_at_another(name: str) -> None:
    changes = {"instance_number": None, "trigger_ms": None} | {name: CLOCKS[name]}
    assert not refused(slices(**changes))
    assert refused(swapped(slices(**changes), (2, 3), (2, 9), name))


def test_clocks_that_order_phases_in_two_ways_are_a_contradiction() -> None:
    """In every slice alike, so that no slice is odd; a count that only starts at another phase is none."""
    assert refused(slices(temporal_index=lambda at: [1, 0, *range(2, PHASES)][at.p]))
    assert not refused(slices(temporal_index=lambda at: (at.p + 5) % PHASES))
    assert not refused(slices(temporal_index=1))


def test_trigger_time_and_delay_must_agree_where_they_mostly_do() -> None:
    """8 ms of 40 leave the order as it is, but one of the two is not true."""
    assert refused(slices(delay_ms=lambda at: 20.0 + 40 * at.p + 8 * ((at.s, at.p) == (3, 7))))
    assert not refused(slices(delay_ms=lambda at: 40.0 * at.p))
    assert not refused(slices(trigger_ms=lambda at: 41.7 * at.p // 1, delay_ms=lambda at: 41.7 * at.p))


def test_slice_locations_must_follow_the_positions() -> None:
    """Two slices exchanged whole; downwards, or without a sign, they do follow."""
    assert refused(slices(slice_location_mm=lambda at: 10.0 * [0, 1, 5, 3, 4, 2, 6][at.s]))
    assert not refused(slices(slice_location_mm=lambda at: -6.7 * at.s))
    assert not refused(slices(slice_location_mm=lambda at: abs(6.7 * at.s - 15)))
    assert not refused(slices(slice_location_mm=0.0))


def test_a_clock_that_ticks_on_within_a_slice_is_no_exchange() -> None:
    """Whole seconds, slices 3 s apart; and one slice that was written long after its turn."""
    assert not refused(slices(content_s=lambda at: float(int(36_000 + 3 * at.s + 0.14 * at.p))))
    assert not refused(slices(content_s=lambda at: 36_000.0 + 20 * at.s + 300 * (at.s == 2 and at.p > 17)))


def test_slices_that_are_numbered_from_three_lack_two() -> None:
    """The only header by which a slice missing at an end is noticed; of several stacks the numbers say nothing."""
    with pytest.raises(Refusal) as caught:
        check_headers(slices(in_stack_position=lambda at: at.s + 3), DEPTHS)
    assert caught.value.code is Code.MISSING_SLICE
    check_headers(slices(in_stack_position=lambda at: at.s + 3, stack_id=lambda at: str(at.s % 2)), DEPTHS)
