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
        (["benchmarks.cine_assembly", "--repeats", "1"], r"read_cine / bare pydicom.*: ([0-9.]+)$"),
        (
            ["benchmarks.teacher_cache", "--cases", "32", "--epochs", "1"],
            r"ratio distillation / plain: median ([0-9.]+)",
        ),
        (["benchmarks.hospital_start", "--repeats", "1", "--no-large"], r"^NIfTI to .*ratio: median ([0-9.]+)"),
        (["benchmarks.hospital_fuzz", "--studies", "3"], r"^([0-9]+) studies in .*: 0 faults$"),
        (["benchmarks.student_latency", "--passes", "3"], r"^onnxruntime: .* student: median ([0-9.]+)"),
        (
            [
                "benchmarks.audit_speed",
                "--draws",
                "200",
                "--fairlearn-draws",
                "2",
                "--rows",
                "2000",
                "--replicates",
                "100",
            ],
            r"fairlearn / ours: ([0-9]+)",
        ),
        (["benchmarks.training_step", "--cases", "32", "--epochs", "1"], r"ratio bundle / bare: median ([0-9.]+)"),
    ],
)
def test_a_benchmark_prints_the_ratio_to_its_peer(command: list[str], ratio: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(ratio, done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    assert float(found[1]) > 0


@pytest.mark.slow
def test_the_benchmark_without_labels_prints_both_tables() -> None:
    """A small phantom: every heart within the crop, every phase within 2 of the true one."""
    command = ["benchmarks.without_labels", "--studies", "12", "--per-cell", "0"]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"phantom +12 +[0-9.]+ +[0-9.]+ +100\.0", done.stdout), done.stdout
    for phase in ("ED", "ES"):
        assert re.search(rf"phantom +12 +{phase} +[01] +[0-9.]+ +[0-9.]+ +100\.0 +[0-2]\n", done.stdout), done.stdout
