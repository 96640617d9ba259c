"""Scanner appearance by physics: contrast, coil bias, k-space resolution and noise, on phantoms and on real hearts.

Everything random about a scanner is drawn first (:func:`draw_appearance`), then applied (:func:`recontrast`,
:func:`scan`). The settings per vendor are plausible protocols made up for this project, far enough apart to matter;
they are not measurements of any product.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transforms.bssfp import TISSUES, bssfp_signal

Image = NDArray[np.float32]

_ANCHOR_TISSUES = ("lung", "myocardium", "liver", "blood", "fat")  # dark to bright at any flip angle in use
_DARK_PERCENTILE, _BRIGHT_PERCENTILE = 1.0, 95.0
_JITTER = {  # relative SD of a setting between two studies of one vendor
    "flip_angle_deg": 0.05,
    "tr_ms": 0.05,
    "bias_amplitude": 0.2,
    "resolution": 0.04,
    "noise_sd": 0.15,
    "gain": 0.2,
}


@dataclass(frozen=True)
class Appearance:
    """What a scanner and its protocol do to a study.

    Attributes:
        field_strength_t: main field [T]; T1 and T2 follow it linearly between 1.5 and 3 T.
        flip_angle_deg: excitation angle, in (0, 180).
        tr_ms: repetition time [ms].
        te_ms: echo time [ms], below ``tr_ms``.
        bias_amplitude: log of coil sensitivity at its strongest against the middle, at least 0; 0 is a flat coil.
        resolution: share of k-space kept along rows and columns, in (0, 1]; below 1 blurs and rings.
        noise_sd: SD of the noise in each of two channels, as a share of the blood signal, at least 0.
        gain: stored intensity per unit of signal, positive.

    Raises:
        ValueError: if a setting lies outside its range.
    """

    field_strength_t: float = 1.5
    flip_angle_deg: float = 60.0
    tr_ms: float = 3.0
    te_ms: float = 1.5
    bias_amplitude: float = 0.25
    resolution: float = 0.9
    noise_sd: float = 0.03
    gain: float = 800.0

    def __post_init__(self) -> None:
        ranges = {
            "field_strength_t": 0.0 < self.field_strength_t < np.inf,
            "flip_angle_deg": 0.0 < self.flip_angle_deg < 180.0,
            "tr_ms": 0.0 < self.tr_ms < np.inf,
            "te_ms": 0.0 < self.te_ms < self.tr_ms,
            "bias_amplitude": 0.0 <= self.bias_amplitude < np.inf,
            "resolution": 0.0 < self.resolution <= 1.0,
            "noise_sd": 0.0 <= self.noise_sd < np.inf,
            "gain": 0.0 < self.gain < np.inf,
        }
        wrong = {name: getattr(self, name) for name, holds in ranges.items() if not holds}
        if wrong:
            raise ValueError(f"appearance settings out of range: {wrong}; see the ranges in Appearance's docstring")


REFERENCE = Appearance()
_SETTINGS = tuple(field.name for field in fields(Appearance))

VENDOR_APPEARANCE: dict[str, Appearance] = {
    "Siemens": Appearance(1.5, 65.0, 3.0, 1.5, bias_amplitude=0.25, resolution=0.9, noise_sd=0.03, gain=700.0),
    "Philips": Appearance(1.5, 55.0, 3.2, 1.6, bias_amplitude=0.35, resolution=0.85, noise_sd=0.035, gain=800.0),
    "GE": Appearance(1.5, 40.0, 3.6, 1.8, bias_amplitude=0.45, resolution=0.65, noise_sd=0.07, gain=2000.0),
    "Canon": Appearance(3.0, 33.0, 3.4, 1.7, bias_amplitude=0.6, resolution=0.6, noise_sd=0.08, gain=1000.0),
}


def draw_appearance(vendor: str, rng: np.random.Generator, *, strength: float = 1.0) -> Appearance:
    """Draw the scanner settings of one study.

    Args:
        vendor: a key of ``VENDOR_APPEARANCE``.
        rng: source of the study's jitter; the same generator state gives the same jitter for every vendor.
        strength: 0 gives every vendor the reference settings, 1 its own, in between (and beyond) by ratio.

    Returns:
        The settings, with the same relative jitter at every strength.

    Raises:
        ValueError: if the vendor has no settings or ``strength`` is negative.
    """
    if vendor not in VENDOR_APPEARANCE:
        raise ValueError(
            f"vendor must be one of {list(VENDOR_APPEARANCE)}; got {vendor!r}; "
            "simulate one of those, or add settings to VENDOR_APPEARANCE"
        )
    if not 0.0 <= strength < np.inf:
        raise ValueError(f"strength must be a finite number of at least 0; got {strength}; 1 is the vendor's own look")
    typical = _between(REFERENCE, VENDOR_APPEARANCE[vendor], strength)
    drawn = {name: getattr(typical, name) * float(np.exp(sd * rng.normal())) for name, sd in _JITTER.items()}
    return replace(typical, te_ms=drawn["tr_ms"] / 2, **_limited(drawn))


def tissue_signals(appearance: Appearance) -> dict[str, float]:
    """Signal of each tissue before the coil, as a share of water at equilibrium.

    Returns:
        One value per name in ``transforms.bssfp.TISSUES``.
    """
    timing = {"tr_ms": appearance.tr_ms, "te_ms": appearance.te_ms, "flip_angle_deg": appearance.flip_angle_deg}
    tissues = {name: tissue.at(appearance.field_strength_t) for name, tissue in TISSUES.items()}
    return {name: bssfp_signal(*properties, **timing) for name, properties in tissues.items()}


def coil_bias(shape: tuple[int, int], amplitude: float, rng: np.random.Generator) -> Image:
    """Draw a smooth sensitivity with mean 1: stronger towards one side, curved, equal for all phases and slices.

    Args:
        shape: ``(rows, cols)``.
        amplitude: largest absolute logarithm before the mean is taken out; 0 gives ones.
        rng: gives the direction and the curvature.

    Returns:
        ``(rows, cols)``, positive.
    """
    y, x = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in shape), indexing="ij")
    angle, curvature = rng.uniform(0.0, 2 * np.pi), rng.uniform(-0.6, 0.6, size=3)
    log_field = np.cos(angle) * x + np.sin(angle) * y
    log_field = log_field + curvature[0] * x**2 + curvature[1] * y**2 + curvature[2] * x * y
    log_field = amplitude * log_field / np.abs(log_field).max()
    field = np.exp(log_field)
    return np.asarray(field / field.mean(), dtype=np.float32)


def truncate_kspace(image: ArrayLike, resolution: float) -> NDArray[np.complex64]:
    """Keep the central share of k-space along the last two axes; the matrix keeps its size, edges ring (Gibbs).

    Args:
        image: ``(..., rows, cols)``, real or complex.
        resolution: share kept along each of the two axes, in (0, 1].

    Returns:
        ``(..., rows, cols)``; with ``resolution=1`` the image itself.
    """
    values = np.asarray(image, dtype=np.complex64)
    if resolution == 1.0:
        return values
    spectrum = np.fft.fft2(values) * np.outer(*(_kept_frequencies(n, resolution) for n in values.shape[-2:]))
    return np.asarray(np.fft.ifft2(spectrum), dtype=np.complex64)


def scan(
    image: ArrayLike, appearance: Appearance, rng: np.random.Generator, *, blood_signal: float | None = None
) -> Image:
    """Look at tissue signals through a scanner: coil, noise, k-space, magnitude, gain.

    The noise is complex, lies in the kept part of k-space only, and makes the magnitude Rician.

    Args:
        image: ``(..., rows, cols)``, signals in the units of :func:`tissue_signals`.
        appearance: the scanner.
        rng: draws the coil's direction, then the noise, image by image.
        blood_signal: what ``noise_sd`` is a share of; by default the blood signal of ``appearance``.

    Returns:
        float32, the shape of ``image``, in stored intensities (at least 0).

    Raises:
        ValueError: if ``image`` has fewer than two axes or a value that is not finite.
    """
    values = _checked(image)
    blood = tissue_signals(appearance)["blood"] if blood_signal is None else blood_signal
    bias = coil_bias(values.shape[-2:], appearance.bias_amplitude, rng)
    kept = np.prod([_kept_frequencies(n, appearance.resolution).mean() for n in bias.shape])
    sd = np.float32(appearance.noise_sd * blood / np.sqrt(kept))  # truncation leaves the share `kept` of its power
    out = np.empty_like(values)
    for index in np.ndindex(values.shape[:-2]):
        noise = sd * rng.standard_normal((2, *bias.shape), dtype=np.float32)
        received = values[index] * bias + noise[0] + 1j * noise[1]
        out[index] = appearance.gain * np.abs(truncate_kspace(received, appearance.resolution))
    return out


def recontrast(image: ArrayLike, appearance: Appearance, reference: Appearance = REFERENCE) -> Image:
    """Give a real image the tissue contrast of another protocol, by a rising curve of its intensities.

    The image's 1st percentile counts as no signal and its 95th as the reference's fat; with that, blood and
    myocardium of 60 ACDC patients fall where ``REFERENCE`` has them (medians 0.90 and 0.32 of the 95th percentile).
    Between the tissues the curve is piecewise linear, above fat proportional. Tissues of one intensity cannot part.

    Args:
        image: ``(..., rows, cols)``, magnitudes of a bSSFP cine in any unit.
        appearance: the protocol wanted.
        reference: the protocol that the image is taken to come from.

    Returns:
        float32, the shape of ``image``, in the units of :func:`tissue_signals`.

    Raises:
        ValueError: if the image is flat, has fewer than two axes, or is not finite.
    """
    values = _checked(image)
    dark, bright = (float(p) for p in np.percentile(values, [_DARK_PERCENTILE, _BRIGHT_PERCENTILE]))
    if bright <= dark:
        raise ValueError(
            f"the image's 1st and 95th percentile must differ; both are {dark}; is this the image and not an empty one?"
        )
    before, after = tissue_signals(reference), tissue_signals(appearance)
    anchors = [0.0, *(before[tissue] for tissue in _ANCHOR_TISSUES)]
    targets = np.maximum.accumulate([0.0, *(after[tissue] for tissue in _ANCHOR_TISSUES)])
    signal = np.maximum(values - dark, 0.0) * (anchors[-1] / (bright - dark))
    below = np.interp(signal, anchors, targets)
    return np.asarray(np.where(signal > anchors[-1], signal * (targets[-1] / anchors[-1]), below), dtype=np.float32)


def simulate_scanner(image: ArrayLike, vendor: str, *, seed: int, strength: float = 1.0) -> Image:
    """Let a real study look as if another vendor's scanner had made it.

    Args:
        image: ``(phases, slices, rows, cols)``, any unit.
        vendor: a key of ``VENDOR_APPEARANCE``.
        seed: at least 0; image, vendor, seed and strength decide the result.
        strength: see :func:`draw_appearance`.

    Returns:
        float32, the shape of ``image``.

    Raises:
        ValueError: for an unknown vendor, a negative strength, an image that is not 4-D, flat, or not finite.
    """
    values = np.asarray(image)
    if values.ndim != 4:
        raise ValueError(f"image must be (phases, slices, rows, cols); got {values.ndim} axes, shape {values.shape}")
    rng = np.random.default_rng(seed)
    appearance = draw_appearance(vendor, rng, strength=strength)
    return scan(recontrast(values, appearance), appearance, rng)


def _between(reference: Appearance, own: Appearance, strength: float) -> Appearance:
    """Settings on the geometric way from ``reference`` to ``own``."""
    start, end = (np.array([getattr(a, name) for name in _SETTINGS]) for a in (reference, own))
    return Appearance(**_limited(dict(zip(_SETTINGS, map(float, start * (end / start) ** strength), strict=True))))


def _limited(settings: dict[str, float]) -> dict[str, float]:
    """What jitter and extrapolation may not leave: a flip angle and a share of k-space that a scanner would use."""
    flip_angle_deg, resolution = min(settings["flip_angle_deg"], 120.0), min(max(settings["resolution"], 0.2), 1.0)
    return {**settings, "flip_angle_deg": flip_angle_deg, "resolution": resolution}


def _kept_frequencies(n: int, resolution: float) -> NDArray[np.bool_]:
    return np.asarray(np.abs(np.fft.fftfreq(n)) <= resolution / 2)


def _checked(image: ArrayLike) -> Image:
    values = np.asarray(image, dtype=np.float32)
    if values.ndim < 2:
        raise ValueError(f"image must end in (rows, cols); got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("image must be finite; it has NaN or infinite values; correct or leave out the study")
    return values
