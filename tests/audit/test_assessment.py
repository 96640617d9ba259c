"""From a table and a plan to the findings."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from pipeline.audit.assessment import assess, choose_reference, choose_split
from pipeline.audit.findings import ALL, Audit
from pipeline.audit.layout import Layout
from pipeline.audit.plan import Endpoint, Plan, Threshold
from pipeline.audit.reading import Table, read_table
from pipeline.tracking.predictions import PredictionsError, labels_of, probabilities_of

PLAN = Plan(("vendor",), replicates=100, reference_model="teacher", margin=0.05)
WIDE = replace(
    PLAN,
    endpoints={"dice": Endpoint("higher", margin=0.02), "hd95_mm": Endpoint("lower", "mm")},
    positive="DCM",
    threshold=Threshold("sensitivity", 0.9, "validation"),
)
LISTS = ("rows", "effects", "contrasts", "worst", "differences", "calibration", "operating", "mix", "worst_cases")


@pytest.fixture(scope="module")
def wide(frame: pd.DataFrame) -> pd.DataFrame:
    """With endpoints, one of them absent in a row, and a development split; the students' distances are worse on GE."""
    rng = np.random.default_rng(0)
    far = np.where((frame["vendor"] == "GE") & (frame["model"] != "teacher"), 3.0, 1.0)
    table = frame.assign(dice=rng.beta(9, 1.2, len(frame)), hd95_mm=far * rng.lognormal(2, 0.3, len(frame)))
    table.loc[3, "dice"] = np.nan
    other = table.assign(split="validation", case_id="v" + table["case_id"], patient_id="v" + table["patient_id"])
    return pd.concat([table, other], ignore_index=True)


@pytest.fixture(scope="module")
def audit(wide: pd.DataFrame) -> Audit:
    """Vendors; Hitachi has no patient."""
    return assess(wide, WIDE, {"vendor": ["Hitachi", "GE"]})


def test_values_are_those_of_fairlearn_and_scikit_learn(frame: pd.DataFrame, audit: Audit) -> None:
    """Per vendor and model, from the table itself."""
    fairlearn = pytest.importorskip("fairlearn.metrics")
    for model, rows in frame.groupby("model"):
        labels, scores = labels_of(rows), probabilities_of(rows)
        oracle = fairlearn.MetricFrame(
            metrics=accuracy_score, y_true=labels, y_pred=scores.argmax(axis=1), sensitive_features=rows["vendor"]
        ).by_group
        for vendor, expected in oracle.items():
            assert audit.find(str(model), "vendor", str(vendor), "accuracy").value == pytest.approx(expected)
        ge = (rows["vendor"] == "GE").to_numpy()
        assert audit.find(str(model), "vendor", "GE", "auc").value == pytest.approx(
            roc_auc_score(labels[ge], scores[ge], multi_class="ovr")
        )


def test_means_of_endpoints_are_those_of_pandas(wide: pd.DataFrame, audit: Audit) -> None:
    """The row without a Dice counts in no Dice."""
    rows = wide[wide["split"] == "test"]
    for name in ("dice", "hd95_mm"):
        means = rows.groupby(["model", "vendor"])[name].mean().unstack()
        for model in means.index:
            for vendor in means.columns:
                found = audit.find(str(model), "vendor", str(vendor), name).value
                assert found == pytest.approx(means.loc[model, vendor])
    assert sum(audit.find(m, ALL, ALL, "dice").n_rows for m in audit.models) == 73 * 3 - 1


def test_every_group_has_a_row_for_every_model_and_measure(audit: Audit) -> None:
    """Too few patients, one class only, no patient at all: each stays, and says why it has no interval."""
    assert audit.groups == {"vendor": ("Canon", "GE", "Hitachi", "Philips", "Siemens", "UIH")}
    assert len(audit.rows) == (6 + 1) * 3 * 4
    assert audit.find("teacher", "vendor", "Hitachi", "accuracy").reason == "no patients"
    assert audit.find("teacher", "vendor", "Hitachi", "dice").reason == "no patients"
    assert audit.find("teacher", "vendor", "UIH", "accuracy").reason == "too few patients"
    assert audit.find("teacher", "vendor", "Canon", "auc").reason == "a class is absent"
    assert audit.find("teacher", "vendor", "Canon", "accuracy").estimable
    assert len(audit.contrasts) == 6 * 3 * 4
    assert len(audit.calibration) == len(audit.operating) == (6 + 1) * 3
    assert len(audit.differences) == (6 + 1) * 2 * 4


