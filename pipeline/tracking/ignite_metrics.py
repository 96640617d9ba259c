"""Accuracy, AUC and loss of every scanner group, as one metric of an evaluating engine.

The metric reads the group of each case from the batch, by name, and keeps the table of predictions as it goes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from ignite.engine import Engine
from ignite.metrics import Metric
from numpy.typing import NDArray

from pipeline.tracking.group_metrics import GroupRow, flat_metrics, group_rows, overall_metrics, slug
from pipeline.tracking.predictions import predictions_frame
from transforms.scanner import UNKNOWN, field_text, round_field_strength

GROUP_COLUMNS = ("vendor", "site", "scanner", "field_strength_t")
IDENTITY = ("case_id", "patient_id")
TABLE_COLUMNS = (*IDENTITY, "site", "vendor", "scanner", "field_strength_t")
NO_LABEL = -1

Rows = Sequence[Mapping[str, Any]]  # one dict per case
Batch = Mapping[str, Any] | Rows  # columns, or rows


@dataclass(frozen=True)
class Outcome:
    """What the model said of one case.

    Args:
        text: column -> value as text, ``unknown`` where the batch says nothing.
        label: class index, or ``NO_LABEL``.
        log_probabilities: ``(C,)``, natural logarithms.
    """

    text: dict[str, str]
    label: int
    log_probabilities: NDArray[np.float64]

    @property
    def loss(self) -> float:
        """Cross-entropy [nats]; NaN without a label."""
        return math.nan if self.label == NO_LABEL else -float(self.log_probabilities[self.label])


class GroupMetrics(Metric):
    """Metrics by group, flat: ``<split>/<metric>/<column>/<group>``, and the predictions behind them.

    Attach it to a ``SupervisedEvaluator`` whose output holds ``pred``, logits ``(B, C)``, and ``label``, class indices
    ``(B,)`` (-1 or absent: no label; the case is in the table, not in the metrics), with or without decollation. The
    batch carries ``case_id``, ``patient_id`` and every grouping column, one value per case. Under torchrun the cases
    of all ranks count, each once, in the order of the dataset.

    Names are those of :func:`~pipeline.tracking.group_metrics.flat_metrics`, and ``<split>/loss/…`` (cross-entropy in
    nats, mean per group; the worst is the highest). Any of them can be the evaluator's key metric.

    Args:
        split: first part of every name, e.g. ``val``.
        columns: grouping columns; ``field_strength_t`` may be text or tesla.
        known_groups: column -> groups to list even where the split has no case of them (``n = 0``).
        gather: whether the cases of all ranks count; without, a rank may compute alone.
    """

    def __init__(
        self,
        *,
        split: str,
        columns: Sequence[str] = GROUP_COLUMNS,
        known_groups: Mapping[str, Sequence[str]] | None = None,
        gather: bool = True,
    ) -> None:
        self.split = split
        self.columns = tuple(columns)
        self.gather = gather
        self.known_groups = {column: tuple(groups) for column, groups in (known_groups or {}).items()}
        super().__init__(metrics_result_mode="flatten")  # a nested copy would be logged twice

    def reset(self) -> None:
        """Forget all cases; the engine calls this when a pass starts."""
        self._here: list[Outcome] = []
        self._all: list[Outcome] = []

    @torch.no_grad()
    def iteration_completed(self, engine: Engine) -> None:
        """Take the cases of one batch from the engine's state."""
        state: Any = engine.state
        self.update((state.batch, state.output))

    def update(self, output: tuple[Batch, Batch]) -> None:
        """Add cases.

        Args:
            output: batch and output, each a dict of columns or a list with one dict per case.

        Raises:
            ValueError: if the batch lacks a column; the message names it.
        """
        required = (*IDENTITY, *self.columns)
        for known, said in _cases(*output):
            missing = [column for column in required if column not in known]
            if missing:
                raise ValueError(
                    f"the batch must carry {', '.join(required)}; it lacks {', '.join(missing)}; "
                    "keep them among the loaded keys of the dataset"
                )
            self._here.append(_outcome(known, said, (*TABLE_COLUMNS, *self.columns)))

    def compute(self) -> dict[str, float]:
        """Gather the cases of all ranks and name their metrics; empty if no case has a label."""
        self._all = _in_dataset_order(_gathered(self._here) if self.gather else [self._here])
        labelled = self._labelled()
        if not labelled:
            return {}
        average = overall_metrics(*_arrays(labelled))
        return {**flat_metrics(self.split, self.rows(), average=average), **self._losses(labelled)}

    def completed(self, engine: Engine, name: str) -> None:
        """Put the metrics into the engine's state.

        Raises:
            ValueError: if the engine selects models by a name that is not among them.
        """
        super().completed(engine, name)
        if name == getattr(engine.state, "key_metric_name", None) and name not in engine.state.metrics:
            raise ValueError(
                f"the key metric must be one that exists; got {name!r}; "
                f"choose among {', '.join(sorted(engine.state.metrics)) or '(no case had a label)'}"
            )

    def rows(self) -> list[GroupRow]:
        """Metrics of every group of the last pass, those without a case included."""
        labelled = self._labelled()
        if not labelled:
            return []
        groups = {column: [case.text[column] for case in labelled] for column in self.columns}
        return group_rows(*_arrays(labelled), groups, self.known_groups)

    def per_group(self) -> list[dict[str, Any]]:
        """:meth:`rows` as plain data for a JSON file; what cannot be estimated is None."""
        return [{key: _json(value) for key, value in asdict(row).items()} for row in self.rows()]

    def frame(self, *, model: str, classes: Sequence[str], split: str | None = None) -> pd.DataFrame:
        """Predictions of the last pass, as :mod:`pipeline.tracking.predictions` defines the table.

        Args:
            model: name of the model, e.g. ``teacher``.
            classes: ``C`` names in the order of the logits.
            split: what the table calls the split; by default as in the metrics' names.

        Returns:
            One row per case; ``label`` is empty where there is none (such rows cannot be audited).
        """
        records = [_record(case, classes) for case in self._all]
        probabilities = np.exp([case.log_probabilities for case in self._all])
        table = predictions_frame(records, probabilities, classes, split=split or self.split, model=model)
        table.loc[[case.label == NO_LABEL for case in self._all], "label"] = ""
        return table

    def _labelled(self) -> list[Outcome]:
        return [case for case in self._all if case.label != NO_LABEL]

    def _losses(self, labelled: Sequence[Outcome]) -> dict[str, float]:
        named = {f"{self.split}/loss/average": float(np.mean([case.loss for case in labelled]))}
        for column in self.columns:
            losses: dict[str, list[float]] = {}
            for case in labelled:
                losses.setdefault(slug(case.text[column]), []).append(case.loss)
            means = {group: float(np.mean(values)) for group, values in losses.items()}
            named |= {f"{self.split}/loss/{slug(column)}/{group}": mean for group, mean in means.items()}
            named[f"{self.split}/loss/worst/{slug(column)}"] = max(means.values())
        return named


