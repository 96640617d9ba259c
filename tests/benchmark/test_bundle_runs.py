"""Bundles run in this process: what is refused, and what decides a digest."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.benchmark import bundle_runs
from pipeline.benchmark.bundle_runs import merged_config, run_bundle, training_digest

STUDENT, KD = "cardiac_cine_student", ["train.yaml", "methods/kd.yaml"]


def digest(configs: list[str] = KD, cohort: str = "c", **overrides: Any) -> str:
    return training_digest(merged_config(STUDENT, configs, overrides), cohort=cohort)


def test_the_later_file_and_then_the_override_hold() -> None:
    assert merged_config(STUDENT, ["train.yaml"], {})["weighting"] == "groups"
    assert merged_config(STUDENT, KD, {})["weighting"] == "cases"
    assert merged_config(STUDENT, KD, {"weighting": "groups"})["weighting"] == "groups"


def test_one_run_leaves_no_trace_in_the_next() -> None:
    """Files are read once per process."""
    merged_config(STUDENT, KD, {"optimizer#weight_decay": 7.0, "widths": [1]})["batch_size"] = -1
    later = merged_config(STUDENT, KD, {})
    assert (later["optimizer"]["weight_decay"], later["batch_size"] > 0, len(later["widths"])) == (
        "@weight_decay",
        True,
        4,
    )


@pytest.mark.parametrize(
    ("bundle", "configs", "overrides", "said"),
    [
        (STUDENT, KD, {"group_stp": 1}, r"got 'group_stp'; did you mean 'group_step'\?"),
        (STUDENT, KD, {"optimizer#wd": 1}, "got 'optimizer#wd'"),
        (
            STUDENT,
            ["train.yaml", "methods/dk.yaml"],
            {},
            r"no config 'methods/dk.yaml'; did you mean 'methods/kd.yaml'\?",
        ),
        ("cardiac", KD, {}, "must be one of .*cardiac_cine_student.*; got 'cardiac'"),
    ],
)
def test_what_does_not_exist_is_named(bundle: str, configs: list[str], overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_bundle(bundle, configs, overrides)


def test_a_digest_is_of_what_is_trained_not_of_where() -> None:
    places: dict[str, Any] = {"dataset_dir": "/a", "output_dir": "b", "mlflow_uri": "sqlite:///c", "device": "cpu"}
    assert digest(**places, **{"tracker#run_name": "kd"}) == digest()


@pytest.mark.parametrize("change", [{"seed": 1}, {"num_epochs": 1}, {"cohort": "d"}, {"configs": ["train.yaml"]}])
def test_a_digest_changes_with_what_decides_the_result(change: dict[str, Any]) -> None:
    assert digest(**change) != digest()


def test_another_way_to_weigh_groups_voids_the_runs_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(), digest(["train.yaml"])
    monkeypatch.setattr(bundle_runs, "GROUP_WEIGHTS_VERSION", -1)
    assert digest() == before[0]
    assert digest(["train.yaml"]) != before[1]


def test_whoever_changes_the_preprocessing_raises_the_version_of_the_methods() -> None:
    """No digest of a result holds its settings: without a new version, old results would pass for today's."""
    config = merged_config("cardiac_cine_preprocessing", ["preprocess.yaml"], {})
    decides = {name: config[name] for name in config if name not in {"imports", "num_workers", "initialize", "run"}}
    known = {2: "6909b90794291ec9"}  # METHOD_VERSION -> digest of the settings that it stands for
    assert training_digest({"weighting": "cases", **decides}) == known.get(bundle_runs.METHOD_VERSION)