def test_rows_come_by_column_group_model_and_measure(audit: Audit) -> None:
    """All patients last, the reference first."""
    places = [(row.place.column, row.place.group, row.place.model, row.measure) for row in audit.rows]
    assert places[:5] == [
        *(("vendor", "Canon", "teacher", name) for name in ("accuracy", "auc", "dice", "hd95_mm")),
        ("vendor", "Canon", "student-groupdistil", "accuracy"),
    ]
    assert {column for column, *_ in places[-12:]} == {ALL}
    assert [row.contrast.group for row in audit.contrasts[:13]] == ["Canon"] * 12 + ["GE"]


def test_the_students_that_fail_on_ge_are_seen_everywhere(audit: Audit) -> None:
    """The KD student: an effect, a contrast after Holm, the worst group in every draw, worse than the teacher."""
    mine = ("student-kd", "vendor", "accuracy")
    (effect,) = [row.effect for row in audit.effects if (row.model, row.column, row.measure) == mine]
    assert effect.p < 0.05
    assert effect.permutations == 100
    (ge,) = [
        r for r in audit.contrasts if (r.model, r.column, r.measure) == mine and r.contrast.group == "GE"
    ]  # fmt: skip
    assert ge.contrast.difference.value < -0.4
    assert ge.contrast.p_holm <= 4 * 2 / 101 + 1e-9  # the smallest that a hundred permutations allow
    assert ge.contrast.family == 4  # UIH and Hitachi have no interval
    (worst,) = [row for row in audit.worst if (row.model, row.column, row.measure) == mine]
    assert worst.worst is not None
    assert worst.interval is not None
    assert (worst.worst.group, worst.fresh.group) == ("GE", "GE")
    assert worst.worst.frequency > 0.9
    assert worst.interval.low < worst.worst.value < worst.shrunken["GE"].estimate.value
    assert worst.left_out == ("Hitachi", "UIH")
    unsure = [
        row.fresh for row in audit.worst if row.measure == "accuracy" and max(row.fresh.frequencies.values()) < 0.9
    ]
    assert unsure
    assert all(halves.picked < halves.fresh for halves in unsure), "a half that did not pick has no bad luck in it"
    (there,) = [
        d.comparison for d in audit.differences
        if (d.comparison.first, d.comparison.group, d.comparison.outcome.name) == ("student-kd", "GE", "accuracy")
    ]  # fmt: skip
    assert there.verdict == "worse"
    assert there.second == "teacher"


def test_of_a_distance_the_highest_group_is_the_worst(audit: Audit) -> None:
    """GE's distances were made three times as long."""
    (worst,) = [row for row in audit.worst if (row.model, row.measure) == ("student-kd", "hd95_mm")]
    assert worst.worst is not None
    assert worst.worst.group == "GE"
    assert worst.worst.value == max(
        audit.find("student-kd", "vendor", group, "hd95_mm").value for group in ("GE", "Canon", "Siemens", "Philips")
    )


def test_a_group_that_cannot_be_compared_says_so_and_what_it_lacks(audit: Audit) -> None:
    """No p value without an interval; Hitachi has no patient and needs as many as a new scanner would."""
    rows = {
        (r.contrast.group, r.measure): r for r in audit.contrasts if r.model == "teacher"
    }  # fmt: skip
    for group, reason in (("UIH", "too few patients"), ("Hitachi", "no patients")):
        row = rows[group, "accuracy"]
        assert (row.contrast.difference.reason, row.contrast.family) == (reason, 0)
        assert math.isnan(row.contrast.p)
    assert rows["Hitachi", "auc"].smallest_gap.reason == "fewer than two patients on a side"
    needed = rows["Hitachi", "auc"].needed
    assert needed is not None
    assert needed.needed == needed.missing
    assert rows["GE", "hd95_mm"].needed is None  # no margin, no gap to look for
    assert rows["GE", "dice"].needed is not None


