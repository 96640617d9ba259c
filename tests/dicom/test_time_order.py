"""The ladder of time: each rung, when it counts, and what becomes of uneven times."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.dicom.frame_records import Frame
from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.time_order import order_phases
from tests.dicom.frame_builder import by_slice, stack

PHASES = 20


def slices(**changes: Any) -> list[list[Frame]]:
    """Shuffled within each slice."""
    found = by_slice(stack(phases=PHASES, **changes))
    for one in found:
        random.Random(1).shuffle(one)
    return found


def refused(**changes: Any) -> Code:
    with pytest.raises(Refusal) as caught:
        order_phases(slices(**changes))
    return caught.value.code


RUNGS = {
    "TriggerTime": {"trigger_ms": lambda at: 20 + (40 + at.s / 10) * at.p},
    "CardiacTriggerDelayTime": {"delay_ms": lambda at: 40.0 * at.p},
    "NominalPercentageOfCardiacPhase": {"cycle_percent": lambda at: 5.0 * at.p},
    "TemporalPositionIndex": {"temporal_index": lambda at: at.p + 1},
    "TemporalPositionIdentifier": {"temporal_position": lambda at: at.p + 1},
    "AcquisitionTime": {"acquisition_s": lambda at: 36_000 + 20 * at.s + 0.04 * at.p},
    "InstanceNumber": {"instance_number": lambda at: 7 * at.p + at.s},
}
BARE = {"trigger_ms": None, "acquisition_s": None, "instance_number": None}


@pytest.mark.parametrize("rung", RUNGS)
def test_each_rung_orders_the_phases_alone(rung: str) -> None:
    order = order_phases(slices(**(BARE | RUNGS[rung])))
    assert order.rung == rung
    assert [[frame.sop_uid for frame in one] for one in order.frames] == [
        [f"1.2.{s}.{p}" for p in range(PHASES)] for s in range(7)
    ]


@pytest.mark.parametrize("lower", range(1, len(RUNGS)))
def test_a_rung_is_asked_only_where_those_above_do_not_count(lower: int) -> None:
    """All from here down tell the order; the rung above is constant, as some scanners write it."""
    names = list(RUNGS)
    changes = BARE | {key: value for name in names[lower:] for key, value in RUNGS[name].items()}
    above = next(iter(RUNGS[names[lower - 1]]))
    assert order_phases(slices(**(changes | {above: 3}))).rung == names[lower]


def test_times_are_those_of_the_header() -> None:
    """``(phases, slices)``: 20 + 40 p ms; of a percentage with a cycle of 800 ms, 40 p."""
    times = np.repeat(40.0 * np.arange(PHASES)[:, None], 7, axis=1)
    assert np.allclose(order_phases(slices()).times_ms, times + 20)
    assert np.allclose(order_phases(slices(**(BARE | RUNGS["NominalPercentageOfCardiacPhase"]))).times_ms, times)


def test_times_are_unknown_where_only_an_order_is_known() -> None:
    """Never made up from a number of phases."""
    assert np.isnan(order_phases(slices(**(BARE | RUNGS["InstanceNumber"]))).times_ms).all()
    percent = BARE | RUNGS["NominalPercentageOfCardiacPhase"] | {"rr_ms": None}
    assert np.isnan(order_phases(slices(**percent)).times_ms).all()


def test_a_trigger_time_that_is_no_time_in_a_heartbeat_does_not_count() -> None:
    """Some scanners write the start of each of many beats, or delays of a thousandth of a second, there."""
    for step in (800.0, 0.01):
        assert order_phases(slices(trigger_ms=lambda at, step=step: step * at.p)).rung == "InstanceNumber"


def test_without_any_order_nothing_is_guessed() -> None:
    assert refused(**BARE) is Code.NO_TIMES


def test_two_images_of_one_slice_at_one_time_are_a_contradiction_where_other_slices_have_none() -> None:
    assert (
        refused(trigger_ms=lambda at: 20.0 + 40 * (7 if (at.s, at.p) == (2, 6) else at.p)) is Code.CONTRADICTORY_HEADERS
    )


def test_a_time_far_off_the_others_of_its_slice_is_a_contradiction() -> None:
    """Half a step, or a tenth where the others are even to the last digit; but not what rounding to 2.5 ms makes."""
    assert refused(trigger_ms=lambda at: 20.0 + 40 * at.p + 20 * ((at.s, at.p) == (2, 6))) is Code.CONTRADICTORY_HEADERS
    assert refused(trigger_ms=lambda at: 20.0 + 40 * at.p + 4 * ((at.s, at.p) == (2, 6))) is Code.CONTRADICTORY_HEADERS
    assert order_phases(slices(trigger_ms=lambda at: round((20 + 40.7 * at.p) / 2.5) * 2.5)).warnings == ()


@pytest.mark.parametrize("tick_ms", [2.5, 1.0])
@pytest.mark.parametrize("phases", [20, 25, 30])
def test_times_rounded_to_a_tick_are_even(tick_ms: float, phases: int) -> None:
    """Siemens' clock ticks every 2.5 ms, others are written as whole ms. Where a step is nearly a multiple of the
    tick, times lie on one line until they jump by a tick: no header lies in those few slices.
    """
    for seed in range(20):
        cycle = np.random.default_rng(seed).normal(850, 60, 7)
        times = {"trigger_ms": lambda at, cycle=cycle: round(cycle[at.s] * at.p / phases / tick_ms) * tick_ms}
        assert order_phases(by_slice(stack(phases=phases, **times), phases)).warnings == ()


def test_a_time_off_by_more_than_a_tick_is_still_a_contradiction() -> None:
    """Slices 41, 41.2, … ms, rounded to 1 ms; one image 4 ms late."""
    late = {"trigger_ms": lambda at: round((41 + at.s / 5) * at.p) + 4.0 * ((at.s, at.p) == (2, 6))}
    assert refused(**late) is Code.CONTRADICTORY_HEADERS


def test_a_hole_in_every_slice_is_a_missing_phase() -> None:
    """Nobody else could notice: all slices have equally many."""
    assert refused(trigger_ms=lambda at: 20.0 + 40 * (at.p + (at.p > 8))) is Code.MISSING_PHASE


def test_a_hole_in_every_slice_is_believed_where_headers_announce_as_many_phases() -> None:
    order = order_phases(slices(trigger_ms=lambda at: 20.0 + 40 * (at.p + (at.p > 8)), n_cardiac_images=PHASES))
    assert [warning.split(":")[0] for warning in order.warnings] == ["UNEVEN_TIMES"]


@pytest.mark.parametrize(
    "changes",
    [
        {"trigger_ms": lambda at: 20.0 + 80 * (at.p // 2)},
        {"trigger_ms": lambda at: 20.0 + 80 * (at.p // 2) + at.p % 2},
        {"n_cardiac_images": 10},
    ],
    ids=["same times", "nearly the same times", "announced"],
)
def test_two_acquisitions_in_each_slice_are_not_one_of_twice_the_phases(changes: dict[str, Any]) -> None:
    assert refused(**changes) is Code.DUPLICATE_POSITION


def test_instance_numbers_alone_must_count_evenly() -> None:
    """A hole in them may be a lost phase, or nothing."""
    assert refused(**BARE | {"instance_number": lambda at: at.p + (at.p > 8)}) is Code.NO_TIMES


def test_a_field_that_some_images_lack_does_not_count() -> None:
    frames = slices(temporal_index=lambda at: at.p)
    frames[0][0] = replace(frames[0][0], trigger_ms=None)
    assert order_phases(frames).rung == "TemporalPositionIndex"
