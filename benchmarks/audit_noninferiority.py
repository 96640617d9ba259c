"""How often a student that falls short by the margin is called non-inferior, and a model that does is accepted.

    python -m benchmarks.audit_noninferiority [--repeats 4000] [--groups 6] [--only paired periods acceptance]

True values are exact: the student loses the margin in every group. ``size`` should be 2.5 %, ``any of …`` at most 2.5 %
after Holm; ``power`` is that of a student as good as the teacher, from every fourth repeat. Peer: a normal test that
takes every row for a patient. Arrays are compared, by the functions that :mod:`pipeline.audit.comparison` calls for the
rows of a table. ``±`` is two Monte-Carlo standard errors. 4,000 repeats take some five minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pipeline.audit.acceptance_rule import FAIL, PASS, Check, judge
from pipeline.audit.arms import Arm, auc_arm, mean_arm, proportion_arm
from pipeline.audit.comparison import LEVEL, NONINFERIOR, WORSE, Outcome, comparisons
from pipeline.audit.differences import Difference, difference_of_arms, paired_mean, paired_proportion
from pipeline.audit.findings import Measure
from pipeline.audit.intervals import proportion_interval
from pipeline.audit.statistics import Estimate, FloatArray, IntArray

Mask = NDArray[np.bool_]
Differences = dict[str, Difference]
MARGIN = 0.05
HD95_SPREAD, HD95_MARGIN = 0.6, 1.0  # of the logarithm; [mm]
KEPT = 0.5  # correlation of two models on one patient, and on one case beyond that
MIN_PATIENTS, POWER_EVERY = 10, 4
WIDTHS = {"size": 13, "any": 14, "peer": 18, "power": 14, "worse": 14}


@dataclass(frozen=True)
class Setting:
    """What is compared in each of several groups.

    Args:
        kind: ``accuracy``, ``auc``, ``dice`` or ``hd95``.
        level: of the teacher; accuracy or AUC.
        patients: of each group.
        rows: of each patient.
        icc: correlation of a patient's rows on the normal scale.
    """

    kind: str
    level: float
    patients: int
    rows: int = 1
    icc: float = 0.0

    def __str__(self) -> str:
        level = f" {self.level:.2f}" if self.level else ""
        return f"{self.kind}{level}, {self.patients} patients x {self.rows}, ICC {self.icc:.1f}"


PAIRED = [
    Setting("accuracy", 0.90, 40),
    Setting("accuracy", 0.90, 100),
    Setting("accuracy", 0.97, 100),
    Setting("accuracy", 0.80, 200),
    Setting("accuracy", 0.90, 40, 10, 0.4),
    Setting("accuracy", 0.97, 100, 3, 0.4),
    Setting("auc", 0.85, 60),
    Setting("auc", 0.97, 60),
    Setting("auc", 0.90, 40, 10, 0.4),
    Setting("dice", 0.0, 30),
    Setting("dice", 0.0, 40, 5, 0.4),
    Setting("hd95", 0.0, 40),
]
PERIODS = [
    Setting("accuracy", 0.90, 100),
    Setting("accuracy", 0.97, 60),
    Setting("accuracy", 0.90, 40, 10, 0.4),
    Setting("auc", 0.90, 60),
    Setting("dice", 0.0, 40),
]


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--groups", type=int, default=6, help="of one family")
    parser.add_argument("--only", nargs="+", choices=("paired", "periods", "acceptance"), default=None)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, repeats, groups = np.random.default_rng(arguments.seed), arguments.repeats, arguments.groups
    print(f"{repeats} repeats, {groups} groups, margin {MARGIN} ({HD95_MARGIN} mm)")
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "paired": lambda: compared("paired by patient", PAIRED, models, rng, repeats, groups),
        "periods": lambda: compared(
            "two periods, a fifth of the patients in both", PERIODS, periods, rng, repeats, groups
        ),
        "acceptance": lambda: acceptance(rng, repeats),
    }
    for name in arguments.only or parts:
        for line in parts[name]():
            print(line, flush=True)


def rate(hits: float, trials: float) -> str:
    """Per cent with two Monte-Carlo standard errors; ``trials`` are those that are independent."""
    if math.isnan(hits):
        return "–"
    share = (hits * trials + 2) / (trials + 4)  # Agresti & Coull: no certainty at 0 or all
    return f"{100 * hits:5.1f} ± {200 * math.sqrt(share * (1 - share) / (trials + 4)):.1f}"


def compared(
    title: str,
    settings: list[Setting],
    compare: Callable[[Setting, float, np.random.Generator, int], tuple[Differences, list[float]]],
    rng: np.random.Generator,
    repeats: int,
    groups: int,
) -> Iterator[str]:
    """Size at the margin, of one group and of any; of the peer; power, and false claims of a loss, without one."""
    yield f"{title:58}{'size':>13}{f'any of {groups}':>14}{'rows as patients':>18}{'power':>14}{'called worse':>14}"
    for setting in settings:
        margin, asked = HD95_MARGIN if setting.kind == "hd95" else MARGIN, outcome(setting)
        called: dict[str, float] = defaultdict(float)
        for repeat in range(repeats):
            differences, peer = compare(setting, margin, rng, groups)
            found = comparisons("first", "second", asked, differences)
            called["size"] += float(np.mean([row.p_noninferior < LEVEL for row in found]))
            called["any"] += any(row.verdict == NONINFERIOR for row in found)
            called["peer"] += float(np.mean([p < LEVEL for p in peer])) if peer else math.nan
            if repeat % POWER_EVERY == 0:
                differences, _ = compare(setting, 0.0, rng, groups)
                found = comparisons("first", "second", asked, differences)
                called["power"] += float(np.mean([row.p_noninferior < LEVEL for row in found]))
                called["worse"] += any(row.verdict == WORSE for row in found)
        equal = math.ceil(repeats / POWER_EVERY)
        cells = [("size", repeats, groups), ("any", repeats, 1), ("peer", repeats, groups)]
        cells += [("power", equal, groups), ("worse", equal, 1)]
        shown = [f"{rate(called[name] / n, n * each):>{WIDTHS[name]}}" for name, n, each in cells]
        yield f"  {setting!s:56}{''.join(shown)}"


def models(setting: Setting, loss: float, rng: np.random.Generator, groups: int) -> tuple[Differences, list[float]]:
    """Student minus teacher on the same cases, group by group; and the peer's p values."""
    patients = np.repeat(np.arange(setting.patients), setting.rows)
    labels = classes(patients)
    errors = latent(setting, patients, rng, groups)
    student, teacher = (read(setting, labels, error, lost) for error, lost in zip(errors, (loss, 0.0), strict=True))
    if setting.kind == "auc":
        arms = [[arm(setting, labels, scores, patients) for scores in model] for model in (student, teacher)]
        pairs = zip(*arms, strict=True)
        return numbered(
            difference_of_arms(*pair, n_patients=setting.patients, n_rows=len(labels)) for pair in pairs
        ), []
    compare = paired_proportion if setting.kind == "accuracy" else paired_mean
    found = numbered(compare(group, patients, min_patients=MIN_PATIENTS) for group in student - teacher)
    return found, [naive(setting, group) for group in student - teacher]


