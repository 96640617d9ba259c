"""The three tables that a benchmark leaves, and all that its page is made of.

``results.csv`` has one row per finished cell, ``predictions.csv`` what the cell's model said of its test set, and
``test_sets.csv`` each test set once. A cell is one model of one plan, cohort, dials, seed and fold.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RESULTS, PREDICTIONS, TEST_SETS = "results.csv", "predictions.csv", "test_sets.csv"
PREDICTION_COLUMNS = ("config_digest", "test_set", "probabilities")
TEST_SET_COLUMNS = ("test_set", "classes", "groups", "labels", "group_index", "patients")
LEVELS = 255  # a probability is kept as one byte


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A test set without its images: what is needed to judge predictions of it. Equal content makes equal sets.

    Args:
        classes: names, in the order of the probabilities.
        groups: names, in the order of ``group_index``.
        labels: ``(n,)``, class indices below 256.
        group_index: ``(n,)``, index into ``groups``.
        patients: ``(n,)``, from :func:`patient_codes`: rows of one patient share a code, in every test set of a cohort.

    Raises:
        ValueError: if the lengths disagree or an index has no name.
    """

    classes: tuple[str, ...]
    groups: tuple[str, ...]
    labels: IntArray
    group_index: IntArray
    patients: IntArray

    def __post_init__(self) -> None:
        for name in ("labels", "group_index", "patients"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64))
        lengths = {name: len(getattr(self, name)) for name in ("labels", "group_index", "patients")}
        if len(set(lengths.values())) != 1 or not len(self.labels):
            raise ValueError(f"a test set needs one label, group and patient per row; got {lengths}; pass one each")
        for name, names in (("labels", self.classes), ("group_index", self.groups)):
            codes = getattr(self, name)
            if codes.min() < 0 or codes.max() >= min(len(names), 256):
                raise ValueError(
                    f"{name} must lie in 0 … {min(len(names), 256) - 1}, the names of the test set; got "
                    f"{codes.min()} … {codes.max()}; name every class and group"
                )
        if self.patients.min() < 0 or self.patients.max() >= 2**32:
            raise ValueError(
                f"codes of patients must lie in 0 … 2**32 - 1; got {self.patients.min()} … {self.patients.max()}; "
                "take them from patient_codes"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeldOut) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of all fields as they are written."""
        return hashlib.sha256("|".join(_held_out_fields(self).values()).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Cell:
    """One row of ``results.csv``: one model, trained once and measured once.

    Shares are in [0, 1]; NaN where a value cannot be computed (an empty field in the table).

    Args:
        plan: name of the plan.
        cohort: kind of the cohort.
        dials: settings of the cohort that the plan varies.
        seed: of the run; with folds, the repeat.
        fold: of cross-validation; None without.
        model: ``method`` or ``method@setting=value``, unique in its plan.
        role: ``teacher`` or ``student``.
        config_digest: of everything that decides the result.
        parameters: number of weights.
        n_training: studies trained on; one that was drawn twice counts twice.
        seconds: CPU time of training, or of its last part.
        train_accuracy: on the training studies as they are, without augmentation.
        train_minority_accuracy: the same in the minority.
        validation_accuracy: on the validation studies.
        validation_worst_accuracy: of the lowest group there.
        accuracy: on the test set, as are all that follow.
        worst_group: name of the group with the lowest accuracy.
        worst_group_accuracy: of that group.
        worst_cell_accuracy: lowest of group x label.
        worst_group_auc: lowest AUC of a group, one class against the rest.
        gap: best minus worst group accuracy.
        ece: expected calibration error.
        vendor_probe: balanced accuracy with which the features tell the group.
        extra: curves and whatever else was measured.
    """

    plan: str
    cohort: str
    dials: Mapping[str, Any]
    seed: int
    fold: int | None
    model: str
    role: str
    config_digest: str
    parameters: int
    n_training: int
    seconds: float = math.nan
    train_accuracy: float = math.nan
    train_minority_accuracy: float = math.nan
    validation_accuracy: float = math.nan
    validation_worst_accuracy: float = math.nan
    accuracy: float = math.nan
    worst_group: str = ""
    worst_group_accuracy: float = math.nan
    worst_cell_accuracy: float = math.nan
    worst_group_auc: float = math.nan
    gap: float = math.nan
    ece: float = math.nan
    vendor_probe: float = math.nan
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The model's name before ``@``."""
        return self.model.partition("@")[0]

    @property
    def settings(self) -> dict[str, Any]:
        """Dials, and what the model's name says after ``@``: ``kd@widths=8,noise=0.2`` or, in one word, ``kd@small``.

        Example:
            >>> Cell("p", "phantom", {"confounding": 1}, 0, None, "kd@noise=0.2", "student", "d", 1, 1).settings
            {'confounding': 1, 'noise': 0.2}
        """
        told = self.model.partition("@")[2]
        pairs = (part.partition("=") for part in told.split(",") if part)
        return dict(self.dials) | {k if sign else "variant": _value(v if sign else k) for k, sign, v in pairs}


RESULT_COLUMNS = tuple(f.name for f in fields(Cell))
_JSON, _WHOLE = ("dials", "extra"), ("seed", "parameters", "n_training")
_TEXT = ("plan", "cohort", "model", "role", "config_digest", "worst_group")


