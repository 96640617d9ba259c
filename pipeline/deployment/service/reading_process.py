"""A study is read in a process of its own: what crashes, hangs or eats all memory takes only that process with it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pipeline.deployment.service.reading import ReadingError, Summary

START_S = 120.0  # longest time until the reader is ready
KILLED_S = 2.0  # within which a killed process ends
CHILD = "pipeline.deployment.service.reading"


class ReadingProcess:
    """A reader in a process of its own, started when it is needed.

    Args:
        factory: ``module:function`` that makes the reader.
        arguments: of the function, by name; must go into JSON.
        timeout_s: longest time for one study [s].
    """

    def __init__(self, factory: str, arguments: Mapping[str, str], *, timeout_s: float) -> None:
        self._command = [sys.executable, "-m", CHILD, factory, json.dumps(arguments)]
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._stopping, self._is_made = threading.Event(), False
        self._lock = threading.Lock()

    @property
    def is_ready(self) -> bool:
        """Whether the process is there and its reader is made."""
        return self._is_made and self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process, if it is not there, and wait until its reader is made.

        Raises:
            ReadingError: if it cannot be made.
        """
        if self.is_ready:
            return
        self.kill()  # what is left of one that ended by itself
        with self._lock:
            if self._stopping.is_set():
                raise ReadingError("STOPPING")
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is the service's business
            )
            self._answers = queue.SimpleQueue()
            threading.Thread(target=_collect, args=(self._process.stdout, self._answers), daemon=True).start()
        answer = self._answer(START_S)
        if "error" in answer:
            self.kill()
            raise ReadingError("READER_ERROR", answer["error"], answer["place"])
        self._is_made = True

    def read(self, study_folder: Path, out: Path) -> Summary:
        """Read one study.

        Raises:
            ReadingError: if the reader fails, ends, takes too long, or is stopped.
            OSError: if the disk, say, failed it: the machine's trouble, and no fault of the study.
        """
        self.start()
        process = self._process
        if process is None or process.stdin is None:
            raise ReadingError("STOPPING")
        try:
            process.stdin.write(json.dumps({"study": str(study_folder), "out": str(out)}).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            self.kill()
            raise ReadingError("READER_CRASHED") from None
        answer = self._answer(self._timeout_s)
        if "error" in answer:
            if answer["errno"]:
                raise OSError(answer["errno"], os.strerror(answer["errno"]))
            raise ReadingError("READER_ERROR", answer["error"], answer["place"])
        return Summary(**answer["summary"])

    def stop(self) -> None:
        """End the process now; a reading that is under way ends with ``STOPPING``."""
        self._stopping.set()
        self.kill()

    def kill(self) -> None:
        """End the process; the next reading starts another."""
        with self._lock:
            process, self._process, self._is_made = self._process, None, False
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it has started
            with suppress(subprocess.TimeoutExpired):  # waits for the disk, say
                process.wait(KILLED_S)
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.kill()
            raise ReadingError("READER_TIMEOUT") from None
        if answer is None:
            self.kill()
            raise ReadingError("STOPPING" if self._stopping.is_set() else "READER_CRASHED")
        return answer


def _collect(stream: IO[bytes], answers: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    """Put each line of the child into the queue, and ``None`` at its end. Whoever else closed it would wait for it."""
    with stream, suppress(ValueError):  # a line that was cut
        for line in stream:
            answers.put(json.loads(line))
    answers.put(None)
