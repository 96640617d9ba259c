"""Numbers as text and Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pipeline.benchmark.analysis import Estimate, mean_difference
from pipeline.benchmark.comparison import Regime, Summary, meets_goal

NOTHING = "–"
METRIC_WORDS = {
    "accuracy": "accuracy",
    "worst_group_accuracy": "worst group",
    "worst_cell_accuracy": "worst group x class",
    "worst_group_auc": "worst AUC",
    "gap": "gap",
    "ece": "ECE",
}
SETTINGS = ("KD underfits the minority", "KD does not underfit it", "no minority")
REGIME_WORDS = {"worst": "worst group", "together": "the same, classes together", "average": "average"}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table, the first columns to the left and the others to the right.

    Example:
        >>> print(markdown(["model", "accuracy"], [["kd", "0.87"]]))
        | model | accuracy |
        | --- | ---: |
        | kd | 0.87 |
    """
    ruler = [*["---"] * left, *["---:"] * (len(header) - left)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ruler, *rows))


def share(found: Estimate) -> str:
    """Value and interval of a share.

    Example:
        >>> share(Estimate(0.868, 0.84, 0.9))
        '0.87 [0.84, 0.90]'
    """
    if math.isnan(found.value):
        return NOTHING
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def points(found: Estimate, *, bold: bool = True) -> str:
    """Difference in points (hundredths) and its interval, in bold where that excludes 0.

    Example:
        >>> points(Estimate(0.042, 0.01, 0.0791)), points(Estimate(-0.01, -0.05, 0.03))
        ('**+4.2 [+1.0, +7.9]**', '−1.0 [−5.0, +3.0]')
    """
    if math.isnan(found.value):
        return NOTHING
    value, low, high = (signed(100 * part) for part in (found.value, found.low, found.high))
    text = f"{value} [{low}, {high}]"
    return f"**{text}**" if bold and found.sign else text


def signed(value: float) -> str:
    """One decimal; a rounded 0 has no sign.

    Example:
        >>> signed(1.26), signed(-0.04), signed(-3)
        ('+1.3', '0.0', '−3.0')
    """
    text = f"{value:.1f}"
    return "0.0" if float(text) == 0 else f"{float(text):+.1f}".replace("-", "−")


def count(number: float) -> str:
    """A large number in three figures.

    Example:
        >>> count(81_234), count(2_000_000), count(960)
        ('81.2 k', '2 M', '960')
    """
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def in_words(value: object) -> str:
    """Value of a setting as text.

    Example:
        >>> in_words(1.0), in_words("small"), in_words(None)
        ('1', 'small', '–')
    """
    return NOTHING if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def models_table(summaries: Sequence[Summary], *, best: str, seeds: int) -> str:
    """One row per model, the best worst group on top; a second table for models with fewer seeds.

    A column in which no model has a value is left out.

    Args:
        summaries: with the metrics that are shown.
        best: name of the best baseline, which is marked.
        seeds: of the whole plan; a model with fewer says so.
    """
    most = max(len(summary.runs.seeds) for summary in summaries)
    whole = [summary for summary in summaries if len(summary.runs.seeds) == most]
    fewer = [summary for summary in summaries if len(summary.runs.seeds) < most]
    variants = ["With fewer seeds, not to be ranked with those above:", _models(fewer, best, seeds)] if fewer else []
    return "\n\n".join([_models(whole, best, seeds), *variants])


def _models(summaries: Sequence[Summary], best: str, seeds: int) -> str:
    rows = []
    for summary in sorted(summaries, key=lambda s: -s.estimates["worst_group_accuracy"].value):
        found = {name: share(value) for name, value in summary.estimates.items()}
        rows.append({
            "model": model_words(summary, best=best, seeds=seeds),
            "weights": count(summary.parameters),
            **{words: found.get(metric, NOTHING) for metric, words in METRIC_WORDS.items()},
            "worst group": f"{found['worst_group_accuracy']} {summary.worst_group}",
            "probe": share(summary.probe),
            "choice": NOTHING if math.isnan(summary.choice) else f"{summary.choice:.3f}",
        })  # fmt: skip
    header = [words for words in rows[0] if any(row[words] != NOTHING for row in rows)]
    return markdown(header, [[row[words] for words in header] for row in rows])


def model_words(summary: Summary, *, best: str, seeds: int, labels: bool = True) -> str:
    """Name of a model with what a reader must know of it; ``labels``: also of which studies it has seen labels."""
    notes = [
        *(["teacher"] if summary.role == "teacher" and summary.model != "teacher" else []),
        *(["best baseline"] if summary.model == best else []),
        *(["validation labels"] if summary.fitted and labels else []),
        *([f"{len(summary.runs.seeds)} of {seeds} seeds"] if len(summary.runs.seeds) < seeds else []),
    ]
    return f"{summary.model} ({', '.join(notes)})" if notes else summary.model


def regimes_summary(compared: Mapping[str, Sequence[Regime]]) -> str:
    """For each comparison one row over the settings with an underfitted minority, then those of the other settings.

    Args:
        compared: what is compared -> from :func:`pipeline.benchmark.comparison.regimes`; at least one setting in all.
    """
    every = [regime for found in compared.values() for regime in found]
    shown = [name for name in REGIME_WORDS if all(name in regime.draws for regime in every)]
    header = [
        "settings",
        "models",
        "of them",
        "better",
        "worse",
        "goal",
        *(f"{REGIME_WORDS[name]}, mean" for name in shown),
    ]
    rows = []
    for kind in SETTINGS:
        parts = {words: [r for r in found if _kind(r) == kind] for words, found in compared.items()}
        for words, part in parts.items():
            if part:
                signs = [regime.worst.sign for regime in part]
                counts = (str(n) for n in (len(part), signs.count(1), signs.count(-1), sum(map(meets_goal, part))))
                means = (points(mean_difference([regime.draws[name] for regime in part])) for name in shown)
                rows.append([kind, words, *counts, *means])
    return markdown(header, rows, left=2)


def _kind(regime: Regime) -> str:
    """One of :data:`SETTINGS`."""
    if not regime.reference.has_minority:
        return SETTINGS[2]
    return SETTINGS[0] if regime.reference.underfitted else SETTINGS[1]


def regimes_table(regimes: Sequence[Regime], names: Sequence[str], *, seeds: int) -> str:
    """One row per setting.

    Args:
        regimes: from :func:`pipeline.benchmark.comparison.regimes`.
        names: of the settings to show.
        seeds: of the whole plan; a setting with fewer says so.
    """
    compared = [name for name in REGIME_WORDS if any(name in regime.draws for regime in regimes)]
    header = [name.replace("_", " ") for name in names]
    header += [*(REGIME_WORDS[name] for name in compared), "KD's training accuracy, minority minus all", "seeds"]
    rows = []
    for regime in regimes:
        shortfall = regime.reference.shortfall
        told = NOTHING if math.isnan(shortfall) else signed(-100 * shortfall)
        rows.append([
            *(in_words(regime.settings.get(name)) for name in names),
            *(points(mean_difference([regime.draws[name]])) for name in compared),
            f"{told} underfitted" if regime.reference.underfitted else told,
            f"{regime.seeds} of {seeds}" if regime.seeds < seeds else str(seeds),
        ])  # fmt: skip
    return markdown(header, rows)
