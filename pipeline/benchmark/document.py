"""The page: what was compared, by which rules, and what came out, written from the three tables alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.benchmark.analysis import AUC_REPLICATES, REPLICATES
from pipeline.benchmark.cells import planned_digests
from pipeline.benchmark.plan import BUNDLES, Plan, TeacherPlan, find_plans, shipped_plans
from pipeline.benchmark.reading import Measurement, latest, read_measurements
from pipeline.benchmark.sections import Section, methods_section
from pipeline.benchmark.sweeps import regimes_section, robustness_section, sizes_section
from pipeline.benchmark.tables import markdown
from pipeline.bundles import bundle_folders
from pipeline.files import atomic_path

TITLES = {
    "headline": "Methods, on the phantom",
    "unseen": "Scanners that training never saw, on the phantom",
    "acdc": "Methods, on real hearts",
    "digits": "Methods, on digits",
    "regimes_phantom": "Where group weights help, on the phantom",
    "regimes_phantom_confirmed": "The same on fresh seeds, on the phantom",
    "regimes_digits": "Where group weights help, on digits",
    "regimes_digits_confirmed": "The same on fresh seeds, on digits",
    "sizes": "Size of the student",
    "robustness": "Wrong labels and adversarial noise",
}
KINDS: Mapping[str, Callable[[Section], str]] = {
    "regimes": regimes_section,
    "sizes": sizes_section,
    "robustness": robustness_section,
}
COHORTS = {
    "phantom": "Synthetic beating hearts, scanned by simulated scanners.",
    "acdc": "Real hearts (ACDC) under simulated scanners, tested by cross-validation over patients.",
    "digits": "Handwritten digits on backgrounds that go with the digit in training.",
}
HEAD = """\
# Benchmark

Written by `evenbeat benchmark` from `results.csv`, `predictions.csv` and `test_sets.csv`; every number can be computed
from these three again.
"""
RULES = f"""\
**How models were chosen.** Every run keeps its last epoch. The student to take is the one with the highest value in
the column *choice*, the best baseline the one so chosen with GroupDistil aside. *Choice* is the accuracy in the worst
group of development patients, who are in no other section of their seed; where a cohort has none to spare, it is the
mean worst-group accuracy on validation, and models that learned from validation, or whose teachers did, have no
choice. A model that has fewer seeds than `kd` is compared with others on its own and cannot be taken. Nothing was
chosen, given up or stopped for what it did on test data; what is said of a map of settings was seen on test data
first, and the section *on fresh seeds* is its test. There, the models that join `dfr` with balanced draws or group
weights were added after the others had been seen on these seeds: they have had no such test. On digits, where seeds
draw from the same 1,797 handwritten ones, a digit that is tested in one seed may validate in another.

**How to read the numbers.**

- Values are means over seeds. The worst group is the one whose mean accuracy over seeds is lowest; likewise the worst
  group x class. Gap: best minus worst group. AUC: one class against the rest, mean over classes, lowest group.
  ECE: 15 bins of equal width. Probe: balanced accuracy with which a linear classifier tells the group from the model's
  features; by chance it is one over the number of groups.
- *Validation labels* beside a model: it, or a teacher of its, learned from the labels of the validation studies, too,
  which are not among the training studies that stand above the table.
- Tables and figures are in the order of the worst group's accuracy on test data. Neighbours seldom differ: read the
  differences.
- Brackets are 95 % intervals from {REPLICATES:,} draws of seeds *and* patients ({AUC_REPLICATES} for AUC); in each draw
  the worst group is found anew. Patients are drawn inside each class and set of groups: one that was seen under
  several scanners comes with all studies. Intervals of the probe and of attacks are Student's, over seeds alone. Draws
  of three or five seeds say too little of how seeds differ: such intervals are too narrow, and one that barely excludes
  0 shows little. Where seeds are cross-validations, folds share training patients, which no interval here accounts for.
  With a single seed intervals are over patients alone. An interval without width says that nothing varied, not that
  the value is sure.
