"""The last layer is a logistic regression on held-out features, and the rest of the network stays."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from pipeline.training.checkpoint import load_checkpoint, load_network
from pipeline.training.last_layer import LastLayerRetraining, retrain_last_layer
from pipeline.training.networks import Classifier


def _network(classes: int = 3) -> Classifier:
    torch.manual_seed(0)
    return Classifier(classes=classes, channels=2, widths=(4, 4, 4, 4)).eval()


def _items(classes: int = 3, cases: int = 60) -> list[dict[str, Any]]:
    """Pictures whose brightness goes with the label; group 1 has a third of the cases, group -1 a twelfth."""
    generator = torch.Generator().manual_seed(3)
    return [
        {
            "image": torch.randn(2, 16, 16, generator=generator) + 0.4 * (i % classes),
            "label": i % classes,
            "group": -1 if i % 12 == 0 else int(i % 3 == 1),
            "patient_id": f"patient{i // classes // 2}",
        }
        for i in range(cases)
    ]


def _batches(items: list[dict[str, Any]]) -> DataLoader[dict[str, Any]]:
    return DataLoader(items, batch_size=7)  # type: ignore[arg-type]


def _features(network: Classifier, items: list[dict[str, Any]]) -> np.ndarray:
    with torch.no_grad():
        return network.features(torch.stack([item["image"] for item in items])).double().numpy()


def _direct(network: Classifier, items: list[dict[str, Any]], strength: float) -> np.ndarray:
    """Scikit-learn's probabilities on features standardised by hand, each cell of group and label weighing the same."""
    features = _features(network, items)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    cells = [(item["group"], item["label"]) for item in items]
    weights = [len(cells) / len(set(cells)) / cells.count(cell) for cell in cells]
    labels = [item["label"] for item in items]
    fitted = LogisticRegression(C=1 / strength, max_iter=10_000).fit(features, labels, sample_weight=weights)
    return np.asarray(fitted.predict_proba(features))


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_the_network_has_the_probabilities_of_the_regression(classes: int, strength: float) -> None:
    """Scaling folded into the layer, two classes as two logits: the softmax of the network's own logits tells."""
    network, items = _network(classes), _items(classes)
    retrain_last_layer(network, _batches(items), strengths=[strength], seed=0)
    with torch.no_grad():
        logits = network(torch.stack([item["image"] for item in items])).numpy()
    np.testing.assert_allclose(softmax(logits, axis=1), _direct(network, items, strength), rtol=1e-3, atol=1e-4)


def test_only_the_head_changes() -> None:
    network = _network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    retrain_last_layer(network.train(), _batches(_items()), seed=0)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}


def _spurious(per_cell: dict[tuple[int, int], int], seed: int) -> list[dict[str, Any]]:
    """Picture (2, 4, 4): a weak sign of the label in one channel, a strong sign of the group in the other."""
    generator = torch.Generator().manual_seed(seed)
    items: list[dict[str, Any]] = []
    for (label, group), cases in per_cell.items():
        for _ in range(cases):
            signs = torch.tensor([2.0 * label - 1, 4.0 * group - 2])
            means = signs + 0.8 * torch.randn(2, generator=generator)
            image = means[:, None, None].expand(2, 4, 4)
            items.append({"image": image, "label": label, "group": group, "patient_id": f"patient{len(items)}"})
    return items


class Means(Classifier):
    """A classifier whose features are the means of the channels, so that what the last layer does can be read off."""

    def features(self, image: Tensor) -> Tensor:
        return image.mean(dim=(2, 3))


def _means() -> Means:
    network = Means(classes=2, channels=2)
    network.head = torch.nn.Linear(2, 2)
    return network


def _worst_cell(network: Classifier, items: list[dict[str, Any]]) -> float:
    with torch.no_grad():
        predicted = network(torch.stack([item["image"] for item in items])).argmax(dim=1).tolist()
    hits: dict[tuple[int, int], list[bool]] = defaultdict(list)
    for label, item in zip(predicted, items, strict=True):
        hits[item["label"], item["group"]].append(label == item["label"])
    return min(sum(cell) / len(cell) for cell in hits.values())


