"""Takes one waiting study after the other, has it read, publishes what was found."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pipeline.deployment.place import place_of
from pipeline.deployment.result_json import RESULT
from pipeline.deployment.service.drift import tallies_of
from pipeline.deployment.service.identity import UnacceptableError, read_identity
from pipeline.deployment.service.inbox import Inbox
from pipeline.deployment.service.layout import Layout
from pipeline.deployment.service.log import Log
from pipeline.deployment.service.metrics import Metrics
from pipeline.deployment.service.reading import ReadingError, Summary
from pipeline.deployment.service.settings import Reading
from pipeline.deployment.service.store import Store
from pipeline.deployment.service.study_rows import FIRST_WAIT_S, Claim, State, wait_s

POLL_S = 0.25
TROUBLE_S = 5.0
PUT_BACK_S = 1.5
SLACK_S = 600.0  # for a start of the reader, and for copying, beside the time of a reading


class Process(Protocol):
    """What reads: :class:`pipeline.deployment.service.reading_process.ReadingProcess`, or a test's own."""

    def start(self) -> None:
        """Be ready for a study."""
        ...

    def read(self, study_folder: Path, out: Path) -> Summary:
        """Read one; raise ``ReadingError`` otherwise, ``OSError`` for the machine's trouble."""
        ...

    def stop(self) -> None:
        """End a reading that is under way."""
        ...


class Worker:
    """One thread of its own.

    Args:
        store: states of studies.
        inbox: their instances.
        layout: where results go.
        process: reads.
        settings: when and how often.
        destinations: names of those who get the results.
        metrics: counts.
        log: says what happened.
    """

    def __init__(
        self,
        store: Store,
        inbox: Inbox,
        layout: Layout,
        process: Process,
        settings: Reading,
        *,
        destinations: Sequence[str],
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._store, self._inbox, self._layout, self._process = store, inbox, layout, process
        self._settings, self._destinations, self._metrics, self._log = settings, destinations, metrics, log
        self._stopping, self._began = threading.Event(), time.monotonic()
        self.thread = threading.Thread(target=self._run, name="worker", daemon=True)

    @property
    def is_well(self) -> bool:
        """Whether the thread lives and is not stuck in one study."""
        return self.thread.is_alive() and time.monotonic() - self._began < self._settings.timeout_s + SLACK_S

    def stop(self, grace_s: float) -> None:
        """Take no further study; the one that is being read is finished in time, or put back.

        Args:
            grace_s: how long to wait for it [s].
        """
        self._stopping.set()
        if self.thread.ident is not None:
            self.thread.join(grace_s)
        self._process.stop()
        if self.thread.ident is not None:
            self.thread.join(PUT_BACK_S)

    def step(self) -> bool:
        """Read one study, if one waits.

        Returns:
            Whether one did.

        Raises:
            ReadingError: if there is no reader.
            OSError: if the disk does not take the results.
            sqlite3.Error: if the database does not.
        """
        self._store.ripen(self._settings.quiet_s)
        self._process.start()  # before a study is claimed: that there is no reader is no study's fault
        claim = self._store.claim()
        if claim is None:
            return False
        try:
            with self._layout.working() as work:
                self._read(claim, work)
        except ReadingError as error:
            self._put_back(claim, error)
        except (OSError, sqlite3.Error) as error:  # the machine's trouble, and no fault of the study
            self._store.put_back(claim, counts=False, wait_s=FIRST_WAIT_S)
            self._log.failure("put_back", error, study_key=claim.study_key)
            raise
        except Exception as error:
            self._put_back(claim, ReadingError("READER_ERROR", type(error).__name__, place_of(error)))
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._began = time.monotonic()
            try:
                if not self.step():
                    self._stopping.wait(POLL_S)
            except ReadingError as error:
                if error.code != "STOPPING":
                    self._log("reader_failed", code=error.code, error=error.error, place=error.place)
                    self._stopping.wait(TROUBLE_S)
            except Exception as error:  # a full disk, a locked database: the next round may do better
                self._log.failure("worker_failed", error)
                self._stopping.wait(TROUBLE_S)

    def _read(self, claim: Claim, work: Path) -> None:
        instances = self._inbox.snapshot(claim.study_key, work / "in")
        if not instances:
            self._store.abandon(
                claim,
                lambda: not self._inbox.files(claim.study_key),
                has_results=bool(self._layout.revisions(claim.study_key)),
            )
            return
        self._log(
            "reading", study_key=claim.study_key, revision=claim.revision, count=instances, seconds=claim.waited_s
        )  # fmt: skip
        out = work / "out"
        out.mkdir()
        began = time.monotonic()
        summary = self._process.read(work / "in", out)
        seconds = time.monotonic() - began
        if not (out / RESULT).is_file():
            raise ReadingError("READER_ERROR")
        if not self._store.is_current(claim):
            self._put_back(claim, None)
            return
        outputs = outputs_of(out)
        self._layout.publish(out, claim.study_key, claim.revision)
        if not self._finish(claim, summary, outputs):
            self._layout.discard(self._layout.result(claim.study_key, claim.revision))
            self._log("grown", study_key=claim.study_key, revision=claim.revision)
            return
        self._metrics.finished(summary, seconds)
        self._log(
            "read" if summary.status == "read" else "refused",
            study_key=claim.study_key, revision=claim.revision, code=summary.code, verdict=summary.verdict,
            vendor=summary.vendor, seconds=seconds, count=len(outputs),
        )  # fmt: skip

    def _finish(self, claim: Claim, summary: Summary, outputs: Mapping[str, str]) -> bool:
        return self._store.finish(
            claim,
            State.DONE if summary.status == "read" else State.REFUSED,
            reason=summary.code,
            outputs=outputs,
            destinations=self._destinations,
            tallies=tallies_of(summary),
        )

    def _put_back(self, claim: Claim, error: ReadingError | None) -> None:
        """A reading without a result: another attempt, or the end; ``None`` for a study that has grown meanwhile."""
        counts = error is not None and error.code != "STOPPING"
        code = "" if error is None else error.code
        state = self._store.put_back(
            claim,
            counts=counts,
            wait_s=wait_s(claim.attempts) if counts else 0,
            reason=code,
            limit=self._settings.attempts,
        )
        if error is None:
            self._log("grown", study_key=claim.study_key, revision=claim.revision)
            return
        self._log(
            "parked" if state == State.PARKED else "put_back",
            study_key=claim.study_key, code=code, count=claim.attempts, error=error.error, place=error.place,
        )  # fmt: skip
        if state == State.PARKED:
            self._metrics.parked(code)


def outputs_of(folder: Path) -> dict[str, str]:
    """Digests of the DICOM objects among results, by the keys by which they are known if they come back."""
    found = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix == ".dcm"):
        try:
            key = read_identity(path).sop_key
        except UnacceptableError:
            raise ReadingError("READER_ERROR", "NotDicomError") from None
        with path.open("rb") as stream:
            found[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found
