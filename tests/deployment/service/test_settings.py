"""Settings are what the file says, or the service does not start and says why."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_type_hints

import pytest

from pipeline.deployment.service.settings import Destination, Settings, SettingsError
from pipeline.deployment.service.settings_file import read_settings

EXAMPLE = Path(__file__).parents[3] / "docker" / "evenbeat.example.toml"
LEAST = 'state = "/s"\n[dicom]\ncalling_ae_titles = ["PACS"]\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "evenbeat.toml"
    path.write_text(text)
    return path


def test_the_example_explains_every_key_and_calls_defaults_what_they_are(tmp_path: Path) -> None:
    """A key whose comment says "default" has the value that it would have without it."""
    found, least = read_settings(EXAMPLE), read_settings(written(tmp_path, LEAST))
    text = EXAMPLE.read_text()
    section = ""
    said_default = 0
    for line in text.splitlines():
        if line.startswith("["):
            section = line.split("]")[0].strip("[")
        key, _, comment = (part.strip() for part in line.lstrip("# ").partition("="))
        if "(default" in comment and section != "destination":
            table = getattr(least, section)
            assert getattr(table, key) == getattr(getattr(found, section), key), key
            said_default += 1
    assert said_default > 15
    for name, kind in get_type_hints(Settings).items():
        keys = [entry.name for entry in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        keys += [entry.name for entry in dataclasses.fields(Destination)] if name == "destination" else []
        assert name in text
        for key in keys:
            assert f"{key} = " in text, f"{name}.{key}"


def test_the_least_that_can_be_said_is_the_folder_and_who_may_send(tmp_path: Path) -> None:
    found = read_settings(written(tmp_path, LEAST))
    assert (found.state, found.dicom.ae_title, found.reading.quiet_s, found.destination) == (
        Path("/s"), "EVENBEAT", 60, (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LEAST + "[reading]\nquiet_sec = 3\n", "reading.quiet_sec is no setting; did you mean reading.quiet_s?"),
        ("[dicom]\nallow_any = true\n", "state must be given"),
        ('state = "/s"\n', "dicom.calling_ae_titles must name at least one sender"),
        ('state = "/s"\n[dicom]\ncalling_ae_titles = []\n', "or set dicom.allow_any = true"),
        (LEAST + "port = 70000\n", "dicom.port must be from 0 to 65535; got 70000"),
        (LEAST + 'port = "104"\n', "dicom.port must be a whole number; got '104'"),
        (LEAST + "port = true\n", "dicom.port must be a whole number; got True"),
        (LEAST + "timeout_s = nan\n", "dicom.timeout_s must be from 1 to 3600; got nan"),
        (LEAST.replace('["PACS"]', '"PACS"'), "dicom.calling_ae_titles must be a list of texts"),
        (LEAST.replace("PACS", "A\\\\B"), "printable ASCII characters without backslash"),
        (LEAST.replace("PACS", "SEVENTEEN_LETTERS"), "1 to 16 printable"),
        (LEAST + "[tls]\ncertificate = '/nowhere'\n", "must be given together"),
        (LEAST + "[tls]\nauthority = '/nowhere'\n", "got /nowhere"),
        (LEAST + f"[tls]\nauthority = '{EXAMPLE}'\n", "with which nobody would be checked"),
        (
            LEAST + f"[tls]\nauthority = '{EXAMPLE}'\n[[destination]]\nname = 'a'\nhost = 'h'\nae_title = 'A'\n",
            "destination.tls must be said where [tls] is set; a has none",
        ),
        (LEAST + "[destination]\nname = 'a'\n", "write [[destination]]"),
        (LEAST + "[[destination]]\nname = 'a b'\nhost = 'h'\nae_title = 'A'\n", "letters, digits"),
        (LEAST + "[[destination]]\nname = 'a'\nhost = 'h'\nae_title = 'A'\n" * 2, "must differ"),
        (LEAST + "[retention]\nresults_hours = 1\n[[destination]]\nname = 'a'\nhost = 'h'\nae_title = 'A'\n", "72"),
        (LEAST + "limits = 3\n", "limits is no setting"),
        ("limits = 3\n" + LEAST, "limits must be a table"),
        ("state = ", "must be TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings(written(tmp_path, text))
    assert message in str(refused.value)


def test_anybody_may_send_only_where_that_is_said(tmp_path: Path) -> None:
    assert read_settings(written(tmp_path, 'state = "/s"\n[dicom]\nallow_any = true\n')).dicom.allow_any


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"example\.toml"):
        read_settings(tmp_path / "none.toml")


def test_an_authority_alone_serves_destinations_with_tls(tmp_path: Path) -> None:
    text = f"[tls]\nauthority = '{EXAMPLE}'\n[[destination]]\nname = 'a'\nhost = 'h'\nae_title = 'A'\ntls = true\n"
    assert read_settings(written(tmp_path, LEAST + text)).destination[0].tls
