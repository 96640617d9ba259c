"""Handlers of the bundles: what stands elsewhere in a config is attached, and progress is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from tqdm import tqdm


class Attachable(Protocol):
    """A handler or a metric."""

    def attach(self, engine: Engine, /, *arguments: Any) -> None:  # noqa: ANN401  a metric takes its name
        """Register with an engine's events."""


class Attach:
    """Attach to an engine what is built elsewhere in a config, so that other parts can refer to it by a name.

    MONAI's property check wants every handler to be a dictionary, so that a plain reference cannot stand in the list.

    Args:
        what: a handler, or a metric.
        name: of a metric in the engine's results; not given for a handler.
    """

    def __init__(self, what: Attachable, name: str | None = None) -> None:
        self.what = what
        self.arguments = () if name is None else (name,)

    def attach(self, engine: Engine) -> None:
        """Attach it."""
        self.what.attach(engine, *self.arguments)


class EpochProgress:
    """One progress bar over the epochs, with figures behind it.

    Args:
        figures: named values to show, called after each epoch.
        description: what is trained.
    """

    def __init__(self, figures: Callable[[], Mapping[str, float]], *, description: str) -> None:
        self.figures = figures
        self.description = description
        self.bar: tqdm | None = None  # type: ignore[type-arg]

    def attach(self, trainer: Engine) -> None:
        """Open the bar at the start, move it after each epoch, close it at the end."""
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.step)
        trainer.add_event_handler(Events.COMPLETED, self.close)

    def start(self, trainer: Engine) -> None:
        """Open the bar where training stands."""
        hidden = getattr(trainer.state, "rank", 0) > 0
        epochs = trainer.state.max_epochs
        self.bar = tqdm(total=epochs, initial=trainer.state.epoch, desc=self.description, unit="epoch", disable=hidden)

    def step(self) -> None:
        """One epoch more."""
        if self.bar is not None:
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in self.figures().items()})
            self.bar.update()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


class BatchProgress:
    """One progress bar over the batches of a pass.

    Args:
        description: what is read.
    """

    def __init__(self, *, description: str) -> None:
        self.description = description

    def attach(self, engine: Engine) -> None:
        """Move the bar after each batch."""
        ProgressBar(desc=self.description, bar_format=None).attach(engine)
