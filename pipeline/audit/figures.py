"""Forest plots as SVG that stands inside a page: its own colours by theme, text as text, nothing fetched."""

from __future__ import annotations

import io
import math
import re
import warnings
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from pipeline.audit.assessment import ALL, Audit
from pipeline.audit.statistics import Estimate
from pipeline.audit.tables import METRIC_WORDS, WORDS, in_figures, in_words
from pipeline.tracking.group_metrics import METRICS, slug

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
MARKERS = ("o", "s", "D", "^", "v", "P")
# Told apart by colour-blind readers, and at least 3:1 against the page (after Okabe & Ito 2008).
LIGHT = ("#0072b2", "#c04f00", "#007f5f", "#a23b7a", "#6b5b00", "#5a5a5a")
DARK = ("#6db9ee", "#f5955a", "#3fcf9f", "#e59ac8", "#dcc84a", "#b5b5b5")
# Stand-ins that matplotlib draws with, exchanged for the page's colours afterwards.
INK, MUTED, RULE, PAPER = "#02fd00", "#02fd01", "#02fd02", "#02fd03"
PAGE_COLOURS = {INK: "--ink, #1c2430", MUTED: "--muted, #5b6673", RULE: "--rule, #d8dee6", PAPER: "--paper, #ffffff"}
STAND_INS = re.compile(r"#0(?:1fe|2fd)0[0-9a-f]")
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "evenbeat", "font.family": "sans-serif", "font.size": 9.5}
ROW_INCHES, BAND_INCHES, WIDTH_INCHES = 0.21, 0.2, 8.6


def forest_plot(audit: Audit, column: str) -> str:
    """Draw accuracy and AUC of every group of a column, models side by side, all patients at the bottom.

    A filled mark has an interval, a hollow one has too few patients for it, a group without a value says why.

    Args:
        audit: the numbers.
        column: one of ``audit.settings.group_by``.

    Returns:
        ``<svg>`` element with ``role="img"``, a title and a description that tells the same in words; byte for byte the
        same for the same audit.
    """
    bands = audit.bands(column)
    height = len(bands) * (len(audit.models) * ROW_INCHES + BAND_INCHES) + 0.55
    with mpl.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's fonts draw the text
        figure = Figure(figsize=(WIDTH_INCHES, height))
        FigureCanvasSVG(figure)
        margin = 0.36 / height
        for position, metric in enumerate(METRICS):
            axes = figure.add_axes((0.22 + 0.4 * position, margin, 0.365, 1 - 2 * margin))
            _draw_panel(axes, audit, bands, metric)
            if position == 0:
                _name_bands(axes, audit, bands)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return _for_page(buffer.getvalue(), audit, column, bands)


def colour(position: int) -> str:
    """CSS colour of the n-th model, from the page's theme; the light one where there is no page."""
    position %= len(LIGHT)
    return f"var(--model-{position}, {LIGHT[position]})"


def _stand_in(position: int) -> str:
    return f"#01fe{position % len(LIGHT):02x}"


def _draw_panel(axes: Axes, audit: Audit, bands: list[tuple[str, str]], metric: str) -> None:
    band = _band(audit)
    _frame(axes, audit, len(bands) * band, metric)
    for row, (column, group) in enumerate(bands):
        if row:
            heavy = column == ALL
            axes.axhline(row * band, color=MUTED if heavy else RULE, linewidth=1.0 if heavy else 0.6)
        for position, model in enumerate(audit.models):
            y = row * band + BAND_INCHES / 2 + (position + 0.5) * ROW_INCHES
            _draw_estimate(axes, audit.find(model, column, group, metric), y, position)


def _frame(axes: Axes, audit: Audit, height: float, metric: str) -> None:
    left = _left_end(audit, metric)
    axes.set(xlim=(left - 0.02 * (1 - left), 1 + 0.02 * (1 - left)), ylim=(height, 0))
    axes.set_title(f"{METRIC_WORDS[metric]}, 95 % interval", loc="left", fontsize=9.5, color=INK)
    axes.tick_params(axis="x", colors=MUTED, length=0, labelsize=8.5)
    axes.set_yticks([])
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)


def _band(audit: Audit) -> float:
    return len(audit.models) * ROW_INCHES + BAND_INCHES


