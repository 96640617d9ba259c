"""Whatever befalls the files of a study: the right stack, or a refusal; nothing else, and never a wrong stack."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.selection import select
from tests.dicom.dicom_writer import LAYOUTS
from tests.dicom.frame_builder import stack
from tests.dicom.mutations import HANDLING, MUTATIONS, STUDIES_OF_A_LAYOUT, mutated
from tests.dicom.verdict import RIGHT, outcome, tally

ONE_OF_EACH = st.tuples(*map(st.sampled_from, (list(LAYOUTS), list(MUTATIONS), list(HANDLING))))
SEEDS = st.integers(0, 10_000)
PATIENT = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def judge(kind: tuple[str, str, str], seed: int) -> None:
    """The right stack (``outcome`` holds it against the writer's plan), or one of our codes."""
    with tempfile.TemporaryDirectory() as folder:
        assert outcome(mutated(*kind, seed), Path(folder)) in {RIGHT, *Code}


@settings(PATIENT, max_examples=40)
@given(ONE_OF_EACH, SEEDS)
def test_a_study_that_was_tampered_with_is_read_right_or_refused(kind: tuple[str, str, str], seed: int) -> None:
    """One study of each layout, so that few are written; what befalls them is drawn."""
    judge(kind, seed * STUDIES_OF_A_LAYOUT)


ODD_VALUES: dict[str, list[Any]] = {
    "position": [None, (0.0, 0.0, 0.0), (1e9, -1e9, 0.0), (float("nan"),) * 3],
    "orientation": [None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.0,) * 6],
    "pixel_spacing": [None, (1e-9, 1.0), (0.0, 0.0)],
    "trigger_ms": [None, 0.0, -1e6, 1e12],
    "instance_number": [None, 0, -5, 2**31],
    "acquisition_s": [None, 0.0, 86_399.0],
    "slice_location_mm": [None, 0.0, 1e9],
    "temporal_index": [None, 1],
    "n_cardiac_images": [None, 0, 10, 10_000],
    "rr_ms": [None, 1.0],
    "series_uid": ["", "1.5"],
    "frame_of_reference": ["", "1.5", "1.6"],
    "inversion_ms": [None, 300.0],
    "image_type": [(), ("DERIVED",), ("ORIGINAL", "PRIMARY", "P")],
    "rows": [0, 13],
    "complete": [False],
}


@settings(PATIENT, max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(sorted(ODD_VALUES)), SEEDS, st.sampled_from([1, 2, 20, 60])), max_size=4))
def test_odd_values_in_any_header_end_in_a_stack_or_a_refusal(changes: list[tuple[str, int, int]]) -> None:
    """In one image, in a few, in all of them: every image is read or has its reason, and nothing else is raised."""
    frames = stack(6, 10)
    for name, seed, count in changes:
        random = np.random.default_rng(seed)
        value = ODD_VALUES[name][random.integers(len(ODD_VALUES[name]))]
        for index in random.choice(len(frames), count, replace=False):
            frames[index] = replace(frames[index], **{name: value})
    try:
        selection = select(frames)
    except Refusal as refusal:
        accounted, left_out = 0, refusal.left_out
    else:
        accounted, left_out = sum(map(len, selection.stack.frames)), selection.left_out
    assert accounted + sum(entry.images for entry in left_out) == len(frames)


@pytest.mark.slow
@settings(PATIENT, max_examples=200)
@given(ONE_OF_EACH, SEEDS)
def test_two_hundred_drawn_at_random_are_read_right_or_refused(kind: tuple[str, str, str], seed: int) -> None:
    judge(kind, seed)


@pytest.mark.slow
def test_every_mutation_of_every_layout_is_read_right_or_refused() -> None:
    """345 studies, each mutation in each layout; the table is printed by ``python -m tests.dicom.verdict``.

    What does no harm must be read; what takes an image away, or puts it elsewhere, must mostly be refused (it does
    no harm where the image is of a run that is not read, or where a file is a slice and that at an end is lost).
    """
    found, wrong = tally(len(LAYOUTS) * len(MUTATIONS))
    assert wrong == []
    assert sum(counts.total() for counts in found.values()) == len(LAYOUTS) * len(MUTATIONS)
    for mutation, counts in found.items():
        if mutation in {"none", "file doubled"} or mutation.startswith("with "):
            assert counts[RIGHT] == counts.total(), mutation
        elif mutation not in {"instance numbers swapped", "slice locations swapped"}:  # not all layouts have them
            assert counts[RIGHT] <= counts.total() / 2, mutation
