"""Where a host puts a study and wants its results: one rule for MAP, mercure, older MONAI hosts and plain folders.

Options of the command line go before ``HOLOSCAN_*``, these before ``MERCURE_*``, these before ``MONAI_*``, and these
before the folders that hosts mount by custom. Where two of them name different folders with something in them, nothing
is guessed. Names of other hosts' variables, XNAT's password among them, are neither read nor said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.deployment.file_set import check_ours
from pipeline.deployment.job import Job
from pipeline.deployment.result_json import RESULT

TASK = "task.json"  # mercure's, beside the images
LARGEST_TASK = 1 << 24  # bytes; it lists every image


@dataclass(frozen=True)
class Host:
    """How a host names the two folders.

    Attributes:
        name: of the kind of host.
        input: variable that names the input folder.
        output: variable that names the output folder.
    """

    name: str
    input: str
    output: str


HOSTS = (
    Host("MAP", "HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"),
    Host("mercure", "MERCURE_IN_DIR", "MERCURE_OUT_DIR"),
    Host("MONAI", "MONAI_INPUTPATH", "MONAI_OUTPUTPATH"),
)
MOUNTS = (
    ("/input", "/output"),
    ("/app/data/input_data", "/app/data/output"),
    ("/var/holoscan/input", "/var/holoscan/output"),
)
IN_THE_IMAGE = "/var/holoscan/input"  # our image holds it, empty, whether or not a host mounts anything there


class ContractError(ValueError):
    """Folders that contradict each other, or none at all."""


@dataclass(frozen=True)
class Settings:
    """What a router's rule may set.

    Attributes:
        expect_digest: SHA-256 that the package's manifest must have; empty takes any.
        fail_on_refusal: whether a refused study ends with status 3 instead of 0.
    """

    expect_digest: str = ""
    fail_on_refusal: bool = False


def resolve(
    environment: Mapping[str, str],
    *,
    given_input: str | None = None,
    given_output: str | None = None,
    root: Path = Path("/"),
) -> Job:
    """Find the folder with the study, and the one for its results.

    Args:
        environment: of the process.
        given_input: by the command line; goes before all else.
        given_output: likewise.
        root: below which the folders of custom are sought.

    Returns:
        Both, not the same one; the input is there.

    Raises:
        ContractError: if no folder is named, the named one is not there, or two different ones with content are.
        FileExistsError: if the output holds a ``result.json`` of another program's.
    """
    if given_input:
        source, output = Path(given_input), ""
    else:
        taken = _only_one(_named(environment) or _usual(root))
        source, output = taken.path, taken.output
    job = Job(source, Path(given_output or output or _only_output(environment)))
    if not source.is_dir():
        raise ContractError(f"the input must be a folder; there is none at {source}; mount or name the study's folder")
    if not os.access(source, os.R_OK | os.X_OK):
        raise ContractError(f"the input must be readable; {source} is not, for user {os.getuid()}; correct its rights")
    if _same(source, job.output):
        raise ContractError(f"input and output must be two folders; both are {source}; name another for the results")
    there = next(folder for folder in (job.output.absolute(), *job.output.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ContractError(f"the output must be a folder that user {os.getuid()} may write; {there} is not; mount one")
    check_ours(job.output / RESULT)
    return job


@dataclass(frozen=True)
class _Candidate:
    """A folder that may be the input: by which name it goes, and the output beside it, empty if there is none."""

    path: Path
    name: str
    output: str


def _named(environment: Mapping[str, str]) -> list[_Candidate]:
    hosts = [host for host in HOSTS if environment.get(host.input)]
    return [_Candidate(Path(environment[h.input]), h.input, environment.get(h.output, "")) for h in hosts]


def _usual(root: Path) -> list[_Candidate]:
    mounts = [(root / source.lstrip("/"), root / output.lstrip("/")) for source, output in MOUNTS]
    own = root / IN_THE_IMAGE.lstrip("/")
    there = [(source, output) for source, output in mounts if source.is_dir() and (source != own or not _empty(own))]
    return [_Candidate(source, str(source), str(output)) for source, output in there]


def _only_one(candidates: Sequence[_Candidate]) -> _Candidate:
    """The first candidate with something in it, or the first of all.

    Raises:
        ContractError: if there is none, or several differ.
    """
    if not candidates:
        raise ContractError(
            f"an input folder must be named; got none; give --in and --out, set {HOSTS[0].input} and "
            f"{HOSTS[0].output}, or mount the study at {MOUNTS[0][0]}"
        )
    full = [candidate for candidate in candidates if _holds_something(candidate.path)] or list(candidates[:1])
    others = [candidate.name for candidate in full if not _same(candidate.path, full[0].path)]
    if others:
        raise ContractError(
            f"one input folder must be named; {full[0].name} and {others[0]} name two different ones with files in "
            "them; leave one out, or give --in"
        )
    return full[0]


def _only_output(environment: Mapping[str, str]) -> str:
    """The only output that a variable names.

    Raises:
        ContractError: if there is none, or several differ.
    """
    named = {host.output: environment[host.output] for host in HOSTS if environment.get(host.output)}
    if not named:
        names = ", ".join(host.output for host in HOSTS)
        raise ContractError(f"an output folder must be named; got none; give --out, or set one of {names}")
    first, *others = named
    other = next((name for name in others if not _same(Path(named[name]), Path(named[first]))), None)
    if other is not None:
        raise ContractError(f"one output folder must be named; {first} and {other} name two; give --out")
    return named[first]


def read_settings(folder: Path) -> Settings:
    """What mercure's rule sets, by ``task.json`` beside the images; the defaults where there is none.

    Args:
        folder: with the images.

    Returns:
        The settings.

    Raises:
        ContractError: if a setting is not known or has another type. Nothing of the file is quoted: it names the
            patient.
    """
    task = folder / TASK
    if not task.is_file():
        return Settings()
    try:
        found = json.loads(task.read_bytes()[:LARGEST_TASK])
    except (OSError, ValueError, RecursionError):
        raise ContractError(f"{TASK} must be JSON; it is not; let mercure write it again") from None
    settings = _settings_of(found)
    for name in settings.keys() - set(Settings.__dataclass_fields__):
        import difflib

        near = difflib.get_close_matches(name, Settings.__dataclass_fields__, n=1, cutoff=0)[0]
        raise ContractError(f"a setting of the module must be known; one is not, the nearest that is: {near}")
    for name, value in settings.items():
        kind = type(getattr(Settings(), name))
        if type(value) is not kind:
            raise ContractError(f"the module's setting {name} must be a {kind.__name__}; got a {type(value).__name__}")
    return Settings(**settings)


def _settings_of(task: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON holds
    """``process.settings`` of a task; a chain of modules has them for the one step that is run."""
    process = task.get("process") if isinstance(task, dict) else None
    steps = process if isinstance(process, list) else [process]
    if len(steps) > 1:
        raise ContractError(
            f"{TASK} must hold one processing step; it holds {len(steps)}; let mercure run one at a time"
        )
    settings = steps[0].get("settings") if steps and isinstance(steps[0], dict) else None
    return settings if isinstance(settings, dict) else {}


def _holds_something(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def _empty(folder: Path) -> bool:
    """Whether nothing is in a folder; of one that may not be read, nobody can tell."""
    return os.access(folder, os.R_OK | os.X_OK) and not _holds_something(folder)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
