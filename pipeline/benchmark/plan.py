"""Plans: which models are compared, on which cohorts, over which seeds, with which budget.

A plan is a YAML file; ``plans/quick.yaml`` shows every part. :func:`read_plan` refuses what it does not know.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.benchmark.evaluate import check_evaluate
from pipeline.benchmark.plan_fields import at_least_one, mapping, named, needed, plain_name, texts, typed
from pipeline.cohort.validation import nearest

Role = Literal["teacher", "student"]
ROLES: tuple[Role, ...] = ("teacher", "student")
BUNDLES: Mapping[str, str] = {"teacher": "cardiac_cine_teacher", "student": "cardiac_cine_student"}
SHIPPED = Path(__file__).parent / "plans"
QUICK = "quick"

_PARTS = ("budget", "teachers", "models", "variants", "evaluate")
_KEYS = {
    "plan": ("name", "question", "cohort", "dials", "seeds", "folds", "no_choice", "contrasts", *_PARTS),
    "cohort": ("kind", "settings"),
    "teachers": ("overlays", "overrides", "each", "start", "measure"),
    "models": ("overlays", "overrides", "teachers", "biased", "seeds"),
    "each": ("overrides", "seed_offset"),
}


@dataclass(frozen=True)
class TeacherPlan:
    """One teacher, or several that differ in a few overrides.

    Args:
        name: of the teacher; with several members they are ``name-0``, ``name-1``, …
        overlays: config files of the bundle, beside ``train.yaml``.
        overrides: keys of the bundle's config, for every member.
        each: one mapping per member: its own overrides.
        seed_offsets: one per member, added to the seed of the run.
        start: name of the teacher, one without members, whose weights training starts from.
        measure: whether its members get rows of their own among the results.
    """

    name: str
    overlays: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    each: tuple[Mapping[str, Any], ...] = ({},)
    seed_offsets: tuple[int, ...] = (0,)
    start: str | None = None
    measure: bool = False

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members, in order."""
        return (self.name,) if len(self.each) == 1 else tuple(f"{self.name}-{k}" for k in range(len(self.each)))


@dataclass(frozen=True)
class ModelPlan:
    """One student.

    Args:
        name: of the method.
        overlays: config files of the bundle, beside ``train.yaml``.
        overrides: keys of the bundle's config.
        teachers: names of teachers, all members of which it learns from, in order; none leaves the choice to the
            overlays.
        biased: name of the teacher that weights point away from.
        seeds: the only ones of the plan's that it is trained with; None for all.
    """

    name: str
    overlays: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    teachers: tuple[str, ...] = ()
    biased: str | None = None
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Plan:
    """A comparison: every model on every cohort, seed and fold.

    Args:
        name: of the plan.
        question: the sentence that it answers.
        kind: of the cohort: ``phantom``, ``acdc`` or ``digits``.
        settings: of the cohort, see :mod:`pipeline.benchmark.cohorts`.
        dials: combinations of settings, each a cohort of its own.
        seeds: each draws a cohort and trains every model on it.
        folds: parts of a cross-validation; 1 for none.
        budget: overrides of every training, by role.
        teachers: by name.
        models: by name.
        variants: by name, overrides by role: every model is trained in every variant, as ``model@variant``.
        evaluate: what is measured, see :func:`pipeline.benchmark.evaluate.check_evaluate`.
        no_choice: why no student may be chosen by these results; empty where one may.
        contrasts: pairs of models whose difference is a step of interest, with what the step is.
    """

    name: str
    question: str
    kind: str
    settings: Mapping[str, Any]
    dials: tuple[Mapping[str, Any], ...]
    seeds: tuple[int, ...]
    folds: int
    budget: Mapping[str, Mapping[str, Any]]
    teachers: Mapping[str, TeacherPlan]
    models: Mapping[str, ModelPlan]
    variants: Mapping[str, Mapping[str, Mapping[str, Any]]]
    evaluate: Mapping[str, Any]
    no_choice: str = ""
    contrasts: tuple[tuple[str, str, str], ...] = ()

    def asks(self, model: str, seed: int) -> bool:
        """False if a model, with or without its variant, has seeds of its own and this other seed of the plan's."""
        own = self.models[model.partition("@")[0]].seeds if model.partition("@")[0] in self.models else None
        return own is None or seed in own or seed not in self.seeds


