"""Every command in the README runs as it stands there, on less data and for fewer epochs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
DEMO = ["evenbeat", "demo", "demo", "--studies", "120", "--epochs", "2"]


def _sections() -> dict[str, list[str]]:
    """Shell commands of each section of the README."""
    sections: dict[str, list[str]] = {}
    for part in re.split(r"^## ", (ROOT / "README.md").read_text(), flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^```sh\n(.*?)^```", part, flags=re.MULTILINE | re.DOTALL)
        sections[part.partition("\n")[0]] = [line for block in blocks for line in block.splitlines() if line.strip()]
    return sections


def _run(command: list[str] | str, folder: Path) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "2"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    environment["XDG_CONFIG_HOME"] = str(folder / "config")  # the salt of pseudonyms
    shell = isinstance(command, str)
    done = subprocess.run(
        command, cwd=folder, shell=shell, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def _quick(command: str) -> str:
    """The command with one epoch in place of its own number."""
    if "train.yaml" not in command:
        return command
    return re.sub(r" --num_epochs \d+", "", command) + " --num_epochs 1"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's relative paths hold."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "bundles").symlink_to(ROOT / "bundles")
    return folder


def test_every_section_with_commands_is_run_by_a_test() -> None:
    with_commands = {title for title, commands in _sections().items() if commands}
    assert with_commands == {
        "See it work",
        "Your own studies",
        "From a folder of DICOM files",
        "The three bundles",
        "Comparing methods",
        "Auditing a table of predictions",
        "In a hospital",
        "Real hearts, simulated scanners",
    }


def _tables(title: str) -> list[list[list[str]]]:
    """Tables of a section: rows of cells."""
    section = (ROOT / "README.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"(?:^\|.*\|\n)+", section, flags=re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()] for block in blocks
    ]


@pytest.mark.parametrize(
    ("title", "there"),
    [
        ("Comparing methods", "Methods, on the phantom"),
        ("Real hearts, simulated scanners", "Methods, on real hearts"),
    ],
)
def test_the_benchmarks_rows_are_those_of_its_page(title: str, there: str) -> None:
    rows = [(model.strip("`"), *cells) for _, model, *cells in _tables(title)[0][2:]]
    assert len(rows) >= 5
    page = (ROOT / "docs" / "benchmark.md").read_text().partition(f"\n## {there}\n")[2].partition("\n## ")[0]
    lines = [line.split(" | ") for line in page.splitlines()]
    for model, accuracy, worst, difference in rows:
        found = [line for line in lines if line[0].removeprefix("| ").partition(" (")[0] == model]
        assert any(line[2] == accuracy and line[3].startswith(f"{worst} ") for line in found), model
        assert difference == "–" or any(line[1] == difference for line in found), model


def test_what_is_said_of_the_maps_is_what_their_page_says() -> None:
    rows = _tables("Comparing methods")[1][2:]
    assert len(rows) >= 8
    page = (ROOT / "docs" / "benchmark.md").read_text()
    where = {"phantom": "The same on fresh seeds, on the phantom", "digits": "The same on fresh seeds, on digits"}
    named = ""
    for words, model, *cells in rows:
        named = words or named
        cohort, _, settings = named.partition(", ")
        method = model.strip("`")
        part = page.partition(f"\n## {where[cohort]}\n")[2].partition("\n## ")[0]
        minority = "no minority" if settings.startswith("none") else "KD underfits the minority"
        row = rf"^\| {minority} \| {method} minus kd \| (\d+) \| \d+ \| \d+ \| \d+ \| (.*) \|$"
        (line,) = re.findall(row, part, flags=re.MULTILINE)
        assert line[1].split(" | ") == cells, (named, model)
        assert line[0] == {"no minority": "8", "KD underfits the minority": "16"}[minority]


def test_links_between_pages_lead_somewhere() -> None:
    """A heading's anchor as it is rendered: lower case, no punctuation, hyphens for spaces."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bundles/*/docs/README.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", page.read_text())]
    assert len(links) >= 40
    for page, link in links:
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), (page.name, link)
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings], (page.name, link)


