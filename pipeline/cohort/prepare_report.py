"""What a preprocessing run says of itself: tables beside the datalist, and lines on the screen."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cohort.case import Datalist
from pipeline.cohort.prepare_case import Outcome
from pipeline.dicom.doubts import UNSURE_PHASES
from pipeline.files import atomic_path

SHOWN = 10
PHASE_COLUMNS = ("source", "n_phases", "ed", "es", "found_ed", "found_es", "error_ed", "error_es", "confidence")


def write_heart_centres(path: Path, source: Datalist, outcomes: dict[str, Outcome]) -> None:
    """Write one row per study that has a mask; nothing where no study has one."""
    measured = [case for _, case in source.cases() if "error_mm" in outcomes[case.case_id].heart]
    rows = []
    for case in measured:
        heart = outcomes[case.case_id].heart
        rows.append([case.case_id, case.vendor, f"{heart['error_mm']:.2f}", heart["contained"]])
    _write_table(path, ["case_id", "vendor", "error_mm", "contained"], rows)


def write_phases(path: Path, source: Datalist, outcomes: dict[str, Outcome]) -> None:
    """Write one row per cine in which phases were found; nothing where there is none.

    Columns: ``ed, es`` taken, by ``source``; ``found_ed, found_es, confidence``; ``error_ed, error_es`` [phases], the
    shorter way round the cycle, where they were given. Phases count from 0.
    """
    rows = []
    for _, case in source.cases():
        phases = outcomes[case.case_id].phases
        if "found_ed" in phases:
            told = phases | {"confidence": f"{phases['confidence']:.2f}"}
            rows.append([case.case_id, case.vendor, *(told.get(name, "") for name in PHASE_COLUMNS)])
    _write_table(path, ["case_id", "vendor", *PHASE_COLUMNS], rows)


def found_note(outcomes: dict[str, Outcome]) -> Iterator[str]:
    """Note for the datalist, if phases of any study were found."""
    found = [o for o in outcomes.values() if o.path is not None and o.phases.get("source") == "found"]
    if found:
        cines = "its cine" if len(found) == 1 else "their cines"
        yield f"ED and ES of {_studies(len(found))} were found in {cines}, see phases.csv"


def summary(outcomes: dict[str, Outcome]) -> Iterator[str]:
    """Lines that say what was prepared, what was set aside and why, and how well heart and phases were found."""
    kept = [outcome for outcome in outcomes.values() if outcome.path is not None]
    written = sum(outcome.written for outcome in kept)
    there = len(kept) - written
    yield f"Prepared {_studies(written)}, {there} {'was' if there == 1 else 'were'} there already."
    failed = [outcome for outcome in outcomes.values() if outcome.path is None]
    if failed:
        yield f"Set aside {len(failed)}:"
        yield from (f"  {outcome.case_id}: {outcome.reason}" for outcome in failed)
    measured = [outcome for outcome in kept if "error_mm" in outcome.heart]
    if measured:
        yield _heart_line(measured)
    yield from (f"  {o.case_id}: not measured: {o.heart['not_measured']}" for o in kept if "not_measured" in o.heart)
    yield from _phase_lines(kept)


def _heart_line(measured: Sequence[Outcome]) -> str:
    errors = [outcome.heart["error_mm"] for outcome in measured]
    misses = [outcome.case_id for outcome in measured if not outcome.heart["contained"]]
    share = 100 * (1 - len(misses) / len(measured))
    line = (
        f"Heart centre against {len(measured)} masks: median {np.median(errors):.1f} mm, "
        f"95th percentile {np.percentile(errors, 95):.1f} mm; heart within the crop in {share:.1f} %."
    )
    return line + (f" Not within: {_some(misses)}." if misses else "")


def _phase_lines(kept: Sequence[Outcome]) -> Iterator[str]:
    measured = [outcome.phases for outcome in kept if "error_ed" in outcome.phases]
    if measured:
        ed, es = (_errors([phases[f"error_{name}"] for phases in measured]) for name in ("ed", "es"))
        yield f"Phases found, against those given in {_studies(len(measured))}, in phases: ED {ed}; ES {es}."
    found = [outcome for outcome in kept if outcome.phases.get("source") == "found"]
    if found:
        unsure = [outcome.case_id for outcome in found if outcome.phases["confidence"] < UNSURE_PHASES]
        line = f"Phases found in {_studies(len(found))} that came without."
        yield line + (f" Look at these, confidence below {UNSURE_PHASES}: {_some(unsure)}." if unsure else "")
    lost = [(outcome.case_id, outcome.phases["not_measured"]) for outcome in kept if "not_measured" in outcome.phases]
    yield from (f"  {case_id}: phases not measured: {reason}" for case_id, reason in lost)


def _errors(errors: Sequence[int]) -> str:
    near = (f"within {n} in {100 * float(np.mean(np.array(errors) <= n)):.1f} %" for n in (1, 2))
    return f"median {np.median(errors):.0f}, {', '.join(near)}, worst {max(errors)}"


def _studies(n: int) -> str:
    return "1 study" if n == 1 else f"{n} studies"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    rows = list(rows)
    if not rows:
        path.unlink(missing_ok=True)  # of an earlier run, whose studies had some
        return
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        table.writerows(rows)
