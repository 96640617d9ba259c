"""What is erased: studies whose time is over, and any that somebody asks for."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.deployment.service.database import NAME, Database
from pipeline.deployment.service.identity import UID, study_key_of
from pipeline.deployment.service.inbox import Inbox
from pipeline.deployment.service.layout import InUseError, Layout
from pipeline.deployment.service.log import KEY, Log
from pipeline.deployment.service.settings import Retention
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import State, drop_rows

HOUR_S = 3600.0
PATIENCE_S = 120.0
POLL_S = 0.2
DOTTED = re.compile(r"[0-9]+(\.[0-9]+)+")


@dataclass(frozen=True)
class Erased:
    """What was removed of a study.

    Attributes:
        study_key: of the study.
        inbox_files: instances.
        result_files: of all readings.
        rows: of the database.
    """

    study_key: str
    inbox_files: int
    result_files: int
    rows: int


def expire(
    store: Store,
    inbox: Inbox,
    layout: Layout,
    settings: Retention,
    log: Log,
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Erase what is older than it may be; what was not read yet, is parked for an error or waits to be sent stays.

    Args:
        store: states of studies.
        inbox: their instances.
        layout: their results.
        settings: how long they stay.
        log: says what went.
        stopping: whether to leave the rest for another time.

    Returns:
        How many studies lost instances or results.
    """
    now, lost = store.clock(), 0
    inbox_until, results_until = (now - hours * HOUR_S for hours in (settings.inbox_hours, settings.results_hours))
    for ended in store.ended_before(max(inbox_until, results_until)):
        key, finished = ended.study_key, ended.finished
        if stopping():
            break
        received, found = layout.inbox / key, layout.results / key
        over = [received] * (ended.is_over and finished < inbox_until)
        over += [found] * (ended.is_sent and finished < results_until)
        folders = [folder for folder in over if folder.exists()]
        if folders:
            taken = store.while_ended(key, partial(layout.set_aside, *folders))
            if taken is None:
                continue
            inbox.forget(key)
            gone, files = taken
            shutil.rmtree(gone, ignore_errors=True)  # which takes its time: instances of other studies come meanwhile
            lost += bool(files)
            log("expired", study_key=key, count=files)
        if not received.exists() and not found.exists():
            store.while_ended(key, partial(store.drop, key))
    return lost


def erase(
    state: Path, study: str, *, patience_s: float = PATIENCE_S, pause: Callable[[float], object] = time.sleep
) -> Erased:
    """Remove everything of a study now, whether the service runs or not.

    Args:
        state: the service's folder.
        study: StudyInstanceUID, or the study's key as it stands in the log.
        patience_s: how long to wait while it is being read [s].
        pause: waits.

    Returns:
        What was removed.

    Raises:
        FileNotFoundError: if there is no service's folder.
        ValueError: if ``study`` is neither UID nor key.
        InUseError: if it is still being read.
    """
    key = key_of(study)
    layout = Layout(state)
    if not (state / NAME).is_file():
        raise FileNotFoundError(f"no service's database at {state / NAME}; give the folder of the settings' `state`")
    database = Database(state / NAME)
    try:
        waited = 0.0
        while (erased := _erase(database, layout, key)) is None:
            if waited >= patience_s:
                raise InUseError(f"a study must not be under way to be erased; {key} is being read; try again later")
            pause(POLL_S)
            waited += POLL_S
        return erased
    finally:
        database.close()


def key_of(study: str) -> str:
    """Key of a study by its UID, or by its key.

    Raises:
        ValueError: if it is neither.

    Example:
        >>> key_of("1.2.3") == key_of(key_of("1.2.3"))
        True
    """
    if UID.fullmatch(study) and DOTTED.fullmatch(study):
        return study_key_of(study)
    if KEY.fullmatch(study):
        return study
    raise ValueError(
        "a study must be a StudyInstanceUID or the 16 hexadecimal digits of its key; got neither; see the log"
    )


def _erase(database: Database, layout: Layout, key: str) -> Erased | None:
    """Remove a study; ``None`` while it is being read."""
    with database.transaction() as connection:
        row = connection.execute("SELECT state FROM studies WHERE study_key = ?", (key,)).fetchone()
        if row is not None and row["state"] == State.PROCESSING and _is_held(layout):
            return None
        gone, received = layout.set_aside(layout.inbox / key)
        also, found = layout.set_aside(layout.results / key)
        rows = drop_rows(connection, key)
    for folder in (gone, also):
        shutil.rmtree(folder, ignore_errors=True)
    return Erased(key, received, found, rows)


def _is_held(layout: Layout) -> bool:
    """Whether a service runs."""
    try:
        with layout.held():
            return False
    except InUseError:
        return True
