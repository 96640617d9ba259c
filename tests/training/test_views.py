"""A view of a case is one picture, whoever asks for it and when."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, Lambdad, RandGaussianNoised

from pipeline.training.augmentation import training_augmentation
from pipeline.training.views import AugmentedViews

SHAPE = (2, 3, 16, 16)


def _items(folder: Path, count: int = 5) -> list[dict[str, Any]]:
    """Cases whose pixels differ by case and are those of a standardised image."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).standard_normal(SHAPE, dtype=np.float32)
        np.save(folder / f"c{number}.npy", pixels)
    return [
        {"image": str(folder / f"c{n}.npy"), "label": n % 3, "group": n % 2, "case_id": f"c{n}"} for n in range(count)
    ]


def _load(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "image": np.load(item["image"])}


def _views(folder: Path, items: list[dict[str, Any]] | None = None, **changes: Any) -> AugmentedViews:
    arguments: dict[str, Any] = {
        "load": _load,
        "augmentation": training_augmentation(),
        "views": 3,
        "seed": 7,
        "folder": folder / "cache",
        "identity": {"recipe_digest": "abc"},
    }
    return AugmentedViews(items or _items(folder / "cases"), **(arguments | changes))


def test_a_view_depends_neither_on_the_other_cases_nor_on_their_order(tmp_path: Path) -> None:
    items = _items(tmp_path / "cases")
    everything = _views(tmp_path, items)
    alone = _views(tmp_path, [items[4], items[2]])
    assert alone.path != everything.path
    for view in range(3):
        assert torch.equal(alone.image(0, view), everything.image(4, view))
        assert torch.equal(alone.image(1, view), everything.image(2, view))


def test_a_view_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few, many = _views(tmp_path, views=1), _views(tmp_path, views=3)
    assert torch.equal(few.image(3, 0), many.image(3, 0))


def test_views_cases_and_seeds_differ(tmp_path: Path) -> None:
    items = _items(tmp_path / "cases")
    twin = dict(items[0], case_id="twin")
    one, other = _views(tmp_path, [*items, twin]), _views(tmp_path, [*items, twin], seed=8)
    for view in range(3):
        assert not torch.equal(one.image(0, view), one.image(0, (view + 1) % 3))
        assert not torch.equal(one.image(0, view), one.image(5, view))
        assert not torch.equal(one.image(0, view), other.image(0, view))


@pytest.mark.parametrize("number", [random.random, np.random.random, lambda: torch.rand(())])
def test_transforms_that_draw_from_a_global_generator_are_held_to_the_seed(tmp_path: Path, number: Any) -> None:
    """MONAI has some. Numbers are drawn between the two renderings, of which the second knows other cases too."""
    chain = Compose([Lambdad("image", lambda image: image + number())])
    items = _items(tmp_path / "cases")
    first = _views(tmp_path, items[1:], augmentation=chain)
    again = _views(tmp_path, items, augmentation=chain)
    first.render()
    number()
    assert torch.equal(first.image(0, 1), again.image(1, 1))
    assert not torch.equal(first.image(0, 1), first.image(0, 2))


@pytest.mark.parametrize("workers", [0, 1])
def test_rendering_leaves_the_generators_of_training_as_they_were(tmp_path: Path, workers: int) -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seed()
    expected = draws()
    seed()
    _views(tmp_path, workers=workers).render()
    assert draws() == expected


def test_rendering_in_workers_gives_the_same_pictures(tmp_path: Path) -> None:
    """To the last bit of 16, which threads may turn."""
    here, there = _views(tmp_path / "a"), _views(tmp_path / "b", workers=2)
    for index in range(5):
        assert torch.allclose(here.image(index, 2), there.image(index, 2), rtol=1e-3, atol=1e-5)


def test_pixels_are_the_augmented_image_rounded_by_less_than_a_thousandth(tmp_path: Path) -> None:
    """16 bits hold 11 binary digits: a relative error of at most 2^-11 = 4.9e-4; no other change."""
    items = _items(tmp_path / "cases")
    double = Compose([RandGaussianNoised("image", prob=1.0, std=0.0), Lambdad("image", lambda image: 2 * image)])
    for number, item in enumerate(items):
        exact = 2 * torch.from_numpy(np.load(item["image"]))
        error = (_views(tmp_path, items, augmentation=double).image(number, 1) - exact).abs()
        assert bool((error <= 1e-3 * exact.abs() + 1e-7).all())
        assert float(error.max()) > 0


def test_a_case_comes_with_its_item_its_index_and_the_view_of_the_epoch(tmp_path: Path) -> None:
    data = _views(tmp_path)
    for epoch, view in ((1, 0), (2, 1), (3, 2), (4, 0)):
        data.set_epoch(epoch)
        case = data[3]
        assert torch.equal(case.pop("image"), data.image(3, view))
        assert case == {"label": 0, "group": 1, "case_id": "c3", "index": 3, "view": view}
    assert len(data) == 5


def test_images_are_float32_copies(tmp_path: Path) -> None:
    """What is done to one in training must not reach the next epoch."""
    data = _views(tmp_path)
    before = data.image(0, 0)
    assert before.dtype == torch.float32
    data[0]["image"].zero_()
    assert torch.equal(data.image(0, 0), before)


