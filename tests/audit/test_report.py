"""What is written of an audit, as it lies on disk."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest

from pipeline.audit.assessment import assess
from pipeline.audit.findings import ALL, Audit
from pipeline.audit.plan import Endpoint, Plan, Threshold
from pipeline.audit.reading import read_table
from pipeline.audit.records import as_json, fields, records, schema
from pipeline.audit.report import TABLES, write_report
from tests.audit.made import ACCURACY, AUC, DICE, HD95, VENDORS, made_audit

FILES = sorted(["audit.html", "audit.json", "model_card.md", *TABLES])


@pytest.fixture(scope="module")
def audit() -> Audit:
    """Three models, six vendors (one without a patient), two sexes, a share and a distance."""
    return made_audit(measures=(ACCURACY, HD95))


@pytest.fixture(scope="module")
def folder(audit: Audit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its report."""
    written = tmp_path_factory.mktemp("report")
    write_report(audit, written)
    return written


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
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every element of one kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(audit: Audit, folder: Path, **words: str) -> str:
    """The page of an audit."""
    write_report(audit, folder, **words)
    return (folder / "audit.html").read_text(encoding="utf-8")


def words_of(text: str) -> str:
    """What a page says, spaces as one."""
    return " ".join(" ".join(Page(text).words).split())


def test_all_files_are_written_and_nothing_else(folder: Path) -> None:
    """No leftover of an unfinished one."""
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_the_numbers_on_disk_follow_the_schema_and_are_those_of_the_findings(audit: Audit, folder: Path) -> None:
    """A number that cannot be had is null, never NaN."""
    text = (folder / "audit.json").read_text(encoding="utf-8")
    content = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(dict(schema()))
    jsonschema.validate(content, dict(schema()))
    assert content == as_json(audit)
    assert "NaN" not in text
    assert len(content["groups"]) == len(audit.rows)
    for record, row in zip(content["groups"], audit.rows, strict=True):
        assert (record["estimable"], record["n_patients"]) == (row.estimate.estimable, row.estimate.n_patients)
        assert record["low"] == (row.estimate.low if row.estimate.estimable else None)
        assert (record["reason"] is None) == record["estimable"]
    (hitachi,) = [
        r for r in content["groups"] if (r["model"], r["group"], r["measure"]) == ("teacher", "Hitachi", "accuracy")
    ]
    assert (hitachi["n_patients"], hitachi["value"], hitachi["reason"]) == (0, None, "no patients")


def _said(value: float) -> float | None:
    return None if math.isnan(value) else value


def test_each_number_on_disk_stands_under_its_own_name(audit: Audit) -> None:
    content = as_json(audit)
    for record, row in zip(content["contrasts"], audit.contrasts, strict=True):
        contrast = row.contrast
        assert (record["p"], record["p_holm"], record["p_bh"]) == (
            _said(contrast.p), _said(contrast.p_holm), _said(contrast.p_bh)
        )  # fmt: skip
        if row.needed is not None:
            assert (record["patients_needed"], record["patients_missing"]) == (row.needed.needed, row.needed.missing)
    for record, row in zip(content["worst"], audit.worst, strict=True):
        assert (record["fresh_picked"], record["fresh_value"]) == (_said(row.fresh.picked), _said(row.fresh.fresh))
    for record, row in zip(content["calibration"], audit.calibration, strict=True):
        for name in ("slope", "intercept"):
            found = getattr(row, name)
            assert record[f"{name}_value"] == (None if found is None or math.isnan(found.value) else found.value)


@pytest.mark.parametrize("measures", [(ACCURACY, AUC), (DICE,)])
def test_a_schema_of_one_model_or_without_classes_holds_as_well(measures: Any) -> None:
    """Empty lists are lists."""
    content = as_json(made_audit({"vendor": {"GE": 3, "UIH": 0}}, models=("ours",), measures=measures))
    jsonschema.validate(json.loads(json.dumps(content, allow_nan=False)), dict(schema()))
    assert content["differences"] == []
    assert content["classes"] == ([] if measures == (DICE,) else ["NOR", "HCM", "DCM"])


