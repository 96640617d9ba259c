"""Local studies against an audit: the rule, its errors, how many are missing, and what is read and written."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from pipeline.audit.acceptance import Acceptance, accept
from pipeline.audit.acceptance_page import as_json, console_lines, headline, render, write_acceptance
from pipeline.audit.acceptance_rule import bounds_of, judge, margin_of, note_on_width
from pipeline.audit.audited import Audited, AuditError, read_audited
from pipeline.audit.local_studies import read_local
from pipeline.audit.records import as_json as audit_record
from pipeline.audit.statistics import Estimate
from pipeline.tracking.predictions import PredictionsError, write_predictions
from tests.audit.hospital import ACCURACY, HD95, row, share, studies, write_audit
from tests.audit.made import made_audit


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """See :func:`write_audit`."""
    return write_audit(tmp_path)


def accepted(frame: pd.DataFrame, audited: Audited, **options: Any) -> Acceptance:
    return accept(frame, audited, ACCURACY, **({"column": "vendor"} | options))


@pytest.mark.parametrize(
    ("right", "wrong", "verdict", "missing"),
    [(95, 5, "pass", None), (60, 40, "fail", None), (27, 3, "too few", 284)],
)
def test_each_verdict_comes_from_what_the_studies_show(
    audit: Path, right: int, wrong: int, verdict: str, missing: int | None
) -> None:
    """Audited 0.90 (0.851 to 0.935) and a margin of 0.05: passes above 0.85, fails below 0.801.

    95 of 100 have Wilson's 0.888 to 0.978, 60 of 100 have 0.502 to 0.691. As audited, 0.9 against 0.85 takes
    (2.8016 / 0.05)^2 * 0.85 * 0.15 = 400.3 patients; 30 are here, 371 are missing.
    """
    (check,) = accepted(studies(right, wrong), read_audited(audit)).checks
    assert (check.bounds.goal, round(check.bounds.floor, 3)) == (0.85, 0.801)
    assert check.verdict == verdict
    needed = math.ceil((2.801585 / 0.05) ** 2 * 0.85 * 0.15)
    assert check.missing == (None if missing is None else needed - 30)
    assert (check.local.low, check.local.high) == pytest.approx(
        proportion_confint(right, right + wrong, method="wilson"), abs=1e-9
    )


def test_a_pass_is_the_one_sided_score_test_of_the_goal(audit: Path) -> None:
    """Oracle: z of the share against the goal, for every number right of 150."""
    audited = read_audited(audit)
    for right in range(120, 150):
        verdict = accepted(studies(right, 150 - right), audited).verdict
        z = (right / 150 - 0.85) / math.sqrt(0.85 * 0.15 / 150)
        assert (verdict == "pass") == (z > 1.959964), right


def test_a_model_at_the_margin_passes_in_one_of_forty_and_one_as_audited_in_four_of_five(audit: Path) -> None:
    """Exactly, from the binomial: at the number of patients that the command asks for, and at 60 and 150."""
    audited = read_audited(audit).find("vendor", "Siemens", "accuracy")
    assert audited is not None

    def chance(n: int, truth: float, verdict: str) -> float:
        found = [
            judge("Siemens", "Siemens", share(k, n), audited, measure=ACCURACY, margin=0.05, least=10).verdict
            for k in range(n + 1)
        ]
        return float(sum(binom.pmf(k, n, truth) for k in range(n + 1) if found[k] == verdict))

    for n in (60, 150):
        assert chance(n, 0.85, "pass") < 0.04
        assert chance(n, 0.90, "fail") < 0.001
    first = judge("Siemens", "Siemens", share(27, 30), audited, measure=ACCURACY, margin=0.05, least=10)
    assert first.missing is not None
    assert 0.8 < chance(30 + first.missing, 0.90, "pass") < 0.92


def test_slices_of_a_patient_do_not_make_patients(audit: Path) -> None:
    """100 patients of one row pass; ten patients of ten equal rows do not, and as many are missing as for ten rows."""
    audited = read_audited(audit)
    assert accepted(studies(96, 4), audited).verdict == "pass"
    (clustered,) = accepted(studies(10, 0, rows=10), audited).checks
    (single,) = accepted(studies(10, 0), audited).checks
    assert (clustered.verdict, clustered.local.n_patients, clustered.local.n_rows) == ("too few", 10, 100)
    assert clustered.missing == single.missing


def test_all_groups_must_pass_and_one_that_fails_decides(audit: Path) -> None:
    audited = read_audited(audit)
    good, bad, few = studies(190, 10), studies(50, 50, "GE"), studies(9, 1, "GE")
    both = accepted(pd.concat([good, studies(170, 20, "GE")], ignore_index=True), audited)
    assert (both.verdict, both.missing, headline(both)) == ("pass", 0, "Pass")
    assert accepted(pd.concat([good, bad], ignore_index=True), audited).verdict == "fail"
    third = accepted(pd.concat([good, few], ignore_index=True), audited)
    assert (third.verdict, third.missing) == ("too few", third.checks[0].missing)
    assert headline(third) == f"Too few studies to tell: {third.missing} more patients needed"


@pytest.mark.parametrize("vendor", ["Canon", "UIH", "Hitachi", "unknown"])
def test_a_scanner_without_an_audited_interval_is_compared_with_all_and_that_is_said(audit: Path, vendor: str) -> None:
    """Four patients, none, not listed, and not known."""
    found = accepted(studies(38, 2, vendor), read_audited(audit))
    assert found.checks[0].standard == "all"
    assert found.checks[0].audited.n_patients == 404
    assert "compared with all audited patients" in found.notes[0]
    assert found.notes[0] in render(found).replace("&#39;", "'") or vendor == "unknown"


def test_an_audit_that_is_less_sure_than_the_margin_is_said() -> None:
    """0.9 of 40 patients reaches down to 0.77, below the goal of 0.85; 0.9 of 400 does not."""
    few, many = (
        judge("GE", "GE", share(95, 100), share(9 * n // 10, n), measure=ACCURACY, margin=0.05, least=10)
        for n in (40, 400)
    )
    assert "that was audited on GE rests on 40 patients" in str(note_on_width(few, ACCURACY))
    assert note_on_width(many, ACCURACY) is None


def test_between_the_bounds_no_number_of_local_patients_is_promised() -> None:
    """Audited 0.9 by 40 patients: 0.82 of 1,000 patients is surely below 0.85 and not below 0.769 - 0.05."""
    check = judge("GE", "GE", share(820, 1000), share(36, 40), measure=ACCURACY, margin=0.05, least=10)
    assert (check.verdict, check.missing) == ("too few", None)
    assert "more audited patients" in str(check.reason)
    none = judge("GE", "all", share(82, 100), share(3, 3), measure=ACCURACY, margin=0.05, least=10)
    assert (none.verdict, none.reason) == ("too few", "the audit has no interval to compare with")


def test_where_there_are_enough_as_audited_the_number_follows_what_is_seen_here() -> None:
    """870 of 1,000 pass nothing against a goal of 0.85; 0.87 takes more than the 401 of 0.90."""
    check = judge("GE", "GE", share(870, 1000), share(1800, 2000), measure=ACCURACY, margin=0.05, least=10)
    needed = (2.801585 / 0.02) ** 2 * 0.85 * 0.15
    assert (check.verdict, check.missing) == ("too few", math.ceil(needed) - 1000)


def test_lower_is_better_mirrors_higher_is_better() -> None:
    """An HD95 [mm] and its negative have the same verdicts, bounds and numbers."""
    mirrored = replace(HD95, better="higher")
    audited = Estimate(100, 100, 7.0, 6.2, 8.1, "t, skewness corrected")
    for low, value, high in ((6.0, 6.5, 7.1), (6.0, 7.5, 9.0), (9.5, 11.0, 12.0)):
        here = Estimate(40, 40, value, low, high, "t, skewness corrected")
        one = judge("GE", "GE", here, audited, measure=HD95, margin=1.0, least=10)
        other = judge("GE", "GE", _negative(here), _negative(audited), measure=mirrored, margin=1.0, least=10)
        assert (one.verdict, one.missing) == (other.verdict, other.missing)
        assert (one.bounds.goal, one.bounds.floor) == (-other.bounds.goal, -other.bounds.floor)
    assert bounds_of(audited, HD95, 1.0).goal == 8.0


def _negative(found: Estimate) -> Estimate:
    return replace(found, value=-found.value, low=-found.high, high=-found.low)


def test_the_margin_is_the_users_then_the_plans_then_five_points() -> None:
    assert margin_of(ACCURACY, None) == 0.05
    assert margin_of(replace(ACCURACY, margin=0.03), None) == 0.03
    assert margin_of(replace(ACCURACY, margin=0.03), 0.1) == 0.1
    with pytest.raises(ValueError, match=r"'accuracy' must be above 0 and below 1 .* got 5\.0"):
        margin_of(ACCURACY, 5.0)
    with pytest.raises(ValueError, match="'hd95_mm' must be above 0 mm; got None"):
        margin_of(replace(HD95, margin=None), None)


def test_spellings_and_classes_are_asked_about(audit: Path) -> None:
    audited = read_audited(audit)
    with pytest.raises(
        PredictionsError, match=r"'siemens' and 'Siemens' differ only .* --merge vendor:siemens=Siemens"
    ):
        accepted(studies(20, 2, "siemens"), audited)
    renamed = studies(20, 2).rename(columns={"prob_NOR": "prob_DCM"})
    with pytest.raises(PredictionsError, match="the audit's classes, NOR, HCM; it has DCM, HCM"):
        accepted(renamed, audited)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": []}, "the audit has none; say which"),
        ({"plan": {"reference_model": "teacher"}}, "must be the audit.json of an audit.*KeyError: 'group_by'"),
        ({"groups": [{"model": "student"}]}, "one lacks column, group"),
        ({"version": 1}, "version must be 2; got 1; write it again"),
    ],
)
def test_what_is_no_audit_is_refused(audit: Path, change: dict[str, Any], message: str) -> None:
    audit.write_text(json.dumps(json.loads(audit.read_text()) | change))
    with pytest.raises(AuditError, match=message):
        read_audited(audit)


def test_every_row_of_a_report_is_read_back_as_it_was(tmp_path: Path) -> None:
    """Three models, six vendors, two sexes, shares and endpoints, groups without an interval and without a patient."""
    made, path = made_audit(), tmp_path / "audit.json"
    path.write_text(json.dumps(audit_record(made)))
    audited = read_audited(path, "student-kd")
    assert list(audited.measures.values()) == list(made.measures)
    assert (audited.classes, audited.group_by) == (made.classes, made.plan.group_by)
    assert audited.groups("vendor") == made.groups["vendor"]
    for line in made.rows:
        if line.place.model == "student-kd":
            found = audited.find(line.place.column, line.place.group, line.measure)
            assert repr(found) == repr(line.estimate)


def test_the_model_is_the_one_that_is_not_the_reference(audit: Path) -> None:
    """Of a package's folder, or of the file; two candidates are asked about."""
    assert read_audited(audit.parent).model == read_audited(audit).model == "student"
    assert read_audited(audit, "teacher").model == "teacher"
    assert read_audited(audit).fingerprint == "0123456789abcdef"
    with pytest.raises(AuditError, match="got 'studnet'; the audit has 'student', 'teacher'"):
        read_audited(audit, "studnet")
    record = json.loads(audit.read_text())
    record["plan"]["reference_model"] = None
    audit.write_text(json.dumps(record))
    with pytest.raises(AuditError, match="the audit has 'student', 'teacher'; say which"):
        read_audited(audit)
    with pytest.raises(FileNotFoundError, match="write it with evenbeat audit"):
        read_audited(audit.parent / "other")
    with pytest.raises(AuditError, match="did you mean 'accuracy'"):
        read_audited(audit, "student").measure("Acuracy")


