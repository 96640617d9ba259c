"""What an audit says of one study's scanner."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.deployment.envelope import Envelope, judge
from pipeline.deployment.outcome import AuditedGroup, EnvelopeVerdict, Verdict
from tests.deployment.made_package import entry, envelope
from transforms.scanner import UNKNOWN, VENDORS, Scanner

AUDITED, TOO_FEW, UNSEEN = Verdict.AUDITED, Verdict.TOO_FEW, Verdict.UNSEEN


def _envelope(
    *rows: dict[str, Any], columns: tuple[str, ...] = ("vendor",), measures: tuple[str, ...] = ("accuracy",)
) -> Envelope:
    return Envelope.from_dict(envelope(columns=list(columns), measures=list(measures), groups=list(rows)))


@pytest.mark.parametrize(
    ("vendor", "expected"),
    [("Siemens", AUDITED), ("GE", TOO_FEW), ("Canon", UNSEEN), ("Philips", UNSEEN), (UNKNOWN, UNSEEN)],
)
def test_the_verdict_follows_the_group_of_the_vendor(vendor: str, expected: Verdict) -> None:
    """40 patients of Siemens with an interval, 4 of GE without, a group of Canon without a patient."""
    assert judge(Envelope.from_dict(envelope()), Scanner(vendor)).verdict == expected


def test_the_verdict_comes_with_the_audits_row() -> None:
    found = judge(Envelope.from_dict(envelope()), Scanner("Siemens"))
    assert found.groups == (AuditedGroup("vendor", "Siemens", "accuracy", 40, 0.8, 0.7, 0.9, 0.95, ""),)


def test_a_group_that_the_audit_has_not_seen_comes_with_no_value_and_says_so() -> None:
    (row,) = judge(Envelope.from_dict(envelope()), Scanner("Philips")).groups
    assert (row.group, row.n_patients, row.value, row.estimable) == ("Philips", 0, None, False)
    assert "no patient" in row.reason


def test_without_an_audit_every_scanner_is_unseen() -> None:
    assert judge(None, Scanner("Siemens")) == EnvelopeVerdict(UNSEEN, (), audited=False)


def test_an_audit_by_site_alone_knows_no_scanner() -> None:
    assert judge(_envelope(columns=()), Scanner("Siemens")) == EnvelopeVerdict(UNSEEN, ())


def test_one_measure_without_an_interval_is_too_few() -> None:
    """An AUC that cannot be estimated means that the group lacks patients of a class."""
    rows = (entry("vendor", "GE", 20), entry("vendor", "GE", 20, measure="auc", interval=False))
    assert judge(_envelope(*rows, measures=("accuracy", "auc")), Scanner("GE")).verdict == TOO_FEW


def test_a_measure_that_the_audit_lacks_in_a_group_is_too_few() -> None:
    found = judge(_envelope(entry("vendor", "GE", 20), measures=("accuracy", "auc")), Scanner("GE"))
    assert found.verdict == TOO_FEW
    assert [(row.measure, row.n_patients) for row in found.groups] == [("accuracy", 20), ("auc", 0)]


def test_the_least_favourable_column_decides() -> None:
    rows = (entry("vendor", "GE", 20), entry("field_strength_t", "3 T", 4, interval=False))
    by_both = _envelope(*rows, columns=("vendor", "field_strength_t"))
    assert judge(by_both, Scanner("GE", field_strength_t=3.0)).verdict == TOO_FEW
    assert judge(by_both, Scanner("GE", field_strength_t=1.5)).verdict == UNSEEN


def test_crossed_columns_are_one_group() -> None:
    crossed = _envelope(entry("vendor x field_strength_t", "GE x 1.5 T", 20), columns=("vendor x field_strength_t",))
    assert judge(crossed, Scanner("GE", field_strength_t=1.5)).verdict == AUDITED
    found = judge(crossed, Scanner("GE"))
    assert (found.verdict, found.groups[0].group) == (UNSEEN, "GE x unknown")


def test_an_unknown_vendor_is_unseen_whatever_the_other_columns_say() -> None:
    """1.5 T of some vendor is not 1.5 T of this one."""
    by_field = _envelope(entry("field_strength_t", "1.5 T", 40), columns=("field_strength_t",))
    assert judge(by_field, Scanner(UNKNOWN, field_strength_t=1.5)).verdict == UNSEEN
    assert judge(by_field, Scanner("GE", field_strength_t=1.5)).verdict == AUDITED


def test_an_unknown_vendor_is_audited_where_the_audit_has_such_patients() -> None:
    assert judge(_envelope(entry("vendor", UNKNOWN, 40)), Scanner()).verdict == AUDITED


def test_no_text_of_a_header_is_in_a_verdict() -> None:
    """The model may hold a patient's name; a scanner that the audit does not list is only called another one."""
    columns = ("scanner", "vendor x scanner")
    found = judge(_envelope(columns=columns), Scanner("GE", "Jane Doe", 1.5, "St Elsewhere", "GE of Jane", "DV26"))
    assert [row.group for row in found.groups] == ["another", "GE x another"]


