"""An acceptance as one offline page and one file of numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from pipeline.audit.acceptance import Acceptance
from pipeline.audit.acceptance_rule import FAIL, PASS, TOO_FEW, Check
from pipeline.audit.findings import ALL
from pipeline.audit.statistics import Estimate
from pipeline.audit.words import MINUS, Digits, digits_of, in_words, sentence, several
from pipeline.files import atomic_path

FORMAT_VERSION = 1
PAGE, NUMBERS = "acceptance.html", "acceptance.json"
SHARE_DIGITS = Digits(3)  # two would print an interval's end and the bound that it passes as the same
LEFT, RIGHT, ROW, TOP = 190, 700, 56, 14  # of the figure [px]
Position = Callable[[float], float]  # value -> x [px]
VERDICT_WORDS = {PASS: "Pass", FAIL: "Fail", TOO_FEW: "Too few studies to tell"}


def write_acceptance(found: Acceptance, folder: str | Path, *, title: str | None = None) -> None:
    """Write ``acceptance.json`` and ``acceptance.html``; each is complete or absent, neither names a patient.

    Args:
        found: what was compared.
        folder: made if absent.
        title: headline of the page.
    """
    text = json.dumps(as_json(found), indent=1, allow_nan=False, ensure_ascii=False)
    _write(Path(folder) / NUMBERS, text + "\n")
    _write(Path(folder) / PAGE, render(found, title=title))


def as_json(found: Acceptance) -> dict[str, Any]:
    """Numbers and provenance as plain lists and dictionaries; NaN becomes None."""
    audited = found.audited
    return {
        "version": FORMAT_VERSION,
        "created_with": _created_with(),
        "verdict": found.verdict,
        "missing": found.missing,
        "model": audited.model,
        "measure": found.measure.name,
        "better": found.measure.better,
        "unit": found.measure.unit,
        "margin": found.margin,
        "column": found.column,
        "n_patients": found.n_patients,
        "n_cases": found.n_cases,
        "labels": found.labels,
        "audit": {"sha256": audited.digest, "plan": audited.fingerprint},
        "groups": [_record(check) for check in found.checks],
        "notes": list(found.notes),
    }


def _record(check: Check) -> dict[str, Any]:
    record = asdict(check) | asdict(check.bounds)
    del record["bounds"]
    for side in ("local", "audited"):
        record[side] = record[side] | {"estimable": getattr(check, side).estimable}
    return {key: _without_nan(value) for key, value in record.items()}


def _without_nan(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def headline(found: Acceptance) -> str:
    """The verdict in a few words.

    ``Pass``, ``Fail``, or ``Too few studies to tell: 42 more patients needed``.
    """
    words = VERDICT_WORDS[found.verdict]
    if found.verdict != TOO_FEW or found.missing is None:
        return words
    return f"{words}: {found.missing} more {'patient' if found.missing == 1 else 'patients'} needed"


def console_lines(found: Acceptance) -> Iterator[str]:
    """What the command prints: one line per group, notes, the verdict."""
    digits = _digits(found)
    for check in found.checks:
        yield (
            f"{_name(check.group)}: {several(check.local.n_patients, 'patient')}, "
            f"{found.measure.words} {_with_interval(check.local, digits)}; audited ({_name(check.standard)}) "
            f"{_with_interval(check.audited, digits)}: {verdict_line(check)}"
        )
    yield from (f"note: {note}" for note in found.notes)
    yield headline(found)


def verdict_line(check: Check) -> str:
    """Verdict of one group, with what is missing or why nothing would help."""
    if check.missing is not None:
        return f"{check.verdict}, {check.missing} more needed"
    return f"{check.verdict}: {check.reason}" if check.reason else check.verdict


def _with_interval(found: Estimate, digits: Digits) -> str:
    return f"{digits.value(found.value)} ({digits.interval(found)})"


def _name(group: str) -> str:
    return "all patients" if group == ALL else group


def _digits(found: Acceptance) -> Digits:
    if found.measure.scale == "share":
        return SHARE_DIGITS
    return digits_of(found.measure, [check.local for check in found.checks])


def render(found: Acceptance, *, title: str | None = None) -> str:
    """The page: nothing in it is fetched, names are escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    digits = _digits(found)
    environment.filters |= {"value": digits.value, "interval": digits.interval, "name": _name, "sentence": sentence}
    source = resources.files("pipeline.audit").joinpath("templates/acceptance.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        found=found,
        audited=found.audited,
        title=title or "Acceptance of a model on local studies",
        headline=headline(found),
        tone={PASS: "good", FAIL: "bad", TOO_FEW: "open"}[found.verdict],
        figure=figure(found),
        column=in_words(found.column),
        margin=f"{found.margin:g} {found.measure.unit}".rstrip(),
        higher=found.measure.better == "higher",
        verdict_line=verdict_line,
        created_with=_created_with(),
    )
    return str(page)


