"""Checkpoints: what training needs to go on after a kill, and the model that it leaves behind."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import distributed, nn

from pipeline.files import atomic_path
from pipeline.training.averaging import WeightAveraging
from pipeline.training.networks import Classifier

KeptEpoch = Literal["last", "best"]


class Stateful(Protocol):
    """Anything that can be saved and put back: networks, optimisers, schedules, objectives, trackers."""

    def state_dict(self) -> Mapping[str, Any]:
        """State as tensors and plain numbers."""

    def load_state_dict(self, state: Mapping[str, Any], /) -> Any:  # noqa: ANN401  torch returns missing keys
        """Put a state back."""


class Epochwise(Protocol):
    """What gives another thing in each epoch: a data set its view, a sampler its order."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 1."""


class TrainingState:
    """Saves training after every epoch, goes on from there, and keeps the model.

    ``last.pt`` holds all that the next epoch depends on. Everything random in an epoch is a function of the seed
    and the epoch's number: generators are seeded anew as an epoch starts, so that the random state to be saved is
    these two numbers, and an interrupted run ends as an unbroken one would: with the very weights on a CPU, on a GPU up
    to the order in which it adds. ``model.pt`` holds the validated network of the last epoch, or of the best one. Both
    are written beside their name and renamed, with tensors and plain values only, and load with ``weights_only=True``.

    Attach it before every other handler: it seeds and restores at their first event.

    Args:
        folder: where ``last.pt`` and ``model.pt`` go.
        network: the network trained, which ``last.pt`` holds.
        validated: the network that is validated and becomes the model: the trained one, or its weights' average.
        parts: what else must survive, by name: optimiser, schedule, objective, averaging, tracker.
        settings: plain values that make this run this run; a resume with other values is an error.
        seed: of all randomness.
        epochwise: data set and sampler, told of each epoch as it starts.
        selection: value by which epochs are compared, called after those that were validated.
        val_interval: epochs between validations.
        kept_epoch: ``last``; or ``best``: the one whose ``selection`` was highest, the later of two equals; with
            averaging among those from which on there is an average.
        record: what the model must remember (recipe, classes, groups, run ids), called when it is saved.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        network: nn.Module,
        validated: nn.Module,
        parts: Mapping[str, Stateful],
        settings: Mapping[str, Any],
        seed: int,
        epochwise: Sequence[Epochwise],
        selection: Callable[[], float],
        val_interval: int,
        kept_epoch: KeptEpoch,
        record: Callable[[], Mapping[str, Any]],
    ) -> None:
        if kept_epoch not in get_args(KeptEpoch):
            raise ValueError(f"kept_epoch must be one of {get_args(KeptEpoch)}, got {kept_epoch!r}")
        self.folder = Path(folder)
        self.network = network
        self.validated = validated
        self.parts = dict(parts)
        self.settings = dict(settings)
        self.seed = seed
        self.epochwise = tuple(epochwise)
        self.selection = selection
        self.val_interval = val_interval
        self.kept_epoch = kept_epoch
        self.record = record
        self.kept: dict[str, float] = {"epoch": 0, "selection": -math.inf}

    @property
    def path(self) -> Path:
        """The checkpoint from which training goes on."""
        return self.folder / "last.pt"

    @property
    def model_path(self) -> Path:
        """The model that is kept."""
        return self.folder / "model.pt"

    def run(self, trainer: Engine) -> None:
        """Train to the end, or say that this was done before.

        Raises:
            ValueError: if the folder holds a run with other settings.
        """
        saved = self._saved()
        if saved is not None and saved["finished"]:
            print(f"training is complete: {self.model_path}; to train anew choose another output folder")
            return
        trainer.run()
        if getattr(trainer.state, "rank", 0) == 0:
            self._write(self.path, {**self._read(), "finished": True})

    def attach(self, trainer: Engine) -> None:
        """Restore at the start, seed each epoch, save after it and after whatever else its end brings."""
        epochs = trainer.state.max_epochs or 0
        first, last = self._first_epoch(epochs), epochs - epochs % self.val_interval
        if self.kept_epoch == "best" and last < first:
            raise ValueError(
                f"the best epoch is chosen by validation among epochs {first} to {epochs}, but with val_interval "
                f"{self.val_interval} none of them is validated; lower val_interval, or averaging_start"
            )
        trainer.add_event_handler(Events.STARTED, self.restore)
        trainer.add_event_handler(Events.EPOCH_STARTED, self.seed_epoch)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._save_last)

    def restore(self, trainer: Engine) -> None:
        """Put back the last checkpoint, if there is one.

        Raises:
            ValueError: if it comes from a run with other settings, or in another number of processes.
        """
        saved = self._saved()
        if saved is None:
            return
        before, now = saved.get("processes", _processes()), _processes()
        if before != now:
            raise ValueError(
                f"{self.path} must go on in as many processes as it began, {before}, but there are {now}: the schedule "
                "has another number of steps; start as many, or choose another output folder"
            )
        self.network.load_state_dict(saved["model"])
        for name, part in self.parts.items():
            part.load_state_dict(saved["parts"][name])
        self.kept = saved["kept"]
        trainer.state.epoch = saved["epoch"]
        trainer.state.iteration = saved["epoch"] * trainer.state.epoch_length
        print(f"going on from epoch {saved['epoch']} of {trainer.state.max_epochs}: {self.path}")

    def seed_epoch(self, trainer: Engine) -> None:
        """Seed every generator that the epoch draws from, and tell data set and sampler."""
        sequence = np.random.SeedSequence([self.seed, trainer.state.epoch, getattr(trainer.state, "rank", 0)])
        seed = int(sequence.generate_state(1)[0]) % 2**31
        random.seed(seed)
        np.random.seed(seed)  # some transforms draw from the global generator
        torch.manual_seed(seed)
        for part in self.epochwise:
            part.set_epoch(trainer.state.epoch)

    def _save_last(self, trainer: Engine) -> None:
        """Put the saving behind all other handlers of the epoch's end, those included that came at the start."""
        if not trainer.has_event_handler(self.save, Events.EPOCH_COMPLETED):
            trainer.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, trainer: Engine) -> None:
        """Write the model if this is its epoch, as far as one can know, then the checkpoint."""
        if getattr(trainer.state, "rank", 0) > 0:
            return
        epoch = trainer.state.epoch
        value = float(self.selection()) if epoch % self.val_interval == 0 else math.nan
        last = epoch == trainer.state.max_epochs
        better = value >= self.kept["selection"] and epoch >= self._first_epoch(trainer.state.max_epochs or 0)
        if last if self.kept_epoch == "last" else better:
            self.kept = {"epoch": epoch, "selection": value}
            self._write(self.model_path, {"model": self.validated.state_dict(), **self.record(), **self.kept})
        state = {
            "format": 1,
            "epoch": epoch,
            "finished": False,
            "processes": _processes(),
            "model": self.network.state_dict(),
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "random_state": {"seed": self.seed, "epoch": epoch},
            "kept": self.kept,
            "settings": {key: self._plain(key) for key in self.settings},
        }
        self._write(self.path, state)

    def _first_epoch(self, epochs: int) -> int:
        """The first of so many epochs that may be chosen."""
        averages = [part for part in self.parts.values() if isinstance(part, WeightAveraging)]
        return max([1, *(average.first_epoch(epochs) for average in averages)])

    def _saved(self) -> dict[str, Any] | None:
        """The last checkpoint, if there is one, of a run with these settings."""
        if not self.path.is_file():
            return None
        saved = self._read()
        before = saved["settings"]
        changed = sorted(key for key in {*before, *self.settings} if before.get(key) != self._plain(key))
        if changed:
            pairs = ", ".join(f"{key} {before.get(key)!r} -> {self._plain(key)!r}" for key in changed)
            raise ValueError(
                f"{self.path} belongs to a run with other settings ({pairs}); "
                "give those to go on with it, or choose another output folder"
            )
        return saved

    def _plain(self, key: str) -> str | int | float | bool | None:
        value = self.settings.get(key)
        return value if isinstance(value, str | int | float | bool | None) else repr(value)

    def _read(self) -> dict[str, Any]:
        return dict(torch.load(self.path, map_location="cpu", weights_only=True))

    @staticmethod
    def _write(path: Path, state: Mapping[str, Any]) -> None:
        with atomic_path(path) as temporary:
            torch.save(dict(state), temporary)


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A ``model.pt``: ``model`` (weights), ``network`` (how to build it), recipe, classes, groups, run ids.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it was not written by a training bundle.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model at {path}; train one first, or give its path as the checkpoint")
    state = torch.load(path, map_location="cpu", weights_only=True)
    missing = {"model", "network", "classes", "recipe_digest"} - set(state)
    if missing:
        raise ValueError(f"{path} must be a model.pt that a training bundle wrote, but lacks {sorted(missing)}")
    if "architecture" not in state["network"]:
        raise ValueError(f"{path} was written before version 0.3.0, whose networks are other ones; train it anew")
    return dict(state)


