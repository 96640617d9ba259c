"""Group metrics inside an evaluating engine."""

from __future__ import annotations

import multiprocessing
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from monai.engines import SupervisedEvaluator
from torch.utils.data import DataLoader

from pipeline.tracking.ignite_metrics import GroupMetrics
from pipeline.tracking.predictions import validate

CLASSES = ("NOR", "DCM")
# logits whose softmax is exact: 1/5 and 4/5
CERTAIN = {0: [log(4.0), 0.0], 1: [0.0, log(4.0)]}


def case(number: int, vendor: str, label: int, said: int, field: object = "1.5 T") -> dict[str, Any]:
    return {
        "image": torch.tensor(CERTAIN[said]),
        "label": label,
        "case_id": f"c{number}",
        "patient_id": f"p{number}",
        "site": "A",
        "vendor": vendor,
        "scanner": "unknown",
        "field_strength_t": field,
    }


COHORT = [
    case(0, "Siemens", 0, 0),
    case(1, "Siemens", 1, 1),
    case(2, "GE", 0, 0),
    case(3, "GE", 1, 0, field="3 T"),
    case(4, "Siemens", 1, 1),
]


def evaluate(
    metric: GroupMetrics, cases: Any, *, decollate: bool, key: str = "val/accuracy/average"
) -> SupervisedEvaluator:
    """Run a network that says what the image holds."""
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(cases, batch_size=2),
        network=torch.nn.Identity(),
        key_val_metric={key: metric},
        decollate=decollate,
    )
    evaluator.run()
    return evaluator


@pytest.mark.parametrize("decollate", [False, True])
def test_metrics_by_vendor_match_values_worked_out_by_hand(decollate: bool) -> None:
    """Siemens 3 of 3, GE 1 of 2; a wrong answer costs ln 5, a right one ln 5/4."""
    metric = GroupMetrics(split="val", known_groups={"vendor": ["Siemens", "Philips", "GE"]})
    metrics = evaluate(metric, COHORT, decollate=decollate).state.metrics
    assert metrics["val/accuracy/vendor/siemens"] == 1.0
    assert metrics["val/accuracy/vendor/ge"] == 0.5
    assert metrics["val/accuracy/worst/vendor"] == 0.5
    assert metrics["val/accuracy/average"] == 0.8
    assert metrics["val/n/vendor/ge"] == 2.0
    assert metrics["val/accuracy/field_strength_t/3-t"] == 0.0
    assert metrics["val/loss/vendor/siemens"] == pytest.approx(log(5 / 4), abs=1e-6)
    assert metrics["val/loss/vendor/ge"] == pytest.approx((log(5 / 4) + log(5)) / 2, abs=1e-6)
    assert metrics["val/loss/worst/vendor"] == metrics["val/loss/vendor/ge"]


def test_a_known_group_without_a_case_is_listed_with_none() -> None:
    """A scanner that the split lacks is told apart from one that nobody asked about."""
    metric = GroupMetrics(split="val", columns=["vendor"], known_groups={"vendor": ["Philips"]})
    metrics = evaluate(metric, COHORT, decollate=False).state.metrics
    assert metrics["val/n/vendor/philips"] == 0.0
    assert "val/accuracy/vendor/philips" not in metrics
    assert {"column": "vendor", "group": "Philips", "n": 0}.items() <= metric.per_group()[0].items()
    assert metric.per_group()[0]["accuracy"] is None


def test_metrics_are_flat_so_that_no_value_is_logged_under_two_names() -> None:
    """Ignite would by default keep the whole mapping as well, under the metric's name."""
    metrics = evaluate(GroupMetrics(split="val"), COHORT, decollate=False).state.metrics
    assert all(isinstance(value, float) for value in metrics.values())


def test_the_worst_vendor_is_what_selects_the_model() -> None:
    evaluator = evaluate(GroupMetrics(split="val"), COHORT, decollate=True, key="val/accuracy/worst/vendor")
    assert evaluator.state.best_metric == 0.5


def test_a_key_metric_that_does_not_exist_is_refused_with_the_names_that_do() -> None:
    with pytest.raises(ValueError, match=r"val/accuracy/worst/vendr.*val/accuracy/worst/vendor"):
        evaluate(GroupMetrics(split="val"), COHORT, decollate=False, key="val/accuracy/worst/vendr")


