"""`evenbeat unseen`: models trained without a scanner, tested on it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.cli_options import DONE, folder_to_fill, names

DESCRIPTION = """\
Train a teacher and a student on all scanners and once more without each, and test them on the scanner left out.

What is finished already is kept; a call after an interruption goes on. The table that is written has every test case
twice for each model, with its scanner seen and unseen in training; `evenbeat audit` shows both side by side."""


def add_unseen(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evenbeat unseen`` to the parser of commands."""
    parser = commands.add_parser("unseen", help="leave each scanner out of training and test on it")
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--datalist", type=Path, required=True, help="datalist.json of prepared studies")
    parser.add_argument(
        "-o", "--output", type=folder_to_fill, required=True, help="folder for predictions.csv and the models"
    )
    parser.add_argument("--by", default="vendor", help="vendor, site, scanner, field_strength_t or software (vendor)")
    parser.add_argument("--only", type=names, default=(), help="values to leave out, comma-separated (default: all)")
    parser.add_argument(
        "--method", default="groupdistil", help="of the student, an overlay of its bundle (groupdistil)"
    )
    parser.add_argument("--epochs", type=int, help="epochs of every training (default: the bundles')")
    parser.add_argument("--seed", type=int, default=0)
    for network in ("teacher", "student"):
        parser.add_argument(
            f"--{network}",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help=f"override of the {network}'s config, e.g. batch_size=16; may be given several times",
        )
    parser.set_defaults(command=_unseen)


def _unseen(arguments: argparse.Namespace) -> int:
    from pipeline.unseen import Network, run_unseen

    common = {"seed": arguments.seed} | ({"num_epochs": arguments.epochs} if arguments.epochs else {})
    table = run_unseen(
        arguments.datalist,
        arguments.output,
        by=arguments.by,
        only=arguments.only,
        teacher=Network("teacher", overrides=common | _overrides(arguments.teacher)),
        student=Network(
            "student",
            ("train.yaml", f"methods/{arguments.method}.yaml"),
            common | _overrides(arguments.student),
        ),
    )
    print(f"wrote {table}")
    print(f"next: evenbeat audit {table} -o {arguments.output / 'report'} --group-by {arguments.by}")
    return DONE


def _overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Keys and values, read as on the bundles' own command line: ``3``, ``1e-3``, ``[4,8]``, ``True``, a text."""
    from fire.parser import DefaultParseValue

    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ValueError(f"an override must be KEY=VALUE; got {pair!r}; write e.g. batch_size=16")
        found[key] = DefaultParseValue(value)
    return found
