"""Why a study, or a series of it, is not read: one list of codes, each with a sentence and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Reasons, for importers and for the hospital's image alike. The code is stable; sentences may be reworded.

    Attributes:
        sentence: what is the matter.
        remedy: what can be done about it.
    """

    sentence: str
    remedy: str

    def __new__(cls, value: str, sentence: str, remedy: str) -> Code:
        """Make a member that is its own name, with sentence and remedy beside it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence, member.remedy = sentence, remedy
        return member

    # What is wrong with the files
    NOT_DICOM = ("NOT_DICOM", "There is no DICOM file.", "Export the files as they come from the scanner or the PACS.")
    NOT_MR = ("NOT_MR", "The images are not magnetic resonance images.", "Export the cardiac MR study.")
    NOT_AN_IMAGE = ("NOT_AN_IMAGE", "The objects hold no image.", "Nothing to do: reports and the like are left out.")
    SEVERAL_STUDIES = ("SEVERAL_STUDIES", "The files are of several studies.", "Export one study at a time.")
    SEVERAL_PATIENTS = (
        "SEVERAL_PATIENTS",
        "The images of the study name several patients.",
        "Correct the patient in all of them, and send the whole study again.",
    )
    UNREADABLE_FILE = ("UNREADABLE_FILE", "A file's header cannot be read.", "Export the file again.")
    TRUNCATED_FILE = ("TRUNCATED_FILE", "A file ends before its pixels do.", "Export the study again.")
    UNSUPPORTED_TRANSFER_SYNTAX = (
        "UNSUPPORTED_TRANSFER_SYNTAX",
        "The images are compressed in a way that cannot be decoded.",
        "Export them uncompressed, or as JPEG lossless, JPEG-LS, JPEG 2000 or RLE.",
    )
    UNREADABLE_PIXELS = ("UNREADABLE_PIXELS", "The pixels of an image cannot be decoded.", "Export the study again.")
    TOO_LARGE = (
        "TOO_LARGE",
        "The cine has more pixels than may be held in memory.",
        "Export it with the matrix that was acquired, not with an enlarged one.",
    )
    SCANNER_FACTS = (
        "SCANNER_FACTS",
        "The scanner facts beside a NIfTI image cannot be used.",
        "Give a JSON object with manufacturer, model and field_strength, or no such file.",
    )

    # What is wrong with the study
    NO_CINE = ("NO_CINE", "No series shows a heartbeat over time.", "Export the study with its cine series.")
    NOT_SHORT_AXIS = (
        "NOT_SHORT_AXIS",
        "No stack of slices lies across the heart's long axis.",
        "Export the study with its short-axis cine stack.",
    )
    TOO_FEW_SLICES = ("TOO_FEW_SLICES", "The stack has too few slices.", "Export the whole short-axis stack.")
    TOO_FEW_PHASES = ("TOO_FEW_PHASES", "The cine has too few phases.", "Export all phases of the heart cycle.")
    MISSING_PHASE = ("MISSING_PHASE", "A slice lacks phases that others have.", "Export the study again, whole.")
    MISSING_SLICE = ("MISSING_SLICE", "The stack has a gap where a slice should be.", "Export the study again, whole.")
    DUPLICATE_POSITION = (
        "DUPLICATE_POSITION",
        "Several images claim the same slice and phase.",
        "Export one acquisition of each slice.",
    )
    MIXED_GEOMETRY = (
        "MIXED_GEOMETRY",
        "The slices of the stack do not fit together.",
        "Export the slices of one stack: parallel, of one matrix and pixel spacing.",
    )
    NO_GEOMETRY = (
        "NO_GEOMETRY",
        "Position, orientation or pixel spacing of the images is missing.",
        "Export the images with their geometry; de-identification must keep it.",
    )
    NO_TIMES = (
        "NO_TIMES",
        "Nothing in the headers tells the order of the phases.",
        "Export the images with trigger times or instance numbers.",
    )
    CONTRADICTORY_HEADERS = (
        "CONTRADICTORY_HEADERS",
        "Headers contradict each other on where or when an image belongs.",
        "Export the images as they left the scanner.",
    )
    SEVERAL_CINES = (
        "SEVERAL_CINES",
        "Several short-axis cines fit equally well.",
        "Export the one that is to be read.",
    )
    NOTHING_MOVES = ("NOTHING_MOVES", "Nothing moves in the cine.", "Check that the phases differ; export them again.")
    NO_CONTRAST = ("NO_CONTRAST", "The images are blank around the heart.", "Look at the images; export them again.")

    # What a series is, where it is not the cine that is sought
    LONG_AXIS = ("LONG_AXIS", "A cine along the heart's long axis.", "Nothing to do: it is left out.")
    LOCALISER = ("LOCALISER", "A localiser.", "Nothing to do: it is left out.")
    LATE_ENHANCEMENT = (
        "LATE_ENHANCEMENT",
        "Inversion-prepared stills, such as late enhancement.",
        "Nothing to do: it is left out.",
    )
    MAP = ("MAP", "A map, or the images that it is made of.", "Nothing to do: it is left out.")
    PERFUSION = ("PERFUSION", "Perfusion: many heartbeats, not one.", "Nothing to do: it is left out.")
    FLOW = ("FLOW", "Flow: phase or velocity images.", "Nothing to do: it is left out.")
    TAGGING = ("TAGGING", "Tagged images.", "Nothing to do: it is left out.")
    DERIVED = ("DERIVED", "Images that were computed from others.", "Nothing to do: the originals are read.")
    STILL = ("STILL", "Stills: too few images at each place to be a cine.", "Nothing to do: it is left out.")
    REPEATED = ("REPEATED", "An acquisition that was made again later.", "Nothing to do: the later one is read.")


@dataclass(frozen=True)
class LeftOut:
    """Images of a study that are not read.

    Attributes:
        series: ``series 3``, counted in the order of a study's series; never a text of the header.
        images: how many.
        code: why.
        detail: figures that belong to it; never a text of the header.
    """

    series: str
    images: int
    code: Code
    detail: str = ""


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not a fault
    """A study that is not read, with its reason.

    Args:
        code: the reason.
        detail: figures that belong to it, e.g. ``slice 4 of 12 has 19 phases, others 20``; never patient data.
        left_out: what else was in the study.
    """

    def __init__(self, code: Code, detail: str = "", left_out: Sequence[LeftOut] = ()) -> None:
        self.code, self.detail, self.left_out = code, detail, tuple(left_out)
        super().__init__(f"{code.value}: {self.sentence} {code.remedy}")

    @property
    def sentence(self) -> str:
        """What is the matter, with the figures that belong to it."""
        detail = self.detail.rstrip(".")
        return f"{self.code.sentence} {detail[:1].upper()}{detail[1:]}." if detail else self.code.sentence
