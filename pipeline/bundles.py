"""Where the bundles lie, and what a bundle's command line must hold."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

RUN_ARGUMENTS = frozenset(
    {"run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"}
)
TRACKING_ARGUMENTS = frozenset({"output_dir", "tracking_uri", "experiment_name", "run_name", "save_execute_config"})
OF_GROUP_WEIGHTS = (
    "group_scope", "group_step", "group_driver", "group_feedback", "group_rule", "group_adjustment", "group_normalise",
    "cvar_share", "group_floor", "min_group_size",
)  # fmt: skip
OF_TEACHERS = ("teacher_checkpoint", "alpha", "adaptive_alpha", "temperature", "combination", "combination_weights")
# While a key has one of these values, the keys that then do nothing, and what to do about it.
IDLE: Sequence[tuple[str, Sequence[object], Sequence[str], str]] = (
    ("weighting", ("cases",), OF_GROUP_WEIGHTS, "list an overlay with group weights, say methods/groupdistil.yaml"),
    ("group_rule", ("gradient",), ("cvar_share",), "list methods/cvar.yaml, or give --group_rule cvar"),
    ("group_rule", ("cvar",), ("group_step",), "list methods/cvar.yaml no more, or give --group_rule gradient"),
    ("group_feedback", ("validation",), ("group_driver",), "give --group_feedback training"),
    ("teacher_checkpoints", ([],), OF_TEACHERS, "list methods/erm.yaml no more, or give --teacher_checkpoints"),
    ("adaptive_alpha", (True,), ("alpha",), "list methods/adaptive_alpha.yaml no more"),
    (
        "subset",
        ("all",),
        ("subset_count", "subset_index", "subset_seed"),
        "list methods/fold_out.yaml, say, or give --subset",
    ),
    ("subset", ("all", "fold_out", "bootstrap"), ("subset_fraction",), "give --subset fraction"),
    ("averaging", ("none",), ("averaging_start",), "list methods/swa.yaml or methods/ema.yaml"),
    ("averaging", ("none", "swa"), ("averaging_decay",), "list methods/ema.yaml"),
    ("label_noise", (0,), ("label_noise_kind", "label_noise_seed"), "give --label_noise"),
    ("architecture", ("resnet50", "densenet121", "mobilenetv2"), ("widths",), "these have widths of their own"),
)
SECTION_KEYS = frozenset({"imports", "initialize", "run", "finalize"})


def bundle_folders() -> dict[str, Path]:
    """Folders of the bundles that came with this installation, by name.

    Raises:
        FileNotFoundError: if neither the wheel's nor the checkout's bundle folder is there.
    """
    here = Path(__file__).resolve().parent
    for root in (here / "_bundles", here.parent / "bundles"):
        found = {path.parents[1].name: path.parents[1] for path in sorted(root.glob("*/configs/metadata.json"))}
        if found:
            return found
    raise FileNotFoundError(f"bundles must lie in {here / '_bundles'} or {here.parent / 'bundles'}; reinstall evenbeat")


def bundle_version(name: str) -> str:
    """Version of a bundle, from its metadata."""
    metadata = json.loads((bundle_folders()[name] / "configs" / "metadata.json").read_text())
    return str(metadata["version"])


def check_overrides(argv: Sequence[str] | None = None) -> None:
    """End the process if the command line of ``python -m monai.bundle run`` has a key that would do nothing.

    MONAI accepts any ``--key value`` and ignores those it does not know; and a setting of group weights, say, does
    nothing where every case counts the same (``IDLE``). This runs as the first entry of a bundle's ``initialize``,
    before any data is read, and compares the command line, and an ``args_file``, with the merged config files.
    Processes that were started in another way are left alone.

    Args:
        argv: the command line; that of this process by default.

    Raises:
        SystemExit: with status 2, after one line on standard error that names the key and the nearest known one, or
            what must be set beside it.
    """
    given = _command_line(argv)
    if given is None:
        return
    from monai.bundle import ConfigParser

    files = given["config_file"]
    try:
        check_overlays([files] if isinstance(files, str) else files)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    parser = ConfigParser(ConfigParser.load_config_files(files))
    allowed = RUN_ARGUMENTS | (TRACKING_ARGUMENTS if "tracking" in given else frozenset())
    for key in given:
        if key not in allowed and not _known(parser, key):
            nearest = _nearest(key, parser)
            sys.stderr.write(f"override '--{key}' is in no config file given; the nearest known key is '--{nearest}'\n")
            raise SystemExit(2)
    set_to = parser.config | given
    for setting, values, keys, remedy in IDLE:
        idle = [key for key in keys if key in given]
        if idle and setting in set_to and set_to[setting] in values:
            sys.stderr.write(f"override '--{idle[0]}' does nothing while {setting} is {set_to[setting]!r}; {remedy}\n")
            raise SystemExit(2)
    if {"teacher_checkpoint", "teacher_checkpoints"} <= given.keys():
        sys.stderr.write(
            "override '--teacher_checkpoint' does nothing beside '--teacher_checkpoints'; give one of them\n"
        )
        raise SystemExit(2)
    if set_to.get("only_group") is not None and set_to.get("last_layer") == "dfr":
        sys.stderr.write(
            "a teacher of only_group must have no last layer that dfr fits to all groups; leave one of the two out\n"
        )
        raise SystemExit(2)


def check_overlays(files: Sequence[str | Path]) -> None:
    """Refuse a config file with a key that does nothing beside the files before it.

    A key of an overlay counts if a file before it has that key too, or if anything refers to it; of ``a#b`` it is
    ``a`` that must be there.

    Args:
        files: config files, in the order in which they are merged.

    Raises:
        ValueError: with the file, the key and the nearest known one.
    """
    from monai.bundle import ConfigParser

    merged = json.dumps(ConfigParser.load_config_files([str(path) for path in files]), default=str)
    used = {*re.findall(r"@(\w+)", merged), *SECTION_KEYS}
    before = ConfigParser(ConfigParser.load_config_file(str(files[0])))
    for path in files[1:]:
        overlay = ConfigParser.load_config_file(str(path))
        for key in overlay:
            name = re.split("#|::", key.removeprefix("+"))[0]
            if not _known(before, name) and name not in used:
                raise ValueError(
                    f"{path}: key {key!r} would do nothing: no config file before it has such a key and nothing refers "
                    f"to it; the nearest known key is {_nearest(name, before)!r}"
                )
        before.update(overlay)


def executed_config(argv: Sequence[str] | None = None) -> str | None:
    """The merged config of this bundle run, overrides included, as YAML; ``None`` if this process is no such run."""
    given = _command_line(argv)
    if given is None:
        return None
    import yaml
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_files(given["config_file"]))
    parser.update({key: value for key, value in given.items() if key not in RUN_ARGUMENTS and _known(parser, key)})
    return yaml.safe_dump(parser.config, sort_keys=False, allow_unicode=True)


def _command_line(argv: Sequence[str] | None) -> dict[str, Any] | None:
    """Keys and values given to ``monai.bundle run``, also by an ``args_file``; ``None`` for other commands."""
    argv = sys.argv if argv is None else argv
    program = Path(argv[0]).parts[-3:] if argv else ()
    if program != ("monai", "bundle", "__main__.py") or list(argv[1:2]) != ["run"]:
        return None
    given = _pairs(argv[2:])
    if "args_file" in given:
        from monai.bundle import ConfigParser

        given = {**ConfigParser.load_config_file(given["args_file"]), **given}
    return given if "config_file" in given else None


def _pairs(arguments: Sequence[str]) -> dict[str, Any]:
    """``--key value``, ``--key=value`` and ``--flag`` read as python-fire reads them."""
    from fire.parser import DefaultParseValue

    pairs: dict[str, Any] = {}
    key = None
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            key = name.replace("-", "_")
            pairs[key] = DefaultParseValue(value) if equals else True
            key = None if equals else key
        elif key is not None:
            pairs[key] = DefaultParseValue(argument)
            key = None
    return pairs


def _known(parser: ConfigParser, key: str) -> bool:
    """Whether ``key`` is an entry of the config; MONAI's own switches (``_disabled_``) may be added to any entry."""
    parent, _, leaf = key.replace("::", "#").rpartition("#")
    if leaf.startswith("_") and leaf.endswith("_") and parent:
        return parent in parser
    return key in parser


def _nearest(key: str, parser: ConfigParser) -> str:
    """The known key most like ``key``, at the level at which ``key`` stands."""
    parent, _, leaf = key.replace("::", "#").rpartition("#")
    if parent and parent in parser and isinstance(parser[parent], dict):
        names = [f"{parent}#{name}" for name in parser[parent]]
        leaf = key
    else:
        names, leaf = [name for name in parser.config if name not in SECTION_KEYS], key
    return max(names, key=lambda name: difflib.SequenceMatcher(None, leaf, name).ratio())
