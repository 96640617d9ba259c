"""Fixtures that several files share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.deployment.readings import Source
    from tests.deployment.small_student import SmallStudent


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: tests run side by side."""
    with _one_thread():
        yield


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallStudent:
    """A trained student with its prepared studies and its audit."""
    from tests.deployment.small_student import small_student

    with _one_thread():
        return small_student(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def given() -> Source:
    """Headers of a study and what was read of it."""
    from tests.deployment.readings import source

    return source(StudyDate="20260102", ContentDate="20260102", PatientName="Doe^John", StudyID="7")


@pytest.fixture(scope="session")
def written(given: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with that study's results."""
    from tests.deployment.readings import written_to

    folder = tmp_path_factory.mktemp("results")
    written_to(given, folder)
    return folder
