"""Overrides of a bundle run: those that no config holds end the process before it begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipeline.bundles import IDLE, bundle_folders, check_overlays, check_overrides, executed_config

PROGRAM = ["/somewhere/monai/bundle/__main__.py", "run"]


def _refusal(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said as the process ends."""
    with pytest.raises(SystemExit) as stopped:
        check_overrides(line)
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "train.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "group_step": 0.05,
                "weighting": "groups",
                "seed": 0,
                "train": {"trainer": {"_target_": "x", "max_epochs": 3}},
            }
        )
    )
    return str(path)


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        (["--group_stp", "0.5"], "group_step"),
        (["--group-stp=0.5"], "group_step"),
        (["--sead", "1"], "seed"),
        (["--train#trainer#max_epoch", "2"], "train#trainer#max_epochs"),
        (["--train::trainer::max_epoch", "2"], "train#trainer#max_epochs"),
    ],
)
def test_a_misspelt_override_ends_the_process_in_one_line_that_names_the_nearest_key(
    config: str, given: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        check_overrides([*PROGRAM, "--config_file", config, *given])
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    key = given[0].removeprefix("--").partition("=")[0].replace("-", "_")
    assert f"'--{key}'" in line
    assert f"'--{nearest}'" in line


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--group_step", "0.5"],
        ["--seed=3", "--meta_file", "m.json", "--run_id", "run"],
        ["--train#trainer#max_epochs", "2"],
        ["--train#trainer#_disabled_", "True"],
        ["--tracking", "mlflow", "--run_name", "mine"],
    ],
)
def test_right_overrides_and_the_arguments_of_run_pass(config: str, given: list[str]) -> None:
    check_overrides([*PROGRAM, "--config_file", config, *given])


@pytest.mark.parametrize(
    ("overlay", "given", "refused"),
    [
        ({"weighting": "cases"}, ["--group_step", "0.2"], True),
        ({"weighting": "cases"}, ["--group_step", "0.2", "--weighting", "groups"], False),
        ({"weighting": "groups"}, ["--group_step", "0.2"], False),
        ({"weighting": "groups"}, ["--group_step", "0.2", "--weighting", "cases"], True),
        ({"weighting": "cases"}, ["--seed", "3"], False),
    ],
)
def test_settings_of_group_weights_that_would_do_nothing_are_refused(
    config: str, tmp_path: Path, overlay: dict[str, str], given: list[str], *, refused: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "overlay.yaml"
    path.write_text(yaml.safe_dump(overlay))
    line = [*PROGRAM, "--config_file", f"['{config}','{path}']", *given]
    if not refused:
        check_overrides(line)
        return
    said = _refusal(line, capsys)
    assert "'--group_step' does nothing while weighting is 'cases'" in said
    assert "methods/groupdistil.yaml" in said


STUDENT, TEACHER = (bundle_folders()[f"cardiac_cine_{name}"] / "configs" for name in ("student", "teacher"))


@pytest.mark.parametrize(
    ("folder", "overlays", "given", "said"),
    [
        (TEACHER, (), ["--subset_index", "2"], "'--subset_index' does nothing while subset is 'all'"),
        (TEACHER, ("fold_out",), ["--subset_index", "2"], ""),
        (TEACHER, ("fold_out",), ["--subset_fraction", "0.5"], "does nothing while subset is 'fold_out'"),
        (TEACHER, (), ["--averaging_decay", "0.5"], "'--averaging_decay' does nothing while averaging is 'none'"),
        (STUDENT, ("swa",), ["--averaging_decay", "0.5"], "while averaging is 'swa'; list methods/ema.yaml"),
        (STUDENT, ("swa",), ["--averaging_start", "0.3"], ""),
        (STUDENT, (), ["--averaging", "ema", "--averaging_decay", "0.5"], ""),
        (STUDENT, (), ["--cvar_share", "0.9"], "while group_rule is 'gradient'; list methods/cvar.yaml"),
        (STUDENT, ("cvar",), ["--cvar_share", "0.9"], ""),
        (STUDENT, (), ["--label_noise_seed", "3"], "while label_noise is 0.0"),
        (STUDENT, (), ["--label_noise", "0.2", "--label_noise_seed", "3"], ""),
        (STUDENT, ("erm",), ["--temperature", "2"], "'--temperature' does nothing while teacher_checkpoints is []"),
        (STUDENT, ("erm", "kd"), ["--teacher_checkpoint", "t.pt"], "'--teacher_checkpoint' does nothing while"),
        (STUDENT, ("kd",), ["--teacher_checkpoint", "t.pt", "--temperature", "2", "--alpha", "0.5"], ""),
        (STUDENT, ("cvar",), ["--group_step", "0.5"], "while group_rule is 'cvar'; list methods/cvar.yaml no more"),
        (STUDENT, ("groupdistil_validation",), ["--group_driver", "kd"], "while group_feedback is 'validation'"),
        (STUDENT, ("groupdistil_validation",), ["--group_step", "0.2"], ""),
        (STUDENT, ("adaptive_alpha",), ["--alpha", "0.3"], "'--alpha' does nothing while adaptive_alpha is True"),
        (STUDENT, ("kd",), ["--teacher_checkpoint", "a", "--teacher_checkpoints", "['b']"], "; give one"),
        (STUDENT, ("kd",), ["--teacher_checkpoints", "['a','b']"], ""),
        (TEACHER, (), ["--architecture", "densenet121", "--widths", "[8,8,8,8]"], "does nothing while architecture"),
        (TEACHER, (), ["--widths", "[8,8,8,8]"], ""),
        (TEACHER, ("one_group", "dfr"), ["--only_group", "GE"], "a teacher of only_group must have no last layer"),
        (TEACHER, ("one_group",), ["--only_group", "GE"], ""),
    ],
)  # fmt: skip
def test_a_setting_that_would_do_nothing_is_refused_with_what_makes_it_count(
    folder: Path, overlays: tuple[str, ...], given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [folder / "train.yaml", *(folder / "methods" / f"{name}.yaml" for name in overlays)]
    line = [*PROGRAM, "--config_file", f"[{','.join(repr(str(path)) for path in files)}]", *given]
    if not said:
        check_overrides(line)
        return
    assert said in _refusal(line, capsys)


def test_every_key_that_may_be_idle_is_one_of_a_bundle() -> None:
    known = {key for folder in (STUDENT, TEACHER) for key in yaml.safe_load((folder / "train.yaml").read_text())}
    named = {name for setting, _, keys, _ in IDLE for name in (setting, *keys)}
    assert named <= known


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        ({"group_stp": 0.5}, "key 'group_stp' would do nothing"),
        ({"trian": {"batch_size": 3}}, "the nearest known key is 'train'"),
        ({"half": 0.5, "group_step": "$@half / 2"}, ""),
        ({"train#dataloader#timeout": 9, "+settings": {"mine": 1}, "finalize": ["$print('done')"]}, ""),
    ],
)
def test_a_misspelt_key_in_an_overlay_ends_the_process_unless_something_refers_to_it(
    overlay: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(overlay))
    line = [*PROGRAM, "--config_file", f"['{STUDENT / 'train.yaml'}','{path}']"]
    if not said:
        check_overrides(line)
        return
    shown = _refusal(line, capsys)
    assert said in shown
    assert str(path) in shown


