"""Forest and reliability plots, as the SVG that a browser gets."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from pipeline.audit.calibration import ReliabilityBin
from pipeline.audit.figures import DARK, LIGHT, shortened
from pipeline.audit.findings import ALL
from pipeline.audit.forest_plot import Band, Panel, axis_ends, forest_plot
from pipeline.audit.reliability_plot import reliability_plot
from pipeline.audit.statistics import Estimate
from pipeline.audit.words import Digits

SVG = "{http://www.w3.org/2000/svg}"
MODELS = ("teacher", "student")
BANDS: list[Band] = [("vendor", "GE"), ("vendor", "Hitachi"), ("vendor", "UIH"), (ALL, ALL)]
PATIENTS = dict(zip(BANDS, (40, 0, 4, 44), strict=True))
SURE = Estimate(40, 40, 0.8, 0.65, 0.9, "Wilson")
FOUND = {
    **{(model, "vendor", "GE"): SURE for model in MODELS},
    **{(model, "vendor", "Hitachi"): Estimate(0, 0, reason="no patients") for model in MODELS},
    **{(model, "vendor", "UIH"): Estimate(4, 4, 0.75, reason="too few patients") for model in MODELS},
    **{(model, ALL, ALL): Estimate(44, 44, 0.79, 0.66, 0.88, "Wilson") for model in MODELS},
}


def drawn(bands: list[Band] = BANDS, prefix: str = "f", **changes: Estimate) -> list[str]:
    """A small forest plot; ``changes`` are estimates of the teacher by group."""
    found = FOUND | {("teacher", "vendor", group): estimate for group, estimate in changes.items()}
    panel = Panel("Accuracy", found, (0.5, 1.0), Digits())
    return forest_plot([panel], bands, MODELS, PATIENTS | dict.fromkeys(bands, 7), prefix=prefix, title="By vendor")


def texts(svg: str) -> list[str]:
    """Words that the figure shows."""
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def luminance(colour: str) -> float:
    """Relative luminance after WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_groups_and_their_patients_are_shown_as_text() -> None:
    """Searchable and read aloud, not outlines; why nothing can be said, once if it is so for all models."""
    panel = Panel("Accuracy", FOUND, (0.5, 1.0), Digits())
    (svg,) = forest_plot([panel], BANDS, MODELS, PATIENTS, prefix="f", title="By vendor")
    shown = texts(svg)
    for text in ("GE", "Hitachi", "UIH", "All patients", "n = 40", "n = 0", "n = 44"):
        assert text in shown
    assert shown.count("no patients") == 1
    assert shown.count("too few patients") == 2
    assert shown.index("All patients") > shown.index("UIH")


def test_the_figure_tells_the_same_in_words() -> None:
    """For those who do not see it."""
    (svg,) = drawn()
    root = ElementTree.fromstring(svg)  # noqa: S314
    title, described = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert described is not None
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", title.get("id"))
    assert root.get("aria-describedby") == described.get("id")
    told = str(described.text)
    assert "GE, student: Accuracy: 0.80 (95 % interval 0.65 to 0.90)." in told
    assert "Hitachi, teacher: Accuracy: no patients." in told
    assert "UIH, teacher: Accuracy: 0.75 (too few patients)." in told


def test_very_many_groups_go_on_in_further_figures_and_none_is_lost() -> None:
    """A figure must fit on a printed page; thirty groups of one model take two of like height."""
    bands = [("vendor", f"scanner {i}") for i in range(30)]
    found = {("only", *band): SURE for band in bands}
    panel = Panel("Accuracy", found, (0.5, 1.0), Digits())
    svgs = forest_plot([panel], bands, ["only"], dict.fromkeys(bands, 9), prefix="f", title="T")
    assert len(svgs) == 2
    names = [text for svg in svgs for text in texts(svg) if text.startswith("scanner")]
    assert names == [group for _, group in bands]
    heights = [float(str(ElementTree.fromstring(svg).get("viewBox")).split()[3]) / 72 for svg in svgs]  # noqa: S314
    assert max(heights) <= 9
    assert heights[0] == heights[1]


def test_the_same_findings_give_the_same_bytes() -> None:
    """No date, no random ids."""
    assert drawn() == drawn()


