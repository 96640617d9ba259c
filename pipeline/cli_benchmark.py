"""`evenbeat benchmark`: every model on every cohort, into one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli_options import DONE, folder_to_fill, names

if TYPE_CHECKING:
    from pipeline.benchmark.plan import Plan

DESCRIPTION = """\
Train and measure every model of some plans, on every cohort and seed, and write the page that compares them.

What is finished already is kept; a call after an interruption goes on. Plans are YAML files: those that came with
evenbeat go by their names, others by their paths."""


def add_benchmark(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``evenbeat benchmark`` to the parser of commands."""
    parser = commands.add_parser("benchmark", help="compare methods over cohorts and seeds, into one page")
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("plans", nargs="*", metavar="PLAN", help="shipped plan or YAML file (default: all shipped)")
    parser.add_argument("--quick", action="store_true", help="the plan `quick` alone: everything once, in minutes")
    parser.add_argument(
        "--out", type=folder_to_fill, default=Path("benchmark"), help="folder of the work (default: benchmark)"
    )
    parser.add_argument(
        "--results",
        type=folder_to_fill,
        help="folder of the tables; the page stands beside it (default: docs/benchmark; with --quick OUT/results)",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each; 0: this one (default: 2)")
    parser.add_argument("--seeds", help="in place of the plans', e.g. 0-9 or 0,3")
    parser.add_argument("--only", type=names, help="models, comma-separated")
    parser.set_defaults(command=_benchmark)


def _benchmark(arguments: argparse.Namespace) -> int:
    from pipeline.benchmark.plan import QUICK, find_plans, seeds_of, shipped_plans
    from pipeline.benchmark.run import run_benchmark

    if arguments.quick and arguments.plans:
        raise ValueError(f"--quick is the plan {QUICK}; got {', '.join(arguments.plans)} beside it; leave one out")
    results = arguments.results or (arguments.out / "results" if arguments.quick else Path("docs/benchmark"))
    shipped = list(shipped_plans())
    chosen = [QUICK] if arguments.quick else arguments.plans or [name for name in shipped if name != QUICK]
    plans = find_plans(chosen)
    on_page = find_plans([*shipped, *(name for name in chosen if name not in shipped)])
    seeds = seeds_of(arguments.seeds) if arguments.seeds else None
    try:
        finished = run_benchmark(
            plans, out=arguments.out, results=results, workers=arguments.workers, seeds=seeds, only=arguments.only
        )
    except RuntimeError:
        _write_page(results, on_page)  # of what could be finished
        raise
    print(f"finished {finished} cells")
    _write_page(results, on_page)
    return DONE


def _write_page(results: Path, plans: Sequence[Plan]) -> None:
    from pipeline.benchmark.document import write_document
    from pipeline.benchmark.records import RESULTS

    page = results.with_suffix(".md")
    if (results / RESULTS).is_file():
        write_document(results, page, plans=plans)
        print(f"wrote {page}")
