"""Headers may hold anything: nothing of them is shown, and nothing in them raises but a refusal."""

from __future__ import annotations

import logging
import math
import struct
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR

from pipeline.dicom.frame_tags import WANTED
from pipeline.dicom.frames import read_pixels, read_study
from pipeline.dicom.refusal import Refusal
from tests.dicom.dicom_images import element, mr_image, raw_image, save, sequence

CANARY = "CANARY"


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _texts() -> dict[int, bytes]:
    """Each wanted element as a text of somebody's, under the representation that it should have."""
    wild = {}
    for tag in WANTED.values:
        vr = dictionary_VR(tag).split()[0]
        value = f"{CANARY}^{tag:08X}".encode()
        wild[tag] = element(tag, value + b"\0" * (-len(value) % 8), vr)
    return wild


def test_nothing_of_a_header_is_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A name in every element, in turn and in all of them: in no warning, log record, refusal or repr."""
    caplog.set_level(logging.DEBUG)
    texts = _texts()
    said = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for number, wild in enumerate([texts, *({tag: text} for tag, text in texts.items())]):
            folder = tmp_path / f"{CANARY}{number}"
            folder.mkdir()
            try:
                files = read_study([_write(folder / "image", raw_image(wild)), _write(folder / "other", b"text")])
                said += [repr(files), *map(repr, files.left_out)]
                list(read_pixels(files.frames))
            except Refusal as refused:
                said += [str(refused), repr(refused), repr(refused.left_out)]
    assert len(said) > len(texts)
    assert warned == []
    assert CANARY not in " ".join(said) + caplog.text


WILD = st.one_of(
    st.sampled_from(
        [b"", b" ", b"None", b"nan", b"-inf", b"1e400", b"0", b"-1", b"1\\2", b"\\\\", b"1.5.2", b"\xff\xfe"]
    ),
    st.sampled_from([b"MR", b"1.2.840.10008.5.1.4.1.1.4", b"MONOCHROME2", b"900", b"\\".join([b"1"] * 6), b"9" * 40]),
    st.binary(max_size=24),
    st.lists(st.floats(), max_size=4).map(lambda numbers: struct.pack(f"<{len(numbers)}d", *numbers)),
)
REPRESENTATIONS = st.sampled_from(["", "", "", "UN", "DS", "IS", "CS", "LO", "US", "FD", "UI", "SQ", "OB", "XX"])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wild=st.dictionaries(st.sampled_from(sorted(WANTED.values)), st.tuples(WILD, REPRESENTATIONS), max_size=12))
def test_wild_values_are_read_or_refused_and_never_raise(tmp_path: Path, wild: dict[int, tuple[bytes, str]]) -> None:
    words = {tag: element(tag, value, vr or None) for tag, (value, vr) in wild.items()}
    path = _write(tmp_path / "image", raw_image(words))
    try:
        frames = read_study([path]).frames
    except Refusal:
        return
    for frame in frames:
        numbers = [getattr(frame, field.name) for field in fields(frame) if field.name not in {"slope", "intercept"}]
        assert all(math.isfinite(number) for number in numbers if isinstance(number, float))
        assert frame.position is None or (len(frame.position) == 3 and np.isfinite(frame.position).all())
        assert frame.orientation is None or (len(frame.orientation) == 6 and np.isfinite(frame.orientation).all())
        assert frame.pixel_spacing is None or min(frame.pixel_spacing) > 0
        assert frame.rows > 0
        assert frame.cols > 0
        try:
            (pixels,) = read_pixels([frame])
        except Refusal:
            continue
        assert pixels.shape == (frame.rows, frame.cols)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tag=st.sampled_from(sorted(WANTED.sequences)),
    content=st.one_of(st.binary(max_size=60), st.just(element("ImagePositionPatient", b"1\\2\\3"))),
    undefined=st.booleans(),
)
def test_wild_sequences_are_read_or_refused_and_never_raise(
    tmp_path: Path, tag: int, content: bytes, undefined: bool
) -> None:
    """Functional groups that hold anything, at the top level too."""
    image = raw_image({tag: sequence(tag, [content, sequence(tag, [content])], undefined=undefined)})
    try:
        frames = read_study([_write(tmp_path / "image", image)]).frames
    except Refusal:
        return
    assert (len(frames), frames[0].rows) == (1, 3)


def test_reading_leaves_pydicoms_settings_as_they_were(tmp_path: Path) -> None:
    """Whoever uses pydicom in the same process keeps its warnings."""
    before = (pydicom.config.settings.reading_validation_mode, logging.getLogger("pydicom").level, warnings.filters[:])
    list(read_pixels(read_study([save(mr_image(), tmp_path / "image")]).frames))
    after = (pydicom.config.settings.reading_validation_mode, logging.getLogger("pydicom").level, warnings.filters[:])
    assert after == before
