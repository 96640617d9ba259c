"""End-diastole is where the cavity is largest, end-systole where it is smallest, whatever the scanner made of it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.sunnybrook import read_sunnybrook
from transforms.geometry import orient_short_axis, spacing_mm
from transforms.heart import HeartCentre, find_heart
from transforms.phases import find_phases

SPACING = (10.0, 2.0, 2.0)
HEART = HeartCentre(50.0, 54.0, 1.0)
# A cycle of 20 phases by hand [share of the stroke that is still to be ejected]: still for two phases, ejection, still
# for two, fast filling, rest, atrial kick.
CYCLE = np.array(
    [1, 0.99, 0.85, 0.6, 0.35, 0.15, 0.01, 0, 0.03, 0.2, 0.42, 0.6, 0.7, 0.72, 0.73, 0.74, 0.75, 0.8, 0.88, 0.96]
)
ED, ES = 1, 6  # the last before ejection that is full within 5 %, the first after it that is empty within 5 %


def beating(volume: np.ndarray, *, blood: float = 600.0, muscle: float = 200.0, slices: int = 6) -> np.ndarray:
    """Cine of a cavity of 18 to 26 mm radius in a wall whose muscle keeps its area, in a still, textured body."""
    rows, cols = np.meshgrid(np.arange(100) * 2.0, np.arange(110) * 2.0, indexing="ij")
    distance = np.hypot(rows - 100.0, cols - 108.0)
    inner = np.sqrt(18.0**2 + np.asarray(volume, dtype=float) * (26.0**2 - 18.0**2))
    body = 350.0 + 150.0 * np.sin(rows / 13) * np.sin(cols / 17)
    images = []
    for radius in inner:
        wall = cover(np.sqrt(radius**2 + 36.0**2 - 26.0**2) - distance)
        image = body + wall * (muscle - body)
        images.append(image + cover(radius - distance) * (blood - image))
    return np.stack([np.stack(images)] * slices, axis=1).astype(np.float32)


def cover(depth: np.ndarray) -> np.ndarray:
    return np.clip(depth / 2.0 + 0.5, 0, 1)


def found(cine: np.ndarray) -> tuple[int, int]:
    phases = find_phases(cine, SPACING, HEART)
    return phases.ed, phases.es


def test_phases_next_to_ejection_are_found_in_a_cycle_drawn_by_hand() -> None:
    """Full within 5 % are 19, 0 and 1, empty within 5 % are 6, 7 and 8: ejection runs from 1 to 6."""
    phases = find_phases(beating(CYCLE), SPACING, HEART)
    assert (phases.ed, phases.es) == (ED, ES)
    assert phases.confidence > 0.9


@pytest.mark.parametrize("shift", range(1, 20))
def test_where_the_cycle_begins_moves_both_phases_and_nothing_else(shift: int) -> None:
    """End-diastole is often one of the last phases: all of time is cyclic."""
    phases = find_phases(np.roll(beating(CYCLE), shift, axis=0), SPACING, HEART)
    assert (phases.ed, phases.es) == ((ED + shift) % 20, (ES + shift) % 20)
    assert phases.confidence == pytest.approx(find_phases(beating(CYCLE), SPACING, HEART).confidence, abs=1e-6)


@pytest.mark.parametrize("phases", range(10, 41, 3))
def test_any_number_of_phases_gives_the_same_moments(phases: int) -> None:
    """Within one phase, or a twentieth of the cycle where phases are finer than those drawn."""
    cycle = np.interp(np.arange(phases) * 20 / phases, np.arange(21), np.append(CYCLE, CYCLE[0]))
    for index, expected in zip(found(beating(cycle)), (ED, ES), strict=True):
        apart = abs(index / phases - expected / 20)
        assert min(apart, 1 - apart) <= max(1 / phases, 1 / 20) + 1e-9


@pytest.mark.parametrize("first", ["full", "empty"])
@pytest.mark.parametrize("signals", [(600.0, 200.0), (150.0, 500.0), (330.0, 250.0)])
def test_of_two_phases_the_larger_cavity_is_end_diastole(first: str, signals: tuple[float, float]) -> None:
    """Bright blood, dark blood, and blood hardly brighter than the muscle: motion tells, not brightness."""
    cine = beating(np.array([1.0, 0.0]), blood=signals[0], muscle=signals[1])
    assert found(cine if first == "full" else cine[::-1]) == ((0, 1) if first == "full" else (1, 0))


def test_dark_blood_gives_the_phases_of_bright_blood() -> None:
    assert found(beating(CYCLE, blood=120.0, muscle=500.0)) == (ED, ES)
    assert found(1000.0 - beating(CYCLE)) == (ED, ES)


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e4])
def test_the_unit_of_the_intensities_does_not_matter(scale: float) -> None:
    assert found(scale * beating(CYCLE)) == (ED, ES)


def test_noise_and_a_coils_bias_move_neither_by_more_than_a_phase() -> None:
    """Noise of a tenth of the blood's signal, and a coil eight times as strong at one edge as at the other."""
    rng = np.random.default_rng(0)
    cine = beating(CYCLE) * np.geomspace(0.35, 2.8, 110)
    for _ in range(5):
        ed, es = found(cine + rng.normal(0, 60.0, cine.shape))
        assert abs(ed - ED) <= 1
        assert abs(es - ES) <= 1


