"""A study's DICOM files as records, one per image; its pixels on demand (:mod:`pipeline.dicom.pixels`)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.dicom.files import studies_in
from pipeline.dicom.frame_header import FileHeader, read_file
from pipeline.dicom.frame_records import Frame, PixelPlace, StudyFiles, StudyTags
from pipeline.dicom.pixels import read_pixels
from pipeline.dicom.refusal import Code, LeftOut, Refusal

__all__ = ["Frame", "PixelPlace", "StudyFiles", "StudyTags", "read_pixels", "read_study", "studies_in"]

OTHER_FILES = "other files"  # those that belong to no series
DAY_S = 86_400.0
LONGEST_STUDY_S = 3 * 3600.0
HERE_ONLY = {"path", "transfer_syntax", "complete", "pixels"}  # in which copies of one image may differ


def read_study(paths: Iterable[Path], *, ignored: Callable[[FileHeader], bool] | None = None) -> StudyFiles:
    """Read the headers of a study's files; each file is opened once, and no pixel is read.

    Args:
        paths: files in any order and under any names; also such as are no DICOM. Copies of an image are read once.
        ignored: whether a file is to be as if it were not there; asked only of files that hold no MR image.

    Returns:
        The study's MR images as records, ordered by series, instance number and place in the file; and what was
        left out.

    Raises:
        Refusal: ``NOT_DICOM``, ``NOT_MR`` or the code of most of the files, if no MR image is among them;
            ``SEVERAL_STUDIES`` or ``SEVERAL_PATIENTS``, if images are of several, by the PatientIDs that they have.
        OSError: if the machine fails (:mod:`pipeline.dicom.system_errors`).
    """
    files = [read_file(path) for path in dict.fromkeys(map(Path, paths))]
    if ignored is not None:
        files = [file for file in files if file.code is None or not ignored(file)]
    names = _series_names(files)
    left_out = _left_out(files, names)
    taken = [file for file in files if file.code is None]
    if not taken:
        raise Refusal(_main_code(left_out), left_out=left_out)
    tags = [file.tags for file in taken if file.tags]
    _check_one(Code.SEVERAL_STUDIES, "studies", {each.study_uid for each in tags}, left_out)
    _check_one(Code.SEVERAL_PATIENTS, "patient IDs", {each.patient_id for each in tags} - {""}, left_out)
    frames = [replace(frame, series=names[file.series_uid]) for file in taken for frame in file.frames]
    return StudyFiles(_in_order(_past_midnight(_without_copies(frames))), _most_common(tags), left_out)


def _series_names(files: Sequence[FileHeader]) -> dict[str, str]:
    """``series 1`` and so on, by SeriesNumber, then by UID; what has no UID is of no series."""
    places = [
        (math.inf if file.series_number is None else file.series_number, file.series_uid)
        for file in files
        if file.series_uid
    ]
    ordered = dict.fromkeys(uid for _, uid in sorted(places))
    return {uid: f"series {count}" for count, uid in enumerate(ordered, start=1)} | {"": OTHER_FILES}


def _left_out(files: Sequence[FileHeader], names: Mapping[str, str]) -> tuple[LeftOut, ...]:
    """What is left out, counted by series and reason, in the order of the series."""
    counts: Counter[tuple[str, Code, str]] = Counter()
    for file in files:
        if file.code:
            counts[file.series_uid, file.code, file.detail] += file.images
    order = list(names)
    found = sorted(counts, key=lambda entry: (order.index(entry[0]), *entry[1:]))
    return tuple(LeftOut(names[uid], counts[uid, code, detail], code, detail) for uid, code, detail in found)


def _main_code(left_out: Sequence[LeftOut]) -> Code:
    """Why there is no MR image: the reason of most of the DICOM files, if there are any."""
    counts: Counter[Code] = Counter()
    for entry in left_out:
        counts[entry.code] += entry.images
    del counts[Code.NOT_DICOM]
    return max(counts, key=lambda code: (counts[code], code)) if counts else Code.NOT_DICOM


def _check_one(code: Code, what: str, found: set[str], left_out: Sequence[LeftOut]) -> None:
    if len(found) > 1:
        raise Refusal(code, f"the images name {len(found)} {what}", left_out)


def _without_copies(frames: Iterable[Frame]) -> list[Frame]:
    """One frame of those that say the same of one image; a whole one, if there is any."""
    found: dict[Any, Frame] = {}
    for frame in frames:
        key = tuple(getattr(frame, field.name) for field in fields(frame) if field.name not in HERE_ONLY)
        key = key if frame.sop_uid else (*key, frame.path)
        kept = found.setdefault(key, frame)
        if frame.complete and not kept.complete:
            found[key] = frame
    return [*found.values()]


def _past_midnight(frames: list[Frame]) -> list[Frame]:
    """Times after midnight count on from those before it, where the study was short and spans it.

    Headers are read for the time of the day alone: a slice that was acquired again after midnight must not come first.
    """
    for name in ("acquisition_s", "content_s"):
        times = sorted({value for frame in frames if (value := getattr(frame, name)) is not None})
        night = [end for end, start in pairwise(times) if start - end >= DAY_S - LONGEST_STUDY_S]
        if night:  # a study that lasts no longer has one such gap at most
            frames = [
                replace(frame, **{name: value + DAY_S})
                if (value := getattr(frame, name)) is not None and value <= night[0]
                else frame
                for frame in frames
            ]
    return frames


def _in_order(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    def place(frame: Frame) -> tuple[Any, ...]:
        return (*_series_key(frame), frame.instance_number or 0, frame.sop_uid, frame.number)

    return tuple(sorted(frames, key=place))


def _series_key(frame: Frame) -> tuple[int, str]:
    return len(frame.series), frame.series


def _most_common(tags: Sequence[StudyTags]) -> StudyTags:
    """Of each field the value that most files give; the others' may be the work of a PACS."""
    chosen: dict[str, Any] = {}
    for field in fields(StudyTags):
        counts = Counter(getattr(each, field.name) for each in tags)
        said = {value: count for value, count in counts.items() if value not in {None, "", ()}} or counts
        chosen[field.name] = max(said, key=lambda value: (said[value], str(value)))
    return StudyTags(**chosen)
