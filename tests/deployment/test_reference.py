"""What a package holds of the audited studies' answers: of all, and of each vendor with enough patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.deployment.answers import reference_of
from pipeline.deployment.package import PackageError, read_package
from pipeline.tracking.predictions import predictions_frame
from tests.deployment.made_package import made_package, manifest

SAID = {"n_cases": 40, "classes": {"NOR": 0.25, "HCM": 0.75}, "features": {"max_probability": [0.0] * 5 + [0.2] * 5}}


def test_a_vendor_has_shares_of_its_own_if_it_has_enough_patients() -> None:
    """Three patients of GE in four studies, of which one is called NOR; two of Canon in three studies."""
    rows = [("GE", "a", 0.95), ("GE", "a", 0.35), ("GE", "b", 0.05), ("GE", "c", 0.25)]
    rows += [("Canon", "d", 0.9), ("Canon", "d", 0.9), ("Canon", "e", 0.9)]
    records = [
        {"case_id": str(n), "patient_id": patient, "label": "NOR", "vendor": vendor}
        for n, (vendor, patient, _) in enumerate(rows)
    ]
    shares = [[normal, 1 - normal] for _, _, normal in rows]
    frame = predictions_frame(records, shares, ["NOR", "DCM"], split="test", model="m")
    reference = reference_of(frame, ["vendor"], min_patients=3)
    assert (reference["n_cases"], reference["classes"]["NOR"]) == (7, pytest.approx(4 / 7))
    assert reference["groups"] == {"vendor": {"GE": pytest.approx(4 / 7), "Canon": pytest.approx(3 / 7)}}
    assert reference["vendors"] == {
        "GE": {
            "n_cases": 4,
            "classes": {"NOR": 0.25, "DCM": 0.75},
            "features": {"max_probability": [0, 0, 0, 0, 0, 0, 0.25, 0.25, 0, 0.5]},
        }
    }
    assert set(reference_of(frame, ["vendor"], min_patients=2)["vendors"]) == {"Canon", "GE"}


def test_a_probability_of_exactly_one_is_in_the_last_tenth() -> None:
    records = [{"case_id": "a", "patient_id": "a", "label": "NOR"}]
    frame = predictions_frame(records, [[1.0, 0.0]], ["NOR", "DCM"], split="test", model="m")
    reference = reference_of(frame, [], min_patients=1)
    assert reference["features"]["max_probability"] == [0.0] * 9 + [1.0]
    assert reference["vendors"] == {}


@pytest.mark.parametrize(("vendors", "found"), [({}, {}), ({"vendors": {"GE": SAID}}, {"GE": SAID})])
def test_a_package_may_have_the_vendors_own_shares_or_as_before_none(
    vendors: dict[str, Any], found: dict[str, Any], tmp_path: Path
) -> None:
    said = manifest(reference={**SAID, "groups": {"vendor": {"GE": 1.0}}, **vendors})
    package = read_package(made_package(tmp_path / "package", said))
    assert package.reference == {**SAID, "groups": {"vendor": {"GE": 1.0}}, "vendors": found}


def test_a_vendors_shares_are_checked_as_those_of_all_are(tmp_path: Path) -> None:
    said = manifest(reference={**SAID, "groups": {}, "vendors": {"GE": SAID | {"n_cases": 0}}})
    with pytest.raises(PackageError, match="n_cases of the reference must be above 0"):
        read_package(made_package(tmp_path / "package", said))
