"""Prepared studies with known truth, what a network in onnxruntime says of them, and whether an audit says the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.audit.audited import Audited
from pipeline.audit.findings import ALL
from pipeline.deployment.manifest import INPUT, OUTPUT, TENTHS
from pipeline.deployment.session import cpu_session
from pipeline.deployment.student import softmax
from pipeline.tracking.group_metrics import GroupRow, group_rows
from pipeline.tracking.predictions import (
    PredictionsError,
    classes_of,
    group_names,
    labels_of,
    predictions_frame,
    probabilities_of,
)
from pipeline.training.data import Cohort
from transforms.files import read_prepared
from transforms.scanner import round_field_strength

BATCH = 64
SHOWN_AFTER = 3.0  # seconds
AUC_TOLERANCE = 0.005  # probabilities of another machine may swap two studies that are nearly equal
FloatImages = NDArray[np.float32]


@dataclass(frozen=True)
class PreparedStudies:
    """The studies of one section of a prepared datalist.

    Attributes:
        items: case_id, label and groups of each, and where its file is.
        cohort: of the datalist.
        section: ``training``, ``validation`` or ``test``.
    """

    items: tuple[dict[str, Any], ...]
    cohort: Cohort
    section: str

    @property
    def unlabelled(self) -> int:
        """Studies without a label."""
        return sum(item["label"] < 0 for item in self.items)

    def images(self, picked: Iterable[int] | None = None) -> FloatImages:
        """Inputs ``(n, 2, slices, rows, cols)`` of the studies with these places, or of all."""
        places = range(len(self.items)) if picked is None else picked
        digest = self.cohort.recipe_digest
        return np.stack([read_prepared(self.items[place]["image"], recipe_digest=digest)[0] for place in places])

    def spread(self, count: int) -> FloatImages:
        """Inputs of ``count`` studies, evenly over the section; of all if it has fewer."""
        return self.images(np.unique(np.linspace(0, len(self.items) - 1, count).round().astype(int)).tolist())


def prepared_studies(
    dataset_dir: str | Path, sections: Sequence[str], recipe_digest: str, classes: Sequence[str]
) -> PreparedStudies:
    """Find the studies of a section, and refuse a datalist that was made for another model.

    Args:
        dataset_dir: folder that ``cardiac_cine_preprocessing`` wrote.
        sections: the first that has a case is taken.
        recipe_digest: of the model's recipe.
        classes: of the model, in order.

    Raises:
        ValueError: if recipe or classes differ from the model's, or the sections are empty.
    """
    cohort = Cohort(Path(dataset_dir) / "datalist.json")
    if cohort.recipe_digest != recipe_digest or cohort.classes != tuple(classes):
        raise ValueError(
            f"the studies in {dataset_dir} must have the model's recipe and classes, {recipe_digest[:12]}… and "
            f"{', '.join(classes)}; they have {cohort.recipe_digest[:12]}… and {', '.join(cohort.classes)}; prepare "
            "them as for its training"
        )
    filled = [section for section in sections if cohort.datalist.sections.get(section)]
    section = filled[0] if filled else sections[0]
    return PreparedStudies(tuple(cohort.items(section)), cohort, section)


def answers(model: bytes, studies: PreparedStudies, name: str) -> pd.DataFrame:
    """What a network says of studies: a predictions table.

    Args:
        model: an ONNX file.
        studies: with known truth.
        name: of the model.

    Raises:
        ValueError: if a study has no label.
    """
    if studies.unlabelled:
        raise ValueError(
            f"every study of the section {studies.section!r} must have a label; {studies.unlabelled} have none; take a "
            "datalist with labels"
        )
    session, total = cpu_session(model), len(studies.items)
    batches = [range(at, min(at + BATCH, total)) for at in range(0, total, BATCH)]
    shown = tqdm(batches, desc=studies.section, delay=SHOWN_AFTER, leave=False, disable=None)
    logits = [session.run([OUTPUT], {INPUT: studies.images(batch)})[0] for batch in shown]
    classes = studies.cohort.classes
    records = [_record(item, classes) for item in studies.items]
    return predictions_frame(records, softmax(np.concatenate(logits)), classes, split=studies.section, model=name)


def _record(item: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    return {**item, "label": classes[item["label"]], "field_strength_t": round_field_strength(item["field_strength_t"])}


def rows_of(frame: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> list[GroupRow]:
    """Accuracy and AUC of every group, by the code that training and audit use."""
    return group_rows(labels_of(frame), probabilities_of(frame), groups)


def reproduces(frame: pd.DataFrame, audited: Audited) -> bool:
    """Whether answers are those that were audited.

    Args:
        frame: the model's answers on the audited split.
        audited: what an audit says of it.

    Returns:
        True if they give the audited accuracy and AUC; False if the studies are others, so that nothing can be said.

    Raises:
        ValueError: if the studies are the audited ones and the values are not: the audit is of another model.
    """
    everybody = audited.find(ALL, ALL, "accuracy") or audited.find(ALL, ALL, "auc")
    if everybody is None or (everybody.n_patients, everybody.n_rows) != (frame["patient_id"].nunique(), len(frame)):
        return False
    for row in rows_of(frame, {ALL: [ALL] * len(frame)} | groups_of(frame, audited.group_by)):
        for measure, value, tolerance in (("accuracy", row.accuracy, 1.0 / row.n), ("auc", row.auc, AUC_TOLERANCE)):
            found = audited.find(row.column, row.group, measure)
            if found is not None and found.n_rows == row.n and abs(found.value - value) > tolerance + 1e-9:
                raise ValueError(
                    f"the audit must be of this model; it says {measure} {found.value:.4f} of {audited.model!r} in "
                    f"{row.column} {row.group}, and the model has {value:.4f} on as many prepared studies; audit this "
                    "model's predictions of these studies, or name the right one, --model NAME"
                )
    return True


def groups_of(frame: pd.DataFrame, columns: Iterable[str]) -> dict[str, list[str]]:
    """Column -> group of every row, for those columns that answers have; sex, say, is not in a prepared datalist."""
    found = {}
    for column in columns:
        with suppress(PredictionsError):
            found[column] = group_names(frame, column)
    return found


def reference_of(frame: pd.DataFrame, columns: Sequence[str], *, min_patients: int) -> dict[str, Any]:
    """What a model said of the audited studies, against which a hospital sees its own answers drift.

    Args:
        frame: the model's answers.
        columns: of the groups whose shares are noted.
        min_patients: a vendor with fewer has no shares of its own: they would tell of single patients.

    Returns:
        As :class:`pipeline.deployment.package.Package` says of ``reference``.
    """
    groups = {column: pd.Series(group_names(frame, column), index=frame.index) for column in columns}
    shares = {column: found.value_counts(normalize=True) for column, found in groups.items()}
    by_vendor = frame.groupby(groups["vendor"]) if "vendor" in groups else ()
    return {
        **_shares_of(frame),
        "groups": {c: {str(name): float(share) for name, share in found.items()} for c, found in shares.items()},
        "vendors": {
            str(vendor): _shares_of(part) for vendor, part in by_vendor if part["patient_id"].nunique() >= min_patients
        },
    }


def _shares_of(frame: pd.DataFrame) -> dict[str, Any]:
    """How many studies there are; shares of them by the most probable class, and by tenths of its probability."""
    probabilities = probabilities_of(frame)
    highest = np.minimum((probabilities.max(axis=1) * TENTHS).astype(int), TENTHS - 1)
    classes = classes_of(frame)
    predicted = np.bincount(probabilities.argmax(axis=1), minlength=len(classes)) / len(frame)
    return {
        "n_cases": len(frame),
        "classes": dict(zip(classes, map(float, predicted), strict=True)),
        "features": {"max_probability": (np.bincount(highest, minlength=TENTHS) / len(frame)).tolist()},
    }
