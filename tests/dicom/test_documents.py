"""What docs/dicom.md says of codes is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.dicom.refusal import Code

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "dicom.md").read_text(encoding="utf-8")


def test_every_code_stands_in_the_page_with_its_sentence_and_remedy() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", PAGE, flags=re.MULTILINE)
    assert rows == [(code.value, code.sentence, code.remedy) for code in Code]


def test_every_warning_stands_in_the_page() -> None:
    """Warnings begin with their code and a colon."""
    others = ("cohort/dicom_study.py", "deployment/job.py", "deployment/nifti_input.py")
    sources = [*(ROOT / "pipeline" / "dicom").glob("*.py"), *(ROOT / "pipeline" / other for other in others)]
    given = {code for path in sources for code in re.findall(r"\"([A-Z]+_?[A-Z]+): ", path.read_text(encoding="utf-8"))}
    described = set(re.findall(r"`([A-Z]+_?[A-Z]+)`", PAGE.partition("## Warnings")[2].partition("## What")[0]))
    assert len(given) > 10
    assert given == described
