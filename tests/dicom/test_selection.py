"""Families, stacks and the choice among them, on records made by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.dicom.families import families, has_geometry
from pipeline.dicom.frame_records import Frame
from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.selection import Selection, select
from tests.dicom.frame_builder import NORMAL, SHORT_AXIS, frame, moved, stack

FOUR_CHAMBER = (*NORMAL.tolist(), *SHORT_AXIS[:3])
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def other(frames: Iterable[Frame], series: int, **changes: Any) -> list[Frame]:
    """The same images as another series."""
    return [
        replace(one, series=f"series {series}", series_uid=f"1.{series}", sop_uid=f"{series}.{one.sop_uid}", **changes)
        for one in frames
    ]


def later(frames: Iterable[Frame], seconds: float = 600) -> list[Frame]:
    return [replace(one, acquisition_s=(one.acquisition_s or 0) + seconds) for one in frames]


def further_on(frames: list[Frame]) -> list[Frame]:
    """In planes of their own."""
    return moved(frames, lambda _: 4 * NORMAL)


def refusal(frames: list[Frame]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        select(frames)
    assert sum(entry.images for entry in caught.value.left_out) == len(frames), "every image has its reason"
    return caught.value


def chosen(frames: list[Frame]) -> Selection:
    found = select(frames)
    read = sum(map(len, found.stack.frames))
    assert read + sum(entry.images for entry in found.left_out) == len(frames), "every image is read or has its reason"
    return found


def series_of(selection: Selection) -> set[str]:
    return {one.series for phases in selection.stack.frames for one in phases}


def test_a_plain_stack_comes_out_in_order() -> None:
    """Slices along the normal, phases in time; ``(phases, slices)`` times; one heart cycle for each slice."""
    found = chosen(stack()[::-1]).stack
    assert [[one.sop_uid for one in phases] for phases in found.frames] == [
        [f"1.2.{s}.{p}" for p in range(20)] for s in range(7)
    ]
    assert found.times_ms.shape == (20, 7)
    assert found.rr_ms.tolist() == [800.0] * 7
    assert found.warnings == ()


def test_jitter_of_orientation_and_rounding_of_spacing_split_nothing() -> None:
    random = np.random.default_rng(0)
    frames = [
        replace(
            one,
            orientation=tuple((np.asarray(SHORT_AXIS) + random.uniform(-1e-3, 1e-3, 6)).tolist()),
            pixel_spacing=(1.5 + random.choice([0, 4e-4]), 1.25),
        )
        for one in stack()
    ]
    assert len(families(frames)) == 1
    assert len(chosen(frames).stack.frames) == 7


@pytest.mark.parametrize(
    "changes",
    [{"rows": 14}, {"pixel_spacing": (1.2, 1.2)}, {"scanning_sequence": ("SE",)}, {"complex_component": "PHASE"}],
)
def test_images_of_another_matrix_spacing_or_contrast_are_another_family(changes: dict[str, Any]) -> None:
    assert len(families([*stack(), *stack(**changes)])) == 2


def test_a_frame_of_reference_of_one_file_only_says_nothing() -> None:
    """De-identification can give each file its own; one for each series of one slice says as little."""
    assert len(families(stack(frame_of_reference=lambda at: f"{at.s}.{at.p}"))) == 1
    assert len(families(stack(frame_of_reference=lambda at: f"{at.s}"))) == 1
    assert len(families(stack(frame_of_reference=lambda at: "lost" if at == (0, 0) else "1.3"))) == 1


def test_two_frames_of_reference_that_hold_several_slices_are_two_stacks() -> None:
    """The patient was moved in between: positions of one do not hold in the other."""
    assert len(families(stack(14, frame_of_reference=lambda at: str(at.s // 7)))) == 2


def test_a_stack_in_two_frames_of_reference_is_refused_though_one_would_do() -> None:
    """7 slices of 11: it would pass as a stack without the heart's base."""
    assert refusal(stack(11, frame_of_reference=lambda at: str(at.s // 7))).code is Code.MIXED_GEOMETRY


@pytest.mark.parametrize(
    "changes",
    [
        {"position": None},
        {"orientation": None},
        {"pixel_spacing": None},
        {"position": (0.0, float("nan"), 0.0)},
        {"orientation": (0.0,) * 6},
        {"orientation": (1.0, 0, 0, 1, 0, 0)},
    ],
)
def test_geometry_that_is_missing_or_none_is_said(changes: dict[str, Any]) -> None:
    assert not has_geometry(frame(**changes))
    assert refusal(stack(**changes)).code is Code.NO_GEOMETRY


@pytest.mark.parametrize(
    ("expected", "frames"),
    [
        (Code.TOO_FEW_SLICES, stack(5)),
        (Code.TOO_FEW_PHASES, stack(7, 9)),
        (Code.MISSING_PHASE, stack()[:-1]),
        (Code.MISSING_SLICE, [one for one in stack() if ".2.3." not in one.sop_uid]),
        (Code.DUPLICATE_POSITION, [*stack(), frame(2, 5, sop_uid="9")]),
        (Code.NO_TIMES, stack(trigger_ms=None, instance_number=None)),
        (Code.MIXED_GEOMETRY, moved(stack(), lambda f: 4 * NORMAL * (".2.3." in f.sop_uid))),
        (Code.MIXED_GEOMETRY, moved(stack(), lambda f: 12 * np.asarray(SHORT_AXIS[:3]) * (".2.3." in f.sop_uid))),
        (Code.MIXED_GEOMETRY, moved(stack(), lambda f: 4 * np.asarray(SHORT_AXIS[:3]) * (f.sop_uid == "1.2.3.4"))),
        (Code.TRUNCATED_FILE, [replace(one, complete=one.sop_uid != "1.2.3.4") for one in stack()]),
        (Code.NOT_SHORT_AXIS, stack(orientation=FOUR_CHAMBER)),
        (Code.NOT_SHORT_AXIS, stack(orientation=AXIAL)),
        (Code.NO_CINE, stack(phases=1)),
        (Code.NO_CINE, stack(scanning_sequence=("GR", "IR"), inversion_ms=300.0)),
    ],
    ids=lambda value: value.value if isinstance(value, Code) else "",
)
def test_a_stack_that_is_not_right_is_refused_with_the_code_of_what_is_wrong(
    expected: Code, frames: list[Frame]
) -> None:
    assert refusal(frames).code is expected


def test_an_image_at_another_slice_of_a_series_for_each_slice_is_a_contradiction() -> None:
    """Two slices then have one phase less, four places between them, and five slices are left that are whole."""
    frames = stack(series_uid=lambda at: f"1.{at.s}")
    one, two = frames[25], frames[45]
    frames[25], frames[45] = replace(one, position=two.position), replace(two, position=one.position)
    assert refusal(frames).code is Code.CONTRADICTORY_HEADERS


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("ARRHYTHMIA", {"rr_ms": lambda at: 1000.0 if at.s == 2 else 800.0}),
        ("UNTIMED", {"trigger_ms": None}),
        ("FEWER_PHASES", {"n_cardiac_images": 25}),
        ("SEVERAL_BEATS", {"rr_ms": 400.0}),
    ],
)
def test_what_is_odd_but_can_be_read_is_a_warning(code: str, changes: dict[str, Any]) -> None:
    """Heart cycles of 800 and 1000 ms are 25 % apart; 20 phases of 40 ms are two cycles of 400 ms."""
    assert [warning.split(":")[0] for warning in chosen(stack(**changes)).stack.warnings] == [code]


def test_few_phases_are_a_warning() -> None:
    assert chosen(stack(7, 12)).stack.warnings[0].startswith("FEW_PHASES: 12 phases")


def test_everything_else_is_left_out_with_its_reason() -> None:
    """Ten kinds of series beside the cine, most of them in its very planes."""
    others = {
        2: (Code.LATE_ENHANCEMENT, stack(7, 1, inversion_ms=280.0)),
        3: (Code.STILL, stack(7, 1)),
        4: (Code.LONG_AXIS, stack(1, 20, orientation=FOUR_CHAMBER)),
        5: (Code.FLOW, stack(1, 20, image_type=("ORIGINAL", "PRIMARY", "P"), echo_ms=2.9, repetition_ms=5.0)),
        6: (Code.FLOW, stack(1, 20, echo_ms=2.9, repetition_ms=5.0)),
        7: (Code.PERFUSION, stack(3, 40, trigger_ms=300.0, acquisition_s=lambda at: 40_000 + 0.8 * at.p)),
        8: (Code.MAP, stack(1, 8, inversion_ms=lambda at: 100.0 + 80 * at.p)),
        9: (Code.TAGGING, stack(3, 20, text="tagging sa")),
        10: (Code.NO_GEOMETRY, stack(1, 3, position=None)),
        11: (Code.DERIVED, stack(image_type=("DERIVED", "SECONDARY", "M", "RETRO"))),
        12: (Code.NOT_SHORT_AXIS, stack(3, 20, orientation=(1.0, 0, 0, 0, 0, -1))),
        13: (Code.TOO_FEW_SLICES, stack(3, 50, rows=24, trigger_ms=lambda at: 15.0 * at.p)),
        14: (Code.REPEATED, later(stack(2, 20), -600)),
    }
    frames = stack()
    for number, (_, images) in others.items():
        frames += other(images, number)
    found = chosen(frames)
    assert series_of(found) == {"series 1"}
    assert {entry.series: entry.code for entry in found.left_out} == {
        f"series {number}": code for number, (code, _) in others.items()
    }


def test_a_stack_made_again_is_read_from_the_later_series() -> None:
    """Slice by slice, so that a repeat that covers part of the stack serves where it is."""
    found = chosen([*stack(), *other(later(stack()), 2)])
    assert series_of(found) == {"series 2"}
    assert [(entry.series, entry.code) for entry in found.left_out] == [("series 1", Code.REPEATED)]


def test_a_stack_made_again_in_other_planes_is_read_if_it_is_clearly_a_repeat() -> None:
    """Planned 4 mm further on, with the same number of slices and phases, later."""
    again = other(later(further_on(stack())), 2)
    assert series_of(chosen([*stack(), *again])) == {"series 2"}


def test_two_stacks_that_fit_equally_well_are_refused() -> None:
    """With other phases; or repeated, but nothing tells which came later."""
    finer = other(later(stack(7, 30, trigger_ms=lambda at: 25.0 * at.p)), 2)
    assert refusal([*stack(), *finer]).code is Code.SEVERAL_CINES
    again = other(further_on(stack()), 2)
    assert refusal([*stack(), *again]).code is Code.SEVERAL_CINES


def test_words_decide_only_between_two_that_fit_equally_well() -> None:
    """A still named cine is no cine; of two cines the one that is called so is it."""
    finer = other(later(stack(7, 30, trigger_ms=lambda at: 25.0 * at.p)), 2, text="cine short axis")
    assert series_of(chosen([*stack(text="pretest"), *finer])) == {"series 2"}
    assert series_of(chosen([*stack(), *other(stack(7, 1), 2, text="cine short axis")])) == {"series 1"}


def test_two_stacks_half_a_gap_apart_are_not_one_of_twice_the_slices() -> None:
    """Before and after contrast, a series for each slice of 8 mm, 10 mm apart; the second 5 mm further on."""
    own = {"series": lambda at: f"series {at.s + 1}", "series_uid": lambda at: f"1.{at.s}", "thickness_mm": 8.0}
    first = stack(**own)
    second = [
        replace(one, series=f"series {8 + number // 20}", series_uid=f"2.{number // 20}", sop_uid=f"2.{one.sop_uid}")
        for number, one in enumerate(moved(stack(**own), lambda _: 5 * NORMAL))
    ]
    assert refusal([*first, *later(second)]).code is Code.SEVERAL_CINES
    assert refusal([replace(one, acquisition_s=None) for one in [*first, *second]]).code is Code.SEVERAL_CINES


def _trial(s: int, *, at_mm: float, number: int = 21, **changes: Any) -> list[Frame]:
    """A slice in a series of its own, acquired ten minutes before the stack, ``at_mm`` beyond slice ``s``."""
    shifted = moved([frame(s, p, **changes) for p in range(20)], lambda _: at_mm * NORMAL)
    return later(other(shifted, number), -600)


SERIES_FOR_EACH = {"series": lambda at: f"series {at.s + 1}", "series_uid": lambda at: f"1.{at.s}"}


def test_trial_slices_before_the_stack_are_left_out() -> None:
    """Planned by hand until the plane was right; the stack is whole without them."""
    frames = [*stack(**SERIES_FOR_EACH), *_trial(2, at_mm=4), *_trial(4, at_mm=5, number=22)]
    found = chosen(frames)
    assert len(found.stack.frames) == 7
    assert series_of(found) == {f"series {n}" for n in range(1, 8)}
    assert {entry.code for entry in found.left_out} == {Code.REPEATED}
    assert found.stack.warnings[0].startswith("TRIAL_SLICES: 2 slices")


@pytest.mark.parametrize(
    "trial",
    [
        later(_trial(2, at_mm=4), 1200),
        later(_trial(2, at_mm=4), 600),
        _trial(2, at_mm=4, number=3),
        _trial(0, at_mm=-14),
        [replace(one, acquisition_s=None) for one in _trial(2, at_mm=4)],
    ],
    ids=["after the stack", "amid it", "in one of its series", "beyond its end", "at an unknown time"],
)
def test_a_slice_off_the_grid_that_is_no_trial_for_certain_is_refused(trial: list[Frame]) -> None:
    assert refusal([*stack(**SERIES_FOR_EACH), *trial]).code in {Code.MIXED_GEOMETRY, Code.MISSING_SLICE}


def test_a_slice_that_is_missing_is_never_taken_for_one_too_many() -> None:
    """Without the first slice acquired the rest would be regular: a stack that lacks two slices."""
    frames = [one for one in stack(8, **SERIES_FOR_EACH) if one.series != "series 2"]
    assert refusal(frames).code is Code.MISSING_SLICE


@pytest.mark.parametrize("gap", [1.0, 0.5], ids=["apart", "overlapping"])
def test_a_stack_planned_as_one_is_one_however_thick_its_slices(gap: float) -> None:
    """Odd slices first, then even ones, where they do not overlap; in order, where they do."""
    turn = [0, 4, 1, 5, 2, 6, 3] if gap == 1 else range(7)
    changes = {"series": lambda at: f"series {turn[at.s] + 1}", "series_uid": lambda at: f"1.{at.s}"}
    for time in (lambda at: 36_000.0 + 20 * turn[at.s], 0.0, None):
        planned = stack(thickness_mm=8.0, acquisition_s=time, **changes)
        frames = moved(planned, lambda one: (gap - 1) * np.asarray(one.position))
        assert len(chosen(frames).stack.frames) == 7


def test_a_stack_of_far_more_slices_is_preferred() -> None:
    """12 against 6 in another matrix: the larger is the stack."""
    found = chosen([*stack(12), *other(stack(6, rows=24), 2)])
    assert series_of(found) == {"series 1"}
    assert [entry.code for entry in found.left_out] == [Code.TOO_FEW_SLICES]


def test_a_slice_at_the_end_with_other_phases_is_not_quietly_dropped() -> None:
    """A series for each slice; the last has 30 phases, or 5, or 2 of the 20 announced."""
    for phases in (30, 5, 2):
        frames = [one for one in stack(8, 20, n_cardiac_images=20) if ".2.7." not in one.sop_uid]
        frames = [replace(one, series_uid=one.sop_uid[:5]) for one in frames]
        end = [
            frame(7, p, trigger_ms=800.0 * p / phases, series_uid="1.99", n_cardiac_images=20) for p in range(phases)
        ]
        assert refusal([*frames, *end]).code is Code.MISSING_PHASE


def test_a_computed_cine_is_read_if_there_is_nothing_else_and_that_is_said() -> None:
    found = chosen(stack(image_type=("DERIVED", "PRIMARY", "M")))
    assert [warning.split(":")[0] for warning in found.stack.warnings] == ["DERIVED_IMAGES"]


def test_a_copy_is_no_remedy_for_an_original_that_is_refused() -> None:
    """Its pixels were changed, and nobody would know."""
    frames = [*stack()[:-1], *other(stack(image_type=("DERIVED", "PRIMARY", "M")), 2)]
    found = refusal(frames)
    assert found.code is Code.MISSING_PHASE
    assert [entry.code for entry in found.left_out] == [Code.MISSING_PHASE, Code.DERIVED]


def test_a_secondary_image_is_never_read() -> None:
    """It may have contours drawn in."""
    assert refusal(stack(image_type=("DERIVED", "SECONDARY", "M"))).code is Code.NO_CINE


def test_the_refusal_is_that_of_the_nearest_candidate() -> None:
    """A short-axis stack that lacks a phase says more than the long-axis cine beside it, or a single slice."""
    single = other(stack(1, 30, rows=24, trigger_ms=lambda at: 25.0 * at.p), 2)
    frames = [*stack()[:-1], *single, *other(stack(1, 20, orientation=FOUR_CHAMBER), 3)]
    found = refusal(frames)
    assert found.code is Code.MISSING_PHASE
    assert [entry.code for entry in found.left_out] == [Code.MISSING_PHASE, Code.TOO_FEW_SLICES, Code.LONG_AXIS]


def test_no_text_of_a_header_is_in_a_refusal() -> None:
    """Descriptions can hold names."""
    frames = stack(text="Doe^Jane", stack_id="Doe", sequence_name="Doe", image_type=("ORIGINAL", "PRIMARY", "Doe"))
    frames += other(stack(1, 20, orientation=FOUR_CHAMBER, text="Doe^Jane"), 2)
    said = [refusal(frames[1:])]
    text = " ".join([str(said[0]), *map(str, said[0].left_out)])
    assert not re.search(r"Doe|Jane|1\.2\.|\b1\.1\b", text)