@pytest.mark.parametrize("folder", [STUDENT, TEACHER], ids=["student", "teacher"])
def test_the_files_of_a_bundle_go_with_its_training(folder: Path) -> None:
    for name in ("evaluate.yaml", "multi_gpu_train.yaml"):
        check_overlays([folder / "train.yaml", folder / name])


def test_a_misspelt_key_in_an_args_file_is_found(config: str, tmp_path: Path) -> None:
    arguments = tmp_path / "args.json"
    arguments.write_text(json.dumps({"config_file": config, "group_stp": 1.0}))
    with pytest.raises(SystemExit):
        check_overrides([*PROGRAM, "--args_file", str(arguments)])


def test_a_key_of_any_of_several_files_passes(config: str, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("only_here: 1\nseed: '@only_here'\n")
    check_overrides([*PROGRAM, "--config_file", f"['{config}','{overlay}']", "--only_here", "2"])
    with pytest.raises(SystemExit):
        check_overrides([*PROGRAM, "--config_file", config, "--only_here", "2"])


def test_other_processes_are_left_alone() -> None:
    check_overrides(["pytest", "--group_stp", "1"])
    check_overrides(["/x/monai/bundle/__main__.py", "ckpt_export", "--nothing", "1"])
    assert executed_config(["pytest"]) is None


def test_the_executed_config_holds_the_overrides(config: str) -> None:
    text = executed_config([*PROGRAM, "--config_file", config, "--group_step", "0.5", "--train#trainer#max_epochs=9"])
    assert text is not None
    executed = yaml.safe_load(text)
    assert executed["group_step"] == 0.5
    assert executed["train"]["trainer"]["max_epochs"] == 9
    assert executed["seed"] == 0


def test_every_bundle_checks_its_overrides_before_anything_else() -> None:
    from monai.bundle import ConfigParser

    checked = 0
    for folder in bundle_folders().values():
        for path in folder.glob("configs/*.yaml"):
            first = ConfigParser.load_config_file(path).get("initialize", ["absent"])[0]
            if first != "absent":
                assert first == "$pipeline.bundles.check_overrides()", path
                checked += 1
    assert checked >= 7


@pytest.mark.parametrize("folder", [STUDENT, TEACHER], ids=["student", "teacher"])
def test_an_overlay_of_a_method_changes_only_keys_that_the_bundle_has(folder: Path) -> None:
    """A misspelt key in an overlay would be ignored as silently as one on the command line."""
    from monai.bundle import ConfigParser

    known = ConfigParser(ConfigParser.load_config_file(folder / "train.yaml"))
    overlays = list((folder / "methods").glob("*.yaml"))
    assert len(overlays) >= 6
    for path in overlays:
        assert [key for key in ConfigParser.load_config_file(path) if key not in known] == [], path
