"""Who built the scanner, how strong its field is, where it stands: spelt in one way, "unknown" where not known."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

UNKNOWN = "unknown"
VENDORS: tuple[str, ...] = ("Siemens", "Philips", "GE", "Canon", "UIH", "Hitachi", "Fujifilm", UNKNOWN)

# How a manufacturer's name begins. "GE" must end there: "Generic" is not General Electric.
VENDOR_BEGINNINGS: tuple[tuple[str, str], ...] = (
    (r"siemens", "Siemens"),
    (r"philips", "Philips"),
    (r"ge(?![a-z])|gems\b|general electric", "GE"),
    (r"canon|toshiba", "Canon"),
    (r"uih|united imaging|shanghai united imaging", "UIH"),
    (r"hitachi", "Hitachi"),
    (r"fuji", "Fujifilm"),
)
ABSENT_WORDS = frozenset({"", "none", "n.a.", "n/a", "na", "nan", "null", UNKNOWN})

NOMINAL_FIELDS_T: tuple[float, ...] = (0.55, 1.0, 1.5, 3.0, 7.0)
NOMINAL_TOLERANCE = 0.05  # relative: a "3 T" magnet may report 2.894
WEAKEST_FIELD_T, STRONGEST_FIELD_T = 0.05, 20.0
GAUSS_PER_TESLA = 10_000.0


@dataclass(frozen=True)
class Scanner:
    """The scanner of one study.

    Attributes:
        vendor: one of ``VENDORS``.
        model: e.g. ``Avanto``; empty if not known.
        field_strength_t: nominal field [T]; ``None`` if not known.
        site: the hospital, or ``unknown``.
        vendor_raw: the manufacturer as the source spelt it.
    """

    vendor: str = UNKNOWN
    model: str = ""
    field_strength_t: float | None = None
    site: str = UNKNOWN
    vendor_raw: str = ""

    @classmethod
    def from_raw(
        cls,
        *,
        manufacturer: str | None = None,
        model: str | None = None,
        field_strength: float | str | None = None,
        site: str | None = None,
    ) -> Scanner:
        """Build a scanner from DICOM tags or table columns, as they stand there.

        Args:
            manufacturer: DICOM Manufacturer, or the like.
            model: DICOM ManufacturerModelName, or the like.
            field_strength: tesla or gauss, number or text.
            site: a key of the hospital. De-identified files may hold the word ``None``.

        Example:
            >>> Scanner.from_raw(manufacturer="SIEMENS", model="Avanto", field_strength="1.4939").name
            'Siemens Avanto 1.5 T'
        """
        return cls(
            vendor=normalise_vendor(manufacturer),
            model="" if _absent(model) else str(model).strip(),
            field_strength_t=round_field_strength(field_strength),
            site=UNKNOWN if _absent(site) else str(site).strip(),
            vendor_raw=manufacturer or "",
        )

    @property
    def name(self) -> str:
        """Vendor, model and field in one line; parts that are not known are left out."""
        parts = [
            "" if self.vendor == UNKNOWN else self.vendor,
            self.model,
            "" if self.field_strength_t is None else field_text(self.field_strength_t),
        ]
        return " ".join(part for part in parts if part) or UNKNOWN


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
    text = "" if raw is None else raw.strip().lower()
    for beginning, vendor in VENDOR_BEGINNINGS:
        if re.match(beginning, text):
            return vendor
    return UNKNOWN


def round_field_strength(value: float | str | None) -> float | None:
    """Nominal field strength of a magnet.

    Args:
        value: tesla, or gauss where the number is far above any magnet's tesla; number or text, a trailing
            ``T`` allowed.

    Returns:
        Tesla: the nominal 0.55, 1, 1.5, 3 or 7 if it lies within 5 %, else two decimals; ``None`` if
        ``value`` is missing, not readable, or no field that a scanner can have.

    Example:
        >>> [round_field_strength(value) for value in (1.4939999580383, "15000", "3.0", "n.a.", 0)]
        [1.5, 1.5, 3.0, None, None]
    """
    tesla = _number(value)
    if tesla > STRONGEST_FIELD_T:
        tesla /= GAUSS_PER_TESLA
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


def _number(value: float | str | None) -> float:
    text = "" if value is None else str(value).strip().lower().removesuffix("t")
    try:
        return float(text)
    except ValueError:
        return math.nan


def _absent(raw: str | None) -> bool:
    return raw is None or raw.strip().lower() in ABSENT_WORDS
