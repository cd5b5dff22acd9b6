"""Grad-CAM on the device, from the outputs of the head; no automatic differentiation.

The head computes the maps together with the logit. The score is the logit, never the probability, which saturates.
The outputs are float32 and for the positive class; for the negative class they change their sign:

    logit, probability      (1, 1)
    cam                     (1, H, W)  sum of the branch maps on the largest grid, before the ReLU
    cam_<branch>            (1, h, w)  sum over channels of alpha_k A_k, before the ReLU
    alpha_<branch>          (1, C)     mean over positions of d logit / d A_k (Selvaraju et al. 2017, eq. 1)
    share_<branch>          (1, 1)     the branch's part of the logit
    share_bias              (1, 1)     the rest; all shares add up to the logit

Maps are a few cells wide. They are stretched to the image a band of rows at a time, so that drawing a map over a
large frame allocates only the resulting picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.errors import BundleError, UsageError
from sonoedge.edge_runtime.explain.colormap import COLORMAP
from sonoedge.edge_runtime.types import Float32Array, UInt8Image

FUSED = "fused"
"""The name of the sum of all branches, wherever a branch can be chosen."""
GAP_PIXELS = 4
"""White columns between the views of a panel."""
_BAND_PIXELS = 1 << 15
_COLOURS = COLORMAP.astype(np.float32)


@dataclass(frozen=True)
class Explanation:
    """Why one image got its logit.

    Attributes:
        label: the class explained.
        cam: fused map, float32 (H, W), >= 0, in units of the logit; all zero if nothing speaks for the class.
        branch_cams: the map of each branch, float32 (h, w), >= 0, on its own grid; only Grad-CAM has them.
        shares: the parts of the positive label's logit, by branch and ``bias``; they add up to the logit.
        method: name of the method, see `edge_runtime.explain.methods.table`.
        calls, head_calls: how often the model, and the head alone, ran for the map.
        seconds: that the map took.
        note: a sentence if the method stopped early; else empty.
    """

    label: str
    cam: Float32Array
    branch_cams: Mapping[str, Float32Array]
    shares: Mapping[str, float]
    method: str = "gradcam"
    calls: int = 0
    head_calls: int = 0
    seconds: float = 0.0
    note: str = ""

    def map_of(self, branch: str = FUSED) -> Float32Array:
        """The map of one branch, or the fused one.

        Raises:
            UsageError: there is no such branch.
        """
        if branch == FUSED:
            return self.cam
        if branch not in self.branch_cams:
            known = ", ".join([FUSED, *self.branch_cams])
            raise UsageError(f"Unknown branch {branch!r}. The {self.method} map has: {known}.")
        return self.branch_cams[branch]

    def to_json(self, image_size: tuple[int, int], branch: str = FUSED) -> dict[str, Any]:
        """A JSON object: label, branch, position of the peak, hot area and shares of the logit.

        The peak (x, y) is in pixels of the image of ``image_size`` (height, width). The hot area is the share of
        pixels at half the peak or above. A method that asked the model again adds ``cost``, and ``note`` if it
        stopped early.
        """
        peak, area = _peak_and_area(unit_map(self.map_of(branch), image_size), image_size)
        return {
            "explained_label": self.label,
            "branch": branch,
            "peak_xy": peak,
            "area_above_half_peak": round(area, 4),
            "logit_shares": {name: round(value, 6) for name, value in self.shares.items()},
            **self._cost(),
        }

    def _cost(self) -> dict[str, Any]:
        if not (self.calls or self.head_calls or self.note):
            return {}
        cost = {"calls": self.calls, "head_calls": self.head_calls, "seconds": round(self.seconds, 3)}
        return {"cost": cost, **({"note": self.note} if self.note else {})}


def explanation(bundle: Bundle, outputs: Mapping[str, Float32Array], label: str) -> Explanation:
    """Build the explanation for ``label`` from the outputs of the head, see this module.

    Raises:
        UsageError: the bundle has no such label.
        BundleError: the head has no outputs for explanations.
    """
    if label not in bundle.labels:
        raise UsageError(f"Unknown class {label!r}. The bundle has: {', '.join(bundle.labels)}.")
    sign = np.float32(1.0 if label == bundle.positive_label else -1.0)
    names = [branch.name for branch in bundle.branches]
    needed = ["cam", "share_bias", *(f"{kind}_{name}" for kind in ("cam", "share") for name in names)]
    if missing := [name for name in needed if name not in outputs]:
        raise BundleError(f"This artifact was exported without explanation outputs: {', '.join(missing)}.")
    return Explanation(
        label=label,
        cam=np.maximum(sign * outputs["cam"][0], 0.0),
        branch_cams={name: np.maximum(sign * outputs[f"cam_{name}"][0], 0.0) for name in names},
        shares={name: float(outputs[f"share_{name}"].reshape(())) for name in [*names, "bias"]},
    )


def unit_map(cam: Float32Array, size: tuple[int, int]) -> Float32Array:
    """A map float32 (h, w) on its own grid, scaled so that its peak is 1 after stretching to (height, width)."""
    highest = float(cam.max())
    if not highest > 0.0:
        return np.zeros_like(cam, np.float32)
    unit = (cam / np.float32(highest)).astype(np.float32)
    # Perhaps no pixel lies on the centre of the hottest cell; without this step the peak would be below 1.
    return unit / max(band.max() for _, band in _bands(unit, size))


def heat_map(cam: Float32Array, size: tuple[int, int]) -> Float32Array:
    """A map stretched to the image: float32 (height, width), 0–1 with the peak at 1; zero stays zero."""
    heat = np.empty(size, np.float32)
    for rows, band in _bands(unit_map(cam, size), size):
        heat[rows] = band
    # The peak must be 1 to the last bit.
    heat /= heat.max() or 1.0
    return heat


def stretch(array: Float32Array, size: tuple[int, int]) -> Float32Array:
    """Feature maps float32 (h, w, C), stretched bilinearly to (height, width, C), as `heat_map` does."""
    if array.shape[:2] == size:
        return array
    down, across = _bilinear(size[0], array.shape[0]), _bilinear(size[1], array.shape[1])
    return np.einsum("yh,xw,hwc->yxc", down, across, array, optimize=True)


def overlay(image: UInt8Image, heat: Float32Array, *, opacity: float = 0.5) -> UInt8Image:
    """The image with a map over it, uint8 (height, width, 3); cold regions stay unchanged.

    Args:
        image: uint8 (height, width, 3).
        heat: float32, 0–1; of the image's size, or on a small grid (see `unit_map`), which is stretched.
        opacity: of the hottest spot, 0–1.
    """
    canvas = np.empty_like(image)
    _blend(canvas, image, heat, opacity)
    return canvas


def contour(image: UInt8Image, mask: NDArray[np.bool_], colour: tuple[int, int, int] = (0, 255, 0)) -> UInt8Image:
    """A copy of uint8 (height, width, 3) with the outline of a mask; a mask of any size is stretched."""
    drawn = image.copy()
    drawn[_outline(mask, image.shape[:2])] = colour
    return drawn


def panel(
    image: UInt8Image,
    heats: Sequence[Float32Array],
    mask: NDArray[np.bool_] | None = None,
    *,
    opacity: float = 0.5,
) -> UInt8Image:
    """The image and one overlay for each of N maps, side by side: uint8 (height, (1 + N) width + 4 N, 3).

    If a mask is given, every view shows its outline.
    """
    height, width = image.shape[:2]
    step = width + GAP_PIXELS
    canvas = np.full((height, step * (1 + len(heats)) - GAP_PIXELS, 3), 255, np.uint8)
    views = [canvas[:, i * step : i * step + width] for i in range(1 + len(heats))]
    views[0][:] = image
    for view, heat in zip(views[1:], heats, strict=True):
        _blend(view, image, heat, opacity)
    if mask is not None:
        edge = _outline(mask, (height, width))
        for view in views:
            view[edge] = (0, 255, 0)
    return canvas


def _blend(canvas: UInt8Image, image: UInt8Image, heat: Float32Array, opacity: float) -> None:
    for rows, band in _bands(heat, image.shape[:2]):
        weight = (np.float32(opacity) * band)[:, :, None]
        colour = _COLOURS[np.rint(band * 255.0).astype(np.uint8)]
        # The assignment to uint8 truncates: adding half a step first rounds.
        canvas[rows] = image[rows] * (1.0 - weight) + colour * weight + 0.5


def _outline(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of a mask, stretched to (height, width), that have a neighbour outside it."""
    fitted = Image.fromarray(mask.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.NEAREST)
    inside = np.pad(np.asarray(fitted) > 0, 1, mode="edge")
    core = inside[1:-1, 1:-1]
    return core & ~(inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:])


