"""Several files that appear together: the last of them, when it is there, says that all are, and are complete."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.deployment.result_json import FORMAT

WORK = ".evenbeat-results-"  # begins the name of a folder in which files are made ready
PREVIOUS = "previous-result.json"
NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF, errno.EISDIR, errno.ENOSYS})


def publish(files: Mapping[str, bytes], folder: Path) -> tuple[Path, ...]:
    """Write files so that a reader who waits for the last one finds all of them, whole.

    They are written in a hidden folder inside ``folder``, hence on its file system, even where that is a mount; then
    each is renamed into its place. Nothing is set on them: owner and mode are what the process gives every new file.

    Args:
        files: content by name. The last one must be the list of the others as ``result.json`` has it.
        folder: where to; made if missing. The same content there already is left alone. Of another content, what its
            list names is removed. A file of another's is touched only if it bears the name of one of ours, and never
            if that is the last one's. Two runs at once write one after the other.

    Returns:
        Paths of the files, in their order.

    Raises:
        FileExistsError: if the last one's name is taken by a list that is not ours; nothing is written then.
        OSError: if they cannot be written. What was there before is there still, or, if renaming had begun, nothing
            of ours is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / name for name in files)
    check_ours(paths[-1])
    if not any(folder.glob(f"{WORK}*")) and all(_holds(folder / name, content) for name, content in files.items()):
        return paths
    work = folder / f"{WORK}{os.getpid()}-{os.urandom(4).hex()}"
    with _alone(folder):
        left = tuple(folder.glob(f"{WORK}*"))  # of runs that were killed: one that lives would hold the folder
        try:
            work.mkdir()
            for name, content in files.items():
                _write(work / name, content)
            _replace(files, folder, work, left)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return paths


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other run writes into a folder; on a file system that cannot lock one, go on at once."""
    descriptor = None
    try:
        with suppress(ImportError, OSError):
            import fcntl  # not everywhere

            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # a process that is killed lets go of it
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def check_ours(last: Path) -> None:
    """Refuse a list of another program's; one that is no JSON was ours, and cut short.

    Args:
        last: path of the list, which need not be there.

    Raises:
        FileExistsError: if it is not ours.
    """
    try:
        document = json.loads(last.read_bytes())
    except IsADirectoryError:
        document = None
    except (OSError, ValueError):
        return
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise FileExistsError(
            f"the output must hold no {last.name} but ours; {last} is another program's; name another folder"
        )


def _replace(files: Mapping[str, bytes], folder: Path, work: Path, left: tuple[Path, ...]) -> None:
    """Take away what earlier runs of ours wrote, then move the new files in, the last of them last."""
    last = folder / tuple(files)[-1]
    lists = [last, *(path for one in left for path in (one / last.name, one / PREVIOUS))]
    stale = [path for listing in lists for path in _listed(listing, folder) if path.name not in files]
    if last.exists():  # from here on the folder is not complete
        last.replace(work / PREVIOUS)
    try:
        for path in stale:
            path.unlink(missing_ok=True)
        for one in left:
            shutil.rmtree(one, ignore_errors=True)
        for name in files:
            (work / name).replace(folder / name)
        _sync(folder)
    except BaseException:
        for path in (last, *(folder / name for name in files), *stale):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def _listed(listing: Path, folder: Path) -> Iterator[Path]:
    """Files in ``folder`` that a list names and that are what it says; none if it cannot be read."""
    try:
        document = json.loads(listing.read_bytes())
        ours = document["format"] == FORMAT
        entries = [(str(entry["name"]), str(entry["sha256"])) for entry in document["outputs"]] if ours else []
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name, digest in entries:
        path = folder / name
        if name == Path(name).name and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            yield path


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    """Make names last through a power cut, where the file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
