"""A plan is frozen by its fingerprint, read as it was written, and contradicted by nobody."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audit.plan import Endpoint, Plan, PlanError, Threshold, canonical
from pipeline.audit.plan_file import as_yaml, combine, differences, plan_of, read_plan, write_plan

FULL = Plan(
    group_by=("vendor", "sex x age"),
    metrics=("auc",),
    endpoints={"dice": Endpoint("higher", margin=0.02), "hd95_mm": Endpoint("lower", "mm")},
    margin=0.05,
    threshold=Threshold("sensitivity", 0.9, "validation"),
    positive="DCM",
    reference_model="teacher",
    reference_group={"vendor": "Siemens"},
    strata=("label",),
    min_patients=15,
    replicates=4000,
    seed=3,
    merge={"vendor": {"ge ": "GE"}},
    age_bands=(40, 60),
    split="test",
)
TEXT = """
group_by: [vendor, sex x age]
metrics: [auc]
endpoints:
  dice: {better: higher, margin: 0.02}
  hd95_mm: {better: lower, unit: mm}
margin: 0.05
threshold: {rule: sensitivity, value: 0.9, split: validation}
positive: DCM
reference_model: teacher
reference_group: {vendor: Siemens}
strata: [label]
min_patients: 15
replicates: 4000
seed: 3
merge: {vendor: {"ge ": GE}}
age_bands: [40, 60]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "plan.yaml"


def test_a_plan_is_read_by_its_keys(path: Path) -> None:
    """What is left out has its default."""
    path.write_text(TEXT)
    assert read_plan(path) == FULL


def test_a_plan_comes_back_as_it_went(path: Path) -> None:
    write_plan(FULL, path)
    assert read_plan(path) == FULL
    assert f"fingerprint: {FULL.fingerprint[:16]}" in path.read_text()


def test_the_fingerprint_is_the_digest_of_the_canonical_json() -> None:
    """By hand: keys sorted, no spaces, nothing that is empty."""
    plan = Plan(group_by=("vendor",), metrics=("auc",), margin=0.05, reference_model="Lehrer")
    text = (
        '{"group_by":["vendor"],"margin":0.05,"metrics":["auc"],"min_patients":10,"reference_model":"Lehrer",'
        '"replicates":2000,"seed":0,"split":"test"}'
    )
    assert canonical(plan) == text
    assert plan.fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_the_fingerprint_does_not_hang_on_spelling(path: Path) -> None:
    """Keys in another order, defaults written out, 2.0 for 2."""
    path.write_text("seed: 0\nendpoints: {ef: {margin: 2.0, better: lower}}\nreference_model: t\ngroup_by: [vendor]\n")
    other = Plan(("vendor",), endpoints={"ef": Endpoint("lower", "", 2)}, reference_model="t", split="test")
    assert read_plan(path).fingerprint == other.fingerprint


def test_a_plan_that_was_changed_after_freezing_is_found(path: Path) -> None:
    """And without its fingerprint it is a new one."""
    write_plan(FULL, path)
    path.write_text(path.read_text().replace("margin: 0.05", "margin: 0.1"))
    with pytest.raises(
        PlanError, match=rf"a frozen plan must be as it was; its fingerprint says {FULL.fingerprint[:16]}"
    ):
        read_plan(path)
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "fingerprint:" not in line))
    assert read_plan(path).margin == 0.1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"margin": 0.1}, ["margin: 0.05 against 0.1"]),
        ({"strata": ()}, ["strata: label against none"]),
        ({"merge": {}}, ["merge: vendor: ge : GE against none"]),
        ({"group_by": ("sex x age", "vendor")}, ["group_by: vendor, sex x age against sex x age, vendor"]),
        (
            {"threshold": Threshold("value", 0.9)},
            ["threshold: rule: sensitivity against value", "threshold: split: validation against none"],
        ),
    ],
)
def test_differences_are_said_in_words(changes: dict[str, Any], words: list[str]) -> None:
    assert differences(FULL, dataclasses.replace(FULL, **changes)) == words
    assert differences(FULL, FULL) == []


