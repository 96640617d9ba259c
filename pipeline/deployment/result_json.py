"""``result.json``: one study's outcome for machines. No patient data, no time, so that a repeat gives the same bytes.

Its form is ``schemas/result.v1.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.deployment.outcome import AuditedGroup, Outcome, PackageIdentity, Reading
from pipeline.deployment.wording import RESEARCH_ONLY, notification, shown_group, shown_model, verdict_sentence
from pipeline.dicom.refusal import LeftOut, Refusal

FORMAT, VERSION = "evenbeat-result", 1
RESULT = "result.json"
SCHEMA = Path(__file__).parent / "schemas" / "result.v1.json"
DIGITS = 6  # of probabilities and confidences


@dataclass(frozen=True)
class Failure:
    """An error of ours: neither a reading nor a refusal. It holds no message, for that could quote a header.

    Attributes:
        error: class of the error, e.g. ``MemoryError``.
        place: where it was raised, e.g. ``pipeline.deployment.job:63``.
    """

    error: str
    place: str


@dataclass(frozen=True)
class Output:
    """A file beside ``result.json``.

    Attributes:
        name: of the file.
        kind: ``structured-report``, ``secondary-capture`` or ``summary-picture``.
        content: its bytes.
    """

    name: str
    kind: str
    content: bytes

    def listed(self) -> dict[str, Any]:
        """As ``result.json`` lists it."""
        digest = hashlib.sha256(self.content).hexdigest()
        return {"name": self.name, "kind": self.kind, "bytes": len(self.content), "sha256": digest}


def result_document(outcome: Outcome, outputs: Sequence[Output], *, software: str) -> dict[str, Any]:
    """One study's outcome as JSON holds it.

    Args:
        outcome: a reading or a refusal.
        outputs: every other file that is written.
        software: version of this program.
    """
    scanner, envelope = outcome.scanner, outcome.envelope
    head = _head(outcome.status, outcome.study_key, outcome.package, software)
    return head | {
        "scanner": scanner
        and {
            "vendor": scanner.vendor,
            "field_strength_t": scanner.field_strength_t,
            "model": shown_model(scanner, envelope),
        },
        "verdict": envelope and envelope.verdict.value,
        "envelope": envelope
        and {"sentence": verdict_sentence(envelope), "groups": [_group(group) for group in envelope.groups]},
        "prediction": outcome.reading and _prediction(outcome.reading),
        "cine": outcome.reading and _cine(outcome.reading),
        "warnings": list(outcome.reading.warnings) if outcome.reading else [],
        "refusal": outcome.refusal and _refusal(outcome.refusal),
        "failure": None,
        "left_out": [_left_out(entry) for entry in outcome.left_out],
        "outputs": [output.listed() for output in outputs],
        "__mercure_notification": {"text": notification(outcome)},
    }


def failure_document(
    failure: Failure, *, study_key: str | None, package: PackageIdentity, software: str
) -> dict[str, Any]:
    """One study that our own error kept from being read, as JSON holds it.

    Args:
        failure: class and place of the error.
        study_key: of the study; ``None`` where it came to none.
        package: which student was asked.
        software: version of this program.
    """
    text = "Evenbeat has failed on a study, by a fault of its own; its result.json names the place."
    return _head("failed", study_key, package, software) | {
        **dict.fromkeys(("scanner", "verdict", "envelope", "prediction", "cine")),
        "warnings": [],
        "refusal": None,
        "failure": asdict(failure),
        "left_out": [],
        "outputs": [],
        "__mercure_notification": {"text": text},
    }


def to_json(document: Mapping[str, Any]) -> bytes:
    """A document's bytes: ASCII, in the order of its keys.

    Raises:
        ValueError: if a number in it is not finite.
    """
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode("ascii")


def _head(status: str, study_key: str | None, package: PackageIdentity, software: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "status": status,
        "intended_use": RESEARCH_ONLY,
        "study_key": study_key,
        "package": asdict(package),
        "software": {"name": "evenbeat", "version": software},
    }


def _group(group: AuditedGroup) -> dict[str, Any]:
    return asdict(group) | {"group": shown_group(group)}


def _prediction(reading: Reading) -> dict[str, Any]:
    shares = {name: round(float(share), DIGITS) for name, share in reading.probabilities.items()}
    return {"class": reading.predicted, "probabilities": shares}


def _cine(reading: Reading) -> dict[str, Any]:
    given = reading.phase_confidence
    return {
        "phases": reading.n_phases,
        "slices": reading.n_slices,
        "ed": reading.ed,
        "es": reading.es,
        "heart_confidence": round(float(reading.heart_confidence), DIGITS),
        "phase_confidence": None if given is None else round(float(given), DIGITS),
    }


def _refusal(refusal: Refusal) -> dict[str, Any]:
    code = refusal.code
    return {"code": code.value, "sentence": refusal.sentence, "remedy": code.remedy, "detail": refusal.detail}


def _left_out(entry: LeftOut) -> dict[str, Any]:
    code = entry.code
    return {
        "series": entry.series,
        "images": entry.images,
        "code": code.value,
        "sentence": code.sentence,
        "detail": entry.detail,
    }
