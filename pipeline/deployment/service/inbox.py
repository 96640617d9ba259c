"""The inbox: an instance is on the disk, by its final name, before its sender hears that it was taken.

``<inbox>/<study key>/<instance key>.dcm``. Names are digests, so that no text of a header becomes a path. What is
being written lies in ``.incoming``, on the same disk, and is removed at the next start. A study that is too large has
a mark among its instances: they are a part of it, and are never read, whatever becomes of the database.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from pipeline.deployment.service.identity import Identity
from pipeline.deployment.service.log import KEY

INCOMING = ".incoming"
TOO_LARGE_MARK = "too-large"  # a folder: nobody counts it as a file that was received


class Kept(Enum):
    """What became of an instance."""

    NEW = "new"
    REPLACED = "replaced"
    REPEATED = "repeated"


class Inbox:
    """Folders of instances by study.

    Args:
        root: folder; made if it is not there.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._incoming = root, root / INCOMING
        self._bytes: dict[str, int] = {}
        self._lock = threading.Lock()
        self._incoming.mkdir(parents=True, exist_ok=True)
        sync_folder(root)

    @contextmanager
    def part(self, *pieces: bytes) -> Iterator[Path]:
        """Write an instance beside the studies; it is removed at the end of the block, unless it was placed.

        Raises:
            OSError: if the disk does not take it.
        """
        path = self._incoming / f"{os.urandom(12).hex()}.part"
        try:
            with path.open("xb") as stream:
                stream.writelines(pieces)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def place(self, part: Path, identity: Identity, before: Callable[[int], object] = lambda _: None) -> Kept:
        """Put a written instance into its study; on return it survives a failure of the machine.

        Args:
            part: from :meth:`part`.
            identity: of the instance.
            before: called before the study changes, with the bytes that it will have; not at all if it does not.

        Returns:
            Whether the study has it for the first time, in place of another of that name, or had the same already.

        Raises:
            OSError: if the disk does not take it.
        """
        folder = self.root / identity.study_key
        final = folder / f"{identity.sop_key}.dcm"
        if final.exists() and filecmp.cmp(part, final, shallow=False):
            sync_file(final)
            sync_folder(folder)
            return Kept.REPEATED
        replaced = final.stat().st_size if final.exists() else None
        added = part.stat().st_size - (replaced or 0)
        known = self.size(identity.study_key)
        before(known + added)
        self._make(folder)
        sync_file(part)
        part.replace(final)
        sync_folder(folder)
        with self._lock:
            self._bytes[identity.study_key] = self._bytes.get(identity.study_key, known) + added
        return Kept.NEW if replaced is None else Kept.REPLACED

    def mark_too_large(self, study_key: str) -> None:
        """Note beside a study's instances that others of it were refused; on return that survives a failure, too.

        Raises:
            OSError: if the disk does not take it.
        """
        folder = self.root / study_key
        self._make(folder)
        (folder / TOO_LARGE_MARK).mkdir(exist_ok=True)
        sync_folder(folder)

    def too_large(self) -> list[str]:
        """Keys of the studies with that mark."""
        return [key for key in self._keys() if (self.root / key / TOO_LARGE_MARK).exists()]

    def size(self, study_key: str) -> int:
        """Bytes of a study."""
        folder = self.root / study_key
        with self._lock:
            if study_key not in self._bytes or not folder.exists():
                self._bytes[study_key] = sum(path.stat().st_size for path in self.files(study_key))
            return self._bytes[study_key]

    def studies(self) -> list[str]:
        """Keys of the studies that have an instance."""
        return [key for key in self._keys() if self.files(key)]

    def files(self, study_key: str) -> list[Path]:
        """Instances of a study.

        Raises:
            OSError: if its folder cannot be listed: it is not empty for that, as ``glob`` may take it to be.
        """
        folder = self.root / study_key
        try:
            return sorted(path for path in folder.iterdir() if path.suffix == ".dcm")
        except FileNotFoundError:
            return []

    def snapshot(self, study_key: str, folder: Path) -> int:
        """Give a study's instances a second name, so that a reader sees the same files from beginning to end.

        Args:
            study_key: of the study.
            folder: to make; on the same disk links are made, else copies.

        Returns:
            How many there are.
        """
        folder.mkdir(parents=True)
        files = self.files(study_key)
        for path in files:
            try:
                (folder / path.name).hardlink_to(path)
            except OSError:  # a file system without links
                shutil.copyfile(path, folder / path.name)
        return len(files)

    def forget(self, study_key: str) -> None:
        """Drop what is remembered of a study that was erased."""
        with self._lock:
            self._bytes.pop(study_key, None)

    def sweep(self) -> None:
        """Remove what was being written when the service ended; nobody was told that it had been taken."""
        for path in self._incoming.iterdir():
            path.unlink(missing_ok=True)

    def _keys(self) -> list[str]:
        return sorted(folder.name for folder in self.root.iterdir() if KEY.fullmatch(folder.name))

    def _make(self, folder: Path) -> None:
        """Make a study's folder; who finds it there finds its name on the disk, too."""
        with self._lock:
            if not folder.exists():
                folder.mkdir()
                sync_folder(self.root)


def sync_file(path: Path) -> None:
    """Write a file's bytes through to the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Write a folder's names through to the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
