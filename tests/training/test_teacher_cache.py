"""Logits from the cache are the teacher's, or an error."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn

from pipeline.training import teacher_cache
from pipeline.training.augmentation import training_augmentation
from pipeline.training.checkpoint import build_network
from pipeline.training.networks import Classifier
from pipeline.training.teacher_cache import teacher_logits
from pipeline.training.views import AugmentedViews

CLASSES = ("NOR", "HCM", "DCM")
RECIPE = "abc"
CASES, VIEWS = 5, 2


def _network(seed: int) -> Classifier:
    """A teacher whose batch normalisation has seen data: in training mode it would answer otherwise."""
    torch.manual_seed(seed)
    network = Classifier(classes=3, channels=4, widths=(4, 4, 4, 4))
    network(torch.randn(8, 2, 2, 16, 16))
    return network.eval()


def _teacher(path: Path, seed: int, recipe_digest: str = RECIPE) -> Path:
    network = _network(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"network": network.settings, "classes": list(CLASSES), "recipe_digest": recipe_digest}
    torch.save({"model": network.state_dict(), **record}, path)
    return path


def _load(item: dict[str, Any]) -> dict[str, Any]:
    return {"image": np.load(item["image"])}


def _data(folder: Path, *, cases: int = CASES, seed: int = 0, views: int = VIEWS) -> AugmentedViews:
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    items = []
    for number in range(cases):
        path = folder / "cases" / f"c{number}.npy"
        np.save(path, np.random.default_rng(number).standard_normal((2, 2, 16, 16)))
        items.append({"image": str(path), "case_id": f"c{number}"})
    augmentation = training_augmentation()
    return AugmentedViews(items, _load, augmentation, views=views, seed=seed, folder=folder / "cache", identity={})


def _logits(folder: Path, teachers: list[Path], data: AugmentedViews | None = None, recipe: str = RECIPE) -> Tensor:
    return teacher_logits(
        teachers,
        data or _data(folder),
        recipe_digest=recipe,
        classes=CLASSES,
        folder=folder / "cache",
        device="cpu",
        batch_size=3,
    )


def _entries(folder: Path) -> set[Path]:
    return set((folder / "cache").glob("logits-*.safetensors"))


def _two_entries(folder: Path, first: Any, second: Any) -> tuple[Path, Path]:
    """The file that each of two calls writes."""
    first()
    (one,) = _entries(folder)
    second()
    (other,) = _entries(folder) - {one}
    return one, other


def test_logits_are_those_of_direct_passes_on_the_same_views(tmp_path: Path) -> None:
    data = _data(tmp_path)
    teachers = [_teacher(tmp_path / f"{seed}.pt", seed) for seed in (1, 2, 3)]
    logits = _logits(tmp_path, teachers, data)
    assert logits.shape == (3, VIEWS, CASES, 3)
    assert logits.dtype == torch.float32
    for k, seed in enumerate((1, 2, 3)):
        network = _network(seed)
        for view in range(VIEWS):
            data.set_epoch(view + 1)
            for case in range(CASES):
                with torch.no_grad():
                    direct = network(data[case]["image"][None])[0]
                torch.testing.assert_close(logits[k, view, case], direct, atol=1e-5, rtol=1e-5)


def test_a_second_call_computes_nothing_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teachers = [_teacher(tmp_path / "1.pt", 1), _teacher(tmp_path / "2.pt", 2)]
    passes: list[int] = []

    def counted(checkpoint: Any) -> nn.Module:
        network = build_network(checkpoint)
        network.register_forward_hook(lambda *_: passes.append(1))
        return network

    monkeypatch.setattr("pipeline.training.teacher_cache.build_network", counted)
    first = _logits(tmp_path, teachers)
    assert len(passes) == 2 * VIEWS * 2  # five cases are two batches of three
    again = _logits(tmp_path, teachers[::-1])
    assert len(passes) == 2 * VIEWS * 2
    assert torch.equal(again, first.flip(0))


def test_any_changed_byte_is_refused(tmp_path: Path) -> None:
    """Of the header, the metadata or the logits: every byte of the file in turn, by its lowest bit."""
    teacher, data = _teacher(tmp_path / "t.pt", 1), _data(tmp_path, cases=2, views=1)
    expected = _logits(tmp_path, [teacher], data)
    (entry,) = _entries(tmp_path)
    whole = entry.read_bytes()
    record = teacher_cache._record(teacher, data, RECIPE, CLASSES)
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1
        entry.write_bytes(changed)
        with pytest.raises(ValueError, match=r"must hold the logits .*; delete it"):
            teacher_cache._read(entry, record)
    for old, new in ((b'"F32"', b'"I32"'), (b'"shape":[1,2,3]', b'"shape":[2,1,3]')):
        assert old in whole
        entry.write_bytes(whole.replace(old, new))
        with pytest.raises(ValueError, match=r"it has tensor 'torch\."):
            teacher_cache._read(entry, record)
    entry.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=f"{entry} must hold the logits .*; delete it"):
        _logits(tmp_path, [teacher], data)
    entry.unlink()
    assert torch.equal(_logits(tmp_path, [teacher], data), expected)


def test_another_teacher_at_the_same_path_is_asked_itself(tmp_path: Path) -> None:
    """The file of the one before stays, under the name of its weights."""
    path = _teacher(tmp_path / "model.pt", 1)
    before = _logits(tmp_path, [path])
    after = _logits(tmp_path, [_teacher(path, 2)])
    assert not torch.allclose(after, before, atol=1e-3)
    assert torch.equal(_logits(tmp_path, [_teacher(tmp_path / "elsewhere.pt", 2)]), after)
    assert torch.equal(_logits(tmp_path, [_teacher(path, 1)]), before)


def test_logits_of_another_teacher_are_refused(tmp_path: Path) -> None:
    one, two = _teacher(tmp_path / "1.pt", 1), _teacher(tmp_path / "2.pt", 2)
    of_one, of_two = _two_entries(tmp_path, lambda: _logits(tmp_path, [one]), lambda: _logits(tmp_path, [two]))
    shutil.copy(of_one, of_two)
    with pytest.raises(ValueError, match=rf"{of_two} .* it has teacher '[0-9a-f]{{64}}' in place of .*; delete it"):
        _logits(tmp_path, [two])


@pytest.mark.parametrize("other", [{"cases": 4}, {"seed": 1}, {"views": 3}], ids=["cases", "seed", "views"])
def test_logits_of_other_cases_or_another_augmentation_are_refused(tmp_path: Path, other: dict[str, int]) -> None:
    teacher = _teacher(tmp_path / "t.pt", 1)
    one, changed = _data(tmp_path), _data(tmp_path, **other)
    of_one, of_changed = _two_entries(
        tmp_path, lambda: _logits(tmp_path, [teacher], one), lambda: _logits(tmp_path, [teacher], changed)
    )
    shutil.copy(of_one, of_changed)
    with pytest.raises(ValueError, match=rf"{of_changed} .* views '[0-9a-f]{{64}}' in place of .*; delete it"):
        _logits(tmp_path, [teacher], changed)


def test_logits_and_teachers_of_another_recipe_are_refused(tmp_path: Path) -> None:
    one, two = _teacher(tmp_path / "1.pt", 1), _teacher(tmp_path / "2.pt", 1, "abd")
    of_one, of_two = _two_entries(
        tmp_path, lambda: _logits(tmp_path, [one]), lambda: _logits(tmp_path, [two], recipe="abd")
    )
    shutil.copy(of_one, of_two)
    with pytest.raises(ValueError, match=r"recipe 'abc' in place of 'abd'"):
        _logits(tmp_path, [two], recipe="abd")
    with pytest.raises(ValueError, match=r"recipe digest of .*1\.pt .* must be the same"):
        _logits(tmp_path, [one], recipe="abd")


def test_a_failing_teacher_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(teacher_cache, "_payload_digest", stop)
    with pytest.raises(KeyboardInterrupt):
        _logits(tmp_path, [_teacher(tmp_path / "t.pt", 1)])
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".npy", ".json"}


@pytest.mark.slow
def test_of_two_processes_one_computes_and_both_read(tmp_path: Path) -> None:
    """The second has no augmentation and no way to build a teacher, and ends with the first one's logits."""
    teacher = _teacher(tmp_path / "t.pt", 1)
    torch.multiprocessing.spawn(_one_of_two, args=(tmp_path, teacher), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(one, two)
    assert torch.equal(one, _logits(tmp_path, [teacher]))


def _one_of_two(rank: int, folder: Path, teacher: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    data = _data(folder / str(rank))  # the same cases, each process with its copy of them
    data.folder = folder / "cache"
    if rank == 1:
        data.load = _never
        setattr(teacher_cache, "build_network", _never)  # noqa: B010  replaced in this process only
    torch.save(_logits(folder, [teacher], data), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def _never(*_: Any) -> Any:
    raise AssertionError("the second process computes nothing")