def periods(setting: Setting, loss: float, rng: np.random.Generator, groups: int) -> tuple[Differences, list[float]]:
    """After minus before, one model; a fifth of the patients came twice."""
    before = np.repeat(np.arange(setting.patients), setting.rows)
    again = np.arange(setting.patients) % 5 == 0
    after = np.where(again[before], before, before + setting.patients)
    labels, people = classes(before), len(np.union1d(before, after))
    errors = latent(setting, before, rng, groups, shared=again)
    arms = [
        [arm(setting, labels, values, codes) for values in read(setting, labels, error, lost)]
        for error, lost, codes in zip(errors, (loss, 0.0), (after, before), strict=True)
    ]
    pairs = zip(*arms, strict=True)
    return numbered(difference_of_arms(*pair, n_patients=people, n_rows=2 * len(labels)) for pair in pairs), []


def numbered(found: Iterable[Difference]) -> Differences:
    """Group -> difference."""
    return {str(group): difference for group, difference in enumerate(found)}


def arm(setting: Setting, labels: IntArray, values: FloatArray, patients: IntArray) -> Arm:
    """One model or period in one group, as the audit describes it."""
    if setting.kind == "auc":
        return auc_arm(labels, np.c_[1 - values, values], patients, min_patients=MIN_PATIENTS)
    describe = proportion_arm if setting.kind == "accuracy" else mean_arm
    return describe(values, patients, min_patients=MIN_PATIENTS)


def outcome(setting: Setting) -> Outcome:
    """What is compared, with its margin."""
    if setting.kind == "hd95":
        return Outcome("hd95", HD95_MARGIN, "lower")
    return Outcome(setting.kind, MARGIN)


def classes(patients: IntArray) -> IntArray:
    """A third of the patients are positive."""
    return np.asarray(patients % 3 == 0, dtype=np.int64)


