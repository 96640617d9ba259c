"""How many studies a training visits: what the benchmark writes beside its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.benchmark.bundle_runs import training_size

TEACHER, STUDENT = "cardiac_cine_teacher", "cardiac_cine_student"


@pytest.mark.parametrize(
    ("bundle", "overlays", "overrides", "expected"),
    [
        (STUDENT, [], {}, 24),
        (TEACHER, [], {"subset": "bootstrap"}, 24),
        (TEACHER, ["methods/one_group.yaml"], {"only_group": "GE"}, 5),
    ],
)
def test_a_subset_or_a_group_counts_for_itself(
    prepared: Path, bundle: str, overlays: list[str], overrides: dict[str, Any], expected: int
) -> None:
    """24 training patients, 5 of them of GE; a bootstrap draws as many as there are."""
    assert training_size(bundle, ["train.yaml", *overlays], {"dataset_dir": str(prepared), **overrides}) == expected


def test_each_patient_is_left_out_once_but_for_the_only_one_of_a_vendor_and_label(prepared: Path) -> None:
    """Four folds of 24 patients, of whom GE has one and Canon two that are alone: 3 x 24 + 3."""
    sizes = [
        training_size(
            TEACHER, ["train.yaml", "methods/fold_out.yaml"], {"dataset_dir": str(prepared), "subset_index": index}
        )
        for index in range(4)
    ]
    assert sum(sizes) == 75