def test_groups_are_standardised_to_the_classes_of_all(audit: Audit, frame: pd.DataFrame) -> None:
    """GE by hand: its accuracy per class, weighted by the classes of all 73; Canon has one class only."""
    rows = frame[(frame["model"] == "student-kd") & (frame["vendor"] == "GE")]
    right = (probabilities_of(rows).argmax(axis=1) == labels_of(rows)).astype(float)
    per_class = pd.Series(right).groupby(rows["label"].to_numpy()).mean()
    mix = frame[frame["model"] == "student-kd"]["label"].value_counts(normalize=True)
    found = {
        row.place.group: row.standardised
        for row in audit.rows
        if (row.place.model, row.measure) == ("student-kd", "accuracy")
    }
    assert found["GE"] is not None
    assert found["GE"].estimate.value == pytest.approx(float((per_class * mix).sum()))
    assert found["Canon"] is not None
    assert found["Canon"].estimate.reason == "no patient of DCM, HCM"
    assert found[ALL] is None


def test_the_threshold_is_fixed_on_the_development_split(audit: Audit, wide: pd.DataFrame) -> None:
    """One of its probabilities of DCM, the same in every group, which finds nine of ten there."""
    for model in audit.models:
        rows = wide[(wide["split"] == "validation") & (wide["model"] == model)]
        (threshold,) = {row.threshold for row in audit.operating if row.place.model == model}
        positives = rows.loc[rows["label"] == "DCM", "prob_DCM"]
        assert threshold in set(positives)
        assert (positives >= threshold).mean() >= 0.9
        assert (positives > threshold).mean() < 0.9
    assert all(row.needed is not None for row in audit.operating)


def test_a_scanner_is_not_blamed_for_the_diseases_that_it_sees() -> None:
    """Half of the difficult class is read, seven eighths of the other, on both; one sees mostly the difficult."""
    difficult, number = np.repeat([0, 1, 0, 1], [40, 8, 8, 40]), np.arange(96)
    right = np.where(difficult == 1, number % 8 < 4, number % 8 < 7)
    says_difficult = np.where(right, difficult, 1 - difficult)
    table = pd.DataFrame({
        "patient_id": [f"p{n}" for n in number], "case_id": [f"c{n}" for n in number], "model": "m", "split": "test",
        "site": "s", "scanner": "s", "field_strength_t": 1.5,
        "vendor": np.repeat(["Canon", "GE"], 48), "label": np.where(difficult == 1, "DCM", "NOR"),
        "prob_NOR": np.where(says_difficult == 1, 0.1, 0.9), "prob_DCM": np.where(says_difficult == 1, 0.9, 0.1),
    })  # fmt: skip
    found = assess(table, Plan(("vendor",), ("accuracy",), replicates=500))
    assert found.effects[0].effect.p > 0.5


def test_the_case_mix_counts_patients_once_however_many_models(audit: Audit) -> None:
    """Canon's twelve are healthy."""
    canon = {row.category: row.n_patients for row in audit.mix["vendor"] if row.group == "Canon"}
    assert canon == {"DCM": 0, "HCM": 0, "NOR": 12}
    assert {row.group for row in audit.mix["vendor"]} == set(audit.groups["vendor"])


def test_a_group_of_another_split_is_listed_without_patients(frame: pd.DataFrame) -> None:
    """Trained on, never tested: that is worth seeing."""
    other = frame.assign(split="training", vendor="Fujifilm", case_id="t" + frame["case_id"])
    audit = assess(pd.concat([frame, other], ignore_index=True), PLAN)
    assert audit.find("teacher", "vendor", "Fujifilm", "accuracy").n_patients == 0
    assert audit.n_patients == 73


def test_the_order_of_rows_does_not_matter(wide: pd.DataFrame, audit: Audit) -> None:
    """To the last bit."""
    again = assess(wide.sample(frac=1, random_state=3), WIDE, {"vendor": ["Hitachi", "GE"]})
    for name in LISTS:
        assert repr(getattr(again, name)) == repr(getattr(audit, name)), name


def test_other_columns_and_models_do_not_change_a_groups_draws(frame: pd.DataFrame) -> None:
    """A group's random numbers follow from its name, the column and the seed alone."""
    alone = assess(frame[frame["model"] == "teacher"], replace(PLAN, reference_model=None, margin=None))
    both = assess(frame, replace(PLAN, group_by=("field_strength_t", "vendor")))
    for name in ("effects", "contrasts", "worst", "calibration"):
        mine = [r for r in getattr(both, name) if "teacher" in repr(r) and "'field" not in repr(r)]
        assert repr(mine) == repr(getattr(alone, name)), name


