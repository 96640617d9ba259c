"""Where hosts put studies: every name of every host, one precedence, and no guess between two."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from pipeline.deployment.contracts import ContractError, Settings, read_settings, resolve

VARIABLES = {
    "MAP": ("HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"),
    "mercure": ("MERCURE_IN_DIR", "MERCURE_OUT_DIR"),
    "MONAI": ("MONAI_INPUTPATH", "MONAI_OUTPUTPATH"),
}
MOUNTS = {
    "input": "output",
    "app/data/input_data": "app/data/output",
    "var/holoscan/input": "var/holoscan/output",
}


@pytest.fixture
def study(tmp_path: Path) -> Callable[[str], str]:
    """Makes a folder with a file in it."""

    def make(name: str) -> str:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "image").write_bytes(b"DICM")
        return str(folder)

    return make


@pytest.mark.parametrize("host", VARIABLES)
def test_each_host_is_understood_by_its_own_names(host: str, study: Callable[[str], str], tmp_path: Path) -> None:
    into, out = VARIABLES[host]
    job = resolve({into: study("in"), out: str(tmp_path / "out")}, root=tmp_path)
    assert (job.input, job.output) == (tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("mount", MOUNTS)
def test_folders_of_custom_are_taken_where_no_variable_names_one(
    mount: str, study: Callable[[str], str], tmp_path: Path
) -> None:
    study(mount)
    job = resolve({}, root=tmp_path)
    assert (job.input, job.output) == (tmp_path / mount, tmp_path / MOUNTS[mount])


def test_options_go_before_variables_and_folders(study: Callable[[str], str], tmp_path: Path) -> None:
    study("input")
    environment = {"HOLOSCAN_INPUT_PATH": study("a"), "MERCURE_IN_DIR": study("b"), "HOLOSCAN_OUTPUT_PATH": "/a_out"}
    job = resolve(environment, given_input=study("mine"), given_output=str(tmp_path / "out"), root=tmp_path)
    assert (job.input, job.output) == (tmp_path / "mine", tmp_path / "out")


def test_a_router_that_sets_every_name_to_the_same_folders_is_no_contradiction(
    study: Callable[[str], str], tmp_path: Path
) -> None:
    """A router, mercure, does so for applications of MONAI."""
    folder, out = study("data"), str(tmp_path / "out")
    environment = {name: value for pair in VARIABLES.values() for name, value in zip(pair, (folder, out), strict=True)}
    assert resolve(environment, root=tmp_path).input == Path(folder)


def test_two_folders_with_something_in_them_are_refused_by_name(study: Callable[[str], str], tmp_path: Path) -> None:
    environment = {"MERCURE_IN_DIR": study("b"), "HOLOSCAN_INPUT_PATH": study("a"), "HOLOSCAN_OUTPUT_PATH": "/out"}
    with pytest.raises(ContractError, match="HOLOSCAN_INPUT_PATH and MERCURE_IN_DIR name two different ones"):
        resolve(environment, root=tmp_path)
    study("input"), study("var/holoscan/input")
    with pytest.raises(ContractError, match="two different ones"):
        resolve({}, root=tmp_path)


def test_an_empty_folder_gives_way_to_one_with_a_study(study: Callable[[str], str], tmp_path: Path) -> None:
    """An image may be built with /input in it, though the host mounts another folder."""
    (tmp_path / "input").mkdir()
    study("var/holoscan/input")
    assert resolve({}, root=tmp_path).input == tmp_path / "var/holoscan/input"
    environment = {
        "HOLOSCAN_INPUT_PATH": str(tmp_path / "input"),
        "HOLOSCAN_OUTPUT_PATH": str(tmp_path / "other"),
        "MERCURE_IN_DIR": study("data"),
        "MERCURE_OUT_DIR": str(tmp_path / "out"),
    }
    job = resolve(environment, root=tmp_path)
    assert (job.input, job.output) == (tmp_path / "data", tmp_path / "out")


def test_the_empty_folder_of_the_image_is_no_study_unless_a_host_names_it(tmp_path: Path) -> None:
    """A mount that was forgotten or misspelt: what lacks is the input, whatever is mounted for the output."""
    for name in ("var/holoscan/input", "output"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(ContractError, match="an input folder must be named; got none"):
        resolve({}, root=tmp_path)
    named = {"HOLOSCAN_INPUT_PATH": str(tmp_path / "var/holoscan/input"), "HOLOSCAN_OUTPUT_PATH": str(tmp_path / "out")}
    assert resolve(named, root=tmp_path).input == tmp_path / "var/holoscan/input"


def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(
    study: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study("var/holoscan/input")
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "input")
    with pytest.raises(ContractError, match="must be readable"):
        resolve({}, root=tmp_path)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "an input folder must be named; got none"),
        ({"MERCURE_IN_DIR": "/nowhere/at/all", "MERCURE_OUT_DIR": "/out"}, "there is none at /nowhere/at/all"),
        ({"MERCURE_IN_DIR": "/", }, "an output folder must be named; got none; give --out, or set one of"),
        ({"MERCURE_IN_DIR": "/", "MERCURE_OUT_DIR": "/"}, "must be two folders"),
        ({"HOLOSCAN_OUTPUT_PATH": "/a", "MONAI_OUTPUTPATH": "/b", "MERCURE_IN_DIR": "/"}, "MONAI_OUTPUTPATH name two"),
    ],
)  # fmt: skip
def test_what_is_missing_or_contradictory_is_said_with_its_remedy(
    environment: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ContractError, match=message):
        resolve(environment, root=tmp_path)


@pytest.mark.parametrize(("closed", "message"), [("in", "must be readable"), ("out", "may write")])
def test_folders_that_may_not_be_read_or_written_are_refused_before_any_work(
    closed: str, message: str, study: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of the kernel, which lets root do anything: here it says no."""
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != closed)
    (tmp_path / "out").mkdir()
    with pytest.raises(ContractError, match=message):
        resolve({}, given_input=study("in"), given_output=str(tmp_path / "out" / ("" if closed == "out" else "new")))


