"""Are groups compared between patients or within them? The patients decide, before any value is looked at."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from pipeline.audit.cells import cells_of, pairs_of
from pipeline.audit.permutation import by_patient, comparable

Design = Literal["between patients", "within patients"]
BETWEEN: Design = "between patients"
WITHIN: Design = "within patients"


def choose_design(patients: ArrayLike, groups: ArrayLike, strata: ArrayLike | None = None) -> Design:
    """The design in which more patients can be compared.

    Patients of one group each are compared between groups, patients of several with themselves. A table with both
    kinds is not mixed: the larger part is tested, and the other is counted.

    Args:
        patients: ``(n,)``, integer codes.
        groups: ``(n,)``, names.
        strata: ``(n,)``, e.g. labels; patients, or their studies, are exchanged within a stratum only.

    Returns:
        ``within patients`` if no fewer patients can be compared so, and there are any.

    Example:
        >>> choose_design([0, 1, 2, 3], ["GE", "GE", "Canon", "Canon"]), choose_design([0, 0, 1, 1], ["a", "b"] * 2)
        ('between patients', 'within patients')
    """
    owners, named = np.asarray(patients, dtype=np.int64), np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(np.unique(pairs_of(owners, named))) == len(np.unique(owners)):
        return BETWEEN  # everybody in one group
    nothing = np.zeros(len(owners))
    inside = cells_of(nothing, patients, groups, strata).n_patients
    apart = len(comparable(by_patient(nothing, patients, groups, strata)).values)
    return WITHIN if inside and inside >= apart else BETWEEN