def test_another_seed_moves_the_draws_and_not_the_values(frame: pd.DataFrame) -> None:
    """Else the seed would do nothing."""
    one, two = (assess(frame, replace(PLAN, seed=seed)) for seed in (0, 1))
    assert repr(one.rows) == repr(two.rows)
    assert repr(one.worst) != repr(two.worst)


def test_rows_of_a_patient_count_as_one_patient(frame: pd.DataFrame) -> None:
    """The same studies a second time add rows and no certainty."""
    again = pd.concat([frame, frame.assign(case_id="again-" + frame["case_id"])], ignore_index=True)
    single, double = (assess(table, PLAN).find("teacher", ALL, ALL, "accuracy") for table in (frame, again))
    assert (double.n_patients, double.n_rows) == (73, 146)
    assert double.value == pytest.approx(single.value)
    assert double.high - double.low > 0.99 * (single.high - single.low)


def test_a_patient_of_two_groups_counts_in_each_and_is_said(frame: pd.DataFrame) -> None:
    """Seen on GE and on UIH."""
    moved = frame[frame["patient_id"] == "patient-50"].assign(vendor="UIH")
    twice = pd.concat([frame, moved.assign(case_id="second")], ignore_index=True)
    audit = assess(twice, PLAN)
    assert audit.find("teacher", "vendor", "UIH", "accuracy").n_patients == 5
    assert audit.n_patients == 73
    assert any("1 of 73 patients are in more than one group" in note for note in audit.notes)


def test_differences_are_on_common_studies_only(frame: pd.DataFrame) -> None:
    """The KD student lacks ten of Siemens' studies: the difference is over the other fourteen."""
    gone = (frame["model"] == "student-kd") & frame["case_id"].isin([f"Siemens-{i}" for i in range(10)])
    audit = assess(frame[~gone], PLAN)
    (found,) = [
        d.comparison for d in audit.differences
        if (d.comparison.first, d.comparison.group, d.comparison.outcome.name) == ("student-kd", "Siemens", "accuracy")
    ]  # fmt: skip
    rows = frame[~gone & (frame["vendor"] == "Siemens")].assign(
        right=lambda t: probabilities_of(t).argmax(axis=1) == labels_of(t)
    )
    right = rows.set_index(["case_id", "model"])["right"].unstack()
    expected = np.mean([kd - teacher for kd, teacher in right[["student-kd", "teacher"]].dropna().astype(float).values])
    assert found.estimate.n_patients == 14
    assert found.estimate.value == pytest.approx(expected)
    assert {d.comparison.first for d in audit.differences} == {"student-kd", "student-groupdistil"}


def test_a_table_of_endpoints_alone_is_audited(wide: pd.DataFrame) -> None:
    """Without label and probabilities there are no classes, no calibration, no stratum."""
    plain = wide[["patient_id", "case_id", "split", "model", "vendor", "site", "scanner", "field_strength_t", "dice"]]
    plan = Plan(("vendor",), (), {"dice": Endpoint("higher")}, replicates=100)
    audit = assess(plain, plan)
    assert audit.classes == ()
    assert [measure.words for measure in audit.measures] == ["Dice"]
    assert audit.calibration == []
    assert audit.find("teacher", "vendor", "GE", "dice").estimable
    assert all(row.standardised is None for row in audit.rows)


def test_columns_made_of_the_class_have_no_case_mix(frame: pd.DataFrame) -> None:
    """Within one class there is no AUC and nothing to standardise; accuracy is compared all the same."""
    audit = assess(frame, Plan(("label",), replicates=100))
    assert all(row.standardised is None for row in audit.rows)
    assert audit.find("teacher", "label", "HCM", "auc").reason == "a class is absent"
    effects = {row.measure: row.effect for row in audit.effects if row.model == "teacher"}
    assert effects["accuracy"].estimable
    assert not effects["auc"].estimable


def test_a_single_group_is_compared_with_nobody(frame: pd.DataFrame) -> None:
    """Everything stays, and says why it has no number."""
    audit = assess(frame[frame["vendor"] == "GE"], PLAN)
    assert all(not row.effect.estimable for row in audit.effects)
    assert all(math.isnan(row.contrast.p) and row.smallest_gap.reason for row in audit.contrasts)
    assert all(row.worst is None and row.interval is None for row in audit.worst)