def _cases(batch: Batch, output: Batch) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Pair what is known of each case with what was said of it, collated or not."""
    if not isinstance(output, Mapping) or not isinstance(batch, Mapping):
        yield from zip(cast("Rows", batch), cast("Rows", output), strict=True)
        return
    for i in range(len(output["pred"])):
        known = {key: value[i] for key, value in batch.items() if key != "image" and _has_item(value, i)}
        label = output.get("label")
        yield known, {"pred": output["pred"][i], "label": None if label is None else label[i]}


def _has_item(value: object, index: int) -> bool:
    return isinstance(value, Sequence | torch.Tensor | np.ndarray) and len(value) > index


def _outcome(known: Mapping[str, Any], said: Mapping[str, Any], columns: Sequence[str]) -> Outcome:
    logits = torch.as_tensor(said["pred"]).detach().to("cpu", torch.float64)
    label = said.get("label")
    return Outcome(
        text={column: _text(column, known.get(column)) for column in columns},
        label=NO_LABEL if label is None else int(label),
        log_probabilities=torch.log_softmax(logits, dim=-1).numpy(),
    )


def _text(column: str, value: object) -> str:
    if isinstance(value, torch.Tensor | np.ndarray):
        value = value.item()
    if column == "field_strength_t":
        return field_text(round_field_strength(cast("float | str | None", value)))
    return UNKNOWN if value is None or not str(value).strip() else str(value)


def _record(case: Outcome, classes: Sequence[str]) -> dict[str, Any]:
    tesla = round_field_strength(case.text["field_strength_t"])
    return {**case.text, "field_strength_t": tesla, "label": classes[max(case.label, 0)]}


def _arrays(cases: Sequence[Outcome]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return np.array([case.label for case in cases]), np.exp([case.log_probabilities for case in cases])


def _gathered(here: list[Outcome]) -> list[list[Outcome]]:
    if not (dist.is_available() and dist.is_initialized()):
        return [here]
    ranks: list[list[Outcome]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(ranks, here)
    return ranks


def _in_dataset_order(ranks: Sequence[Sequence[Outcome]]) -> list[Outcome]:
    """Undo the striding of a distributed sampler and drop the copies it pads with."""
    if len(ranks) == 1:
        return list(ranks[0])
    first: dict[str, Outcome] = {}
    for case in (case for stripe in zip_longest(*ranks) for case in stripe if case is not None):
        first.setdefault(case.text["case_id"], case)
    return list(first.values())


def _json(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value
