"""The files below a folder, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from pipeline.dicom.system_errors import pass_on


def files_in(root: Path) -> Iterator[Path]:
    """Regular files below a folder in the order of their paths, each once, however many links lead to it.

    Raises:
        OSError: if the machine fails (:mod:`pipeline.dicom.system_errors`).
    """
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        path = waiting.pop()
        try:
            status = path.stat()
        except OSError as error:  # a link to nowhere
            pass_on(error)
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        if S_ISREG(status.st_mode):
            yield path
        elif S_ISDIR(status.st_mode):
            waiting += sorted(_children(path), reverse=True)


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:  # a folder that is gone by now
        pass_on(error)
        return []
