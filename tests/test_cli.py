"""The command line: parses, calls, and ends with the status it promises."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.cli import main


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven training and twelve test studies."""
    root = tmp_path_factory.mktemp("phantom") / "cohort"
    assert main(["phantom", str(root), "--studies", "11", "--test-per-cell", "1", "--workers", "1"]) == 0
    return root


def test_phantom_prints_the_best_possible_accuracy(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second call finds everything there."""
    assert main(["phantom", str(phantom), "--studies", "11", "--test-per-cell", "1", "--workers", "1"]) == 0
    assert "best possible accuracy on the 12 test studies" in capsys.readouterr().out


def test_a_phantom_becomes_a_datalist(phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "datalist.json"
    status = main(
        ["datalist", "mnms", str(phantom), "-o", str(output), "--split", "folders", "--classes", "NOR,HCM,DCM"]
    )
    assert status == 0
    listed = json.loads(output.read_text())
    assert len(listed["test"]) == 12
    assert len(listed["training"]) + len(listed["validation"]) == 11
    assert listed["group_by"] == ["vendor"]
    assert "Canon" in capsys.readouterr().out


def test_nothing_usable_ends_with_status_3_and_the_reasons(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "datalist.json"
    assert main(["datalist", "mnms", str(phantom), "-o", str(output), "--classes", "LVNC"]) == 3
    assert not output.exists()
    said = capsys.readouterr()
    assert "set aside: 23" in said.out
    assert "no study came in" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["datalist", "mnms", "/nowhere", "-o", "x.json"], "nowhere"),
        (["audit", "/nowhere.csv", "-o", "report"], "nowhere.csv"),
        (["bundles", "cardiac"], "cardiac_cine_student"),
        (["sheet", "/nowhere.json", "-o", "sheet"], "nowhere.json"),
        (["datalist", "mnms2", "/nowhere", "-o", "x.json"], "nowhere"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_an_audit_of_anybodys_table_prints_the_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {
            "case_id": f"c{i}", "patient_id": f"p{i}", "site": "s", "vendor": ("GE", "Canon")[i % 2], "scanner": "x",
            "field_strength_t": 1.5, "label": ("NOR", "HCM")[i // 2 % 2], "prob_NOR": 0.9 - 0.8 * (i // 2 % 2),
            "prob_HCM": 0.1 + 0.8 * (i // 2 % 2), "split": "test", "model": "mine",
        }
        for i in range(48)
    ]  # fmt: skip
    table = tmp_path / "mine.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    assert main(["audit", str(table), "-o", str(tmp_path / "report"), "--group-by", "vendor,label"]) == 0
    said = capsys.readouterr().out
    assert "Canon" in said
    assert "HCM" in said
    audit = json.loads((tmp_path / "report" / "audit.json").read_text())
    found = {(row["column"], row["group"]): row for row in audit["groups"] if row["measure"] == "accuracy"}
    assert found["vendor", "GE"]["n_patients"] == 24
    assert found["vendor", "GE"]["value"] == 1.0
    assert set(found["vendor", "GE"]) >= {
        "model",
        "column",
        "group",
        "measure",
        "n_patients",
        "value",
        "low",
        "high",
        "estimable",
    }


@pytest.mark.parametrize("source", ["mnms", "mnms2", "acdc", "dicom"])
def test_each_source_of_a_datalist_has_a_help_of_its_own(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Options of one source mean nothing to another: --keep-ids of M&Ms would be a promise that nobody keeps."""
    with pytest.raises(SystemExit) as stopped:
        main(["datalist", source, "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert ("--keep-ids" in said) == (source == "dicom")
    assert ("--simulate-scanners" in said) == (source == "acdc")
    assert ("--split" in said) == (source in {"mnms", "mnms2"})
    for option in ("--classes", "--group-by", "--shares", "--seed", "--output"):
        assert option in said


def test_a_source_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["datalist", "dicoms", "x", "-o", "y"])
    assert stopped.value.code == 2
    assert "mnms2" in capsys.readouterr().err


def test_a_folder_without_dicom_ends_with_status_3_and_says_what_is_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, output = tmp_path / "root", tmp_path / "list.json"
    root.mkdir()
    (root / "letter.txt").write_text("Dear colleague")
    arguments = ["datalist", "dicom", str(root), "-o", str(output), "--salt-file", str(tmp_path / "salt")]
    assert main([*arguments, "--report", str(tmp_path / "sheet")]) == 3
    said = capsys.readouterr()
    assert "DICOM: no case" in said.out
    assert "1 file is not DICOM, or cut" in said.out
    assert "no DICOM file was found" in said.out
    assert f"no study came in; there is none in {root}" in said.err
    assert not output.exists()
    assert "No study came in" in (tmp_path / "sheet" / "index.html").read_text()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["datalist", "dicom", "x", "-o", "{folder}"], "must be a file, got the folder"),
        (["datalist", "dicom", "x", "-o", "y", "--report", "{file}"], "must be a folder, got the file"),
        (["datalist", "dicom", "x", "-o", "y", "--cines", "{file}"], "must be a folder, got the file"),
        (["sheet", "x", "-o", "{file}"], "must be a folder, got the file"),
        (["audit", "x", "-o", "{file}"], "must be a folder, got the file"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    command: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An import may take a night; it must not end with nowhere to put its datalist."""
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        main([part.format(folder=tmp_path, file=file) for part in command])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_who_lacks_a_right_is_told_whose_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "settings.toml")

    monkeypatch.setattr("pipeline.cohort.phantom.write_phantom", refuse)
    assert main(["phantom", str(tmp_path / "cohort"), "--studies", "12"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"Permission denied: 'settings.toml'; give user \d+ the right to it\n$", said)


def test_a_missing_library_is_asked_for_by_the_command_whatever_its_options_are_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pipeline.deployment.export", None)
    assert main(["export", "run", "-o", str(tmp_path / "p"), "--audit", "a.json", "--name", "mine"]) == 2
    assert capsys.readouterr().err.startswith("evenbeat export needs pipeline")


def test_an_error_of_the_operating_system_is_a_sentence_and_no_traceback(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert main(["datalist", "mnms", str(phantom), "-o", str(file / "folder" / "list.json")]) == 2
    assert capsys.readouterr().err.endswith(f"Not a directory: '{file / 'folder'}'\n")


def test_a_sheet_shows_every_study_of_a_datalist(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed, sheet = tmp_path / "list.json", tmp_path / "sheet"
    assert main(["datalist", "mnms", str(phantom), "-o", str(listed), "--split", "folders", "--classes", "DCM"]) == 0
    sections = json.loads(listed.read_text())
    n_studies = sum(len(sections[name]) for name in ("training", "validation", "test"))
    assert n_studies > 4
    assert main(["sheet", str(listed), "-o", str(sheet)]) == 0
    assert f"wrote {sheet / 'index.html'}" in capsys.readouterr().out
    page = (sheet / "index.html").read_text()
    assert page.count('<article class="study') == n_studies
    assert "No pictures" not in page
    assert len(list((sheet / "images").glob("*.png"))) == n_studies


@pytest.mark.parametrize(
    ("command", "library", "extra"),
    [
        (["datalist", "dicom", ".", "-o", "x"], "pydicom", "dicom"),
        (["datalist", "dicom", ".", "-o", "x"], "jinja2", "sheet"),
        (["datalist", "dicom", ".", "-o", "x"], "tqdm", "sheet"),
        (["sheet", "x.json", "-o", "y"], "PIL", "sheet"),
        (["audit", "x.csv", "-o", "y"], "jinja2", "audit"),
    ],
)
def test_a_missing_library_is_named_with_what_installs_it(
    command: list[str], library: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> int:
        raise ModuleNotFoundError(name=library)

    for name in ("pipeline.cli_datalist._datalist", "pipeline.cli._sheet", "pipeline.cli_audit._audit"):
        monkeypatch.setattr(name, missing)
    assert main(command) == 2
    assert capsys.readouterr().err.endswith(f"needs {library}: pip install 'evenbeat[{extra}]'\n")


def test_bundles_are_found_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundles", "cardiac_cine_student"]) == 0
    assert (Path(capsys.readouterr().out.strip()) / "configs" / "train.yaml").is_file()


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [("--map", "HHD", "HHD=HCM"), ("--shares", "0.6,0.3", "sum to 1"), ("--shares", "0.6,0.3,0.3", "0.6,0.2,0.2")],
)
def test_an_option_of_another_form_is_refused_with_an_example(
    option: str, value: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["datalist", "mnms", "x", "-o", "y", option, value])
    assert stopped.value.code == 2
    assert remedy in capsys.readouterr().err


def test_shares_of_the_patients_are_met(phantom: Path, tmp_path: Path) -> None:
    """Twenty-three patients, none for validation: every cell of at least 3 gives test patients."""
    output = tmp_path / "datalist.json"
    assert main(["datalist", "mnms", str(phantom), "-o", str(output), "--shares", "0.5,0.0,0.5"]) == 0
    listed = json.loads(output.read_text())
    assert not listed["validation"]
    assert len(listed["training"]) + len(listed["test"]) == 23


def test_help_lists_every_command_and_starts_fast_without_training_libraries() -> None:
    code = "import sys; from pipeline.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit(bool({'torch', 'monai', 'pandas', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for command in ("demo", "phantom", "datalist", "sheet", "audit", "bundles"):
        assert command in done.stdout


def test_each_command_has_a_help_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is named is parsed without the others: the name must lead to it, and to nothing else."""
    with pytest.raises(SystemExit):
        main(["--help"])
    names = re.findall(r"^ {4}(\w+)", capsys.readouterr().out, re.MULTILINE)
    assert {"demo", "benchmark", "bundles"} < set(names)
    for name in names:
        with pytest.raises(SystemExit) as stopped:
            main([name, "--help"])
        assert stopped.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: evenbeat {name} ")