def latent(
    setting: Setting, patients: IntArray, rng: np.random.Generator, groups: int, shared: Mask | None = None
) -> FloatArray:
    """Standard normal errors of two readings of each row, ``(2, groups, n)``.

    Rows of a patient, and readings of a case, are correlated. With ``shared``, the readings are of different cases, and
    only those patients have their part in common.
    """
    size = len(patients)
    own = rng.standard_normal((2, groups, setting.patients))
    both = KEPT * own[0] + math.sqrt(1 - KEPT**2) * own[1]
    own[1] = np.where(shared, own[0], own[1]) if shared is not None else both
    case = rng.standard_normal((2, groups, size))
    if shared is None:
        case[1] = case[0]
    weights = np.sqrt([setting.icc, (1 - setting.icc) * KEPT, (1 - setting.icc) * (1 - KEPT)])
    apart = rng.standard_normal((2, groups, size))
    return np.asarray(weights[0] * own[:, :, patients] + weights[1] * case + weights[2] * apart)


def read(setting: Setting, labels: IntArray, error: FloatArray, loss: float) -> FloatArray:
    """Right (1) or wrong (0), scores or endpoints, ``(groups, n)``, with a true value of the level less the loss."""
    if setting.kind == "accuracy":
        return np.asarray(error <= ndtri(setting.level - loss), dtype=np.float64)
    if setting.kind == "auc":
        return np.asarray(ndtr((error + math.sqrt(2) * ndtri(setting.level - loss) * labels) / 3))
    if setting.kind == "dice":
        return np.asarray(1 - 0.1 * np.exp(0.5 * error - 0.125) - loss)
    return np.asarray(np.exp(2 + HD95_SPREAD * error) + loss)


def naive(setting: Setting, difference: FloatArray) -> float:
    """P value of a normal test on the differences ``(n,)`` of rows."""
    sign, margin = (-1, HD95_MARGIN) if setting.kind == "hd95" else (1, MARGIN)
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return float(ndtr(-(sign * difference.mean() + margin) / error)) if error > 0 else 1.0


def acceptance(rng: np.random.Generator, repeats: int) -> Iterator[str]:
    """The rule of ``evenbeat accept``: verdicts by the local truth, patients in the audit and patients here.

    The local truth is the audited value less the margin; 0.9, the truth behind it, less the margin; 0.9; and 0.7.
    """
    truths = {"value - 0.05": (True, MARGIN), "truth - 0.05": (False, MARGIN), "as audited": (False, 0.0)}
    truths |= {"0.20 worse": (False, 0.20)}
    yield "accepting a model, by its truth here     " + "".join(f"{name:>28}" for name in truths)
    yield f"  {'audited':>8}{'here':>8}{'':23}" + f"{'passes':>14}{'fails':>14}" * len(truths)
    for audited_patients in (40, 100, 400):
        for patients in (30, 100, 400):
            cells = ""
            for of_value, loss in truths.values():
                called = Counter[str]()
                for _ in range(repeats):
                    audited = share(draw(0.9, audited_patients, rng))
                    truth = (audited.value if of_value else 0.9) - loss
                    called[judged(draw(truth, patients, rng), audited).verdict] += 1
                cells += "".join(f"{rate(called[verdict] / repeats, repeats):>14}" for verdict in (PASS, FAIL))
            yield f"  {audited_patients:>8}{patients:>8}{'':23}{cells}"
    yield from collected(rng, repeats)


def collected(rng: np.random.Generator, repeats: int) -> Iterator[str]:
    """Thirty patients first; after ``too few`` as many more as were said to be needed, once, and the rule again."""
    for loss in (0.0, MARGIN):
        passed, added = 0, []
        for _ in range(repeats):
            audited = share(draw(0.9, 200, rng))
            right = draw(audited.value - loss, 30, rng)
            check = judged(right, audited)
            if check.missing:
                added.append(check.missing)
                check = judged(np.r_[right, draw(audited.value - loss, check.missing, rng)], audited)
            passed += check.verdict == PASS
        yield (
            f"  30 patients, then as many more as needed (median {np.median(added or [0]):.0f}), at the value less "
            f"{loss:.2f}: passes {rate(passed / repeats, repeats)}"
        )


def judged(right: FloatArray, audited: Estimate) -> Check:
    """The check of one group."""
    measure = Measure("accuracy", "Accuracy")
    return judge("a", "a", share(right), audited, measure=measure, margin=MARGIN, least=MIN_PATIENTS)


def draw(truth: float, patients: int, rng: np.random.Generator) -> FloatArray:
    """Right (1) or wrong (0), one row per patient."""
    return (rng.random(patients) < truth).astype(np.float64)


def share(right: FloatArray) -> Estimate:
    """The audit's interval."""
    return proportion_interval(right, np.arange(len(right)), min_patients=MIN_PATIENTS)


if __name__ == "__main__":
    main()
