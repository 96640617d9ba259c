"""What the service says: one JSON object per line, of known fields, in forms that hold no patient data."""

from __future__ import annotations

import ipaddress
import json
import re
import sys
import threading
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

from pipeline.deployment.outcome import Verdict
from pipeline.deployment.place import place_of
from pipeline.dicom.refusal import Code
from transforms.scanner import VENDORS

KEY = re.compile(r"[0-9a-f]{16}")
WORD = re.compile(r"[a-z][a-z0-9_-]{0,39}")
ERROR = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,60}")
PLACE = re.compile(r"[A-Za-z0-9_.]{1,120}:\d+")
VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}")
DIGEST = re.compile(r"[0-9a-f]{64}")
REASONS = frozenset(  # beside the codes of refusals
    {"READER_CRASHED", "READER_TIMEOUT", "READER_ERROR", "SERVICE_CRASHED", "STUDY_TOO_LARGE", "INSTANCE_TOO_LARGE"}
    | {"UNREADABLE_HEADER", "NO_IDENTITY", "MISMATCH", "DISK_FULL", "NOT_STORED", "STOPPING"}
    | {"NO_ASSOCIATION", "NO_CONTEXT", "REFUSED_BY_DESTINATION", "NO_RESULTS", "SENDER_ERROR"}
    | {"CALLING_AE_TITLE", "CALLED_AE_TITLE", "TOO_MANY_ASSOCIATIONS", "REJECTED"}
)
EVERYBODY = "all"  # in place of a vendor: all of them
HIDDEN = "hidden"  # stands for a value of another form than its field's


class Log:
    """Writes events, each with fields that must have their form; a value of another form is not written.

    Args:
        stream: where to.
        destinations: names that may be said.
    """

    def __init__(self, stream: TextIO | None = None, destinations: Collection[str] = ()) -> None:
        self._stream, self._destinations, self._lock = stream or sys.stdout, frozenset(destinations), threading.Lock()

    def __call__(
        self,
        event: str,
        *,
        study_key: str = "",
        code: str = "",
        verdict: str = "",
        vendor: str = "",
        reference: str = "",
        destination: str = "",
        error: str = "",
        place: str = "",
        version: str = "",
        digest: str = "",
        peer: str = "",
        seconds: float | None = None,
        count: int | None = None,
        revision: int | None = None,
        status: int | None = None,
        port: int | None = None,
        value: float | None = None,
    ) -> None:
        """Write one event; empty fields are left out."""
        said: dict[str, object] = {
            "event": _of(WORD, event),
            "study_key": _of(KEY, study_key),
            "code": _among(REASONS | set(Code), code),
            "verdict": _among(set(Verdict), verdict),
            "vendor": _among({*VENDORS, EVERYBODY}, vendor),
            "reference": _among({*VENDORS, EVERYBODY}, reference),
            "destination": _among(self._destinations, destination),
            "error": _of(ERROR, error),
            "place": _of(PLACE, place),
            "version": _of(VERSION, version),
            "digest": _of(DIGEST, digest),
            "peer": _address(peer),
        }
        figures = {"seconds": seconds, "count": count, "revision": revision, "status": status, "port": port}
        said |= {name: round(float(figure), 3) if name == "seconds" else int(figure)
                 for name, figure in figures.items() if figure is not None}  # fmt: skip
        if value is not None:
            said["value"] = round(float(value), 4)
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time} | {name: v for name, v in said.items() if v != ""})
        with self._lock, suppress(OSError, ValueError):  # nobody listens any more: no reason to refuse a study
            self._stream.write(line + "\n")
            self._stream.flush()

    def failure(self, event: str, error: BaseException, *, study_key: str = "", destination: str = "") -> None:
        """Write an error: its class and its place in our code, never its text, which may quote a header."""
        self(event, error=type(error).__name__, place=place_of(error), study_key=study_key, destination=destination)


def _of(form: re.Pattern[str], text: str) -> str:
    return text if not text or form.fullmatch(text) else HIDDEN


def _address(text: str) -> str:
    """An IP address, as the operating system has it of whoever connects."""
    try:
        return text and str(ipaddress.ip_address(text))
    except ValueError:
        return HIDDEN


def _among(allowed: Collection[str], text: str) -> str:
    return str(text) if not text or text in allowed else HIDDEN
