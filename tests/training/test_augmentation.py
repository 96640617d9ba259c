"""Augmentation changes the picture, not its frame."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import RandAffined

from pipeline.training.augmentation import _geometry, training_augmentation

IMAGE = torch.randn(2, 8, 32, 32, generator=torch.Generator().manual_seed(0))


def _apply(seed: int, **options: bool) -> torch.Tensor:
    chain = training_augmentation(**options)
    chain.set_random_state(seed=seed)
    image: torch.Tensor = chain({"image": IMAGE.clone()})["image"]
    return image


def test_shape_and_type_stay_and_values_are_finite() -> None:
    for seed in range(20):
        image = _apply(seed)
        assert image.shape == IMAGE.shape
        assert image.dtype == torch.float32
        assert bool(image.isfinite().all())


def test_one_seed_gives_one_picture_and_another_another() -> None:
    assert torch.equal(_apply(3), _apply(3))
    assert not torch.equal(_apply(3), _apply(4))


def test_without_both_parts_the_image_is_untouched() -> None:
    assert torch.equal(_apply(0, geometry=False, appearance=False), IMAGE)


def test_geometry_moves_all_slices_and_phases_alike() -> None:
    """Sixteen equal pictures stay equal."""
    chain = training_augmentation(appearance=False)
    chain.set_random_state(seed=1)
    same = IMAGE[:1, :1].expand(2, 8, 32, 32).clone()
    moved = chain({"image": same})["image"]
    assert torch.allclose(moved, moved[:1, :1].expand_as(moved))
    assert not torch.allclose(moved, same)


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 1, 16, 24), (2, 8, 32, 32)])
def test_photographs_and_cines_keep_their_axes(shape: tuple[int, ...]) -> None:
    chain = training_augmentation()
    chain.set_random_state(seed=5)
    out = chain({"image": torch.randn(shape, generator=torch.Generator().manual_seed(0)), "case_id": "1"})
    assert out["image"].shape == shape
    assert bool(out["image"].isfinite().all())
    assert set(out) == {"image", "case_id"}


def test_geometry_moves_all_colours_alike() -> None:
    chain = training_augmentation(appearance=False)
    chain.set_random_state(seed=1)
    same = IMAGE[0, :1].expand(3, 32, 32).clone()
    moved = chain({"image": same})["image"]
    assert torch.allclose(moved, moved[:1].expand_as(moved))
    assert not torch.allclose(moved, same)


def test_slices_come_back_in_their_place() -> None:
    """Each phase and slice keeps its own mean, 0 to 15, through a turn of constant pictures."""
    chain = training_augmentation(appearance=False)
    chain.set_random_state(seed=1)
    means = torch.arange(16.0).reshape(2, 8)
    out = chain({"image": means[..., None, None].expand(2, 8, 32, 32).clone()})["image"]
    assert torch.allclose(out.mean(dim=(2, 3)), means, atol=1e-4)


def _slopes(seed: int, **options: bool) -> torch.Tensor:
    """``(2, 2)``: how much brighter the lower and the right edge (columns) are afterwards of a ramp that gets brighter
    downwards and one that does so to the right (rows); the ramps themselves have 1 and 0, and 0 and 1.
    """
    slopes = []
    for ramp in (torch.linspace(0, 1, 32)[:, None].expand(32, 32), torch.linspace(0, 1, 32).expand(32, 32)):
        chain = training_augmentation(appearance=False, **options)
        chain.set_random_state(seed=seed)
        moved = chain({"image": ramp[None, None].clone()})["image"][0, 0, 8:25, 8:25]
        slopes.append([float(moved[-1].mean() - moved[0].mean()), float(moved[:, -1].mean() - moved[:, 0].mean())])
    return torch.tensor(slopes) * 31 / 16


def test_upright_pictures_stay_upright_and_others_are_turned_to_any_side_and_mirrored() -> None:
    upright = torch.stack([_slopes(seed, upright=True) for seed in range(30)])
    assert float(upright[:, 0, 0].min()) > 0.75  # cos of 20 degrees, scaled by 10 %
    assert float(upright[:, 1, 1].min()) > 0.75
    turned = torch.stack([_slopes(seed) for seed in range(30)])
    assert float(turned[:, 0, 0].min()) < -0.75
    assert float(turned[:, 1, 1].min()) < -0.75
    assert {bool(mirrored) for mirrored in torch.linalg.det(turned) < 0} == {False, True}


@pytest.mark.parametrize("upright", [False, True])
def test_pictures_are_moved_and_stretched_along_one_axis_alone(upright: bool) -> None:
    """A matrix from pixels of the new picture to those of the old: columns keep their length, rows need not.

    It turns last, so that the shift lies along what has become of the rows' axis.
    """
    moved = _geometry(upright=upright)[-1]
    assert isinstance(moved, RandAffined)
    stretches, shifts = [], []
    for seed in range(100):
        grid = moved.rand_affine.rand_affine_grid
        grid.set_random_state(seed=seed)
        grid(spatial_size=(32, 32))
        matrix = grid.get_transformation_matrix()
        assert matrix is not None
        rows, columns, shift = matrix[:2, :3].double().T
        lengths = torch.linalg.svdvals(matrix[:2, :2].double())
        assert float((lengths - 1).abs().min()) < 1e-6
        assert float(columns.norm()) == pytest.approx(1, abs=1e-6)
        assert float(rows[0] * shift[1] - rows[1] * shift[0]) == pytest.approx(0, abs=1e-5)
        stretches.append(float(lengths.prod()))
        shifts.append(float(shift.norm()))
    assert 0.9 <= min(stretches) < 0.92
    assert 1.08 < max(stretches) <= 1.1
    assert 3.5 < max(shifts) <= 4


def test_noise_is_filtered_by_what_resolution_keeps() -> None:
    """Of pictures that lost resolution, none has more noise at the highest frequencies than those that did not."""
    flat, shares = torch.zeros(2, 8, 32, 32), []
    for seed in range(60):
        chain = training_augmentation(geometry=False)
        chain.set_random_state(seed=seed)
        power = torch.fft.fftshift(torch.fft.fft2(chain({"image": flat.clone()})["image"]).abs() ** 2, dim=(-2, -1))
        corner, middle = power[..., :4, :4].mean(), power[..., 10:15, 10:15].mean()
        if middle > 0:
            shares.append(float(corner / middle))
    assert min(shares) < 0.01
    assert max(shares) < 1.5