def test_the_reference_group_is_the_other_side(frame: pd.DataFrame) -> None:
    """And is not compared with itself."""
    audit = assess(frame, replace(PLAN, reference_group={"vendor": "Siemens"}))
    assert {row.contrast.group for row in audit.contrasts} == {"Canon", "GE", "Philips", "UIH"}
    assert {row.contrast.against for row in audit.contrasts} == {"Siemens"}
    (ge,) = [
        r.contrast.difference for r in audit.contrasts
        if (r.model, r.measure, r.contrast.group) == ("teacher", "accuracy", "GE")
    ]  # fmt: skip
    one, other = (audit.find("teacher", "vendor", group, "accuracy").value for group in ("GE", "Siemens"))
    assert ge.value == pytest.approx(one - other)


def test_a_tables_own_notes_and_made_up_cases_are_kept_apart(frame: pd.DataFrame, tmp_path: object) -> None:
    """Case ids that are made of the patient's are not shown: the row is."""
    path = f"{tmp_path}/mine.csv"
    wanted = ["patient_id", "vendor", "label", "prob_NOR", "prob_HCM", "prob_DCM"]
    frame[frame["model"] == "teacher"][wanted].to_csv(path, index=False)
    table = read_table(path, Layout(("vendor",)))
    assert table.numbered
    audit = assess(table, Plan(("vendor",), replicates=100), worst_cases=2)
    assert audit.notes == table.notes
    assert "patient-" not in repr(audit)
    (worst, *_) = [case for case in audit.worst_cases if case.place.group == "UIH"]
    row = int(worst.case_id.removeprefix("row "))
    scores = frame[frame["model"] == "teacher"].iloc[row - 1]
    assert worst.badness == pytest.approx(1 - scores[f"prob_{scores['label']}"])


def test_the_reference_is_the_teacher_and_comes_first(frame: pd.DataFrame) -> None:
    """Without a teacher, or beside nobody, there is nothing to subtract."""
    assert assess(frame, PLAN).models == ("teacher", "student-groupdistil", "student-kd")
    assert choose_reference(["student", "Robust-Teacher"]) == "Robust-Teacher"
    assert choose_reference(["student (group_teachers)", "student (kd)", "teacher (dfr)"]) == "teacher (dfr)"
    assert choose_reference(["student (kd)", "student (random_teacher)", "several_teachers"]) is None
    assert choose_reference(["a", "b"]) is None
    assert choose_reference(["teacher", "teacher"]) is None


def test_test_is_audited_among_several_splits(frame: pd.DataFrame) -> None:
    """Training cases beside test cases would flatter."""
    assert choose_split(frame.assign(split="holdout")) == "holdout"
    assert choose_split(frame.assign(split=["test", "training", "validation"] * 73)) == "test"
    with pytest.raises(PredictionsError, match="has a, b; name the one"):
        choose_split(frame.assign(split=["a", "b", "b"] * 73))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"group_by": ("vendr",)}, "no column 'vendr'.*vendor"),
        ({"group_by": ("all",)}, "'all'"),
        ({"split": "holdout"}, "'holdout' is not; it has test"),
        ({"reference_model": "Teacher"}, "'Teacher' is not; choose among"),
        ({"reference_group": {"vendor": "siemens"}}, "'siemens' is not; choose among Canon"),
        ({"positive": "ARV"}, "'ARV' has none; choose among NOR"),
        ({"positive": "DCM", "threshold": Threshold("youden", None, "validation")}, "'validation' is not"),
        ({"endpoints": {"modle": Endpoint("higher")}}, "'modle' is not; did you mean 'model'"),
    ],
)
def test_what_is_not_in_the_table_is_refused_by_name(
    frame: pd.DataFrame, wrong: dict[str, object], message: str
) -> None:
    """With what is."""
    with pytest.raises(PredictionsError, match=message):
        assess(frame, replace(PLAN, **wrong))  # type: ignore[arg-type]


def test_metrics_need_classes(wide: pd.DataFrame) -> None:
    """A table without probabilities and a plan that asks for accuracy."""
    plain = wide[["patient_id", "case_id", "split", "model", "vendor", "site", "scanner", "field_strength_t", "dice"]]
    with pytest.raises(PredictionsError, match="accuracy and auc need a label"):
        assess(Table(plain, ()), PLAN)
