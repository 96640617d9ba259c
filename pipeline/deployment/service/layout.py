"""Where the service keeps what: one folder on one disk, held by one process."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.deployment.service.inbox import sync_file, sync_folder
from pipeline.deployment.service.log import KEY


class InUseError(OSError):
    """Another process holds the folder."""


@dataclass(frozen=True)
class Layout:
    """Paths below the state folder.

    Attributes:
        state: the folder.
    """

    state: Path

    @property
    def inbox(self) -> Path:
        """``inbox/<study key>/<instance key>.dcm``."""
        return self.state / "inbox"

    @property
    def results(self) -> Path:
        """``results/<study key>/<revision>/``."""
        return self.state / "results"

    @property
    def work(self) -> Path:
        """What is under way; emptied at each start."""
        return self.state / "work"

    def prepare(self) -> None:
        """Make the folders, readable for their owner only."""
        for folder in (self.state, self.inbox, self.results, self.work):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder: two services would read each study twice.

        Raises:
            InUseError: if another process does.
        """
        descriptor = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InUseError(
                    f"one service must hold the state folder; another holds {self.state}; stop it, or give another"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def revisions(self, study_key: str) -> list[int]:
        """Readings whose results are there."""
        try:
            return sorted(int(path.name) for path in (self.results / study_key).iterdir() if path.name.isdecimal())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self) -> dict[str, int]:
        """Last revision of each study that has results, by its key."""
        found = {folder.name: self.revisions(folder.name) for folder in self.results.iterdir()}
        return {key: revisions[-1] for key, revisions in found.items() if revisions and KEY.fullmatch(key)}

    def result(self, study_key: str, revision: int) -> Path:
        """Folder of a reading's results."""
        return self.results / study_key / str(revision)

    def new_work(self) -> Path:
        """A folder of a name that was not there before."""
        folder = self.work / os.urandom(8).hex()
        folder.mkdir(parents=True)
        return folder

    @contextmanager
    def working(self) -> Iterator[Path]:
        """Such a folder while something is under way."""
        folder = self.new_work()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, found: Path, study_key: str, revision: int) -> None:
        """Move a complete folder of results to its place; it is either all there or not at all.

        Args:
            found: the folder, on the same disk.
            study_key: of the study.
            revision: of the reading; results of that number that are there already make room.
        """
        for path in sorted(found.rglob("*")):
            if path.is_file():
                sync_file(path)
        sync_folder(found)
        final = self.result(study_key, revision)
        final.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(self.results)
        if final.exists():
            self.discard(final)
        found.replace(final)
        sync_folder(final.parent)

    def set_aside(self, *folders: Path) -> tuple[Path, int]:
        """Take folders away from their places; nobody finds them any more.

        Returns:
            Where they are now, to be removed, and how many files there were.
        """
        gone, files = self.new_work(), 0
        for number, folder in enumerate(folders):
            try:
                folder.replace(gone / str(number))
            except FileNotFoundError:
                continue
            files += sum(path.is_file() for path in (gone / str(number)).rglob("*"))
            sync_folder(folder.parent)
        return gone, files

    def discard(self, *folders: Path) -> int:
        """Remove folders; how many files there were."""
        gone, files = self.set_aside(*folders)
        shutil.rmtree(gone, ignore_errors=True)
        return files

    def sweep(self) -> None:
        """Remove what was under way when the service ended."""
        for path in self.work.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def free_bytes(self) -> int:
        """Space that is left for us on the disk."""
        return shutil.disk_usage(self.state).free
