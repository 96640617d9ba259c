"""The MONAI faces of the preprocessing: each checks, walks its keys, and hands the array to numpy.

A case is a dictionary with the fields of a datalist's record. ``LoadCined`` puts the array in place of the path and
its affine beside it; each later face reads what the ones before it wrote::

    image         (phases, slices, rows, cols)     image_heart    HeartCentre
    image_affine  4 x 4, RAS [mm]                  image_stored_affine, image_stored_shape  as the file had them
    ed, es        phases to be picked              image_phases   Phases as found in a cine, given or not
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from transforms.bias_field import correct_bias
from transforms.files import read_prepared, read_volume
from transforms.geometry import orient_short_axis, resample_slices, spacing_mm
from transforms.heart import find_heart
from transforms.intensity import check_percentiles, standardise
from transforms.phases import find_phases
from transforms.recipe import StudentInput, crop_heart, known_phases, pick_phases
from transforms.simulate import simulate_scanner

Data = Mapping[Hashable, Any]

CINE_AXES = 4
PAIR = 2  # phases: end-diastole and end-systole, and nothing to find


class LoadCined(MapTransform):
    """Read a study: a cine (4-D), or a pair of volumes that become its two phases, end-diastole first.

    Args:
        keys: image items; a path, or ``None`` where the case has ``<key>_ed`` and ``<key>_es``.

    Raises:
        ValueError: if a case has neither or both, a cine is not 4-D, the volumes of a pair are not 3-D of one
            shape, or only one of a cine's phases is known.
    """

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Read the images of one case; a pair's ``ed`` and ``es`` become 0 and 1."""
        out = dict(data)
        for key in self.keys:
            pair = [out.get(f"{key}_{phase}") for phase in ("ed", "es")]
            if (out.get(key) is not None) == all(pair):
                raise ValueError(f"a case must have either {key!r} or both '{key}_ed' and '{key}_es'; give one of them")
            if all(pair):
                out[key], affine = _read_pair(pair)
                out["ed"], out["es"] = 0, 1
            else:
                out[key], affine = _read_cine(out[key])
            known_phases(out.get("ed"), out.get("es"))  # refuses one without the other
            out[f"{key}_affine"] = out[f"{key}_stored_affine"] = affine
            out[f"{key}_stored_shape"] = out[key].shape
        return out


class SimulateScannerd(MapTransform):
    """Let the cases that carry ``simulated`` look as if another vendor's scanner had made them; leave others alone.

    Args:
        keys: image items, ``(phases, slices, rows, cols)``.
        strength: see ``transforms.simulate``.
    """

    def __init__(self, keys: KeysCollection, strength: float = 1.0) -> None:
        super().__init__(keys)
        self.strength = strength

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Simulate the case's scanner, drawn from the seed in ``simulated``."""
        out = dict(data)
        scanner = out.get("simulated")
        if scanner is None:
            return out
        for key in self.key_iterator(out):
            out[key] = simulate_scanner(out[key], scanner["vendor"], seed=scanner["seed"], strength=self.strength)
        return out


class CorrectBiasd(MapTransform):
    """Divide by the coil's bias field (N4); a recipe with this cannot go to the light hospital image.

    Args:
        keys: image items, ``(phases, slices, rows, cols)``.
    """

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Correct the images of one case."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = correct_bias(out[key], spacing_mm(out[f"{key}_affine"]))
        return out


class OrientShortAxisd(MapTransform):
    """Turn the stack the way it is read: columns towards the patient's left, base first.

    Args:
        keys: image items, ``(phases, slices, rows, cols)``.
    """

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Orient the images of one case and their affines."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key], out[f"{key}_affine"] = orient_short_axis(out[key], out[f"{key}_affine"])
        return out


class FindHeartd(MapTransform):
    """Find the heart from its motion; the centre stands in ``<key>_heart``.

    Args:
        keys: image items, ``(phases, slices, rows, cols)``.
    """

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Find the heart in the images of one case."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[f"{key}_heart"] = find_heart(out[key], spacing_mm(out[f"{key}_affine"]))
        return out