def test_tables_are_read_by_the_column_that_they_have(audit: Path, tmp_path: Path) -> None:
    """By vendor; without one against all, and said; told the vendor; told another name of the column."""
    audited, path = read_audited(audit), tmp_path / "local.csv"
    write_predictions(studies(27, 3), path)
    assert read_local([path], audited, ACCURACY).column == "vendor"
    studies(27, 3)[["patient_id", "label", "prob_NOR", "prob_HCM"]].to_csv(path, index=False)
    bare = read_local([path], audited, ACCURACY)
    assert (bare.column, bare.group) == ("all", None)
    assert "does not say vendor" in bare.notes[0]
    told = read_local([path], audited, ACCURACY, group=("vendor", "GE"))
    assert [check.group for check in accepted(told.rows, audited, group=told.group).checks] == ["GE"]
    studies(27, 3).rename(columns={"vendor": "Hersteller"}).to_csv(path, index=False)
    mapped = read_local(
        [path], audited, ACCURACY, columns={"vendor": "Hersteller"}, merge={"vendor": {"Siemens": "GE"}}
    )
    assert set(mapped.rows["vendor"]) == {"GE"}
    with pytest.raises(PredictionsError, match="must be those of the audit; got 'site'"):
        read_local([path], audited, ACCURACY, by="site")
    with pytest.raises(PredictionsError, match="'validation' is not in the table"):
        read_local([path], audited, ACCURACY, by="all", split="validation")


