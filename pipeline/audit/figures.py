"""What figures of an audit share: colours by theme, SVG that stands inside a page, text as text, nothing fetched."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

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
WIDTH_INCHES, MARK_POINTS = 8.6, 5.5


@contextmanager
def drawing(height: float) -> Iterator[Figure]:
    """An empty figure of the page's width, in the page's style.

    Args:
        height: inches.

    Yields:
        The figure; it must be finished, too, before the block ends.
    """
    with mpl.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's fonts draw the text
        figure = Figure(figsize=(WIDTH_INCHES, height))
        FigureCanvasSVG(figure)
        yield figure


def finished(figure: Figure, prefix: str, title: str, told: str) -> str:
    """Turn a figure into an element of a page.

    Args:
        figure: drawn with the stand-ins.
        prefix: of its ids; every figure on a page needs its own.
        title: one line, read aloud.
        told: the figure in words.

    Returns:
        ``<svg>`` with ``role="img"``, a title and a description; byte for byte the same for the same figure.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314  # drawn above
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    _settle_attributes(root, prefix)
    for size in ("width", "height"):
        root.attrib.pop(size)
    root.attrib |= {"role": "img", "aria-labelledby": f"{prefix}-title", "aria-describedby": f"{prefix}-description"}
    for tag, key, text in (("desc", "description", told), ("title", "title", title)):
        element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{prefix}-{key}"})
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


def colour(position: int) -> str:
    """CSS colour of the n-th model, from the page's theme; the light one where there is no page."""
    position %= len(LIGHT)
    return f"var(--model-{position}, {LIGHT[position]})"


def stand_in(position: int) -> str:
    """What the n-th model is drawn with."""
    return f"#01fe{position % len(LIGHT):02x}"


def marker(position: int) -> str:
    """Mark of the n-th model."""
    return MARKERS[position % len(MARKERS)]


def plain_frame(axes: Axes, title: str) -> None:
    """No box and no ticks, a title on the left, faint lines up from the numbers."""
    axes.set_title(title, loc="left", fontsize=9.5, color=INK, parse_math=False)
    axes.tick_params(axis="both", colors=MUTED, length=0, labelsize=8.5)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)


def shortened(name: str, length: int) -> str:
    """A long name without its middle: heads and tails tell scanners apart.

    Example:
        >>> shortened("Siemens Healthineers MAGNETOM Skyra 3 T", 24)
        'Siemens Heal…OM Skyra 3 T'
    """
    if len(name) <= length:
        return name
    return f"{name[: length // 2]}…{name[-(length - length // 2) :]}"
