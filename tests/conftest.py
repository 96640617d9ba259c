"""Fixtures that several folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real studies; tests that need it skip where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EVENBEAT_REAL_DATA", default))
    if not (folder / "acdc").is_dir():
        pytest.skip("needs the real studies: set EVENBEAT_REAL_DATA to the folder that holds acdc/")
    return folder