def test_ids_of_two_figures_differ_and_every_reference_resolves() -> None:
    """On one page, one figure's clip path must not cut the other."""
    (one,), (two,) = drawn(prefix="f"), drawn(prefix="g")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert not ids[0] & ids[1]
    references = set(re.findall(r'(?:href="|url\()#([^")]+)', one))
    assert references
    assert references <= ids[0]


def test_colours_come_from_the_page_and_nothing_from_elsewhere() -> None:
    """Stand-ins are all exchanged; the only addresses are the two names of the formats."""
    (svg,) = drawn()
    assert not re.search(r"#0(1fe|2fd)", svg)
    for name in ("--model-0", "--model-1", "--ink", "--muted", "--rule", "--paper"):
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
def test_any_name_is_drawn_as_it_is(name: str) -> None:
    """No formula, no markup, no warning for letters that the drawing font lacks; nor in a reason."""
    bands: list[Band] = [("vendor", name)]
    found = {("only", "vendor", name): Estimate(3, 3, reason=f"no {name}")}
    panel = Panel(f"of {name}", found, (0, 1), Digits())
    (svg,) = forest_plot([panel], bands, ["only"], {bands[0]: 3}, prefix="f", title=name)
    shown = " ".join(texts(svg))
    if len(name) <= 23:
        assert name in shown
    assert f"no {name}" in shown
    assert f"of {name}" in shown
    assert "<script" not in svg


def test_names_that_differ_at_the_end_still_differ_when_they_are_shortened() -> None:
    """Scanners of one maker do."""
    names = [f"Siemens Healthineers MAGNETOM {model}" for model in ("Skyra 3 T", "Vida 3 T", "Sola 1.5 T")]
    short = {shortened(name, 23) for name in names}
    assert len(short) == 3
    assert max(map(len, short)) == 24


def test_an_axis_of_shares_ends_at_one_and_begins_at_a_tenth() -> None:
    """0.83 with a lower end of 0.61 begins at 0.5, however high the rest: half of the scale shows at least."""
    ends = axis_ends([Estimate(9, 9, 0.83, 0.61, 0.95, "Wilson")], natural=(0, 1))
    assert ends == (0.5, 1.0)
    assert axis_ends([Estimate(9, 9, 0.3, 0.12, 0.5, "Wilson")], natural=(0, 1)) == (0.1, 1.0)
    assert axis_ends([Estimate(0, 0, reason="no patients")]) == (0.0, 1.0)


def test_one_very_wide_interval_does_not_press_all_others_together() -> None:
    """It leaves the axis with an arrow head."""
    narrow = [Estimate(50, 50, value, value - 1, value + 1, "t") for value in (7.0, 8.0, 9.0)]
    low, high = axis_ends([*narrow, Estimate(2, 2, 8.0, -400.0, 416.0, "t")])
    assert 3 < low < 6
    assert 10 < high < 13
    (plain,), (wide,) = drawn(), drawn(GE=Estimate(40, 40, 0.8, -3.0, 4.0, "t"))
    assert wide.count("<use") == plain.count("<use") + 2


def test_a_reliability_curve_tells_every_bin() -> None:
    """Two bins of one model, none of the other; a bin of one patient has no interval."""
    curve = [
        ReliabilityBin(0.6, 0.67, 0.63, Estimate(1, 1, 1.0, reason="too few patients")),
        ReliabilityBin(0.8, 0.87, 0.85, Estimate(30, 30, 0.7, 0.52, 0.83, "Wilson")),
    ]
    root = ElementTree.fromstring(reliability_plot({"a": curve, "b": []}, prefix="r", title="Reliability"))  # noqa: S314
    described = root.find(f"{SVG}desc")
    assert described is not None
    assert described.text == (
        "a: where it was sure to 0.63, right in 1.00 (too few patients; 1 patient); where it was sure to 0.85, right "
        "in 0.70 (0.52 to 0.83; 30 patients). b: no rows."
    )


def test_a_band_of_chance_is_told_as_one() -> None:
    """The value may lie outside."""
    found = {("only", ALL, ALL): Estimate(9, 9, 0.3, 0.05, 0.2, "chance")}
    panel = Panel("Calibration error", found, (0, 0.4), Digits(), interval="by chance", band=True)
    (svg,) = forest_plot([panel], [(ALL, ALL)], ["only"], {(ALL, ALL): 9}, prefix="f", title="T")
    assert "Calibration error: 0.30 (by chance 0.05 to 0.20)" in svg
    assert math.isfinite(axis_ends(found.values())[1])
