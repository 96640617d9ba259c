"""A plan laid out: cohorts, what is trained on each, in which order, and the digest of every result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.benchmark.bundle_runs import digest_of, merged_config, training_digest
from pipeline.benchmark.cohorts import cohort_digest, cohorts_of
from pipeline.benchmark.kinds import Cohorts
from pipeline.benchmark.plan import BUNDLES, ModelPlan, Plan, Role, TeacherPlan
from pipeline.cohort.validation import nearest


@dataclass(frozen=True)
class Training:
    """One model to be trained.

    Args:
        name: as in the plan, with its variant.
        role: ``teacher`` or ``student``.
        configs: files of its bundle, in the order in which they are merged.
        overrides: of the bundle's keys, the seed among them; no paths.
        teachers: whom it learns from.
        biased: whom its weights point away from.
        start: whose weights it starts from.
        digest: of all that decides the model; the name of its folder.
    """

    name: str
    role: Role
    configs: tuple[str, ...]
    overrides: Mapping[str, Any]
    teachers: tuple[Training, ...]
    biased: Training | None
    start: Training | None
    digest: str


@dataclass(frozen=True)
class PlannedCell:
    """A training that is measured; ``config_digest`` names its row among the results."""

    training: Training
    config_digest: str


@dataclass(frozen=True)
class Block:
    """All that a plan trains on one cohort.

    Args:
        plan: name of the plan.
        cohorts: settings of the cohort, dials in place.
        dials: the combination.
        seed: draws the cohort and starts every training.
        fold: of a cross-validation; ``None`` without.
        folds: how many there are.
        evaluate: what is measured.
        curves: whether the group weights and losses over epochs are kept.
        cells: in the order in which they are worked on, teachers first.
    """

    plan: str
    cohorts: Cohorts
    dials: Mapping[str, Any]
    seed: int
    fold: int | None
    folds: int
    evaluate: Mapping[str, Any]
    curves: bool
    cells: tuple[PlannedCell, ...]

    @property
    def name(self) -> str:
        """Plan, dials, seed and fold in a line."""
        dials = [f"{key}={json.dumps(value)}" for key, value in sorted(self.dials.items())]
        fold = [] if self.fold is None else [f"fold {self.fold}"]
        return " ".join([self.plan, *dials, f"seed {self.seed}", *fold])

    @property
    def cohort_digest(self) -> str:
        """What the cohort is known by."""
        return cohort_digest(self.cohorts, seed=self.seed, fold=self.fold, folds=self.folds)


def blocks_of(plan: Plan, *, seeds: Sequence[int] | None = None, only: Sequence[str] | None = None) -> list[Block]:
    """Lay out a plan, all cohorts of a seed before the next seed's.

    Args:
        plan: the plan.
        seeds: in place of the plan's.
        only: models to keep, by name, with their variant or for all variants without.

    Raises:
        ValueError: if a setting, override, config file or model does not exist.
    """
    dealt = [cohorts_of(plan.kind, plan.settings, dials) for dials in plan.dials]
    for cohorts in dealt:
        cohorts.check_folds(plan.folds)
    blocks = []
    for seed in seeds or plan.seeds:
        for cohorts, dials in zip(dealt, plan.dials, strict=True):
            for fold in range(plan.folds) if plan.folds > 1 else [None]:
                digest = cohort_digest(cohorts, seed=seed, fold=fold, folds=plan.folds)
                cells = tuple(
                    PlannedCell(training, _result_digest(plan, training)) for training in _trainings(plan, seed, digest)
                )
                _check_only(only, cells)
                asked = [cell for cell in cells if plan.asks(cell.training.name, seed)]
                kept = tuple(cell for cell in asked if only is None or _names(cell) & set(only))
                curves = bool(plan.evaluate.get("curves", False)) and seed == plan.seeds[0] and not fold
                blocks.append(Block(plan.name, cohorts, dials, seed, fold, plan.folds, plan.evaluate, curves, kept))
    return blocks


def planned_digests(plan: Plan, seeds: Sequence[int]) -> set[str]:
    """Digests that the plan's results have as it is today, with some seeds: others are of former settings or code."""
    return {cell.config_digest for block in blocks_of(plan, seeds=seeds) for cell in block.cells}


