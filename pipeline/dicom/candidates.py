"""Which images of a study may be the short-axis cine, each group tried for itself; the others with their reasons."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.dicom.families import families, has_geometry
from pipeline.dicom.frame_records import Frame
from pipeline.dicom.parts import FEWEST_SLICES, Part, is_turned, is_twin
from pipeline.dicom.refusal import Code, LeftOut, Refusal
from pipeline.dicom.repeats import split_runs, usual_length
from pipeline.dicom.series_kind import FEWEST_OF_A_CINE, has_heartbeat, kind_of
from pipeline.dicom.stack import Stack, build_stack
from pipeline.dicom.stack_geometry import LONG_AXIS_FROM_DEG, SHORT_AXIS_CONE_DEG, off_short_axis

OTHER_CINE = 1.2  # so many times the usual phases are another acquisition, not a slice that lacks some


@dataclass
class Candidate:
    """Images that may be the cine that is sought, and what came of them.

    Attributes:
        frames: the images.
        family: which family they are of.
        stack: the stack, if they make one.
        refusal: why not, if they do not.
    """

    frames: tuple[Frame, ...]
    family: int
    stack: Stack | None = None
    refusal: Refusal | None = None


@dataclass
class Ledger:
    """Every image that is left out, with its reason.

    Attributes:
        entries: how many, by series, code and detail.
    """

    entries: Counter[tuple[str, Code, str]] = field(default_factory=Counter)

    def add(self, frames: Iterable[Frame], code: Code, detail: str = "") -> None:
        """Write images down."""
        self.entries.update((frame.series, code, detail) for frame in frames)

    def left_out(self) -> tuple[LeftOut, ...]:
        """Everything that was written down, in the order of the series."""
        ordered = sorted(self.entries.items(), key=lambda item: (len(item[0][0]), *item[0]))
        return tuple(LeftOut(series, images, code, detail) for (series, code, detail), images in ordered)


def find_candidates(frames: Sequence[Frame], ledger: Ledger) -> list[Candidate]:
    """Sort images into groups that may be the cine, and try to make a stack of each.

    Args:
        frames: all images of a study.
        ledger: gets those that belong to no group.

    Returns:
        The groups, each with its stack or its refusal.
    """
    placed = [frame for frame in frames if has_geometry(frame)]
    known = set(map(id, placed))
    ledger.add((frame for frame in frames if id(frame) not in known), Code.NO_GEOMETRY)
    candidates = []
    for number, parts in enumerate(_cine_parts(placed, ledger)):
        candidates += [Candidate(group, number) for group in _groups(parts)]
    for candidate in candidates:
        _try(candidate)
    return candidates


def _cine_parts(frames: Sequence[Frame], ledger: Ledger) -> list[list[Part]]:
    """Of each family the parts that may be a cine; the others are written down."""
    sorted_parts = [_parts(family) for family in families(frames)]
    by_series: dict[str, list[Part]] = defaultdict(list)
    for part in (part for parts in sorted_parts for part in parts):
        for name in {frame.series_uid for frame in part.frames}:
            by_series[name].append(part)
    flow: list[Part] = []
    kept: list[list[Part]] = []
    for parts in sorted_parts:
        kept.append([])
        for part in parts:
            kind = kind_of(part, turned=is_turned(by_series[part.frames[0].series_uid]))
            if kind is None:
                kept[-1].append(part)
                continue
            ledger.add(part.frames, *kind)
            if kind[0] is Code.FLOW:
                flow.append(part)
    return [[part for part in parts if not _belongs_to_flow(part, flow, ledger)] for parts in kept]


def _parts(family: Sequence[Frame]) -> list[Part]:
    """A family by series; undivided, if each series holds one phase of all slices."""
    by_series: dict[str, list[Frame]] = defaultdict(list)
    for frame in family:
        by_series[frame.series_uid].append(frame)
    parts, whole = [Part(tuple(frames)) for frames in by_series.values()], Part(tuple(family))
    few = all(part.per_place < FEWEST_OF_A_CINE for part in parts)
    return [whole] if few and whole.per_place >= FEWEST_OF_A_CINE else parts


def _belongs_to_flow(part: Part, flow: Sequence[Part], ledger: Ledger) -> bool:
    twin = any(is_twin(part, other) for other in flow)
    if twin:
        ledger.add(part.frames, Code.FLOW, "magnitude")
    return twin


def _groups(parts: Sequence[Part]) -> list[tuple[Frame, ...]]:
    """Put together the parts that can be one stack: one number of phases, and not two whole stacks in two places."""
    by_phases: dict[int, list[Part]] = defaultdict(list)
    for part in parts:
        by_phases[usual_length(run for one in part.by_place for run in split_runs(one))].append(part)
    slices = {n: sum(len(part.by_place) for part in same) for n, same in by_phases.items()}
    ordered = sorted(slices, key=lambda n: -n * slices[n])
    stacks = [n for n in ordered if slices[n] >= FEWEST_SLICES] or ordered[:1]
    joined: dict[int, list[Part]] = defaultdict(list)
    for n, same in by_phases.items():
        home = next((m for m in stacks if n < m * OTHER_CINE and m <= 2 * n), n)
        joined[n if n in stacks else home] += same
    return [group for same in joined.values() for group in _by_places(same)]


def _by_places(parts: Sequence[Part]) -> list[tuple[Frame, ...]]:
    """Keep whole stacks apart that lie at different places; single slices go with the first."""
    stacks: list[list[Part]] = []
    for part in (part for part in parts if len(part.by_place) >= FEWEST_SLICES):
        home = next((one for one in stacks if _same_places(one[0], part)), None)
        if home is None:
            stacks.append([part])
        else:
            home.append(part)
    single = [part for part in parts if len(part.by_place) < FEWEST_SLICES]
    if single:
        stacks = [[*stacks[0], *single], *stacks[1:]] if stacks else [single]
    return [tuple(frame for part in one for frame in part.frames) for one in stacks]


def _same_places(one: Part, other: Part) -> bool:
    merged = Part((*one.frames, *other.frames))
    return len(merged.by_place) <= max(len(one.by_place), len(other.by_place))


def _try(candidate: Candidate) -> None:
    off = off_short_axis(candidate.frames[0].orientation or ())
    if off > SHORT_AXIS_CONE_DEG:
        beats = has_heartbeat(Part(candidate.frames).largest)
        cine = Code.LONG_AXIS if off >= LONG_AXIS_FROM_DEG else Code.NOT_SHORT_AXIS
        candidate.refusal = Refusal(cine if beats else Code.NO_CINE, f"{off:.0f} degrees off the common long axis")
        return
    try:
        candidate.stack = build_stack(candidate.frames)
    except Refusal as refusal:
        candidate.refusal = refusal
