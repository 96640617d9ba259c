"""One case through the preprocessing: skip, prepare, measure, write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cohort.case import Case
from pipeline.files import atomic_path
from transforms.files import read_prepared, read_volume, write_prepared
from transforms.geometry import orient_short_axis, spacing_mm
from transforms.heart import HeartCentre
from transforms.recipe import StudentInput

IMAGE = "image"
SOURCES = ("image", "image_ed", "image_es", "mask", "mask_ed", "mask_es")


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        case_id: the case.
        path: its prepared study; ``None`` if it was set aside.
        heart: where the heart was found, and how far that is from the mask's, where there is a mask.
        phases: which phases were taken, and how far what was found in the cine is from them, where they were given.
        reason: why it was set aside, else empty.
        written: whether the study was prepared now; ``False`` if it was there already.
    """

    case_id: str
    path: Path | None = None
    heart: dict[str, Any] = field(default_factory=dict)
    phases: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    written: bool = False


@dataclass(frozen=True)
class Preparation:
    """How every case of a run is prepared.

    Attributes:
        transforms: takes a case as a dictionary, returns it with the array in ``image``.
        recipe: what the transforms make.
        folder: where the prepared studies go.
        simulation_strength: strength at which scanners are simulated.
    """

    transforms: Callable[[dict[str, Any]], dict[str, Any]]
    recipe: StudentInput
    folder: Path
    simulation_strength: float = 1.0

    def prepare(self, case: Case) -> Outcome:
        """Prepare one case, or take what an earlier run with the same recipe and sources left; never raises."""
        path = self.folder / f"{case.case_id}.npz"
        try:
            expected = {"recipe_digest": self.recipe.digest, "fingerprint": self.fingerprint(case)}
            kept = stored_record(path, expected)
            if kept is not None:
                return Outcome(case.case_id, path, kept["heart"], kept["phases"])
            image, made = self._make(case)
            record = {"case_id": case.case_id, "recipe": self.recipe.to_dict(), **expected, **made}
            with atomic_path(path) as temporary:
                write_prepared(temporary, image, record)
        except Exception as error:  # one bad study must not end a night's run; it is named at the end
            return Outcome(case.case_id, reason=reason_of(error))
        return Outcome(case.case_id, path, made["heart"], made["phases"], written=True)

    def fingerprint(self, case: Case) -> str:
        """SHA-256 over what the study is made of: name, size and time of its files, its phases, its simulation."""
        paths = {name: getattr(case, name) for name in SOURCES if getattr(case, name) is not None}
        stats = {name: (path.name, path.stat().st_size, path.stat().st_mtime_ns) for name, path in paths.items()}
        strength = self.simulation_strength if case.simulated else None
        made_of = {"files": stats, "phases": (case.ed, case.es), "simulated": (case.simulated, strength)}
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def _make(self, case: Case) -> tuple[np.ndarray, dict[str, dict[str, Any]]]:
        """The image, and what is to be known of its heart and phases."""
        data = self.transforms({item.name: getattr(case, item.name) for item in fields(case)})
        image = np.asarray(data[IMAGE], dtype=np.float32)
        if image.shape != self.recipe.shape or not np.isfinite(image).all():
            raise ValueError(
                f"transforms must make a finite image of shape {self.recipe.shape}; got {image.shape}; "
                "let the recipe and the transforms agree"
            )
        centre = data[f"{IMAGE}_heart"]
        heart = centre.to_dict() | {"spacing_mm": list(spacing_mm(data[f"{IMAGE}_affine"]))}
        return image, {"heart": heart | self._measured(case, centre, data), "phases": phase_record(case, data)}

    def _measured(self, case: Case, centre: HeartCentre, data: dict[str, Any]) -> dict[str, Any]:
        """Error of the heart centre; a mask that cannot be used costs the measure, never the study."""
        try:
            mask = read_masks(case)
            if mask is None:
                return {}
            if mask.shape[1:] != data[f"{IMAGE}_stored_shape"][1:]:
                raise ValueError(
                    f"mask must have the image's {data[f'{IMAGE}_stored_shape'][1:]}; got {mask.shape[1:]}"
                )
        except (ValueError, OSError) as error:
            return {"not_measured": reason_of(error)}
        oriented, affine = orient_short_axis(mask, data[f"{IMAGE}_stored_affine"])
        return heart_error(oriented, centre, spacing_mm(affine), self.recipe.field_of_view_mm)


