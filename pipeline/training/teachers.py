"""What a student's teachers say: of every training view, and of how far each may be trusted with each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.training.checkpoint import checked_model
from pipeline.training.combination import Kind, TeacherCombination
from pipeline.training.data import Cohort
from pipeline.training.teacher_cache import teacher_logits
from pipeline.training.teacher_quality import alpha_from_margins, teacher_quality, trust_from_accuracy
from pipeline.training.views import AugmentedViews


class Teachers:
    """The teachers of one distillation, read through the cache.

    Args:
        checkpoints: a ``model.pt`` of each teacher; none trains on labels alone.
        cohort: the data, whose recipe and classes the teachers must share.
        training: the views that the student will see.
        held_out: validation cases, in one view each; they tell how good each teacher is in each group.
        folder: of the cache.
        device: on which teachers run.
        biased_checkpoint: the model that AGRE-KD's weights point away from; it is not distilled from.

    Raises:
        ValueError: if a teacher was made for other inputs or classes.
    """

    def __init__(
        self,
        checkpoints: Sequence[str | Path],
        *,
        cohort: Cohort,
        training: AugmentedViews,
        held_out: AugmentedViews,
        folder: str | Path,
        device: torch.device | str,
        biased_checkpoint: str | Path | None = None,
    ) -> None:
        if isinstance(checkpoints, str):
            raise ValueError(f"teacher_checkpoints must be a list, got {checkpoints!r}; write \"['{checkpoints}']\"")
        self.count = len(checkpoints)
        self.checkpoints = [*checkpoints, *([biased_checkpoint] if biased_checkpoint else [])]
        self.biased = biased_checkpoint is not None
        self.kind: Kind | None = None
        self.adaptive = False
        self.cohort, self.training, self.held_out = cohort, training, held_out
        self.folder, self.device = Path(folder), torch.device(device)
        self.records = [checked_model(path, cohort.recipe_digest, cohort.classes) for path in self.checkpoints]

    @property
    def run_ids(self) -> str | None:
        """MLflow runs of the teachers, comma-separated, and ``biased=<run>`` at last; ``None`` without a teacher."""
        runs = [str(record["mlflow_run_id"]) for record in self.records]
        if self.biased:
            runs[-1] = f"biased={runs[-1]}"
        return ",".join(runs) or None

    @cached_property
    def targets(self) -> Tensor | None:
        """Logits ``(teachers, views, cases, classes)`` of the training views, a biased model last; ``None`` without."""
        return self._logits(self.training) if self.checkpoints else None

    @cached_property
    def quality(self) -> tuple[Tensor, Tensor]:
        """Accuracy and margin of each teacher in each group, ``(teachers, groups)``, on held-out cases."""
        items = self.held_out.items
        labels, groups = (torch.tensor([item[key] for item in items]) for key in ("label", "group"))
        logits = self._logits(self.held_out)[: self.count, 0]
        return teacher_quality(logits, labels, groups, n_groups=len(self.cohort.group_names))

    def combination(
        self, kind: Kind, *, weights: Sequence[float] | None, temperature: float, seed: int
    ) -> TeacherCombination | None:
        """How these teachers are combined; ``None`` without a teacher.

        Args:
            kind: see :class:`TeacherCombination`.
            weights: of kind ``permuted``.
            temperature: softens the teachers.
            seed: of random draws.

        Raises:
            ValueError: if the kind needs what these teachers lack, or weights came that it does not take.
        """
        if not self.checkpoints:
            return None
        if self.biased != (kind == "gradient"):
            raise ValueError(
                f"biased_checkpoint is for the combination 'gradient' and for it alone, got combination {kind!r} "
                f"{'with' if self.biased else 'without'} a biased_checkpoint"
            )
        self.kind = kind
        self._check_adaptive()
        trust = trust_from_accuracy(self.quality[0], 1 / len(self.cohort.classes)) if kind == "trust" else None
        matched = self._matched() if kind == "group" else None
        return TeacherCombination(
            kind,
            len(self.checkpoints),
            weights=weights,
            trust=trust,
            matched=matched,
            temperature=temperature,
            seed=seed,
        )

    def alpha_of_group(self, *, adaptive: bool) -> Tensor | None:
        """Share of the teachers' term in each group, ``(groups,)``: their mean margin, where it is above 0.

        Returns:
            ``None`` unless ``adaptive``: then every group has the same share.

        Raises:
            ValueError: if several teachers are combined by group: a group's margin is not the mean of them all.
        """
        self.adaptive = adaptive
        self._check_adaptive()
        return alpha_from_margins(self.quality[1].mean(dim=0)) if adaptive and self.checkpoints else None

    def _check_adaptive(self) -> None:
        """A config may ask for combination and shares in any order; the second to come is refused."""
        if self.adaptive and self.kind in ("trust", "group") and self.count > 1:
            raise ValueError(
                "adaptive_alpha goes by the mean margin over all teachers, which must count alike in every group, got "
                f"{self.count} teachers and combination {self.kind!r}; set adaptive_alpha to false, or choose another "
                "combination"
            )

    def _matched(self) -> list[int]:
        """Index of the teacher of each group."""
        trained_on = [record.get("only_group") for record in self.records]
        owners: Mapping[Any, int] = {group: index for index, group in enumerate(trained_on)}
        if len(owners) < len(trained_on):
            raise ValueError(f"combination 'group' needs one teacher per group, got several for one: {trained_on}")
        missing = [name for name in self.cohort.group_names if name not in owners]
        if missing:
            raise ValueError(
                f"combination 'group' needs one teacher per group, but none was trained with only_group {missing}; "
                "train them with the overlay methods/one_group.yaml of cardiac_cine_teacher"
            )
        return [owners[name] for name in self.cohort.group_names]

    def _logits(self, views: AugmentedViews) -> Tensor:
        return teacher_logits(
            self.checkpoints,
            views,
            recipe_digest=self.cohort.recipe_digest,
            classes=self.cohort.classes,
            folder=self.folder,
            device=self.device,
        )
