"""A prepared datalist as training data: items, groups, and what a checkpoint must remember of it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.cohort.case import Case, column_value, group_of, read_datalist
from pipeline.files import file_digest
from pipeline.tracking.group_metrics import slug

COLUMNS = ("vendor", "site", "scanner", "field_strength_t")


class Cohort:
    """The datalist that preprocessing wrote, seen from training.

    Args:
        datalist: path of the prepared ``datalist.json``.
        group_by: columns whose values make the groups; those of the datalist by default.

    Raises:
        ValueError: if the datalist holds raw studies.
    """

    def __init__(self, datalist: str | Path, group_by: Sequence[str] | None = None) -> None:
        self.datalist = read_datalist(datalist)
        if self.datalist.recipe is None or self.datalist.recipe_digest is None:
            raise ValueError(
                f"training needs prepared studies, but {datalist} lists raw ones; "
                "run the bundle cardiac_cine_preprocessing and give its datalist.json"
            )
        named = [group_by] if isinstance(group_by, str) else group_by
        self.group_by = tuple(named or self.datalist.group_by)
        self.classes = self.datalist.classes
        self.recipe: dict[str, Any] = self.datalist.recipe
        self.recipe_digest: str = self.datalist.recipe_digest

    @cached_property
    def group_sizes(self) -> dict[str, int]:
        """Training patients of each group, in alphabetical order of the groups."""
        pairs = {(group_of(case, self.group_by), case.patient_id) for case in self.datalist.sections["training"]}
        return dict(sorted(Counter(group for group, _ in pairs).items()))

    @cached_property
    def group_names(self) -> tuple[str, ...]:
        """Groups that occur in training; their order numbers them."""
        return tuple(self.group_sizes)

    @property
    def group_column(self) -> str:
        """Name of the column of group names: ``vendor``, or ``vendor-label`` for two columns."""
        return "-".join(self.group_by)

    @property
    def channels(self) -> int:
        """Channels of an input: phases times slices of a cine, the colours of a natural image."""
        return int(self.recipe["channels"] if "channels" in self.recipe else 2 * self.recipe["slices"])

    @cached_property
    def known_groups(self) -> dict[str, tuple[str, ...]]:
        """Every value of every column that results are listed by, over all sections."""
        rows = [self._columns(case) for _, case in self.datalist.cases()]
        return {column: tuple(sorted({row[column] for row in rows})) for column in rows[0]}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over who is in which section with what label, group and pixels, and over the recipe.

        A run goes on, or is called complete, only while this is what it was: not after a study was prepared anew in
        another phase.
        """
        rows = sorted(
            [section, case.case_id, case.label or "", group_of(case, self.group_by), file_digest(str(case.image))]
            for section, case in self.datalist.cases()
        )
        return hashlib.sha256(json.dumps([rows, self.recipe_digest]).encode()).hexdigest()

    def accuracy_metric(self, split: str, only_group: str | None = None) -> str:
        """Name of the metric on which a model is chosen: accuracy in the worst group, or in the one it is made for."""
        group = "worst/" + self.group_column if only_group is None else f"{self.group_column}/{slug(only_group)}"
        return f"{split}/accuracy/{group}"

    def among(self, items: Sequence[dict[str, Any]], only_group: str | None) -> list[dict[str, Any]]:
        """The items of one group, or all of them.

        Raises:
            ValueError: if training has no such group.
        """
        if only_group is None:
            return list(items)
        if only_group not in self.group_names:
            raise ValueError(f"only_group must be one of {', '.join(self.group_names)}, got {only_group!r}")
        return [item for item in items if item["group"] == self.group_names.index(only_group)]

    def record(self) -> dict[str, Any]:
        """What a model trained on this must remember, in plain values."""
        return {
            "classes": list(self.classes),
            "recipe": self.recipe,
            "recipe_digest": self.recipe_digest,
            "group_by": list(self.group_by),
            "training_groups": self.group_sizes,
            "data_digest": self.digest,
            "source": self.datalist.source,
        }

    def items(self, section: str) -> list[dict[str, Any]]:
        """One dictionary per case: image path, label and group as indices, and the columns of the predictions table.

        A group that does not occur in training has index -1: it is evaluated by name and has no weight.

        Args:
            section: ``training``, ``validation`` or ``test``.

        Raises:
            ValueError: if the section is unknown or empty.
        """
        cases = self.datalist.sections.get(section, ())
        if not cases:
            filled = [name for name, listed in self.datalist.sections.items() if listed]
            raise ValueError(f"section {section!r} must hold at least one case; sections with cases: {filled}")
        return [self._item(case) for case in cases]

    def _item(self, case: Case) -> dict[str, Any]:
        group = group_of(case, self.group_by)
        return {
            "image": str(case.image),
            "label": self.classes.index(case.label) if case.label else -1,
            "group": self.group_names.index(group) if group in self.group_names else -1,
            "case_id": case.case_id,
            "patient_id": case.patient_id,
            **self._columns(case),
        }

    def _columns(self, case: Case) -> dict[str, str]:
        """Values of the columns that results are listed by, the training groups among them."""
        columns = {column: column_value(case, column) for column in COLUMNS}
        return {**columns, self.group_column: group_of(case, self.group_by)}
