"""The sentences of the summary: what is known, how surely, and what is not."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from pipeline.audit.findings import Audit
from pipeline.audit.statistics import Estimate
from pipeline.audit.summary import all_digits, summaries, unknown
from pipeline.audit.words import Digits, digits_of
from tests.audit.made import ACCURACY, AUC, DICE, HD95, made_audit


@pytest.fixture(scope="module")
def audit() -> Audit:
    """Two models, three vendors, two measures."""
    vendors = {"GE": 30, "Siemens": 40, "UIH": 3}
    return made_audit({"vendor": vendors}, models=("teacher", "student"), measures=(ACCURACY, HD95))


def answer(audit: Audit, model: str, lead: str) -> str:
    """What is said of one model to one question."""
    found = next(summary for summary in summaries(audit) if summary.model == model)
    return " ".join(next(point.answers for point in found.points if point.lead == lead))


def test_measures_with_one_answer_are_told_together(audit: Audit) -> None:
    """Both above 0.05, then one below it, then one that could not be tested."""
    p = {"accuracy": 0.4, "hd95_mm": 0.2}
    rows = [replace(row, effect=replace(row.effect, p=p[row.measure])) for row in audit.effects]
    both = replace(audit, effects=rows)
    said = answer(both, "student", "Any effect of vendor?")
    assert said == "Accuracy and HD95: no difference shown (p = 0.40, 0.20)."
    one = [replace(r, effect=replace(r.effect, p=0.0004 if r.measure == "hd95_mm" else 0.4)) for r in rows]
    said = answer(replace(audit, effects=one), "student", "Any effect of vendor?")
    assert said == "Accuracy: no difference shown (p = 0.40). HD95 differs between groups (p < 0.001)."
    none = [replace(r, effect=replace(r.effect, p=math.nan, reason="every patient has the same value")) for r in rows]
    said = answer(replace(audit, effects=none), "student", "Any effect of vendor?")
    assert said == "Accuracy and HD95: not tested, every patient has the same value."


@pytest.mark.parametrize(("frequency", "said"), [(0.62, "another could well be"), (0.97, "settled by these patients")])
def test_the_worst_group_is_called_settled_only_if_nearly_every_draw_agrees(
    audit: Audit, frequency: float, said: str
) -> None:
    """From nine draws in ten."""
    rows = [
        replace(row, worst=replace(row.worst, frequency=frequency), interval=Estimate(30, 30, 0.7, 0.5, 0.8, "x"))
        for row in audit.worst
        if row.worst
    ]
    text = answer(replace(audit, worst=rows), "teacher", "Worst by vendor")
    assert "Whichever is truly the worst, its value lies in 0.50 to 0.80." in text
    assert f"of draws: {said}." in text


def test_with_too_few_groups_no_worst_one_is_named(audit: Audit) -> None:
    """Nor a verdict on what was not compared."""
    rows = [replace(row, worst=None, interval=None) for row in audit.worst]
    text = answer(replace(audit, worst=rows), "teacher", "Worst by vendor")
    assert text == "Not named: fewer than two groups have the patients to be compared."


def test_verdicts_name_their_margin_and_their_groups(audit: Audit) -> None:
    """The reference has none of its own; without a margin nothing is called non-inferior."""
    text = answer(audit, "student", "Against teacher, by vendor")
    assert text.startswith("Accuracy (margin 0.05): ")
    assert "HD95 (margin 1.00\u00a0mm): " in text
    assert "not estimable on UIH" in text
    assert not [p for s in summaries(audit) if s.model == "teacher" for p in s.points if "Against" in p.lead]
    free = replace(audit, measures=tuple(replace(measure, margin=None) for measure in audit.measures))
    rows = [
        replace(row, comparison=replace(row.comparison, p_noninferior_adjusted=math.nan, p_worse_adjusted=0.4))
        for row in audit.differences
    ]
    text = answer(replace(free, differences=rows), "student", "Against teacher")
    assert text == "Accuracy (no margin): not shown to be worse. HD95 (no margin): not shown to be worse."


def test_what_cannot_be_said_is_said(audit: Audit) -> None:
    """Groups without an interval with their patients; the gaps that would have gone unseen."""
    (point,) = unknown(audit)
    assert point.answers[0] == "No interval for UIH (too few patients: 3)."
    gaps = [
        row.smallest_gap.gap
        for row in audit.contrasts
        if row.measure == "accuracy" and math.isfinite(row.smallest_gap.gap)
    ]
    assert len({row.model for row in audit.contrasts}) == 2
    ends = re.fullmatch(
        r"Accuracy: gaps below (.*) on .* to (.*) on .* would probably have gone unseen\.", point.answers[1]
    )
    assert ends is not None
    assert ends.groups() == (f"{min(gaps):.2f}", f"{max(gaps):.2f}")
    complete = made_audit({"sex": {"F": 30, "M": 40}}, models=("ours",), measures=(DICE,))
    assert unknown(complete)[0].answers[0] == "Every group has an interval."


def test_digits_suit_the_size_of_the_values() -> None:
    """Two for a share, three figures or so for the rest."""

    def of(value: float) -> Digits:
        return digits_of(HD95, [Estimate(9, 9, value), Estimate(0, 0)])

    assert [of(value).decimals for value in (0.88, 7.5, 42.0, 1200.0)] == [3, 2, 1, 0]
    assert digits_of(AUC, [Estimate(9, 9, 0.5)]) == Digits(2, "")
    assert of(7.5).with_unit(7.456) == "7.46\u00a0mm"
    assert Digits(2).signed(-0.126) == "−0.13"
    assert Digits(2).value(math.nan) == "–"


def test_the_digits_of_every_measure_are_known(audit: Audit) -> None:
    """By name."""
    assert set(all_digits(audit)) == {"accuracy", "hd95_mm"}
