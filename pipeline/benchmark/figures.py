"""Figures of the benchmark's page: SVG on white paper, text as text, the same bytes for the same numbers."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pipeline.audit.figures import LIGHT, MARKERS, STYLE
from pipeline.benchmark.analysis import Estimate
from pipeline.benchmark.comparison import REFERENCE, Regime, Summary
from pipeline.benchmark.tables import count, in_words, points
from pipeline.files import atomic_path

INK, MUTED, RULE = "#1c2430", "#5b6673", "#d8dee6"
WIDTH_INCHES = 8.6
KINDS = {"proposed": (LIGHT[1], "D"), "baseline": (LIGHT[0], "o"), "teacher": (LIGHT[5], "s")}
# Told apart by colour-blind readers, light enough for figures in ink; purple is better, orange worse.
HEAT = ListedColormap(mpl.colormaps["PuOr"](np.linspace(0.2, 0.78, 256)))
LEGEND_LETTERS, LEGEND_MARK = 112, 8  # letters in the width of a figure, and those in the width of a line's mark
HEAT_POINTS = 40.0
DASHES = ((4, 3), (1, 2), (6, 2, 1, 2))
DIAL_WORDS = {
    "minority_share": "rarer groups, times",
    "confounding": "place goes with class",
    "alignment": "vendor goes with class",
}


@dataclass(frozen=True)
class Panel:
    """Lines over one axis.

    Args:
        title: what the lines show.
        x_label: what they run over.
        lines: name -> points ``(x, value with its interval)``, ascending in x.
        log: whether x is logarithmic.
        levels: name -> value that is no line, drawn as one across the panel.
    """

    title: str
    x_label: str
    lines: Mapping[str, Sequence[tuple[float, Estimate]]]
    log: bool = False
    levels: Mapping[str, float] = field(default_factory=dict)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG; the file is complete or absent."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's fonts draw the text
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


@mpl.rc_context(STYLE)  # type: ignore[arg-type]
def methods_figure(summaries: Sequence[Summary]) -> Figure:
    """Worst-group and average accuracy of every model, the best worst group on top, the reference as a dashed line.

    Models with fewer seeds than others come below, in the same order.
    """
    ordered = sorted(summaries, key=lambda s: (-len(s.runs.seeds), -s.estimates["worst_group_accuracy"].value))
    most = len(ordered[0].runs.seeds)
    whole = sum(len(summary.runs.seeds) == most for summary in ordered)
    rows = [*range(whole), *range(whole + 1, len(ordered) + 1)]  # a gap before those with fewer seeds
    height = 0.27 * (rows[-1] + 1) + 1.05
    left = 0.02 + 0.0098 * max(len(summary.model) for summary in ordered)
    width = (1 - left) / 2
    figure = Figure(figsize=(WIDTH_INCHES, height), facecolor="white")
    panels = {"worst_group_accuracy": "Worst-group accuracy, 95 % interval", "accuracy": "Accuracy, 95 % interval"}
    for position, (metric, title) in enumerate(panels.items()):
        axes = figure.add_axes((left + width * position, 0.62 / height, width - 0.03, 1 - 0.95 / height))
        _frame(axes, title)
        axes.set(ylim=(rows[-1] + 0.6, -0.6), yticks=[])
        for row, summary in zip(rows, ordered, strict=True):
            _dot(axes, summary, metric, row)
            if position == 0:
                axes.text(
                    -0.03, row, summary.model, transform=axes.get_yaxis_transform(), ha="right", va="center", color=INK,
                    fontweight="bold" if summary.proposed else "normal", parse_math=False,
                )  # fmt: skip
        if position == 0 and whole < len(ordered):
            axes.text(
                -0.03, whole, "with fewer seeds:", transform=axes.get_yaxis_transform(), ha="right", va="center",
                color=MUTED, fontsize=8.5,
            )  # fmt: skip
    _legend_of_kinds(figure, ordered)
    return figure


def _dot(axes: Axes, summary: Summary, metric: str, row: int) -> None:
    hue, marker = KINDS[_kind(summary)]
    found = summary.estimates[metric]
    if summary.model == REFERENCE:
        axes.axvline(found.value, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.plot([found.low, found.high], [row, row], color=hue, linewidth=1.8, solid_capstyle="round")
    axes.plot([found.value], [row], marker, color=hue, markersize=6)


def _kind(summary: Summary) -> str:
    return "teacher" if summary.role == "teacher" else "proposed" if summary.proposed else "baseline"


def _legend_of_kinds(figure: Figure, summaries: Sequence[Summary]) -> None:
    present = [kind for kind in KINDS if kind in {_kind(summary) for summary in summaries}]
    marks = [Line2D([], [], color=KINDS[kind][0], marker=KINDS[kind][1], label=kind, markersize=6) for kind in present]
    if any(summary.model == REFERENCE for summary in summaries):
        marks.append(Line2D([], [], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label=REFERENCE))
    figure.legend(handles=marks, loc="lower center", ncols=len(marks), frameon=False, fontsize=8.5, labelcolor=INK)


def _frame(axes: Axes, title: str, *, grid: str = "x") -> None:
    axes.set_title(title, loc="left", fontsize=9.5, color=INK)
    axes.tick_params(colors=MUTED, length=0, labelsize=8.5)
    axes.grid(axis=grid, color=RULE, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)


@mpl.rc_context(STYLE)  # type: ignore[arg-type]
def regime_figure(regimes: Sequence[Regime], name: str) -> Figure:
    """Gain of a method in worst-group accuracy over two dials, one panel for each combination of the others.

    A heavy frame marks settings where the reference has not learnt the minority's training studies; figures in bold
    have an interval that excludes 0.
    """
    across, down, panels = layout(regimes)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    across_values, down_values = (_values(regimes, name) for name in (across, down))
    height = rows * (0.52 * len(down_values) + 0.95) + 0.35
    figure = Figure(figsize=(WIDTH_INCHES, height), facecolor="white", layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, members) in zip(grid.flat, panels.items(), strict=False):
        drawn = _heat(axes, members, (across, across_values), (down, down_values))
        _frame(axes, title, grid="x")
        axes.grid(visible=False)
    key = figure.colorbar(drawn, ax=grid, shrink=0.6, extend="both", pad=0.02)
    key.set_label(f"{name} minus {REFERENCE} [points]", fontsize=8.5, color=MUTED)
    key.ax.tick_params(colors=MUTED, length=0, labelsize=8.5)
    key.outline.set_visible(False)
    figure.supxlabel(
        "Worst-group accuracy, difference [95 %]; bold: excludes 0; heavy frame: minority underfitted by KD",
        fontsize=8.5, color=MUTED,
    )  # fmt: skip
    return figure


def layout(regimes: Sequence[Regime]) -> tuple[str, str, dict[str, list[Regime]]]:
    """Choose the dials that go across and down, and sort what is left into panels by their words."""
    varied = [name for name in _names(regimes) if len(_values(regimes, name)) > 1]
    axes = sorted(varied, key=lambda name: list(DIAL_WORDS).index(name) if name in DIAL_WORDS else len(DIAL_WORDS))
    across, down = (*axes, "", "")[:2]
    panels: dict[str, list[Regime]] = {}
    for regime in regimes:
        left = {name: regime.settings.get(name) for name in varied if name not in (across, down)}
        title = ", ".join(str(v) if k == "variant" else f"{k.replace('_', ' ')} {in_words(v)}" for k, v in left.items())
        panels.setdefault(title, []).append(regime)
    return across, down, panels


def _names(regimes: Sequence[Regime]) -> list[str]:
    return sorted({name for regime in regimes for name in regime.settings})


def _values(regimes: Sequence[Regime], name: str) -> list[Any]:
    """Different values of a setting, in the order of the regimes, which is ascending."""
    return list(dict.fromkeys(regime.settings.get(name) for regime in regimes))


def _heat(axes: Axes, members: Sequence[Regime], x: tuple[str, list[Any]], y: tuple[str, list[Any]]) -> AxesImage:
    table = np.full((len(y[1]), len(x[1])), np.nan)
    for regime in members:
        column, row = x[1].index(regime.settings.get(x[0])), y[1].index(regime.settings.get(y[0]))
        table[row, column] = 100 * regime.worst.value
        axes.text(
            column, row, points(regime.worst, bold=False).replace(" [", "\n["), ha="center", va="center",
            fontsize=8.5, color=INK, fontweight="bold" if regime.worst.sign else "normal",
        )  # fmt: skip
        if regime.reference.underfitted:
            place = (column - 0.475, row - 0.46)
            axes.add_patch(Rectangle(place, 0.95, 0.92, fill=False, edgecolor=INK, linewidth=2.2, zorder=3))
    drawn = axes.imshow(table, cmap=HEAT, vmin=-HEAT_POINTS, vmax=HEAT_POINTS, aspect="auto")
    for name, values, ticks, label in (
        (*x, axes.set_xticks, axes.set_xlabel),
        (*y, axes.set_yticks, axes.set_ylabel),
    ):
        ticks(range(len(values)), [in_words(value) if name else "" for value in values])
        label(DIAL_WORDS.get(name, name.replace("_", " ")), fontsize=8.5, color=MUTED)
    return drawn


@mpl.rc_context(STYLE)  # type: ignore[arg-type]
def lines_figure(panels: Sequence[Panel], *, share_y: bool = True) -> Figure:
    """Lines with their bands, panels side by side, one legend for all.

    Args:
        panels: at least one.
        share_y: whether all show the same quantity.
    """
    names = list(dict.fromkeys(name for panel in panels for name in (*panel.lines, *panel.levels)))
    columns = max(1, min(len(names), int(LEGEND_LETTERS // (LEGEND_MARK + max(map(len, names))))))
    legend_rows = -(-len(names) // columns)
    figure = Figure(figsize=(WIDTH_INCHES, 3.0 + 0.2 * legend_rows), facecolor="white", layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=share_y)[0]
    for axes, panel in zip(grid, panels, strict=True):
        _frame(axes, panel.title, grid="y")
        if panel.log:
            _log(axes)
        for name, line in panel.lines.items():
            _line(axes, name, line, names.index(name))
        for dashes, (name, value) in zip(itertools.cycle(DASHES), panel.levels.items(), strict=False):
            axes.axhline(value, color=MUTED, linewidth=1.2, linestyle=(0, dashes), label=name)
        axes.set_xlabel(panel.x_label, fontsize=8.5, color=MUTED)
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles=[handles[name] for name in names], loc="outside lower center", ncols=columns, frameon=False,
        fontsize=8.5, labelcolor=INK,
    )  # fmt: skip
    return figure


def _log(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x)))


def _line(axes: Axes, name: str, line: Sequence[tuple[float, Estimate]], position: int) -> None:
    hue, x = LIGHT[position % len(LIGHT)], [x for x, _ in line]
    dashed = "-" if position < len(LIGHT) else (0, (2, 1.5))
    marker = MARKERS[position % len(MARKERS)] if len(line) <= 12 else ""
    axes.fill_between(x, [e.low for _, e in line], [e.high for _, e in line], color=hue, alpha=0.12, linewidth=0)
    axes.plot(
        x, [e.value for _, e in line], color=hue, marker=marker, markersize=5, linewidth=1.8, label=name,
        linestyle=dashed,
    )  # fmt: skip
