"""Studies as they arrive: shuffled, renamed, doubled, files lost or cut, headers that lie, other series among them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.dicom.dicom_extras import EXTRAS
from tests.dicom.dicom_writer import LAYOUTS, Study, cine_study, new_uid, to_bytes
from tests.dicom.scan_plan import Key

Random = np.random.Generator
STUDIES_OF_A_LAYOUT = 4
NAMES = ("IM{:05d}", "{:04d}.ima", "a/b {}/file", "DICOM/S{}/I", "{}.nii.gz", "ü{}", "MR.{}.dcm")


@dataclass
class Parcel:
    """Files of a study on their way.

    Attributes:
        study: as it was written.
        files: by name: what a file holds, or where there is one that holds it.
        whole: images whose file is there and whole.
        must_be_read: whether nothing that matters is wrong with it.
        times_tolerance: of the times, in phases; 0 but where the header of a time was changed.
    """

    study: Study
    files: dict[str, bytes | Path]
    whole: set[Key] = field(default_factory=set)
    must_be_read: bool = True
    times_tolerance: float = 0.0


@cache
def _written(layout: str, seed: int) -> tuple[Study, tempfile.TemporaryDirectory[str]]:
    """A study and the folder of its files, made once."""
    study, folder = cine_study(seed, LAYOUTS[layout]), tempfile.TemporaryDirectory()
    for name, data in study.files.items():
        (Path(folder.name) / name).write_bytes(to_bytes(data))
    return study, folder


def parcel(layout: str, seed: int) -> Parcel:
    """A study, as it was written."""
    study, folder = _written(layout, seed)
    return Parcel(study, {name: Path(folder.name) / name for name in study.files}, set(study.keys()))


def unchanged(post: Parcel, random: Random) -> None:
    """Do nothing."""


def shuffled(post: Parcel, random: Random) -> None:
    """Files in another order."""
    names = list(post.files)
    post.files = {names[i]: post.files[names[i]] for i in random.permutation(len(names))}


def renamed(post: Parcel, random: Random) -> None:
    """Files under other names: any ending, none, folders within folders."""
    new = NAMES[random.integers(len(NAMES))]
    order = random.permutation(len(post.files))
    post.files = {new.format(i): data for i, data in zip(order, post.files.values(), strict=True)}


def doubled(post: Parcel, random: Random) -> None:
    """A file there twice."""
    name = _any(post, random)
    post.files["again"] = post.files[name]


def stored_again(post: Parcel, random: Random) -> None:
    """An image stored again under another UID: which is the right one cannot be told."""
    data = _read(post, _any(post, random))
    data.SOPInstanceUID = new_uid(post.study.plan.seed, 9, 9)
    post.files["again"] = to_bytes(data)
    post.must_be_read = False


def lost(post: Parcel, random: Random) -> None:
    """A file not there."""
    _break(post, _any(post, random), None)


def several_lost(post: Parcel, random: Random) -> None:
    """Up to five files not there."""
    for _ in range(random.integers(2, 6)):
        if post.study.contents.keys() & post.files.keys():
            _break(post, _any(post, random), None)


def cut_in_pixels(post: Parcel, random: Random) -> None:
    """A file that ends within its pixels."""
    name = _any(post, random)
    n = sum(post.study.plan.shape) + int(random.integers(1, 100))
    _break(post, name, _bytes(post, name)[:-n])


def cut_anywhere(post: Parcel, random: Random) -> None:
    """A file that ends anywhere."""
    name = _any(post, random)
    data = _bytes(post, name)
    _break(post, name, data[: int(random.integers(len(data) - 1))])


def positions_swapped(post: Parcel, random: Random) -> None:
    """Two images with each other's position."""
    _swap(post, random, "ImagePositionPatient")


def positions_swapped_in_a_phase(post: Parcel, random: Random) -> None:
    """The same, of two slices at one phase: every slice still has each phase once."""
    _swap(post, random, "ImagePositionPatient", _same_phase)


def times_swapped(post: Parcel, random: Random) -> None:
    """Two images with each other's time. One that hardly differs changes nothing."""
    for keyword in _clocks(post):
        _swap(post, random, keyword)
    post.times_tolerance = 0.05


def times_swapped_in_a_slice(post: Parcel, random: Random) -> None:
    """The same within a slice: the slice still has each time once."""
    for keyword in _clocks(post):
        _swap(post, random, keyword, _same_slice)


def numbers_swapped(post: Parcel, random: Random) -> None:
    """Two images with each other's instance number: of two slices, where nothing else tells the order in a slice."""
    told = bool(post.study.layout.clocks)
    _swap(post, random, "InstanceNumber", lambda one, other: told or one[0] != other[0])


def locations_swapped(post: Parcel, random: Random) -> None:
    """Two images with each other's slice location."""
    _swap(post, random, "SliceLocation")


