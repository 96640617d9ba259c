"""What reads a study, and the process in which it does: `python -m pipeline.deployment.service.reading`.

It takes and gives JSON lines over pipes, and says nothing else: what libraries print could quote a header.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Protocol

from pipeline.deployment.outcome import Outcome
from pipeline.deployment.place import place_of
from pipeline.dicom.system_errors import OF_THE_MACHINE
from transforms.scanner import UNKNOWN, VENDORS


class Reader(Protocol):
    """Reads studies."""

    def read(self, study_folder: Path, out: Path) -> Outcome:
        """Read a folder of DICOM files and write what was found.

        Args:
            study_folder: files of one study.
            out: folder for the results, there and empty; ``result.json`` comes last.

        Returns:
            A reading or a refusal; whatever is raised counts as an error of ours.
        """
        ...


@dataclass(frozen=True)
class Summary:
    """What the service needs to know of an outcome.

    Attributes:
        status: ``read`` or ``refused``.
        verdict: of the envelope; empty without a scanner.
        vendor: one of the known vendors.
        code: of a refusal; else empty.
        probabilities: by class; empty for a refusal.
    """

    status: str
    verdict: str = ""
    vendor: str = UNKNOWN
    code: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, outcome: Outcome) -> Summary:
        """Sum up an outcome."""
        return cls(
            status=outcome.status,
            verdict="" if outcome.envelope is None else str(outcome.envelope.verdict),
            vendor=outcome.scanner.vendor if outcome.scanner and outcome.scanner.vendor in VENDORS else UNKNOWN,
            code="" if outcome.refusal is None else outcome.refusal.code.value,
            probabilities={} if outcome.reading is None else dict(outcome.reading.probabilities),
        )


class ReadingError(Exception):
    """A study was not read.

    Args:
        code: ``READER_CRASHED``, ``READER_TIMEOUT``, ``READER_ERROR`` or ``STOPPING``.
        error: class of the error, where the reader told.
        place: of the error.
    """

    def __init__(self, code: str, error: str = "", place: str = "") -> None:
        self.code, self.error, self.place = code, error, place
        super().__init__(code)


def serve(reader: Reader, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Read what is asked for, in the child.

    Args:
        reader: does the work.
        requests: lines of ``study`` and ``out``.
        answers: lines of ``summary``, or of ``error``, ``place`` and ``errno`` (0 unless it is the machine's).
    """
    for line in requests:
        asked = json.loads(line)
        try:
            summary = Summary.of(reader.read(Path(asked["study"]), Path(asked["out"])))
            answer: dict[str, object] = {"summary": asdict(summary)}
        except Exception as error:  # whatever it is, the next study shall be read
            answer = _error(error)
        _say(answers, answer)


def _error(error: Exception) -> dict[str, object]:
    """Class and place of an error; of the one behind it, where the reader tells."""
    failure = getattr(error, "failure", None)
    number = _machine_errno(error if failure is None else error.__context__)
    if failure is not None:
        return {"error": str(failure.error), "place": str(failure.place), "errno": number}
    return {"error": type(error).__name__, "place": place_of(error), "errno": number}


def _machine_errno(error: BaseException | None) -> int:
    """Number of an error that is the machine's; 0 for any other. MemoryError has none: the study may be too large."""
    number = error.errno if isinstance(error, OSError) else None
    return number if number in OF_THE_MACHINE else 0


def _say(stream: IO[bytes], message: Mapping[str, object]) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def _main(arguments: Sequence[str]) -> int:
    factory, options = arguments
    answers = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    requests = _until_the_parent_ends()
    module, _, name = factory.partition(":")
    try:
        reader = getattr(importlib.import_module(module), name)(**json.loads(options))
    except Exception as error:
        _say(answers, _error(error))
        return 1
    _say(answers, {"ready": True})
    serve(reader, requests, answers)
    return 0


def _until_the_parent_ends() -> IO[bytes]:
    """Requests, passed on by a thread that ends this process at once when the parent's end of the pipe is closed.

    A child that went on reading after its parent was killed would write into folders that are another's by then.
    """
    source, sink = os.pipe()

    def pass_on() -> None:
        while data := os.read(0, 65536):
            os.write(sink, data)
        os._exit(0)

    threading.Thread(target=pass_on, daemon=True).start()
    return os.fdopen(source, "rb")


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
