"""Runs the service until it is asked to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from types import FrameType, TracebackType

from pipeline.deployment.service.database import Database, open_database
from pipeline.deployment.service.layout import Layout
from pipeline.deployment.service.log import Log
from pipeline.deployment.service.node import ServedStudent, Service
from pipeline.deployment.service.reading import ReadingError
from pipeline.deployment.service.settings import Settings

DONE, OUR_FAULT = 0, 1
WATCH_S = 0.5


def run(settings: Settings, student: ServedStudent, *, retry_parked: bool = False, log: Log | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: of the service.
        student: who reads.
        retry_parked: whether what was given up gets another chance.
        log: says what happens; on standard output by default.

    Returns:
        0 after a signal, 1 if a thread has ended or the reader cannot be made. The process may hold threads then that
        :func:`leave` leaves behind.

    Raises:
        InUseError: if another service holds the state folder.
        OSError: if a port is taken.
    """
    log = log or Log(destinations=[one.name for one in settings.destination])
    _say_nothing_else(log)
    os.umask(0o077)  # files are their owner's only
    layout = Layout(settings.state)
    layout.prepare()
    asked_to_stop = _on_signal()
    with layout.held():
        database, damaged = open_database(settings.state)
        if damaged:
            log("database_damaged")
        service = _service(settings, student, database, log)
        service.recover(retry_parked=retry_parked)
        try:
            _start(service, asked_to_stop)
            while not asked_to_stop.wait(WATCH_S):
                if not service.look_after(asked_to_stop.is_set):
                    log("thread_ended")
                    return OUR_FAULT
        except ReadingError as error:
            log("reader_failed", code=error.code, error=error.error, place=error.place)
            return OUR_FAULT
        finally:
            service.stop()
    return DONE


def leave(status: int) -> int:
    """End the process, if need be over threads that wait for a silent peer: pynetdicom's would hold it for minutes.

    Args:
        status: of the process.

    Returns:
        The status, where no such thread is left.
    """
    if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(status)
    return status


def _service(settings: Settings, student: ServedStudent, database: Database, log: Log) -> Service:
    """The service, its ports bound."""
    try:
        return Service(settings, student, database, log)
    except OSError as error:
        dicom, http = settings.dicom, settings.http
        raise OSError(
            f"the service must be able to listen on {dicom.address}:{dicom.port} and {http.address}:{http.port}, with "
            f"the certificates of [tls]; got: {error}; correct the settings, or stop what listens there"
        ) from None


def _start(service: Service, asked_to_stop: threading.Event) -> None:
    """Start the service, or return before that if it is asked to stop: a reader may take minutes, or hang."""
    failures: list[Exception] = []

    def start() -> None:
        try:
            service.start()
        except Exception as error:  # raised again below
            failures.append(error)

    thread = threading.Thread(target=start, name="start", daemon=True)
    thread.start()
    while thread.is_alive() and not asked_to_stop.is_set():
        thread.join(WATCH_S / 5)
    if failures and not asked_to_stop.is_set():
        raise failures[0]


def _on_signal() -> threading.Event:
    """Set by SIGTERM and SIGINT. As first process of a container Python would ignore the former."""
    asked = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return asked


def _say_nothing_else(log: Log) -> None:
    """No warning, and of an error in a thread its class and place only: their texts may quote a header."""
    warnings.simplefilter("ignore")

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None:
            log.failure("thread_failed", arguments.exc_value)

    def in_main(_kind: type[BaseException], error: BaseException, _where: TracebackType | None) -> None:
        log.failure("failed", error)

    threading.excepthook, sys.excepthook = in_thread, in_main
