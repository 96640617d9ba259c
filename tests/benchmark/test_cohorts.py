"""Cohorts dealt from a pool: who is where, for every seed and fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.benchmark.cohorts import build_cohort, cohort_digest, cohorts_of, prepare_pool
from pipeline.benchmark.deals import deal_folds, deal_table, validation_counts
from pipeline.benchmark.kinds import Phantom
from pipeline.benchmark.plan import find_plans, shipped_plans
from pipeline.cohort.acdc import MNMS_VENDOR_COUNTS
from pipeline.cohort.case import Case, read_datalist
from pipeline.cohort.phantom_anatomy import PATHOLOGIES
from pipeline.cohort.phantom_plan import VENDORS, Settings, aligned_counts, training_counts
from pipeline.cohort.split import Sections
from pipeline.training.data import Cohort

FOLDS = 5
COUNTS = training_counts(Settings(studies=40))


def a_case(case_id: str, patient_id: str, label: str, vendor: str) -> Case:
    return Case(case_id, patient_id, label, "1", vendor, vendor, image=Path(f"{case_id}.npz"), ed=0, es=1)


@pytest.fixture(scope="module")
def balanced() -> list[Case]:
    """Sixteen patients of every vendor and pathology."""
    cells = [(vendor, label, n) for vendor in VENDORS for label in PATHOLOGIES for n in range(16)]
    return [
        a_case(f"{vendor}-{label}-{n:02d}", f"{vendor}-{label}-{n:02d}", label, vendor) for vendor, label, n in cells
    ]


@pytest.fixture(scope="module")
def hearts() -> list[Case]:
    """Seven and nine patients of two labels, each under every vendor."""
    patients = [("NOR", n) for n in range(7)] + [("DCM", n) for n in range(9)]
    return [a_case(f"{lab}{n}-{vendor}", f"{lab}{n}", lab, vendor) for lab, n in patients for vendor in VENDORS]


def ids(cases: Iterable[Case]) -> set[str]:
    return {case.case_id for case in cases}


def patients(cases: Iterable[Case]) -> set[str]:
    return {case.patient_id for case in cases}


def table(cases: Iterable[Case]) -> list[list[int]]:
    found = Counter((case.vendor, case.label) for case in cases)
    return [[found[vendor, label] for label in PATHOLOGIES] for vendor in VENDORS]


def test_every_cohort_of_a_shipped_plan_fits_its_pool() -> None:
    """A pool is dear: that it is too small must not show after hours."""
    of_phantoms = [plan for plan in find_plans(list(shipped_plans())) if plan.kind == "phantom"]
    assert len(of_phantoms) >= 5
    for plan in of_phantoms:
        for dials in plan.dials:
            cohorts = cohorts_of(plan.kind, plan.settings, dials)
            names = [(v, p, f"{v}-{p}-{n:03d}") for v in VENDORS for p in PATHOLOGIES for n in range(cohorts.per_cell)]
            assert cohorts.deal([a_case(name, name, p, v) for v, p, name in names], seed=0)["training"]


@pytest.mark.parametrize(
    ("dials", "counts"),
    [
        ({}, training_counts(Settings(studies=30))),
        ({"confounding": 1.0}, training_counts(Settings(studies=30, confounding=1.0))),
        ({"minority_share": 0.5}, training_counts(Settings(studies=30, minority_share=0.5))),
        ({"alignment": 0.8, "minority_share": 0.5}, aligned_counts(30, alignment=0.8, minority_share=0.5)),
    ],
)
def test_the_dials_of_a_phantom_cohort_show_in_its_training_table(
    balanced: list[Case], dials: dict[str, float], counts: Any
) -> None:
    dealt = cohorts_of("phantom", {"studies": 30, "test_per_cell": 1}, dials).deal(balanced, seed=0)
    assert table(dealt["training"]) == counts.tolist()


def test_training_has_the_table_asked_for_and_validation_a_third_of_it(balanced: list[Case]) -> None:
    dealt = deal_table(balanced, COUNTS, test_per_cell=3, seed=0)
    assert table(dealt["training"]) == COUNTS.tolist()
    assert table(dealt["validation"]) == validation_counts(COUNTS).tolist()
    assert table(dealt["test"]) == np.full((4, 3), 3).tolist()
    everyone = [case.patient_id for cases in dealt.values() for case in cases]
    assert len(everyone) == len(set(everyone))


def test_seeds_share_the_test_patients_and_draw_the_others(balanced: list[Case]) -> None:
    """Intervals over seeds and patients need every seed's answers to the same patients."""
    one, other = (deal_table(balanced, COUNTS, test_per_cell=3, seed=seed) for seed in (0, 1))
    assert one["test"] == other["test"]
    assert ids(one["training"]) != ids(other["training"])
    assert deal_table(balanced[::-1], COUNTS, test_per_cell=3, seed=0) == one


