"""The conformance statement says of objects and associations what they are: its tables are read, and held to both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.datadict import dictionary_description, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from pipeline import __version__
from pipeline.deployment.service.receiver import STATUSES
from pipeline.deployment.service.settings import Delivery, Destination, Dicom
from pipeline.deployment.source_headers import copy_patient_and_study, newest_moment
from tests.deployment.readings import PACKAGE, Source, source, stripped, written_to
from tests.deployment.service.support import node
from tests.deployment.service.test_sender import Desk

TEXT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()
UID_FORM = r"1\.2\.840\.10008\.[0-9.]*[0-9]"
WHOSE = {  # of every element that may be copied
    "SpecificCharacterSet": "ISO_IR 192", "StudyDate": "20260102", "StudyTime": "101112", "AccessionNumber": "A7",
    "ReferringPhysicianName": "Haus^Greta", "TimezoneOffsetFromUTC": "+0100", "StudyDescription": "heart",
    "PatientName": "Müller^Zoë", "PatientID": "P1", "IssuerOfPatientID": "here", "PatientBirthDate": "19700101",
    "PatientSex": "F", "PatientIdentityRemoved": "YES", "DeidentificationMethod": "ours", "StudyID": "7",
}  # fmt: skip
Row = list[str]


def table(head: str) -> list[Row]:
    """Rows of the table whose first line begins so; each a list of its cells."""
    lines = iter(TEXT[TEXT.index(f"\n| {head}") + 1 :].splitlines()[2:])
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def tag_of(row: Row) -> int:
    """Tag of a row, whose name must be the standard's."""
    group, element = re.fullmatch(r"\(([0-9A-F]{4}),([0-9A-F]{4})\)", row[1]).groups()  # type: ignore[union-attr]
    tag = int(group + element, 16)
    assert dictionary_description(tag).replace("\u2019", "'") == row[0]
    return tag


def element_of(made: Dataset, tag: int) -> DataElement | None:
    """Of the object or of its file's own header."""
    return (made.file_meta if tag >> 16 == 2 else made).get(tag)


def values(element: DataElement) -> list[str]:
    """What an element says; of a sequence, what its first item does."""
    return [str(one.value) for one in element.value[0]] if element.VR == "SQ" else [str(element.value)]


COPIED, MADE = table("element | tag | where the images"), table("element | tag | Comprehensive")


