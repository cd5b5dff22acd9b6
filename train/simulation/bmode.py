"""A B-mode simulator, for the images of `train.simulation.phantoms`.

One image is simulated in the baseband (IQ) domain. There the carrier only turns the phase of the complex
scatterers, and the envelope of the pulse remains:

1. tissue echogenicity in dB: skin, subcutaneous fat with Cooper's ligaments, gland, fat, pectoral muscle;
2. a lesion (Stavros et al., Radiology 196:123, 1995): benign ones mostly oval, parallel to the skin, homogeneous,
   with posterior enhancement and edge shadows; malignant ones mostly irregular, taller, with halo and shadow;
3. fully developed speckle: complex Gaussian scatterers times the echogenicity (Goodman, JOSA 66:1145, 1976);
4. the point-spread function: a Gaussian pulse of a given centre frequency and bandwidth, a Gaussian beam that
   widens away from the focus; two looks are compounded;
5. attenuation behind the lesion, imperfect time gain compensation, receiver noise, log compression to 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Label = Literal["benign", "malignant"]
Float = NDArray[np.float64]
Mask = NDArray[np.bool_]
SPEED_MM_PER_US = 1.54


@dataclass(frozen=True)
class Case:
    """What the views of one case share. Lengths in mm, angles in rad, levels in dB, rates in dB/mm.

    ``harmonics`` are (amplitude, phase) of the contour's orders 2, 3, …; ``spicules`` are (angle, length, angular
    width). Amplitudes and lengths of both are relative to the radius. A negative ``attenuation`` gives posterior
    enhancement.
    """

    height: int
    width: int
    pixel_mm: float
    layers_mm: tuple[float, float, float, float]
    position_mm: tuple[float, float]
    semi_axes_mm: tuple[float, float]
    tilt: float
    harmonics: tuple[tuple[float, float], ...]
    spicules: tuple[tuple[float, float, float], ...]
    level: float
    texture: float
    edge_mm: float
    rim: tuple[float, float]
    attenuation: float
    edge_shadow: float
    calcifications: int


def draw_case(rng: np.random.Generator, label: Label) -> Case:
    """Draw the anatomy and the lesion of a case; about a quarter of each class borrows the other's signs."""
    u, chance = rng.uniform, lambda p: bool(rng.random() < p)
    malignant = label == "malignant"
    height, width = 4 * int(rng.integers(60, 91)), 4 * int(rng.integers(75, 106))
    pixel_mm = u(0.105, 0.135)
    shape_malignant = malignant != chance(0.20)
    wide = float(np.clip(rng.lognormal(np.log(6.6 if malignant else 6.0), 0.28), 3.2, 0.2 * width * pixel_mm))
    aspect = u(0.70, 1.35) if malignant != chance(0.15) else u(0.45, 0.80)
    layers = (u(1.2, 2.2), u(2.5, 8.0), u(12.0, 18.0), u(1.5, 4.0))
    bottom = height * pixel_mm
    depth = min(layers[0] + layers[1] + u(0.35, 0.65) * layers[2], 0.55 * bottom)
    # The lesion spares the skin and leaves room below for its shadow.
    tall = min(wide * aspect, 0.68 * (depth - layers[0]), 0.55 * (bottom - depth))
    if shape_malignant:
        rough, lobes, spicules = u(0.05, 0.13), 10, int(rng.integers(5, 15)) if malignant else 0
    else:
        rough, lobes, spicules = u(0.01, 0.07), 5, 0
    order = np.arange(2, lobes + 1)
    amplitude = rough * rng.uniform(0.4, 1.3, order.size) * (2.0 / order) ** 0.6
    angles = (np.arange(spicules) + rng.uniform(-0.35, 0.35, spicules)) * 2 * np.pi / max(spicules, 1)
    shadow_like = malignant != chance(0.25)
    cyst = not malignant and chance(0.12)
    return Case(
        height=height,
        width=width,
        pixel_mm=pixel_mm,
        layers_mm=layers,
        position_mm=(depth, u(0.33, 0.67) * width * pixel_mm),
        semi_axes_mm=(wide, tall),
        tilt=rng.normal(0, 0.30 if malignant else 0.15),
        harmonics=tuple(zip(amplitude.tolist(), rng.uniform(0, 2 * np.pi, order.size).tolist(), strict=True)),
        spicules=tuple((float(a), u(0.12, 0.48), u(0.05, 0.13)) for a in angles),
        level=u(-52, -44) if cyst else u(-38, -27),
        texture=u(0.5, 2.0) if cyst or malignant == chance(0.2) else u(2.0, 5.0),
        edge_mm=u(0.6, 1.8) if shape_malignant else u(0.15, 0.6),
        rim=(u(3, 8), u(1.2, 3.0)) if shape_malignant and chance(0.5) else (u(0, 7), u(0.15, 0.35)),
        attenuation=-u(0.5, 0.9) if cyst else u(0.25, 1.3) if shadow_like else -u(0.05, 0.6),
        edge_shadow=u(0, 2) if shape_malignant else u(1, 7),
        calcifications=int(rng.integers(3, 14)) if chance(0.25 if malignant else 0.06) else 0,
    )


