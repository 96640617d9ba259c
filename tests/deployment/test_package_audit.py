"""What a package takes from an audit, and which audits it does not take."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline.audit.audited import read_audited
from pipeline.deployment.package_audit import read_package_audit
from tests.deployment.small_student import CLASSES, NAME, SmallStudent


@pytest.mark.parametrize("named", [{"likely": "student (kd)"}, {"model": "student (kd)"}])
def test_the_audit_of_another_model_is_never_taken_unasked(small: SmallStudent, named: dict[str, str]) -> None:
    """`student (groupdistil)` is the only one beside the reference; its intervals say nothing of `student (kd)`."""
    models = r"got 'student \(kd\)'; the audit has 'student \(groupdistil\)', 'teacher \(erm\)'; say which, --model"
    with pytest.raises(ValueError, match=models):
        read_package_audit(small.audit, CLASSES, **named)  # type: ignore[arg-type]


def test_a_model_of_another_name_in_the_audit_is_packed_where_it_is_named(small: SmallStudent) -> None:
    assert read_package_audit(small.audit, CLASSES, model=NAME, likely="student (kd)").audited.model == NAME
    assert read_package_audit(small.audit, CLASSES).audited.model == NAME


def test_a_card_of_another_audit_is_refused(small: SmallStudent, tmp_path: Path) -> None:
    shutil.copytree(small.audit, tmp_path / "audit")
    card = tmp_path / "audit" / "model_card.md"
    fingerprint = read_audited(small.audit, NAME).fingerprint
    card.write_text(card.read_text().replace(fingerprint, "0" * 16))
    with pytest.raises(ValueError, match=f"must be of the same plan, {fingerprint}"):
        read_package_audit(tmp_path / "audit", CLASSES, model=NAME)
    card.unlink()
    assert read_package_audit(tmp_path / "audit", CLASSES, model=NAME).card == ""


@pytest.mark.parametrize(
    ("column", "old", "new", "remedy"),
    [
        ("vendor", "GE", "GE MEDICAL SYSTEMS", "--merge 'vendor:GE MEDICAL SYSTEMS=…'"),
        ("field_strength_t", "GE", "1.494 T", "nominal, like 1.5 T"),
    ],
)
def test_a_group_that_no_header_would_ever_match_is_refused(
    small: SmallStudent, tmp_path: Path, column: str, old: str, new: str, remedy: str
) -> None:
    """Every study of such a scanner would be called unseen, and nobody would know why."""
    text = (small.audit / "audit.json").read_text().replace('"vendor"', f'"{column}"')
    for other in ("Siemens", "Canon"):
        text = text if column == "vendor" else text.replace(f'"group": "{other}"', '"group": "1.5 T"')
    (tmp_path / "audit.json").write_text(text.replace(f'"group": "{old}"', f'"group": "{new}"'))
    with pytest.raises(ValueError, match=f"must be spelt as they are read from headers.*{re.escape(remedy)}"):
        read_package_audit(tmp_path, CLASSES, model=NAME)


def test_the_operating_point_of_the_audit_is_told_with_its_class(small: SmallStudent, tmp_path: Path) -> None:
    record = json.loads((small.audit / "audit.json").read_text())
    place = {"model": NAME, "column": "all", "group": "all", "measure": "sensitivity"}
    record["plan"] |= {"positive": "DCM", "threshold": {"rule": "value", "value": 0.35}}
    record["operating_points"] = [{**place, "threshold": 0.35}]
    (tmp_path / "audit.json").write_text(json.dumps(record))
    assert read_package_audit(tmp_path, CLASSES, model=NAME).threshold == {"DCM": 0.35}
