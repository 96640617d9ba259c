"""The MONAI faces: they read, check and delegate; the numbers are numpy's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from monai.transforms import Compose

from transforms.bias_field import correct_bias
from transforms.dictionary import (
    CorrectBiasd,
    CropHeartd,
    FindHeartd,
    FindPhasesd,
    LoadCined,
    LoadPreparedd,
    OrientShortAxisd,
    PickPhasesd,
    ResampleSlicesd,
    SimulateScannerd,
    StandardiseIntensityd,
)
from transforms.files import read_volume, write_prepared
from transforms.heart import HeartCentre
from transforms.recipe import StudentInput, prepare_study
from transforms.simulate import simulate_scanner

SMALL = StudentInput(rows=32, cols=24, slices=5, spacing_mm=5.0)
Study = tuple[np.ndarray, np.ndarray]


def write_nifti(path: Path, volume: np.ndarray, affine: np.ndarray) -> Path:
    image = nib.Nifti1Image(volume.T, None)
    image.set_sform(affine, code=1)
    nib.save(image, path)
    return path


@pytest.fixture
def case(tmp_path: Path, study: Study) -> dict[str, Any]:
    cine, affine = study
    path = write_nifti(tmp_path / "cine.nii.gz", cine.astype(np.int16), affine)
    return {"case_id": "A", "image": path, "image_ed": None, "image_es": None, "ed": 0, "es": 3, "simulated": None}


def faces() -> Compose:
    return Compose(
        [
            LoadCined("image"),
            SimulateScannerd("image"),
            OrientShortAxisd("image"),
            FindHeartd("image"),
            FindPhasesd("image"),
            PickPhasesd("image"),
            CropHeartd("image", SMALL),
            ResampleSlicesd("image", SMALL.slices),
            StandardiseIntensityd("image", SMALL.percentiles),
        ]
    )


def test_the_chain_of_faces_gives_what_prepare_study_gives(case: dict[str, Any]) -> None:
    """Training runs the faces, the hospital runs the function: the same numbers, bit by bit."""
    expected = prepare_study(*read_volume(case["image"]), ed=0, es=3, recipe=SMALL)
    prepared = faces()(case)
    np.testing.assert_array_equal(prepared["image"], expected.image)
    assert prepared["image_heart"] == expected.heart


def test_phases_that_a_case_lacks_are_found_and_the_function_finds_the_same(case: dict[str, Any]) -> None:
    """The disc is largest at phase 0 and smallest at 3."""
    expected = prepare_study(*read_volume(case["image"]), recipe=SMALL)
    prepared = faces()(case | {"ed": None, "es": None})
    np.testing.assert_array_equal(prepared["image"], expected.image)
    assert prepared["image_phases"] == expected.found
    assert (prepared["ed"], prepared["es"]) == (expected.ed, expected.es) == (0, 3)


def test_given_phases_stand_whatever_is_found(case: dict[str, Any]) -> None:
    prepared = faces()(case | {"ed": 1, "es": 4})
    assert (prepared["ed"], prepared["es"]) == (1, 4)
    assert (prepared["image_phases"].ed, prepared["image_phases"].es) == (0, 3)
    expected = prepare_study(*read_volume(case["image"]), ed=1, es=4, recipe=SMALL)
    np.testing.assert_array_equal(prepared["image"], expected.image)


def test_a_pair_of_given_phases_is_not_searched(case: dict[str, Any], study: Study) -> None:
    """There is nothing to find, and nothing to be told of it."""
    write_nifti(case["image"], study[0][[0, 3]], study[1])
    prepared = faces()(case | {"ed": 0, "es": 1})
    assert "image_phases" not in prepared


def test_a_search_that_fails_costs_a_case_with_given_phases_only_the_measure(case: dict[str, Any]) -> None:
    """The heart was looked for where nothing moves: refused if the phases are needed, else said."""
    data = OrientShortAxisd("image")(LoadCined("image")(case)) | {"image_heart": HeartCentre(-900.0, 0.0, 1.0)}
    given = FindPhasesd("image")(data)
    assert (given["ed"], given["es"]) == (0, 3)
    assert "nothing moves there" in given["image_phases_not_found"]
    with pytest.raises(ValueError, match="nothing moves there"):
        FindPhasesd("image")(data | {"ed": None, "es": None})


def test_the_case_that_was_given_stays_as_it_was(case: dict[str, Any]) -> None:
    before = dict(case)
    faces()(case)
    assert case == before


def test_two_volumes_become_the_two_phases_of_a_cine(tmp_path: Path, study: Study) -> None:
    cine, affine = study
    pair = {
        f"image_{name}": write_nifti(tmp_path / f"{name}.nii.gz", cine[frame], affine)
        for name, frame in (("ed", 0), ("es", 3))
    }
    loaded = LoadCined("image")({"image": None, **pair})
    np.testing.assert_allclose(loaded["image"], cine[[0, 3]])
    assert (loaded["ed"], loaded["es"]) == (0, 1)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("phases", [None, 4])
def test_mha_and_nrrd_give_the_array_and_the_affine_of_nifti(tmp_path: Path, suffix: str, phases: int | None) -> None:
    """Written by SimpleITK from LPS; read back beside the NIfTI that SimpleITK writes of the same image."""
    rng = np.random.default_rng(0)
    shape = (3, 5, 6) if phases is None else (phases, 3, 5, 6)
    image = SimpleITK.GetImageFromArray(rng.integers(0, 999, shape).astype(np.int16), isVector=False)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    direction = np.eye(len(shape))
    direction[:3, :3] = turn
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing([1.5, 1.25, 9.0, 30.0][: len(shape)])
    image.SetOrigin([10.0, -20.0, 30.0, 0.0][: len(shape)])
    for name in (f"image{suffix}", "image.nii"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
    volume, affine = read_volume(tmp_path / f"image{suffix}")
    expected, expected_affine = read_volume(tmp_path / "image.nii")
    np.testing.assert_array_equal(volume, expected)
    np.testing.assert_allclose(affine, expected_affine, atol=1e-4)


def test_directions_that_are_not_orthonormal_are_read(tmp_path: Path, study: Study) -> None:
    """SimpleITK refuses such files, and pipelines that rely on it lose patients."""
    cine, affine = study
    affine = affine.copy()
    affine[:3, 0] += 0.05 * affine[:3, 1]
    path = write_nifti(tmp_path / "sheared.nii.gz", cine, affine)
    volume, read = read_volume(path)
    assert volume.shape == cine.shape
    np.testing.assert_allclose(read, affine, atol=1e-5)


def test_only_cases_that_carry_a_scanner_are_simulated(case: dict[str, Any]) -> None:
    plain = LoadCined("image")(case)
    untouched = SimulateScannerd("image", strength=0.7)(plain)
    np.testing.assert_array_equal(untouched["image"], plain["image"])
    scanner = {"vendor": "GE", "seed": 5}
    simulated = SimulateScannerd("image", strength=0.7)(plain | {"simulated": scanner})
    np.testing.assert_array_equal(simulated["image"], simulate_scanner(plain["image"], "GE", seed=5, strength=0.7))
    assert not np.allclose(simulated["image"], plain["image"])


def test_bias_correction_flattens_a_coils_field() -> None:
    """Two tissues under a field from 0.5 to 2: under a fifth of it is left, and all phases are divided alike."""
    wave, place = np.sin(np.linspace(0, 12, 96)), np.arange(96) - 47.5
    tissue = np.where(wave[:, None] * wave > 0, 300.0, 500.0)
    body = np.hypot(place[:, None], place) < 40
    field = np.geomspace(0.5, 2.0, 96) * np.ones((96, 1))
    image = np.where(body, tissue * field, 0.0) + np.random.default_rng(0).normal(0, 5.0, (96, 96))
    cine = np.stack([np.stack([image] * 3)] * 2) * np.array([1.0, 1.1])[:, None, None, None]
    corrected = correct_bias(cine, (10.0, 2.0, 2.0))
    left = np.log(corrected[0, 1][body] / tissue[body])
    assert left.std() < np.log(field[body]).std() / 5
    np.testing.assert_allclose(corrected[1], 1.1 * corrected[0], rtol=1e-4, atol=1e-3)
    face = CorrectBiasd("image")({"image": cine, "image_affine": np.diag([2.0, 2.0, 10.0, 1.0])})
    np.testing.assert_allclose(face["image"], corrected, rtol=1e-4)


def test_a_prepared_study_is_read_and_one_of_another_recipe_refused(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=SMALL.shape).astype(np.float32)
    write_prepared(tmp_path / "A.npz", image, {"recipe_digest": SMALL.digest})
    got = LoadPreparedd("image", SMALL.digest)({"image": tmp_path / "A.npz"})
    np.testing.assert_array_equal(got["image"], image)
    with pytest.raises(ValueError, match=f"by recipe 000000000000…; it was by {SMALL.digest[:12]}"):
        LoadPreparedd("image", "0" * 64)({"image": tmp_path / "A.npz"})


def test_a_file_that_is_no_prepared_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "A.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="must be a prepared study"):
        LoadPreparedd("image", SMALL.digest)({"image": tmp_path / "A.npz"})
    with pytest.raises(FileNotFoundError, match="no prepared study"):
        LoadPreparedd("image", SMALL.digest)({"image": tmp_path / "B.npz"})


def only_3d(folder: Path) -> dict[str, Any]:
    return {"image": write_nifti(folder / "a.nii", np.ones((3, 4, 5), np.float32), np.eye(4)), "ed": 0, "es": 1}


def unlike_pair(folder: Path) -> dict[str, Any]:
    shapes = {"ed": (3, 4, 5), "es": (3, 4, 6)}
    return {
        f"image_{name}": write_nifti(folder / f"{name}.nii", np.ones(shape, np.float32), np.eye(4))
        for name, shape in shapes.items()
    }


def not_finite(folder: Path) -> dict[str, Any]:
    return {"image": write_nifti(folder / "a.nii", np.full((2, 3, 4, 5), np.nan, np.float32), np.eye(4))}


def truncated(folder: Path) -> dict[str, Any]:
    path = write_nifti(folder / "a.nii.gz", np.random.default_rng(0).random((2, 3, 40, 50)), np.eye(4))
    path.write_bytes(path.read_bytes()[:2000])
    return {"image": path, "ed": 0, "es": 1}


def one_phase_unknown(folder: Path) -> dict[str, Any]:
    return {"image": write_nifti(folder / "a.nii", np.ones((2, 3, 4, 5), np.float32), np.eye(4)), "ed": None, "es": 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (only_3d, "a cine must have 4 axes"),
        (unlike_pair, "of one shape"),
        (not_finite, "finite values only"),
        (truncated, "image must be readable: a.nii.gz"),
        (one_phase_unknown, "ed and es must both be given, or neither to have them found; got ed None, es 1"),
        (lambda _: {"image": None}, "either 'image' or both"),
        (lambda folder: {**unlike_pair(folder), **only_3d(folder)}, "either 'image' or both"),
        (lambda _: {"image": Path(__file__)}, "must end in one of"),
    ],
)
def test_images_that_cannot_be_used_are_refused_by_reason(
    tmp_path: Path, make: Callable[[Path], dict[str, Any]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LoadCined("image")(make(tmp_path))


def test_a_missing_key_is_an_error() -> None:
    with pytest.raises(KeyError):
        OrientShortAxisd("image")({"case_id": "A"})


def test_a_stack_of_no_slices_is_refused_when_the_step_is_built() -> None:
    with pytest.raises(ValueError, match="slices must be above 0"):
        ResampleSlicesd("image", 0)
