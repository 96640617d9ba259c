"""When a person should look at what was found in a cine without labels."""

from __future__ import annotations

from collections.abc import Iterator

UNSURE_HEART = 0.25  # confidence below which a person should look; the lowest of 60 ACDC patients is 0.41
UNSURE_PHASES = 0.2  # likewise; 3 of 60 ACDC pairs lie below, rightly told apart


def doubts(heart: float, phases: float) -> Iterator[str]:
    """Warnings on a heart and phases that were found with little confidence, each with its code.

    Args:
        heart: confidence in the heart's centre, in [0, 1].
        phases: confidence in end-diastole and end-systole, in [0, 1].

    Example:
        >>> [warning.partition(":")[0] for warning in doubts(0.1, 0.9)]
        ['UNSURE_HEART']
    """
    if heart < UNSURE_HEART:
        yield f"UNSURE_HEART: the heart's centre is uncertain (confidence {heart:.2f}); look at the pictures"
    if phases < UNSURE_PHASES:
        yield f"UNSURE_PHASES: end-diastole and end-systole are uncertain (confidence {phases:.2f}); look at the movie"