def test_the_two_first_commands_are_make_demo_and_make_test() -> None:
    commands = _sections()["See it work"]
    assert commands == ["make demo", "make test"]
    said = subprocess.run(
        ["make", "-n", *[c.split()[1] for c in commands]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "evenbeat demo demo" in said.stdout
    assert "pytest -n 2" in said.stdout


@pytest.mark.slow
def test_the_demo_ends_with_a_table_a_page_and_tracked_runs(workspace: Path) -> None:
    said = _run(DEMO, workspace)
    demo = workspace / "demo"
    for name in ("cohort", "datalist.json", "teacher", "student", "predictions.csv", "mlflow.db", "report/audit.html"):
        assert (demo / name).exists(), name
    result = json.loads((demo / "reading" / "result.json").read_text())
    package = demo / "student" / "package" / "package.json"
    assert result["package"]["digest"] == hashlib.sha256(package.read_bytes()).hexdigest()
    assert (result["status"], result["verdict"]) == ("read", "audited")
    assert (demo / "reading" / "summary.png").is_file()
    table = pd.read_csv(demo / "predictions.csv")
    assert table.groupby("model").size().to_dict() == {
        "student (groupdistil)": 144, "student (kd)": 144, "teacher (dfr)": 144
    }  # fmt: skip
    assert {"Siemens", "Philips", "GE", "Canon"} == set(table["vendor"])
    assert "audit.html" in said
    assert "worst of its column" in said
    again = _run(DEMO, workspace)
    assert again.count("already there") == 10


@pytest.mark.slow
def test_an_audit_and_the_one_that_follows_its_plan_find_the_same(workspace: Path) -> None:
    _run(DEMO, workspace)
    for command in _sections()["Auditing a table of predictions"]:
        _run(command, workspace)
    one, other = (json.loads((workspace / "demo" / name / "audit.json").read_text()) for name in ("audit", "again"))
    assert one == other


@pytest.mark.slow
def test_a_hospital_gets_the_demo_s_student_and_reads_a_study_as_the_demo_did(workspace: Path) -> None:
    _run(DEMO, workspace)
    for command in _sections()["In a hospital"]:
        _run(command, workspace)
    one, other = (json.loads((workspace / name / "result.json").read_text()) for name in ("demo/reading", "reading"))
    assert one["prediction"] == other["prediction"]
    assert other["verdict"] == "audited"


@pytest.mark.slow
def test_the_commands_for_own_studies_and_for_each_bundle_run(workspace: Path) -> None:
    _run([*DEMO[:1], "phantom", "OpenDataset", "--studies", "100", "--test-per-cell", "1"], workspace)
    sections = _sections()
    commands = sections["Your own studies"] + sections["The three bundles"]
    assert len(commands) == 11
    for command in commands:
        _run(_quick(command), workspace)
    assert (workspace / "report" / "audit.html").is_file()
    assert "label" in pd.read_csv(workspace / "read" / "predictions.csv").columns


@pytest.mark.slow
def test_the_quick_benchmark_writes_its_page_and_digits_train_a_teacher(workspace: Path) -> None:
    commands = _sections()["Comparing methods"]
    assert len(commands) == 4
    for command in commands:
        _run(_quick(command), workspace)
    page = (workspace / "benchmark" / "results.md").read_text()
    assert "groupdistil" in page
    assert (workspace / "digits-teacher" / "model.pt").is_file()


@pytest.mark.slow
@pytest.mark.real_data
def test_the_way_from_dicom_files_to_what_the_student_sees_runs(workspace: Path, real_data: Path) -> None:
    (workspace / "dicoms").symlink_to(real_data / "sunnybrook" / "dicoms")
    commands = _sections()["From a folder of DICOM files"]
    assert len(commands) == 3
    for command in commands:
        _run(command, workspace)
    listed = json.loads((workspace / "sb-prepared" / "datalist.json").read_text())
    assert [case["scanner"] for case in listed["test"]] == ["GE SIGNA HDx 1.5 T"] * 3
    for page in ("sb", "sb-sheet"):
        assert (workspace / page / "index.html").read_text().count("<img") >= 3


@pytest.mark.slow
@pytest.mark.real_data
def test_the_recipe_on_real_hearts_runs(workspace: Path, real_data: Path) -> None:
    (workspace / "ACDC").symlink_to(real_data / "acdc")
    for command in _sections()["Real hearts, simulated scanners"]:
        _run(_quick(command), workspace)
    table = pd.read_csv(workspace / "acdc" / "groupdistil" / "predictions.csv")
    assert table.groupby("patient_id")["vendor"].nunique().eq(4).all()
    assert "simulated" in (workspace / "acdc" / "report" / "audit.html").read_text()