def _peak_and_area(unit: Float32Array, size: tuple[int, int]) -> tuple[list[int] | None, float]:
    """Position (x, y) of the first hottest pixel, share of pixels at half the peak or above; None, 0.0 if zero."""
    if not unit.any():
        return None, 0.0
    best, position, hot = -1.0, [0, 0], 0
    for rows, band in _bands(unit, size):
        hot += int((band >= 0.5).sum())
        if band.max() > best:
            best = float(band.max())
            y, x = divmod(int(band.argmax()), size[1])
            position = [x, rows.start + y]
    return position, hot / (size[0] * size[1])


def _bands(heat: Float32Array, size: tuple[int, int]) -> Iterator[tuple[slice, Float32Array]]:
    """A map on any grid, stretched to (height, width) bilinearly as by Pillow, in bands of rows."""
    height, width = size
    step = max(1, _BAND_PIXELS // width)
    slices = [slice(start, min(start + step, height)) for start in range(0, height, step)]
    if heat.shape == (height, width):
        yield from ((rows, heat[rows]) for rows in slices)
        return
    down = _bilinear(height, heat.shape[0])
    across = heat @ _bilinear(width, heat.shape[1]).T
    for rows in slices:
        yield rows, down[rows] @ across


def _bilinear(pixels: int, cells: int) -> Float32Array:
    """Triangular weights float32 (pixels, cells) of each cell in each pixel along one axis; rows add up to 1."""
    scale = cells / pixels
    centres = (np.arange(pixels) + 0.5) * scale
    distance = np.abs(np.arange(cells) + 0.5 - centres[:, None])
    # If there are fewer pixels than cells, the triangle is wider than a cell, so that no cell is skipped.
    weights = np.maximum(1.0 - distance / max(1.0, scale), 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