class FindPhasesd(MapTransform):
    """Find end-diastole and end-systole in a cine; they become the case's ``ed`` and ``es`` where it has none.

    What is found stands in ``<key>_phases`` in any case, so that it can be held against phases that were given. If
    those are there and none can be found, ``<key>_phases_not_found`` says why. A pair of given phases is left alone.

    Args:
        keys: image items, ``(phases, slices, rows, cols)``, oriented, with ``<key>_heart``.
    """

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Find the phases of one case."""
        out = dict(data)
        for key in self.key_iterator(out):
            given = known_phases(out.get("ed"), out.get("es")) is not None
            if given and len(out[key]) <= PAIR:
                continue
            try:
                found = find_phases(out[key], spacing_mm(out[f"{key}_affine"]), out[f"{key}_heart"])
            except ValueError as error:
                if not given:
                    raise
                out[f"{key}_phases_not_found"] = str(error)
                continue
            out[f"{key}_phases"] = found
            if not given:
                out["ed"], out["es"] = found.ed, found.es
        return out


class PickPhasesd(MapTransform):
    """Keep end-diastole and end-systole, in this order, by the case's ``ed`` and ``es``.

    Args:
        keys: image items, ``(phases, slices, rows, cols)``.
    """

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Pick the phases of one case."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = pick_phases(out[key], ed=out["ed"], es=out["es"])
        return out


class CropHeartd(MapTransform):
    """Resample in the plane and crop around the heart, in one product per axis.

    Args:
        keys: image items, ``(phases, slices, rows, cols)``.
        recipe: gives size and pixel spacing.
    """

    def __init__(self, keys: KeysCollection, recipe: StudentInput) -> None:
        super().__init__(keys)
        self.recipe = recipe

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Crop the images of one case; ``<key>_affine`` stays that of the image before the crop."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = crop_heart(out[key], out[f"{key}_heart"], spacing_mm(out[f"{key}_affine"]), self.recipe)
        return out


class ResampleSlicesd(MapTransform):
    """Bring the stack to a fixed number of slices, evenly from its first to its last.

    Args:
        keys: image items, ``(phases, slices, rows, cols)``.
        slices: number of slices, above 0.
    """

    def __init__(self, keys: KeysCollection, slices: int) -> None:
        super().__init__(keys)
        if slices < 1:
            raise ValueError(f"slices must be above 0; got {slices}")
        self.slices = slices

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Resample the images of one case."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = resample_slices(out[key], self.slices)
        return out


class StandardiseIntensityd(MapTransform):
    """Clip to percentiles and standardise, per study, over both phases together.

    Args:
        keys: image items, ``(phases, slices, rows, cols)``.
        percentiles: lower and upper, in [0, 100].
    """

    def __init__(self, keys: KeysCollection, percentiles: tuple[float, float] = (0.5, 99.5)) -> None:
        super().__init__(keys)
        self.percentiles = check_percentiles(percentiles)

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Standardise the images of one case."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = standardise(out[key], percentiles=self.percentiles)
        return out


class LoadPreparedd(MapTransform):
    """Read a prepared study or photograph into an array, and refuse one that another recipe made.

    Args:
        keys: image items; paths of what was prepared.
        recipe_digest: of the recipe that the datalist, the checkpoint or the package names.
    """

    def __init__(self, keys: KeysCollection, recipe_digest: str) -> None:
        super().__init__(keys)
        self.recipe_digest = recipe_digest

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Read the images of one case: float32 ``(2, slices, rows, cols)``, or ``(3, rows, cols)``."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[key], _ = read_prepared(out[key], recipe_digest=self.recipe_digest)
        return out


def _read_cine(path: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
    cine, affine = read_volume(path)
    if cine.ndim != CINE_AXES:
        raise ValueError(f"a cine must have 4 axes (x, y, z, t); got {cine.shape[::-1]}; give image_ed and image_es")
    return cine, affine


def _read_pair(paths: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    (ed, affine), (es, _) = (read_volume(path) for path in paths)
    if ed.ndim != CINE_AXES - 1 or ed.shape != es.shape:
        raise ValueError(f"ED and ES must be 3-D and of one shape (x, y, z); got {ed.shape[::-1]}, {es.shape[::-1]}")
    return np.stack([ed, es]), affine
