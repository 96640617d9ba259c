"""The benchmarks run and print a ratio; how large it is depends on the machine and is no test's business."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "ratio"),
    [
        (["benchmarks.preprocessing", "--studies", "2", "--repeats", "1"], r"ours / stock +([0-9.]+)"),
        (["benchmarks.training_step", "--cases", "32", "--epochs", "1"], r"ratio bundle / bare: median ([0-9.]+)"),
    ],
)
def test_a_benchmark_prints_the_ratio_to_its_peer(command: list[str], ratio: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(ratio, done.stdout)
    assert found is not None, done.stdout
    assert float(found[1]) > 0
