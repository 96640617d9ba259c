"""What an import found out about each study: why it came in or did not, and nothing that identifies a patient."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline.dicom.refusal import Code, LeftOut, Refusal
from transforms.scanner import UNKNOWN

UNEXPECTED = "UNEXPECTED_ERROR"
UNEXPECTED_SENTENCE = "The study stopped the program's reading of it."
OURS = {"cohort", "dicom", "transforms"}  # folders of the code whose lines are named
UNEXPECTED_REMEDY = "Please report this line; the other studies are not affected."
SYSTEM = "SYSTEM_ERROR"
SYSTEM_SENTENCE = "The system did not let a file be read or written."
SYSTEM_REMEDY = (
    "Free space on the disk, give the right to read and write, or mend the disk, as the words in brackets say; then "
    "run the same command again. Nothing is lost: the study's files are as they were, and cines already written stay."
)

SENTENCES = {code.value: code.sentence for code in Code} | {UNEXPECTED: UNEXPECTED_SENTENCE, SYSTEM: SYSTEM_SENTENCE}
REMEDIES = {code.value: code.remedy for code in Code} | {UNEXPECTED: UNEXPECTED_REMEDY, SYSTEM: SYSTEM_REMEDY}


@dataclass(frozen=True)
class CaseReport:
    """One study of an import.

    Attributes:
        case_id: pseudonym of the study.
        files: how many DICOM files it has.
        code: why it was refused; empty if it came in.
        sentence: what is the matter, with its figures.
        remedy: what can be done about it.
        left_out: series that are not read: ``series, images, code, sentence, detail``.
        warnings: what is odd about it though it can be used, each ``CODE: sentence``.
        patient_id: pseudonym of the patient, or the PatientID where identifiers are kept.
        site: pseudonym of the hospital, or its name where names are kept.
        vendor: as ``transforms.scanner.Scanner``.
        vendor_raw: likewise.
        scanner: likewise, in one line.
        software: major version of the scanner's software.
        field_strength_t: nominal field [T].
        sex: ``M``, ``F`` or ``O``.
        age: years.
        shape: ``(phases, slices, rows, cols)``.
        spacing_mm: ``(slices, rows, cols)`` [mm].
        phase_ms: mean distance between phases [ms].
        rr_ms: shortest and longest heart cycle among the slices [ms].
        ed: phase found as end-diastole, from 0.
        es: phase found as end-systole, from 0.
        phase_confidence: of both, in [0, 1].
        heart: where the heart was found, in the oriented study.
    """

    case_id: str
    files: int = 0
    code: str = ""
    sentence: str = ""
    remedy: str = ""
    left_out: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    patient_id: str = ""
    site: str = UNKNOWN
    vendor: str = UNKNOWN
    vendor_raw: str = ""
    scanner: str = UNKNOWN
    software: str = ""
    field_strength_t: float | None = None
    sex: str | None = None
    age: float | None = None
    shape: tuple[int, ...] | None = None
    spacing_mm: tuple[float, ...] | None = None
    phase_ms: float | None = None
    rr_ms: tuple[float, ...] | None = None
    ed: int | None = None
    es: int | None = None
    phase_confidence: float | None = None
    heart: Mapping[str, float] = field(default_factory=dict)

    @property
    def came_in(self) -> bool:
        """Whether the study became a case."""
        return not self.code

    @property
    def reason(self) -> str:
        """Why it did not, in one line; empty if it did."""
        return f"{self.code}: {self.sentence} {self.remedy}" if self.code else ""

    def to_dict(self) -> dict[str, Any]:
        """What is known, as JSON holds it."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", (), {})}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> CaseReport:
        """Inverse of ``to_dict``; keys that are not known are left out."""
        known: dict[str, Any] = {item.name: record[item.name] for item in fields(cls) if item.name in record}
        return cls(**known | {name: tuple(value) for name, value in known.items() if isinstance(value, list)})


def refused(case_id: str, files: int, refusal: Refusal) -> CaseReport:
    """Report of a study that was refused."""
    code = refusal.code
    return CaseReport(case_id, files, code.value, refusal.sentence, code.remedy, left_out_records(refusal.left_out))


def failed(case_id: str, files: int, error: Exception) -> CaseReport:
    """Report of a study that stopped the reading: kind and place of the error, never its message.

    A message may quote the header that caused it. An operating system's own words hold none, and tell the operator what
    to mend: such an error is no fault of the program to be reported.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = next((frame for frame in reversed(frames) if Path(frame.filename).parent.name in OURS), frames[-1])
    words = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    code = SYSTEM if words else UNEXPECTED
    detail = f"{type(error).__name__}{words} at line {place.lineno} of {Path(place.filename).name}."
    return CaseReport(case_id, files, code, f"{SENTENCES[code]} {detail}", REMEDIES[code])


def left_out_records(left_out: Iterable[LeftOut]) -> tuple[dict[str, Any], ...]:
    """Series that are not read, as a report holds them."""
    return tuple(asdict(item) | {"code": item.code.value, "sentence": item.code.sentence} for item in left_out)


def sentence_of(code: str) -> str:
    """What a code means; empty for one that is none of ours."""
    return SENTENCES.get(code, "")


def reason_lines(reports: Sequence[CaseReport]) -> list[str]:
    """Three tables for the console, each left out if it is empty: studies refused, series left out, warnings."""
    refusals = Counter(report.code for report in reports if report.code)
    series = Counter(str(item["code"]) for report in reports for item in report.left_out)
    warnings = Counter(text.partition(":")[0] for report in reports for text in report.warnings)
    tables = (
        (f"studies refused: {refusals.total()} of {len(reports)}", refusals),
        (f"series left out of all studies: {series.total()}", series),
        ("warnings (each in the datalist)", warnings),
    )
    return [line for head, counts in tables if counts for line in ["", head, *_counted(counts)]]


def _counted(counts: Counter[str]) -> list[str]:
    width = max(map(len, counts))
    return [f"  {n:4d}  {code:<{width}}  {sentence_of(code)}".rstrip() for code, n in counts.most_common()]