def test_a_batch_without_a_grouping_column_is_refused_by_name() -> None:
    without = [{key: value for key, value in row.items() if key != "vendor"} for row in COHORT]
    with pytest.raises(ValueError, match="lacks vendor"):
        evaluate(GroupMetrics(split="val"), without, decollate=False)


def test_a_second_pass_forgets_the_first() -> None:
    metric = GroupMetrics(split="val")
    evaluator = evaluate(metric, COHORT, decollate=False)
    evaluator.run(global_epoch=2)
    assert evaluator.state.metrics["val/n/vendor/siemens"] == 3.0


@pytest.mark.parametrize("field", ["1.5 T", "1.5", 1.5])
def test_field_strength_is_one_group_however_it_is_written(field: object) -> None:
    """A datalist's text and a number in tesla, which collation makes a tensor, mean the same magnet."""
    metric = GroupMetrics(split="val", columns=["field_strength_t"])
    metrics = evaluate(metric, [case(0, "GE", 0, 0, field), case(1, "GE", 1, 1, field)], decollate=False).state.metrics
    assert metrics["val/n/field_strength_t/1.5-t"] == 2.0
    assert metric.frame(model="m", classes=CLASSES)["field_strength_t"].tolist() == [1.5, 1.5]


def test_an_unknown_field_strength_is_a_group_and_an_empty_cell() -> None:
    metric = GroupMetrics(split="val", columns=["field_strength_t"])
    cases = [case(0, "GE", 0, 0, "unknown"), case(1, "GE", 1, 1, "3 T")]
    metrics = evaluate(metric, cases, decollate=True).state.metrics
    assert metrics["val/n/field_strength_t/unknown"] == 1.0
    assert np.isnan(metric.frame(model="m", classes=CLASSES)["field_strength_t"][0])


def test_the_table_holds_every_case_as_an_audit_reads_it() -> None:
    metric = GroupMetrics(split="val")
    evaluate(metric, COHORT, decollate=False)
    table = validate(metric.frame(model="student", classes=CLASSES, split="test"))
    assert table["case_id"].tolist() == ["c0", "c1", "c2", "c3", "c4"]
    assert table["label"].tolist() == ["NOR", "DCM", "NOR", "DCM", "DCM"]
    assert table["prob_NOR"].tolist() == pytest.approx([0.8, 0.2, 0.8, 0.8, 0.2])
    assert set(table["split"]) == {"test"}
    assert set(table["model"]) == {"student"}


def test_a_case_without_a_label_is_in_the_table_and_not_in_the_metrics() -> None:
    metric = GroupMetrics(split="val")
    metrics = evaluate(metric, [*COHORT, case(9, "GE", -1, 1)], decollate=False).state.metrics
    assert metrics["val/n/vendor/ge"] == 2.0
    assert metric.frame(model="m", classes=CLASSES)["label"].tolist()[-1] == ""


@pytest.mark.parametrize("decollate", [False, True])
def test_studies_without_any_label_get_predictions_and_no_metric(decollate: bool) -> None:
    """Inference: nothing to measure, everything to write."""
    metric = GroupMetrics(split="test")
    cases: Any = [{key: value for key, value in row.items() if key != "label"} for row in COHORT]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(cases, batch_size=2),
        network=torch.nn.Identity(),
        additional_metrics={"groups": metric},
        decollate=decollate,
    )
    metric.attach(evaluator, "groups")
    evaluator.run()
    assert evaluator.state.metrics == {}
    assert len(metric.frame(model="m", classes=CLASSES)) == 5


def _rank(rank: int, folder: str, answers: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    metric = GroupMetrics(split="val")
    padded = [*COHORT, COHORT[0]]  # a sampler gives both ranks three cases
    evaluator = evaluate(metric, padded[rank::2], decollate=False)
    frame = metric.frame(model="m", classes=CLASSES)
    answers.put((rank, dict(evaluator.state.metrics), frame["case_id"].tolist()))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_agree_with_one_process_case_by_case(tmp_path: Path) -> None:
    """The padded copy counts once and the table is in the order of the dataset."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    ranks = [context.Process(target=_rank, args=(rank, str(tmp_path), answers)) for rank in range(2)]
    for process in ranks:
        process.start()
    found = [answers.get(timeout=120) for _ in ranks]
    for process in ranks:
        process.join(timeout=60)
    alone = evaluate(GroupMetrics(split="val"), COHORT, decollate=False).state.metrics
    for _, metrics, cases in found:
        assert metrics == alone
        assert cases == ["c0", "c1", "c2", "c3", "c4"]