def test_every_record_has_the_fields_of_the_schema_in_their_order(audit: Audit) -> None:
    """So that the tables have the headings that the schema explains."""
    found = records(audit)
    assert set(found) == set(TABLES.values())
    for kind, rows in found.items():
        assert rows, kind
        assert all(list(row) == fields(kind) for row in rows), kind


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_say_what_the_numbers_say(folder: Path, name: str) -> None:
    """Same rows, full precision, an empty cell for null."""
    content = json.loads((folder / "audit.json").read_text(encoding="utf-8"))[TABLES[name]]
    rows = list(csv.DictReader(io.StringIO((folder / name).read_text(encoding="utf-8"))))
    assert len(rows) == len(content)
    for row, record in zip(rows, content, strict=True):
        for key, value in record.items():
            shown = "; ".join(value) if isinstance(value, list) else "" if value is None else str(value)
            assert row[key] == shown


def test_a_table_without_rows_still_has_its_headings(tmp_path: Path) -> None:
    """A spreadsheet that reads it next year finds its columns."""
    write_report(made_audit({"vendor": {"GE": 20}}, models=("ours",), measures=(DICE,)), tmp_path)
    text = (tmp_path / "differences.csv").read_text(encoding="utf-8")
    assert text == ",".join(fields("differences")) + "\n"