@pytest.fixture(scope="module")
def whole() -> Source:
    """Headers that have all that may be copied."""
    return source(**WHOSE)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def both(whole: Source, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    """The report and the picture."""
    return written_to(whole, tmp_path_factory.mktemp("results"))


@pytest.mark.parametrize("row", MADE, ids=[row[0] for row in MADE])
def test_each_object_has_the_elements_that_are_stated_with_their_values(
    row: Row, whole: Source, both: tuple[Dataset, Dataset]
) -> None:
    moment = dict(zip(("Date", "Time"), newest_moment(whole.headers), strict=True))
    meanings = {
        "of the newest image": next((moment[word] for word in moment if word in row[0]), ""),
        "name of the package": PACKAGE.name,
        "digest of the package": PACKAGE.digest,
        "version of Evenbeat": __version__,
        "every image that was read": str(whole.headers[0].StudyInstanceUID),
    }
    for made, stated in zip(both, row[2:], strict=True):
        element = element_of(made, tag_of(row))
        if not stated:
            assert element is None
            continue
        literal = re.match(r"`([^`]+)`", stated)
        assert element is not None
        assert (literal[1] if literal else meanings[stated]) in values(element)


@pytest.mark.parametrize("row", COPIED, ids=[row[0] for row in COPIED])
def test_what_is_stated_to_be_copied_is_and_where_the_images_have_none_it_is_as_stated(
    row: Row, whole: Source, both: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    tag = tag_of(row)
    for made in both:
        assert made[tag].value == whole.headers[0][tag].value
    bare = Source([stripped(header) for header in whole.headers], whole.sources, whole.outcome)
    if row[2] == "no object is made":
        del bare.headers[0][tag]
        with pytest.raises(ValueError, match="StudyInstanceUID, got none"):
            written_to(bare, tmp_path)
        return
    for made in written_to(bare, tmp_path):
        element = made.get(tag)
        assert (element is not None) == (row[2] == "empty")
        assert element is None or element.is_empty


def test_the_table_of_what_is_copied_is_complete(both: tuple[Dataset, Dataset]) -> None:
    stated = {keyword_for_tag(tag_of(row)) for row in COPIED}
    assert stated == {*WHOSE, "StudyInstanceUID"}
    (words,) = re.findall(r"`(As the source images)`", TEXT)
    header = source(PatientIdentityRemoved="YES").headers[0]
    made = Dataset()
    copy_patient_and_study(header, made)
    assert made.DeidentificationMethod == words


def test_the_node_takes_the_transfer_syntaxes_that_are_stated_for_what_it_reads_and_no_other(tmp_path: Path) -> None:
    read = re.findall(rf"Storage\s\(({UID_FORM})\)", TEXT)
    assert [UID(uid).name for uid in read] == [
        "MR Image Storage", "Enhanced MR Image Storage", "Legacy Converted Enhanced MR Image Storage",
    ]  # fmt: skip
    stated = set()
    for row in table("transfer syntax | UID"):
        first, *others = row[1].split(", ")
        stated |= {first, *(first.rpartition(".")[0] + other for other in others)}
    others = {str(uid) for uid in AllTransferSyntaxes if not uid.is_private} - stated
    proposed = [(uid, syntax) for uid in read for syntax in sorted(stated)] + [(read[0], one) for one in sorted(others)]
    ae = AE("SENDER")
    with node(tmp_path) as found:
        contexts = [build_context(*pair) for pair in proposed]
        association = ae.associate("127.0.0.1", found.port, contexts=contexts, ae_title="EVENBEAT")
        assert association.is_established
        accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts}
        peer = association.acceptor
        (pdu,) = re.findall(r"([0-9]+) bytes asked for \(`max_pdu`\)", TEXT)
        assert (str(peer.maximum_length), peer.implementation_class_uid) == (pdu, _cell("implementation", 1))
        association.release()
    assert accepted == {(uid, syntax) for uid in read for syntax in stated}


def test_results_go_out_as_the_classes_and_in_the_syntaxes_that_are_stated(whole: Source, tmp_path: Path) -> None:
    proposed: dict[str, list[str]] = {}
    peers = []

    def on_requested(event: evt.Event) -> None:
        peers.append(event.assoc.requestor)
        for context in event.assoc.requestor.requested_contexts:
            proposed[str(context.abstract_syntax)] = [UID(uid).name for uid in context.transfer_syntax]

    written_to(whole, tmp_path / "out")
    paths = sorted((tmp_path / "out").glob("*.dcm"))
    ae = AE("PACS")
    for path in paths:
        ae.add_supported_context(dcmread(path, specific_tags=["SOPClassUID"]).SOPClassUID)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_REQUESTED, on_requested), (evt.EVT_C_STORE, lambda _: 0)]
    )
    try:
        desk = Desk(tmp_path, [Destination("pacs", "127.0.0.1", "PACS", server.server_address[1])])
        desk.senders[0]._send(paths)
    finally:
        server.shutdown()
    rows = table("SOP class | UID | transfer syntaxes")
    ending = " VR Little Endian"
    stated = {uid: [word + ending for word in syntaxes.removesuffix(ending).split(", ")] for _, uid, syntaxes in rows}
    assert proposed == stated
    assert [UID(uid).name for _, uid, _ in rows] == [name for name, _, _ in rows]
    assert f"{peers[0].maximum_length} bytes" in _cell("longest PDU", 2)
    assert peers[0].implementation_class_uid == _cell("implementation", 1)


def test_titles_ports_times_and_statuses_are_those_of_the_settings() -> None:
    dicom, delivery = Dicom(calling_ae_titles=("A",)), Delivery()
    assert _cell("associations", 1).startswith(f"{dicom.max_associations} at a time")
    assert _cell("time limits", 1).startswith(f"{dicom.timeout_s:g} s ")
    assert _cell("time limits", 2).startswith(f"{delivery.timeout_s:g} s ")
    assert f"One, titled `{dicom.ae_title}` unless" in TEXT
    assert f"port {dicom.port} unless" in TEXT
    retries = (
        f"after {delivery.first_retry_s:g} s, then twice as long each time up to {delivery.longest_retry_s / 60:g} min"
    )
    assert f"{retries}, for {delivery.give_up_hours:g} h" in " ".join(TEXT.split())
    assert {row[0] for row in table("status | meaning")} == {"0x0000", *(f"0x{one:04X}" for one in STATUSES.values())}


def _cell(row: str, column: int) -> str:
    """Of the table of the application entity."""
    (found,) = (cells for cells in table("| as acceptor") if cells[0].startswith(row))
    return found[column].partition(", of ")[0]
