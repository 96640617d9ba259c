"""The `evenbeat` command: parses, then calls."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from pipeline.cli_options import DONE, INTERRUPTED, WRONG_USAGE, folder_to_fill, process_user

EXTRAS = {
    "audit": "audit",
    "accept": "audit",
    "sheet": "sheet",
    "datalist": "dicom",
    "digits": "benchmark",
    "benchmark": "benchmark",
    "export": "export",
    "predict": "hospital",
    "selftest": "hospital",
    "serve": "hospital",
    "erase": "hospital",
}  # where a command's libraries come from
SHEET_LIBRARIES = {"jinja2", "PIL", "tqdm"}  # which `sheet` adds to `dicom`
Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; those of this process by default.

    Returns:
        0 done, 2 wrong usage, 3 nothing usable, 130 interrupted. An error of ours is raised.
    """
    given = sys.argv[1:] if argv is None else argv
    arguments = _parser(given[:1]).parse_args(given)
    command: Command = arguments.command
    try:
        return command(arguments)
    except PermissionError as error:
        sys.stderr.write(f"evenbeat: {error}; give {process_user()} the right to it\n")
        return WRONG_USAGE
    except (ValueError, OSError) as error:
        sys.stderr.write(f"evenbeat: {error}\n")
        return WRONG_USAGE
    except ModuleNotFoundError as error:
        extra = _extra(arguments.command_name, error.name)
        sys.stderr.write(f"evenbeat {arguments.command_name} needs {error.name}: pip install 'evenbeat[{extra}]'\n")
        return WRONG_USAGE
    except KeyboardInterrupt:
        sys.stderr.write(f"evenbeat {arguments.command_name}: interrupted\n")
        return INTERRUPTED


def _extra(command: str, library: str | None) -> str:
    """Which of the package's extras brings a library that a command lacks."""
    if library == "mlflow":
        return "train"
    return "sheet" if command == "datalist" and library in SHEET_LIBRARIES else EXTRAS.get(command, "train")


def _parser(named: Sequence[str]) -> argparse.ArgumentParser:
    """Parser of the command that is named, or of all: their many options take a while, and a short study waits."""
    parser = argparse.ArgumentParser(
        prog="evenbeat", description="Group-robust distillation of cardiac cine MRI classifiers, audited by scanner."
    )
    commands = parser.add_subparsers(dest="command_name", required=True, metavar="COMMAND")
    adders: dict[str, Callable[[argparse._SubParsersAction[argparse.ArgumentParser]], None]] = {
        "demo": _add_demo,
        "phantom": _add_phantom,
        "digits": _add_digits,
        "datalist": _add_datalist,
        "sheet": _add_sheet,
        "audit": partial(_of, "cli_audit", "add_audit"),
        "accept": partial(_of, "cli_accept", "add_accept"),
        "benchmark": partial(_of, "cli_benchmark", "add_benchmark"),
        "unseen": partial(_of, "cli_unseen", "add_unseen"),
        "export": partial(_of, "cli_export", "add_export"),
        "predict": partial(_of, "cli_predict", "add_predict"),
        "selftest": partial(_of, "cli_predict", "add_selftest"),
        "serve": partial(_of, "cli_serve", "add_serve"),
        "erase": partial(_of, "cli_serve", "add_erase"),
        "bundles": _add_bundles,
    }
    for name in [name for name in named if name in adders] or adders:
        adders[name](commands)
    return parser


def _of(module: str, adder: str, commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """A command whose module is imported once its parser is needed."""
    getattr(import_module(f"pipeline.{module}"), adder)(commands)


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("demo", help="the whole way on a synthetic cohort, in about five minutes")
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

    options = {key: value for key, value in vars(arguments).items() if key not in {"command", "command_name", "out"}}
    write_phantom(arguments.out, **options)
    best = best_possible_accuracy(arguments.out / "phantom_truth.csv")
    figures = {"all": best["overall"], **best["by_vendor"]}
    said = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
    print(f"best possible accuracy on the {best['n']} test studies, from the true anatomy: {said}")
    return DONE


def _add_digits(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("digits", help="write digits on photographs, a small stand-in for Waterbirds")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--training", type=int, default=2000, help="training images (default: 2000)")
    parser.add_argument("--confounding", type=float, default=0.95, help="share at its class's place: 0.5 none, 1 all")
    parser.add_argument("--minority-share", type=float, default=1.0, help="factor on the counts of the second place")
    parser.add_argument("--test-per-cell", type=int, default=100, help="test images of each class x place")
    parser.add_argument("--pixels", type=int, default=32, help="rows and columns (default: 32)")
    parser.set_defaults(command=_digits)


def _digits(arguments: argparse.Namespace) -> int:
    from pipeline.cohort.digits import summary_lines, write_digits
    from pipeline.cohort.digits_plan import CLASSES, PLACES

    options = {key: value for key, value in vars(arguments).items() if key not in {"command", "command_name", "out"}}
    print("\n".join(summary_lines(write_digits(arguments.out, **options))))
    print(
        f"next: evenbeat datalist waterbirds {arguments.out} -o datalist.json --pixels {arguments.pixels} "
        f"--classes {','.join(CLASSES)} --places {','.join(PLACES)}"
    )
    return DONE


def _add_datalist(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from pipeline.cli_datalist import add_sources

    add_sources(commands.add_parser("datalist", help="turn folders of studies into one validated datalist"))


def _add_sheet(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("sheet", help="one page on which a person sees every study of a datalist")
    parser.add_argument("datalist", type=Path, help="datalist.json of raw studies or of prepared ones")
    parser.add_argument(
        "-o", "--output", type=folder_to_fill, required=True, help="folder for index.html and its pictures"
    )
    parser.set_defaults(command=_sheet)


def _sheet(arguments: argparse.Namespace) -> int:
    from pipeline.cohort.case import read_datalist
    from pipeline.sheet.quality_sheet import write_quality_sheet

    print(f"wrote {write_quality_sheet(read_datalist(arguments.datalist), arguments.output)}")
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


if __name__ == "__main__":
    raise SystemExit(main())
