"""Who built the scanner, how strong its field is, where it stands: spelt in one way, "unknown" where not known."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

UNKNOWN = "unknown"
VENDORS: tuple[str, ...] = ("Siemens", "Philips", "GE", "Canon", "UIH", "Hitachi", "Fujifilm", UNKNOWN)

# How a manufacturer's name begins. "GE" must end there: "Generic" is not General Electric.
VENDOR_BEGINNINGS: tuple[tuple[str, str], ...] = (
    (r"siemens", "Siemens"),
    (r"philips", "Philips"),
    (r"ge(?:ms|hc)?(?![a-z])|ge(?:medical|healthcare)|general electric|g\. ?e\.", "GE"),
    (r"canon|toshiba", "Canon"),
    (r"uih|united imaging|shanghai united imaging", "UIH"),
    (r"hitachi", "Hitachi"),
    (r"fuji", "Fujifilm"),
)
ABSENT_WORDS = frozenset(
    {"", "-", "--", "?", "none", "<none>", "n.a.", "n.a", "n/a", "na", "nan", "null", "nil", "no value", UNKNOWN}
    | {"not available", "not specified", "unspecified", "undefined", "removed", "redacted", "anon", "anonymous"}
    | {"anonymized", "anonymised", "de-identified", "deidentified", "pseudonymized", "pseudonymised"}
)
PSEUDONYM_DIGITS = 6  # so many, and nothing else: a number that de-identification put there, not a name

NOMINAL_FIELDS_T: tuple[float, ...] = (0.55, 1.0, 1.5, 3.0, 7.0)
NOMINAL_TOLERANCE = 0.05  # relative: a "3 T" magnet may report 2.894
WEAKEST_FIELD_T, STRONGEST_FIELD_T = 0.05, 20.0
GAUSS_PER_TESLA = 10_000.0
TESLA_PER_UNIT = {"t": 1.0, "tesla": 1.0, "mt": 1e-3, "g": 1 / GAUSS_PER_TESLA, "gauss": 1 / GAUSS_PER_TESLA}

# What a model's text may say before the model: the vendor again, or the family that all its scanners share.
MODEL_BEGINNINGS: dict[str, str] = {
    "Siemens": r"siemens(?: healthineers| healthcare)?(?: gmbh)?|magnetom",
    "Philips": r"philips(?: medical systems| healthcare)?",
    "GE": r"ge(?: medical systems| healthcare)?|gehc|gems|general electric",
    "Canon": r"(?:toshiba|canon)(?: mec| medical systems)?|vantage(?= )",
    "UIH": r"uih|united imaging(?: healthcare)?",
    "Hitachi": r"hitachi",
    "Fujifilm": r"fujifilm(?: healthcare)?|hitachi",
}
# Words of models as headers mostly spell them; tables write AVANTO, Signa Excite, Avanto Fit for Avanto_fit.
MODEL_WORDS: dict[str, str] = {
    word.lower(): word
    for word in (
        *("SIGNA", "GENESIS", "EXCITE", "HDx", "HDxt", "HDe", "DISCOVERY", "Optima", "Architect", "Artist"),
        *("Explorer", "Pioneer", "Premier", "Voyager", "Creator", "Hero"),
        *("Avanto", "Aera", "Altea", "Amira", "Biograph", "mMR", "Cima.X", "Espree", "Essenza", "Fit", "Free.Max"),
        *("Harmony", "Lumina", "Prisma", "Skyra", "Sola", "Sonata", "Spectra", "Symphony", "SymphonyTim"),
        *("Terra", "Terra.X", "Trio", "TrioTim", "Verio", "Vida", "Tim", "Sempra", "Allegra", "Vision"),
        *("Achieva", "Ambition", "dStream", "Elition", "Gyroscan", "Ingenia", "Ingenuity", "Intera", "Multiva"),
        *("Galan", "Titan", "Orian", "Elan", "Fortian", "Vantage", "uMR", "Omega", "Jupiter"),
    )
}

# A release: at most two letters and a whole number, as DV26(.0), XA20, V5(.0SP6000), R002; one more letter may follow.
_RELEASE = re.compile(r"([a-z]{0,2})[ _]?0*(\d{1,4})(?=[a-z]?(?:sp\d+)?(?![a-z0-9]))")
_ANNOUNCED = re.compile(r"^.*(?:syngo[ _]*mr|software release|numaris/\d)[ _:]*")


@dataclass(frozen=True)
class Scanner:
    """The scanner of one study.

    Attributes:
        vendor: one of ``VENDORS``.
        model: e.g. ``Avanto``; empty if not known.
        field_strength_t: nominal field [T]; ``None`` if not known.
        site: the hospital, or ``unknown``.
        vendor_raw: the manufacturer as the source spelt it.
        software: major release of its software, e.g. ``XA20``; empty if not known. Not part of the name.
    """

    vendor: str = UNKNOWN
    model: str = ""
    field_strength_t: float | None = None
    site: str = UNKNOWN
    vendor_raw: str = ""
    software: str = ""

    @classmethod
    def from_raw(
        cls,
        *,
        manufacturer: str | None = None,
        model: str | None = None,
        field_strength: float | str | None = None,
        site: str | None = None,
        software: str | Sequence[str] | None = None,
    ) -> Scanner:
        """Build a scanner from DICOM tags or table columns, as they stand there; both give the same one.

        Args:
            manufacturer: DICOM Manufacturer, or the like.
            model: DICOM ManufacturerModelName, or the like.
            field_strength: tesla or gauss, number or text.
            site: a key of the hospital. De-identified files may hold the word ``None``, or a long number.
            software: DICOM SoftwareVersions, one text or several.

        Example:
            >>> Scanner.from_raw(manufacturer="SIEMENS", model="Avanto", field_strength="1.4939").name
            'Siemens Avanto 1.5 T'
        """
        vendor = normalise_vendor(manufacturer)
        return cls(
            vendor=vendor,
            model=normalise_model(model, vendor),
            field_strength_t=round_field_strength(field_strength),
            site=UNKNOWN if is_absent(site) or is_numeric_pseudonym(site) else clean(site),
            vendor_raw=clean(manufacturer),
            software=software_major(software),
        )

    @property
    def name(self) -> str:
        """Vendor, model and field in one line; parts that are not known are left out, none is said twice."""
        field = "" if self.field_strength_t is None else field_text(self.field_strength_t)
        vendor = "" if self.vendor == UNKNOWN else self.vendor
        model = _without_field(self.model, self.field_strength_t)
        return " ".join(part for part in (vendor, model, field) if part) or UNKNOWN


def normalise_vendor(raw: str | None) -> str:
    """Spell a manufacturer in our way, by how its name begins.

    Args:
        raw: the manufacturer as found; case, spaces and company forms do not matter.

    Returns:
        One of ``VENDORS``. Toshiba's scanners are Canon's today, and one machine may have carried both names.

    Example:
        >>> [normalise_vendor(raw) for raw in ("GE MEDICAL SYSTEMS", "TOSHIBA_MEC", "n.a.", None)]
        ['GE', 'Canon', 'unknown', 'unknown']
    """
    text = clean(raw).lower()
    for beginning, vendor in VENDOR_BEGINNINGS:
        if re.match(beginning, text):
            return vendor
    return UNKNOWN


def normalise_model(raw: str | None, vendor: str) -> str:
    """Spell a model in one way, whether a header or a table named it.

    Args:
        raw: the model as found.
        vendor: one of ``VENDORS``; its name and its family's, where they stand before the model, are dropped.

    Returns:
        The model, words that are known in their usual case, underscores as spaces; empty if it is absent, or a
        number that de-identification put in its place.

    Example:
        >>> [normalise_model(raw, "Siemens") for raw in ("MAGNETOM Vida", "AVANTO", "Avanto_fit", "SymphonyTim")]
        ['Vida', 'Avanto', 'Avanto Fit', 'SymphonyTim']
    """
    if is_absent(raw) or is_numeric_pseudonym(raw):
        return ""
    text = clean(clean(raw).replace("_", " "))
    beginning = MODEL_BEGINNINGS.get(vendor)
    if beginning:
        text = re.sub(rf"^(?:(?:{beginning})(?![a-z0-9.]),? *)+", "", text, flags=re.IGNORECASE)
    return " ".join(MODEL_WORDS.get(word.lower(), word) for word in text.split())


def software_major(versions: str | Sequence[str] | None) -> str:
    r"""Major release of a scanner's software.

    The release is at most two letters and a whole number, at the beginning of one of the texts, or behind ``syngo MR``
    or ``MR Software release:``. Of several texts, one so announced wins, then one with letters, then the first: GE's
    ``27\LX\…DV26.0…`` is DV26, not 27. Minor numbers, Siemens' ``V`` and zeros in front are dropped.

    Args:
        versions: DICOM SoftwareVersions: one text (several may be joined by ``\``, a comma, or ``/`` between spaces;
            a printed list will do) or several.

    Returns:
        E.g. ``B17``, ``XA20``, ``DV26``, ``5``, ``V5``, ``R2``; empty if no text has the form of a release.

    Example:
        >>> [software_major(text) for text in ("syngo MR B17", ["27", "LX", "MR Software release:DV26.0_R01"], "None")]
        ['B17', 'DV26', '']
    """
    texts = [versions] if isinstance(versions, str) else list(versions or ())
    parts = [part for text in texts for part in re.split(r"\\|,| / ", str(text).strip("[]() "))]
    found = [release for part in parts if (release := _release(part.strip("'\" ").lower()))]
    return min(found, default=(0, ""), key=lambda release: release[0])[1]


def round_field_strength(value: float | str | None) -> float | None:
    """Nominal field strength of a magnet.

    Args:
        value: tesla, or gauss where the number is far above any magnet's tesla; number or text. A unit may follow
            (``T``, ``mT``, ``G``); a comma with one or two digits behind it is a decimal sign.

    Returns:
        Tesla: the nominal 0.55, 1, 1.5, 3 or 7 if it lies within 5 %, else two decimals; ``None`` if
        ``value`` is missing, not readable, or no field that a scanner can have.

    Example:
        >>> [round_field_strength(value) for value in (1.4939999580383, "15000", "3.0", "n.a.", 0)]
        [1.5, 1.5, 3.0, None, None]
    """
    tesla = _tesla(value)
    if not WEAKEST_FIELD_T <= tesla <= STRONGEST_FIELD_T:  # also refuses NaN
        return None
    nearest = min(NOMINAL_FIELDS_T, key=lambda nominal: abs(nominal - tesla))
    return nearest if abs(nearest - tesla) <= NOMINAL_TOLERANCE * nearest else round(tesla, 2)


def field_text(field_strength_t: float | None) -> str:
    """Field strength as a group's name.

    Example:
        >>> field_text(3.0), field_text(None)
        ('3 T', 'unknown')
    """
    return UNKNOWN if field_strength_t is None else f"{field_strength_t:g} T"


def clean(raw: object) -> str:
    """Text of a header or cell without what cannot be seen: padding, NUL bytes, runs of spaces; empty for ``None``."""
    return "" if raw is None else " ".join("".join(c if c.isprintable() else " " for c in str(raw)).split())


def is_absent(raw: object) -> bool:
    """Whether a value says nothing: none at all, or one of ``ABSENT_WORDS`` in any case."""
    return clean(raw).lower() in ABSENT_WORDS


def is_numeric_pseudonym(raw: object) -> bool:
    """Whether a name is a long number and nothing else: no hospital or model is called so, de-identification did it."""
    text = clean(raw)
    return text.isdecimal() and len(text) >= PSEUDONYM_DIGITS


def _release(text: str) -> tuple[int, str] | None:
    """Rank (0 wins) and release of one text; ``None`` if it has none."""
    rest = _ANNOUNCED.sub("", text)
    found = _RELEASE.match(re.sub(r"^v(?=[a-e]\d)", "", rest))
    if found is None:
        return None
    letters, number = found.groups()
    rank = 0 if rest != text else 1 if letters else 2
    return rank, f"{letters.upper()}{number}"


def _tesla(value: float | str | None) -> float:
    found = re.fullmatch(r"([-+]?[\d.]+(?:e[-+]?\d+)?) ?([a-z]*)", _with_point(clean(value).lower()))
    if found is None or found[2] not in {"", *TESLA_PER_UNIT}:
        return math.nan
    try:
        number = float(found[1])
    except ValueError:
        return math.nan
    if found[2]:
        return number * TESLA_PER_UNIT[found[2]]
    return number / GAUSS_PER_TESLA if number > STRONGEST_FIELD_T else number


def _with_point(text: str) -> str:
    return re.sub(r"^(\d+),(\d{1,2})(?!\d)", r"\1.\2", text)


def _without_field(model: str, field_strength_t: float | None) -> str:
    """Model without its field at the end, where that is the field that follows it in the name."""
    written = re.search(r"[ _-]?(\d+(?:\.\d+)?) ?T$", model)
    same = written is not None and round_field_strength(written[1]) == field_strength_t
    return model[: written.start()] if written is not None and same else model
