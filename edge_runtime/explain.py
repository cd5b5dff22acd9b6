"""Grad-CAM on the device, from the outputs of the head; no automatic differentiation.

The head file computes the map beside the logit (DESIGN: score = logit, never the saturating probability). Its
outputs, all float32 and for the positive class; the negative class is their negation:

    logit, probability      (1, 1)
    cam                     (1, H, W)  sum of the branch maps on the largest grid, before the ReLU
    cam_<branch>            (1, h, w)  sum over channels of alpha_k A_k, before the ReLU
    alpha_<branch>          (1, C)     mean over positions of d logit / d A_k (Selvaraju et al. 2017, eq. 1)
    share_<branch>          (1, 1)     the branch's part of the logit
    share_bias              (1, 1)     the rest; all shares add up to the logit
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.backends import Float32Array
from edge_runtime.bundle import Bundle
from edge_runtime.colormap import COLORMAP
from edge_runtime.errors import BundleError, UsageError
from edge_runtime.image import UInt8Image


@dataclass(frozen=True)
class Explanation:
    """Why one image got its logit.

    Attributes:
        label: the class explained.
        cam: fused Grad-CAM, float32 (H, W), >= 0, in units of the logit; all zero where nothing speaks for
            the class.
        branch_cams: the same per branch, each on its own grid.
        shares: part of the positive label's logit by branch, and ``bias``; they add up to the logit.
    """

    label: str
    cam: Float32Array
    branch_cams: Mapping[str, Float32Array]
    shares: Mapping[str, float]

    def to_json(self, image_size: tuple[int, int]) -> dict[str, Any]:
        """Peak position (pixels of the original image), hot area (share of the image at half the peak)."""
        heat = heat_map(self.cam, image_size)
        peak = np.unravel_index(int(np.argmax(heat)), heat.shape) if heat.any() else None
        return {
            "explained_label": self.label,
            "peak_xy": [int(peak[1]), int(peak[0])] if peak else None,
            "area_above_half_peak": round(float((heat >= 0.5).mean()), 4) if peak else 0.0,
            "logit_shares": {name: round(value, 6) for name, value in self.shares.items()},
        }


def explanation(bundle: Bundle, outputs: Mapping[str, Float32Array], label: str) -> Explanation:
    """Read an explanation for ``label`` out of the outputs of the head.

    Raises:
        UsageError: a label that the bundle does not have.
        BundleError: a head without explanation outputs.
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


def heat_map(cam: Float32Array, size: tuple[int, int]) -> Float32Array:
    """A map stretched to the image: float32 (height, width), 0–1 with the peak at 1; zero stays zero."""
    height, width = size
    peak = float(cam.max())
    if not peak > 0.0:
        return np.zeros((height, width), np.float32)
    unit = (cam / np.float32(peak)).astype(np.float32)
    large = np.asarray(Image.fromarray(unit).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    # No pixel need lie on the centre of the hottest cell: without this the peak would be below 1.
    return large / large.max()


def overlay(image: UInt8Image, heat: Float32Array, *, opacity: float = 0.5) -> UInt8Image:
    """The image with the heat map over it, uint8 (height, width, 3); cold regions stay as they are."""
    colour = COLORMAP[np.rint(heat * 255.0).astype(np.uint8)]
    weight = (opacity * heat)[:, :, None]
    return np.asarray(image * (1.0 - weight) + colour * weight + 0.5, np.uint8)


def contour(image: UInt8Image, mask: NDArray[np.bool_], colour: tuple[int, int, int] = (0, 255, 0)) -> UInt8Image:
    """The image with the outline of a mask of any size, which is stretched to it."""
    height, width = image.shape[:2]
    fitted = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.NEAREST)
    inside = np.pad(np.asarray(fitted) > 0, 1, mode="edge")
    core = inside[1:-1, 1:-1]
    eroded = core & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    drawn = image.copy()
    drawn[core & ~eroded] = colour
    return drawn


def panel(image: UInt8Image, heat: Float32Array, mask: NDArray[np.bool_] | None = None) -> UInt8Image:
    """Image and overlay side by side, uint8 (height, 2 width + 4, 3); with a mask its outline is on both."""
    views = [image, overlay(image, heat)]
    if mask is not None:
        views = [contour(view, mask) for view in views]
    gap = np.full((image.shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([views[0], gap, views[1]], axis=1)