def build_network(checkpoint: Mapping[str, Any]) -> Classifier:
    """The network that a loaded ``model.pt`` describes, with its weights, in evaluation mode."""
    network = Classifier(**checkpoint["network"])
    network.load_state_dict(checkpoint["model"])
    return network.eval()


def load_network(path: str | Path) -> Classifier:
    """The network of a ``model.pt``, in evaluation mode."""
    return build_network(load_checkpoint(path))


def start_from(network: nn.Module, path: str | Path | None, recipe_digest: str, classes: Sequence[str]) -> nn.Module:
    """Give a network the weights of a ``model.pt`` of its shape; without a path it stays as it was made.

    Args:
        network: changed in place.
        path: of the ``model.pt``.
        recipe_digest: of the prepared studies at hand.
        classes: of the datalist, in order.

    Raises:
        ValueError: if the model is of another shape, or was made for other inputs or classes.
    """
    if path is None:
        return network
    found = checked_model(path, recipe_digest, classes)["model"]
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    other = sorted(name for name in {*shapes, *found} if name not in found or shapes.get(name) != found[name].shape)
    if other:
        raise ValueError(
            f"{path} must hold a network of the same shape to start from, but {len(other)} entries differ, "
            f"e.g. {other[0]}; give the architecture, widths and classes that it was trained with"
        )
    network.load_state_dict(found)
    return network


