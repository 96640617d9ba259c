"""The rules of a datalist, applied to its JSON: every broken rule names case, field, value and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from transforms.scanner import UNKNOWN, VENDORS, normalise_vendor

SECTIONS = ("training", "validation", "test")
GROUP_COLUMNS = ("vendor", "site", "scanner", "field_strength_t", "software", "label", "sex")

UNLABELLED_SECTIONS = ("test",)  # there a case may come without its label, to be read by a trained model
REQUIRED_TEXTS = ("case_id", "patient_id", "label", "site", "vendor", "scanner")
PATHS = ("image", "image_ed", "image_es", "mask", "mask_ed", "mask_es")
FRAMES = ("ed", "es")
LARGEST = {"field_strength_t": 20.0, "age": 130.0, "height_cm": 300.0, "weight_kg": 1000.0}
SEXES = ("M", "F", "O")
RECORD_KEYS = (*REQUIRED_TEXTS, "vendor_raw", "software", *PATHS, *FRAMES, *LARGEST, "sex", "simulated", "heart")

REQUIRED_HEADER = ("classes", "source", "group_by", "created_with")
HEADER_KEYS = (*REQUIRED_HEADER, "set_aside", "notes", "recipe", "recipe_digest")

SHOWN_PROBLEMS = 5

Record = Mapping[str, Any]


class DatalistError(ValueError):
    """A datalist breaks a rule of the contract."""


def check_datalist(raw: object, *, folder: Path | None = None) -> None:
    """Refuse a datalist that breaks a rule.

    Args:
        raw: the decoded JSON.
        folder: where the datalist stands; given, the files that it names must exist.

    Raises:
        DatalistError: with the first broken rules, one a line, and how many more there are.
    """
    problems = list(_datalist_problems(raw, folder))
    if problems:
        more = len(problems) - SHOWN_PROBLEMS
        tail = [f"and {more} more of the like"] if more > 0 else []
        raise DatalistError("\n".join([*problems[:SHOWN_PROBLEMS], *tail]))


def check_group_by(group_by: Iterable[str]) -> None:
    """Refuse columns by which cases cannot be grouped.

    Raises:
        ValueError: naming the column and the nearest known one.
    """
    for column in group_by:
        if column not in GROUP_COLUMNS:
            raise ValueError(f"cases cannot be grouped by {column!r}; {nearest(column, GROUP_COLUMNS)}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Remedy for a misspelt word: the nearest known one, or all of them.

    Example:
        >>> nearest("vender", ("vendor", "site")), nearest("x", ("vendor", "site"))
        ("did you mean 'vendor'?", "known: 'site', 'vendor'")
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(map(repr, known))}"


def _datalist_problems(raw: object, folder: Path | None) -> Iterator[str]:
    if not isinstance(raw, Mapping):
        yield f"a datalist must be a JSON object with the sections {SECTIONS}; got {type(raw).__name__}"
        return
    header = list(_header_problems(raw))
    yield from header
    if header:
        return
    for section, index, record in _records(raw):
        name = _name(record, f"number {index} of {section}")
        for problem in _record_problems(record, section, raw["classes"], folder):
            yield f"case {name!r} in {section}: {problem}"
    yield from _shared_problems(raw)


def _header_problems(raw: Record) -> Iterator[str]:
    for key in sorted(set(raw) - {*HEADER_KEYS, *SECTIONS}):
        yield f"datalist: key {key!r} is not known; {nearest(key, (*HEADER_KEYS, *SECTIONS))}"
    for key in REQUIRED_HEADER:
        if key not in raw:
            yield f"datalist: key {key!r} is missing; add it"
    if not any(section in raw for section in SECTIONS):
        yield f"datalist: no section; add at least one of {SECTIONS}"
    for key, rule, must in HEADER_RULES:
        if key in raw and not rule(raw[key]):
            yield f"datalist: {key!r} must be {must}; got {raw[key]!r}"
    for column in _texts_of(raw.get("group_by")):
        if column not in GROUP_COLUMNS:
            yield f"datalist: group_by names the column {column!r}; {nearest(column, GROUP_COLUMNS)}"


def _record_problems(record: object, section: str, classes: list[str], folder: Path | None) -> Iterator[str]:
    if not isinstance(record, Mapping):
        yield f"must be a JSON object; got {type(record).__name__}"
        return
    types = list(_type_problems(record, section))
    yield from types
    if types:
        return
    yield from _value_problems(record, classes)
    yield from _file_problems(record)
    if folder is not None:
        yield from _missing_files(record, folder)


def _type_problems(record: Record, section: str) -> Iterator[str]:
    for key in sorted(set(record) - set(RECORD_KEYS)):
        yield f"field {key!r} is not known; {nearest(key, RECORD_KEYS)}"
    for key in REQUIRED_TEXTS:
        optional = key == "label" and key not in record and section in UNLABELLED_SECTIONS
        if not optional and not _is_text(record.get(key)):
            got = "is missing" if key not in record else f"is {record[key]!r}"
            yield f"{key} {got}; it must be a text that is not empty ('unknown' if not known)"
    for key, rule, must in RECORD_RULES:
        if key in record and not rule(record[key]):
            yield f"{key} is {record[key]!r}; it must be {must}; correct it, or leave it out if it is not known"


def _value_problems(record: Record, classes: list[str]) -> Iterator[str]:
    if any(letter in record["case_id"] for letter in "/\\\0") or record["case_id"] in {".", ".."}:
        yield "case_id cannot be a file's name; use no '/' and no '\\'"
    if record.get("label", classes[0]) not in classes:
        yield f"label is {record['label']!r}, not one of the classes {list(classes)}; correct it or add the class"
    if record["vendor"] not in VENDORS:
        vendor = normalise_vendor(record["vendor"])
        yield (
            f"vendor is {record['vendor']!r}, not one of {VENDORS}; write {vendor!r}, "
            "and keep the raw text in vendor_raw"
        )
    simulated = record.get("simulated")
    if simulated is not None and simulated["vendor"] != record["vendor"]:
        yield (
            f"vendor is {record['vendor']!r} but the scanner to be simulated is {simulated['vendor']!r}; "
            "write the simulated one in both"
        )


def _file_problems(record: Record) -> Iterator[str]:
    cine, frames = "image" in record, [key for key in ("image_ed", "image_es") if key in record]
    if cine and frames:
        yield f"image and {frames[0]} are both given; keep image (a cine) or the pair image_ed and image_es"
    elif not cine and len(frames) != len(FRAMES):
        yield f"no complete image; got {frames or 'none'}; give image (a cine), or both image_ed and image_es"
    masks = [key for key in ("mask_ed", "mask_es") if key in record]
    if "mask" in record and masks:
        yield f"mask and {masks[0]} are both given; keep mask (a cine) or the pair mask_ed and mask_es"
    elif "mask" in record and not cine:
        yield "mask (a cine) is given without image (a cine); give mask_ed and mask_es"
    elif len(masks) == 1:
        yield f"only {masks[0]} is given; give both mask_ed and mask_es"
    if ("ed" in record) != ("es" in record):
        yield "only one of ed and es is given; give both or none"
    elif "ed" in record and record["ed"] == record["es"]:
        yield f"ed and es are both {record['ed']}; they must be two phases of the cine, counted from 0"


def _missing_files(record: Record, folder: Path) -> Iterator[str]:
    for key in PATHS:
        if key in record and not (folder / record[key]).is_file():
            path = folder / record[key]
            yield f"{key} does not exist: {path}; restore the file, or make the datalist anew"


def _shared_problems(raw: Record) -> Iterator[str]:
    """What no record shows alone: a case given twice, a patient on both sides of the split."""
    seen: dict[str, str] = {}
    patients: dict[str, tuple[str, str]] = {}
    for section, _, record in _records(raw):
        if not isinstance(record, Mapping) or not _is_text(record.get("case_id")):
            continue
        case, patient = record["case_id"], record.get("patient_id")
        if case in seen:
            yield f"case {case!r} in {section}: case_id stands in {seen[case]} already; give each study its own"
        seen[case] = section
        if not _is_text(patient):
            continue
        other, at = patients.setdefault(patient, (case, section))
        if at != section:
            yield (
                f"case {case!r} in {section}: patient_id is that of case {other!r} in {at}; "
                "the split must be at patient level: move one of them"
            )


def _records(raw: Record) -> Iterator[tuple[str, int, Any]]:
    for section in SECTIONS:
        for index, record in enumerate(raw.get(section, ())):
            yield section, index, record


def _name(record: object, fallback: str) -> str:
    case = record.get("case_id") if isinstance(record, Mapping) else None
    return case if _is_text(case) else fallback


def _texts_of(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list | tuple) else []


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())


def _is_texts(value: object) -> bool:
    """Texts that are not empty, at least one, none twice."""
    return (
        isinstance(value, list | tuple) and bool(value) and all(map(_is_text, value)) and len(set(value)) == len(value)
    )


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _is_frame(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_set_aside(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(item, Mapping) and set(item) == {"case_id", "reason"} and all(map(_is_text, item.values()))
        for item in value
    )


def _is_simulated(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and set(value) == {"vendor", "seed"}
        and value["vendor"] in VENDORS
        and value["vendor"] != UNKNOWN
        and _is_frame(value["seed"])
    )


def _up_to(largest: float) -> Callable[[object], bool]:
    def rule(value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= largest

    return rule


Rule = tuple[str, Callable[[object], bool], str]

HEADER_RULES: tuple[Rule, ...] = (
    ("classes", _is_texts, "a list of class names, none twice"),
    ("group_by", _is_texts, "a list of columns, none twice"),
    ("source", _is_text, "a text"),
    ("created_with", _is_text, "a text"),
    ("set_aside", _is_set_aside, "a list of objects with case_id and reason"),
    ("notes", lambda value: isinstance(value, list) and all(map(_is_text, value)), "a list of texts"),
    ("recipe", lambda value: isinstance(value, Mapping), "an object"),
    ("recipe_digest", _is_digest, "64 hexadecimal digits"),
    *((section, lambda value: isinstance(value, list), "a list of cases") for section in SECTIONS),
)
RECORD_RULES: tuple[Rule, ...] = (
    *((key, lambda value: isinstance(value, str), "a text") for key in ("vendor_raw", "software")),
    *((key, _is_text, "a path, relative to the datalist") for key in PATHS),
    *((key, _is_frame, "a whole number from 0 (phases count from 0)") for key in FRAMES),
    *((key, _up_to(largest), f"a number above 0 and at most {largest:g}") for key, largest in LARGEST.items()),
    ("sex", lambda value: value in SEXES, f"one of {SEXES}"),
    ("simulated", _is_simulated, 'as {"vendor": "GE", "seed": 123}'),
    ("heart", lambda value: isinstance(value, Mapping), "an object"),
)
