"""Names for patients, studies and sites that say nothing to whoever lacks the salt.

A pseudonym is the beginning of an HMAC-SHA256 under a secret salt. The same salt gives the same pseudonyms on every
machine and in every run, so that a patient's studies stay together; without the salt nobody can try out patient
numbers until one fits. **Keep the salt as you keep the list of patients**: whoever has it can. Hospitals that number
their patients alike need a salt each, or two patients of one number become one.

What a site can and cannot do. It is made of what a header says of the machine and its place (station, serial number,
institution), since no header names the hospital reliably. So it is one machine in one place: two scanners of a
hospital are two sites, and a station that is renamed, or an institution that is spelt anew, becomes another site even
where the serial number stays. Where de-identification has taken all three away, the site is ``unknown``: all such
studies, whatever their hospital, are then one group.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path

from transforms.scanner import UNKNOWN, clean, is_absent

SALT_BYTES = 32
SHORTEST_SALT_BYTES = 16
DIGITS = 12  # hexadecimal, 48 bits: two of a million patients share one with a probability of 0.2 %
OWNER_ONLY = 0o600


class Pseudonyms:
    """Makes pseudonyms under one salt.

    Args:
        salt: secret; at least 16 bytes.

    Raises:
        ValueError: if the salt is too short.

    Example:
        >>> names = Pseudonyms(bytes(range(32)))
        >>> names.site("MRC35131", "35131", "None") == names.site(" mrc35131", "35131", "")
        True
        >>> names.site("None", "", "1177879318455840")
        'unknown'
    """

    __slots__ = ("_salt",)

    def __init__(self, salt: bytes) -> None:
        self._salt = _checked(bytes(salt), "salt")

    def patient(self, raw: object, study_uid: str = "") -> str:
        """Pseudonym of a patient, ``patient-<12 hex digits>``; the same whatever the case and spaces.

        Args:
            raw: DICOM PatientID.
            study_uid: StudyInstanceUID. A study without a patient's id counts as a patient of its own, since one
                common pseudonym would make one patient of all of them; so would a word such as ``anonymous``.

        Raises:
            ValueError: if neither tells anything.
        """
        if not _says_nothing(raw):
            return self._pseudonym("patient", clean(raw).casefold())
        if _says_nothing(study_uid):
            raise ValueError("a patient's id or a study's UID must be given; got neither; give the study's UID")
        return self._pseudonym("patient", "of study", clean(study_uid))

    def study(self, uid: str) -> str:
        """Pseudonym of a study by its UID, ``study-<12 hex digits>``.

        Raises:
            ValueError: if the UID is empty.
        """
        if _says_nothing(uid):
            raise ValueError("a study's UID must be given; got none; read it from the headers")
        return self._pseudonym("study", clean(uid))

    def site(self, station: object, serial: object, institution: object) -> str:
        """Pseudonym of a machine in its place, ``site-<12 hex digits>``; the same whatever the case and spaces.

        Args:
            station: DICOM StationName.
            serial: DeviceSerialNumber; may be a number.
            institution: InstitutionName.

        Returns:
            ``unknown`` if nothing is left of them without absent words (the text ``None``, say) and without the bare
            numbers that de-identification leaves as station and institution.
        """
        named = [
            "" if _says_nothing(text) or clean(text).isdecimal() else clean(text) for text in (station, institution)
        ]
        parts = (named[0], "" if _says_nothing(serial) else clean(serial), named[1])
        return self._pseudonym("site", *map(str.casefold, parts)) if any(parts) else UNKNOWN

    def _pseudonym(self, kind: str, *parts: str) -> str:
        """The kind is hashed too, so that a text has other digits as a patient than as a study."""
        message = json.dumps([kind, *parts]).encode()
        return f"{kind}-{hmac.new(self._salt, message, hashlib.sha256).hexdigest()[:DIGITS]}"


def read_salt(path: Path | None = None) -> bytes:
    """Read the salt; make it on first use.

    Made as 32 random bytes that only the owner may read. The file appears whole or not at all, and one that is there
    is never overwritten: of several processes that come first at the same time, all return the same salt.

    Args:
        path: the file, bytes as they are; by default ``evenbeat/salt`` in ``$XDG_CONFIG_HOME`` or ``~/.config``.

    Raises:
        ValueError: if the file holds fewer than 16 bytes, or cannot be read or made.
    """
    path = default_salt_path() if path is None else Path(path)
    try:
        if not path.exists():
            _make_salt(path)
        salt = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"the salt for pseudonyms must be a file that can be read or made; {path} gave {type(error).__name__}; "
            "correct its permissions, or name another with --salt-file"
        ) from error
    return _checked(salt, f"the salt in {path}")


def default_salt_path() -> Path:
    """Where the salt lies if nothing else is said. A relative ``XDG_CONFIG_HOME`` is ignored, as its standard asks."""
    configured = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    folder = configured if configured.is_absolute() else Path.home() / ".config"
    return folder / "evenbeat" / "salt"


def _make_salt(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(SALT_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, path)  # unlike a rename, it fails where another process was first
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)


def _checked(salt: bytes, name: str) -> bytes:
    if len(salt) < SHORTEST_SALT_BYTES:
        raise ValueError(
            f"{name} must hold at least {SHORTEST_SALT_BYTES} bytes; it holds {len(salt)}; restore it from a copy "
            "if pseudonyms were made with it, else delete it: a new one is made"
        )
    return salt


def _says_nothing(raw: object) -> bool:
    """Absent, or nothing but zeros and signs, as some scanners and anonymisers fill a field."""
    return is_absent(raw) or not any(letter.isalnum() and letter != "0" for letter in clean(raw))
