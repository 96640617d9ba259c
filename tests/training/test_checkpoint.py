"""Training that was interrupted ends as if it had not been."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader
from monai.transforms import Compose, RandGaussianNoised

from pipeline.training import checkpoint
from pipeline.training.averaging import WeightAveraging
from pipeline.training.checkpoint import (
    KeptEpoch,
    TrainingState,
    build_network,
    checked_model,
    load_checkpoint,
    start_from,
)
from pipeline.training.networks import Classifier
from pipeline.training.objective import DistillationObjective
from pipeline.training.sampling import TrainingSampler
from pipeline.training.trainer import DistillationTrainer
from pipeline.training.views import AugmentedViews

EPOCHS = 4
SCORES = {1: 0.2, 2: 0.9, 3: 0.9, 4: 0.5}


def _items(folder: Path) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    folder.mkdir(exist_ok=True)
    for number in range(13):
        np.save(folder / f"{number}.npy", torch.randn(2, 2, 32, 32, generator=generator).numpy())
    return [{"image": str(folder / f"{n}.npy"), "case_id": f"c{n}", "label": n % 3, "group": n % 2} for n in range(13)]


class Training:
    """A tiny distillation with everything random that a real one has."""

    def __init__(
        self, folder: Path, kept_epoch: KeptEpoch = "best", averaging_start: float = 0.4, **settings: Any
    ) -> None:
        torch.manual_seed(0)
        items = _items(folder.parent / f"{folder.name}-data")
        data = AugmentedViews(
            items,
            lambda item: {"image": np.load(item["image"])},
            Compose([RandGaussianNoised("image", prob=0.5)]),
            views=3,
            seed=0,
            folder=folder.parent / f"{folder.name}-data",
            identity={},
        )
        sampler = TrainingSampler(items, "groups", seed=5)
        loader = DataLoader(data, batch_size=4, sampler=sampler)
        self.network = Classifier(classes=3, channels=4, widths=(4, 4, 4, 4))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.01)
        self.objective = DistillationObjective(["a", "b"], [7, 6], weighting="groups", group_step=0.5)
        averaging = WeightAveraging(
            self.network, kind="swa", start=averaging_start, decay=0.9, batches=loader, device="cpu"
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 0.01, total_steps=EPOCHS * len(loader))
        self.state = TrainingState(
            folder=folder,
            network=self.network,
            validated=averaging.network,
            parts={
                "optimizer": self.optimizer,
                "schedule": schedule,
                "objective": self.objective,
                "averaging": averaging,
            },
            settings={"num_epochs": EPOCHS, **settings},
            seed=5,
            epochwise=[data, sampler],
            selection=lambda: SCORES[self.trainer.state.epoch],
            val_interval=1,
            kept_epoch=kept_epoch,
            record=lambda: {"network": self.network.settings, "classes": ["x", "y", "z"], "recipe_digest": "abc"},
        )
        self.trainer = DistillationTrainer(
            max_epochs=EPOCHS,
            device=torch.device("cpu"),
            train_data_loader=loader,
            network=self.network,
            targets=torch.randn(1, 3, 13, 3, generator=torch.Generator().manual_seed(2)),
            objective=self.objective,
            optimizer=self.optimizer,
            decollate=False,
            train_handlers=[self.state, averaging],
        )
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda _: schedule.step())

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in (*self.network.parameters(), *self.network.buffers())])

    def stop_in(self, epoch: int, iteration: int) -> None:
        """Raise in the middle of an epoch."""

        def stop() -> None:
            state = self.trainer.state
            if state.epoch == epoch and (state.iteration - 1) % state.epoch_length + 1 == iteration:
                raise KeyboardInterrupt

        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, stop)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = Training(tmp_path_factory.mktemp("unbroken"))
    training.state.run(training.trainer)
    return training


@pytest.mark.parametrize(("epoch", "iteration"), [(1, 2), (3, 1), (4, 4)])
def test_an_interrupted_run_ends_with_the_weights_of_an_unbroken_one(
    unbroken: Training, tmp_path: Path, epoch: int, iteration: int
) -> None:
    """Shuffling, noise, optimiser, schedule and group weights all go on where they were."""
    first = Training(tmp_path / "run")
    first.stop_in(epoch, iteration)
    with pytest.raises(KeyboardInterrupt):
        first.state.run(first.trainer)
    second = Training(tmp_path / "run")
    second.state.run(second.trainer)
    assert torch.equal(second.weights(), unbroken.weights())
    assert torch.equal(second.objective.group_weights.weights, unbroken.objective.group_weights.weights)
    assert second.state.kept == unbroken.state.kept


def test_a_student_is_taught_what_the_teachers_said_of_the_very_view_that_it_sees(tmp_path: Path) -> None:
    training = Training(tmp_path / "run")
    taught: list[torch.Tensor] = []
    shown: list[tuple[torch.Tensor, torch.Tensor]] = []
    training.objective.register_forward_pre_hook(lambda _, given: taught.append(given[1]))
    training.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: shown.append((e.state.batch["view"], e.state.batch["index"]))
    )
    training.state.run(training.trainer)
    targets = training.trainer.targets
    assert targets is not None
    assert {int(view) for views, _ in shown for view in views} == {0, 1, 2}
    for logits, (views, cases) in zip(taught, shown, strict=True):
        one_by_one = [targets[:, int(view), int(case)] for view, case in zip(views, cases, strict=True)]
        assert torch.equal(logits, torch.stack(one_by_one, dim=1))


def test_epochs_differ_from_each_other_and_seeds_from_each_other(tmp_path: Path) -> None:
    """If every epoch drew the same, resuming would be equal for the wrong reason."""
    training = Training(tmp_path / "run")
    draws = []
    for seed, epoch in ((5, 1), (5, 2), (6, 1), (5, 1)):
        training.state.seed, training.trainer.state.epoch = seed, epoch
        training.state.seed_epoch(training.trainer)
        draws.append((torch.rand(1).item(), np.random.rand()))
    assert draws[0] == draws[3]
    assert len({draw[0] for draw in draws[:3]}) == len({draw[1] for draw in draws[:3]}) == 3


def test_data_set_and_sampler_are_told_of_each_epoch(tmp_path: Path) -> None:
    training = Training(tmp_path / "run")
    told: list[int] = []

    class Listener:
        def set_epoch(self, epoch: int) -> None:
            told.append(epoch)

    training.state.epochwise = (Listener(),)
    training.state.run(training.trainer)
    assert told == [1, 2, 3, 4]


def test_the_model_is_that_of_the_best_epoch_and_the_later_of_two_equals(unbroken: Training) -> None:
    """Scores are 0.2, 0.9, 0.9, 0.5: epoch 3."""
    saved = load_checkpoint(unbroken.state.model_path)
    assert (saved["epoch"], saved["selection"]) == (3, 0.9)
    final = unbroken.network.state_dict()
    assert any(not torch.equal(saved["model"][key], final[key]) for key in final)


def test_the_model_is_that_of_the_last_epoch_where_that_is_asked_for(unbroken: Training, tmp_path: Path) -> None:
    """Validated or not; training is the same, and nothing is kept before the end."""
    training = Training(tmp_path / "run", kept_epoch="last")
    training.state.val_interval = EPOCHS + 1
    training.trainer.add_event_handler(Events.EPOCH_STARTED, lambda _: kept.append(training.state.model_path.exists()))
    kept: list[bool] = []
    training.state.run(training.trainer)
    saved = load_checkpoint(training.state.model_path)
    assert saved["epoch"] == EPOCHS
    assert math.isnan(saved["selection"])
    assert kept == [False] * EPOCHS
    ends = [load_checkpoint(unbroken.state.model_path)["model"], unbroken.state.validated.state_dict()]
    assert not all(torch.equal(ends[0][key], value) for key, value in saved["model"].items())
    assert all(torch.equal(ends[1][key], value) for key, value in saved["model"].items())


def test_an_unknown_word_for_the_kept_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one of \('last', 'best'\), got 'lowest'"):
        Training(tmp_path / "run", kept_epoch="lowest")  # type: ignore[arg-type]


def test_a_finished_run_is_left_alone(unbroken: Training, capsys: pytest.CaptureFixture[str]) -> None:
    before = unbroken.state.path.stat().st_mtime_ns
    again = Training(unbroken.state.folder)
    again.state.run(again.trainer)
    assert "training is complete" in capsys.readouterr().out
    assert again.trainer.state.epoch == 0
    assert unbroken.state.path.stat().st_mtime_ns == before


def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    first = Training(tmp_path / "run", temperature=4.0)
    first.stop_in(2, 1)
    with pytest.raises(KeyboardInterrupt):
        first.state.run(first.trainer)
    second = Training(tmp_path / "run", temperature=2.0)
    with pytest.raises(ValueError, match=r"temperature 4.0 -> 2.0"):
        second.state.run(second.trainer)


def test_a_finished_run_with_other_settings_is_refused_and_not_passed_off_as_complete(unbroken: Training) -> None:
    again = Training(unbroken.state.folder, alpha=0.5)
    with pytest.raises(ValueError, match=r"alpha None -> 0.5"):
        again.state.run(again.trainer)


def test_a_run_killed_after_its_last_epoch_still_comes_to_its_end(tmp_path: Path) -> None:
    """What happens at the end (artifacts, registry) may be cut off, too: the next start fires it without an epoch."""

    def die() -> None:
        raise KeyboardInterrupt

    first = Training(tmp_path / "run")
    first.trainer.add_event_handler(Events.COMPLETED, die)
    with pytest.raises(KeyboardInterrupt):
        first.state.run(first.trainer)
    ended: list[int] = []
    second = Training(tmp_path / "run")
    second.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda _: ended.append(-1))
    second.trainer.add_event_handler(Events.COMPLETED, lambda engine: ended.append(engine.state.epoch))
    second.state.run(second.trainer)
    assert ended == [EPOCHS]
    assert torch.equal(second.weights(), first.weights())
    third = Training(tmp_path / "run")
    third.state.run(third.trainer)
    assert third.trainer.state.epoch == 0


def test_checkpoints_hold_tensors_and_plain_values_only(unbroken: Training) -> None:
    """weights_only=True refuses anything else; the random state is there as plain numbers."""
    saved = torch.load(unbroken.state.path, weights_only=True)
    assert saved["random_state"] == {"seed": 5, "epoch": EPOCHS}
    assert saved["parts"]["objective"]["group_weights.weights"].sum().item() == pytest.approx(1)
    assert set(saved["parts"]) == {"optimizer", "schedule", "objective", "averaging"}


def test_nothing_half_written_is_left_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(tmp_path / "run")
    training.stop_in(3, 1)
    with pytest.raises(KeyboardInterrupt):
        training.state.run(training.trainer)
    before = training.state.path.read_bytes()

    def fail(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    again = Training(tmp_path / "run")
    with pytest.raises(OSError, match="disk full"):
        again.state.run(again.trainer)
    assert training.state.path.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["last.pt", "model.pt"]


def test_a_model_goes_with_its_recipe_and_its_classes(unbroken: Training) -> None:
    path = unbroken.state.model_path
    network = build_network(checked_model(path, "abc", ["x", "y", "z"]))
    assert network(torch.zeros(1, 2, 2, 16, 16)).shape == (1, 3)
    with pytest.raises(ValueError, match="recipe digest"):
        checked_model(path, "abd", ["x", "y", "z"])
    with pytest.raises(ValueError, match="classes"):
        checked_model(path, "abc", ["y", "x", "z"])


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        load_checkpoint(tmp_path / "nothing.pt")


def test_validating_less_often_than_training_lasts_is_refused(tmp_path: Path) -> None:
    training = Training(tmp_path / "run")
    training.state.val_interval = EPOCHS + 1
    with pytest.raises(ValueError, match="among epochs 2 to 4, but with val_interval 5 none"):
        training.state.attach(training.trainer)


def test_what_was_validated_before_there_is_an_average_is_not_kept(tmp_path: Path) -> None:
    """Averaging starts after 0.8 of 4 epochs: epoch 4 is kept though others score higher, and no other can be."""
    training = Training(tmp_path / "run", averaging_start=0.8)
    training.state.run(training.trainer)
    saved = load_checkpoint(training.state.model_path)
    assert (saved["epoch"], saved["selection"]) == (4, 0.5)
    other = Training(tmp_path / "other", averaging_start=0.8)
    other.state.val_interval = 3
    with pytest.raises(ValueError, match="among epochs 4 to 4, but with val_interval 3 none"):
        other.state.attach(other.trainer)


def test_training_goes_on_in_as_many_processes_as_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cycle of the learning rate is laid out over the steps of one process. An older file does not tell."""
    first = Training(tmp_path / "run")
    first.stop_in(2, 1)
    with pytest.raises(KeyboardInterrupt):
        first.state.run(first.trainer)
    second = Training(tmp_path / "run")
    monkeypatch.setattr(checkpoint, "_processes", lambda: 2)
    with pytest.raises(ValueError, match="in as many processes as it began, 1, but there are 2"):
        second.state.restore(second.trainer)
    assert second.trainer.state.epoch == 0
    old = torch.load(second.state.path, weights_only=True)
    del old["processes"]
    torch.save(old, second.state.path)
    second.state.restore(second.trainer)
    assert second.trainer.state.epoch == 1


