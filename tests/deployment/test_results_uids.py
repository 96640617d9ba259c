"""One UID, one content: the same study gives the same objects again, a corrected one gives others."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from pipeline.deployment.outcome import PackageIdentity
from pipeline.deployment.service.worker import outputs_of
from pipeline.deployment.source_headers import COPIED
from pipeline.deployment.uids import UNNAMED, Lineage, derived_uid
from tests.deployment.readings import (
    PACKAGE,
    PICTURE,
    READ,
    Source,
    contents,
    items,
    raw_element,
    stripped,
    written_to,
)

CHANGES = dict.fromkeys(COPIED, (b"AB", b"CD")) | {
    "SpecificCharacterSet": (b"ISO_IR 100", b"ISO_IR 192"),
    "StudyInstanceUID": (b"1.2.3", b"1.2.4"),
    "ContentDate": (b"20260102", b"20260103"),
}


def _uids(data: Dataset) -> set[str]:
    return {str(data.SOPInstanceUID), str(data.SeriesInstanceUID)}


def _header(given: Source, **values: bytes) -> Dataset:
    """Of one image, with all that is copied."""
    header = stripped(given.headers[0])
    for keyword, value in ({name: old for name, (old, _) in CHANGES.items()} | values).items():
        header[keyword] = raw_element(keyword, value)
    return header


@pytest.mark.parametrize("keyword", CHANGES)
def test_whatever_is_corrected_in_a_header_gives_another_report_and_another_picture(
    keyword: str, given: Source, tmp_path: Path
) -> None:
    """The UIDs of the images stay as they are: a PACS would keep the report of the wrong patient."""
    corrected = _header(given, **{keyword: CHANGES[keyword][1]})
    before = written_to(Source([_header(given)], [], READ), tmp_path / "before")
    after = written_to(Source([corrected], [], READ), tmp_path / "after")
    for old, new in zip(before, after, strict=True):
        assert not _uids(old) & _uids(new)


def test_what_is_not_copied_changes_nothing(given: Source, tmp_path: Path) -> None:
    written_to(Source([_header(given)], [], READ), tmp_path / "a")
    written_to(Source([_header(given, PatientComments=b"CD", StationName=b"CD")], [], READ), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(("step", "is_another"), [(2e-6, True), (2e-8, False)])
def test_a_probability_that_is_printed_as_another_gives_another_report(
    step: float, is_another: bool, given: Source, written: Path, tmp_path: Path
) -> None:
    """Six digits are printed. The picture, which is the same, stays the same object."""
    reading = given.outcome.reading
    assert reading is not None
    shares = {name: share + step * (name == "NOR") - step * (name == "HCM") for name, share in
              reading.probabilities.items()}  # fmt: skip
    outcome = replace(given.outcome, reading=replace(reading, probabilities=shares))
    report, picture = written_to(Source(given.headers, given.sources, outcome), tmp_path)
    before = {path.name for path in written.glob("*.dcm")}
    assert (_file(report) not in before) == is_another
    assert _file(picture) in before


def test_a_pixel_of_the_picture_gives_another_picture(given: Source, written: Path, tmp_path: Path) -> None:
    changed = PICTURE.copy()
    changed[0, 0, 0] ^= 1
    report, picture = written_to(given, tmp_path, picture=changed)
    before = {path.name for path in written.glob("*.dcm")}
    assert _file(report) in before
    old = {uid for name in before for uid in name.removesuffix(".dcm").split("#")}
    assert not _uids(picture) & old


def _file(made: Dataset) -> str:
    return f"{made.SeriesInstanceUID}#{made.SOPInstanceUID}.dcm"


def test_another_package_gives_other_uids(given: Source, written: Path, tmp_path: Path) -> None:
    package = PackageIdentity(PACKAGE.name, PACKAGE.version, "ef56" * 16, PACKAGE.recipe_digest)
    made = written_to(Source(given.headers, given.sources, replace(given.outcome, package=package)), tmp_path)
    uids = set().union(*map(_uids, made), *(_uids(dcmread(path)) for path in written.glob("*.dcm")))
    assert len(uids) == 8


def test_the_service_sends_a_corrected_study_as_another_and_the_same_one_not_again(
    given: Source, tmp_path: Path
) -> None:
    """By this it tells: keys and digests of a reading's objects."""
    headers = {"a": _header(given), "again": _header(given), "b": _header(given, PatientID=b"CD")}
    for name, header in headers.items():
        written_to(Source([header], [], READ), tmp_path / name)
    first, again, corrected = (outputs_of(tmp_path / name) for name in headers)
    assert first == again
    assert len(first.keys() | corrected.keys()) == 4


def test_a_corrected_report_goes_on_tracking_what_the_first_one_did(given: Source, tmp_path: Path) -> None:
    corrected = Source([_header(given, PatientID=b"CD")], [], READ)
    first, _ = written_to(Source([_header(given)], [], READ), tmp_path / "a")
    second, _ = written_to(corrected, tmp_path / "b")
    for name in (codes.DCM.TrackingUniqueIdentifier, codes.DCM.DeviceObserverUID):
        tracked = [[item.UID for item in items(report, name, "UIDREF")] for report in (first, second)]
        assert tracked[0] == tracked[1] != []


def test_no_object_goes_out_without_a_name_of_its_own(written: Path) -> None:
    objects = list(written.glob("*.dcm"))
    assert len(objects) == 2
    assert not any(UNNAMED.encode() in path.read_bytes() for path in objects)


def test_a_uid_is_a_version_5_uuid_under_its_root() -> None:
    uid = derived_uid("structured-report", "a")
    assert re.fullmatch(r"2\.25\.(0|[1-9][0-9]*)", uid)
    assert len(uid) <= 44
    assert uuid.UUID(int=int(uid.removeprefix("2.25."))).version == 5


def test_a_uid_stays_what_it_was() -> None:
    """Reports that were sent years ago must be met again: this value may never change."""
    lineage = Lineage(["1.2.3", "1.2.4"], "ab" * 32, "0.5.0")
    assert lineage.uid("structured report") == "2.25.125632095268083128251922567577147644047"


def test_a_uid_tells_inputs_package_program_kind_and_content_apart_but_not_their_order() -> None:
    lineage = Lineage(["1.2", "1.3"], "ab" * 32, "0.5.0")
    uids = [
        lineage.uid("a"),
        lineage.uid("b"),
        lineage.uid("a", "cd" * 32),
        lineage.uid("a", "ef" * 32),
        Lineage(["1.2"], "ab" * 32, "0.5.0").uid("a"),
        Lineage(["1.2", "1.3"], "cd" * 32, "0.5.0").uid("a"),
        Lineage(["1.2", "1.3"], "ab" * 32, "0.5.1").uid("a"),
        Lineage(["1.21", ".3"], "ab" * 32, "0.5.0").uid("a"),
        lineage.device_uid,
    ]
    assert len(set(uids)) == len(uids)
    assert Lineage(["1.3", "1.2", "1.2"], "ab" * 32, "0.5.0").uid("a") == uids[0]
