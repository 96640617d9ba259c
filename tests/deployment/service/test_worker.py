"""The worker: a failure of the machine is no fault of the study that was being read."""

from __future__ import annotations

import errno
import io
import threading
from pathlib import Path

import pytest

from pipeline.deployment.service.database import NAME, Database
from pipeline.deployment.service.identity import Identity
from pipeline.deployment.service.inbox import Inbox
from pipeline.deployment.service.layout import Layout
from pipeline.deployment.service.log import Log
from pipeline.deployment.service.metrics import Metrics
from pipeline.deployment.service.reading import Summary
from pipeline.deployment.service.settings import Reading
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import State
from pipeline.deployment.service.worker import Worker

ONE = Identity("a" * 16, "1" * 32)


class Bench:
    """A worker with one study, and a reader that finds no room for its results."""

    def __init__(self, state: Path) -> None:
        self.layout = Layout(state)
        self.layout.prepare()
        self.store, inbox = Store(Database(state / NAME)), Inbox(self.layout.inbox)
        self.worker = Worker(
            self.store, inbox, self.layout, self, Reading(quiet_s=0, attempts=3),
            destinations=(), metrics=Metrics(), log=Log(io.StringIO()),
        )  # fmt: skip
        self.store.received(ONE.study_key)
        with inbox.part(b"x") as part:
            inbox.place(part, ONE)

    def start(self) -> None:
        """Be ready at once."""

    def stop(self) -> None:
        """Nothing is under way."""

    def read(self, study_folder: Path, out: Path) -> Summary:  # noqa: ARG002 - as the protocol has it
        """Find no room."""
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_reader_without_room_for_its_results_parks_no_study(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for _ in range(5):
        with pytest.raises(OSError, match="No space"):
            bench.worker.step()
    assert bench.store.counts()[State.WAITING] == 1
    assert not list(bench.layout.work.iterdir())


def test_a_worker_that_is_stuck_in_one_study_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, stuck, left = Bench(tmp_path), threading.Event(), threading.Event()

    def hang() -> None:
        stuck.set()
        left.wait(20)

    monkeypatch.setattr(bench, "start", hang)
    bench.worker.thread.start()
    assert stuck.wait(10)
    assert bench.worker.is_well
    monkeypatch.setattr("pipeline.deployment.service.worker.SLACK_S", -600.0)  # all of the time for a reading is over
    assert not bench.worker.is_well
    left.set()
    bench.worker.stop(5)


def test_a_disk_without_room_for_a_folder_parks_no_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)

    def full(_: Layout) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Layout, "new_work", full)
    for _ in range(5):
        with pytest.raises(OSError, match="No space"):
            bench.worker.step()
    assert bench.store.counts()[State.WAITING] == 1
    assert bench.store.recover({}, {}, limit=3) == {}
