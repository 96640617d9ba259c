"""Labels that are wrong on purpose."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.label_noise import noisy_labels


def _items(patients: int, studies: int = 1, n_classes: int = 3) -> list[dict[str, Any]]:
    return [
        {"case_id": f"p{p}-{s}", "patient_id": f"p{p}", "label": p % n_classes, "group": p % 2}
        for p in range(patients)
        for s in range(studies)
    ]


def _noisy(items: list[dict[str, Any]], **given_settings: Any) -> list[dict[str, Any]]:
    chosen = {"share": 0.3, "kind": "symmetric", "unit": "patient", "n_classes": 3, "seed": 0, **given_settings}
    return noisy_labels(items, **chosen)


def _flipped(items: list[dict[str, Any]], noisy: list[dict[str, Any]], key: str = "case_id") -> set[str]:
    return {a[key] for a, b in zip(items, noisy, strict=True) if a["label"] != b["label"]}


@given(
    patients=st.integers(1, 40),
    share=st.floats(0, 1),
    kind=st.sampled_from(["symmetric", "class_dependent"]),
    n_classes=st.integers(2, 5),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_exactly_the_share_is_flipped_and_nothing_else_changes(
    patients: int, share: float, kind: str, n_classes: int, seed: int
) -> None:
    items = _items(patients, studies=2, n_classes=n_classes)
    before = [dict(item) for item in items]
    for unit, key, total in (("patient", "patient_id", patients), ("case", "case_id", 2 * patients)):
        noisy = _noisy(items, share=share, kind=kind, unit=unit, n_classes=n_classes, seed=seed)
        assert len(_flipped(items, noisy, key if unit == "case" else "patient_id")) == round(share * total)
        assert all(0 <= item["label"] < n_classes for item in noisy)
        assert not any(a is b for a, b in zip(items, noisy, strict=True))
        assert [{**b, "label": a["label"]} for a, b in zip(items, noisy, strict=True)] == before == items


def test_one_patients_studies_are_flipped_alike() -> None:
    noisy = _noisy(_items(60, studies=3), share=0.5)
    labels = {
        patient: {i["label"] for i in noisy if i["patient_id"] == patient} for patient in map("p{}".format, range(60))
    }
    assert {len(found) for found in labels.values()} == {1}


def test_flips_depend_on_who_is_there_and_not_on_the_order_and_grow_with_the_share() -> None:
    items = _items(50)
    noisy = _noisy(items)
    assert sorted(_noisy(items[::-1]), key=str) == sorted(noisy, key=str)
    assert _flipped(items, noisy) != _flipped(items, _noisy(items, seed=1))
    more = _noisy(items, share=0.6)
    assert _flipped(items, noisy) < _flipped(items, more)
    assert [b for a, b, c in zip(items, noisy, more, strict=True) if a != b != c] == []


def test_symmetric_noise_reaches_both_other_classes_as_often() -> None:
    """1000 flipped cases of class 0: half to each, SD 16."""
    items = [{**item, "label": 0} for item in _items(1000)]
    counts = Counter(item["label"] for item in _noisy(items, share=1.0))
    assert set(counts) == {1, 2}
    assert counts[1] == pytest.approx(500, abs=64)


def test_class_dependent_noise_goes_to_the_next_class_unless_told_otherwise() -> None:
    """The given rows: class 0 becomes 2, class 1 becomes 0, class 2 becomes 0 or 1, one time in four and three."""
    items = _items(1200)
    nexts = _noisy(items, share=1.0, kind="class_dependent")
    assert all(b["label"] == (a["label"] + 1) % 3 for a, b in zip(items, nexts, strict=True))
    rows = [[0, 0, 1], [1, 0, 0], [0.25, 0.75, 0]]
    given_rows = _noisy(items, share=1.0, kind=rows)
    pairs = Counter((a["label"], b["label"]) for a, b in zip(items, given_rows, strict=True))
    assert set(pairs) == {(0, 2), (1, 0), (2, 0), (2, 1)}
    assert pairs[2, 1] / 400 == pytest.approx(0.75, abs=0.09)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"kind": "uniform"},
            "kind must be one of symmetric, class_dependent, or a table of .*got 'uniform'",
        ),
        ({"unit": "study"}, "unit must be one of patient, case; got 'study'"),
        ({"share": 1.5}, r"share must be in \[0, 1\] and n_classes at least 2; got 1.5 and 3"),
        ({"n_classes": 2}, r"labels must lie in 0 … 1; got \[2\]"),
        ({"kind": [[0, 1, 0]]}, "must be 3 rows of 3 probabilities"),
        ({"kind": [[0.7, 0.3, 0], [0, 0, 1], [1, 0, 0]]}, "with 0 on the diagonal"),
        ({"kind": [[0, 0.3, 0], [0, 0, 1], [1, 0, 0]]}, "that sum to 1"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _noisy(_items(6), **wrong)