def test_a_scanner_that_the_audit_lists_is_called_by_its_name() -> None:
    known = _envelope(entry("scanner", "GE Signa 1.5 T", 12), columns=("scanner",))
    found = judge(known, Scanner("GE", "Signa", 1.5))
    assert (found.verdict, found.groups[0].group) == (AUDITED, "GE Signa 1.5 T")


def test_a_name_with_the_sign_of_crossing_does_not_pass_for_two_columns() -> None:
    crossed = _envelope(entry("vendor x scanner", "GE x GE a x b", 12), columns=("vendor x scanner",))
    found = judge(crossed, Scanner("GE", "a x b"))
    assert (found.verdict, found.groups[0].group) == (AUDITED, "GE x GE a x b")
    assert crossed.seen("scanner") == frozenset()


FIELDS = (None, 1.5, 3.0)
PLAIN = ("vendor", "field_strength_t")
SAID = {None: "unknown", 1.5: "1.5 T", 3.0: "3 T"}


@st.composite
def _audits(draw: st.DrawFn) -> tuple[list[str], list[str], dict[tuple[str, str, str], tuple[int, bool]]]:
    """Columns, measures, and the patients of any of their groups, with or without an interval."""
    columns = draw(st.lists(st.sampled_from([*PLAIN, "vendor x field_strength_t"]), unique=True))
    measures = draw(st.lists(st.sampled_from(["accuracy", "auc"]), unique=True, min_size=1))
    values = {
        "vendor": list(VENDORS),
        "field_strength_t": list(SAID.values()),
        "vendor x field_strength_t": [f"{v} x {f}" for v in VENDORS for f in SAID.values()],
    }
    places = [(c, g, m) for c in columns for g in values[c] for m in measures]
    kinds = st.tuples(st.integers(0, 2), st.booleans())
    listed = draw(st.dictionaries(st.sampled_from(places), kinds, max_size=30)) if places else {}
    return columns, measures, listed


@given(_audits(), st.sampled_from(VENDORS), st.sampled_from(FIELDS))
def test_a_verdict_is_as_good_as_the_worst_of_its_groups_and_no_better(
    audit: tuple[list[str], list[str], dict[tuple[str, str, str], tuple[int, bool]]], vendor: str, field: float | None
) -> None:
    """Worked out by looking every column's group up in the plain listing."""
    columns, measures, listed = audit
    rows = [entry(c, g, n, measure=m, interval=sure) for (c, g, m), (n, sure) in listed.items()]
    made = _envelope(*rows, columns=tuple(columns), measures=tuple(measures))
    own = {"vendor": vendor, "field_strength_t": SAID[field], "vendor x field_strength_t": f"{vendor} x {SAID[field]}"}
    ranks = []
    for column in columns:
        kinds = [listed.get((column, own[column], measure), (0, False)) for measure in measures]
        patients = [n for n, _ in kinds]
        ranks.append(2 if not any(patients) else 0 if all(n and sure for n, sure in kinds) else 1)
    unknowns = [g for (c, g, _), (n, _) in listed.items() if n and "vendor" in c and g.split(" x ")[0] == UNKNOWN]
    if vendor == UNKNOWN and not unknowns:
        ranks.append(2)
    expected = (AUDITED, TOO_FEW, UNSEEN)[max(ranks, default=2)]
    found = judge(made, Scanner(vendor, field_strength_t=field))
    assert found.verdict == expected
    assert [(g.column, g.measure) for g in found.groups] == list(itertools.product(columns, measures))
    assert Envelope.from_dict(json.loads(json.dumps(made.to_dict()))) == made