def shipped_plans() -> dict[str, Path]:
    """Plans that came with this installation, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def find_plans(names: Sequence[str]) -> list[Plan]:
    """Read plans by the name of a shipped one, or by the path of a YAML file.

    Raises:
        ValueError: if a name is neither, or two plans have the same name.
    """
    shipped, plans = shipped_plans(), []
    for name in names:
        if name not in shipped and not Path(name).is_file():
            raise ValueError(f"a plan is a shipped one or a YAML file, got {name!r}; {nearest(name, shipped)}")
        plans.append(read_plan(shipped.get(name, Path(name))))
    twice = sorted({plan.name for plan in plans if sum(other.name == plan.name for other in plans) > 1})
    if twice:
        raise ValueError(f"plans must have different names; {', '.join(twice)} came twice; name each once")
    return plans


def read_plan(path: str | Path) -> Plan:
    """Read and validate a plan.

    Args:
        path: YAML file.

    Raises:
        ValueError: if a rule is broken; the message names the file, the place, what came and what to do.
    """
    try:
        return plan_of(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error


def plan_of(raw: object) -> Plan:
    """Validate a decoded plan.

    Raises:
        ValueError: if a rule is broken.
    """
    plan = mapping(raw, "plan", _KEYS["plan"])
    cohort = mapping(needed(plan, "cohort"), "cohort", _KEYS["cohort"])
    teachers = {name: _teacher(name, given) for name, given in named(plan, "teachers").items()}
    _check_starts(teachers)
    seeds = seeds_of(needed(plan, "seeds"))
    models = {name: _model(name, given, teachers, seeds) for name, given in named(plan, "models").items()}
    if not models and not any(teacher.measure for teacher in teachers.values()):
        raise ValueError("a plan must measure something; it has no models; add one, or `measure: true` to a teacher")
    evaluate = typed(plan.get("evaluate", {}), dict, "evaluate")
    check_evaluate(evaluate)
    both = sorted({member for teacher in teachers.values() for member in teacher.members} & set(models))
    if both:
        raise ValueError(f"models and teachers must have different names; {both} are both; rename the models")
    return Plan(
        name=plain_name(typed(needed(plan, "name"), str, "name"), "name"),
        question=typed(needed(plan, "question"), str, "question"),
        kind=typed(needed(cohort, "kind"), str, "cohort: kind"),
        settings=typed(cohort.get("settings", {}), dict, "cohort: settings"),
        dials=dial_points(plan.get("dials", {})),
        seeds=seeds,
        folds=at_least_one(plan.get("folds", 1), "folds"),
        budget=_by_role(plan.get("budget", {}), "budget"),
        teachers=teachers,
        models=models,
        variants={name: _by_role(given, f"variants: {name}") for name, given in named(plan, "variants").items()}
        or {"": _by_role({}, "variants")},
        evaluate=evaluate,
        no_choice=typed(plan.get("no_choice", ""), str, "no_choice"),
        contrasts=_contrasts(plan.get("contrasts", []), [*models, *(m for t in teachers.values() for m in t.members)]),
    )


def dial_points(dials: object) -> tuple[Mapping[str, Any], ...]:
    """Combinations of dials: of a mapping of lists every combination, of a list of mappings each as it stands.

    Raises:
        ValueError: if it is neither, or a dial has no value.

    Example:
        >>> dial_points({"confounding": [0, 1], "strength": [2]})
        ({'confounding': 0, 'strength': 2}, {'confounding': 1, 'strength': 2})
    """
    if isinstance(dials, list) and dials and all(isinstance(point, dict) for point in dials):
        return tuple(dials)
    if isinstance(dials, dict) and all(isinstance(values, list) and values for values in dials.values()):
        return tuple(dict(zip(dials, point, strict=True)) for point in itertools.product(*dials.values()))
    raise ValueError(f"dials must be a mapping of lists with values, or a list of mappings; got {dials!r}")


def seeds_of(text: object) -> tuple[int, ...]:
    """Seeds from ``7``, ``"0-9"`` or ``"0,3,5-7"``.

    Raises:
        ValueError: if it is none of these.

    Example:
        >>> seeds_of("0,3,5-7")
        (0, 3, 5, 6, 7)
    """
    parts = [re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part) for part in str(text).split(",")]
    seeds = [seed for part in parts if part for seed in range(int(part[1]), int(part[2] or part[1]) + 1)]
    if None in parts or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be whole numbers like '0-9' or '0,3,5', each once; got {text!r}")
    return tuple(seeds)


def _teacher(name: str, given: object) -> TeacherPlan:
    raw = mapping(given, f"teachers: {name}", _KEYS["teachers"])
    members = typed(raw.get("each", [{}]), list, f"teachers: {name}: each")
    if not members:
        raise ValueError(f"teachers: {name}: each must have a member; got an empty list; add one, or leave it out")
    each = [mapping(member, f"teachers: {name}: each", _KEYS["each"]) for member in members]
    return TeacherPlan(
        name=name,
        overlays=texts(raw.get("overlays", []), f"teachers: {name}: overlays"),
        overrides=typed(raw.get("overrides", {}), dict, f"teachers: {name}: overrides"),
        each=tuple(typed(m.get("overrides", {}), dict, f"teachers: {name}: each: overrides") for m in each),
        seed_offsets=tuple(typed(m.get("seed_offset", 0), int, f"teachers: {name}: each: seed_offset") for m in each),
        start=raw.get("start"),
        measure=typed(raw.get("measure", False), bool, f"teachers: {name}: measure"),
    )


def _check_starts(teachers: Mapping[str, TeacherPlan]) -> None:
    for name, teacher in teachers.items():
        if teacher.start is None:
            continue
        before = [other.name for other in teachers.values() if other.start is None and len(other.each) == 1]
        if teacher.start not in before:
            raise ValueError(
                f"teachers: {name}: start must be a teacher without members that starts from no other, "
                f"got {teacher.start!r}; {nearest(str(teacher.start), before)}"
            )


def _model(name: str, given: object, teachers: Iterable[str], seeds: Sequence[int]) -> ModelPlan:
    raw = mapping(given, f"models: {name}", _KEYS["models"])
    model = ModelPlan(
        name=name,
        overlays=texts(raw.get("overlays", []), f"models: {name}: overlays"),
        overrides=typed(raw.get("overrides", {}), dict, f"models: {name}: overrides"),
        teachers=texts(raw.get("teachers", []), f"models: {name}: teachers"),
        biased=raw.get("biased"),
        seeds=seeds_of(raw["seeds"]) if "seeds" in raw else None,
    )
    foreign = sorted(set(model.seeds or ()) - set(seeds))
    if foreign:
        raise ValueError(f"models: {name}: seeds must be among the plan's; {foreign} are not; leave them out")
    for teacher in (*model.teachers, *([model.biased] if model.biased is not None else [])):
        if teacher not in teachers:
            raise ValueError(f"models: {name}: no teacher is called {teacher!r}; {nearest(str(teacher), teachers)}")
    return model


def _contrasts(raw: object, models: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    found = []
    for given in typed(raw, list, "contrasts"):
        if not isinstance(given, list) or len(given) != 3:
            raise ValueError(f"contrasts: each is two models and what the step is; got {given!r}; write [a, b, words]")
        one, other, words = texts(given, "contrasts")
        for name in (one, other):
            if name not in models:
                raise ValueError(f"contrasts: no model is called {name!r}; {nearest(name, models)}")
        found.append((one, other, words))
    return tuple(found)


def _by_role(raw: object, place: str) -> dict[str, dict[str, Any]]:
    given = mapping(raw, place, ROLES)
    return {role: typed(given.get(role, {}), dict, f"{place}: {role}") for role in ROLES}