def test_the_same_findings_give_the_same_files(audit: Audit, folder: Path, tmp_path: Path) -> None:
    """Byte for byte."""
    write_report(audit, tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_report_that_fails_leaves_nothing(audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is made before the first file is written."""
    monkeypatch.setattr("pipeline.audit.report.render", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(audit, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_the_page_loads_nothing(folder: Path) -> None:
    """One script, which the policy knows by its hash; no link out, no source, no address but the formats' names."""
    text = (folder / "audit.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not [tag for tag, _ in page.elements if tag in {"link", "img", "iframe", "object", "image", "form"}]
    assert not [a for _, a in page.elements if "src" in a or any(name.startswith("on") for name in a)]
    assert len(page.all("script")) == 1
    assert set(re.findall(r"https?://[^\s\"<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"@import|url\((?!#)", text)
    policy = str(next(a["content"] for a in page.all("meta") if a.get("http-equiv")))
    assert re.fullmatch(
        r"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-[\w+/]{43}='; base-uri 'none'; "
        r"form-action 'none'",
        policy,
    )


def test_the_page_can_be_read_aloud_and_walked_by_keyboard(folder: Path) -> None:
    """Captions, scopes, unique ids, labels that exist, headings without a gap, scrollable parts in the tab order."""
    page = Page((folder / "audit.html").read_text(encoding="utf-8"))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("table")) == len(page.all("caption")) > 10
    assert all(cell.get("scope") in {"col", "row"} for cell in page.all("th"))
    ids = [str(a["id"]) for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    named = [
        name
        for _, a in page.elements
        for key in ("aria-labelledby", "aria-describedby")
        for name in (a.get(key) or "").split()
    ]
    assert named
    assert set(named) <= set(ids)
    inside = [str(a["href"])[1:] for a in page.all("a") if str(a.get("href")).startswith("#")]
    assert inside
    assert set(inside) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(a.get("tabindex") == "0" for _, a in page.elements if a.get("class") == "scroll")


def test_both_themes_and_print_have_their_colours(folder: Path) -> None:
    """Every colour that is used is given in each."""
    text = (folder / "audit.html").read_text(encoding="utf-8")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
    for name in set(re.findall(r"var\((--[a-z0-9-]+)", text)):
        assert len(re.findall(rf"{name}: ", style)) == 3, name


HOSTILE = "<img src=x onerror=alert(1)>\"'&{{ 7*7 }}</title><script>"


@pytest.mark.parametrize("place", ["group", "model", "column"])
def test_a_hostile_name_stays_text(tmp_path: Path, place: str) -> None:
    """A name comes from a file, and so may be anything."""
    group, model, column = (HOSTILE if place == name else name for name in ("group", "model", "column"))
    audit = made_audit({column: {group: 20, "other": 30}}, models=("teacher", model), measures=(ACCURACY,))
    text = page_of(audit, tmp_path, title=HOSTILE, note=HOSTILE)
    page = Page(text)
    assert not page.all("img")
    assert len(page.all("script")) == 1
    assert html.unescape(text).count(HOSTILE) > 5
    card = (tmp_path / "model_card.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<", card)


@pytest.mark.parametrize(
    "name", ["# big", "- item", "1. first", "a|b", "[x](javascript:alert)", "**bold**", "two\nlines"]
)
def test_the_model_card_shows_any_name_as_it_is(tmp_path: Path, name: str) -> None:
    """No heading, list, cell or link of its own."""
    audit = made_audit({"vendor": {name: 20, "other": 30}}, models=("teacher", name), measures=(ACCURACY,))
    write_report(audit, tmp_path)
    lines = (tmp_path / "model_card.md").read_text(encoding="utf-8").splitlines()
    shown = re.escape(" ".join(name.split()))
    rows = [line for line in lines if re.search(r"\d+ \(|\(\w+ patients\)|\d\.\d\d", line) and line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert not [line for line in lines if re.match(rf"#+ {shown}$|- {shown}$", line) and re.search(r"[#*\[|]", name)]
    headings = [line for line in lines if re.match(r"#+ ", line)]
    assert len(headings) == 11


def test_names_of_groups_and_reasons_are_all_on_the_page(audit: Audit, folder: Path) -> None:
    """Every value with its interval, and the reasons where there is none."""
    words = words_of((folder / "audit.html").read_text(encoding="utf-8"))
    for row in audit.rows:
        found = row.estimate
        if row.place.column == ALL or row.measure != "accuracy":
            continue
        assert row.place.group in words
        assert (f"{found.low:.2f} to {found.high:.2f}" if found.estimable else str(found.reason)) in words


def test_the_summary_says_what_is_known_and_what_is_not(folder: Path) -> None:
    """Effect, worst group, verdicts, groups without an interval."""
    words = words_of((folder / "audit.html").read_text(encoding="utf-8"))
    for said in (
        "Any effect of vendor?",
        "Whichever is truly the worst, its value lies in",
        "is the worst in 60 % of draws: another could well be",
        "Against teacher, by vendor Accuracy (margin 0.05):",
        "No interval for Hitachi (no patients) and UIH (too few patients: 4).",
        "would probably have gone unseen.",
        "The other models are compared with this one.",
    ):
        assert said in words.replace("\u00a0", " "), said


def test_the_wording_assesses_and_promises_nothing(folder: Path) -> None:
    """Research use is said; no verdict that numbers like these cannot carry."""
    for name in ("audit.html", "model_card.md"):
        text = (folder / name).read_text(encoding="utf-8")
        words = (words_of(text) if name == "audit.html" else text).lower()
        assert "not a medical device" in words
        assert not re.search(r"\b(unbiased|fair|fairness|solved|debiased)\b", words)


def test_the_plan_and_its_fingerprint_stand_in_every_form(audit: Audit, folder: Path) -> None:
    """Sixteen digits, the same everywhere."""
    shown = audit.plan.fingerprint[:16]
    for name in ("audit.html", "audit.json", "model_card.md"):
        assert shown in (folder / name).read_text(encoding="utf-8")
    assert "group_by:" in words_of((folder / "audit.html").read_text(encoding="utf-8"))


def test_a_picture_of_a_badly_read_case_is_linked(audit: Audit, folder: Path) -> None:
    """By a relative path, which can start nothing."""
    page = Page((folder / "audit.html").read_text(encoding="utf-8"))
    links = {str(a["href"]) for a in page.all("a") if not str(a["href"]).startswith("#")}
    assert links == {"../pictures/case%201.png"}
    case = replace(audit.worst_cases[0], picture="javascript:alert(1)")
    text = page_of(replace(audit, worst_cases=[case]), folder.parent / "odd")
    assert "javascript%3Aalert%281%29" in text
    assert 'href="javascript:' not in text


@pytest.mark.parametrize(
    ("groups", "models", "measures"),
    [
        ({"vendor": {f"scanner {i}": 8 + i for i in range(12)}}, [f"model {i}" for i in range(7)], (ACCURACY,)),
        ({"vendor": {"GE": 3, "Canon": 2, "Hitachi": 0}}, ["ours"], (ACCURACY, AUC)),
        ({"sex": {"F": 30, "M": 44}}, ["ours"], (DICE, HD95)),
        ({"vendor": VENDORS, "vendor x sex": {"GE, F": 20, "GE, M": 22}}, ["teacher", "student"], (AUC,)),
        ({"vendor": {"GE": 0}}, ["ours"], (DICE,)),
    ],
    ids=["many groups and models", "nothing estimable", "endpoints only", "crossed columns", "nobody at all"],
)
def test_the_page_holds(tmp_path: Path, groups: Any, models: Any, measures: Any) -> None:
    """Well-formed, with the sections that there is something for, and no trace of what is missing."""
    text = page_of(made_audit(groups, models=models, measures=measures), tmp_path)
    words = words_of(text)
    assert not re.search(r"\b(nan|None|inf)\b", words)
    assert ("Operating point" in words) == (measures[0].name in {"accuracy", "auc"})
    assert ("Against teacher" in words) == ("teacher" in models)
    assert len(Page(text).all("h2")) == 6 + len(groups) + ("Failure analysis" in words)


def test_decimals_suit_the_measure(folder: Path) -> None:
    """Millimetres with one or two, shares with two; a real minus."""
    words = words_of((folder / "audit.html").read_text(encoding="utf-8"))
    assert "HD95 [mm]" in words
    assert re.search(r"−\d\.\d\d to \+?\d", words)
    assert math.isfinite(float(re.findall(r"HD95 (\d+\.\d+) mm", words.replace("\u00a0", " "))[0]))


PLANTED = "Mustermann, Erika"


@pytest.mark.parametrize("endpoint", [False, True], ids=["classification", "with an endpoint"])
def test_a_name_that_was_not_asked_for_is_in_no_file(frame: pd.DataFrame, tmp_path: Path, endpoint: bool) -> None:
    """From anybody's table to all that is written: neither a planted name nor a patient_id, nor where files lie."""
    table = tmp_path / "table.csv"
    filled = frame.assign(patient_name=PLANTED, dice=0.9 + frame["prob_NOR"] / 20, vendor=frame["vendor"])
    filled.drop(columns="case_id").to_csv(table, index=False)
    plan = Plan(
        group_by=("vendor",),
        endpoints={"dice": Endpoint("higher")} if endpoint else {},
        threshold=Threshold("value", 0.4),
        positive="DCM",
        reference_model="teacher",
        replicates=100,
    )
    audit = assess(read_table(table, plan.layout()), plan, {"vendor": ["Hitachi"]})
    write_report(audit, tmp_path / "report")
    jsonschema.validate(json.loads((tmp_path / "report" / "audit.json").read_text("utf-8")), dict(schema()))
    for name in FILES:
        text = html.unescape((tmp_path / "report" / name).read_text(encoding="utf-8"))
        assert "Mustermann" not in text
        assert "Erika" not in text
        assert not re.search(r"patient-\d", text), name
        assert str(tmp_path) not in text
    assert audit.worst_cases


@pytest.mark.parametrize("name", ["templates/audit.html.j2", "templates/sort.js", "schemas/audit.schema.json"])
def test_what_the_report_is_made_of_is_found_inside_the_package(name: str) -> None:
    """So that it travels in the wheel."""
    assert resources.files("pipeline.audit").joinpath(name).is_file()
