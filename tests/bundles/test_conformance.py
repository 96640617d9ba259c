"""The bundles pass the checks of MONAI's model zoo, offline."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, verify_metadata, verify_net_in_out
from packaging.utils import canonicalize_name

from pipeline.bundles import bundle_folders
from pipeline.training.networks import Classifier
from transforms.recipe import StudentInput

ROOT = Path(__file__).parents[2]
SCHEMA = Path(__file__).with_name("metadata_schema.json")
FOLDERS = bundle_folders()
TRAINING = ("cardiac_cine_teacher", "cardiac_cine_student")
FILES = sorted(path for folder in FOLDERS.values() for path in folder.rglob("*") if path.is_file())
TEXTS = [path for path in FILES if path.suffix in {".yaml", ".json", ".conf", ".md"} or path.name == "LICENSE"]
CONFIGS = [path for path in TEXTS if path.suffix in {".yaml", ".json"}]

every_bundle = pytest.mark.parametrize("bundle", sorted(FOLDERS))
every_training_bundle = pytest.mark.parametrize("bundle", TRAINING)


def named(path: Path) -> str:
    return str(path.relative_to(path.parents[[p.name for p in path.parents].index("bundles")]))


def metadata(bundle: str) -> dict[str, Any]:
    return dict(json.loads((FOLDERS[bundle] / "configs" / "metadata.json").read_text()))


@pytest.fixture
def with_model(bundle: str, tmp_path: Path) -> Path:
    """A copy of the bundle with an untrained ``models/model.pt`` of the input that its metadata describes."""
    copy = tmp_path / bundle
    shutil.copytree(FOLDERS[bundle], copy, ignore=shutil.ignore_patterns("eval", "*.pt"))
    recipe = StudentInput()
    network = Classifier(classes=3, channels=2 * recipe.slices)
    state = {"model": network.state_dict(), "network": network.settings, "classes": ["NOR", "HCM", "DCM"]}
    (copy / "models").mkdir(exist_ok=True)
    torch.save({**state, "recipe": recipe.to_dict(), "recipe_digest": recipe.digest}, copy / "models" / "model.pt")
    return copy


def test_three_bundles_are_found() -> None:
    assert set(FOLDERS) == {"cardiac_cine_preprocessing", *TRAINING}


@every_bundle
def test_a_bundle_has_its_licence_and_its_way_of_logging(bundle: str) -> None:
    licence = (FOLDERS[bundle] / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "Version 2.0" in licence
    assert (FOLDERS[bundle] / "configs" / "logging.conf").is_file()


@every_bundle
def test_the_metadata_follow_the_schema_and_list_their_own_version(bundle: str, tmp_path: Path) -> None:
    """The schema lies where MONAI would download it to, so that it is not."""
    schema = shutil.copy(SCHEMA, tmp_path / "schema.json")
    verify_metadata(meta_file=str(FOLDERS[bundle] / "configs" / "metadata.json"), filepath=str(schema))
    assert metadata(bundle)["version"] in metadata(bundle)["changelog"]
    assert metadata(bundle)["name"] == bundle


@every_bundle
def test_metadata_that_break_the_schema_are_refused(bundle: str, tmp_path: Path) -> None:
    """Else the check above could not fail."""
    schema = shutil.copy(SCHEMA, tmp_path / "schema.json")
    broken = {key: value for key, value in metadata(bundle).items() if key != "authors"}
    (tmp_path / "metadata.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="authors"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(schema))


@every_bundle
def test_required_versions_are_those_of_the_lock(bundle: str) -> None:
    lines = (ROOT / "requirements.lock").read_text().split()
    locked = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    known = metadata(bundle)
    required = {"monai": known["monai_version"], "torch": known["pytorch_version"], "numpy": known["numpy_version"]}
    required |= known["required_packages_version"]
    assert required == {name: locked[canonicalize_name(name)] for name in required}


@every_bundle
def test_the_metadata_describe_the_input_of_the_default_recipe(bundle: str) -> None:
    """Of the preprocessing bundle it is the output."""
    formats = metadata(bundle)["network_data_format"]
    image = formats["inputs" if bundle in TRAINING else "outputs"]["image"]
    assert (image["num_channels"], *image["spatial_shape"]) == StudentInput().shape


@every_training_bundle
def test_the_network_takes_and_gives_what_the_metadata_say(
    bundle: str, with_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the folder as it is the default path of the model must lead into the bundle."""
    configs = with_model / "configs"
    monkeypatch.chdir(with_model)
    arguments = {"net_id": "network_def", "config_file": str(configs / "inference.yaml"), "device": "cpu"}
    verify_net_in_out(meta_file=str(configs / "metadata.json"), **arguments)
    changed = metadata(bundle)
    changed["network_data_format"]["outputs"]["pred"]["num_channels"] = 4
    (tmp_path / "metadata.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match="channel number"):
        verify_net_in_out(meta_file=str(tmp_path / "metadata.json"), **arguments)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of TorchScript
@every_training_bundle
def test_the_exported_torchscript_gives_the_logits_of_the_network(bundle: str, with_model: Path) -> None:
    configs, models = with_model / "configs", with_model / "models"
    ckpt_export(
        net_id="network_def",
        filepath=str(models / "model.ts"),
        ckpt_file=str(models / "model.pt"),
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.yaml"),
        key_in_ckpt="model",
        bundle_root=str(with_model),
    )
    network = Classifier(classes=3, channels=16).eval()
    network.load_state_dict(torch.load(models / "model.pt", weights_only=True)["model"])
    image = torch.randn(3, *StudentInput().shape, generator=torch.Generator().manual_seed(0))
    script = torch.jit.load(models / "model.ts").eval()
    np.testing.assert_allclose(script(image).detach(), network(image).detach(), atol=1e-5)


@pytest.mark.slow
@every_training_bundle
def test_train_evaluate_and_inference_have_the_properties_of_their_kind_and_run(
    bundle: str, workflow: Callable[..., Any], trained_teacher: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """The workflow fixture holds ``check_properties() == []`` for each."""
    student = {"teacher_checkpoint": str(trained_teacher / "model.pt")} if "student" in bundle else {}
    common = {"output_dir": str(tmp_path), **small, **student}
    workflow(bundle, ["train.yaml"], **common)
    workflow(bundle, ["train.yaml", "evaluate.yaml"], **common)
    evaluated = (tmp_path / "predictions.csv").read_text().splitlines()
    model, table = str(tmp_path / "model.pt"), tmp_path / "inference.csv"
    workflow(bundle, ["inference.yaml"], "infer", checkpoint=model, predictions=str(table), model_name="again")
    inferred = table.read_text().splitlines()
    assert len(evaluated) == len(inferred) == 1 + 12
    assert [row.split(",")[:10] for row in inferred] == [row.split(",")[:10] for row in evaluated]


@pytest.mark.parametrize("path", CONFIGS, ids=named)
def test_no_config_has_a_key_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONAI_FAIL_ON_DUPLICATE_CONFIG", "1")
    assert ConfigParser.load_config_file(path)


def test_a_key_given_twice_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the check above could not fail."""
    monkeypatch.setenv("MONAI_FAIL_ON_DUPLICATE_CONFIG", "1")
    (tmp_path / "twice.yaml").write_text("seed: 0\nseed: 1\n")
    with pytest.raises(ValueError, match="seed"):
        ConfigParser.load_config_file(tmp_path / "twice.yaml")


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_a_text_ends_in_one_newline_and_no_line_in_a_space(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert re.findall(r"[ \t]+$", text, flags=re.MULTILINE) == []
    assert "\r" not in text


@pytest.mark.parametrize("path", [SCHEMA, *(path for path in CONFIGS if path.suffix == ".json")], ids=lambda p: p.name)
def test_json_is_indented_by_four_spaces(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n"


def test_no_file_of_a_bundle_is_larger_than_a_megabyte() -> None:
    assert len(FILES) > 15
    assert [
        named(path) for path in FILES if path.suffix not in {".pt", ".db"} and path.stat().st_size > 1_000_000
    ] == []


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.suffix == ".yaml"], ids=named)
def test_the_command_on_top_of_a_config_names_files_that_exist(path: Path) -> None:
    """Each config begins with what it is for and how to run it."""
    head = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    files = re.findall(r"configs/[\w/]+\.yaml", head)
    assert f"configs/{path.relative_to(bundle_of(path) / 'configs')}" in files
    assert [name for name in files if not (bundle_of(path) / name).is_file()] == []


def bundle_of(path: Path) -> Path:
    return next(folder for folder in FOLDERS.values() if folder in path.parents)


@every_training_bundle
def test_the_readme_has_the_sections_of_the_zoo(bundle: str) -> None:
    wanted = [
        "Model overview",
        "Data",
        "Training configuration",
        "Input",
        "Output",
        "Performance",
        "MONAI bundle commands",
        "Limitations",
        "Citation",
        "References",
        "License",
    ]
    text = (FOLDERS[bundle] / "docs" / "README.md").read_text()
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == wanted
    assert "research" in text
    assert "not a medical device" in text.lower()


@every_training_bundle
def test_every_override_in_the_readme_is_a_key_of_the_configs_beside_it(bundle: str) -> None:
    """A reader copies these lines."""
    folder = FOLDERS[bundle]
    lines = (folder / "docs" / "README.md").read_text().replace("\\\n", " ").splitlines()
    commands = [line for line in lines if "monai.bundle run" in line]
    assert len(commands) >= 5
    for command in commands:
        files = re.findall(r"configs/[\w/]+\.yaml", command)
        known = ConfigParser(ConfigParser.load_config_files([str(folder / name) for name in files]))
        keys = re.findall(r"--(\w+)", command.split("monai.bundle run")[1])
        assert [key for key in keys if key != "config_file" and key not in known] == [], command
