"""The page and the file of numbers, as they lie on disk."""

from __future__ import annotations

import html
import itertools
import json
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.audit.report import as_json, write_report
from pipeline.tracking.predictions import PredictionsError


def report(frame: pd.DataFrame, folder: Path, **settings: Any) -> dict[str, Any]:
    """Write a quick report."""
    return as_json(write_report(frame, folder, replicates=200, **settings))


class Page(HTMLParser):
    """Counts elements and keeps attributes and text of a page; refuses tags that do not close."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every element of one kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_numbers_on_disk_are_those_returned(frame: pd.DataFrame, tmp_path: Path) -> None:
    """With the agreed keys, and None where there is no number."""
    content = report(frame, tmp_path, known_groups={"vendor": ["Hitachi"]})
    text = (tmp_path / "audit.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert "NaN" not in text
    wanted = {
        "model",
        "column",
        "group",
        "metric",
        "n_patients",
        "n_rows",
        "value",
        "low",
        "high",
        "interval",
        "estimable",
    }
    assert all(wanted <= set(row) for row in content["groups"])
    (hitachi,) = [
        r for r in content["groups"] if (r["model"], r["group"], r["metric"]) == ("teacher", "Hitachi", "auc")
    ]
    assert (hitachi["n_patients"], hitachi["value"], hitachi["estimable"]) == (0, None, False)
    assert content["settings"]["seed"] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.html", "audit.json"]


def test_the_same_seed_and_table_give_the_same_files(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Byte for byte, in whatever order the rows come."""
    report(frame, tmp_path / "a")
    report(frame.sample(frac=1, random_state=1), tmp_path / "b")
    for name in ("audit.json", "audit.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_page_loads_nothing(frame: pd.DataFrame, tmp_path: Path) -> None:
    """A hospital's viewer has no network: no script, no link, no source, no address but the formats' names."""
    report(frame, tmp_path)
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not [tag for tag, _ in page.elements if tag in {"script", "link", "img", "iframe", "object", "image"}]
    assert not [a for _, a in page.elements if "src" in a or "onload" in a]
    assert set(re.findall(r"https?://[^\s\"<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in text


def test_the_page_can_be_read_aloud_and_walked_by_keyboard(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Captions, scopes, unique ids, labels that exist, headings without a gap, scrollable parts in the tab order."""
    report(frame, tmp_path, group_by=("vendor", "field_strength_t"))
    page = Page((tmp_path / "audit.html").read_text(encoding="utf-8"))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("table")) == len(page.all("caption")) == 4
    assert all(cell.get("scope") in {"col", "row", "rowgroup"} for cell in page.all("th"))
    ids = [str(a["id"]) for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    named = [name for _, a in page.elements for name in (a.get("aria-labelledby") or "").split()]
    assert named
    assert set(named) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(a.get("tabindex") == "0" for _, a in page.elements if a.get("class") == "scroll")


def test_both_themes_and_print_have_their_colours(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Every colour that is used is given in each."""
    report(frame, tmp_path)
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
    for name in set(re.findall(r"var\((--[a-z0-9-]+)", text)):
        assert len(re.findall(rf"{name}: ", style)) == 3, name


HOSTILE = "<img src=x onerror=alert(1)>\"'&{{ 7*7 }}</title><script>"


@pytest.mark.parametrize("column", ["vendor", "model"])
def test_a_hostile_name_stays_text(frame: pd.DataFrame, tmp_path: Path, column: str) -> None:
    """A group or model name comes from a file, and so may be anything."""
    value = {"vendor": "GE", "model": "student-kd"}[column]
    report(frame.assign(**{column: frame[column].replace(value, HOSTILE)}), tmp_path, title=HOSTILE, note=HOSTILE)
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.all("img")
    assert not page.all("script")
    assert html.unescape(text).count(HOSTILE) > 5


def test_no_patient_and_no_place_of_a_file_is_in_the_report(frame: pd.DataFrame, tmp_path: Path) -> None:
    """It will be passed on."""
    report(frame, tmp_path)
    for name in ("audit.json", "audit.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert not re.search(r"patient-\d|Siemens-\d|GE-\d", text)
        assert str(tmp_path) not in text


def test_every_number_of_the_tables_is_on_the_page(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Two decimals of every value that the file of numbers has, and the reasons where there is none."""
    content = report(frame, tmp_path, known_groups={"vendor": ["Hitachi"]})
    words = " ".join(Page((tmp_path / "audit.html").read_text(encoding="utf-8")).words)
    for row in content["groups"]:
        if row["estimable"]:
            assert f"{row['value']:.2f}" in words
            assert f"{row['low']:.2f} to {row['high']:.2f}" in words
        else:
            assert row["reason"] in words
    for row in content["differences"]:
        assert row["reference"] == "teacher"
    assert "Not compared, for want of patients: Hitachi, UIH." in words


def test_the_wording_assesses_and_promises_nothing(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Research use is said; no verdict that numbers like these cannot carry."""
    report(frame, tmp_path)
    words = " ".join(Page((tmp_path / "audit.html").read_text(encoding="utf-8")).words).lower()
    assert "not a medical device" in words
    assert not re.search(r"\b(unbiased|fair|fairness|solved|debiased)\b", words)


def test_a_single_model_of_somebody_elses_is_enough(frame: pd.DataFrame, tmp_path: Path) -> None:
    """One model, two classes, no teacher: no differences, and the positive class is named."""
    theirs = frame[frame["model"] == "student-kd"].assign(
        model="ours-v2",
        prob_HCM=lambda t: t["prob_HCM"] + t["prob_DCM"],
        label=lambda t: t["label"].replace("DCM", "HCM"),
    )
    content = report(theirs.drop(columns="prob_DCM"), tmp_path)
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert content["differences"] == []
    assert "on the same studies" not in text
    assert "a study with HCM scores higher" in text


def test_a_refused_table_leaves_no_half_report(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Neither file is written."""
    with pytest.raises(PredictionsError, match="'prob_NOR'"):
        report(frame.assign(prob_NOR=2.0), tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_the_template_is_found_inside_the_package() -> None:
    """So that it travels in the wheel."""
    assert resources.files("pipeline.audit").joinpath("templates/audit.html.j2").is_file()