@pytest.mark.parametrize("begin", [0, 3, 9])
def test_a_flash_of_some_phases_is_not_taken_for_blood(begin: int) -> None:
    """The first images of a triggered gradient echo are brighter, all over; wherever that falls in the cycle."""
    flash = np.roll(1 + 0.3 * np.exp(-np.arange(20) / 2.0), begin)[:, None, None, None]
    assert found(beating(CYCLE) * flash) == (ED, ES)


@pytest.mark.parametrize("lost", [2, 3])
def test_a_cine_that_stops_before_the_end_of_the_cycle_is_full_at_its_beginning(lost: int) -> None:
    """Triggered prospectively, the last 10 to 15 % of the cycle are missing, the atrial kick with them."""
    assert found(beating(CYCLE)[:-lost]) == (ED, ES)


@pytest.mark.parametrize("off", [(15.0, 0.0), (-15.0, 0.0), (0.0, 15.0), (0.0, -15.0)])
def test_a_heart_found_15_mm_off_gives_the_same_phases(off: tuple[float, float]) -> None:
    heart = HeartCentre(HEART.row + off[0] / 2, HEART.col + off[1] / 2, 1.0)
    phases = find_phases(beating(CYCLE), SPACING, heart)
    assert (phases.ed, phases.es) == (ED, ES)


def test_a_basal_slice_in_which_the_atrium_fills_is_outvoted() -> None:
    """The mitral plane descends in systole; above it the blood becomes more."""
    cine = beating(CYCLE)
    cine[:, 0] = beating(1 - CYCLE)[:, 0]
    assert found(cine) == (ED, ES)


def test_a_study_of_one_slice_is_read() -> None:
    assert found(beating(CYCLE, slices=1)) == (ED, ES)


@pytest.mark.parametrize("phases", [2, 10, 25])
def test_confidence_is_next_to_nothing_where_nothing_pulsates(phases: int) -> None:
    """Noise on a still heart, nothing but noise, and a still heart whose brightness flickers."""
    rng = np.random.default_rng(0)
    still = np.repeat(beating(np.ones(1)), phases, axis=0)
    flicker = 1 + 0.1 * rng.normal(size=(phases, 1, 1, 1))
    noise = rng.normal(0, 1.0, still.shape)
    for cine in (still + 30 * noise, noise, still * flicker + noise):
        assert find_phases(cine, SPACING, HEART).confidence < 0.1


def test_confidence_falls_with_the_stroke() -> None:
    """A heart that ejects a tenth of what another one does has ends that are less distinct."""
    strokes = [find_phases(beating(1 - share * (1 - CYCLE)), SPACING, HEART).confidence for share in (1.0, 0.3, 0.03)]
    assert strokes[0] > strokes[1] > strokes[2]
    assert strokes[2] < 0.2


def test_a_systole_longer_than_any_heart_has_halves_the_confidence() -> None:
    """Ejection takes 14 of 20 phases: so it looks if full and empty were mistaken for each other."""
    cycle = np.concatenate([np.linspace(1, 0, 15), np.linspace(0.15, 0.9, 5)])
    normal, odd = (find_phases(beating(volume), SPACING, HEART) for volume in (CYCLE, cycle))
    assert (odd.es - odd.ed) % 20 > 12
    assert odd.confidence == pytest.approx(normal.confidence / 2, rel=0.01)


