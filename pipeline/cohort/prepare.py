"""The preprocessing over a datalist: in parallel, resumable, one file per study."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

from pipeline.cohort.case import SECTIONS, Case, Datalist, DatalistError, created_with, read_datalist, write_datalist
from pipeline.cohort.prepare_case import Outcome, Preparation
from pipeline.cohort.prepare_report import found_note, summary, write_heart_centres, write_phases
from pipeline.workers import end_with_parent
from transforms.recipe import StudentInput

STEPS = (
    "LoadCined",
    "SimulateScannerd",
    "CorrectBiasd",
    "OrientShortAxisd",
    "FindHeartd",
    "FindPhasesd",
    "PickPhasesd",
    "CropHeartd",
    "ResampleSlicesd",
    "StandardiseIntensityd",
)


def prepare_datalist(
    datalist: str | Path,
    output_dir: str | Path,
    *,
    transforms: Any,  # noqa: ANN401
    recipe: StudentInput,
    num_workers: int = 2,
    simulation_strength: float = 1.0,
) -> Datalist:
    """Prepare the studies of a datalist, and write the datalist of what was prepared.

    Each study goes to ``output_dir/studies/<case_id>.npz`` under a temporary name first. What an earlier run made by
    the same recipe from the same sources is kept. A study that fails is set aside with its reason; the others go on.
    Masks are used for one thing only: to measure how far the heart found lies from theirs (``heart_centre.csv``).
    Phases that the datalist gives are taken, and those found in the cine held against them (``phases.csv``).

    Args:
        datalist: JSON of raw studies.
        output_dir: folder for ``datalist.json``, ``heart_centre.csv``, ``phases.csv`` and ``studies/``.
        transforms: a MONAI ``Compose``; from a case as a dictionary to one with the array in ``image``. A chain of
            other steps than ours is named in the recipe, which then cannot be exported.
        recipe: what the transforms make.
        num_workers: processes; 0 and 1 work in this one.
        simulation_strength: strength at which scanners are simulated, as given to the transforms.

    Returns:
        The datalist as written.

    Raises:
        DatalistError: if the datalist breaks a rule, or lists prepared studies.
        ValueError: if ``num_workers`` is negative, the chain lacks a simulation that a case asks for, or no study
            could be prepared.
    """
    source, target = read_datalist(datalist), Path(output_dir).resolve() / "datalist.json"
    _check(source, Path(datalist), target, transforms, num_workers)
    recipe = replace(recipe, extra_steps=extra_steps(transforms, recipe))
    if not recipe.exportable:
        changes = recipe.extra_steps or (recipe.bias_correction,)
        print(
            f"This recipe ({', '.join(map(str, changes))}) cannot be exported to the light, numpy-only hospital image."
        )
    preparation = Preparation(transforms, recipe, target.parent / "studies", simulation_strength)
    with threadpool_limits(1, user_api="blas"):  # workers times BLAS threads would only wait for one another
        outcomes = _outcomes([case for _, case in source.cases()], preparation, num_workers)
    prepared = prepared_datalist(source, outcomes, recipe)
    write_heart_centres(target.parent / "heart_centre.csv", source, outcomes)
    write_phases(target.parent / "phases.csv", source, outcomes)
    write_datalist(prepared, target)
    print("\n".join([*summary(outcomes), f"Datalist: {target}"]))
    return prepared


def extra_steps(transforms: Any, recipe: StudentInput) -> tuple[str, ...]:  # noqa: ANN401
    """Names of all steps of a chain that is not the recipe's own; empty for the recipe's own.

    Args:
        transforms: a MONAI ``Compose``, or any callable.
        recipe: says whether a bias correction belongs to the chain.
    """
    names = step_names(transforms)
    left_out = set() if recipe.bias_correction else {"CorrectBiasd"}
    left_out |= set() if "SimulateScannerd" in names else {"SimulateScannerd"}
    return () if names == [step for step in STEPS if step not in left_out] else tuple(names)


def step_names(transforms: Any) -> list[str]:  # noqa: ANN401
    """Names of the steps of a chain, ours by class, others with their module."""
    kinds = [type(step) for step in getattr(transforms, "transforms", (transforms,))]
    return [
        kind.__name__ if kind.__module__ == "transforms.dictionary" else f"{kind.__module__}.{kind.__qualname__}"
        for kind in kinds
    ]


def prepared_datalist(source: Datalist, outcomes: dict[str, Outcome], recipe: StudentInput) -> Datalist:
    """The datalist of what was prepared: studies in place of images, no masks, ED and ES at 0 and 1.

    Raises:
        ValueError: if no study was prepared.
    """
    failed = [outcome for outcome in outcomes.values() if outcome.path is None]
    if len(failed) == len(outcomes):
        first = f"; first: case {failed[0].case_id!r}: {failed[0].reason}" if failed else ""
        raise ValueError(
            f"at least one study must be prepared; none of {len(outcomes)} was{first}; correct the datalist"
        )
    return replace(
        source,
        sections={
            name: tuple(
                _prepared_case(case, outcomes[case.case_id])
                for case in source.sections[name]
                if outcomes[case.case_id].path is not None
            )
            for name in SECTIONS
        },
        created_with=created_with(),
        set_aside=(*source.set_aside, *({"case_id": o.case_id, "reason": o.reason} for o in failed)),
        notes=(*source.notes, *found_note(outcomes)),
        recipe=recipe.to_dict(),
        recipe_digest=recipe.digest,
    )


def _prepared_case(case: Case, outcome: Outcome) -> Case:
    raw = replace(case, image_ed=None, image_es=None, mask=None, mask_ed=None, mask_es=None)
    return replace(raw, image=outcome.path, ed=0, es=1, heart=outcome.heart)


def _outcomes(cases: Sequence[Case], preparation: Preparation, num_workers: int) -> dict[str, Outcome]:
    """What became of each case, in the order of ``cases``."""
    bar = tqdm(total=len(cases), desc="Preprocessing", unit="study")
    found = {}
    with bar:
        for outcome in _as_they_come(cases, preparation, num_workers):
            found[outcome.case_id] = outcome
            bar.update()
    return {case.case_id: found[case.case_id] for case in cases}


def _as_they_come(cases: Sequence[Case], preparation: Preparation, num_workers: int) -> Iterator[Outcome]:
    if num_workers <= 1:
        yield from map(preparation.prepare, cases)
        return
    # fork: workers start at once, with what is imported already; they run numpy only
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(num_workers, context, initializer=_remember, initargs=(preparation,)) as pool:
        pending = [pool.submit(_prepare_remembered, case) for case in cases]
        try:
            yield from (future.result() for future in as_completed(pending))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_remembered: list[Preparation] = []


def _remember(preparation: Preparation) -> None:
    """Keep in a worker what all its cases share, instead of sending it with each."""
    end_with_parent()
    _remembered[:] = [preparation]


def _prepare_remembered(case: Case) -> Outcome:
    return _remembered[0].prepare(case)


def _check(source: Datalist, path: Path, target: Path, transforms: Any, num_workers: int) -> None:  # noqa: ANN401
    if source.recipe_digest is not None or path.resolve() == target:
        raise DatalistError(f"{path} must list raw studies; it lists prepared ones; give the datalist they came from")
    simulated = [case.case_id for _, case in source.cases() if case.simulated]
    if simulated and "SimulateScannerd" not in step_names(transforms):
        raise ValueError(
            f"transforms must simulate scanners, since case {simulated[0]!r} has one to simulate; "
            "add SimulateScannerd after LoadCined"
        )
    if num_workers < 0:
        raise ValueError(f"num_workers must be 0 or more; got {num_workers}")
