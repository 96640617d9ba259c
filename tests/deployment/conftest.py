"""Fixtures that several files share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.deployment.small_student import SmallStudent


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallStudent:
    """A trained student with its prepared studies and its audit."""
    import torch

    from tests.deployment.small_student import small_student

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return small_student(tmp_path_factory.mktemp("small"))
    finally:
        torch.set_num_threads(before)
