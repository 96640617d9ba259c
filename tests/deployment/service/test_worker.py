"""The worker: a failure of the machine is no fault of the study that was being read."""

from __future__ import annotations

import errno
import io
import threading
from pathlib import Path

import pytest

from benchmarks.tiny_studies import tiny_study
from pipeline.deployment.service.database import NAME, Database
from pipeline.deployment.service.identity import read_identity
from pipeline.deployment.service.inbox import Inbox
from pipeline.deployment.service.layout import Layout
from pipeline.deployment.service.log import Log
from pipeline.deployment.service.metrics import Metrics
from pipeline.deployment.service.reading import ReadingError, Summary
from pipeline.deployment.service.reading_process import ReadingProcess
from pipeline.deployment.service.settings import Reading
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import State
from pipeline.deployment.service.worker import Process, Worker
from tests.deployment.service.states import Clock
from tests.deployment.service.support import events, study_key


class Failing:
    """A reader that fails in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def start(self) -> None:
        """Be ready at once."""

    def stop(self) -> None:
        """Nothing is under way."""

    def read(self, study_folder: Path, out: Path) -> Summary:  # noqa: ARG002 - as the protocol has it
        """Fail."""
        raise self._error


class Bench:
    """A worker with one study of three instances."""

    def __init__(self, state: Path, process: Process | None = None) -> None:
        self.layout = Layout(state)
        self.layout.prepare()
        self.clock, self.said = Clock(), io.StringIO()
        self.process = process or Failing(OSError(errno.ENOSPC, "No space left on device"))
        self.inbox = Inbox(self.layout.inbox)
        self.store = Store(Database(state / NAME), self.clock)
        self.worker = Worker(
            self.store, self.inbox, self.layout, self.process, Reading(quiet_s=0, attempts=3),
            destinations=(), metrics=Metrics(), log=Log(self.said),
        )  # fmt: skip
        self.add(1)

    def add(self, number: int) -> None:
        """A study comes."""
        self.store.received(study_key(number))
        for dataset in tiny_study(number, 3):
            encoded = io.BytesIO()
            dataset.save_as(encoded, enforce_file_format=True)
            with self.inbox.part(encoded.getvalue()) as part:
                self.inbox.place(part, read_identity(part))

    def pause(self) -> float:
        """Wait until a study is taken again; how long that was [s]."""
        began = self.clock.now
        while not self.worker.step():
            self.clock.now += 1
        return self.clock.now - began


def test_a_reader_without_room_for_its_results_parks_no_study(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for _ in range(5):
        with pytest.raises(OSError, match="No space"):
            bench.worker.step()
        assert not bench.worker.step(), "the study has a pause, for the sake of others"
        bench.clock.now += 60
    assert bench.store.counts()[State.WAITING] == 1
    assert not list(bench.layout.work.iterdir())
    assert {(event["event"], event["study_key"]) for event in events(bench.said) if "error" in event} == {
        ("put_back", study_key(1))
    }


def test_a_disk_that_fails_within_a_file_refuses_no_study_and_the_study_is_read_later(tmp_path: Path) -> None:
    """In the process that reads in a hospital; another study is read meanwhile."""
    process = ReadingProcess("tests.deployment.service.readers:on_failing_disk", {}, timeout_s=20)
    bench = Bench(tmp_path, process)
    try:
        with pytest.raises(OSError, match="Errno 5"):
            bench.worker.step()
        assert bench.store.counts()[State.WAITING] == 1
        bench.add(2)
        assert bench.worker.step()
        assert bench.pause() == 60
    finally:
        process.stop()
    assert bench.store.counts()[State.DONE] == 2
    read = [(event["event"], event["study_key"]) for event in events(bench.said) if event["event"] != "reading"]
    assert read == [("put_back", study_key(1)), ("read", study_key(2)), ("read", study_key(1))]


def test_a_study_that_ends_the_reader_has_longer_and_longer_pauses(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Failing(ReadingError("READER_CRASHED")))
    assert bench.worker.step()
    assert [bench.pause(), bench.pause()] == [60, 120]
    assert bench.store.counts()[State.PARKED] == 1
    told = [(event["event"], event["code"], event["count"]) for event in events(bench.said) if "code" in event]
    assert told == [(event, "READER_CRASHED", n) for n, event in enumerate(("put_back", "put_back", "parked"), start=1)]


def test_an_inbox_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, iterdir = Bench(tmp_path), Path.iterdir

    def fail(path: Path) -> object:
        if path.name == study_key(1):
            raise OSError(errno.EMFILE, "Too many open files")
        return iterdir(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", fail)
        with pytest.raises(OSError, match="Too many"):
            bench.worker.step()
    assert bench.store.counts()[State.WAITING] == 1


def test_a_worker_that_is_stuck_in_one_study_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, stuck, left = Bench(tmp_path), threading.Event(), threading.Event()

    def hang() -> None:
        stuck.set()
        left.wait(20)

    monkeypatch.setattr(bench.process, "start", hang)
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
        bench.clock.now += 60
    assert bench.store.counts()[State.WAITING] == 1
    assert bench.store.recover({}, {}, limit=3) == {}
