"""Tables to which cells are added: whole or not at all, once, by several at a time."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.benchmark.reading import read_measurements
from pipeline.benchmark.records import PREDICTION_COLUMNS, PREDICTIONS, RESULTS, TEST_SETS, Cell, prediction_row
from pipeline.benchmark.results import Results
from tests.benchmark.fakes import HELD_OUT

RIGHT = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])  # of HELD_OUT, every answer right
CELL = Cell("p", "phantom", {"confounding": 1.0}, 0, None, "kd", "student", "digest-0", 10, 20, accuracy=1.0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_cell_comes_back_as_it_was_added(tmp_path: Path) -> None:
    Results(tmp_path).append(CELL, HELD_OUT, RIGHT)
    (found,) = read_measurements(tmp_path)
    assert (found.cell.model, found.cell.dials, found.cell.accuracy) == ("kd", {"confounding": 1.0}, 1.0)
    assert found.probabilities.tolist() == RIGHT.tolist()
    assert Results(tmp_path).digests() == {"digest-0"}


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert Results(tmp_path / "none").digests() == frozenset()


def test_a_cell_stands_once_and_a_test_set_stands_once(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.append(CELL, HELD_OUT, RIGHT)
    before = (tmp_path / RESULTS).read_bytes()
    results.append(replace(CELL, accuracy=0.5), HELD_OUT, RIGHT[::-1])
    assert (tmp_path / RESULTS).read_bytes() == before
    results.append(replace(CELL, config_digest="digest-1"), HELD_OUT, RIGHT)
    assert [len(rows(tmp_path / name)) for name in (RESULTS, PREDICTIONS, TEST_SETS)] == [2, 2, 1]


def test_predictions_of_a_cell_that_was_killed_give_way_to_those_of_the_next_run(tmp_path: Path) -> None:
    """Killed between two tables: the row of results would not be that of the predictions."""
    with (tmp_path / PREDICTIONS).open("w", newline="") as file:
        writer = csv.DictWriter(file, PREDICTION_COLUMNS)
        writer.writeheader()
        writer.writerow(prediction_row("digest-0", HELD_OUT, RIGHT[::-1]))
    results = Results(tmp_path)
    assert results.digests() == frozenset()
    results.append(CELL, HELD_OUT, RIGHT)
    assert read_measurements(tmp_path)[0].probabilities.tolist() == RIGHT.tolist()


def test_cells_added_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    """Each adds by reading, changing and replacing the whole table: without a lock most would be lost."""
    cells = [replace(CELL, config_digest=f"digest-{n}") for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda cell: Results(tmp_path).append(cell, HELD_OUT, RIGHT), cells))
    assert Results(tmp_path).digests() == {cell.config_digest for cell in cells}
    assert len(rows(tmp_path / PREDICTIONS)) == len(cells)


def test_a_table_of_other_columns_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text("plan,model\na,b\n")
    with pytest.raises(ValueError, match="it has plan, model; move it away"):
        Results(tmp_path).append(CELL, HELD_OUT, RIGHT)
    assert (tmp_path / RESULTS).read_text() == "plan,model\na,b\n"


def test_nothing_is_written_of_predictions_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="probabilities must be"):
        Results(tmp_path).append(CELL, HELD_OUT, RIGHT[:2])
    assert list(tmp_path.iterdir()) == []
