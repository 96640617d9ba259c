"""Bundles run in this process, and the digests by which their results are known again."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.bundles import bundle_folders, check_overlays
from pipeline.cohort.validation import nearest

METHOD_VERSION = 2  # raise when code, rather than a setting, changes what a run gives
GROUP_WEIGHTS_VERSION = 2  # likewise, of runs that weigh by group alone
WHERE_NOT_WHAT = frozenset(  # keys that say where or how a run works, and not what comes out
    {"bundle_root", "dataset_dir", "datalist", "output_dir", "ckpt_dir", "cache_dir", "teacher_checkpoint"}
    | {
        "teacher_checkpoints",
        "biased_checkpoint",
        "start_checkpoint",
        "device",
        "num_workers",
        "tracker",
        "registered_model",
    }
    | {"mlflow_uri", "experiment", "registered_alias"}
)


def run_bundle(bundle: str, configs: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Run a bundle in this process, as ``python -m monai.bundle run`` would in one of its own.

    The random state and MONAI's metadata switch are those of the bundle afterwards.

    Args:
        bundle: its name.
        configs: config files in its folder ``configs``; of equal keys the later file's holds.
        overrides: keys and values, nested ones as ``tracker#run_name``.

    Raises:
        ValueError: if the bundle, a file or a key does not exist.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser(merged_config(bundle, configs, overrides))
    if "tracker" in parser:
        text = _config_text(parser.config)
        parser["tracker#config"] = lambda: text
    for step in ("initialize", "run"):
        parser.get_parsed_content(step)
    del parser
    gc.collect()  # what was built refers to itself: networks and data of hundreds of runs would stay


def training_size(bundle: str, configs: Sequence[str], overrides: Mapping[str, Any]) -> int:
    """Cases that a training visits in an epoch: those of its subset or group, where it has one.

    Args:
        bundle: name of a training bundle.
        configs: config files in its folder ``configs``.
        overrides: keys and values, the folder of the studies among them.
    """
    from monai.bundle import ConfigParser

    return len(ConfigParser(merged_config(bundle, configs, overrides)).get_parsed_content("train#sampler"))


def merged_config(bundle: str, configs: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What a run of a bundle is made of: its config files merged, with the overrides in place.

    Raises:
        ValueError: if the bundle, a file or a key does not exist.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser(copy.deepcopy(_loaded(bundle, tuple(configs))))
    for key in overrides:
        if key not in parser:
            known = [name for name in parser.config if name not in {"imports", "initialize", "run"}]
            raise ValueError(
                f"an override must be a key of {bundle}'s {list(configs)}, got {key!r}; {nearest(key, known)}"
            )
    parser.update(copy.deepcopy(dict(overrides)))
    return dict(parser.config)


def config_keys(bundle: str, configs: Sequence[str]) -> frozenset[str]:
    """Keys of the uppermost level of a bundle's merged config files."""
    return frozenset(_loaded(bundle, tuple(configs)))


def training_digest(config: Mapping[str, Any], **beside: Any) -> str:  # noqa: ANN401
    """Name of a training's result: 16 hex digits of the SHA-256 of all that decides it.

    Args:
        config: merged, see :func:`merged_config`; keys that say where a run works do not count.
        beside: JSON values that the config does not hold: the cohort's settings, its teachers' digests.
    """
    decides = {key: value for key, value in config.items() if key not in WHERE_NOT_WHAT}
    if config["weighting"] == "groups":
        beside["group_weights"] = GROUP_WEIGHTS_VERSION
    return digest_of({"config": decides, **beside})


def digest_of(values: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of JSON values and of the methods' version."""
    text = json.dumps({"methods": METHOD_VERSION, **values}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _loaded(bundle: str, configs: tuple[str, ...]) -> dict[str, Any]:
    from monai.bundle import ConfigParser

    folders = bundle_folders()
    if bundle not in folders:
        raise ValueError(f"a bundle must be one of {', '.join(folders)}; got {bundle!r}")
    files = [folders[bundle] / "configs" / name for name in configs]
    for path, name in zip(files, configs, strict=True):
        if not path.is_file():
            known = [str(p.relative_to(path.parents[len(Path(name).parts) - 1])) for p in _overlays(folders[bundle])]
            raise ValueError(f"{bundle} has no config {name!r}; {nearest(name, known)}")
    check_overlays(files)
    return dict(ConfigParser.load_config_files([str(path) for path in files]))


def _overlays(folder: Path) -> list[Path]:
    return sorted((folder / "configs").rglob("*.yaml"))


def _config_text(config: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