def position_lost(post: Parcel, random: Random) -> None:
    """An image without a position."""
    name, index, key = _pick(post, random)
    data = _read(post, name)
    del _holder(data, index, "ImagePositionPatient").ImagePositionPatient
    post.files[name] = to_bytes(data)
    post.whole.discard(key)
    post.must_be_read = False


def with_others(kind: str) -> Mutation:
    """A mutation that adds another series."""

    def add(post: Parcel, random: Random) -> None:
        for number, data in enumerate(EXTRAS[kind](post.study.plan)):
            post.files[f"other-{number}"] = to_bytes(data)

    return add


Mutation = Callable[[Parcel, Random], None]
HANDLING: Mapping[str, Mutation] = {"as written": unchanged, "shuffled": shuffled, "renamed": renamed}
MUTATIONS: Mapping[str, Mutation] = {
    "none": unchanged,
    "file doubled": doubled,
    "image stored again": stored_again,
    "file lost": lost,
    "several files lost": several_lost,
    "file cut in its pixels": cut_in_pixels,
    "file cut anywhere": cut_anywhere,
    "position lost": position_lost,
    "positions swapped": positions_swapped,
    "positions swapped in a phase": positions_swapped_in_a_phase,
    "times swapped": times_swapped,
    "times swapped in a slice": times_swapped_in_a_slice,
    "instance numbers swapped": numbers_swapped,
    "slice locations swapped": locations_swapped,
    **{f"with {kind}": with_others(kind) for kind in EXTRAS},
}


def mutated(layout: str, mutation: str, handling: str, seed: int) -> Parcel:
    """A study on its way.

    Args:
        layout: of :data:`~tests.dicom.dicom_writer.LAYOUTS`.
        mutation: of :data:`MUTATIONS`.
        handling: of :data:`HANDLING`.
        seed: of the study (by its remainder, so that studies are written once) and of what befalls it.
    """
    post, random = parcel(layout, seed % STUDIES_OF_A_LAYOUT), np.random.default_rng(seed)
    MUTATIONS[mutation](post, random)
    HANDLING[handling](post, random)
    return post


def _any(post: Parcel, random: Random) -> str:
    names = [name for name in post.files if name in post.study.contents]
    return names[random.integers(len(names))]


def _pick(post: Parcel, random: Random, wanted: Callable[[Key], bool] = lambda _: True) -> tuple[str, int, Key]:
    """An image: its file, its number there, which it is."""
    there = {name: keys for name, keys in post.study.contents.items() if name in post.files}
    images = [(name, i, key) for name, keys in there.items() for i, key in enumerate(keys) if wanted(key)]
    return images[random.integers(len(images))]


def _read(post: Parcel, name: str) -> Dataset:
    return dcmread(BytesIO(_bytes(post, name)))


def _bytes(post: Parcel, name: str) -> bytes:
    data = post.files[name]
    return data.read_bytes() if isinstance(data, Path) else data


def _break(post: Parcel, name: str, data: bytes | None) -> None:
    """Take a file away, or put what is left of it in its place."""
    if data is None:
        del post.files[name]
    else:
        post.files[name] = data
    post.whole -= set(post.study.contents[name])
    post.must_be_read = False


def _holder(data: Dataset, index: int, keyword: str) -> Dataset:
    """The item in which an image's value stands."""
    groups = data.PerFrameFunctionalGroupsSequence[index] if "PerFrameFunctionalGroupsSequence" in data else Dataset()
    return next((group.value[0] for group in groups if keyword in group.value[0]), data)


def _swap(post: Parcel, random: Random, keyword: str, wanted: Callable[[Key, Key], bool] = lambda *_: True) -> None:
    """Exchange a value between two images; nothing happens where they lack it."""
    name, index, key = _pick(post, random)
    other_name, other_index, _ = _pick(post, random, lambda other: other != key and wanted(key, other))
    data = {each: _read(post, each) for each in {name, other_name}}
    one, other = _holder(data[name], index, keyword), _holder(data[other_name], other_index, keyword)
    if keyword not in one or keyword not in other:
        return
    one_value, other_value = deepcopy(one[keyword].value), deepcopy(other[keyword].value)
    setattr(one, keyword, other_value)
    setattr(other, keyword, one_value)
    post.files |= {each: to_bytes(changed) for each, changed in data.items()}
    post.must_be_read = False


def _clocks(post: Parcel) -> list[str]:
    """The first header that times the images of a study, if it has one."""
    names = {"delay": "NominalCardiacTriggerDelayTime", "percent": "NominalPercentageOfCardiacPhase"}
    return [names.get(name, name) for name in post.study.layout.clocks[:1]]


def _same_slice(one: Key, other: Key) -> bool:
    return one[:2] == other[:2]


def _same_phase(one: Key, other: Key) -> bool:
    return one[2] == other[2] and one[0] != other[0]
