"""One DICOM study: assembled, its heart and phases found, written as a cine that bears no name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cohort.case import created_with
from pipeline.cohort.case_report import CaseReport, failed, left_out_records, refused
from pipeline.cohort.pseudonym import Pseudonyms
from pipeline.dicom.cine import Cine, read_cine
from pipeline.dicom.doubts import doubts
from pipeline.dicom.frames import StudyTags
from pipeline.dicom.refusal import Code, Refusal
from pipeline.files import atomic_path
from transforms.geometry import orient_short_axis, spacing_mm
from transforms.heart import NothingMovesError, find_heart
from transforms.phases import find_phases
from transforms.scanner import Scanner

SMALL_INTEGERS = (np.int16, np.uint16, np.int32)


@dataclass(frozen=True)
class StudyReader:
    """How every study of an import is read.

    Attributes:
        cines_dir: folder for ``<case_id>.nii.gz`` and, beside it, ``<case_id>.json``, the report of the study.
        pseudonyms: names that stand for patients, studies and sites.
        keep_ids: whether ``patient_id`` is DICOM's own.
        keep_sites: whether ``site`` is the institution's name.
    """

    cines_dir: Path
    pseudonyms: Pseudonyms
    keep_ids: bool = False
    keep_sites: bool = False

    def read(self, study_uid: str, paths: Sequence[Path]) -> CaseReport:
        """Read one study, or take what an earlier run left of the same files; never raises.

        Args:
            study_uid: its StudyInstanceUID.
            paths: its files.

        Returns:
            Its report. If it came in, the cine lies at ``cine_path``.
        """
        case_id = self.pseudonyms.study(study_uid)
        try:
            sources = self._fingerprint(case_id, paths)
            return self._kept(case_id, sources) or self._assembled(case_id, paths, sources)
        except Refusal as refusal:
            return refused(case_id, len(paths), refusal)
        except Exception as error:  # one bad study must not end a night's run; it is named at the end
            return failed(case_id, len(paths), error)

    def cine_path(self, case_id: str) -> Path:
        """Where the cine of a study lies."""
        return self.cines_dir / f"{case_id}.nii.gz"

    def _record_path(self, case_id: str) -> Path:
        return self.cines_dir / f"{case_id}.json"

    def _fingerprint(self, case_id: str, paths: Sequence[Path]) -> str:
        """SHA-256 over what the cine is made of; a newer version of the program makes it anew."""
        stats = sorted((stat.st_size, stat.st_mtime_ns) for stat in (path.stat() for path in paths))
        made_of = [case_id, stats, self.keep_ids, self.keep_sites, created_with()]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()

    def _kept(self, case_id: str, sources: str) -> CaseReport | None:
        """Report of an earlier run, if its cine is there whole and was made from the same files."""
        try:
            record = json.loads(self._record_path(case_id).read_text(encoding="utf-8"))
            whole = self.cine_path(case_id).stat().st_size == record["bytes"]
            return CaseReport.from_dict(record["report"]) if whole and record["sources"] == sources else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _assembled(self, case_id: str, paths: Sequence[Path], sources: str) -> CaseReport:
        cine = read_cine(paths)
        report = _described(self._identified(case_id, len(paths), cine.tags), cine)
        target = self.cine_path(case_id)
        write_nifti(target, cine.values, cine.affine, phase_ms=report.phase_ms)
        record = {"sources": sources, "bytes": target.stat().st_size, "report": report.to_dict()}
        with atomic_path(self._record_path(case_id)) as temporary:
            temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return report

    def _identified(self, case_id: str, files: int, tags: StudyTags) -> CaseReport:
        """Who and where, as far as it may be told."""
        site = self.pseudonyms.site(tags.station, tags.serial, tags.institution)
        scanner = Scanner.from_raw(
            manufacturer=tags.manufacturer,
            model=tags.model,
            field_strength=tags.field_strength,
            site=tags.institution if self.keep_sites else site,
            software=tags.software,
        )
        return CaseReport(
            case_id,
            files,
            patient_id=self._patient(tags),
            site=scanner.site,
            vendor=scanner.vendor,
            vendor_raw=scanner.vendor_raw,
            scanner=scanner.name,
            software=scanner.software,
            field_strength_t=scanner.field_strength_t,
            sex=tags.sex,
            age=tags.age_years or None,  # a datalist has no age of 0
        )

    def _patient(self, tags: StudyTags) -> str:
        """DICOM's own PatientID only where it is to be kept, and says anything."""
        pseudonym = self.pseudonyms.patient(tags.patient_id, tags.study_uid)
        of_study = self.pseudonyms.patient("", tags.study_uid)
        return tags.patient_id.strip() if self.keep_ids and pseudonym != of_study else pseudonym


def _described(report: CaseReport, cine: Cine) -> CaseReport:
    """The report with what was found in the images.

    Raises:
        Refusal: if nothing moves in the cine.
    """
    oriented, affine = orient_short_axis(cine.values, cine.affine)
    spacing = spacing_mm(affine)
    try:
        heart = find_heart(oriented, spacing)
        phases = find_phases(oriented, spacing, heart)
    except NothingMovesError as error:
        raise Refusal(Code.NOTHING_MOVES, left_out=cine.left_out) from error
    return replace(
        report,
        left_out=left_out_records(cine.left_out),
        warnings=(*cine.warnings, *doubts(heart.confidence, phases.confidence)),
        shape=tuple(int(size) for size in cine.values.shape),
        spacing_mm=tuple(round(step, 4) for step in spacing_mm(cine.affine)),
        phase_ms=_phase_distance(cine),
        rr_ms=_range(cine.rr_ms),
        ed=int(phases.ed),
        es=int(phases.es),
        phase_confidence=float(phases.confidence),
        heart=heart.to_dict(),
    )


def write_nifti(path: Path, values: NDArray[Any], affine: NDArray[Any], *, phase_ms: float | None) -> None:
    """Write a cine as NIfTI, atomically; its header holds geometry and time, and no text.

    Args:
        path: ends in ``.nii.gz``.
        values: ``(phases, slices, rows, cols)``; integers stay integers.
        affine: 4 x 4, RAS [mm], of one phase.
        phase_ms: distance between phases [ms]; ``None`` if not known, written as 0.
    """
    import nibabel

    stored = values.astype(_storage(values), copy=False).transpose(3, 2, 1, 0)
    image = nibabel.Nifti1Image(stored, affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = (phase_ms or 0.0) / 1000
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)


def _storage(values: NDArray[Any]) -> type[np.generic]:
    """The smallest NIfTI type that holds the values exactly; float32 for what are no integers."""
    if not np.issubdtype(values.dtype, np.integer):
        return np.float32
    low, high = int(values.min()), int(values.max())
    fitting = (kind for kind in SMALL_INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return next(fitting, np.float32)


def _phase_distance(cine: Cine) -> float | None:
    """Mean distance between phases [ms], over the slices whose times are known; else a share of the heart cycle."""
    for steps in (np.diff(cine.times_ms, axis=0), cine.rr_ms / len(cine.values)):
        known = steps[np.isfinite(steps)]
        if known.size:
            return round(float(known.mean()), 3)
    return None


def _range(values: NDArray[Any]) -> tuple[float, float] | None:
    known = values[np.isfinite(values)]
    return (round(float(known.min()), 1), round(float(known.max()), 1)) if known.size else None
