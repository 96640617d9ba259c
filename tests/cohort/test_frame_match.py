"""Which phase of a cine a volume is: the residual has an oracle, and what is not in the cine is not found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.sunnybrook import read_sunnybrook
from pipeline.cohort.frame_match import matching_phase, residuals, signature
from tests.cohort.mnms2_tree import SHAPE, cine_of, save


def test_residuals_are_what_the_best_line_leaves(tmp_path: Path) -> None:
    """By least squares, phase by phase: the square root of the unexplained share of the volume's variance."""
    cine = cine_of(3)
    save(tmp_path / "cine.nii.gz", cine)
    save(tmp_path / "volume.nii.gz", cine[..., 2])
    found = residuals(tmp_path / "cine.nii.gz", [signature(tmp_path / "volume.nii.gz")])
    volume = cine[..., 2].ravel().astype(float)
    for phase in range(SHAPE[3]):
        design = np.stack([cine[..., phase].ravel().astype(float), np.ones(volume.size)], axis=1)
        left = volume - design @ np.linalg.lstsq(design, volume, rcond=None)[0]
        assert found[0, phase] == pytest.approx(left.std() / volume.std(), abs=1e-6)


def test_a_constant_volume_is_no_phase(tmp_path: Path) -> None:
    """It has no correlation with anything, itself included."""
    save(tmp_path / "cine.nii.gz", np.full(SHAPE, 7, np.int16))
    save(tmp_path / "volume.nii.gz", np.full(SHAPE[:3], 7, np.int16))
    found = residuals(tmp_path / "cine.nii.gz", [signature(tmp_path / "volume.nii.gz")])
    assert found.tolist() == [[1.0] * SHAPE[3]]
    assert matching_phase(found[0]) is None


@pytest.mark.parametrize(
    ("residual", "phase"),
    [
        ([0.9, 0.0, 0.9], 1),
        ([0.9, 0.04, 0.13], 1),
        ([0.9, 0.04, 0.10], None),
        ([0.9, 0.06, 0.9], None),
        ([0.0, 0.0005, 0.9], None),
        ([0.0, 0.01, 0.9], 0),
        ([0.0], 0),
        ([1.0, 1.0], None),
    ],
)
def test_a_phase_is_taken_only_if_it_fits_far_better_than_the_others(residual: list[float], phase: int | None) -> None:
    """At most 0.05, and every other at least three times as far; below 0.001 it is rounding."""
    assert matching_phase(np.array(residual)) == phase


@pytest.mark.real_data
def test_in_a_real_cine_each_phase_finds_itself_and_none_stands_for_another(real_data: Path, tmp_path: Path) -> None:
    """A phase that was taken out of the cine must not be found in its neighbours."""
    cine = next(read_sunnybrook(real_data / "sunnybrook")).cine.transpose(3, 2, 1, 0)
    save(tmp_path / "cine.nii.gz", cine)
    for phase in range(20):
        save(tmp_path / f"{phase}.nii", cine[..., phase])
    found = residuals(tmp_path / "cine.nii.gz", [signature(tmp_path / f"{phase}.nii") for phase in range(20)])
    assert [matching_phase(row) for row in found] == list(range(20))
    assert {matching_phase(np.delete(row, phase)) for phase, row in enumerate(found)} == {None}
