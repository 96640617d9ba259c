"""What may be stored: every class of object, in the transfer syntaxes that can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pynetdicom import AllStoragePresentationContexts, build_context, register_uid
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from pipeline.deployment.service.identity import UID
from pipeline.dicom.decoding import decoder_of
from pipeline.dicom.header import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

VERIFICATION = "1.2.840.10008.1.1"
STANDARD = "1.2.840.10008."
PLAIN = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG)
SYNTAXES = (*PLAIN, *(uid for uid in map(str, ALL_TRANSFER_SYNTAXES) if uid not in PLAIN and decoder_of(uid)))
MOST_PRIVATE_CLASSES = 256  # that are learnt; a peer could name any number

_private: set[str] = set()


def supported_contexts() -> list[PresentationContext]:
    """Verification and all storage classes of the standard."""
    storage = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    return [build_context(VERIFICATION), *(build_context(uid, list(SYNTAXES)) for uid in storage)]


def offer_private(association: Association) -> None:
    """Take private classes that a peer proposes, before its proposal is answered.

    A study may hold raw data or protocols of its vendor. They are kept like others, and left out by the reader.

    Args:
        association: requested, not yet accepted.
    """
    proposal = association.requestor.primitive
    if proposal is None:
        return
    supported = association.acceptor.supported_contexts
    known = {str(context.abstract_syntax) for context in supported}
    for context in proposal.presentation_context_definition_list:
        uid = str(context.abstract_syntax)
        if uid not in known and _may_be_stored(uid):
            supported.append(build_context(uid, list(SYNTAXES)))
    association.acceptor.supported_contexts = supported


def _may_be_stored(uid: str) -> bool:
    if uid_to_service_class(uid) is StorageServiceClass:
        return True
    if uid.startswith(STANDARD) or not UID.fullmatch(uid) or len(_private) >= MOST_PRIVATE_CLASSES:
        return False
    register_uid(uid, "Private_" + uid.replace(".", "_"), StorageServiceClass)
    _private.add(uid)
    return True