- The lowest of several groups lies below the truth by noise, the smaller the groups the more; gap and ECE lie above it.
  The intervals correct for it, the values do not; so a value may stand at an end of its interval. Compare models, not
  with 1.
- Differences are in points (hundredths), on the same seeds and the same draws, in bold where the interval, as it is
  printed, excludes 0. They are not corrected for the number of comparisons: of twenty methods that are all alike, one
  or more would be in bold.
"""


def write_document(
    results_dir: str | Path,
    out: str | Path,
    *,
    plans: Sequence[Plan] | None = None,
    planned: Callable[[Plan, Sequence[int]], Set[str]] = planned_digests,
) -> None:
    """Write the page and its figures.

    Results that a plan would not make today, as its settings, the bundles' or ``METHOD_VERSION`` have changed, are left
    out, and counted.

    Args:
        results_dir: folder of the three tables; figures are put there, too.
        out: the Markdown file.
        plans: tell the question and how much belongs to a plan; the shipped ones if None. A plan that is not among
            them is described from its rows.
        planned: digests of the results of a plan with some seeds.

    Raises:
        FileNotFoundError: if a table is not there.
        ValueError: if the tables do not agree with each other, or are empty.
    """
    known = {plan.name: plan for plan in (find_plans(list(shipped_plans())) if plans is None else plans)}
    parts: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in read_measurements(results_dir):
        parts[measurement.cell.plan].append(measurement)
    if not parts:
        raise ValueError(f"a page needs results; {results_dir} has none; run a plan first: evenbeat benchmark")
    present = [known.get(name) or _plan_of_rows(name, parts[name]) for name in sorted(parts, key=_place)]
    texts: list[str] = []
    contents: list[tuple[Plan, Sequence[Measurement]]] = []
    for plan in tqdm(present, desc="page", unit="plan"):
        found = parts[plan.name]
        current = planned(plan, sorted({m.cell.seed for m in found})) if plan.name in known else None
        kept, outdated = latest(found, current)
        contents.append((plan, kept))
        if not kept:
            texts.append(f"## {_title(plan)}\n\n{_outdated(outdated)} Run the plan again.\n")
            continue
        section = Section(plan, kept, Path(results_dir), Path(out).parent, outdated=outdated)
        body = KINDS.get(plan.name.partition("_")[0], methods_section)(section)
        texts.append("\n\n".join([_opening(section), *_legend(plan), body]) + "\n")
    with atomic_path(out) as temporary:
        temporary.write_text("\n".join([HEAD, _contents(contents), RULES, *texts]), encoding="utf-8")


def _plan_of_rows(name: str, measurements: Sequence[Measurement]) -> Plan:
    """Stand in for a plan that is not at hand: what was run is taken for all there is."""
    cells = [measurement.cell for measurement in measurements]
    dials = {repr(sorted(cell.dials.items())): cell.dials for cell in cells}
    return Plan(
        name=name,
        question="This plan's file is not at hand: whether all of it was run cannot be said.",
        kind=cells[0].cohort,
        settings={},
        dials=tuple(dials.values()),
        seeds=tuple(sorted({cell.seed for cell in cells})),
        folds=len({cell.fold for cell in cells}),
        budget={},
        teachers={},
        models={},
        variants={},
        evaluate={},
    )


def _contents(plans: Sequence[tuple[Plan, Sequence[Measurement]]]) -> str:
    """What the page asks, where it answers, and how long the models took."""
    rows = [
        [
            f"[{_title(plan)}](#{_anchor(_title(plan))})",
            " ".join(plan.question.split()),
            f"{len(found):,}",
            _hours(found),
        ]
        for plan, found in plans
    ]
    every = [measurement for _, found in plans for measurement in found]
    rows += [["together", "", f"{len(every):,}", _hours(every)]]
    return markdown(["section", "question", "models", "core-hours"], rows, left=2) + "\n"


def _hours(measurements: Sequence[Measurement]) -> str:
    return f"{sum(measurement.cell.seconds for measurement in measurements) / 3600:.1f}"


def _anchor(title: str) -> str:
    """What a heading is linked by in rendered Markdown."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _place(name: str) -> tuple[int, str]:
    return (list(TITLES).index(name) if name in TITLES else len(TITLES), name)