def test_a_smaller_cohort_of_a_seed_has_patients_of_the_larger(balanced: list[Case]) -> None:
    """Dials are compared within a seed: what differs is how many, as little as can be who."""
    larger, smaller = (deal_table(balanced, COUNTS // n, test_per_cell=3, seed=4)["training"] for n in (1, 2))
    assert ids(smaller) < ids(larger)


def test_development_patients_are_in_no_other_section_and_change_none(balanced: list[Case]) -> None:
    without = deal_table(balanced, COUNTS // 2, test_per_cell=3, seed=0)
    dealt = deal_table(balanced, COUNTS // 2, test_per_cell=3, seed=0, development_per_cell=2)
    cells = Counter((case.vendor, case.label) for case in dealt["development"])
    assert set(cells.values()) == {2}
    assert len(cells) == 12
    assert {name: cases for name, cases in dealt.items() if name != "development"} == {
        name: cases for name, cases in without.items() if name != "development"
    }
    others = {case.patient_id for name, cases in dealt.items() if name != "development" for case in cases}
    assert not others & {case.patient_id for case in dealt["development"]}


def test_a_cell_without_enough_patients_is_named_with_its_numbers(balanced: list[Case]) -> None:
    """65 train and a third of them, 22, validate."""
    counts = np.zeros((4, 3), dtype=int)
    counts[1, 0] = 65
    said = (
        r"3 test, 65 training, 22 validation and 0 development patients of Philips x NOR; it holds 16; raise "
        r"reservoir_per_cell to 87"
    )
    with pytest.raises(ValueError, match=said):
        deal_table(balanced, counts, test_per_cell=3, seed=0)


def test_every_vendor_that_trains_validates() -> None:
    """The epoch is chosen by the worst group: a vendor without a validation patient could not be the worst."""
    counts = np.array([[0, 0, 0], [50, 40, 10], [1, 0, 0], [0, 1, 1]])
    held_out = validation_counts(counts)
    assert held_out.sum(axis=1).tolist() == [0, 33, 1, 1]
    assert (held_out <= counts).all()


def folds_of(hearts: list[Case], seed: int = 0) -> list[Sections]:
    return [deal_folds(hearts, seed=seed, fold=fold, folds=FOLDS) for fold in range(FOLDS)]


def test_over_the_folds_every_patient_is_tested_once_under_every_vendor(hearts: list[Case]) -> None:
    tested = [case.case_id for dealt in folds_of(hearts) for case in dealt["test"]]
    assert sorted(tested) == sorted(ids(hearts))
    sizes = [len(patients(dealt["test"])) for dealt in folds_of(hearts)]
    assert sorted(sizes) == [3, 3, 3, 3, 4]


def test_the_sections_of_a_fold_share_no_patient_and_training_sees_each_once(hearts: list[Case]) -> None:
    for dealt in folds_of(hearts):
        who = {section: patients(cases) for section, cases in dealt.items()}
        assert sum(map(len, who.values())) == 16 == len(set.union(*who.values()))
        assert len(dealt["training"]) == len(who["training"])
        assert len(who["validation"]) in {3, 4}  # of 5 or 6 NOR outside the fold 1 or 2, of 7 or 8 DCM 2
        for section in ("validation", "test"):
            assert Counter(case.vendor for case in dealt[section]) == dict.fromkeys(VENDORS, len(who[section]))


def test_training_draws_vendors_by_the_shares_of_mnms(hearts: list[Case]) -> None:
    """M&Ms has no DCM from GE."""
    assert list(MNMS_VENDOR_COUNTS) == list(VENDORS)
    training = [case for dealt in folds_of(hearts) for case in dealt["training"]]
    assert "GE" not in {case.vendor for case in training if case.label == "DCM"}
    assert "Siemens" in {case.vendor for case in training if case.label == "DCM"}


def test_a_repeat_deals_other_folds(hearts: list[Case]) -> None:
    assert folds_of(hearts, seed=0) != folds_of(hearts, seed=1)


def test_a_patient_without_a_vendor_is_named(hearts: list[Case]) -> None:
    with pytest.raises(ValueError, match="'NOR3-GE' is not in the pool"):
        folds_of([case for case in hearts if case.case_id != "NOR3-GE"])


def test_a_fold_that_is_none_is_refused(hearts: list[Case]) -> None:
    with pytest.raises(ValueError, match=r"one of 0 … 4; got 5"):
        deal_folds(hearts, seed=0, fold=5, folds=FOLDS)


def test_a_dial_stands_in_for_the_setting() -> None:
    dealt = cohorts_of("phantom", {"studies": 30, "confounding": 1.0}, {"confounding": 0.0})
    assert dealt == Phantom(studies=30, confounding=0.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: cohorts_of("fantom", {}, {}), r"got 'fantom'; did you mean 'phantom'\?"),
        (lambda: cohorts_of("phantom", {"confonding": 1}, {}), r"did you mean 'confounding'\?"),
        (lambda: cohorts_of("phantom", {}, {}).check_folds(5), "got 5 folds; leave `folds` out"),
        (lambda: cohorts_of("acdc", {}, {}).check_folds(1), "at least 2 folds; got 1"),
    ],
)
def test_what_a_kind_does_not_have_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_every_setting_seed_and_fold_has_a_digest_of_its_own() -> None:
    kinds = [Phantom(), Phantom(confounding=0.5), Phantom(group_by=("vendor", "label")), cohorts_of("acdc", {}, {})]
    digests = {cohort_digest(kind, seed=s, fold=f, folds=5) for kind in kinds for s in (0, 1) for f in (0, 1)}
    assert len(digests) == 16


def test_without_the_real_studies_the_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENBEAT_REAL_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"acdc/ of the folder that EVENBEAT_REAL_DATA names"):
        prepare_pool(cohorts_of("acdc", {}, {}), tmp_path, 0)


@pytest.mark.slow
def test_phantoms_are_rendered_once_and_read_by_every_cohort_of_the_pool(tmp_path: Path) -> None:
    settings = {"studies": 22, "test_per_cell": 1, "reservoir_per_cell": 8, "preprocessing": {"rows": 32, "cols": 32},
                "development_per_cell": 1, "group_by": ["vendor", "label"]}  # fmt: skip
    tables = []
    for confounding in (0.0, 1.0):
        dealt = cohorts_of("phantom", settings, {"confounding": confounding})
        prepare_pool(dealt, tmp_path, 0)
        datalist = build_cohort(dealt, seed=0, fold=None, folds=1, folder=tmp_path)
        cohort = Cohort(datalist)
        assert len(cohort.items("training")) == 22
        assert cohort.recipe["rows"] == 32
        assert len(cohort.items("test")) == 12
        assert all(Path(item["image"]).is_file() for item in cohort.items("training"))
        assert cohort.group_by == ("vendor", "label")
        tables.append(table(cohort.datalist.sections["training"]))
        development = read_datalist(datalist.with_name("development.json"))
        assert table(development.sections["test"]) == np.ones((4, 3)).tolist()
        assert not ids(development.sections["test"]) & {case.case_id for _, case in cohort.datalist.cases()}
        written = datalist.stat().st_mtime_ns
        assert build_cohort(dealt, seed=0, fold=None, folds=1, folder=tmp_path).stat().st_mtime_ns == written
    assert tables[0] != tables[1]
    assert len(list((tmp_path / "pools").iterdir())) == 1
    assert len(list((tmp_path / "cohorts").iterdir())) == 2


def test_digits_are_drawn_by_their_dials_and_prepared(tmp_path: Path) -> None:
    """40 images, half of each class, nine in ten of a class at its own place."""
    settings = {"training": 40, "test_per_cell": 2, "pixels": 16}
    dealt = cohorts_of("digits", settings, {"confounding": 0.9})
    cohort = Cohort(build_cohort(dealt, seed=3, fold=None, folds=1, folder=tmp_path))
    cells = Counter((item["site"], item["label"]) for item in cohort.items("training"))
    assert cells == {("ground", 0): 18, ("scene", 0): 2, ("ground", 1): 2, ("scene", 1): 18}
    assert len(cohort.items("test")) == 8
    assert all(Path(item["image"]).is_file() for item in cohort.items("test"))


@pytest.mark.slow
@pytest.mark.real_data
def test_real_hearts_are_prepared_under_every_vendor(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENBEAT_REAL_DATA", str(real_data))
    dealt = cohorts_of("acdc", {"classes": ["NOR", "HCM"]}, {})
    prepare_pool(dealt, tmp_path, 2)
    sections = read_datalist(build_cohort(dealt, seed=0, fold=1, folds=FOLDS, folder=tmp_path)).sections
    who = {section: patients(cases) for section, cases in sections.items()}
    assert len(set.union(*who.values())) == 24
    assert len(sections["test"]) == 4 * len(who["test"])