def render(case: Case, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Mask]:
    """Render one view: new speckle, texture, gain, focus and dynamic range, a slightly moved and scaled lesion.

    Returns:
        Image and mask, as from `train.simulation.phantoms.phantom`.
    """
    u = rng.uniform
    shape = (case.height, case.width)
    z = (np.arange(case.height) * case.pixel_mm)[:, None]
    signed, facing, extent_mm = _lesion_distance(case, rng)
    mask = signed > 0
    level = _tissue(case, rng)
    rim_db, rim_mm = case.rim
    # A capsule reflects where it faces the beam; a halo is tissue and shows on all sides.
    level += (
        rim_db
        * np.exp(-0.5 * ((signed + 0.5 * rim_mm) / (0.5 * rim_mm)) ** 2)
        * (facing if rim_mm < 1 else 0.5 + 0.5 * facing)
    )
    inside = case.level + case.texture * _smooth(rng, shape, case.pixel_mm, 1.4, 1.0)
    blend = np.clip(signed / case.edge_mm + 0.5, 0, 1)
    level += (inside - level) * blend
    for row, column in rng.permutation(np.argwhere(signed > 0.5))[: case.calcifications]:
        level[row : row + 2, column : column + 2] = u(-14, -4)

    gain = _behind(case, mask, extent_mm)
    gain -= u(0.05, 0.40) * z + u(1, 3) * np.sin(2 * np.pi * (z / u(25, 60) + u()))
    gain -= u(0, 10) * (np.abs(np.linspace(-1, 1, case.width)) ** u(4, 10))[None]

    focus_mm, frequency_mhz, bandwidth = u(10, 28), u(6.5, 11.0), u(0.32, 0.45)
    # Pulse-echo: the -6 dB bandwidth of a Gaussian spectrum gives its duration, half the path its length.
    axial_mm = SPEED_MM_PER_US / 2 * np.sqrt(2 * np.log(2)) / (np.pi * bandwidth * frequency_mhz)
    lateral_mm = 0.42 * u(2.0, 3.0) * SPEED_MM_PER_US / frequency_mhz * np.hypot(1, (z - focus_mm) / u(12, 20))
    noise = (10 ** ((u(-68, -58) + 9 * z / z[-1]) / 20)).astype(np.float32)
    amplitude = (10 ** ((level + gain) / 20)).astype(np.float32)
    power = np.zeros(shape)
    for _ in range(2):
        draws = rng.standard_normal((2, *shape), dtype=np.float32)
        speckle = draws[0] + np.complex64(1j) * draws[1]
        echo = _blur(amplitude * speckle, axial_mm / case.pixel_mm, lateral_mm[:, 0] / case.pixel_mm)
        # Rolled by half a frame, the same draws serve as receiver noise: independent where they meet.
        echo += noise * np.roll(speckle, (case.height // 2, case.width // 2), (0, 1))
        power += echo.real**2 + echo.imag**2

    decibel = 10 * np.log10(power + 1e-12)
    range_db, top = u(50, 60), float(np.percentile(decibel, 99.3)) + u(-1, 5)
    grey = np.clip(1 + (decibel - top) / range_db, 0, 1) ** u(1.1, 1.6)
    return np.rint(255 * grey).astype(np.uint8), mask


def _smooth(rng: np.random.Generator, shape: tuple[int, int], pixel_mm: float, dx: float, dz: float) -> Float:
    """Smooth random field (height, width) of about unit variance; ``dx``, ``dz``: correlation length in mm."""
    coarse = (max(2, round(shape[0] * pixel_mm / dz)) + 2, max(2, round(shape[1] * pixel_mm / dx)) + 2)
    field = Image.fromarray(rng.standard_normal(coarse, dtype=np.float32))
    return np.asarray(field.resize(shape[::-1], Image.Resampling.BICUBIC), np.float64) * 1.3


def _curve(rng: np.random.Generator, width: int, swing_mm: float) -> Float:
    """Smooth random curve (width,) in mm, about 0."""
    x = np.linspace(0, 2 * np.pi, width)
    k = np.arange(1, 4)[:, None]
    waves = rng.normal(size=(3, 1)) / k * np.sin(0.5 * k * x + rng.uniform(0, 2 * np.pi, (3, 1)))
    return swing_mm * waves.sum(axis=0)


def _tissue(case: Case, rng: np.random.Generator) -> Float:
    """Echogenicity (height, width) in dB of the tissue without the lesion."""
    u, shape, pixel = rng.uniform, (case.height, case.width), case.pixel_mm
    z = (np.arange(case.height) * pixel)[:, None]
    depth = np.cumsum(case.layers_mm)
    skin, fat, gland, deep = (
        (d + _curve(rng, case.width, s))[None] for d, s in zip(depth, (0.08, 0.9, 1.0, 0.5), strict=True)
    )
    wide, fine = _smooth(rng, shape, pixel, 5, 2.2), _smooth(rng, shape, pixel, 2.0, 0.8)
    # Ligaments are the zero lines of a smooth field: thin, curved and branching.
    ligament = np.exp(-((_smooth(rng, shape, pixel, 11, 2.6) / 0.13) ** 2)) * np.clip(wide + 0.6, 0, 1.5)
    lobules = -25 + 1.2 * wide + 1.2 * fine + u(6, 10) * ligament
    fibrous = u(-15, -10) + 2.6 * wide + 2.0 * fine - u(4, 9) * (_smooth(rng, shape, pixel, 8, 3) > u(0.7, 1.5))
    muscle = u(-30, -24) + 1.2 * wide + u(1.2, 3.2) * np.abs(_smooth(rng, shape, pixel, 7, 0.55)) ** 1.3
    soft = 0.35

    def below(edge: Float) -> Float:
        return 1 / (1 + np.exp(np.clip((edge - z) / soft, -40, 40)))

    def line(edge: Float, thickness_mm: float) -> Float:
        return np.exp(-(((z - edge) / thickness_mm) ** 2))

    level = np.broadcast_to(u(-16, -11), shape) + 0.8 * fine
    edges = (skin, lobules), (fat + 0.9 * wide, fibrous), (gland + 0.5 * wide, lobules - 1), (deep, muscle)
    for edge, tissue in edges:
        level = level + (tissue - level) * below(edge)
    level += u(8, 12) * line(skin, 0.18) + u(9, 14) * line(np.zeros((1, 1)), 0.35) + u(6, 11) * line(deep, 0.22)
    return level


def _lesion_distance(case: Case, rng: np.random.Generator) -> tuple[Float, Float, tuple[float, float, float]]:
    """Place the lesion of this view.

    Returns:
        Distance (height, width) in mm to the contour, positive inside; how squarely the contour faces the beam
        (height, width), 0–1; its left and right end and its middle row in mm.
    """
    (a, b), pixel = case.semi_axes_mm, case.pixel_mm
    scale = rng.uniform(0.93, 1.07)
    a, b = a * scale, b * scale
    depth, middle = case.position_mm[0] + rng.normal(0, 0.7), case.position_mm[1] + rng.normal(0, 1.2)
    z = (np.arange(case.height) * pixel - depth)[:, None]
    x = (np.arange(case.width) * pixel - middle)[None]
    tilt = case.tilt + rng.normal(0, 0.08)
    along = (x * np.cos(tilt) + z * np.sin(tilt)) / a
    across = (z * np.cos(tilt) - x * np.sin(tilt)) / b
    grid = np.linspace(-np.pi, np.pi, 721)
    contour = np.ones_like(grid)
    for order, (amplitude, phase) in enumerate(case.harmonics, start=2):
        contour += amplitude * np.cos(order * grid + phase)
    for angle, length, breadth in case.spicules:
        contour += length * np.exp(-np.abs(np.angle(np.exp(1j * (grid - angle)))) / breadth)
    radius = np.interp(np.arctan2(across, along), grid, contour)
    facing = (z / b) ** 2 / ((z / b) ** 2 + (x / a) ** 2 + 1e-9)
    reach = np.hypot(along, across)
    half = float(np.hypot(a * np.cos(tilt), b * np.sin(tilt)))
    return (radius - reach) * min(a, b), facing, (middle - half, middle + half, depth)


def _behind(case: Case, mask: Mask, extent_mm: tuple[float, float, float]) -> Float:
    """Gain (height, width) in dB along the beams: shadow or enhancement, and refraction at smooth edges."""
    left, right, middle = extent_mm
    path_mm = np.cumsum(mask, axis=0) * case.pixel_mm
    kernel = np.hanning(2 * round(0.8 / case.pixel_mm) + 3)
    spectrum = np.fft.rfft(path_mm, 512, axis=1) * np.fft.rfft(kernel / kernel.sum(), 512)[None]
    shift = kernel.size // 2
    path_mm = np.fft.irfft(spectrum, 512, axis=1)[:, shift : shift + case.width]
    x = (np.arange(case.width) * case.pixel_mm)[None]
    z = (np.arange(case.height) * case.pixel_mm)[:, None]
    spread = 0.6 + 0.06 * np.clip(z - middle, 0, None)
    edges = np.exp(-(((x - left) / spread) ** 2)) + np.exp(-(((x - right) / spread) ** 2))
    onset = np.clip((z - middle) / 3.0, 0, 1) * np.exp(-np.clip(z - middle, 0, None) / 14)
    return -np.clip(case.attenuation * path_mm, -9, 22) - case.edge_shadow * edges * onset


def _blur(field: NDArray[np.complexfloating], axial: float, lateral: Float) -> NDArray[np.complexfloating]:
    """Convolve (height, width) with Gaussians of unit energy: sigma ``axial`` and, per row, ``lateral``; pixels."""
    f_axial, f_lateral = (np.fft.fftfreq(n) for n in field.shape)
    pulse = np.exp(-2 * (np.pi * axial * f_axial) ** 2) * np.sqrt(2 * np.sqrt(np.pi) * axial)
    beam = np.exp(-2 * (np.pi * lateral[:, None] * f_lateral) ** 2) * np.sqrt(2 * np.sqrt(np.pi) * lateral[:, None])
    pulse, beam = pulse.astype(np.float32), beam.astype(np.float32)
    deep = np.fft.ifft(np.fft.fft(field, axis=0) * pulse[:, None], axis=0)
    return np.fft.ifft(np.fft.fft(deep, axis=1) * beam, axis=1)
