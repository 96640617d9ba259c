"""Teachers of one distillation: what they say, in which order, and how far each is trusted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from pipeline.training.checkpoint import load_network
from pipeline.training.data import Cohort
from pipeline.training.networks import Classifier
from pipeline.training.teachers import Teachers
from pipeline.training.views import AugmentedViews

COHORT = cast("Cohort", SimpleNamespace(recipe_digest="abc", classes=("x", "y", "z"), group_names=("GE", "Siemens")))
Make = Callable[..., Teachers]


def _model(path: Path, seed: int, *, architecture: Any = "resnet", **record: Any) -> Path:
    torch.manual_seed(seed)
    widths = (4, 4, 4, 4) if architecture == "resnet" else None
    network = Classifier(classes=3, channels=2, architecture=architecture, widths=widths)
    known = {"network": network.settings, "classes": ["x", "y", "z"], "recipe_digest": "abc"}
    torch.save({"model": network.state_dict(), "mlflow_run_id": f"run{seed}", **known, **record}, path)
    return path


def _views(folder: Path, labels: list[int]) -> AugmentedViews:
    items = []
    for number, label in enumerate(labels):
        image = np.random.default_rng(number).standard_normal((2, 1, 16, 16)).astype(np.float32)
        np.save(folder / f"{number}.npy", image)
        path = str(folder / f"{number}.npy")
        items.append({"image": path, "case_id": f"c{number}", "label": label, "group": number % 2})
    return AugmentedViews(
        items, lambda item: {"image": np.load(item["image"])}, None, views=1, seed=0, folder=folder, identity={}
    )


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Teachers of four cases, which are held out as well; the labels are what the first teacher says of GE."""
    first = _model(tmp_path / "0.pt", 0)
    images = _views(tmp_path, [0] * 4)
    with torch.no_grad():
        said = [int(load_network(first)(images.image(case, 0)[None]).argmax()) for case in range(4)]
    labels = [said[case] if case % 2 == 0 else (said[case] + 1) % 3 for case in range(4)]
    views = _views(tmp_path, labels)

    def build(*checkpoints: Path, **settings: Any) -> Teachers:
        known = {"cohort": COHORT, "training": views, "held_out": views, "folder": tmp_path, "device": "cpu"}
        return Teachers(checkpoints, **known, **settings)

    return build


def test_what_is_looked_up_are_the_teachers_logits_in_their_order_the_biased_one_last(
    make: Make, tmp_path: Path
) -> None:
    paths = [_model(tmp_path / f"{seed}.pt", seed) for seed in (1, 2, 3)]
    teachers = make(paths[0], paths[1], biased_checkpoint=paths[2])
    assert teachers.targets is not None
    assert teachers.targets.shape == (3, 1, 4, 3)
    for place, path in enumerate(paths):
        with torch.no_grad():
            direct = load_network(path)(teachers.training.image(2, 0)[None])[0]
        torch.testing.assert_close(teachers.targets[place, 0, 2], direct, atol=1e-5, rtol=1e-5)
    assert teachers.run_ids == "run1,run2,biased=run3"
    assert make(paths[0], paths[1]).run_ids == "run1,run2"


def test_without_a_teacher_there_is_nothing_to_learn_from(make: Make) -> None:
    teachers = make()
    assert teachers.targets is None
    assert teachers.run_ids is None
    assert teachers.combination("mean", weights=None, temperature=4.0, seed=0) is None
    assert teachers.alpha_of_group(adaptive=True) is None


def test_trust_and_adaptive_share_follow_the_held_out_cases_of_each_group(make: Make, tmp_path: Path) -> None:
    """The first teacher is right in both cases of GE and wrong in both of Siemens; two others are what they are."""
    teachers = make(tmp_path / "0.pt", *(_model(tmp_path / f"{seed}.pt", seed) for seed in (3, 4)))
    accuracy, margin = teachers.quality
    assert accuracy[0].tolist() == pytest.approx([2.5 / 3, 0.5 / 3])  # with one more case, at its mean of 1/2
    assert margin[0, 0] > 0 > margin[0, 1]
    combined = teachers.combination("trust", weights=None, temperature=4.0, seed=0)
    assert combined is not None
    assert combined.by_group is not None
    above = [[max(0.0, value - 1 / 3) for value in group] for group in accuracy.T.tolist()]
    assert sum(above[1]) > 0
    for shares, group in zip(combined.by_group.tolist(), above, strict=True):  # one row per group
        assert shares == pytest.approx([value / sum(group) for value in group])
    assert combined.by_group[:, 0].tolist() == pytest.approx([0.5 / sum(above[0]), 0.0])
    alone = make(tmp_path / "0.pt")
    alpha = alone.alpha_of_group(adaptive=True)
    assert alpha is not None
    assert alpha[0] > 0
    assert alpha[1] == 0
    assert alone.alpha_of_group(adaptive=False) is None


