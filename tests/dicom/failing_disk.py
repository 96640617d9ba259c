"""A disk that fails while files are read."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

CANARY = "/secret/Doe^Jane"


@contextmanager
def failing_disk(number: int, *, files: int = 0, after: int | None = None) -> Iterator[None]:
    """Let the reading of files end in an error of the operating system.

    Args:
        number: of the error.
        files: so many are read before one fails, and every one after it.
        after: bytes of that file that can be read; ``None`` if it cannot even be opened.
    """
    opened, open_path, open_descriptor = count(), Path.open, os.fdopen

    def stream(file: Path | int) -> io.BufferedReader:
        if next(opened) < files:
            return io.BufferedReader(io.FileIO(file))
        raw = _Failing(file, number, after or 0)
        if after is None:
            raw.close()
            raise _error(number)
        return io.BufferedReader(raw, 64)

    def path_open(self: Path, mode: str = "r", *others: Any, **named: Any) -> Any:
        return stream(self) if mode == "rb" else open_path(self, mode, *others, **named)

    def fdopen(descriptor: int, mode: str = "r", *others: Any, **named: Any) -> Any:
        return stream(descriptor) if mode == "rb" else open_descriptor(descriptor, mode, *others, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", path_open)
        patch.setattr(os, "fdopen", fdopen)
        yield


class _Failing(io.FileIO):
    def __init__(self, file: Path | int, number: int, after: int) -> None:
        super().__init__(file)
        self._number, self._after = number, after

    def readinto(self, buffer: Any) -> int | None:
        left = self._after - self.tell()
        if left <= 0:
            raise _error(self._number)
        return super().readinto(memoryview(buffer)[:left])

    def readall(self) -> bytes:
        raise _error(self._number)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number), CANARY)