@pytest.mark.parametrize("held_out", [{"big": 40, "small": 40}, {"big": 72, "small": 8}])
def test_a_shortcut_learnt_in_training_is_given_up(held_out: dict[str, int]) -> None:
    """In training 95 % of the cases have label = group; held out, half have it, or 90 %, which the weights undo.

    The last layer fitted to training by the same regression, without weights, is the network to start with.
    """
    training = _spurious({(0, 0): 190, (1, 1): 190, (0, 1): 10, (1, 0): 10}, seed=1)
    big, small = held_out["big"], held_out["small"]
    balanced = _spurious({(0, 0): big, (1, 1): big, (0, 1): small, (1, 0): small}, seed=2)
    test = _spurious(dict.fromkeys([(0, 0), (0, 1), (1, 0), (1, 1)], 250), seed=3)
    network = _means()
    usual = LogisticRegression().fit(_features(network, training), [item["label"] for item in training])
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor(np.concatenate([-usual.coef_, usual.coef_]) / 2))
        network.head.bias.copy_(torch.tensor(np.concatenate([-usual.intercept_, usual.intercept_]) / 2))
    before = _worst_cell(network, test)
    retrain_last_layer(network, _batches(balanced), seed=0)
    after = _worst_cell(network, test)
    assert before < 0.7
    assert after > before + 0.1
    label, shortcut = network.head.weight[1].tolist()
    assert abs(shortcut) < 0.3 * label


