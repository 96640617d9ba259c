"""What a quality sheet shows of one case: its pictures, and the figures read from its image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cohort.case import Case, created_with
from pipeline.files import atomic_path
from pipeline.sheet.pictures import View, write_montage, write_movie
from transforms.files import read_prepared, read_volume
from transforms.geometry import orient_short_axis, spacing_mm
from transforms.heart import HeartCentre, find_heart
from transforms.phases import find_phases
from transforms.recipe import StudentInput

FOUND, GIVEN, PAIR = "found", "given", "pair"
IMAGES = ("image", "image_ed", "image_es")


@dataclass(frozen=True)
class Shown:
    """Figures of a case whose pictures are there.

    Attributes:
        shape: ``(phases, slices, rows, cols)``, as shown.
        spacing_mm: ``(slices, rows, cols)`` [mm], as shown; slices are ``None`` where they were spread anew.
        ed: end-diastole in the study's own cine, from 0.
        es: end-systole, likewise.
        n_phases: of that cine.
        phases: where ED and ES are from: ``found``, ``given`` with the cine, or all there are, a ``pair``.
        heart: row, column and confidence of the centre; empty if it is not known.
        width: of the montage [pixels].
        height: likewise.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float | None, ...]
    ed: int
    es: int
    n_phases: int
    phases: str
    width: int
    height: int
    heart: Mapping[str, float] = field(default_factory=dict)


def show(case: Case, *, folder: Path, recipe: StudentInput, prepared: bool, phase_ms: float | None = None) -> Shown:
    """Write the pictures of a case, or keep those that an earlier run made of the same image.

    Args:
        case: a cine, a pair of volumes, or a prepared study.
        folder: for ``<case_id>.png``, ``.webp``, ``-still.webp`` and ``.json``.
        recipe: gives the crop.
        prepared: whether the case is a prepared study.
        phase_ms: distance between phases [ms], if known.

    Returns:
        The figures to print beside them.

    Raises:
        ValueError: if the image cannot be read, or no heart is found in it.
        FileNotFoundError: if it is not there.
    """
    record = folder / f"{case.case_id}.json"
    fingerprint = _fingerprint(case, recipe)
    kept = _kept(record, fingerprint, folder, case.case_id)
    if kept is not None:
        return kept
    view, figures = _prepared(case, recipe) if prepared else _raw(case, recipe, phase_ms)
    write_movie(view, folder / f"{case.case_id}.webp", folder / f"{case.case_id}-still.webp")
    width, height = write_montage(view, folder / f"{case.case_id}.png")
    shown = Shown(**figures, width=width, height=height)
    with atomic_path(record) as temporary:
        temporary.write_text(json.dumps({"made_of": fingerprint, "shown": asdict(shown)}) + "\n", encoding="utf-8")
    return shown


def _raw(case: Case, recipe: StudentInput, phase_ms: float | None) -> tuple[View, dict[str, Any]]:
    cine, affine = _read(case)
    oriented, affine = orient_short_axis(cine, affine)
    spacing = spacing_mm(affine)
    heart = find_heart(oriented, spacing)
    ed, es, source = _phases(case, oriented, spacing, heart)
    view = View(np.asarray(oriented), spacing[1:], ed, es, heart, recipe.field_of_view_mm, phase_ms)
    return view, {
        "shape": oriented.shape,
        "spacing_mm": spacing,
        "ed": ed,
        "es": es,
        "n_phases": len(oriented),
        "phases": source,
        "heart": heart.to_dict(),
    }


def _prepared(case: Case, recipe: StudentInput) -> tuple[View, dict[str, Any]]:
    image, record = read_prepared(Path(str(case.image)))
    step = recipe.spacing_mm
    view = View(image, (step, step), 0, 1, None, recipe.field_of_view_mm)
    heart = {key: record.get("heart", {}).get(key) for key in ("row", "col", "confidence")}
    taken = {"ed": 0, "es": 1, "n_phases": 2, "source": PAIR} | record.get("phases", {})
    return view, {
        "shape": image.shape,
        "spacing_mm": (None, step, step),
        "ed": taken["ed"],
        "es": taken["es"],
        "n_phases": taken["n_phases"],
        "phases": taken["source"],
        "heart": {key: value for key, value in heart.items() if value is not None},
    }


def _read(case: Case) -> tuple[np.ndarray, np.ndarray]:
    if case.image is not None:
        return read_volume(case.image)
    ed, affine = read_volume(Path(str(case.image_ed)))
    return np.stack([ed, read_volume(Path(str(case.image_es)))[0]]), affine


def _phases(
    case: Case, cine: np.ndarray, spacing: tuple[float, float, float], heart: HeartCentre
) -> tuple[int, int, str]:
    """ED, ES, and where they are from."""
    if case.image is None:
        return 0, 1, PAIR
    if case.ed is not None and case.es is not None:
        if max(case.ed, case.es) >= len(cine):
            raise ValueError(
                f"ed and es must be phases of the cine, 0 to {len(cine) - 1}; got ed {case.ed}, es {case.es}; "
                "correct the datalist"
            )
        return case.ed, case.es, GIVEN
    phases = find_phases(cine, spacing, heart)
    return phases.ed, phases.es, FOUND


def _fingerprint(case: Case, recipe: StudentInput) -> str:
    paths = [path for path in (getattr(case, name) for name in IMAGES) if path is not None]
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    made_of = [stats, case.ed, case.es, recipe.digest, created_with()]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _kept(record: Path, fingerprint: str, folder: Path, case_id: str) -> Shown | None:
    pictures = [folder / f"{case_id}{ending}" for ending in (".png", ".webp", "-still.webp")]
    try:
        stored = json.loads(record.read_text(encoding="utf-8"))
        if stored["made_of"] != fingerprint or not all(path.is_file() for path in pictures):
            return None
        lists = {key: tuple(value) for key, value in stored["shown"].items() if isinstance(value, list)}
        return Shown(**{**stored["shown"], **lists})
    except (OSError, ValueError, KeyError, TypeError):
        return None