def test_a_file_in_the_outputs_place_is_refused(study: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ContractError, match="may write"):
        resolve({}, given_input=study("in"), given_output=str(tmp_path / "file"))


def test_variables_of_other_hosts_are_never_asked_for(study: Callable[[str], str], tmp_path: Path) -> None:
    """XNAT hands its password to every container."""

    class Watched(dict[str, str]):
        asked: ClassVar[set[str]] = set()

        def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
            self.asked.add(name)
            return super().get(name, default)

        def __getitem__(self, name: str) -> str:
            self.asked.add(name)
            return super().__getitem__(name)

        def __iter__(self) -> Iterator[str]:
            raise AssertionError("somebody looks through all variables")

    named = {"XNAT_PASS": "secret", "XNAT_USER": "u", "MERCURE_IN_DIR": study("in")}
    environment = Watched(named | {"MERCURE_OUT_DIR": str(tmp_path / "out")})
    resolve(environment, root=tmp_path)
    assert environment.asked <= {name for pair in VARIABLES.values() for name in pair}


def _task(folder: Path, process: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "task.json").write_text(json.dumps({"info": {"patient_name": "CANARY^JANE"}, "process": process}))
    return folder


def test_a_rule_of_mercure_sets_what_is_known(tmp_path: Path) -> None:
    settings = {"expect_digest": "ab" * 32, "fail_on_refusal": True}
    for process in ({"settings": settings}, [{"settings": settings, "module_name": "evenbeat"}]):
        assert read_settings(_task(tmp_path, process)) == Settings("ab" * 32, fail_on_refusal=True)
    for process in ({}, [], None, {"settings": {}}, {"settings": None}):
        assert read_settings(_task(tmp_path, process)) == Settings()
    assert read_settings(tmp_path / "nothing here") == Settings()


@pytest.mark.parametrize(
    ("process", "message"),
    [
        ({"settings": {"expected_digest_CANARY": ""}}, "the nearest that is: expect_digest"),
        ({"settings": {"fail_on_refusal": "CANARY"}}, "fail_on_refusal must be a bool; got a str"),
        ([{}, {}], "it holds 2"),
    ],
)
def test_a_setting_that_is_wrong_is_refused_and_not_quoted(process: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=message) as error:
        read_settings(_task(tmp_path, process))
    assert "CANARY" not in str(error.value)


def test_a_task_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text("CANARY")
    with pytest.raises(ContractError, match="must be JSON") as error:
        read_settings(tmp_path)
    assert "CANARY" not in str(error.value)