def _opening(section: Section) -> str:
    """Question, cohort, budget and how much of the plan is there."""
    plan, cells = section.plan, [m.cell for m in section.measurements]
    tests = {m.held_out.digest: m.held_out for m in section.measurements}
    any_test = next(iter(tests.values()))
    patients = len(np.unique(np.concatenate([test.patients for test in tests.values()])))
    same = len(tests) == 1 or plan.folds > 1
    n_training = sorted({cell.n_training for cell in cells})
    done, seeds = len(section.whole_seeds), len(plan.seeds)
    budget = [f"{role} {_listed(given)}" for role, given in plan.budget.items() if given]
    lacking = bool(section.absent)
    lines = [
        f"{COHORTS.get(plan.kind, '')} Groups: {', '.join(any_test.groups)}; classes: {', '.join(any_test.classes)}; "
        f"{_range(n_training)} training studies; {patients} test patients{', the same for every seed' * same}.",
        *([f"Cohort: {_listed(plan.settings)}."] if plan.settings else []),
        *([f"Budget: {'; '.join(budget)}."] if budget else []),
        *([f"**Incomplete: no result yet, or not with every setting, of {', '.join(section.absent)}.**"] * lacking),
        f"**Incomplete: {done} of {seeds} seeds.**" if done < seeds else f"{seeds} of {seeds} seeds.",
        *([_outdated(section.outdated)] if section.outdated else []),
        f"{len(cells):,} models in {_hours(section.measurements)} core-hours, teachers without a row not counted.",
    ]
    folds = f" Each seed is a cross-validation in {plan.folds} folds, pooled." if plan.folds > 1 else ""
    return f"## {_title(plan)}\n\n*{plan.question.strip()}*\n\n" + "\n".join(lines) + folds


def _title(plan: Plan) -> str:
    return TITLES.get(plan.name, plan.name)


def _outdated(rows: int) -> str:
    return f"**{rows} results are left out: the plan and the bundles' settings as they are today would not make them.**"


def _legend(plan: Plan) -> list[str]:
    """What the models' names stand for, to be unfolded."""
    rows = [
        [f"{teacher.name} (teacher)", _stems(teacher.overlays), _listed(teacher.overrides), _members(teacher)]
        for teacher in plan.teachers.values()
    ]
    for model in plan.models.values():
        away = [f"away from {model.biased}"] if model.biased else []
        rows += [[model.name, _stems(model.overlays), _listed(model.overrides), ", ".join([*model.teachers, *away])]]
    if not rows:
        return []
    table = markdown(["model", "overlays", "overrides", "learns from"], rows, left=4)
    used = sorted(
        {("student", overlay) for model in plan.models.values() for overlay in model.overlays}
        | {("teacher", overlay) for teacher in plan.teachers.values() for overlay in teacher.overlays}
    )
    words = markdown(
        ["overlay", "of a", "what it does"], [[Path(o).stem, role, _purpose(role, o)] for role, o in used], left=3
    )
    overlays = [words] if used else []
    return ["\n\n".join(["<details><summary>What the names stand for</summary>", table, *overlays, "</details>"])]


def _purpose(role: str, overlay: str) -> str:
    """First line of an overlay, which says what it does."""
    path = bundle_folders()[BUNDLES[role]] / "configs" / overlay
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


def _stems(overlays: Sequence[str]) -> str:
    return " + ".join(Path(overlay).stem for overlay in overlays)


def _members(teacher: TeacherPlan) -> str:
    start = [f"goes on from {teacher.start}"] if teacher.start else []
    said = [
        _listed(given | ({"seed": f"the run's + {offset}"} if any(teacher.seed_offsets) else {}))
        for given, offset in zip(map(dict, teacher.each), teacher.seed_offsets, strict=True)
    ]
    each = [f"{len(said)} of them: {'; '.join(said)}"] if len(said) > 1 else []
    return ". ".join(start + each)


def _listed(given: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}: {value}`" for name, value in given.items())


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
