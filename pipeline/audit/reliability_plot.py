"""Reliability curves: how often a model was right where it said how sure it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pipeline.audit.calibration import ReliabilityBin
from pipeline.audit.figures import (
    INK,
    MUTED,
    PAPER,
    RULE,
    WIDTH_INCHES,
    drawing,
    finished,
    marker,
    plain_frame,
    shortened,
    stand_in,
)
from pipeline.audit.words import Digits, several

PER_ROW = 3
PANEL_INCHES, GAP_INCHES, TITLE_INCHES, LABEL_INCHES = 2.3, 0.5, 0.32, 0.5


def reliability_plot(curves: Mapping[str, Sequence[ReliabilityBin]], *, prefix: str, title: str) -> str:
    """Draw a square panel per model, three side by side; the larger a mark, the more patients are behind it.

    Args:
        curves: model -> bins, in the order of the models.
        prefix: of the ids.
        title: read aloud.

    Returns:
        ``<svg>`` element with a title and a description that tells the same in words.
    """
    rows = -(-len(curves) // PER_ROW)
    each = PANEL_INCHES + TITLE_INCHES + LABEL_INCHES
    height = rows * each
    most = max((b.observed.n_patients for curve in curves.values() for b in curve), default=1)
    with drawing(height) as figure:
        for position, (model, curve) in enumerate(curves.items()):
            row, column = divmod(position, PER_ROW)
            left = (0.55 + column * (PANEL_INCHES + GAP_INCHES)) / WIDTH_INCHES
            bottom = 1 - (row * each + TITLE_INCHES + PANEL_INCHES) / height
            axes = figure.add_axes((left, bottom, PANEL_INCHES / WIDTH_INCHES, PANEL_INCHES / height))
            _draw_curve(axes, model, curve, position, most)
            if column == 0:
                axes.set_ylabel("Share that was right", color=MUTED, fontsize=8.5)
        return finished(figure, prefix, title, " ".join(f"{m}: {_in_words(curve)}" for m, curve in curves.items()))


def _draw_curve(axes: Axes, model: str, curve: Sequence[ReliabilityBin], position: int, most: int) -> None:
    hue = stand_in(position)
    plain_frame(axes, shortened(model, 28))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    ticks = (0, 0.25, 0.5, 0.75, 1)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=ticks, yticks=ticks)
    axes.set_xlabel("Probability of the answer", color=MUTED, fontsize=8.5)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    x = np.array([b.mean_probability for b in curve])
    sure = np.array([b.observed.estimable for b in curve], dtype=bool)
    ends = np.array([(b.observed.low, b.observed.high) for b in curve]).reshape(-1, 2)
    axes.vlines(x[sure], *ends[sure].T, color=hue, linewidth=1.4)
    shares, sizes = (np.array([getattr(b.observed, name) for b in curve]) for name in ("value", "n_patients"))
    areas = 12 + 60 * sizes / most
    for chosen, face in ((sure, hue), (~sure, PAPER)):
        style: dict[str, Any] = {
            "marker": marker(position),
            "facecolors": face,
            "edgecolors": hue,
            "zorder": 3,
            "clip_on": False,
        }
        axes.scatter(x[chosen], shares[chosen], areas[chosen], **style)


def _in_words(curve: Sequence[ReliabilityBin]) -> str:
    digits = Digits()
    told = [
        f"where it was sure to {digits.value(b.mean_probability)}, right in {digits.value(b.observed.value)} "
        f"({digits.interval(b.observed)}; {several(b.observed.n_patients, 'patient')})"
        for b in curve
    ]
    return "; ".join(told) + "." if told else "no rows."
