"""The averaged network is an average, its statistics are its own, and training does not notice it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from pipeline.training.averaging import Kind, WeightAveraging

EPOCHS = 5


def _network() -> nn.Sequential:
    """Layers named so that weights, statistics and their input can be told apart."""
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 2))


def _items() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    return [{"image": torch.randn(2, 8, 8, generator=generator), "label": i % 2} for i in range(12)]


class Noisy(Dataset[dict[str, Any]]):
    """Items brightened at random, by numpy's and by Python's global generator."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = _items()[index]
        return {**item, "image": item["image"] * np.float32(1 + np.random.rand() * random.random())}


class Training:
    """A small training in an ignite engine: shuffled, with noise."""

    def __init__(self, kind: Kind = "swa", start: float = 0.0) -> None:
        seed(0)
        self.network = _network()
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.05, momentum=0.9)
        self.loader = DataLoader(Noisy(), batch_size=4, shuffle=True)
        self.averaging = WeightAveraging(
            self.network, kind=kind, start=start, decay=0.8, batches=self.loader, device="cpu"
        )
        self.weights: list[list[Tensor]] = []
        self.engine = Engine(self._step)
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: self.weights.append(values(self.network)))
        self.averaging.attach(self.engine)

    def _step(self, _: Engine, batch: dict[str, Tensor]) -> None:
        self.network.train()
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.network(batch["image"]), batch["label"]).backward()
        self.optimizer.step()

    def run(self) -> Training:
        self.engine.run(self.loader, max_epochs=EPOCHS)
        return self

    def stop_after(self, epoch: int) -> Training:
        self.engine.add_event_handler(Events.EPOCH_COMPLETED(once=epoch), lambda engine: engine.terminate())
        return self


def seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def values(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def assert_same(found: list[Tensor], expected: list[Tensor], *, rtol: float = 1e-5) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=1e-7)


def equal_states(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )


def test_swa_is_the_plain_mean_of_the_weights_after_the_start() -> None:
    """A start of 0.4 of 5 epochs: epochs 3, 4 and 5 count, a third each."""
    training = Training("swa", start=0.4).run()
    mean = [torch.stack(epochs).mean(dim=0) for epochs in zip(*training.weights[2:], strict=True)]
    assert_same(values(training.averaging.network), mean)


def test_swa_is_what_torch_averages_when_fed_by_hand() -> None:
    training = Training("swa")
    by_hand = AveragedModel(training.network)
    training.engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: by_hand.update_parameters(training.network))
    training.run()
    assert_same(values(training.averaging.network), values(by_hand.module), rtol=0)


def test_ema_follows_its_recursion() -> None:
    """a_2 = w_2, then a_t = 0.8 a_(t-1) + 0.2 w_t: w_2 .. w_5 count 0.512, 0.128, 0.16 and 0.2."""
    training = Training("ema", start=0.2).run()
    shares = torch.tensor([0.512, 0.128, 0.16, 0.2])
    expected = [
        torch.tensordot(shares, torch.stack(epochs), dims=1) for epochs in zip(*training.weights[1:], strict=True)
    ]
    assert_same(values(training.averaging.network), expected)


def test_statistics_are_those_of_the_averaged_weights() -> None:
    """A convolution is linear: the mean of its maps is the map of the mean, whose input is what the loader gave."""
    training = Training("swa")
    loader = DataLoader(_items(), batch_size=4, shuffle=True)  # type: ignore[arg-type]
    training.averaging.batches = loader
    averaged = training.run().averaging.network
    maps = averaged[0](torch.stack([item["image"] for item in _items()]))  # type: ignore[index]
    torch.testing.assert_close(averaged[1].running_mean, maps.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-6)  # type: ignore[index]


