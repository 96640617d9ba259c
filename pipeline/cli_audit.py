"""`evenbeat audit`: a table of predictions, group by group."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli_options import DONE, folder_to_fill, merger, names, pair

if TYPE_CHECKING:
    from pipeline.audit.plan import Plan
    from pipeline.audit.reading import Table

PICTURES = (".png", ".svg", ".jpg", ".jpeg")
DESCRIPTION = """\
Assess models scanner by scanner, or by any other column. The unit is the patient.

A table has one row per study, slice or phase:

  patient_id,vendor,label,prob_NOR,prob_DCM
  p1,GE,DCM,0.2,0.8

vendor may be any column that --group-by names, and endpoints such as a Dice may stand in place of label and prob_….
case_id, model and split are read where they are there. Columns with other names are told by --column.

The plan that was followed is written beside the report; given back with --plan it freezes what is compared, so that
nothing can be chosen after looking."""
PLANNED = (
    "group_by", "margin", "positive", "strata", "replicates", "min_patients", "seed", "age_bands", "split", "threshold",
    "endpoints", "reference_group", "merge", "reference_model", "metrics",
)  # fmt: skip


def add_audit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evenbeat audit`` to the parser of commands."""
    parser = commands.add_parser("audit", help="assess a predictions table scanner by scanner")
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("predictions", type=Path, nargs="+", metavar="TABLE", help="CSV or Parquet")
    parser.add_argument("-o", "--output", type=folder_to_fill, required=True, help="folder for audit.html and the rest")
    parser.add_argument("--plan", type=Path, help="plan.yaml to follow; options that contradict it are refused")
    _add_columns(parser.add_argument_group("the table"))
    _add_questions(parser.add_argument_group("what is asked"))
    _add_draws(parser.add_argument_group("how"))
    _add_report(parser.add_argument_group("the report"))
    parser.set_defaults(command=_audit)


def _add_columns(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--column", type=pair, action="append", default=[], metavar="NAME=COLUMN", help="patient_id=PatID; repeatable"
    )
    group.add_argument(
        "--merge", type=merger, action="append", metavar="COLUMN:NAME=NAME", help="vendor:ge=GE; repeatable"
    )
    group.add_argument("--age-bands", type=_years, metavar="YEARS", help="edges that make groups of age, e.g. 40,60")
    group.add_argument("--missing-values", action="store_true", help="rows may lack an endpoint")
    group.add_argument("--split", help="rows to audit (default: test, or the only one)")