def test_workers_of_a_loader_see_the_epoch_change_even_if_they_live_on(tmp_path: Path) -> None:
    data = _views(tmp_path)
    loader = DataLoader(data, batch_size=5, num_workers=1, persistent_workers=True)
    for epoch in (1, 2, 3):
        data.set_epoch(epoch)
        (batch,) = list(loader)
        assert batch["view"].tolist() == [epoch - 1] * 5
        assert torch.equal(batch["image"][2], data.image(2, epoch - 1))


def test_another_process_maps_the_file_and_is_not_sent_its_content(tmp_path: Path) -> None:
    data = _views(tmp_path, augmentation=None, views=1)
    data.render()
    assert data.__getstate__()["_pixels"] is None
    assert torch.equal(torch.as_tensor(np.load(data.path)[0, 2]).float(), data.image(2, 0))
    pixels = pickle.loads(pickle.dumps({**data.__getstate__(), "_shown": None}))["_pixels"]  # noqa: S301
    assert pixels is None


def test_views_are_rendered_once(tmp_path: Path) -> None:
    loaded = []

    def load(item: dict[str, Any]) -> dict[str, Any]:
        loaded.append(item["case_id"])
        return _load(item)

    first = _views(tmp_path, load=load)
    first.set_epoch(2)
    assert len(loaded) == 1 + 3 * 5  # the first one tells the shape
    second = _views(tmp_path, load=load)
    assert torch.equal(second.image(4, 2), first.image(4, 2))
    assert len(loaded) == 16


def test_a_render_that_was_killed_leaves_no_file_and_is_made_good(tmp_path: Path) -> None:
    seen = []

    def stop(item: dict[str, Any]) -> dict[str, Any]:
        seen.append(item)
        if len(seen) == 9:
            raise KeyboardInterrupt
        return _load(item)

    with pytest.raises(KeyboardInterrupt):
        _views(tmp_path, load=stop).render()
    assert list((tmp_path / "cache").iterdir()) == []
    again = _views(tmp_path)
    again.render()
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".json", ".npy"]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _lose_record(path: Path) -> None:
    path.with_suffix(".json").unlink()


def _break_record(path: Path) -> None:
    path.with_suffix(".json").write_text("{")


def _foreign_record(path: Path) -> None:
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**record, "digest": "0" * 64}))


@pytest.mark.parametrize("damage", [_flip, _shorten, _lose_record, _break_record, _foreign_record])
def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path, damage: Any) -> None:
    data = _views(tmp_path)
    data.render()
    damage(data.path)
    with pytest.raises(ValueError, match=f"{data.path} must hold the views .*; delete it"):
        _views(tmp_path).render()
    data.path.unlink()
    assert torch.equal(_views(tmp_path).image(1, 1), data.image(1, 1))


def test_everything_that_decides_pixels_is_in_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases, their order, their files, seed, number, identity, the version of MONAI and the augmentation's code."""
    items = _items(tmp_path / "cases")
    digests = [
        _views(tmp_path, items).digest,
        _views(tmp_path, items[:4]).digest,
        _views(tmp_path, items[::-1]).digest,
        _views(tmp_path, [dict(items[0], case_id="x"), *items[1:]]).digest,
        _views(tmp_path, items, seed=8).digest,
        _views(tmp_path, items, views=4).digest,
        _views(tmp_path, items, views=1).digest,
        _views(tmp_path, items, views=1, augmentation=None).digest,
        _views(tmp_path, items, identity={"recipe_digest": "abd"}).digest,
    ]
    np.save(items[2]["image"], np.zeros(SHAPE))
    digests.append(_views(tmp_path, items).digest)
    monkeypatch.setattr("monai.__version__", "0")
    digests.append(_views(tmp_path, items).digest)
    other = tmp_path / "augmentation.py"
    other.write_text("# another")
    monkeypatch.setattr("pipeline.training.augmentation.__file__", str(other))
    digests.append(_views(tmp_path, items).digest)
    assert len(set(digests)) == len(digests)


def test_labels_groups_and_the_place_of_files_are_not_in_the_digest(tmp_path: Path) -> None:
    """Noisy labels and moved folders need no new views."""
    items = _items(tmp_path / "cases")
    elsewhere = [
        {**item, "label": 0, "group": 1, "image": str(tmp_path / "moved" / Path(item["image"]).name)} for item in items
    ]
    expected = _views(tmp_path, items).digest
    (tmp_path / "cases").rename(tmp_path / "moved")
    assert _views(tmp_path, elsewhere).digest == expected


@pytest.mark.parametrize("views", [0, 2])
def test_without_augmentation_there_is_one_view(tmp_path: Path, views: int) -> None:
    with pytest.raises(ValueError, match=f"got {views} without augmentation"):
        _views(tmp_path, augmentation=None, views=views)


def test_pixels_beyond_16_bits_are_refused(tmp_path: Path) -> None:
    items = _items(tmp_path / "cases")
    np.save(items[2]["image"], np.full(SHAPE, 70000.0))
    with pytest.raises(ValueError, match="c2 has 70000 to 70000; standardise"):
        _views(tmp_path, items, augmentation=None, views=1).render()


def test_images_of_two_shapes_are_refused(tmp_path: Path) -> None:
    items = _items(tmp_path / "cases")
    np.save(items[3]["image"], np.zeros((2, 3, 8, 8)))
    with pytest.raises(ValueError, match=r"got \(2, 3, 8, 8\) for c3 and \(2, 3, 16, 16\) for c0"):
        _views(tmp_path, items, augmentation=None, views=1).render()