def test_options_make_a_plan_or_agree_with_one() -> None:
    """None is an option that was not given."""
    assert combine(None, {"group_by": ("vendor",), "seed": 4, "margin": None}) == Plan(("vendor",), seed=4)
    assert (
        combine(
            FULL, {"seed": 3, "margin": None, "threshold": {"rule": "sensitivity", "value": 0.9, "split": "validation"}}
        )
        is FULL
    )
    with pytest.raises(PlanError, match="plan against options: min_patients: 15 against 2; seed: 3 against 4; leave"):
        combine(FULL, {"seed": 4, "min_patients": 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r"plan must be a mapping; got \[\]"),
        ("margin: 0.05", "group_by is missing"),
        ("group_by: vendor", r"group_by must be a list; got 'vendor'; write \[vendor\]"),
        ("group_by: [NO]", "must be a text; got False; put it in quotes"),
        ("group_by: [vendor]\ngroups: [site]", "key 'groups' is not known; did you mean 'group_by'"),
        ("group_by: [vendor]\nSeed: 1", "key 'Seed' is not known; did you mean 'seed'"),
        ("group_by: [vendor]\nseed: 1\nseed: 2", "key 'seed' must come once"),
        ("group_by: [vendor]\nseed: 1.5", "seed must be a whole number; got 1.5"),
        ("group_by: [vendor]\nmargin: 1e-3", "margin must be a number; got '1e-3'"),
        ("group_by: [vendor]\nmargin:", "margin must be a number; got None"),
        ("group_by: [vendor]\nendpoints: {dice: {unit: mm}}", "endpoints: dice: better is missing"),
        ("group_by: [vendor]\nendpoints: {dice: {better: up}}", "dice: better must be higher or lower; got 'up'"),
        (
            "group_by: [vendor]\nmerge: {site: {1: Montreal}}",
            "merge: site: a key must be a text; got 1; put it in quotes",
        ),
        ("group_by: [vendor\n", "plan.yaml"),
    ],
)
def test_a_wrong_file_is_refused_with_place_and_remedy(path: Path, text: str, message: str) -> None:
    """YAML makes NO a boolean, 1e-3 a text, and of two keys the last."""
    path.write_text(text)
    with pytest.raises(PlanError, match=message) as refused:
        read_plan(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_by": ()}, "at least one column"),
        ({"group_by": ("vendor", "vendor")}, "must name each once"),
        ({"metrics": (), "endpoints": {}, "threshold": None}, "something must be measured"),
        ({"metrics": ("accurcy",)}, "metrics must be known; got 'accurcy'; did you mean 'accuracy'"),
        ({"replicates": 99}, "replicates must be at least 100; got 99"),
        ({"min_patients": 1}, "min_patients must be at least 2; got 1"),
        ({"seed": -1}, "seed must be at least 0; got -1"),
        ({"margin": 5.0}, "a share in .*; got 5.0; write 0.05 for 5 points"),
        ({"endpoints": {"dice": Endpoint("higher", margin=0.0)}}, "dice: margin must be above 0"),
        ({"reference_model": None}, "a margin needs the model"),
        ({"reference_group": {"site": "A"}}, "reference_group must name columns of group_by; got 'site'"),
        ({"positive": None}, "a threshold needs the class"),
        ({"metrics": ()}, "positive needs a classification"),
        ({"endpoints": {"split": Endpoint("higher")}}, "a name of its own; got 'split'"),
        ({"threshold": Threshold("value", 1.5)}, r"value must be in \(0, 1\); got 1.5"),
        ({"threshold": Threshold("value", 0.5, "test")}, "a value needs no split"),
        ({"threshold": Threshold("youden", 0.5, "validation")}, "youden has no value"),
        ({"threshold": Threshold("youden", None, "test")}, "another than the audited; got test"),
        ({"age_bands": ()}, "bands need the column age"),
        ({"merge": {"sight": {"a": "b"}}}, "'sight' is not read; did you mean 'site'"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        dataclasses.replace(FULL, **changes)


def test_a_missing_plan_is_missing(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"plan\.yaml"):
        read_plan(path)


def test_a_plan_asks_of_a_table_what_it_needs() -> None:
    """Names of a table's columns are no part of a plan."""
    asked = FULL.layout({"dice": "Dice LV"}, missing_values=True)
    assert (asked.group_by, asked.strata, asked.endpoints) == (FULL.group_by, ("label",), ("dice", "hd95_mm"))
    assert (asked.classified, asked.positive, asked.age_bands) == (True, "DCM", (40, 60))
    assert (asked.merge, asked.columns, asked.missing_values) == (FULL.merge, {"dice": "Dice LV"}, True)
    assert Plan(("vendor",), metrics=(), endpoints={"dice": Endpoint("higher")}).layout().classified is False


names = st.text(min_size=1, max_size=6).filter(lambda text: text.strip() == text and text != "age")
plans = st.builds(
    Plan,
    group_by=st.lists(names.filter(lambda text: " x " not in text), min_size=1, max_size=3, unique=True).map(tuple),
    endpoints=st.dictionaries(
        names.map("endpoint {}".format),
        st.builds(Endpoint, st.sampled_from(["higher", "lower"]), names, st.floats(1e-9, 1e9) | st.none()),
    ),
    reference_model=names,
    merge=st.dictionaries(st.just("label"), st.dictionaries(names, names, min_size=1, max_size=2)),
    seed=st.integers(0, 2),
)


@settings(max_examples=60, deadline=None)
@given(plans, plans)
def test_any_plan_comes_back_and_differs_where_its_fingerprint_does(one: Plan, other: Plan) -> None:
    """Texts that YAML takes for something else, any endpoint, any number."""
    assert plan_of({k: v for k, v in yaml.safe_load(as_yaml(one)).items() if k != "fingerprint"}) == one
    assert (differences(one, other) == []) is (one.fingerprint == other.fingerprint)
    assert differences(one, one) == []