@pytest.mark.parametrize("shape", [(1, 3, 40, 40), (3, 40, 40)])
def test_a_single_phase_or_volume_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two phases or more"):
        find_phases(np.zeros(shape), SPACING, HEART)


def test_values_that_are_not_finite_are_refused() -> None:
    cine = beating(CYCLE)
    cine[3, 2, 50, 50] = np.inf
    with pytest.raises(ValueError, match="finite values only"):
        find_phases(cine, SPACING, HEART)


@pytest.mark.parametrize("heart", [HEART, HeartCentre(-900.0, 50.0, 1.0)])
def test_a_heart_that_stands_still_or_lies_outside_the_image_is_refused(heart: HeartCentre) -> None:
    cine = np.repeat(beating(np.ones(1)), 5, axis=0) if heart is HEART else beating(CYCLE)
    with pytest.raises(ValueError, match="nothing moves there"):
        find_phases(cine, SPACING, heart)


def test_the_result_is_plain_numbers_for_json() -> None:
    told = find_phases(beating(CYCLE), SPACING, HEART).to_dict()
    assert [type(told[name]) for name in ("ed", "es", "confidence")] == [int, int, float]


@settings(max_examples=150, deadline=None)
@given(
    cine=hnp.arrays(
        np.float32,
        st.tuples(st.integers(2, 7), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-1e6, 1e6, width=32),
        fill=st.just(0.0),
    ),
    spacing=st.tuples(*[st.floats(0.3, 30.0)] * 3),
    centre=st.tuples(st.floats(-20, 30), st.floats(-20, 30)),
)
def test_whatever_comes_two_phases_of_the_cine_go_out_or_a_refusal(
    cine: np.ndarray, spacing: tuple[float, float, float], centre: tuple[float, float]
) -> None:
    """Images with negative values, single pixels, a centre outside them: never another exception, never one phase."""
    try:
        phases = find_phases(cine, spacing, HeartCentre(*centre, 1.0))
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert "nothing moves" in refused
        return
    assert phases.ed != phases.es
    assert {phases.ed, phases.es} <= set(range(len(cine)))
    assert 0 <= phases.confidence <= 1


@pytest.mark.slow
@pytest.mark.real_data
def test_real_cines_give_the_phases_that_readers_contoured(real_data: Path) -> None:
    """Sunnybrook: end-systole within 1 phase of the contoured one, end-diastole within 2, of 20; sure of it."""
    truths = {"SCD0000101": (18, 7), "SCD0000201": (19, 6), "SCD0000301": (19, 6)}  # read off the contours' names
    for study in read_sunnybrook(real_data / "sunnybrook"):
        assert (study.ed, study.es) == truths.pop(study.name)
        cine, affine = orient_short_axis(study.cine, study.affine)
        phases = find_phases(cine, spacing_mm(affine), find_heart(cine, spacing_mm(affine)))
        assert min(abs(phases.es - study.es), 20 - abs(phases.es - study.es)) <= 1
        assert min(abs(phases.ed - study.ed), 20 - abs(phases.ed - study.ed)) <= 2
        assert phases.confidence > 0.9
    assert not truths


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("blood", ["bright", "dark"])
def test_end_diastole_is_told_from_end_systole_in_sixty_real_pairs(real_data: Path, blood: str) -> None:
    """ACDC, two phases each, in both orders: the one with the larger cavity, though blood may be the darker."""
    right = []
    for folder in sorted((real_data / "acdc" / "training").iterdir()):
        frames = sorted(path for path in folder.glob("*_frame*.nii.gz") if "_gt" not in path.name)
        cavity = [int((np.asarray(nib.load(f"{str(f)[:-7]}_gt.nii.gz").dataobj) == 3).sum()) for f in frames]
        cine = np.stack([np.asarray(nib.load(frame).dataobj, dtype=np.float32).T for frame in frames])
        cine = cine if blood == "bright" else cine.max() - cine
        ed = int(np.argmax(cavity))
        heart = find_heart(cine, (10.0, 1.5625, 1.5625))
        there, back = (find_phases(order, (10.0, 1.5625, 1.5625), heart) for order in (cine, cine[::-1]))
        right.append((there.ed, there.es, back.ed, back.es) == (ed, 1 - ed, 1 - ed, ed))
    assert len(right) == 60
    assert np.mean(right) >= 0.98
