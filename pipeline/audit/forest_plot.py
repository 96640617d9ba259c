"""Forest plots: a group per band, a model per row, a value and its interval, everybody at the bottom."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.audit.figures import (
    INK,
    MARK_POINTS,
    MUTED,
    PAPER,
    RULE,
    drawing,
    finished,
    marker,
    plain_frame,
    shortened,
    stand_in,
)
from pipeline.audit.findings import ALL
from pipeline.audit.statistics import Estimate
from pipeline.audit.words import WORDS, Digits, sentence

Band = tuple[str, str]  # column, group
Key = tuple[str, str, str]  # model, column, group
NAMES_SHARE, GAP_SHARE, TOP_INCHES, BOTTOM_INCHES = 0.215, 0.03, 0.34, 0.3
LABEL = {"va": "center", "color": MUTED, "fontsize": 8, "parse_math": False}
ON_PAPER = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0}  # lines behind a text would cross it out
MOST_INCHES = 9.0  # one figure fits on a printed page
FEW_MODELS = 3


@dataclass(frozen=True)
class Panel:
    """One axis.

    Args:
        title: what it shows.
        found: model, column and group -> what is drawn there; nothing where the key is absent.
        ends: left and right end of the axis.
        digits: of the values in words.
        interval: in words, ``95 % interval``.
        band: draw the interval as a band behind the mark, which may lie outside: where chance alone would put it.
    """

    title: str
    found: Mapping[Key, Estimate]
    ends: tuple[float, float]
    digits: Digits
    interval: str = "95 % interval"
    band: bool = False


def axis_ends(estimates: Iterable[Estimate], *, natural: tuple[float, float] | None = None) -> tuple[float, float]:
    """Ends of an axis that shows the values and, unless they are very wide, their intervals.

    Args:
        estimates: all that will be drawn.
        natural: ends that values cannot pass; the right one always shows, ``(0, 1)`` for shares.

    Returns:
        Left and right end; a tenth of the scale at least.
    """
    known = [found for found in estimates if math.isfinite(found.value)]
    if not known:
        return natural or (0.0, 1.0)
    values = np.array([found.value for found in known])
    halves = [max(e.high - e.value, e.value - e.low) for e in known if e.estimable]
    reach = 3 * float(np.median(halves)) if halves else 0.0
    low = min([values.min(), *(max(e.low, values.min() - reach) for e in known if e.estimable)])
    high = max([values.max(), *(min(e.high, values.max() + reach) for e in known if e.estimable)])
    if natural:
        return max(natural[0], min(math.floor(low * 10) / 10, natural[1] - 0.5)), natural[1]
    room = 0.04 * (high - low) or 0.05 * (1 + abs(high))
    return float(low - room), float(high + room)


def forest_plot(
    panels: Sequence[Panel],
    bands: Sequence[Band],
    models: Sequence[str],
    patients: Mapping[Band, int],
    *,
    prefix: str,
    title: str,
) -> list[str]:
    """Draw panels side by side. Very many groups go on in further figures, none higher than a page.

    A filled mark has an interval, a hollow one has none and says why; a group without a value says why.

    Args:
        panels: one or two.
        bands: groups from top to bottom; ``all`` is set apart.
        models: rows of each band.
        patients: of each band.
        prefix: of the ids.
        title: read aloud.

    Returns:
        ``<svg>`` elements, each with a title and a description that tells the same in words.
    """
    tall = _band_inches(len(models))
    most = max(1, int((MOST_INCHES - TOP_INCHES - BOTTOM_INCHES) / tall))
    parts = -(-len(bands) // most)
    size = -(-len(bands) // parts)  # parts of about equal length
    drawn = []
    for part in range(parts):
        shown = bands[part * size : (part + 1) * size]
        told = _in_words(panels, shown, models)
        height = len(shown) * tall + TOP_INCHES + BOTTOM_INCHES
        with drawing(height) as figure:
            for position, panel in enumerate(panels):
                axes = _axes(figure, position, len(panels), height)
                _draw_panel(axes, panel, shown, models)
                if position == 0:
                    _name_bands(axes, shown, patients, tall, len(panels))
            counted = f" ({part + 1} of {parts})" if parts > 1 else ""
            drawn.append(finished(figure, f"{prefix}-{part + 1}", title + counted, told))
    return drawn


def _row_inches(models: int) -> float:
    return 0.21 if models <= FEW_MODELS else 0.165


def _band_inches(models: int) -> float:
    return max(models * _row_inches(models) + 0.17, 0.4)


def _axes(figure: Figure, position: int, panels: int, height: float) -> Axes:
    width = _panel_share(panels)
    left = NAMES_SHARE + position * (width + GAP_SHARE)
    return figure.add_axes((left, BOTTOM_INCHES / height, width, 1 - (TOP_INCHES + BOTTOM_INCHES) / height))


def _panel_share(panels: int) -> float:
    return (1 - NAMES_SHARE - 0.01 - (panels - 1) * GAP_SHARE) / panels


def _draw_panel(axes: Axes, panel: Panel, bands: Sequence[Band], models: Sequence[str]) -> None:
    tall, step = _band_inches(len(models)), _row_inches(len(models))
    low, high = panel.ends
    room = 0.02 * (high - low)
    axes.set(xlim=(low - room, high + room), ylim=(len(bands) * tall, 0), yticks=[])
    plain_frame(axes, panel.title)
    for row, (column, _) in enumerate(bands):
        if row:
            heavy = column == ALL
            axes.axhline(row * tall, color=MUTED if heavy else RULE, linewidth=1.0 if heavy else 0.6)
    shared = {band for band in bands if _shared_reason(panel, band, models)}
    for row, band in enumerate(bands):
        if band in shared:
            _say(axes, _shared_reason(panel, band, models), (row + 0.5) * tall)
    for position, model in enumerate(models):
        overall = panel.found.get((model, ALL, ALL))
        if overall and math.isfinite(overall.value) and len(models) <= FEW_MODELS and not panel.band:
            axes.axvline(overall.value, color=stand_in(position), linewidth=0.8, linestyle=(0, (1, 2.5)), zorder=0.5)
        placed = [
            (panel.found[model, *band], row * tall + tall / 2 + (position - (len(models) - 1) / 2) * step)
            for row, band in enumerate(bands)
            if band not in shared and (model, *band) in panel.found
        ]
        _draw_model(axes, placed, position, panel)


def _shared_reason(panel: Panel, band: Band, models: Sequence[str]) -> str:
    """Why none of the models has a value here, if it is the same for all: it is said once."""
    found = [panel.found.get((model, *band)) for model in models]
    reasons = {estimate.reason for estimate in found if estimate and math.isnan(estimate.value)}
    all_missing = all(estimate and math.isnan(estimate.value) for estimate in found)
    return str(reasons.pop()) if all_missing and len(reasons) == 1 else ""


def _say(axes: Axes, reason: str, y: float) -> None:
    axes.text(0.02, y, reason, transform=axes.get_yaxis_transform(), bbox=ON_PAPER, **LABEL)  # type: ignore[arg-type]


def _draw_model(axes: Axes, placed: Sequence[tuple[Estimate, float]], position: int, panel: Panel) -> None:
    hue, left = stand_in(position), axes.get_xlim()[0]
    for found, y in placed:
        if math.isnan(found.value):
            _say(axes, str(found.reason), y)
    sure = [(found, y) for found, y in placed if found.estimable]
    unsure = [(found, y) for found, y in placed if not found.estimable and math.isfinite(found.value)]
    ends = np.array([(e.low, e.high) for e, _ in sure]).reshape(-1, 2)
    if panel.band:
        axes.hlines([y for _, y in sure], *ends.T, color=RULE, linewidth=8)
    else:
        axes.hlines([y for _, y in sure], *ends.T, color=hue, linewidth=1.8, capstyle="round")
        _point_beyond(axes, sure, hue)
    for marks, face in ((sure, hue), (unsure, PAPER)):
        places = [e.value for e, _ in marks], [y for _, y in marks]
        axes.plot(*places, marker(position), color=hue, markerfacecolor=face, markersize=MARK_POINTS, clip_on=False)
    for found, y in unsure:
        near = 9 if found.value < (left + axes.get_xlim()[1]) / 2 else -9
        axes.annotate(
            str(found.reason),
            (found.value, y),
            (near, 0),
            textcoords="offset points",
            ha="left" if near > 0 else "right",
            bbox=ON_PAPER,
            **LABEL,  # type: ignore[arg-type]
        )


def _point_beyond(axes: Axes, sure: Sequence[tuple[Estimate, float]], hue: str) -> None:
    """Arrow heads where an interval leaves the axis."""
    left, right = axes.get_xlim()
    for found, y in sure:
        if found.low < left:
            axes.plot([left], [y], "<", color=hue, markersize=4, clip_on=False)
        if found.high > right:
            axes.plot([right], [y], ">", color=hue, markersize=4, clip_on=False)


def _name_bands(axes: Axes, bands: Sequence[Band], patients: Mapping[Band, int], tall: float, panels: int) -> None:
    left = -NAMES_SHARE / _panel_share(panels) + 0.005
    place = {"transform": axes.get_yaxis_transform(), "parse_math": False}
    for row, (column, group) in enumerate(bands):
        name = sentence(WORDS[ALL]) if column == ALL else group
        middle = (row + 0.5) * tall
        axes.text(left, middle - 0.005, shortened(name, 23), va="bottom", color=INK, **place)  # type: ignore[arg-type]
        counted = f"n = {patients[column, group]}"
        axes.text(left, middle + 0.025, counted, va="top", color=MUTED, fontsize=8.5, **place)  # type: ignore[arg-type]


def _in_words(panels: Sequence[Panel], bands: Sequence[Band], models: Sequence[str]) -> str:
    """Every group, model and panel with its value and interval."""
    told = []
    for band in bands:
        name = WORDS[ALL] if band[0] == ALL else band[1]
        for model in models:
            values = [
                f"{panel.title}: {_estimate_in_words(found, panel)}"
                for panel in panels
                if (found := panel.found.get((model, *band)))
            ]
            if values:
                told.append(f"{name}, {model}: {'; '.join(values)}.")
    return " ".join(told)


def _estimate_in_words(found: Estimate, panel: Panel) -> str:
    if math.isnan(found.value):
        return str(found.reason)
    sure = f"{panel.interval} {panel.digits.interval(found)}" if found.estimable else found.reason
    return f"{panel.digits.with_unit(found.value)} ({sure})"
