"""What an audit asks of a table, and under which names the table has it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.audit.table_file import TableFile
from pipeline.tracking.predictions import GROUP_COLUMNS, PREFIX, REQUIRED, PredictionsError

AGE = "age"
FIELD_STRENGTH = "field_strength_t"
PROBABILITY = "prob"  # of the positive class, where it stands alone
FILLED_IN = ("case_id", "split", "model")  # read where a table has them, made up where it has not
NAMED = (*REQUIRED, PROBABILITY)


@dataclass(frozen=True)
class Layout:
    """Columns that an audit needs, and where they are. What is not asked for is not read.

    Args:
        group_by: columns to audit; ``"vendor x sex"`` crosses two.
        endpoints: columns of continuous values, one per row (a Dice, an HD95 [mm], an error of EF [points]).
        strata: further columns of names, for the case mix.
        columns: the audit's name -> the table's, ``{"patient_id": "PatID", "prob_DCM": "p_dcm"}``; an empty text
            leaves a column that may be absent unread. Others are found under their own name. Named probabilities are
            all: others in the table are not read.
        classified: whether labels and probabilities are audited; None if the table has probabilities, or nothing else
            is asked for.
        positive: the positive class; of two, it becomes the second. Needed where a table has one column ``prob``.
        age_bands: edges [years] that make groups of the column ``age``.
        merge: column -> name in the table -> the name to use.
        missing_values: whether a row may lack an endpoint; it then has NaN.

    Raises:
        ValueError: if these do not go together.
    """

    group_by: tuple[str, ...]
    endpoints: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    classified: bool | None = None
    positive: str | None = None
    age_bands: tuple[int, ...] = ()
    merge: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    missing_values: bool = False

    def __post_init__(self) -> None:
        if not self.group_by:
            raise ValueError("group_by needs at least one column; got none; name e.g. vendor")
        for name in self.endpoints:
            if name in NAMED or name in self.names or name.startswith(PREFIX):
                raise ValueError(f"an endpoint needs a name of its own; got {name!r}; choose another, and map it")
        _check_age_bands(self.age_bands, asked=AGE in self.names)
        known = {*NAMED, *self.names, *self.endpoints}
        for target in self.columns:
            if target not in known and not target.startswith(PREFIX):
                raise ValueError(f"columns: {target!r} is not asked for; {nearest(target, known)}")
        _check_merge(self.merge, {*self.names, *GROUP_COLUMNS, FIELD_STRENGTH, "label", "split", "model"} - {AGE})

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of groups and strata, each once."""
        return columns_of((*self.group_by, *self.strata))


def columns_of(group_by: Iterable[str]) -> tuple[str, ...]:
    """Columns of which groups are made, each once.

    Example:
        >>> columns_of(["vendor", "vendor x sex"])
        ('vendor', 'sex')
    """
    return tuple(dict.fromkeys(part.strip() for column in group_by for part in column.split(" x ")))


def _check_age_bands(edges: Sequence[int], *, asked: bool) -> None:
    """Refuse edges that make no bands, bands that nobody asked for, and ages without bands."""
    if bool(edges) != asked:
        what = "group_by or strata do not name age" if edges else "there are none"
        raise ValueError(f"age makes groups by bands, and bands need the column age; {what}; give both, or neither")
    if any(b <= a for a, b in zip((0, *edges), edges, strict=False)):
        raise ValueError(f"age_bands must be whole years from 1, increasing; got {list(edges)}; write e.g. [40, 60]")


def _check_merge(merge: Mapping[str, Mapping[str, str]], columns: Iterable[str]) -> None:
    """Refuse mergers in columns that are not read, and names that could not stand in a table."""
    known = set(columns)
    for column, names in merge.items():
        if column not in known:
            raise ValueError(f"merge: column {column!r} is not read; {nearest(column, known)}")
        if not names:
            raise ValueError(f"merge: {column} needs at least one name; got none; leave the column out")
        for name in names.values():
            if not name.strip() or name != name.strip():
                raise ValueError(f"merge: {column}: a name has no spaces around it, and letters; got {name!r}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Remedy for a misspelt word: the nearest known one whatever its case, or all of them.

    Example:
        >>> nearest("Patient ID", ("patient_id", "label")), nearest("x", ("vendor", "site"))
        ("did you mean 'patient_id'?", "known: 'site', 'vendor'")
    """
    plain = {name.casefold(): name for name in sorted(known, reverse=True)}
    close = difflib.get_close_matches(word.casefold(), plain, n=1)
    return f"did you mean {plain[close[0]]!r}?" if close else f"known: {', '.join(map(repr, reversed(plain.values())))}"


def find_columns(file: TableFile, layout: Layout) -> dict[str, str]:
    """Where a file has what is asked for.

    Args:
        file: its header.
        layout: what is asked for.

    Returns:
        The audit's name -> the file's. The order of the probabilities is that of the classes.

    Raises:
        PredictionsError: naming every column that is missing, with the nearest that the file has.
    """
    probabilities = _probabilities(file, layout)
    classified = layout.classified or (layout.classified is None and bool(probabilities or not layout.endpoints))
    wanted = ["patient_id", *layout.names, *layout.endpoints, *(t for t, source in layout.columns.items() if source)]
    if classified:
        wanted += ["label", *(probabilities or ["prob_<class>"])]
    else:
        wanted = [target for target in wanted if not _is_probability(target)]
    taken = set(layout.columns.values())
    wanted += [t for t in FILLED_IN if t not in layout.columns and t in file.columns and t not in taken]
    sources = {target: layout.columns.get(target, target) for target in dict.fromkeys(wanted)}
    _refuse_missing({t: source for t, source in sources.items() if source not in file.columns}, file)
    return sources


def _probabilities(file: TableFile, layout: Layout) -> list[str]:
    named = [target for target in layout.columns if _is_probability(target)]
    own = [name for name in file.columns if _is_probability(name) and name not in layout.columns.values()]
    several = [name for name in own if name != PROBABILITY]
    return named or several or own


def _is_probability(name: str) -> bool:
    return name == PROBABILITY or name.startswith(PREFIX)


def _refuse_missing(missing: Mapping[str, str], file: TableFile) -> None:
    if not missing:
        return
    if any(name.replace(",", ".").replace(".", "", 1).isdigit() for name in file.columns):
        raise PredictionsError(
            "the first row must hold the names of the columns; it holds numbers; write the names above it"
        )
    names = [source or target for target, source in missing.items()]
    hints = [f"{name!r} ({nearest(name, filter(None, file.columns))})" for name in names]
    target = next(iter(missing))
    raise PredictionsError(
        f"every column that is asked for must be there; missing: {', '.join(hints)}; add it, or say what the table "
        f"calls it, --column {target}=NAME"
    )
