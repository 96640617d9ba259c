"""A package's model card: what it is, on whom it was trained, how it was checked; the audit's card follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.audit.model_card import plain
from pipeline.audit.words import in_words, sentence

USE = (
    "Research only: for people who study what such a model says on their own scanners, with its audit beside it. Not a "
    "medical device: not for diagnosis, not for triage, not for any decision about a patient."
)
NOT_AUDITED = (
    "This package holds no audit: nothing is known of how well it reads the studies of any scanner. It calls every "
    "scanner unseen."
)
LIMITS = (
    "A probability is not a finding. The student reads two phases of one short-axis cine and nothing else. It knows "
    "only its own classes, and names one of them whatever heart it is shown. On scanners that are not listed it has "
    "not been assessed."
)


def package_card(manifest: Mapping[str, Any], audit_card: str) -> str:
    """Write the card.

    Args:
        manifest: of the package.
        audit_card: the audit's own card, which follows; empty without one.

    Returns:
        Markdown; names are escaped.
    """
    sections = [
        f"# {plain(manifest['name'] + ' ' + manifest['package_version'])}",
        "## Intended use",
        USE,
        "## What it is",
        _bullets(_facts(manifest)),
        "## Training patients",
        *_training(manifest["training_groups"]),
        "## Limits",
        LIMITS if manifest["envelope"] else f"{NOT_AUDITED} {LIMITS}",
    ]
    following = ["---", audit_card.strip()] if audit_card else []
    return "\n\n".join([*sections, *following]) + "\n"


def _facts(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Classes", ", ".join(manifest["classes"])
    recipe = manifest["recipe"]
    size = f"{recipe['slices']} slices of {recipe['rows']} x {recipe['cols']} pixels of {recipe['spacing_mm']:g} mm"
    yield "Input", f"end-diastole and end-systole around the heart, {size}; recipe {manifest['recipe_digest']}"
    yield "Method", str(manifest["method"])
    runs = manifest["runs"]
    yield "MLflow runs", f"student {runs['student'] or 'unknown'}; teachers {', '.join(runs['teachers']) or 'none'}"
    yield "Precision", _precision(manifest)
    checked = manifest["checked_with"]
    yield "Checked", f"against the trained network on {checked['cases']} {checked['inputs']}"
    if manifest["envelope"]:
        yield "Audit", _audit(manifest)
    if manifest["operating_threshold"]:
        yield "Decision", "the most probable class; the audit's operating threshold is not applied"
    yield "Made with", str(manifest["created_with"])


def _audit(manifest: Mapping[str, Any]) -> str:
    if not manifest["checked_with"]["audit_reproduced"]:
        return "the audited values were not computed again for packing"
    if manifest["int8"] is None:
        return "the packed network was run on the audited studies and gave the audited values"
    return (
        "its values are those of the float32 network, which was run on the audited studies and gave them again; the "
        "packed int8 network is not that one, see Precision"
    )


def _precision(manifest: Mapping[str, Any]) -> str:
    int8 = manifest["int8"]
    if int8 is None:
        return str(manifest["precision"])
    before, after, most = int8["float32"], int8["int8"], int8["largest_loss"]
    return (
        f"int8: the most that a group lost by rounding to 8 bits is {most['accuracy']:.3f} of accuracy, in "
        f"{most['column']} {most['group']}; accuracy in the worst group {after:.3f}, {before:.3f} before "
        f"({int8['cases']} studies by {', '.join(int8['columns'])}); AUC was not judged"
    )


def _training(groups: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    for column, counts in groups.items():
        lines = [[sentence(in_words(column)), "Patients"], ["---", "---:"], *([g, str(n)] for g, n in counts.items())]
        yield "\n".join(_line(line, head=at == 1) for at, line in enumerate(lines))


def _line(cells: Sequence[str], *, head: bool) -> str:
    return f"| {' | '.join(cell if head else plain(cell) for cell in cells)} |"


def _bullets(facts: Iterator[tuple[str, str]]) -> str:
    return "\n".join(f"- **{plain(name)}:** {plain(text)}" for name, text in facts)