def fitted_to_validation(plan: Plan, model: str) -> bool | None:
    """Whether a model or a teacher of its learns from validation patients, who then cannot choose it.

    Args:
        plan: the plan.
        model: of one row, with its variant.

    Returns:
        None for a model that the plan does not have.
    """
    name, _, variant = model.partition("@")
    parts: list[tuple[Role, ModelPlan | TeacherPlan]]
    if name in plan.models:
        student = plan.models[name]
        taught = [plan.teachers[other] for other in (*student.teachers, student.biased) if other is not None]
        parts = [("student", student), *(("teacher", teacher) for teacher in taught)]
    else:
        parts = [("teacher", teacher) for teacher in plan.teachers.values() if name in teacher.members]
    varied = plan.variants.get(variant, {})
    if not parts:
        return None
    return any(
        _learns_from_validation(
            role, part.overlays, {**plan.budget.get(role, {}), **part.overrides, **varied.get(role, {})}
        )
        for role, part in parts
    )


def _learns_from_validation(role: Role, overlays: Sequence[str], overrides: Mapping[str, Any]) -> bool:
    config = merged_config(BUNDLES[role], ("train.yaml", *overlays), overrides)
    by_group = config["weighting"] == "groups" and config.get("group_feedback") == "validation"
    by_quality = bool(config.get("adaptive_alpha")) or config.get("combination") == "trust"
    return by_group or by_quality or config["last_layer"] != "none" or config["kept_epoch"] == "best"


def _trainings(plan: Plan, seed: int, cohort: str) -> list[Training]:
    """What is measured on one cohort: teachers, then students; a teacher that variants share once."""
    teachers: dict[str, Training] = {}
    students = []
    for variant, overrides in plan.variants.items():
        taught = {
            name: _teachers(plan, teacher, variant, overrides["teacher"], seed, cohort)
            for name, teacher in plan.teachers.items()
        }
        measured = [member for name, teacher in plan.teachers.items() if teacher.measure for member in taught[name]]
        teachers |= {member.name: member for member in measured}
        students += [
            _student(plan, model, variant, overrides["student"], taught, seed, cohort) for model in plan.models.values()
        ]
    return [*teachers.values(), *students]


def _teachers(
    plan: Plan, teacher: TeacherPlan, variant: str, overrides: Mapping[str, Any], seed: int, cohort: str
) -> tuple[Training, ...]:
    members = []
    start = None
    if teacher.start is not None:
        start = _teachers(plan, plan.teachers[teacher.start], variant, overrides, seed, cohort)[0]
    for name, own, offset in zip(teacher.members, teacher.each, teacher.seed_offsets, strict=True):
        merged = {**plan.budget["teacher"], **teacher.overrides, **overrides, **own, "seed": seed + offset}
        named = _named(name, variant if overrides else "")
        members.append(_training(named, "teacher", teacher.overlays, merged, cohort, start=start))
    return tuple(members)


def _student(
    plan: Plan,
    model: ModelPlan,
    variant: str,
    overrides: Mapping[str, Any],
    taught: Mapping[str, tuple[Training, ...]],
    seed: int,
    cohort: str,
) -> Training:
    merged = {**plan.budget["student"], **model.overrides, **overrides, "seed": seed}
    teachers = tuple(member for name in model.teachers for member in taught[name])
    biased = taught[model.biased][0] if model.biased is not None else None
    return _training(_named(model.name, variant), "student", model.overlays, merged, cohort, teachers, biased)


def _training(
    name: str,
    role: Role,
    overlays: Sequence[str],
    overrides: Mapping[str, Any],
    cohort: str,
    teachers: tuple[Training, ...] = (),
    biased: Training | None = None,
    start: Training | None = None,
) -> Training:
    configs = ("train.yaml", *overlays)
    try:
        config = merged_config(BUNDLES[role], configs, overrides)
    except ValueError as error:
        raise ValueError(f"{role} {name}: {error}") from error
    others = {key: other.digest if other else None for key, other in (("biased", biased), ("start", start))}
    digest = training_digest(config, role=role, cohort=cohort, teachers=[t.digest for t in teachers], **others)
    return Training(name, role, configs, overrides, teachers, biased, start, digest)


def _result_digest(plan: Plan, training: Training) -> str:
    """Of one row: two plans that train the same model measure it for themselves."""
    named = {"plan": plan.name, "model": training.name, "training": training.digest}
    return digest_of({**named, "evaluate": dict(plan.evaluate)})


def _named(name: str, variant: str) -> str:
    return f"{name}@{variant}" if variant else name


def _names(cell: PlannedCell) -> set[str]:
    return {cell.training.name, cell.training.name.partition("@")[0]}


def _check_only(only: Sequence[str] | None, cells: Sequence[PlannedCell]) -> None:
    known = {name for cell in cells for name in _names(cell)}
    for name in only or ():
        if name not in known:
            raise ValueError(f"no model of the plan is called {name!r}; {nearest(name, known)}")
