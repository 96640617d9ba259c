"""The page in a browser, as its readers open it: from a disk, without a network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from pipeline.audit.report import write_report
from tests.audit.browser import Page, browser, find_chromium
from tests.audit.made import ACCURACY, HD95, VENDORS, made_audit

CHROMIUM = find_chromium()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Three models, six vendors, a share and a distance."""
    folder = tmp_path_factory.mktemp("report")
    write_report(made_audit({"vendor": VENDORS}, measures=(ACCURACY, HD95)), folder, note="Made by hand.")
    with browser(str(CHROMIUM), folder / "profile") as opened:
        opened.open(folder / "audit.html")
        yield opened


def test_nothing_is_requested_but_the_page(page: Page) -> None:
    """Only itself, from the disk."""
    assert [address.rsplit("/", 1)[-1] for address in page.requests()] == ["audit.html"]


def test_the_console_stays_empty(page: Page) -> None:
    """No error, no refused style or script, no exception."""
    assert page.complaints() == []


def test_every_figure_is_seen_and_has_its_text(page: Page) -> None:
    """By its title and description, which the browser reads aloud."""
    figures = page.value(
        "Array.from(document.querySelectorAll('figure svg'), s => [s.getBoundingClientRect().width, "
        "...(s.getAttribute('aria-labelledby') + ' ' + s.getAttribute('aria-describedby')).split(' ')"
        ".map(id => document.getElementById(id).textContent.length)])"
    )
    assert len(figures) == 5  # reliability, accuracy, HD95, sensitivity and specificity, calibration
    assert all(width > 300 and title > 10 and told > 100 for width, title, told in figures)


ROWS = (
    "Array.from(document.querySelector('#by-1').closest('section').querySelector('table').tBodies[{body}].rows, "
    "row => row.cells[{column}].innerText)"
)
HEADING = (
    "document.querySelector('#by-1').closest('section').querySelector('table').tHead.rows[0].cells[{column}]"
    ".querySelector('button').click()"
)


def test_a_table_sorts_up_and_down_and_its_total_stays(page: Page) -> None:
    """By patients, then by accuracy: what has no value comes last either way."""
    total = page.value(ROWS.format(body=1, column=0))
    page.value(HEADING.format(column=2))
    patients = [int(text) for text in page.value(ROWS.format(body=0, column=2))]
    assert patients == sorted(patients)
    assert patients[0] == 0
    for turn in (1, -1):
        page.value(HEADING.format(column=3))
        texts = [text.split()[0] for text in page.value(ROWS.format(body=0, column=3))]
        values = list(itertools.takewhile(lambda text: text != "–", texts))
        assert texts[len(values) :] == ["–"] * 3
        assert [float(v) for v in values] == sorted((float(v) for v in values), reverse=turn < 0)
    assert page.value(ROWS.format(body=1, column=0)) == total
    assert page.value("document.querySelectorAll('[aria-sort=descending]').length") == 1


def test_the_first_key_leads_past_the_contents(page: Page) -> None:
    """And headings of tables can be reached by keyboard."""
    page.value("document.activeElement.blur()")
    page.press("Tab")
    assert page.value("document.activeElement.className") == "skip"
    assert page.value("Array.from(document.querySelectorAll('thead button')).every(b => b.tabIndex === 0)")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_is_no_wider_than_its_window(page: Page, width: int) -> None:
    """What is wide scrolls in a frame of its own."""
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    assert page.value("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_follows_the_reader(page: Page, theme: str) -> None:
    """Dark on light or light on dark, figures as well."""
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    colours = page.value(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        ".map(c => c.match(/\\d+/g).map(Number).reduce((a, b) => a + b))"
    )
    assert (colours[0] > colours[1]) == (theme == "light")


def test_it_prints(page: Page) -> None:
    """To a file of some pages."""
    assert len(page.call("Page.printToPDF")["data"]) > 50_000
