"""Pseudonyms: stable under one salt, unlike under another, and nothing of the original in them."""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from pipeline.cohort.pseudonym import Pseudonyms, default_salt_path, read_salt

SALT, OTHER = bytes(range(32)), bytes(range(1, 33))
NAMES = Pseudonyms(SALT)


def test_a_pseudonym_is_the_beginning_of_an_hmac() -> None:
    """A plain hash of a patient's number could be tried out; without the salt an HMAC cannot. Any tool can redo it."""
    digest = hmac.new(SALT, json.dumps(["patient", "pat-007"]).encode(), hashlib.sha256).hexdigest()
    assert NAMES.patient("PAT-007") == f"patient-{digest[:12]}"


def test_pseudonyms_are_stable_under_one_salt_and_unlike_under_another() -> None:
    """A patient's studies stay together from run to run; two hospitals' lists cannot be joined."""
    for make in (
        lambda names: names.patient("PAT-007"),
        lambda names: names.study("1.2.3.4"),
        lambda names: names.site("MRC35131", "35131", "USC"),
    ):
        assert make(NAMES) == make(Pseudonyms(bytes(range(32))))
        assert make(NAMES) != make(Pseudonyms(OTHER))


def test_nothing_of_the_original_is_in_a_pseudonym() -> None:
    """Nor of the salt, in what is printed."""
    raw = ("CANARY-4711", "1.2.840.4711.99", "STATION4711", "SERIAL4711", "Hospital of Canary")
    made = [NAMES.patient(raw[0]), NAMES.patient("", raw[1]), NAMES.study(raw[1]), NAMES.site(*raw[2:])]
    assert [re.fullmatch(r"(patient|study|site)-[0-9a-f]{12}", name) is not None for name in made] == [True] * 4
    printed = " ".join([*made, repr(NAMES)]).lower()
    assert [text for text in (*raw, "4711", "canary", SALT.hex()) if text.lower() in printed] == []


def test_patient_study_and_site_of_one_text_have_unlike_digits() -> None:
    """Else a site's name would tell a patient's number that is the same."""
    text = "4711A"
    made = [NAMES.patient(text), NAMES.patient("", text), NAMES.study(text), NAMES.site(text, "", "")]
    assert len({name.split("-")[1] for name in made}) == 4


@pytest.mark.parametrize("raw", ["", None, "   ", "None", "ANONYMOUS", "0", "0000000", "n/a", "-"])
def test_patients_without_an_id_are_not_merged(raw: str | None) -> None:
    """One pseudonym for all would put a cohort of nameless studies into one section, as one patient."""
    first, second = NAMES.patient(raw, "1.2.3"), NAMES.patient(raw, "1.2.4")
    assert first != second
    assert first == NAMES.patient(None, "1.2.3")
    with pytest.raises(ValueError, match="id or a study's UID must be given"):
        NAMES.patient(raw)


def test_a_patient_with_an_id_is_one_patient_over_all_studies() -> None:
    """Whatever the case and padding; the study then plays no part."""
    assert {NAMES.patient(raw, uid) for raw, uid in (("ab 12", "1.2"), ("AB 12\0", "1.3"), (" AB  12 ", ""))} == {
        NAMES.patient("AB 12")
    }
    assert NAMES.patient("AB12") != NAMES.patient("AB 12")


def test_a_study_needs_its_uid() -> None:
    """All studies without one would be one."""
    with pytest.raises(ValueError, match="UID must be given"):
        NAMES.study(" ")
    assert NAMES.study("1.2.3 ") == NAMES.study("1.2.3")


def test_a_site_ignores_case_spaces_and_words_that_say_nothing() -> None:
    """Headers of one scanner differ so between its studies."""
    site = NAMES.site("MRC35131", "35131", "USC Hospital")
    assert site == NAMES.site("mrc35131 ", " 35131", "USC  HOSPITAL")
    assert NAMES.site("None", "35131", "") == NAMES.site(None, "35131", "unknown") == NAMES.site("", "35131", None)


def test_a_site_ignores_the_numbers_of_deidentification_but_not_a_serial_number() -> None:
    """They stand as institution and station, and may differ between files of one scanner."""
    serial = "3282424594434339"
    assert NAMES.site("1164948383980763", serial, "1177879318455840") == NAMES.site("", serial, "")
    assert NAMES.site("1164948383980763", "", "1177879318455840") == "unknown"
    assert NAMES.site("", "9143", "") != NAMES.site("", "9144", "")


@pytest.mark.parametrize("nothing", [("", "", ""), (None, None, None), ("None", "0000", "n.a."), ("ANON", "-", "17")])
def test_a_site_of_which_nothing_is_known_is_unknown(nothing: tuple[str | None, ...]) -> None:
    """An explicit group, not one hash that looks like a hospital."""
    assert NAMES.site(*nothing) == "unknown"


