"""The demo's bookkeeping; `tests/test_readme.py` runs the whole of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.demo import CLASSES, Demo, _holds, _teacher_configs


def test_a_step_whose_library_is_missing_is_counted_left_out_and_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = Demo(tmp_path, None, 0, count=11)
    assert demo.lacks("package", ("json", "no_such_library"), "export")
    assert capsys.readouterr().out == (
        "[1/11] package: left out, needs no_such_library: pip install 'evenbeat[export]'\n"
    )
    assert not demo.lacks("package", ("json",), "export")
    assert demo.done == 1


def test_a_command_that_fails_ends_the_demo(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="evenbeat bundles stopped with an error, printed above"):
        Demo(tmp_path, None, 0, count=11).command("bundles", "nothing of the kind")
    assert "  evenbeat bundles 'nothing of the kind'\n" in capfd.readouterr().out


def test_a_package_is_up_to_date_if_it_was_made_with_this_audit(tmp_path: Path) -> None:
    """The audit is written anew by every run, mostly with the same bytes: its time says nothing."""
    audit, manifest = tmp_path / "audit.json", tmp_path / "package.json"
    audit.write_text("{}")
    assert not _holds(manifest, audit)
    manifest.write_text(json.dumps({"audit": None}))
    assert not _holds(manifest, audit)
    manifest.write_text(json.dumps({"audit": {"sha256": hashlib.sha256(b"{}").hexdigest()}}))
    assert _holds(manifest, audit)
    audit.write_text('{"version": 2}')
    assert not _holds(manifest, audit)


def test_the_teachers_last_layer_is_fitted_anew_if_validation_has_the_patients(
    capsys: pytest.CaptureFixture[str],
) -> None:
    studies = [SimpleNamespace(label=label, patient_id=f"{label}{k}") for label in CLASSES for k in range(5)]
    datalist: Any = SimpleNamespace(classes=CLASSES, sections={"validation": studies})
    assert _teacher_configs(datalist) == ["train.yaml", "methods/dfr.yaml"]
    studies[-1].patient_id = studies[-2].patient_id  # a second study is no second patient
    assert _teacher_configs(datalist) == ["train.yaml"]
    assert "takes 5 validation patients of a class, not 4" in capsys.readouterr().out
