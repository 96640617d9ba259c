"""Progress is shown where it should be."""

from __future__ import annotations

import pytest
from ignite.engine import Engine
from ignite.metrics import Average

from pipeline.training.handlers import Attach, BatchProgress, EpochProgress


def test_the_bar_counts_epochs_and_shows_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(lambda *_: None)
    EpochProgress(lambda: {"worst group": 0.5}, description="teacher").attach(engine)
    engine.run([1, 2], max_epochs=3)
    said = capsys.readouterr().err
    assert "teacher" in said
    assert "3/3" in said
    assert "worst group=0.500" in said


def test_a_metric_built_elsewhere_is_attached_under_its_name() -> None:
    """The mean of 1, 2 and 6."""
    engine = Engine(lambda _, value: value)
    Attach(Average(), name="train/loss").attach(engine)
    assert engine.run([1.0, 2.0, 6.0]).metrics["train/loss"] == pytest.approx(3.0)


def test_a_handler_built_elsewhere_is_attached(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(lambda *_: None)
    Attach(BatchProgress(description="reading")).attach(engine)
    engine.run([1, 2, 3])
    assert "reading" in capsys.readouterr().err
