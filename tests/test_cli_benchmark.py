"""`evenbeat benchmark`: what its arguments ask for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.benchmark import document
from pipeline.benchmark import run as engine
from pipeline.benchmark.plan import shipped_plans
from pipeline.benchmark.records import RESULTS
from pipeline.cli import main
from pipeline.cli_benchmark import add_benchmark

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Parse and call with an engine that does nothing; gives what the engine and the page were asked for."""
    asked: dict[str, Any] = {}

    def run_benchmark(plans: Sequence[Any], **options: Any) -> int:
        asked.update(options, plans=[plan.name for plan in plans])
        options["results"].mkdir(parents=True)
        (options["results"] / RESULTS).touch()
        if asked.get("failing"):
            raise RuntimeError("1 of 2 cells failed")
        return 3

    def write_document(results: Path, page: Path, *, plans: Sequence[Any]) -> None:
        asked.update(page=page, on_page=[plan.name for plan in plans])

    def run(*argv: str, failing: bool = False) -> dict[str, Any]:
        asked["failing"] = failing
        parser = argparse.ArgumentParser()
        add_benchmark(parser.add_subparsers())
        arguments = parser.parse_args(["benchmark", *argv])
        try:
            assert arguments.command(arguments) == 0
        except RuntimeError:
            assert failing
        return asked

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine, "run_benchmark", run_benchmark)
    monkeypatch.setattr(document, "write_document", write_document)
    return run


def test_without_a_plan_all_but_the_quick_one_are_run(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    asked = call()
    assert set(asked["plans"]) == set(shipped_plans()) - {"quick"}
    assert (asked["out"], asked["results"], asked["page"]) == tuple(
        map(Path, ("benchmark", "docs/benchmark", "docs/benchmark.md"))
    )
    assert capsys.readouterr().out == "finished 3 cells\nwrote docs/benchmark.md\n"


def test_the_quick_plan_leaves_the_published_tables_alone(call: Call) -> None:
    asked = call("--quick", "--out", "work")
    assert (asked["plans"], asked["results"]) == (["quick"], Path("work/results"))
    with pytest.raises(ValueError, match="got acdc beside it"):
        call("--quick", "acdc")


def test_a_plan_of_ones_own_stands_on_the_page_beside_the_shipped_ones(call: Call, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(shipped_plans()["quick"].read_text().replace("name: quick", "name: mine"))
    asked = call(str(mine), "--seeds", "0-2,5", "--only", "kd,erm", "--workers", "3")
    assert (asked["plans"], asked["seeds"], asked["only"], asked["workers"]) == (
        ["mine"],
        (0, 1, 2, 5),
        ("kd", "erm"),
        3,
    )
    assert set(asked["on_page"]) == {*shipped_plans(), "mine"}


def test_the_page_is_written_of_what_could_be_finished(call: Call) -> None:
    assert "page" in call("--quick", failing=True)


def test_an_interrupt_ends_with_one_line_and_the_status_of_shells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_benchmark(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "run_benchmark", run_benchmark)
    assert main(["benchmark", "--quick", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "evenbeat benchmark: interrupted\n"
