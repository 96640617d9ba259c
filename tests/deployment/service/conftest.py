"""Fixtures of the service's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.deployment.service.database import NAME, Database
from pipeline.deployment.service.store import Store
from tests.deployment.service.states import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    return Store(Database(tmp_path / NAME), clock, monotonic=clock)