def test_statistics_are_those_of_a_pass_over_the_batches_in_their_order() -> None:
    """Unshuffled, the three batches are known: variances are exact, too, and no momentum forgets the first."""
    loader = DataLoader(_items(), batch_size=4)  # type: ignore[arg-type]
    network = _network()
    averaging = WeightAveraging(network, kind="swa", start=0.0, decay=0.9, batches=loader, device="cpu")
    engine = Engine(lambda *_: None)
    averaging.attach(engine)
    engine.run([0], max_epochs=2)
    maps = [network[0](batch["image"]) for batch in loader]
    statistics = averaging.network[1]  # type: ignore[index]
    for found, expected in (
        (statistics.running_mean, [part.mean(dim=(0, 2, 3)) for part in maps]),
        (statistics.running_var, [part.var(dim=(0, 2, 3)) for part in maps]),
    ):
        torch.testing.assert_close(found, torch.stack(expected).mean(dim=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("start", "last_equal"), [(0.0, 1), (0.5, 3), (0.79, 4)])
def test_until_the_average_has_two_epochs_it_has_the_weights_of_training(start: float, last_equal: int) -> None:
    """0.5 of 5 epochs, rounded down: 2, so that epoch 3 is the first that counts and epoch 4 the first that differs."""
    training = Training("swa", start=start)
    equal: list[int] = []

    def compare(engine: Engine) -> None:
        pairs = zip(values(training.averaging.network), values(training.network), strict=True)
        if all(torch.equal(*pair) for pair in pairs):
            equal.append(engine.state.epoch)

    training.engine.add_event_handler(Events.EPOCH_COMPLETED, compare)
    training.run()
    assert equal == list(range(1, last_equal + 1))


@pytest.mark.parametrize(("kind", "start", "expected"), [("swa", 0.0, 1), ("ema", 0.5, 3), ("none", 0.5, 1)])
def test_the_first_epoch_of_an_average_is_the_first_that_it_counts(kind: Kind, start: float, expected: int) -> None:
    training = Training(kind, start=start)
    assert training.averaging.first_epoch(EPOCHS) == expected
    if training.averaging.average is not None:
        training.stop_after(expected).run()
        assert int(training.averaging.average.n_averaged) == 1


def test_before_the_start_the_statistics_are_those_of_training() -> None:
    """Until then the network that is validated is the trained one, not one with statistics taken anew."""
    training = Training("ema", start=0.9).stop_after(4).run()
    assert equal_states(training.averaging.network, training.network)


@pytest.mark.parametrize("kind", ["swa", "ema"])
def test_training_does_not_notice_the_averaging(kind: Kind) -> None:
    """Epochs are not seeded: one draw too many would change the next one's order and noise."""
    without, averaged = Training("none"), Training(kind)
    ends = []
    for training in (without, averaged):
        seed(7)
        training.run()
        ends.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert equal_states(without.network, averaged.network)
    assert ends[0] == ends[1]


@pytest.mark.parametrize("kind", ["swa", "ema"])
@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_an_interrupted_run_ends_with_the_very_average_of_an_unbroken_one(
    kind: Kind, epoch: int, tmp_path: Path
) -> None:
    """Interrupted before the start, as the first epoch counts, and later."""

    def training() -> Training:
        made = Training(kind, start=0.4)
        made.engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: seed(engine.state.epoch))
        return made

    unbroken, first, second = training().run(), training().stop_after(epoch).run(), training()
    parts = ("network", "optimizer", "averaging")
    torch.save({name: getattr(first, name).state_dict() for name in parts}, tmp_path / "last.pt")
    for name, state in torch.load(tmp_path / "last.pt", weights_only=True).items():
        getattr(second, name).load_state_dict(state)

    def go_on(engine: Engine) -> None:
        engine.state.epoch, engine.state.iteration = epoch, epoch * len(second.loader)

    second.engine.add_event_handler(Events.STARTED, go_on)
    second.run()
    assert len(second.weights) == EPOCHS - epoch
    assert equal_states(second.averaging.network, unbroken.averaging.network)


def test_without_averaging_the_network_is_the_trained_one_itself() -> None:
    training = Training("none")
    assert training.averaging.network is training.network
    assert training.averaging.state_dict() == {}
    assert not training.engine.has_event_handler(training.averaging.update)


@pytest.fixture
def one_process(tmp_path: Path) -> Any:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_the_network_inside_a_distributed_one_is_averaged() -> None:
    """Its names are those of the model that is saved, without ``module.``."""
    network = _network()
    averaging = WeightAveraging(
        DistributedDataParallel(network), kind="swa", start=0.0, decay=0.9, batches=[], device="cpu"
    )
    assert averaging.trained is network
    assert averaging.network.state_dict().keys() == network.state_dict().keys()


def _average_in_a_process(rank: int, store: str, results: Any) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(0)
    averaging = WeightAveraging(_network(), kind="swa", start=0.0, decay=0.9, batches=_share(rank), device="cpu")
    engine = Engine(lambda *_: None)
    averaging.attach(engine)
    engine.run([0], max_epochs=1)
    layer = averaging.network[1]  # type: ignore[index]
    results[rank] = torch.stack([layer.running_mean, layer.running_var]).tolist()
    distributed.destroy_process_group()


def _share(rank: int) -> list[dict[str, Tensor]]:
    """Half of the cases, those of the second process darker and of less contrast."""
    return [{"image": torch.stack([item["image"] for item in _items()[rank::2]]) * (1 - 0.5 * rank) - rank}]


@pytest.mark.slow
def test_statistics_of_two_processes_are_those_of_one_with_all_cases(tmp_path: Path) -> None:
    """Each alone would find its own, and the mean of their variances would leave out how far their means differ."""
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(_average_in_a_process, (str(tmp_path / "store"), results), nprocs=2)
        found = dict(results)
    torch.manual_seed(0)
    images = torch.cat([share["image"] for rank in (0, 1) for share in _share(rank)])
    everything = _network()[0](images)
    expected = torch.stack([everything.mean(dim=(0, 2, 3)), everything.var(dim=(0, 2, 3))])
    assert found[0] == found[1]
    torch.testing.assert_close(torch.tensor(found[0]), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "mean"}, "got 'mean'"),
        ({"start": 1.0}, r"\[0, 1\), got 1.0"),
        ({"decay": 1.0}, r"\(0, 1\), got 1.0"),
    ],
)
def test_settings_outside_their_range_are_refused(settings: dict[str, Any], message: str) -> None:
    given = {"kind": "swa", "start": 0.5, "decay": 0.9, "batches": [], "device": "cpu", **settings}
    with pytest.raises(ValueError, match=message):
        WeightAveraging(_network(), **given)
