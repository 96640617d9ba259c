"""The forest plot, as the SVG that a browser gets."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pandas as pd
import pytest

from pipeline.audit.assessment import Audit, Settings, assess
from pipeline.audit.figures import DARK, LIGHT, forest_plot

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def audit(frame: pd.DataFrame) -> Audit:
    """Two columns, one vendor without patients."""
    return assess(frame, Settings(("vendor", "field_strength_t"), 300), {"vendor": ["Hitachi"]})


def texts(svg: str) -> list[str]:
    """Words that the figure shows."""
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def luminance(colour: str) -> float:
    """Relative luminance after WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_groups_and_their_patients_are_shown_as_text(audit: Audit) -> None:
    """Searchable and read aloud, not outlines; all patients at the bottom."""
    shown = texts(forest_plot(audit, "vendor"))
    for text in ("Canon", "GE", "Hitachi", "UIH", "All patients", "n = 15", "n = 0", "n = 73"):
        assert text in shown
    assert shown.count("no patients") == 3 * 2
    assert shown.count("too few patients") == 3 * 2
    assert shown.index("All patients") > shown.index("UIH")


def test_the_figure_tells_the_same_in_words(audit: Audit) -> None:
    """For those who do not see it."""
    root = ElementTree.fromstring(forest_plot(audit, "vendor"))  # noqa: S314
    title, described = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert described is not None
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {described.get('id')}"
    value = audit.find("student-kd", "vendor", "GE", "accuracy").value
    assert f"GE, student-kd: Accuracy {value:.2f} [" in str(described.text)


def test_the_same_audit_gives_the_same_bytes(audit: Audit) -> None:
    """No date, no random ids."""
    assert forest_plot(audit, "vendor") == forest_plot(audit, "vendor")


def test_ids_of_two_figures_differ_and_every_reference_resolves(audit: Audit) -> None:
    """On one page, one figure's clip path must not cut the other."""
    one, two = forest_plot(audit, "vendor"), forest_plot(audit, "field_strength_t")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert not ids[0] & ids[1]
    references = set(re.findall(r'(?:href="|url\()#([^")]+)', one))
    assert references
    assert references <= ids[0]


def test_colours_come_from_the_page_and_nothing_from_elsewhere(audit: Audit) -> None:
    """Stand-ins are all exchanged; the only addresses are the two names of the formats."""
    svg = forest_plot(audit, "vendor")
    assert not re.search(r"#0(1fe|2fd)", svg)
    for name in ("--model-0", "--model-1", "--model-2", "--ink", "--muted", "--rule", "--paper"):
        assert f"var({name}," in svg
    assert set(re.findall(r"https?://[^\s\"<]+", svg)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


@pytest.mark.parametrize(("palette", "paper"), [(LIGHT, "#ffffff"), (DARK, "#12171e")])
def test_marks_stand_out_from_the_page(palette: tuple[str, ...], paper: str) -> None:
    """Contrast of at least 3:1, WCAG 1.4.11."""
    for colour in palette:
        lighter, darker = sorted((luminance(colour), luminance(paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3


@pytest.mark.parametrize("name", ["$\\frac{1}{2}$", "<script>alert(1)</script>", "北京 3 T", "a & b", "#02fd00"])
def test_any_name_is_drawn_as_it_is(frame: pd.DataFrame, name: str) -> None:
    """No formula, no markup, no warning for letters that the drawing font lacks."""
    renamed = frame.assign(vendor=frame["vendor"].replace("GE", name))
    svg = forest_plot(assess(renamed, Settings(("vendor",), 100)), "vendor")
    assert name in texts(svg)
    assert "<script" not in svg
