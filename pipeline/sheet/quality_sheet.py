"""One page on which a person sees every study of a datalist: phases, heart, scanner, warnings, and what was refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from tqdm import tqdm

from pipeline.cohort.case import Case, Datalist, created_with
from pipeline.cohort.case_report import REMEDIES, CaseReport, sentence_of
from pipeline.files import atomic_path
from pipeline.sheet.study_view import PAIR, Shown, show
from transforms.recipe import StudentInput
from transforms.scanner import UNKNOWN

IMAGES = "images"
PER_MINUTE = 60_000.0  # heartbeats, from a cycle in ms


@dataclass(frozen=True)
class Entry:
    """A case as the page prints it.

    Attributes:
        case: the case.
        section: of the datalist.
        report: what the import found out; empty for other datalists.
        warnings: what is odd about it though it can be used.
        shown: figures from its image; ``None`` if there are no pictures.
        facts: name and value, in order.
        problem: why there are no pictures.
    """

    case: Case
    section: str
    report: CaseReport
    warnings: tuple[str, ...]
    shown: Shown | None = None
    facts: tuple[tuple[str, str], ...] = ()
    problem: str = ""


def write_quality_sheet(
    datalist: Datalist, folder: str | Path, *, reports: Sequence[CaseReport] = (), progress: bool = True
) -> Path:
    """Write ``index.html`` with its pictures in ``images/``; for an import also ``cases.json``, its reports.

    Pictures that an earlier call made of the same images are kept.

    Args:
        datalist: raw studies, or prepared ones; absolute paths.
        folder: for the page.
        reports: of the import that made the datalist; refused studies are listed from them. Without them, what an
            import left beside each cine is read, and what was set aside is listed as the datalist has it.
        progress: whether to show a progress bar.

    Returns:
        The page.
    """
    folder = Path(folder)
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    by_id = {report.case_id: report for report in reports}
    recipe = StudentInput.from_dict(datalist.recipe) if datalist.recipe else StudentInput()
    draw = partial(show, folder=folder / IMAGES, recipe=recipe, prepared=datalist.recipe is not None)
    by_case, general = _notes(datalist)
    cases = list(datalist.cases())
    entries = [
        _entry(case, section, by_id.get(case.case_id), by_case[case.case_id], draw)
        for section, case in tqdm(cases, desc="Quality sheet", unit="study", disable=not (progress and cases))
    ]
    if reports:
        records = [report.to_dict() for report in sorted(reports, key=lambda report: report.case_id)]
        _write(folder / "cases.json", json.dumps(records, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    _write(folder / "index.html", render(datalist, entries, by_id, general))
    return folder / "index.html"


def render(
    datalist: Datalist, entries: Sequence[Entry], reports: Mapping[str, CaseReport], notes: Sequence[str]
) -> str:
    """The page; texts are escaped, nothing is fetched but the pictures beside it.

    Args:
        datalist: the studies.
        entries: its cases, in order.
        reports: of the import, by case id; may be empty.
        notes: on the datalist as a whole.

    Returns:
        HTML.
    """
    refused = [_refused(item, reports.get(item["case_id"])) for item in datalist.set_aside]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("pipeline.sheet").joinpath("templates/quality_sheet.html.j2").read_text(encoding="utf-8")
    scanners = sorted({_scanner(entry) for entry in entries})
    left_out = Counter(str(item["code"]) for item in _left_out(entries, refused))
    page = environment.from_string(source).render(
        entries=sorted(entries, key=lambda entry: (_scanner(entry), entry.case.case_id)),
        refused=refused,
        prepared=datalist.recipe,
        source=datalist.source,
        created_with=created_with(),
        n_patients=len({entry.case.patient_id for entry in entries}),
        n_warned=sum(bool(entry.warnings) for entry in entries),
        scanners=[
            (name, f"scanner-{place}", _scanner_row(name, entries)) for place, name in enumerate(sorted(scanners))
        ],
        scanner_of=_scanner,
        reasons=Counter(item["code"] for item in refused).most_common(),
        any_coded=any(sentence_of(item["code"]) for item in refused),
        left_out=left_out.most_common(),
        sentence_of=sentence_of,
        notes=notes,
        crop_mm=StudentInput().field_of_view_mm,
        images=IMAGES,
    )
    return str(page)


def stored_report(case: Case) -> CaseReport | None:
    """What an import left beside a case's cine; ``None`` if there is nothing."""
    if case.image is None:
        return None
    try:
        stored = json.loads((case.image.parent / f"{case.case_id}.json").read_text(encoding="utf-8"))
        return CaseReport.from_dict(stored["report"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _entry(
    case: Case, section: str, report: CaseReport | None, warnings: Sequence[str], draw: Callable[..., Shown]
) -> Entry:
    report = report or stored_report(case) or CaseReport(case.case_id)
    try:
        shown = draw(case, phase_ms=report.phase_ms)
    except Exception as error:  # one image must not cost the page
        words = f": {' '.join(str(error).split())}" if isinstance(error, ValueError) else ""
        return Entry(case, section, report, tuple(warnings), problem=f"{type(error).__name__}{words}")
    return Entry(case, section, report, tuple(warnings), shown, tuple(_facts(case, report, shown)))


def _facts(case: Case, report: CaseReport, shown: Shown) -> Iterator[tuple[str, str]]:
    phases, slices, rows, cols = shown.shape
    yield "Stack", f"{phases} phases × {slices} slices × {rows} × {cols}"
    yield "Spacing", _spacing(shown.spacing_mm)
    if report.rr_ms:
        yield "Heart cycle", _heart_cycle(report.rr_ms)
    if shown.phases != PAIR:
        yield "Phases", _phases(report, shown)
    if "confidence" in shown.heart:
        yield "Heart", f"found from motion, confidence {shown.heart['confidence']:.2f}"
    if case.heart and "error_mm" in case.heart:
        inside = "inside the crop" if case.heart["contained"] else "not all of it inside the crop"
        yield "Mask", f"its middle {case.heart['error_mm']:.1f} mm from the centre found, {inside}"


def _spacing(spacing: Sequence[float | None]) -> str:
    between, rows, cols = spacing
    plane = f"{rows:.2f} mm" if round(rows or 0, 2) == round(cols or 0, 2) else f"{rows:.2f} × {cols:.2f} mm"
    return f"{plane} in the plane" + ("" if between is None else f", slices {between:.1f} mm apart")


def _heart_cycle(rr_ms: Sequence[float]) -> str:
    low, high = rr_ms
    if round(low) == round(high):
        return f"{low:.0f} ms, {PER_MINUTE / low:.0f} beats a minute"
    return f"{low:.0f} to {high:.0f} ms, {PER_MINUTE / high:.0f} to {PER_MINUTE / low:.0f} beats a minute"


def _phases(report: CaseReport, shown: Shown) -> str:
    said = f"end-diastole {shown.ed}, end-systole {shown.es}, counted 0 to {shown.n_phases - 1}"
    if report.phase_confidence is not None:
        return f"{said}; found, confidence {report.phase_confidence:.2f}"
    return f"{said}; {shown.phases}"


def _scanner(entry: Entry) -> str:
    return entry.case.scanner or UNKNOWN


def _scanner_row(name: str, entries: Sequence[Entry]) -> dict[str, int]:
    own = [entry for entry in entries if _scanner(entry) == name]
    return {
        "studies": len(own),
        "patients": len({entry.case.patient_id for entry in own}),
        "sites": len({entry.case.site for entry in own} - {UNKNOWN}),
        "warned": sum(bool(entry.warnings) for entry in own),
    }


def _refused(item: Mapping[str, str], report: CaseReport | None) -> dict[str, Any]:
    """A study that did not come in: from its report, else from the line in the datalist."""
    if report is not None and not report.came_in:
        return {
            "case_id": report.case_id,
            "code": report.code,
            "sentence": report.sentence,
            "remedy": report.remedy,
            "files": report.files,
            "left_out": report.left_out,
        }
    head, _, rest = item["reason"].partition(": ")
    remedy = REMEDIES.get(head, "")
    return {
        "case_id": item["case_id"],
        "code": head,
        "sentence": rest.removesuffix(remedy).rstrip(),
        "remedy": remedy,
        "files": 0,
        "left_out": (),
    }


def _left_out(entries: Sequence[Entry], refused: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for entry in entries:
        yield from entry.report.left_out
    for item in refused:
        yield from item["left_out"]


def _notes(datalist: Datalist) -> tuple[dict[str, list[str]], list[str]]:
    """Notes by the case that they are on, and those on none."""
    by_case: dict[str, list[str]] = {case.case_id: [] for _, case in datalist.cases()}
    general: list[str] = []
    for note in datalist.notes:
        head, _, rest = note.partition(": ")
        by_case.get(head.removeprefix("case "), general).append(rest)
        if general and general[-1] == rest:
            general[-1] = note
    return by_case, general


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
