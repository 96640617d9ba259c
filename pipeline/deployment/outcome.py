"""What a study ends with in the hospital: a reading or a coded refusal, in a form that holds no patient data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.dicom.refusal import LeftOut, Refusal
from transforms.scanner import Scanner


class Verdict(StrEnum):
    """How well the audit knows scanners like the one that a study came from."""

    AUDITED = "audited"
    TOO_FEW = "audited-too-few"
    UNSEEN = "unseen"


@dataclass(frozen=True)
class AuditedGroup:
    """What the audit found in one group, as the package's envelope has it.

    Attributes:
        column: grouping column, e.g. ``vendor``.
        group: its value, e.g. ``Siemens``.
        measure: e.g. ``accuracy``.
        n_patients: in the audit; 0 for a group that it has not seen.
        value: of the measure; ``None`` without patients.
        low: lower end of the interval; ``None`` where it is not estimable.
        high: upper end.
        level: of the interval, e.g. 0.95.
        reason: why it is not estimable; empty if it is.
    """

    column: str
    group: str
    measure: str
    n_patients: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    reason: str = ""

    @property
    def estimable(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class EnvelopeVerdict:
    """A study's scanner against the audit.

    Attributes:
        verdict: the least favourable of its groups'.
        groups: one entry per grouping column of the envelope and measure.
        audited: whether the package has an audit at all; one by site alone has no group that headers tell.
    """

    verdict: Verdict
    groups: tuple[AuditedGroup, ...]
    audited: bool = True


@dataclass(frozen=True)
class PackageIdentity:
    """Which student spoke.

    Attributes:
        name: of the package.
        version: of the package.
        digest: SHA-256 of its manifest, which holds the digests of all its files.
        recipe_digest: of the preprocessing.
    """

    name: str
    version: str
    digest: str
    recipe_digest: str


@dataclass(frozen=True)
class Reading:
    """What the student says of one study.

    Attributes:
        probabilities: by class, in the package's order; they sum to 1.
        ed: index of end-diastole in the cine, from 0.
        es: index of end-systole.
        n_phases: of the cine.
        n_slices: of the cine.
        heart_confidence: of the heart finder, 0 to 1.
        phase_confidence: of the phase finder, 0 to 1; ``None`` where the phases were given.
        warnings: codes with a sentence each, e.g. ``REPEATED_SLICE: …``; never text of a header.
    """

    probabilities: Mapping[str, float]
    ed: int
    es: int
    n_phases: int
    n_slices: int
    heart_confidence: float
    phase_confidence: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def predicted(self) -> str:
        """The most probable class; the first of equals."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])


@dataclass(frozen=True)
class Outcome:
    """One study's end.

    Attributes:
        study_key: first 16 hexadecimal digits of the SHA-256 of its StudyInstanceUID: names it in files and logs.
        package: which student was asked.
        scanner: as far as its headers tell; ``None`` if no image could be read.
        envelope: verdict on that scanner; ``None`` where there is no scanner.
        reading: what the student says; ``None`` if the study was refused.
        refusal: why it was not read; ``None`` if it was.
        left_out: what else was in the study, and why it was not read.
    """

    study_key: str
    package: PackageIdentity
    scanner: Scanner | None = None
    envelope: EnvelopeVerdict | None = None
    reading: Reading | None = None
    refusal: Refusal | None = None
    left_out: Sequence[LeftOut] = field(default=())

    def __post_init__(self) -> None:
        if (self.reading is None) == (self.refusal is None):
            raise ValueError("an outcome must have a reading or a refusal, not both and not neither")

    @property
    def status(self) -> str:
        """``read`` or ``refused``."""
        return "refused" if self.reading is None else "read"
