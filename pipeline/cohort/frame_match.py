"""Which phase of a cine a volume is, by its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.cohort.nifti import SetAsideError

Signature = NDArray[np.float64]

LARGEST_RESIDUAL = 0.05  # of a phase that is taken; between neighbours of real cines it is larger, by noise alone
EXACT_RESIDUAL = 1e-3  # below this, residuals are rounding
CLEARLY = 3.0  # times larger must the residual of every other phase be


def signature(path: Path) -> Signature:
    """Read a volume for comparison.

    Args:
        path: NIfTI file ``(x, y, z)``.

    Returns:
        ``(x * y * z,)``, mean 0 and length 1, so that a product of two is Pearson's r; zeros for a volume that is
        constant or not finite.

    Raises:
        SetAsideError: if its pixels cannot be read.
    """
    import nibabel

    try:
        return _standardised(np.asarray(nibabel.load(path).dataobj))
    except Exception as error:  # nibabel raises many kinds for a broken file
        raise SetAsideError(f"pixels cannot be read: {path.name}, {type(error).__name__}") from error


def residuals(cine: Path, signatures: Sequence[Signature]) -> NDArray[np.float64]:
    r"""How far each phase of a cine is from volumes, whatever the scale and offset of their intensities.

    .. math:: \epsilon = \sqrt{1 - \max(r, 0)^2}

    with Pearson's :math:`r`: the share of a volume's standard deviation that the best line through its phase leaves.

    Args:
        cine: NIfTI file ``(x, y, z, t)``; read phase by phase.
        signatures: of volumes of the cine's ``(x, y, z)``.

    Returns:
        ``(n_volumes, phases)`` in [0, 1].

    Raises:
        SetAsideError: if the cine's pixels cannot be read.
    """
    import nibabel

    try:
        phases = nibabel.load(cine, keep_file_open=True).dataobj  # open: a packed file is read once, forwards
        found = [
            np.stack(signatures) @ _standardised(np.asarray(phases[..., index])) for index in range(phases.shape[3])
        ]
    except Exception as error:  # nibabel raises many kinds for a broken file
        raise SetAsideError(f"pixels cannot be read: {cine.name}, {type(error).__name__}") from error
    return np.sqrt(np.clip(1 - np.clip(np.stack(found, axis=1), 0, 1) ** 2, 0, 1))


def matching_phase(residual: NDArray[np.float64]) -> int | None:
    """The one phase that a volume is.

    Args:
        residual: ``(phases,)``, as :func:`residuals` gives it.

    Returns:
        Index from 0; ``None`` if no phase fits, or several do.

    Example:
        >>> [matching_phase(np.array(residual)) for residual in ([0.2, 0.0, 0.1], [0.2, 0.1, 0.1], [0.2, 0.0, 0.0])]
        [1, None, None]
    """
    order = np.argsort(residual, kind="stable")
    best = float(residual[order[0]])
    others = float(residual[order[1]]) if len(order) > 1 else 1.0
    fits = best <= LARGEST_RESIDUAL and others >= CLEARLY * max(best, EXACT_RESIDUAL)
    return int(order[0]) if fits else None


def _standardised(volume: NDArray[np.generic]) -> Signature:
    centred = np.ravel(volume).astype(np.float64)
    centred -= centred.mean()
    length = float(np.linalg.norm(centred))
    return centred / length if 0 < length < np.inf else np.zeros_like(centred)