def test_teachers_of_three_architectures_are_combined_as_one_would_by_hand(make: Make, tmp_path: Path) -> None:
    kinds = ("resnet", "densenet121", "mobilenetv2")
    paths = [_model(tmp_path / f"{kind}.pt", 1, architecture=kind) for kind in kinds]
    teachers = make(*paths)
    assert teachers.targets is not None
    with torch.no_grad():
        direct = torch.stack([load_network(path)(teachers.training.image(3, 0)[None]) for path in paths])
    torch.testing.assert_close(teachers.targets[:, 0, 3:4], direct, atol=1e-4, rtol=1e-4)
    combined = teachers.combination("mean", weights=None, temperature=4.0, seed=0)
    assert combined is not None
    logits = combined(torch.zeros(1, 3), teachers.targets[:, 0, 3:4], torch.tensor([0]))
    expected = (direct / 4).softmax(dim=2).mean(dim=0)
    torch.testing.assert_close((logits / 4).softmax(dim=1), expected, atol=1e-4, rtol=1e-4)


def test_each_group_is_matched_to_the_teacher_trained_on_it(make: Make, tmp_path: Path) -> None:
    siemens = _model(tmp_path / "1.pt", 1, only_group="Siemens")
    ge = _model(tmp_path / "2.pt", 2, only_group="GE")
    combined = make(siemens, ge).combination("group", weights=None, temperature=4.0, seed=0)
    assert combined is not None
    assert combined.by_group is not None
    assert combined.by_group.tolist() == [[0.0, 1.0], [1.0, 0.0]]  # GE: the second; Siemens: the first


def test_a_group_without_a_teacher_or_with_two_is_refused(make: Make, tmp_path: Path) -> None:
    ge = [_model(tmp_path / f"{seed}.pt", seed, only_group="GE") for seed in (1, 2)]
    with pytest.raises(ValueError, match=r"none was trained with only_group \['Siemens'\]"):
        make(ge[0]).combination("group", weights=None, temperature=4.0, seed=0)
    with pytest.raises(ValueError, match="got several for one"):
        make(*ge).combination("group", weights=None, temperature=4.0, seed=0)


@pytest.mark.parametrize(("kind", "biased"), [("gradient", False), ("mean", True)])
def test_a_biased_model_belongs_to_the_gradient_combination_alone(
    make: Make, tmp_path: Path, kind: Any, biased: bool
) -> None:
    other = _model(tmp_path / "1.pt", 1)
    teachers = make(tmp_path / "0.pt", biased_checkpoint=other if biased else None)
    with pytest.raises(ValueError, match="biased_checkpoint is for the combination 'gradient'"):
        teachers.combination(kind, weights=None, temperature=4.0, seed=0)


def test_weights_are_refused_where_they_would_do_nothing(make: Make, tmp_path: Path) -> None:
    teachers = make(tmp_path / "0.pt", _model(tmp_path / "1.pt", 1))
    assert teachers.combination("permuted", weights=[0.7, 0.3], temperature=4.0, seed=0) is not None
    with pytest.raises(ValueError, match=r"'mean' takes no weights, got \[0.7, 0.3\]; leave weights out"):
        teachers.combination("mean", weights=[0.7, 0.3], temperature=4.0, seed=0)


@pytest.mark.parametrize("first", ["combination", "share"])
@pytest.mark.parametrize("kind", ["trust", "group"])
def test_an_adaptive_share_is_refused_where_each_group_has_teachers_of_its_own(
    make: Make, tmp_path: Path, kind: Any, first: str
) -> None:
    """The mean margin of all would be the share of one; whichever of the two is asked for first."""
    several = make(*(_model(tmp_path / f"{g}.pt", n, only_group=g) for n, g in enumerate(COHORT.group_names)))
    steps = [
        lambda: several.combination(kind, weights=None, temperature=4.0, seed=0),
        lambda: several.alpha_of_group(adaptive=True),
    ]
    one, other = steps if first == "combination" else reversed(steps)
    one()
    with pytest.raises(ValueError, match=f"got 2 teachers and combination '{kind}'; set adaptive_alpha to false"):
        other()


def test_an_adaptive_share_goes_with_a_single_teacher_and_with_those_that_count_alike(
    make: Make, tmp_path: Path
) -> None:
    one, two = make(tmp_path / "0.pt"), make(tmp_path / "0.pt", _model(tmp_path / "1.pt", 1))
    one.combination("trust", weights=None, temperature=4.0, seed=0)
    two.combination("mean", weights=None, temperature=4.0, seed=0)
    for teachers in (one, two):
        assert teachers.alpha_of_group(adaptive=True) is not None


def test_the_share_of_several_teachers_is_their_mean_margin_and_a_biased_model_has_no_say(
    make: Make, tmp_path: Path
) -> None:
    paths = [tmp_path / "0.pt", *(_model(tmp_path / f"{seed}.pt", seed) for seed in (3, 4))]
    margins = [make(path).quality[1][0] for path in paths]
    both = make(*paths[:2], biased_checkpoint=paths[2]).alpha_of_group(adaptive=True)
    assert both is not None
    torch.testing.assert_close(both, ((margins[0] + margins[1]) / 2).clamp(min=0))
    assert not torch.allclose(both, margins[0].clamp(min=0))


def test_a_teacher_of_another_recipe_is_refused_before_it_is_asked(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="recipe digest"):
        make(_model(tmp_path / "1.pt", 1, recipe_digest="other"))