def _add_questions(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--group-by", type=names, help="columns, each a table; 'vendor x sex' crosses two (vendor)")
    group.add_argument("--metrics", type=names, help="accuracy, auc (default: both, if there are probabilities)")
    group.add_argument(
        "--endpoint",
        dest="endpoints",
        type=_endpoint,
        action="append",
        metavar="COLUMN:BETTER[:UNIT[:MARGIN]]",
        help="dice:higher or hd95_mm:lower:mm; repeatable",
    )
    group.add_argument("--positive", help="positive class")
    group.add_argument(
        "--threshold", type=_threshold, help="0.5, youden@validation or sensitivity=0.95@validation, of that class"
    )
    group.add_argument(
        "--reference", dest="reference_model", metavar="MODEL", help="the others are compared with it (a teacher)"
    )
    group.add_argument("--margin", type=float, help="of non-inferiority to it, of accuracy and AUC, e.g. 0.05")
    group.add_argument(
        "--reference-group", type=pair, action="append", metavar="COLUMN=GROUP", help="vendor=Siemens; repeatable"
    )
    group.add_argument("--strata", type=names, help="columns of the common case mix (default: the label)")


def _add_draws(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--min-patients", type=int, help="fewer get no interval (10)")
    group.add_argument("--replicates", type=int, help="draws of patients, and permutations (2000)")
    group.add_argument("--seed", type=int, help="of the draws (0)")


def _add_report(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--title", help="headline")
    group.add_argument("--note", help="a sentence printed in the report, e.g. that scanners are simulated")
    group.add_argument("--pictures", type=Path, metavar="DIR", help="folder of CASE_ID.png, .svg or .jpg, to link")
    group.add_argument("--worst-cases", type=int, default=5, help="listed per group and model (5)")
    group.add_argument("--mlflow", metavar="URI", help="log the report to this tracking server or file")
    group.add_argument("--mlflow-run", metavar="ID", help="to log to (default: those that made the predictions)")


def _audit(arguments: argparse.Namespace) -> int:
    from pipeline.audit.assessment import assess
    from pipeline.audit.plan_file import write_plan
    from pipeline.audit.report import write_report
    from pipeline.audit.tables import console_table

    table, plan = read_with_plan(arguments)
    folder: Path = arguments.output
    audit = assess(
        table,
        plan,
        pictures=pictures_in(arguments.pictures, folder),
        worst_cases=arguments.worst_cases,
        progress=True,
    )
    write_report(audit, folder, title=arguments.title, note=arguments.note)
    write_plan(plan, folder / "plan.yaml")
    if arguments.mlflow:
        from pipeline.tracking.audit_run import log_audit

        log_audit(folder, table.frame, audit, arguments.mlflow, run_id=arguments.mlflow_run)
    print(console_table(audit))
    for note in [*_chosen(plan, arguments), *audit.notes]:
        print(f"note: {note}")
    print(f"wrote {folder / 'audit.html'}, audit.json and plan.yaml ({plan.fingerprint[:16]})")
    return DONE


def _chosen(plan: Plan, arguments: argparse.Namespace) -> list[str]:
    """What the options left open, where a reader would want to know how it was settled."""
    settled = []
    if arguments.plan is None and arguments.split is None and plan.split != "test":
        settled.append(f"the split is {plan.split!r}, the only one; a model may have learned from it.")
    if arguments.plan is None and arguments.reference_model is None and plan.reference_model is not None:
        settled.append(f"differences are against {plan.reference_model!r}; --reference names another model.")
    return settled


def read_with_plan(arguments: argparse.Namespace) -> tuple[Table, Plan]:
    """The table, and the plan: the frozen one, or one of the options, with what they leave open seen from the table.

    Left open, the split is the only one or ``test``, the reference a model that is called a teacher, and metrics are
    all if there are probabilities.

    Args:
        arguments: of the command.

    Raises:
        ValueError: if table, plan and options do not go together.
    """
    from pipeline.audit.assessment import choose_reference, choose_split
    from pipeline.audit.layout import Layout
    from pipeline.audit.plan_file import combine, read_plan
    from pipeline.audit.reading import read_table
    from pipeline.tracking.predictions import classes_of

    options, columns = _options(arguments), dict(arguments.column)
    if arguments.plan is not None:
        plan = combine(read_plan(arguments.plan), options)
        return read_table(arguments.predictions, plan.layout(columns, missing_values=arguments.missing_values)), plan
    layout = Layout(
        group_by=options.setdefault("group_by", ("vendor",)),
        endpoints=tuple(options.get("endpoints", ())),
        strata=options.get("strata", ()),
        columns=columns,
        classified=bool(options["metrics"]) if "metrics" in options else None,
        positive=options.get("positive"),
        age_bands=options.get("age_bands", ()),
        merge=options.get("merge", {}),
        missing_values=arguments.missing_values,
    )
    table = read_table(arguments.predictions, layout)
    split = options.setdefault("split", choose_split(table.frame))
    models = table.frame.loc[table.frame["split"] == split, "model"].unique().tolist()
    options.setdefault("reference_model", choose_reference(models))
    if not classes_of(table.frame):
        options.setdefault("metrics", ())
    return table, combine(None, options)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given of the plan, under its names."""
    given = {name: getattr(arguments, name) for name in PLANNED}
    for name in ("endpoints", "reference_group"):
        given[name] = dict(given[name]) if given[name] else None
    if given["merge"] is not None:
        mergers: dict[str, dict[str, str]] = {}
        for column, old, new in given["merge"]:
            mergers.setdefault(column, {})[old] = new
        given["merge"] = mergers
    return {name: value for name, value in given.items() if value is not None}


def pictures_in(folder: Path | None, report: Path) -> dict[str, str]:
    """Pictures of a folder by the case that their names say, as paths from the report's folder.

    Args:
        folder: of ``CASE_ID.png``, ``.svg`` or ``.jpg``; None for no pictures.
        report: folder of the page that will link them.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder of pictures must exist; nothing at {folder}; check --pictures")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    return {path.stem: Path(os.path.relpath(path, report)).as_posix() for path in found}


def _endpoint(text: str) -> tuple[str, Mapping[str, object]]:
    name, better, unit, margin, *more = [*text.split(":"), "", "", ""]
    if not name or better not in {"higher", "lower"} or any(more):
        raise argparse.ArgumentTypeError(
            f"must be COLUMN:higher or COLUMN:lower, then :UNIT and :MARGIN; got {text!r}; write e.g. hd95_mm:lower:mm"
        )
    try:
        given = {"better": better, "unit": unit, "margin": float(margin) if margin else None}
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"the margin must be a number; got {margin!r}; write e.g. {name}:{better}:mm:2"
        ) from None
    return name, {key: value for key, value in given.items() if value not in {None, ""}}


def _threshold(text: str) -> object:
    rule, at, split = text.partition("@")
    name, equals, value = rule.partition("=")
    try:
        if not at:
            return float(text)
        if name == "youden" and not equals:
            return {"rule": "youden", "split": split}
        if name == "sensitivity":
            return {"rule": "sensitivity", "value": float(value), "split": split}
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"must be a number, youden@SPLIT or sensitivity=NUMBER@SPLIT; got {text!r}; write e.g. youden@validation"
    )


def _years(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be whole years; got {text!r}; write e.g. 40,60") from None
