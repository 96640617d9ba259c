"""Overlapping parts of the training data, one for each teacher, drawn by patient."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from pipeline.cohort.split import shuffled

Item = Mapping[str, Any]
Scheme = Literal["all", "fold_out", "fraction", "bootstrap"]
Strata = dict[str, list[str]]


def teacher_subset(
    items: Sequence[Item], *, scheme: Scheme, count: int, index: int, fraction: float, seed: int
) -> list[Item]:
    r"""Training cases of one teacher among several whose subsets overlap.

    All studies of a patient stay together. Draws are made stratum by stratum, a stratum being a group x label, and
    leave each at least one patient; a patient with studies in several strata counts in that of the first study by
    case id. The result depends on the seed and on which cases there are, not on their order.

    * ``all``: every case.
    * ``fold_out``: all but fold ``index`` of ``count`` folds. Two teachers share :math:`(K-2)/(K-1)` of the patients
      of each. The only patient of a stratum is in no fold and hence in every subset.
    * ``fraction``: the share ``fraction`` of each stratum's patients, rounded, at least one, without replacement; of a
      teacher's patients another is expected to have the same share.
    * ``bootstrap``: as many patients as there are, with replacement; 63 % are expected to be there at least once. The
      studies of a patient who was drawn twice are listed twice.

    Args:
        items: training cases with ``patient_id``, ``case_id``, ``group`` and ``label``.
        scheme: one of the above.
        count: number of teachers K.
        index: of this teacher, in ``0 … count - 1``.
        fraction: in (0, 1]; for the scheme of that name, and left aside by the others.
        seed: one for all teachers of an ensemble.

    Returns:
        The chosen cases, in the order of ``items``.

    Raises:
        ValueError: if a setting is out of its range, or a group of ``items`` has no case in the subset.

    Source: Jaiswal et al. 2022, arXiv:2210.08388, names overlapping subsets and no scheme; the schemes are our reading.
    """
    _check(scheme, count, index, fraction)
    strata = _strata(items)
    drawn = _drawn(strata, scheme, count=count, index=index, fraction=fraction, seed=seed)
    subset = [item for item in items for _ in range(drawn[item["patient_id"]])]
    _check_groups(items, subset, f"scheme {scheme!r}, teacher {index} of {count}, seed {seed}")
    return subset


def _check(scheme: str, count: int, index: int, fraction: float) -> None:
    if scheme not in get_args(Scheme):
        raise ValueError(f"scheme must be one of {', '.join(get_args(Scheme))}; got {scheme!r}")
    least = 2 if scheme == "fold_out" else 1
    if count < least or not 0 <= index < count:
        raise ValueError(
            f"scheme {scheme!r} needs a count of at least {least} and an index from 0 to count - 1; "
            f"got count {count} and index {index}"
        )
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1; got {fraction}")


def _strata(items: Sequence[Item]) -> Strata:
    """Patients of each group x label, both in alphabetical order."""
    first: dict[str, str] = {}
    for item in sorted(items, key=lambda item: str(item["case_id"])):
        first.setdefault(item["patient_id"], f"group {item['group']:04d} label {item['label']:04d}")
    strata: Strata = defaultdict(list)
    for patient in sorted(first):
        strata[first[patient]].append(patient)
    return dict(sorted(strata.items()))


def _drawn(strata: Strata, scheme: Scheme, *, count: int, index: int, fraction: float, seed: int) -> Counter[str]:
    """How often each patient is in the subset."""
    if scheme == "fold_out":
        return _all_but_a_fold(strata, count=count, index=index, seed=seed)
    drawn: Counter[str] = Counter()
    for name, patients in strata.items():
        size = max(1, round(fraction * len(patients))) if scheme == "fraction" else len(patients)
        generator = np.random.default_rng([seed, zlib.crc32(f"{scheme} {index} {name}".encode())])
        drawn.update(generator.choice(patients, size=size, replace=scheme == "bootstrap").tolist())
    return drawn


def _all_but_a_fold(strata: Strata, *, count: int, index: int, seed: int) -> Counter[str]:
    """Patients are dealt to the folds like cards, one stratum after the other, so that folds are of one size."""
    dealt: list[str] = []
    for name, patients in strata.items():
        if len(patients) > 1:
            dealt += shuffled(patients, seed=seed, name=f"folds {name}")
    left_out = set(dealt[index::count])
    return Counter(patient for patients in strata.values() for patient in patients if patient not in left_out)


def _check_groups(items: Sequence[Item], subset: Sequence[Item], drawn_by: str) -> None:
    missing = sorted({item["group"] for item in items} - {item["group"] for item in subset})
    if missing:
        raise ValueError(
            f"every group of the training data must be in a teacher's subset; {drawn_by} leaves out group indices "
            f"{missing}; take another seed, a larger count or fraction, or scheme 'all'"
        )