def model_and_example(path: str | Path) -> tuple[Classifier, np.ndarray]:
    """The network of a ``model.pt`` and one input of its shape, for a model registry.

    The shape is ``(1, 2, slices, rows, cols)`` for a cine, ``(1, 3, rows, cols)`` for a natural image.
    """
    state = load_checkpoint(path)
    recipe = state["recipe"]
    before_rows = (recipe["channels"],) if "channels" in recipe else (2, recipe["slices"])
    example = np.zeros((1, *before_rows, recipe["rows"], recipe["cols"]), dtype=np.float32)
    return build_network(state), example


def checked_model(path: str | Path, recipe_digest: str, classes: Sequence[str]) -> dict[str, Any]:
    """A ``model.pt`` that was made for the inputs and classes at hand.

    Args:
        path: of the ``model.pt``.
        recipe_digest: of the prepared studies that it shall read.
        classes: of the datalist, in order.

    Raises:
        ValueError: if one of them differs.
    """
    state = load_checkpoint(path)
    for name, expected, found in (
        ("recipe digest", recipe_digest, state["recipe_digest"]),
        ("classes", list(classes), list(state["classes"])),
    ):
        if expected != found:
            raise ValueError(
                f"the {name} of {path} and of the datalist must be the same, got {found} and {expected}; "
                "prepare the studies with the model's recipe and classes"
            )
    return state
