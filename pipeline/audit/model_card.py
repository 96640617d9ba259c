"""A model card in Markdown: what was assessed, on whom, what was found in each group, and what remains unknown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pipeline.audit.comparison import NOT_ESTIMABLE
from pipeline.audit.findings import ALL, Audit, Measure
from pipeline.audit.plan import SHOWN_DIGITS
from pipeline.audit.records import versions
from pipeline.audit.report_tables import of_measure
from pipeline.audit.statistics import Estimate
from pipeline.audit.summary import Point, all_digits, names_of, positive_class, summaries, unknown
from pipeline.audit.words import Digits, in_words, listed

SPECIAL = re.compile(r"([\\`*_\[\]<>#+|~&!]|^-|(?<=^\d)[.)])")


def model_card(audit: Audit, *, title: str | None = None, note: str | None = None) -> str:
    """Write the card from the findings alone.

    Args:
        audit: the findings.
        title: headline; None for a plain one.
        note: a sentence or two about the data.

    Returns:
        Markdown; names from the table are escaped.
    """
    parts = [f"# {plain(title or f'Model card: {listed(list(audit.models))}')}", *([plain(note)] if note else [])]
    parts += ["## Intended use", INTENDED]
    parts += ["## Model", *_models(audit)]
    parts += ["## Data", *_data(audit)]
    parts += ["## Performance", *_performance(audit)]
    parts += ["## Robustness and precision of estimates", *_robustness(audit)]
    parts += ["## Limitations", *_limits(audit)]
    parts += ["## How it was made", *_made(audit)]
    return "\n\n".join(parts) + "\n"


INTENDED = (
    "Research into how well a model does on each group of scanners and patients. Not a medical device: not for "
    "diagnosis, not for triage, not for any decision about a patient."
)


def plain(text: str) -> str:
    r"""A text that Markdown shows as it is, on one line.

    Example:
        >>> print(plain("a|b <c> _d_"))
        a\|b \<c\> \_d\_
    """
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _bullets(points: Sequence[Point]) -> str:
    return "\n".join(
        f"- **{plain(point.lead)}{'' if point.lead.endswith('?') else ':'}** {plain(' '.join(point.answers))}"
        for point in points
    )


def _models(audit: Audit) -> Iterator[str]:
    yield "\n".join(f"- {plain(model)}" for model in audit.models)
    if audit.plan.reference_model:
        yield f"The others are compared with {plain(audit.plan.reference_model)}."
    if audit.classes:
        named = positive_class(audit)
        positive = f"; {plain(named)} is the positive one" if named else ""
        yield f"The classes are {plain(listed(audit.classes))}{positive}."


def _data(audit: Audit) -> Iterator[str]:
    columns = listed([in_words(column) for column in audit.columns])
    yield (
        f"{audit.n_patients} patients with {audit.n_cases} cases, split “{plain(audit.plan.split)}”, grouped by "
        f"{plain(columns)}."
    )
    if audit.notes:
        yield "\n".join(f"- {plain(sentence)}" for sentence in audit.notes)


def _performance(audit: Audit) -> Iterator[str]:
    digits = all_digits(audit)
    for column in audit.columns:
        yield f"### By {plain(in_words(column))}"
        yield f"Values with 95 % intervals; none below {audit.plan.min_patients} patients."
        yield _table(audit, column, digits)


def _table(audit: Audit, column: str, digits: dict[str, Digits]) -> str:
    headings = ["Group", "Model", "Patients", *(of_measure(m.words, digits[m.name]) for m in audit.measures)]
    lines = [headings, ["---", "---", "---:", *("---" for _ in audit.measures)]]
    for part, group in audit.bands(column):
        for model in audit.models:
            found = [audit.find(model, part, group, m.name) for m in audit.measures]
            patients = str(max(e.n_patients for e in found))
            cells = [_estimate(m, e, digits) for m, e in zip(audit.measures, found, strict=True)]
            lines.append([plain(names_of(part, group)), plain(model), patients, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _estimate(measure: Measure, found: Estimate, digits: dict[str, Digits]) -> str:
    shown = digits[measure.name]
    return f"{shown.value(found.value)} ({plain(shown.interval(found))})"


def _robustness(audit: Audit) -> Iterator[str]:
    for found in summaries(audit):
        yield f"### {plain(found.model)}"
        yield _bullets(found.points)
    worst = [row.comparison for row in audit.differences if row.column != ALL]
    if worst and all(comparison.verdict == NOT_ESTIMABLE for comparison in worst):
        yield "No group has the patients for a comparison with the reference."


def _limits(audit: Audit) -> Iterator[str]:
    yield _bullets(unknown(audit))
    yield (
        "A scanner that is not listed has not been assessed. Groups differ in more than the scanner: a worse value "
        "does not say why. “No difference shown” is not “no difference”."
    )


def _made(audit: Audit) -> Iterator[str]:
    made_with = ", ".join(f"{name} {version}" for name, version in versions().items())
    fingerprint = audit.plan.fingerprint[:SHOWN_DIGITS]
    yield (
        f"Plan {fingerprint}, seed {audit.plan.seed}, {audit.plan.replicates} draws of patients; {made_with}. Methods, "
        "figures and all numbers: audit.html and audit.json of the same report."
    )