def test_a_text_counts_where_it_stands() -> None:
    """A station called A is not an institution called A, nor do two parts run together."""
    made = {NAMES.site("A", "", ""), NAMES.site("", "A", ""), NAMES.site("", "", "A")}
    made |= {NAMES.site("AB", "C", ""), NAMES.site("A", "BC", "")}
    assert len(made) == 5


def test_a_renamed_station_is_another_site() -> None:
    """What the documentation says it cannot do: nothing in a header would tell that the machine is the same."""
    assert NAMES.site("MR1", "9143", "St Elsewhere") != NAMES.site("MR2", "9143", "St Elsewhere")


def test_the_salt_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    """32 random bytes; read, not made anew, the next time; nothing else is left in the folder."""
    path = tmp_path / "deep" / "salt"
    salt = read_salt(path)
    assert len(salt) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_salt(path) == salt == path.read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == ["salt"]
    assert read_salt(tmp_path / "other") != salt


def test_a_wide_umask_does_not_open_the_salt(tmp_path: Path) -> None:
    """Nor is there a moment at which others could read it: it is made closed."""
    before = os.umask(0)
    try:
        read_salt(tmp_path / "salt")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "salt").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"short", bytes(15)])
def test_a_salt_that_is_too_short_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    """An empty one would make pseudonyms that anybody can try out; it may be what is left of a full disk."""
    path = tmp_path / "salt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"must hold at least 16 bytes; it holds {len(content)}; restore it"):
        read_salt(path)
    assert path.read_bytes() == content
    with pytest.raises(ValueError, match="salt must hold at least 16 bytes"):
        Pseudonyms(content)


def test_a_salt_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    """Copied from another machine, byte for byte."""
    path = tmp_path / "salt"
    path.write_bytes(b"sixteen bytes it\n")
    assert read_salt(path) == b"sixteen bytes it\n"


def test_a_salt_that_cannot_be_read_or_made_is_named(tmp_path: Path) -> None:
    """With the path and what to do."""
    with pytest.raises(ValueError, match=r"must be a file that can be read or made; .* gave IsADirectoryError"):
        read_salt(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="name another with --salt-file"):
        read_salt(tmp_path / "file" / "salt")


def test_the_default_salt_lies_in_the_users_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CONFIG_HOME where it is set and absolute, else ~/.config."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    salt = read_salt()
    assert (tmp_path / "configuration" / "evenbeat" / "salt").read_bytes() == salt
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert default_salt_path() == tmp_path / ".config" / "evenbeat" / "salt"


def test_processes_that_come_first_at_once_share_one_salt(tmp_path: Path) -> None:
    """Else the pseudonyms of a first, parallel import would not fit together."""
    path, start = tmp_path / "salt", tmp_path / "start"
    code = (
        "import sys, time, pathlib; from pipeline.cohort.pseudonym import read_salt; print(flush=True)\n"
        "while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.0005)\n"
        "print(read_salt(pathlib.Path(sys.argv[1])).hex())"
    )
    command = [sys.executable, "-c", code, str(path), str(start)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    start.touch()
    salts = {process.communicate()[0].strip() for process in processes}
    assert salts == {path.read_bytes().hex()}
    assert {entry.name for entry in tmp_path.iterdir()} == {"salt", "start"}


def test_a_salt_that_another_process_makes_meanwhile_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race, forced: the file appears after it was found missing."""
    path = tmp_path / "salt"
    path.write_bytes(SALT)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert read_salt(path) == SALT
    assert [entry.name for entry in tmp_path.iterdir()] == ["salt"]


@pytest.mark.real_data
def test_real_headers_give_a_site_for_each_machine(real_data: Path) -> None:
    """Known by its serial number in the manifest: 13 machines, de-identified ones among them."""
    with (real_data / "mr_headers" / "manifest.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    sites = {(row["serial"], NAMES.site(row["station"], row["serial"], row["institution"])) for row in rows}
    assert len(sites) == len({serial for serial, _ in sites}) == len({site for _, site in sites}) == 13
    assert "unknown" not in {site for _, site in sites}


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_real_cine_studies_of_one_machine_have_one_site(real_data: Path) -> None:
    """Institution and station are the word None there; the hashed serial number is all that is left."""
    studies = sorted((real_data / "sunnybrook" / "dicoms").iterdir())
    headers = [pydicom.dcmread(sorted(study.rglob("*.dcm"))[0], stop_before_pixels=True) for study in studies]
    sites = {
        NAMES.site(header.get("StationName"), header.get("DeviceSerialNumber"), header.get("InstitutionName"))
        for header in headers
    }
    assert sites == {NAMES.site("", "48OwLe2NUfWk", "")}
