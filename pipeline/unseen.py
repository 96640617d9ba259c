"""How a model serves a scanner that it has never seen: leave each one out of training, test on it, compare.

A teacher and a student are trained once on all scanners and once without each. Each test case of a scanner is then read
twice by both: by the model that has seen its scanner, and by the one that has not. Test patients are in no training,
since a patient stands in one section of a datalist only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline.benchmark.bundle_runs import merged_config, run_bundle, training_digest
from pipeline.cohort.case import Case, Datalist, column_value, read_datalist, write_datalist
from pipeline.files import atomic_path
from pipeline.tracking.group_metrics import slug
from transforms.scanner import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("vendor", "site", "scanner", "field_strength_t", "software")
SEEN, UNSEEN = "seen", "unseen"
EVERYTHING = "all"  # folder of the models that have seen every scanner
TABLE = "predictions.csv"
SETTINGS = "unseen.json"
OURS = ("datalist", "dataset_dir", "output_dir", "ckpt_dir", "teacher_checkpoint", "teacher_checkpoints")
RunBundle = Callable[[str, Sequence[str], Mapping[str, Any]], None]


@dataclass(frozen=True)
class Network:
    """One of the two networks that are trained on each datalist.

    Args:
        name: ``teacher`` or ``student``; its bundle is ``cardiac_cine_<name>``.
        configs: config files of the bundle that train it.
        overrides: keys and values of the config; not those that say where things lie.

    Raises:
        ValueError: if an override is in no config file, or is one that each run sets for itself.
    """

    name: str
    configs: tuple[str, ...] = ("train.yaml",)
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in OURS:
            if key in self.overrides:
                raise ValueError(f"{key!r} differs from run to run and cannot be given for all; leave it out")
        merged_config(self.bundle, self.configs, self.overrides)

    @property
    def bundle(self) -> str:
        """Name of its bundle."""
        return f"cardiac_cine_{self.name}"


@dataclass(frozen=True)
class Fold:
    """What is trained on one datalist.

    Args:
        left_out: the scanner that is in neither training nor validation; None for the fold that has them all.
        datalist: what is learnt from.
        folder: where the datalist and the models lie.
    """

    left_out: str | None
    datalist: Datalist
    folder: Path


def leave_out(datalist: Datalist, by: str, value: str) -> Datalist:
    """The datalist without one scanner's cases in training and validation; the test section keeps all.

    Cases whose ``by`` is unknown are left out as well: they could come from that scanner.

    Args:
        datalist: the whole cohort.
        by: one of ``vendor``, ``site``, ``scanner``, ``field_strength_t``, ``software``.
        value: of that column.

    Raises:
        ValueError: if the column or value is not one to leave out, or what remains lacks a class in training or every
            case of validation.
    """
    known = values_to_leave_out(datalist, by)
    if value not in known:
        raise ValueError(f"the {by} to leave out must be one of the test section's, {', '.join(known)}; got {value!r}")
    gone = {value, UNKNOWN}
    sections = {
        section: tuple(case for case in cases if section == "test" or column_value(case, by) not in gone)
        for section, cases in datalist.sections.items()
    }
    missing = sorted(set(datalist.classes) - {case.label for case in sections["training"]})
    if missing or not sections["validation"]:
        lacks = f"no training case of {', '.join(missing)}" if missing else "no validation case"
        raise ValueError(
            f"{by} {value!r} cannot be left out: without it there is {lacks}; name the others to leave out"
        )
    note = f"{by} {value} is left out of training and validation, and with it the cases of unknown {by}"
    return replace(datalist, sections=sections, notes=(*datalist.notes, note))


def values_to_leave_out(datalist: Datalist, by: str) -> tuple[str, ...]:
    """Values of a column in the test section, by name; unknown is none of them.

    Raises:
        ValueError: if ``by`` describes no scanner.
    """
    if by not in COLUMNS:
        raise ValueError(f"what is left out must be one of {', '.join(COLUMNS)}; got {by!r}; choose one of them")
    return tuple(sorted({column_value(case, by) for case in datalist.sections["test"]} - {UNKNOWN}))


def run_unseen(
    datalist: str | Path,
    out: str | Path,
    *,
    by: str = "vendor",
    only: Sequence[str] = (),
    teacher: Network | None = None,
    student: Network | None = None,
    run: RunBundle = run_bundle,
) -> Path:
    """Train teacher and student on all scanners and without each, and write what they say of the test cases.

    What is finished is kept: a second call, also after an interruption, goes on.

    Args:
        datalist: of prepared studies.
        out: folder to fill: a folder of models per fold, ``predictions.csv``, MLflow's database.
        by: column whose values are left out, one at a time.
        only: values to leave out; those of the test section by default.
        teacher: how it is trained; as its bundle says by default.
        student: how it is trained.
        run: runs a bundle with config files and overrides.

    Returns:
        Path of the table: test cases of the scanners left out, read by each model with its scanner ``seen`` and
        ``unseen`` in training. The column ``seen`` says which, and so does the model's name: an audit shows both side
        by side, and compares them case by case.

    Raises:
        FileNotFoundError: if there is no datalist.
        ValueError: if the datalist holds raw studies or unlabelled ones, a scanner cannot be left out, or ``out``
            holds a run with other settings.
    """
    path, out = Path(datalist).resolve(), Path(out).resolve()
    networks = (teacher or Network("teacher"), student or Network("student"))
    folds = _folds(_whole(path), by, only, out)
    _same_settings(out, _settings(path, by, networks))
    with tqdm(total=len(folds) * len(networks), desc="unseen", unit="model") as bar:
        for fold in folds:
            write_datalist(fold.datalist, fold.folder / "datalist.json")
            for network in networks:
                bar.set_postfix_str(f"{network.name}, {_in_words(fold, by)}")
                _train_and_read(network, fold, path.parent, _in_words(fold, by), run)
                bar.update()
    return _write_table(out, folds, networks, by)


def _whole(path: Path) -> Datalist:
    datalist = read_datalist(path)
    if datalist.recipe is None:
        raise ValueError(
            f"training needs prepared studies, but {path} lists raw ones; run the bundle cardiac_cine_preprocessing "
            "and give its datalist.json"
        )
    unlabelled = sum(not case.label for case in datalist.sections["test"])
    if unlabelled or not datalist.sections["test"]:
        raise ValueError(
            f"the test section must hold labelled cases only; {unlabelled} of {len(datalist.sections['test'])} have no "
            "label; take those out of the datalist"
        )
    return datalist


def _folds(whole: Datalist, by: str, only: Sequence[str], out: Path) -> list[Fold]:
    values = values_to_leave_out(whole, by)
    folders = [f"without-{slug(value)}" for value in values]
    if len(set(folders)) < len(folders):
        raise ValueError(f"values of {by} need different folders; got {', '.join(folders)}; rename one in the datalist")
    chosen = dict.fromkeys(only) or values
    left = [Fold(value, leave_out(whole, by, value), out / f"without-{slug(value)}") for value in chosen]
    return [Fold(None, whole, out / EVERYTHING), *left]


def _settings(path: Path, by: str, networks: Sequence[Network]) -> dict[str, Any]:
    """All that decides the models, in words and digests."""
    from pipeline.training.data import Cohort

    trained = {
        network.name: training_digest(merged_config(network.bundle, network.configs, network.overrides))
        for network in networks
    }
    return {"by": by, "cohort": [Cohort(path).digest, Cohort(path, (by,)).digest], **trained}


def _same_settings(out: Path, settings: Mapping[str, Any]) -> None:
    path = out / SETTINGS
    if path.is_file() and (before := json.loads(path.read_text())) != settings:
        changed = sorted(key for key in settings if before.get(key) != settings[key])
        raise ValueError(
            f"{out} holds a run of another {' and another '.join(changed)}; give the same to go on with it, or choose "
            "another folder"
        )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings))


def _in_words(fold: Fold, by: str) -> str:
    return "all scanners" if fold.left_out is None else f"without {by} {fold.left_out}"


def _train_and_read(network: Network, fold: Fold, prepared: Path, words: str, run: RunBundle) -> None:
    """Train one network and let it read the test section, unless it has; the bundle goes on from its checkpoint."""
    from pipeline.tracking.mlflow_store import resolve_tracking_uri

    folder = fold.folder / network.name
    if (folder / TABLE).is_file():
        return
    options = {
        "mlflow_uri": resolve_tracking_uri(None, fold.folder.parent),
        "experiment": "evenbeat-unseen",
        "registered_model": None,  # these models answer a question; none is meant for use
        **network.overrides,
        "dataset_dir": str(prepared),
        "datalist": str(fold.folder / "datalist.json"),
        "output_dir": str(folder),
    }
    if network.name == "student":
        options["teacher_checkpoint"] = str(fold.folder / "teacher" / "model.pt")
    run(network.bundle, network.configs, {**options, "tracker#run_name": f"{network.name}, {words}"})
    run(
        network.bundle,
        (network.configs[0], "evaluate.yaml"),
        {**options, "tracker#run_name": f"{network.name}-evaluate, {words}"},
    )


def _write_table(out: Path, folds: Sequence[Fold], networks: Sequence[Network], by: str) -> Path:
    from pipeline.tracking.predictions import concatenate, write_predictions

    everything, *others = folds
    trained = {column_value(case, by) for case in everything.datalist.sections["training"]}
    parts = {}
    for network in networks:
        for fold in others:
            cases = [case for case in everything.datalist.sections["test"] if column_value(case, by) == fold.left_out]
            parts[f"{network.name} {UNSEEN} {fold.left_out}"] = _read(fold, network, cases, by, UNSEEN)
            if fold.left_out in trained:
                parts[f"{network.name} {SEEN} {fold.left_out}"] = _read(everything, network, cases, by, SEEN)
    write_predictions(concatenate(parts), out / TABLE)
    return out / TABLE


def _read(fold: Fold, network: Network, cases: Sequence[Case], by: str, seen: str) -> pd.DataFrame:
    """What the fold's model said of some test cases."""
    from pipeline.tracking.predictions import read_predictions

    frame = read_predictions(fold.folder / network.name / TABLE)
    values = {case.case_id: column_value(case, by) for case in cases}
    rows = frame[frame["case_id"].isin(list(values))]
    if by not in rows.columns:
        rows = rows.assign(**{by: rows["case_id"].map(values)})
    return rows.assign(model=rows["model"] + f", {seen}", seen=seen)