def stored_record(path: Path, expected: dict[str, str]) -> dict[str, Any] | None:
    """Record of a prepared study if it holds ``expected``; ``None`` if there is none, or it is broken or older."""
    try:
        _, record = read_prepared(path)
    except (FileNotFoundError, ValueError):
        return None
    as_expected = all(record.get(key) == value for key, value in expected.items())
    return record if as_expected and "heart" in record and "phases" in record else None


def phase_record(case: Case, data: Mapping[str, Any]) -> dict[str, Any]:
    """Which phases of a case were taken, and what was found in its cine.

    Args:
        case: as the datalist has it.
        data: the case after the transforms.

    Returns:
        ``ed, es, n_phases`` and ``source``: ``given`` in the datalist, ``found`` in the cine, or all there are, a
        ``pair``; ``found_ed, found_es, confidence`` of a cine; ``error_ed, error_es`` [phases] where both are known.
    """
    n_phases, found = int(data[f"{IMAGE}_stored_shape"][0]), data.get(f"{IMAGE}_phases")
    source = "pair" if case.image is None else "found" if case.ed is None else "given"
    record: dict[str, Any] = {"ed": int(data["ed"]), "es": int(data["es"]), "n_phases": n_phases, "source": source}
    if found is None:
        reason = data.get(f"{IMAGE}_phases_not_found")
        return record | ({"not_measured": reason} if reason else {})
    record |= {"found_ed": found.ed, "found_es": found.es, "confidence": found.confidence}
    if source != "given":
        return record
    errors = (cyclic_distance(getattr(found, name), record[name], n_phases) for name in ("ed", "es"))
    return record | dict(zip(("error_ed", "error_es"), errors, strict=True))


def cyclic_distance(phase: int, other: int, n_phases: int) -> int:
    """Phases between two phases the shorter way round: of 20, the last and the first are 1 apart.

    Example:
        >>> cyclic_distance(19, 0, 20), cyclic_distance(3, 9, 20)
        (1, 6)
    """
    apart = abs(phase - other) % n_phases
    return min(apart, n_phases - apart)


def read_masks(case: Case) -> np.ndarray | None:
    """Masks of a case, for measuring only.

    Returns:
        ``(phases, slices, rows, cols)``, above 0 at the heart, as stored; ``None`` if the case has none.

    Raises:
        ValueError: if a mask cannot be read.
    """
    if case.mask is not None:
        return read_volume(case.mask)[0]
    if case.mask_ed is not None and case.mask_es is not None:
        return np.stack([read_volume(path)[0] for path in (case.mask_ed, case.mask_es)])
    return None


def heart_error(
    mask: np.ndarray,
    centre: HeartCentre,
    spacing: tuple[float, float, float],
    field_of_view_mm: tuple[float, float],
) -> dict[str, Any]:
    """How well the heart was found.

    Args:
        mask: ``(phases, slices, rows, cols)``, above 0 at the heart; oriented as the image in which it was found.
        centre: where it was found.
        spacing: ``(slices, rows, cols)`` [mm].
        field_of_view_mm: height and width of the crop [mm].

    Returns:
        ``error_mm``, distance in the plane from the mask's centroid; ``contained``, whether all of the mask lies in
        the crop. Empty if the mask is.
    """
    places = np.argwhere(mask > 0)[:, 2:]
    if not len(places):
        return {}
    offsets = (places - (centre.row, centre.col)) * spacing[1:]
    inside = np.abs(offsets) <= np.divide(field_of_view_mm, 2)
    return {"error_mm": float(np.hypot(*offsets.mean(axis=0))), "contained": bool(inside.all())}


def reason_of(error: BaseException) -> str:
    """The error behind MONAI's ``applying transform …``, in one line."""
    while isinstance(error, RuntimeError) and str(error).startswith("applying transform") and error.__cause__:
        error = error.__cause__
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split()) or "no reason given"
