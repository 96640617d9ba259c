"""The `evenbeat` command: parses, then calls."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

DONE, OUR_FAULT, WRONG_USAGE, NOTHING_USABLE = 0, 1, 2, 3
Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; those of this process by default.

    Returns:
        0 done, 2 wrong usage, 3 nothing usable. An error of ours is raised.
    """
    arguments = _parser().parse_args(argv)
    command: Command = arguments.command
    try:
        return command(arguments)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        sys.stderr.write(f"evenbeat: {error}\n")
        return WRONG_USAGE
    except ModuleNotFoundError as error:
        extra = "audit" if arguments.name == "audit" else "train"
        sys.stderr.write(f"evenbeat {arguments.name} needs {error.name}: pip install 'evenbeat[{extra}]'\n")
        return WRONG_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evenbeat", description="Group-robust distillation of cardiac cine MRI classifiers, audited by scanner."
    )
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for add in (_add_demo, _add_phantom, _add_datalist, _add_audit, _add_bundles):
        add(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("demo", help="the whole way on a synthetic cohort, in about ten minutes")
    parser.add_argument("out", type=Path, nargs="?", default=Path("demo"), help="folder to fill (default: demo)")
    parser.add_argument("--studies", type=int, default=272, help="training studies (default: 272, M&Ms' counts)")
    parser.add_argument("--epochs", type=int, help="epochs of every training (default: the bundles')")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(command=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from pipeline.demo import run_demo

    run_demo(arguments.out, studies=arguments.studies, epochs=arguments.epochs, seed=arguments.seed)
    return DONE


def _add_phantom(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("phantom", help="write a cohort of synthetic beating hearts in the M&Ms layout")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--studies", type=int, default=272, help="training studies (default: 272, M&Ms' counts)")
    parser.add_argument("--test-per-cell", type=int, default=12, help="test studies of each vendor x pathology")
    parser.add_argument("--minority-share", type=float, default=1.0, help="factor on the counts of GE and Canon")
    parser.add_argument("--confounding", type=float, default=1.0, help="0: vendor and pathology independent; 1: M&Ms'")
    parser.add_argument("--strength", type=float, default=1.0, help="of the scanners' appearance; 0: all alike")
    parser.add_argument("--full-size", action="store_true", help="real matrix sizes: many gigabytes")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    parser.set_defaults(command=_phantom)


def _phantom(arguments: argparse.Namespace) -> int:
    from pipeline.cohort.phantom import best_possible_accuracy, write_phantom

    options = {key: value for key, value in vars(arguments).items() if key not in {"command", "name", "out"}}
    write_phantom(arguments.out, **options)
    best = best_possible_accuracy(arguments.out / "phantom_truth.csv")
    figures = {"all": best["overall"], **best["by_vendor"]}
    said = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
    print(f"best possible accuracy on the {best['n']} test studies, from the true anatomy: {said}")
    return DONE


def _add_datalist(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("datalist", help="turn folders of studies into one validated datalist")
    parser.add_argument("source", choices=("mnms", "acdc"), help="layout of the folder")
    parser.add_argument("root", type=Path, help="folder with the studies")
    parser.add_argument("-o", "--output", type=Path, required=True, help="datalist.json to write")
    parser.add_argument("--classes", type=_names, default=("NOR", "HCM", "DCM"), help="comma-separated (NOR,HCM,DCM)")
    parser.add_argument("--map", type=_mapping, default={}, help="pathologies counted as others, e.g. HHD=HCM")
    parser.add_argument("--group-by", type=_names, default=("vendor",), help="comma-separated columns (vendor)")
    parser.add_argument(
        "--split",
        choices=("stratified", "folders"),
        default="stratified",
        help="patients drawn anew, or as the folders Training, Validation, Testing say",
    )
    parser.add_argument(
        "--shares",
        type=_shares,
        default=(0.6, 0.2, 0.2),
        help="of the patients for training, validation, test (0.6,0.2,0.2)",
    )
    parser.add_argument("--simulate-scanners", choices=("mnms",), help="ACDC: vendors simulated with M&Ms' shares")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.set_defaults(command=_datalist)


def _datalist(arguments: argparse.Namespace) -> int:
    from pipeline.cohort.case import SECTIONS, write_datalist
    from pipeline.cohort.summary import summary_lines

    common = {
        "classes": arguments.classes,
        "group_by": arguments.group_by,
        "seed": arguments.seed,
        "fractions": dict(zip(SECTIONS, arguments.shares, strict=True)),
    }
    if arguments.source == "mnms":
        from pipeline.cohort.mnms import import_mnms

        listed = import_mnms(arguments.root, split=arguments.split, class_map=arguments.map, **common)
    else:
        from pipeline.cohort.acdc import import_acdc

        listed = import_acdc(arguments.root, simulate_scanners=arguments.simulate_scanners, **common)
    print("\n".join(summary_lines(listed)))
    if not any(listed.sections.values()):
        sys.stderr.write("no study came in; the reasons are listed above\n")
        return NOTHING_USABLE
    write_datalist(listed, arguments.output)
    print(f"wrote {arguments.output}")
    return DONE


def _add_audit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("audit", help="assess a predictions table scanner by scanner")
    parser.add_argument("predictions", type=Path, nargs="+", help="CSV or Parquet tables")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for audit.html and audit.json")
    parser.add_argument("--group-by", type=_names, default=("vendor",), help="comma-separated columns (vendor)")
    parser.add_argument("--replicates", type=int, default=2000, help="of the patient bootstrap")
    parser.add_argument("--min-patients", type=int, default=10, help="fewer get no interval")
    parser.add_argument("--note", help="a sentence printed in the report, e.g. that scanners are simulated")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(command=_audit)


def _audit(arguments: argparse.Namespace) -> int:
    from pipeline.audit.report import write_report
    from pipeline.audit.tables import console_table
    from pipeline.tracking.predictions import read_predictions

    audit = write_report(
        read_predictions(arguments.predictions),
        arguments.output,
        group_by=arguments.group_by,
        replicates=arguments.replicates,
        seed=arguments.seed,
        min_patients=arguments.min_patients,
        note=arguments.note,
    )
    print(console_table(audit))
    print(f"wrote {arguments.output / 'audit.html'} and {arguments.output / 'audit.json'}")
    return DONE


def _add_bundles(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bundles", help="where the MONAI bundles lie")
    parser.add_argument("bundle", nargs="?", help="one bundle's name: its folder alone is printed")
    parser.set_defaults(command=_bundles)


def _bundles(arguments: argparse.Namespace) -> int:
    from pipeline.bundles import bundle_folders

    folders = bundle_folders()
    if arguments.bundle is None:
        print("\n".join(f"{name}  {folder}" for name, folder in folders.items()))
        return DONE
    if arguments.bundle not in folders:
        raise ValueError(f"bundle must be one of {', '.join(folders)}, got {arguments.bundle!r}")
    print(folders[arguments.bundle])
    return DONE


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("needs at least one name; separate several by commas")
    return names


def _shares(text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise argparse.ArgumentTypeError(f"must be three numbers that sum to 1, like 0.6,0.2,0.2, got {text!r}")
    return shares


def _mapping(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in _names(text)]
    if not all(equals and old and new for old, equals, new in pairs):
        raise argparse.ArgumentTypeError(f"must be pairs like HHD=HCM, separated by commas, got {text!r}")
    return {old: new for old, _, new in pairs}


if __name__ == "__main__":
    raise SystemExit(main())