def patient_codes(patient_ids: Sequence[str]) -> IntArray:
    """Number patients by their names alone, so that a patient has the same number in every test set.

    Args:
        patient_ids: ``(n,)`` names.

    Returns:
        ``(n,)``, the first 32 bits of each name's SHA-256.

    Raises:
        ValueError: if two names share a number.
    """
    codes = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") for name in set(patient_ids)}
    if len(set(codes.values())) < len(codes):
        raise ValueError(f"{len(codes)} patients need different numbers; two of them share one; rename a patient")
    return np.array([codes[name] for name in patient_ids], dtype=np.int64)


def cell_row(cell: Cell) -> dict[str, str]:
    """Fields of a row of ``results.csv``, in the order of ``RESULT_COLUMNS``; numbers to 6 significant digits."""
    return {name: _text(getattr(cell, name)) for name in RESULT_COLUMNS}


def prediction_row(config_digest: str, held_out: HeldOut, probabilities: ArrayLike) -> dict[str, str]:
    """Fields of a row of ``predictions.csv``.

    Args:
        config_digest: of the cell.
        held_out: test set of ``n`` rows.
        probabilities: ``(n, C)``, in [0, 1].

    Returns:
        Column -> text. Rounding to 1/255 never changes a decision: where it makes a tie the larger one is raised.

    Raises:
        ValueError: if the shape is not that of the test set, or a value is no probability.
    """
    values, shape = np.asarray(probabilities, dtype=np.float64), (len(held_out.labels), len(held_out.classes))
    if values.shape != shape or not np.all((values >= 0) & (values <= 1)):
        raise ValueError(
            f"probabilities must be (rows, classes) = {shape} of values in [0, 1]; got {values.shape}"
            f" from {values.min(initial=1)} to {values.max(initial=0)}; pass softmax outputs of the whole test set"
        )
    rows, decision = np.arange(len(values)), values.argmax(axis=1)
    levels = np.rint(LEVELS * values)
    tied = levels.argmax(axis=1) != decision
    levels[rows[tied], decision[tied]] += 1
    packed = _packed(levels, np.uint8)
    return {"config_digest": config_digest, "test_set": held_out.digest, "probabilities": packed}


def probabilities_of(row: Mapping[str, str], held_out: HeldOut) -> FloatArray:
    """Read what :func:`prediction_row` wrote.

    Returns:
        ``(n, C)``, in steps of 1/255.

    Raises:
        ValueError: if the count is not that of the test set.
    """
    levels = np.frombuffer(base64.b64decode(row["probabilities"]), dtype=np.uint8)
    if levels.size != len(held_out.labels) * len(held_out.classes):
        raise ValueError(
            f"predictions of {row['config_digest']} must be {len(held_out.labels)} x {len(held_out.classes)} bytes; "
            f"got {levels.size}; remove its row from {RESULTS} and run the plan again"
        )
    return levels.reshape(-1, len(held_out.classes)) / LEVELS


def held_out_row(held_out: HeldOut) -> dict[str, str]:
    """Fields of a row of ``test_sets.csv``."""
    return {"test_set": held_out.digest, **_held_out_fields(held_out)}


def cell_of(row: Mapping[str, str]) -> Cell:
    """Read what :func:`cell_row` wrote."""
    values: dict[str, Any] = {name: row[name] for name in _TEXT}
    values |= {name: json.loads(row[name] or "{}") for name in _JSON}
    values |= {name: int(row[name]) for name in _WHOLE}
    values["fold"] = int(row["fold"]) if row["fold"] else None
    values |= {name: float(row[name] or "nan") for name in RESULT_COLUMNS if name not in values}
    return Cell(**values)


def held_out_of(row: Mapping[str, str]) -> HeldOut:
    """Read what :func:`held_out_row` wrote.

    Raises:
        ValueError: if the content is not that of the name.
    """
    held_out = HeldOut(
        tuple(json.loads(row["classes"])),
        tuple(json.loads(row["groups"])),
        np.frombuffer(base64.b64decode(row["labels"]), dtype=np.uint8),
        np.frombuffer(base64.b64decode(row["group_index"]), dtype=np.uint8),
        np.frombuffer(base64.b64decode(row["patients"]), dtype="<u4"),
    )
    if held_out.digest != row["test_set"]:
        raise ValueError(
            f"a test set is named by its digest, {held_out.digest}; got {row['test_set']}; {TEST_SETS} was changed "
            "by hand: restore it, or remove the three tables and run the plans again"
        )
    return held_out


def _held_out_fields(held_out: HeldOut) -> dict[str, str]:
    return {
        "classes": _compact(held_out.classes),
        "groups": _compact(held_out.groups),
        "labels": _packed(held_out.labels, np.uint8),
        "group_index": _packed(held_out.group_index, np.uint8),
        "patients": _packed(held_out.patients, "<u4"),
    }


def _packed(values: NDArray[Any], kind: type[np.uint8] | str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, Mapping):
        return _compact(dict(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _value(text: str) -> int | float | str:
    """Number where it reads as one."""
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text