def test_the_selection_is_not_asked_for_in_epochs_without_validation(tmp_path: Path) -> None:
    """Its value would be that of an earlier epoch."""
    training = Training(tmp_path / "run")
    asked: list[int] = []

    def select() -> float:
        asked.append(training.trainer.state.epoch)
        return 0.0

    training.state.selection, training.state.val_interval = select, 2
    training.state.run(training.trainer)
    assert asked == [2, 4]


def test_training_may_start_from_a_model_of_its_shape_recipe_and_classes(unbroken: Training) -> None:
    path = unbroken.state.model_path
    fresh = Classifier(classes=3, channels=4, widths=(4, 4, 4, 4))
    assert start_from(fresh, path, "abc", ["x", "y", "z"]) is fresh
    assert all(torch.equal(fresh.state_dict()[key], value) for key, value in load_checkpoint(path)["model"].items())
    wider = Classifier(classes=3, channels=4, widths=(8, 8, 8, 8))
    with pytest.raises(ValueError, match="same shape to start from"):
        start_from(wider, path, "abc", ["x", "y", "z"])
    with pytest.raises(ValueError, match="recipe digest"):
        start_from(fresh, path, "abd", ["x", "y", "z"])


def test_without_a_start_a_network_stays_as_it_was_made() -> None:
    network = Classifier(classes=3, channels=4, widths=(4, 4, 4, 4))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert all(
        torch.equal(start_from(network, None, "abc", []).state_dict()[key], value) for key, value in before.items()
    )


def test_a_model_from_before_version_0_3_is_refused_by_name(tmp_path: Path) -> None:
    """Its network was described by other settings."""
    old = {"model": {}, "network": {"classes": 3, "slices": 8}, "classes": ["x"], "recipe_digest": "abc"}
    torch.save(old, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"before version 0\.3\.0"):
        load_checkpoint(tmp_path / "model.pt")
