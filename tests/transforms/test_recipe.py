"""The student's input: parameters, digest, and the whole way from a stored cine."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from transforms.geometry import orient_short_axis, resample_crop, resample_slices, spacing_mm
from transforms.heart import find_heart
from transforms.intensity import standardise
from transforms.recipe import StudentInput, pick_phases, prepare_study

SMALL = StudentInput(rows=32, cols=24, slices=5, spacing_mm=5.0)


Study = tuple[np.ndarray, np.ndarray]


def mirrored(cine: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same study with rows and columns exchanged and the slices from apex to base."""
    other = np.swapaxes(cine, -1, -2)[:, ::-1]
    matrix = affine[:, [1, 0, 2, 3]].copy()
    matrix[:3, 3] += (cine.shape[1] - 1) * matrix[:3, 2]
    matrix[:3, 2] *= -1
    return other, matrix


def test_a_prepared_study_has_the_recipes_shape_and_unit_statistics(study: Study) -> None:
    prepared = prepare_study(*study, ed=0, es=3, recipe=SMALL)
    assert prepared.image.shape == SMALL.shape == (2, 5, 32, 24)
    assert prepared.image.dtype == np.float32
    assert prepared.image.flags.c_contiguous
    assert prepared.image.mean() == pytest.approx(0, abs=1e-5)
    assert prepared.image.std() == pytest.approx(1, abs=1e-5)


def test_the_steps_come_in_the_order_that_the_docstring_gives(study: Study) -> None:
    """Written out once more, step by step."""
    cine, affine = study
    oriented, oriented_affine = orient_short_axis(cine, affine)
    spacing = spacing_mm(oriented_affine)
    heart = find_heart(oriented, spacing)
    cropped = resample_crop(oriented[[0, 3]], (heart.row, heart.col), spacing[1:], (32, 24), 5.0)
    expected = standardise(resample_slices(cropped, 5), (0.5, 99.5))
    prepared = prepare_study(cine, affine, ed=0, es=3, recipe=SMALL)
    np.testing.assert_allclose(prepared.image, expected, atol=1e-5)
    assert prepared.heart == heart


def test_phases_that_are_not_given_are_found(study: Study) -> None:
    """The disc is largest at phase 0 and smallest at 3; the image is that of these two given."""
    given, found = prepare_study(*study, ed=0, es=3, recipe=SMALL), prepare_study(*study, recipe=SMALL)
    assert (found.ed, found.es) == (0, 3)
    assert found.found is not None
    assert found.found.confidence > 0.5
    assert given.found is None
    np.testing.assert_array_equal(found.image, given.image)


@pytest.mark.parametrize(("ed", "es"), [(0, None), (None, 3)])
def test_one_phase_without_the_other_is_refused(study: Study, ed: int | None, es: int | None) -> None:
    with pytest.raises(ValueError, match=f"both be given, or neither to have them found; got ed {ed}, es {es}"):
        prepare_study(*study, ed=ed, es=es, recipe=SMALL)


def test_end_diastole_comes_first_even_where_it_is_the_last_frame(study: Study) -> None:
    """The cavity is larger at end-diastole, and the disc is brighter than what surrounds it."""
    cine, affine = study
    late = np.roll(cine, 5, axis=0)  # frame 0, end-diastole, becomes frame 5; frame 3 becomes frame 2
    prepared = prepare_study(late, affine, ed=5, es=2, recipe=SMALL)
    assert prepared.image[0].mean() > prepared.image[1].mean() + 0.1
    np.testing.assert_allclose(prepared.image, prepare_study(cine, affine, ed=0, es=3, recipe=SMALL).image, atol=1e-3)


def test_how_the_axes_are_stored_leaves_no_trace_in_the_students_input(study: Study) -> None:
    """Vendors store stacks in different senses: that must not tell a network who made the scan."""
    cine, affine = study
    plain = prepare_study(cine, affine, ed=0, es=3, recipe=SMALL)
    other = prepare_study(*mirrored(cine, affine), ed=0, es=3, recipe=SMALL)
    np.testing.assert_allclose(other.image, plain.image, atol=1e-4)


def test_the_field_of_view_of_the_scan_leaves_no_trace_inside_the_crop(study: Study) -> None:
    """Four more black columns on one side, in the file: same input, for the crop follows the heart."""
    cine, affine = study
    wide = np.pad(cine, [(0, 0), (0, 0), (0, 0), (0, 6)])
    plain, padded = (prepare_study(c, affine, ed=0, es=3, recipe=SMALL).image for c in (cine, wide))
    assert np.corrcoef(plain.ravel(), padded.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 48},
        {"cols": 48},
        {"slices": 9},
        {"spacing_mm": 2.0},
        {"percentiles": (1.0, 99.0)},
        {"bias_correction": "n4"},
        {"extra_steps": ("mine.Denoised",)},
    ],
)
def test_every_parameter_has_its_part_in_the_digest(change: dict[str, Any]) -> None:
    changed = dataclasses.replace(StudentInput(), **change)
    assert changed.digest != StudentInput().digest
    assert len(changed.digest) == 64


def test_no_parameter_was_forgotten_in_the_test_of_the_digest() -> None:
    assert {field.name for field in dataclasses.fields(StudentInput)} == {
        "rows",
        "cols",
        "slices",
        "spacing_mm",
        "percentiles",
        "bias_correction",
        "extra_steps",
    }


def test_the_format_version_has_its_part_in_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = StudentInput().digest
    monkeypatch.setattr("transforms.recipe.FORMAT_VERSION", 999)
    assert StudentInput().digest != before


def test_a_recipe_survives_json_with_its_digest() -> None:
    """A spacing given as 2 is the recipe of 2.0."""
    recipe = StudentInput(spacing_mm=2, percentiles=(1, 99), extra_steps=("a", "b"))
    again = StudentInput.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert again.digest == recipe.digest == dataclasses.replace(recipe, spacing_mm=2.0, percentiles=(1.0, 99.0)).digest


@pytest.mark.parametrize("change", [{"bias_correction": "n4"}, {"extra_steps": ("mine.Denoised",)}])
def test_what_numpy_alone_cannot_do_is_not_exportable(change: dict[str, Any]) -> None:
    assert StudentInput().exportable
    assert not StudentInput(**change).exportable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "rows must be"),
        ({"slices": 8.0}, "slices must be"),
        ({"spacing_mm": 0.0}, "spacing_mm must be"),
        ({"spacing_mm": float("nan")}, "spacing_mm must be"),
        ({"percentiles": (90.0, 10.0)}, "percentiles must increase"),
        ({"bias_correction": "n3"}, "bias_correction must be one of"),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudentInput(**change)


def test_a_stored_recipe_of_another_version_is_refused_with_the_keys_that_differ() -> None:
    stored = StudentInput().to_dict() | {"gamma": 2.0}
    del stored["rows"]
    with pytest.raises(ValueError, match=r"missing \['rows'\], not known \['gamma'\]"):
        StudentInput.from_dict(stored)


@pytest.mark.parametrize(("ed", "es"), [(0, 6), (-1, 2), (3, 3)])
def test_phases_outside_the_cine_or_the_same_twice_are_refused(ed: int, es: int) -> None:
    with pytest.raises(ValueError, match="two of the phases 0 to 5"):
        pick_phases(np.zeros((6, 1, 2, 2)), ed=ed, es=es)
