"""N4 bias correction of a cine, by SimpleITK: for training only, the hospital image does not carry it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

SHRINK = 4  # the field is smooth: it is estimated on every 4th row and column
ITERATIONS = (30, 30, 20)  # one number per fitting level
FOREGROUND = 0.1  # of the 99th percentile: below is air or lung


def correct_bias(cine: ArrayLike, spacing: tuple[float, float, float]) -> NDArray[np.float32]:
    """Divide a cine by the coil's bias field, one field for all phases.

    The field is fitted to the mean over phases, where it is not air. (Otsu's threshold would cut through the field.)

    Args:
        cine: ``(phases, slices, rows, cols)``, any unit; values below 0 count as 0 for the fit.
        spacing: ``(slices, rows, cols)`` [mm].

    Returns:
        float32, the shape of ``cine``.

    Raises:
        ValueError: if ``cine`` is not 4-D.

    Source: Tustison et al., IEEE TMI 2010;29:1310.
    """
    import SimpleITK

    values = np.asarray(cine, dtype=np.float32)
    if values.ndim != 4:
        raise ValueError(f"cine must be (phases, slices, rows, cols); got shape {values.shape}")
    mean = SimpleITK.GetImageFromArray(np.maximum(values.mean(axis=0), 0.0))
    mean.SetSpacing(spacing[::-1])
    small = SimpleITK.Shrink(mean, [min(SHRINK, mean.GetWidth()), min(SHRINK, mean.GetHeight()), 1])
    correction = SimpleITK.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations(ITERATIONS)
    bright = float(np.percentile(SimpleITK.GetArrayViewFromImage(small), 99))
    correction.Execute(small, SimpleITK.Cast(small > FOREGROUND * bright, SimpleITK.sitkUInt8))
    field = np.exp(SimpleITK.GetArrayFromImage(correction.GetLogBiasFieldAsImage(mean)))
    return np.asarray(values / field, dtype=np.float32)