def test_studies_of_one_split_are_compared_and_no_other(audit: Path, tmp_path: Path) -> None:
    """Those that a model was trained on would speak for it."""
    path, audited = tmp_path / "local.csv", read_audited(audit)
    trained = studies(90, 0, "GE").assign(split="training")
    trained = trained.assign(patient_id="t" + trained["patient_id"], case_id="t" + trained["case_id"])
    write_predictions(pd.concat([studies(20, 10), trained], ignore_index=True), path)
    assert len(read_local([path], audited, ACCURACY).rows) == 30
    assert set(read_local([path], audited, ACCURACY, split="training").rows["vendor"]) == {"GE"}


def test_of_several_models_the_audited_one_is_taken(audit: Path, tmp_path: Path) -> None:
    path, audited = tmp_path / "local.csv", read_audited(audit)
    both = pd.concat([studies(27, 3), studies(20, 10).assign(model="mine")], ignore_index=True)
    write_predictions(both, path)
    assert set(read_local([path], audited, ACCURACY).rows["model"]) == {"student"}
    write_predictions(both.assign(model=both["model"] + "-2"), path)
    with pytest.raises(PredictionsError, match="audited model, 'student'; the table has mine-2, student-2"):
        read_local([path], audited, ACCURACY)


def test_what_is_written_is_complete_offline_and_names_no_patient(audit: Path, tmp_path: Path) -> None:
    """A group's name is escaped; numbers that do not exist are null."""
    frame = pd.concat([studies(95, 5), studies(5, 1, "<b>New & old</b>")], ignore_index=True)
    found = accepted(frame, read_audited(audit))
    write_acceptance(found, tmp_path / "out", title="Hôpital A")
    page = (tmp_path / "out" / "acceptance.html").read_text()
    record = json.loads((tmp_path / "out" / "acceptance.json").read_text())
    assert record == as_json(found)
    assert record["verdict"] == "too few"
    assert record["missing"] == found.checks[0].missing
    assert record["groups"][0]["local"]["low"] is None
    assert record["groups"][0]["local"]["reason"] == "too few patients"
    assert "&lt;b&gt;New &amp; old&lt;/b&gt;" in page
    assert "<b>New" not in page
    assert '<desc id="fig-text">' in page
    for text in (page, json.dumps(record), "\n".join(console_lines(found))):
        assert "Jane" not in text
        assert "://" not in text


def test_endpoints_are_compared_in_their_unit(audit: Path, tmp_path: Path) -> None:
    """HD95 by vendor, lower is better, against 7.0 mm (6.2 to 8.1), margin 1 mm."""
    record = json.loads(audit.read_text())
    record["measures"].append(asdict(HD95))
    audited_here = Estimate(100, 100, 7.0, 6.2, 8.1, "t, skewness corrected")
    record["groups"].append(row("vendor", "GE", audited_here, "hd95_mm"))
    audit.write_text(json.dumps(record))
    audited, path = read_audited(audit), tmp_path / "local.csv"
    distance = np.random.default_rng(0).gamma(6, 1, 80)
    frame = pd.DataFrame({"patient_id": [f"p{i}" for i in range(80)], "vendor": "GE", "hd95_mm": distance})
    frame.to_csv(path, index=False)
    studies_here = read_local([path], audited, audited.measure("hd95_mm"))
    found = accept(studies_here.rows, audited, audited.measure("hd95_mm"), column="vendor")
    assert (found.verdict, found.checks[0].bounds.goal) == ("pass", 8.0)
    assert "lower is better" in render(found)
