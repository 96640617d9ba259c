"""`evenbeat accept`: local studies against a model's audit."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.cli_options import DONE, folder_to_fill, merger, pair

FAILED, MORE_NEEDED = 4, 5
DESCRIPTION = """\
Compare the studies of one hospital with what a model's audit says of that scanner group, or of all patients.

pass (status 0): the local 95 % interval lies wholly above the audited value less the margin
fail (status 4): it lies wholly below the lower end of the audited interval less the margin
too few (status 5): neither; the command says how many more patients would probably tell

The margin is that of the audit's plan, else 0.05. For values that are better the lower they are, all is mirrored."""


def add_accept(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evenbeat accept`` to the parser of commands."""
    parser = commands.add_parser("accept", help="local studies against a model's audit: pass, fail or too few")
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("predictions", type=Path, nargs="+", help="CSV or Parquet tables of the hospital's studies")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--package", type=Path, help="folder of the student package, with its audit.json")
    source.add_argument("--audit", type=Path, help="audit.json of an audit")
    parser.add_argument("-o", "--output", type=folder_to_fill, required=True, help="folder for page and numbers")
    parser.add_argument("--model", help="its name in the audit (default: the only one that is not the reference)")
    parser.add_argument("--measure", default="accuracy", help="accuracy, auc or an audited endpoint (accuracy)")
    parser.add_argument("--by", help="grouping column of the audit, or all (default: the first that the table has)")
    parser.add_argument(
        "--group",
        type=pair,
        metavar="COLUMN=GROUP",
        help="group of all studies where the table lacks it, vendor=Siemens",
    )
    parser.add_argument("--margin", type=float, help="largest loss that does not matter (default: the plan's, or 0.05)")
    parser.add_argument(
        "--column", type=pair, action="append", default=[], metavar="NAME=COLUMN", help="patient_id=PatID; repeatable"
    )
    parser.add_argument(
        "--merge",
        type=merger,
        action="append",
        default=[],
        metavar="COLUMN:NAME=NAME",
        help="a group's name here and in the audit, vendor:ge=GE; repeatable",
    )
    parser.add_argument("--split", help="rows to read (default: the only split, or the audit's)")
    parser.add_argument("--title", help="headline of the page")
    parser.set_defaults(command=_accept)


def _accept(arguments: argparse.Namespace) -> int:
    from pipeline.audit.acceptance import accept
    from pipeline.audit.acceptance_page import NUMBERS, PAGE, console_lines, write_acceptance
    from pipeline.audit.acceptance_rule import FAIL, PASS
    from pipeline.audit.audited import read_audited
    from pipeline.audit.local_studies import read_local

    audited = read_audited(arguments.package or arguments.audit, arguments.model)
    measure = audited.measure(arguments.measure)
    studies = read_local(
        arguments.predictions,
        audited,
        measure,
        by=arguments.by,
        group=arguments.group,
        columns=dict(arguments.column),
        merge=_by_column(arguments.merge),
        split=arguments.split,
    )
    found = accept(
        studies.rows,
        audited,
        measure,
        column=studies.column,
        group=studies.group,
        margin=arguments.margin,
        notes=studies.notes,
    )
    write_acceptance(found, arguments.output, title=arguments.title)
    print("\n".join(console_lines(found)))
    print(f"wrote {arguments.output / PAGE} and {arguments.output / NUMBERS}")
    return {PASS: DONE, FAIL: FAILED}.get(found.verdict, MORE_NEEDED)


def _by_column(mergers: list[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for column, old, new in mergers:
        found.setdefault(column, {})[old] = new
    return found
