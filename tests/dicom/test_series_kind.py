"""What a series is, told from contrast and timing; and from words only where nothing else can."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.dicom.frame_records import Frame
from pipeline.dicom.parts import Part, is_turned, is_twin
from pipeline.dicom.refusal import Code
from pipeline.dicom.series_kind import beat_step_s, has_heartbeat, kind_of
from tests.dicom.frame_builder import frame, moved, stack

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def part(slices: int = 2, phases: int = 20, **changes: Any) -> Part:
    return Part(tuple(stack(slices, phases, **changes)))


def kind(slices: int = 2, phases: int = 20, **changes: Any) -> Code | None:
    found = kind_of(part(slices, phases, **changes))
    return found and found[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"trigger_ms": None},
        {"inversion_ms": 0.0},
        {"inversion_ms": 300.0},
        {"image_type": ("DERIVED", "PRIMARY", "M")},
        {"text": "Montag 3 stage gridded"},
        {"image_type": ("ORIGINAL", "PRIMARY", "CARDIAC", "COMPRESSED")},
    ],
)
def test_what_may_be_a_cine_is_not_sorted_out(changes: dict[str, Any]) -> None:
    """Whatever a scanner leaves in its headers: an inversion of 0 or of another sequence, words within words."""
    assert kind(**changes) is None


@pytest.mark.parametrize(
    ("expected", "phases", "changes"),
    [
        (Code.LOCALISER, 1, {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}),
        (Code.DERIVED, 20, {"image_type": ("DERIVED", "SECONDARY", "MPR")}),
        (Code.DERIVED, 20, {"image_type": ("ORIGINAL", "PRIMARY", "R")}),
        (Code.FLOW, 20, {"image_type": ("ORIGINAL", "PRIMARY", "P", "ND")}),
        (Code.FLOW, 20, {"complex_component": "PHASE"}),
        (Code.FLOW, 20, {"velocity_encoded": True}),
        (Code.MAP, 8, {"inversion_ms": lambda at: 100.0 + 80 * at.p}),
        (Code.MAP, 8, {"echo_ms": lambda at: 2.0 + 2 * at.p}),
        (Code.MAP, 1, {"image_type": ("DERIVED", "PRIMARY", "T1 MAP")}),
        (Code.MAP, 8, {"text": "sax MOLLI pre"}),
        (Code.LATE_ENHANCEMENT, 1, {"inversion_ms": 280.0}),
        (Code.LATE_ENHANCEMENT, 2, {"inversion_ms": 280.0}),
        (Code.LATE_ENHANCEMENT, 20, {"scanning_sequence": ("GR", "IR")}),
        (Code.TAGGING, 20, {"text": "sa grid tagging"}),
        (Code.TAGGING, 20, {"sequence_name": "*fl2d5_tag"}),
        (Code.STILL, 1, {}),
        (Code.STILL, 3, {}),
        (Code.PERFUSION, 20, {"trigger_ms": 300.0, "acquisition_s": lambda at: 36_000 + 0.9 * at.p}),
        (Code.PERFUSION, 20, {"trigger_ms": 300.0, "acquisition_s": None, "content_s": lambda at: 0.9 * at.p}),
        (Code.PERFUSION, 20, {"trigger_ms": lambda at: 900.0 * at.p}),
        (Code.PERFUSION, 20, {"trigger_ms": lambda at: 300.0 + at.p, "acquisition_s": lambda at: 0.9 * at.p}),
        (Code.NO_CINE, 20, {"scanning_sequence": ("EP", "SE"), "trigger_ms": None}),
        (Code.NO_CINE, 20, {"scanning_sequence": ("EP",), "trigger_ms": lambda at: 2000.0 * at.p}),
    ],
)
def test_each_kind_is_told_by_its_headers(expected: Code, phases: int, changes: dict[str, Any]) -> None:
    assert kind(2, phases, **changes) is expected


def test_what_is_left_of_a_cine_is_not_taken_for_stills() -> None:
    """Two images where the headers announce 20: the slice is not whole, and that must be said."""
    assert kind(1, 2, n_cardiac_images=20) is None


def test_stills_in_several_directions_are_a_localiser() -> None:
    one, other = part(3, 1), Part((frame(orientation=CORONAL),))
    assert is_turned([one, other])
    assert not is_turned([one, part(2, 1)])
    assert kind_of(one, turned=True) == (Code.LOCALISER, "stills of several orientations")


def test_phases_of_a_cine_are_less_than_a_beat_apart() -> None:
    """Also where the clock of the day ticks once a second, or images were written half a second apart."""
    assert beat_step_s(stack(1, 20)) is None
    assert beat_step_s(stack(1, 20, trigger_ms=None, acquisition_s=lambda at: at.p // 10)) is None
    assert beat_step_s(stack(1, 20, content_s=lambda at: 0.5 * at.p)) is None
    assert beat_step_s(stack(1, 20, trigger_ms=lambda at: 800.0 * at.p)) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"trigger_ms": None, "cycle_percent": lambda at: 5.0 * at.p}, True),
        ({"trigger_ms": None, "n_cardiac_images": 20}, True),
        ({"trigger_ms": None}, False),
        ({"trigger_ms": lambda at: 900.0 * at.p}, False),
    ],
)
def test_a_heartbeat_is_told_by_its_clocks(changes: dict[str, Any], *, expected: bool) -> None:
    assert has_heartbeat(stack(1, 20, **changes)) is expected


def flow(**changes: Any) -> Part:
    return part(1, series_uid="1.7", echo_ms=2.9, repetition_ms=5.1, **changes)


def magnitude(**changes: Any) -> Part:
    return part(1, **({"series_uid": "1.8", "echo_ms": 2.9, "repetition_ms": 5.1} | changes))


def test_the_magnitude_of_flow_images_is_told_by_place_and_echo_time() -> None:
    assert is_twin(magnitude(), flow())
    assert is_twin(magnitude(series_uid="1.7", echo_ms=None), flow())


@pytest.mark.parametrize("changes", [{"echo_ms": 1.5}, {"echo_ms": None}, {"rows": 14}, {"orientation": CORONAL}])
def test_a_cine_in_the_plane_of_flow_images_is_not_their_magnitude(changes: dict[str, Any]) -> None:
    assert not is_twin(magnitude(**changes), flow())


def test_a_plane_aside_is_not_the_magnitudes() -> None:
    aside: list[Frame] = moved(list(magnitude().frames), lambda _: (0, 0, 12.0))
    assert not is_twin(Part(tuple(aside)), flow())


def test_the_phase_images_of_a_whole_cine_do_not_make_its_magnitude_flow() -> None:
    """Unless velocities are encoded."""
    cine = part(8, series_uid="1.7")
    assert not is_twin(cine, part(8, series_uid="1.7", image_type=("ORIGINAL", "PRIMARY", "P")))
    assert is_twin(cine, part(8, series_uid="1.7", velocity_encoded=True))