def _left_end(audit: Audit, metric: str) -> float:
    """Lowest tenth that the panel needs, so that differences can be seen."""
    ends = [e for row in audit.rows if row.metric == metric for e in (row.estimate.low, row.estimate.value)]
    lowest = min((end for end in ends if not math.isnan(end)), default=0.0)
    return min(0.5, math.floor(lowest * 10) / 10)


def _draw_estimate(axes: Axes, found: Estimate, y: float, position: int) -> None:
    hue = _stand_in(position)
    if math.isnan(found.value):
        axes.text(
            0.02, y, str(found.reason), transform=axes.get_yaxis_transform(), va="center", color=MUTED, fontsize=8
        )
        return
    if found.estimable:
        axes.plot([found.low, found.high], [y, y], color=hue, linewidth=1.8, solid_capstyle="round")
    axes.plot(
        [found.value],
        [y],
        MARKERS[position % len(MARKERS)],
        color=hue,
        markerfacecolor=hue if found.estimable else PAPER,
        markersize=6,
        clip_on=False,
    )
    if not found.estimable:
        near = (10, "left") if found.value < sum(axes.get_xlim()) / 2 else (-10, "right")
        axes.annotate(
            str(found.reason), (found.value, y), (near[0], 0), textcoords="offset points", ha=near[1], va="center",
            color=MUTED, fontsize=8,
        )  # fmt: skip


def _name_bands(axes: Axes, audit: Audit, bands: list[tuple[str, str]]) -> None:
    band, first = _band(audit), METRICS[0]
    for row, (column, group) in enumerate(bands):
        name = WORDS[ALL].capitalize() if column == ALL else group
        patients = max(audit.find(model, column, group, first).n_patients for model in audit.models)
        middle, left = (row + 0.5) * band, -0.22 / 0.365 + 0.01
        place = {"transform": axes.get_yaxis_transform(), "parse_math": False}
        axes.text(left, middle - 0.01, _short(name), va="bottom", color=INK, **place)  # type: ignore[arg-type]
        axes.text(left, middle + 0.02, f"n = {patients}", va="top", color=MUTED, fontsize=8.5, **place)  # type: ignore[arg-type]


def _short(name: str, length: int = 26) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def description(audit: Audit, bands: list[tuple[str, str]]) -> str:
    """Tell the figure in words: each group, model and metric with its value and interval."""
    told = []
    for part, group in bands:
        name = WORDS[ALL] if part == ALL else group
        for model in audit.models:
            values = (f"{METRIC_WORDS[m]} {in_figures(audit.find(model, part, group, m))}" for m in METRICS)
            told.append(f"{name}, {model}: {', '.join(values)}.")
    return " ".join(told)


def _for_page(svg: bytes, audit: Audit, column: str, bands: list[tuple[str, str]]) -> str:
    """Take out what a page does not need and put in what its readers do."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(svg)  # noqa: S314  # drawn above
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    prefix = f"forest-{slug(column)}"
    _settle_attributes(root, prefix)
    for size in ("width", "height"):
        root.attrib.pop(size)
    root.attrib |= {"role": "img", "aria-labelledby": f"{prefix}-title {prefix}-description"}
    told = description(audit, bands)
    title = f"Accuracy and AUC by {in_words(column)}, one row per model, with 95 % intervals"
    for tag, text in (("desc", told), ("title", title)):
        element = ElementTree.Element(
            f"{{{SVG}}}{tag}", {"id": f"{prefix}-{'title' if tag == 'title' else 'description'}"}
        )
        element.text = text
        root.insert(0, element)
    return ElementTree.tostring(root, encoding="unicode")


def _settle_attributes(root: ElementTree.Element, prefix: str) -> None:
    """Keep the ids of several figures on one page apart, and exchange the colours; texts stay as they are."""
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                element.set(key, f"{prefix}-{value}")
            elif key == f"{{{XLINK}}}href" and value.startswith("#"):
                element.set(key, f"#{prefix}-{value[1:]}")
            else:
                element.set(key, STAND_INS.sub(_page_colour, value.replace("url(#", f"url(#{prefix}-")))


def _page_colour(match: re.Match[str]) -> str:
    found = match.group(0)
    return f"var({PAGE_COLOURS[found]})" if found in PAGE_COLOURS else colour(int(found[-2:], 16))