def test_the_strength_is_the_best_in_the_worst_group_and_of_equals_the_strongest() -> None:
    """Features label + noise and noise: their difference tells all, but a strong penalty leaves no difference."""
    generator = torch.Generator().manual_seed(4)
    items = []
    for i, noise in enumerate(3 * torch.randn(80, generator=generator)):
        image = torch.stack([noise + 2.0 * (i % 2) - 1, noise])[:, None, None].expand(2, 4, 4)
        items.append({"image": image, "label": i % 2, "group": i // 2 % 2, "patient_id": f"patient{i}"})
    report = retrain_last_layer(_means(), _batches(items), strengths=[1e5, 0.01, 0.02, 1e6], seed=0)
    assert report.worst_group_accuracy[0.01] == report.worst_group_accuracy[0.02] == 1
    assert report.worst_group_accuracy[1e5] < 0.8
    assert (report.strength, report.cases, report.cells) == (0.02, 80, 4)


def test_patients_are_left_out_whole() -> None:
    """Noise as the only feature, ten copies of each patient: who finds a copy in the fit knows the label."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for patient in range(40):
        image = torch.randn(2, 16, 16, generator=generator)
        items += [{"image": image, "label": patient % 2, "group": 0, "patient_id": f"p{patient}"}] * 10
    network = Classifier(classes=2, channels=2, widths=(4, 4, 4, 256)).eval()
    report = retrain_last_layer(network, _batches(items), strengths=[0.001], seed=0)
    assert report.worst_group_accuracy[0.001] < 0.75


def test_a_group_that_training_lacks_counts_as_a_group_of_its_own() -> None:
    """Its labels alternate whatever the picture shows: about half of it is right, and that is the worst accuracy."""
    known, other = (_spurious({(0, 0): cases, (1, 0): cases}, seed=cases) for cases in (40, 10))
    for i, item in enumerate(other):
        item |= {"group": -1, "label": i % 2, "patient_id": f"other{i}"}
    network = _means()
    report = retrain_last_layer(network, _batches(known + other), strengths=[1.0], seed=0)
    assert report.cells == 4
    assert report.worst_group_accuracy[1.0] < 0.7
    assert _worst_cell(network, known) > 0.8


def test_a_class_without_enough_held_out_patients_is_named() -> None:
    """Class 2 is missing; class 1 has three patients, fewer than folds."""
    items = [item for item in _items(2) if item["label"] == 0 or item["patient_id"] < "patient11"]
    with pytest.raises(ValueError, match=r"each of 5 folds, but labels have so many: \{1: 3, 2: 0\}"):
        retrain_last_layer(_network(3), _batches(items), seed=0)


def test_cases_without_a_label_are_refused() -> None:
    items = [{**item, "label": item["label"] - 1} for item in _items()]
    with pytest.raises(ValueError, match=r"labels must be 0 to 2, got \[-1, 0, 1\]"):
        retrain_last_layer(_network(), _batches(items), seed=0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """What training leaves behind; it notes the overlay's setting already."""
    network, path = _network(), tmp_path / "model.pt"
    record = {"classes": ["a", "b", "c"], "recipe_digest": "abc", "last_layer": "dfr", "epoch": 4}
    torch.save({"model": network.state_dict(), "network": network.settings, **record}, path)
    return path


def test_the_checkpoint_gets_the_new_layer_and_says_so(checkpoint: Path) -> None:
    expected = _network()
    report = retrain_last_layer(expected, _batches(_items()), seed=5)
    LastLayerRetraining(checkpoint, _batches(_items()), kind="dfr", device="cpu", seed=5).run()
    saved = load_checkpoint(checkpoint)
    assert (saved["last_layer"], saved["epoch"], saved["classes"]) == ("dfr", 4, ["a", "b", "c"])
    assert saved["last_layer_fit"]["strength"] == report.strength
    assert torch.equal(load_network(checkpoint).head.weight, expected.head.weight)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["model.pt"]


def test_a_retrained_checkpoint_is_left_alone(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LastLayerRetraining(checkpoint, _batches(_items()), kind="dfr", device="cpu", seed=5).run()
    before = checkpoint.read_bytes()
    LastLayerRetraining(checkpoint, _batches(_items(cases=54)), kind="dfr", device="cpu", seed=5).run()
    assert f"retrained before: {checkpoint}" in capsys.readouterr().out
    assert checkpoint.read_bytes() == before


def test_training_ends_with_the_retraining(checkpoint: Path) -> None:
    """What comes behind it at the end, such as the registration of the model, finds the new layer."""
    engine, found = _trainer(_network()), []
    LastLayerRetraining(checkpoint, _batches(_items()), kind="dfr", device="cpu", seed=5).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: found.append(load_checkpoint(checkpoint)))
    engine.add_event_handler(Events.COMPLETED, lambda: found.append(load_checkpoint(checkpoint)))
    engine.run([0], max_epochs=1)
    assert ["last_layer_fit" in state for state in found] == [False, True]


def _trainer(network: torch.nn.Module) -> Engine:
    """An engine with a network, as a trainer has."""
    engine = Engine(lambda *_: None)
    engine.network = network  # type: ignore[attr-defined]
    return engine


@pytest.mark.parametrize("inside", [lambda network: network, lambda network: SimpleNamespace(module=network)])
def test_too_few_held_out_patients_are_told_before_the_first_epoch(checkpoint: Path, inside: Any) -> None:
    """Class 2 has none; an hour of training would come before the same message. Nothing random is drawn."""
    items = [item for item in _items() if item["label"] != 2]
    engine, epochs = _trainer(inside(_network(3))), []
    LastLayerRetraining(checkpoint, _batches(items), kind="dfr", device="cpu", seed=5).attach(engine)
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: epochs.append(1))
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"each of 5 folds, but labels have so many: \{2: 0\}"):
        engine.run([0], max_epochs=1)
    assert epochs == []
    assert torch.equal(torch.get_rng_state(), before)


def test_without_retraining_the_checkpoint_is_left_alone(checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    LastLayerRetraining(checkpoint, _batches(_items()), kind="none", device="cpu", seed=5).run()
    assert checkpoint.read_bytes() == before


def test_an_unknown_way_of_retraining_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="got 'DFR'"):
        LastLayerRetraining(checkpoint, [], kind="DFR", device="cpu", seed=5)  # type: ignore[arg-type]


def test_a_loader_that_deals_cases_out_is_refused(checkpoint: Path) -> None:
    items = _items()
    sampler = DistributedSampler(items, num_replicas=2, rank=0)  # type: ignore[arg-type]
    loader = DataLoader(items, batch_size=7, sampler=sampler)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="deals them out to processes"):
        LastLayerRetraining(checkpoint, loader, kind="dfr", device="cpu", seed=5)
