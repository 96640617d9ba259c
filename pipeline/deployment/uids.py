"""UIDs of the objects that a reading makes.

The same study, package and program give the same ones, so that a retry is harmless. A study whose patient or pixels
were corrected, another package, another program give others, so that no archive meets two contents under one UID: it
would keep the first, under the wrong patient.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

UUID_ROOT = "2.25."  # DICOM PS3.5 B.2: a UUID as one decimal number under this root
NAMESPACE = uuid.UUID("6f0f2c1e-6f0a-5d38-9d4b-8c1c5d6a2f77")  # ours; never change it
UNNAMED = f"{UUID_ROOT}0"  # in place of an object's own UIDs until all else is in it
MANUFACTURER = "Evenbeat"  # of the objects; by it they are known again where they come back with their study


def derived_uid(*parts: str) -> str:
    """UID that is a function of texts.

    Args:
        parts: in their order; where one ends and the next begins counts.

    Returns:
        ``2.25.`` and a version-5 UUID as a number, at most 44 characters.

    Example:
        >>> derived_uid("a", "b") == derived_uid("a", "b") != derived_uid("ab")
        True

    Source: DICOM PS3.5, annex B.2; RFC 9562, section 5.5.
    """
    name = "".join(f"{len(part)}:{part}" for part in parts)
    return f"{UUID_ROOT}{uuid.uuid5(NAMESPACE, name).int}"


@dataclass(frozen=True)
class Lineage:
    """What a reading's objects are made of, and by whom.

    Attributes:
        sop_uids: SOPInstanceUIDs of the images that were read; their order does not matter.
        package_digest: SHA-256 of the student package.
        software: version of this program, which words and lays out the objects.
    """

    sop_uids: Iterable[str]
    package_digest: str
    software: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "sop_uids", tuple(sorted(set(self.sop_uids))))

    def uid(self, kind: str, *content: str) -> str:
        """UID of one kind of output.

        Args:
            kind: e.g. ``structured-report`` or ``series of structured-report``.
            *content: digest of all that is in the object; none for what a corrected report goes on tracking.
        """
        return derived_uid(kind, self.package_digest, self.software, *self.sop_uids, *content)

    @property
    def device_uid(self) -> str:
        """UID of the student as an observer: the same for all studies."""
        return derived_uid("device observer", self.package_digest, self.software)
