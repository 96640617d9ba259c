"""Cohorts of a benchmark: settings and dials in, a prepared datalist out.

A dial is a setting that varies within a plan; its values stand in for the setting's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.benchmark.bundle_runs import digest_of
from pipeline.benchmark.kinds import DATALIST, Acdc, Cohorts, Digits, Phantom
from pipeline.cohort.validation import nearest

KINDS: Mapping[str, type[Any]] = {kind.kind: kind for kind in (Phantom, Acdc, Digits)}


def cohorts_of(kind: str, settings: Mapping[str, Any], dials: Mapping[str, Any]) -> Cohorts:
    """Cohorts of a kind, with the dials in place of settings.

    Raises:
        ValueError: if the kind or a setting is not known.
    """
    if kind not in KINDS:
        raise ValueError(f"cohort: kind must be one of {', '.join(KINDS)}; got {kind!r}; {nearest(kind, KINDS)}")
    known = [item.name for item in fields(KINDS[kind])]
    given = {**settings, **dials}
    for key in given:
        if key not in known:
            raise ValueError(f"cohort: {kind} has no setting {key!r}; {nearest(key, known)}")
    made: Cohorts = KINDS[kind](**{key: tuple(v) if isinstance(v, list) else v for key, v in given.items()})
    return made


def prepare_pool(cohorts: Cohorts, folder: Path, workers: int) -> None:
    """Prepare what all seeds and folds of a kind share.

    Args:
        cohorts: of the kind and the dials.
        folder: of the benchmark's work.
        workers: processes.

    Raises:
        FileNotFoundError: if the data that the kind is made of are not there.
    """
    cohorts.pool(folder, workers)


def cohort_digest(cohorts: Cohorts, *, seed: int, fold: int | None, folds: int) -> str:
    """What a cohort is known by: its kind, all settings, seed and fold."""
    settings = asdict(cohorts)  # type: ignore[call-overload]
    return digest_of({"kind": cohorts.kind, "settings": settings, "seed": seed, "fold": fold, "folds": folds})


def build_cohort(cohorts: Cohorts, *, seed: int, fold: int | None, folds: int, folder: Path) -> Path:
    """Build a cohort, or take the one that is there.

    Args:
        cohorts: their pool must be there.
        seed: draws the patients.
        fold: of a cross-validation; ``None`` without.
        folds: how many folds there are.
        folder: of the benchmark's work.

    Returns:
        Path of the prepared ``datalist.json``, in a folder of its own.

    Raises:
        ValueError: if the pool has too few patients.
    """
    target = folder / "cohorts" / cohort_digest(cohorts, seed=seed, fold=fold, folds=folds) / DATALIST
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(".lock")):
        if not target.is_file():
            cohorts.build(target, seed=seed, fold=fold, folds=folds, folder=folder)
    return target