def _created_with() -> str:
    return f"evenbeat {metadata.version('evenbeat')}"


def figure(found: Acceptance) -> Markup:
    """Local value and interval of each group over the audited one, with both bounds, as SVG with a text alternative."""
    numbers = [n for check in found.checks for n in _positions(check) if math.isfinite(n)]
    if not numbers:
        return Markup()
    digits, low, high = _digits(found), min(numbers), max(numbers)
    pad = 0.06 * (high - low) or abs(high) or 1.0
    low, high = low - pad, high + pad
    if found.measure.scale == "share":
        low, high = max(low, 0.0), min(high, 1.0)

    def at(value: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * (value - low) / (high - low), 1)

    height = TOP + ROW * len(found.checks) + 34
    text = "; ".join(
        f"{_name(check.group)}: local {_with_interval(check.local, digits)}, audited "
        f"{_with_interval(check.audited, digits)}, {check.verdict}"
        for check in found.checks
    )
    parts = [f'<svg viewBox="0 0 {RIGHT + 20} {height}" role="img" aria-labelledby="fig-title fig-text">']
    parts.append(f'<title id="fig-title">{escape(found.measure.words)} here and as audited</title>')
    parts.append(f'<desc id="fig-text">{escape(text)}</desc>')
    for position, check in enumerate(found.checks):
        parts += _row(check, TOP + ROW * position + ROW / 2, at)
    parts += _axis(_ticks(low, high), height - 26, at)
    return Markup("\n".join([*parts, "</svg>"]))  # noqa: S704


def _positions(check: Check) -> Sequence[float]:
    ends = [(found.value, found.low, found.high) for found in (check.local, check.audited)]
    return [*ends[0], *ends[1], check.bounds.goal, check.bounds.floor]


def _row(check: Check, middle: float, at: Position) -> Iterator[str]:
    yield f'<text class="name" x="0" y="{middle + 4}">{escape(_shortened(_name(check.group)))}</text>'
    if check.audited.estimable:
        left, right = at(check.audited.low), at(check.audited.high)
        yield f'<rect class="audited" x="{left}" y="{middle - 13}" width="{max(right - left, 1):.1f}" height="26"/>'
        yield _line("audited-value", at(check.audited.value), middle - 13, middle + 13)
        yield _line("goal", at(check.bounds.goal), middle - 20, middle + 20)
        yield _line("floor", at(check.bounds.floor), middle - 20, middle + 20)
    if check.local.estimable:
        left, right = at(check.local.low), at(check.local.high)
        yield f'<line class="local" x1="{left}" y1="{middle}" x2="{right}" y2="{middle}"/>'
    if math.isfinite(check.local.value):
        hollow = "" if check.local.estimable else " hollow"
        yield f'<circle class="point{hollow}" cx="{at(check.local.value)}" cy="{middle}" r="5"/>'


def _line(kind: str, x: float, top: float, bottom: float) -> str:
    return f'<line class="{kind}" x1="{x}" y1="{top}" x2="{x}" y2="{bottom}"/>'


def _axis(ticks: Sequence[float], y: float, at: Position) -> Iterator[str]:
    yield f'<line class="axis" x1="{LEFT}" y1="{y}" x2="{RIGHT}" y2="{y}"/>'
    for tick in ticks:
        yield f'<text class="tick" x="{at(tick)}" y="{y + 18}">{MINUS if tick < 0 else ""}{abs(tick):g}</text>'


def _ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers between two ends: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * k for k in (1, 2, 5, 10, 20) if (high - low) / (power * k) <= most)
    return [round(step * k, 10) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _shortened(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
