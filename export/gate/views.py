"""Views: what another scanner, or another setting of the same one, might have made of a picture.

The out-of-domain gate must not take every unknown scanner for a photograph. There are no images of other scanners
when a gate is fitted, but their usual differences are known: field of view, gain, dynamic range, time gain
compensation, sharpness, receiver noise. Views differ more than the copies that `train.features.augment` makes to
train on.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from sonoedge.edge_runtime.types import UInt8Image


def another_view(image: UInt8Image, seed: tuple[int, ...]) -> UInt8Image:
    """Another view of a B-mode image, uint8 (height, width, 3) -> (height', width', 3); the seed decides the view.

    A part of 55–100 % of width and height, with the skin line (top) more often than the depth; mirrored half of the
    time; softer or sharper; gamma 0.6–1.7, gain 0.75–1.3, 20 % more or less of it at the ends of the depth; noise
    of up to 3 % of the range. Grey, as B-mode is.
    """
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    wide, high = rng.uniform(0.55, 1.0, 2)
    left, top = rng.uniform(0, 1 - wide) * width, rng.uniform(0, 1 - high) * height / 2
    box = (
        int(left),
        int(top),
        max(int(left + wide * width), int(left) + 1),
        max(int(top + high * height), int(top) + 1),
    )
    view = Image.fromarray(image).convert("L").crop(box)
    if rng.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    focus = rng.random()
    if focus < 0.35:
        view = view.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.6)))
    elif focus < 0.6:
        view = view.filter(ImageFilter.UnsharpMask(rng.uniform(1.0, 2.5), int(rng.uniform(50, 200)), 0))
    echo = rng.uniform(0.75, 1.3) * (np.asarray(view, np.float32) / 255) ** np.exp(rng.uniform(*np.log([0.6, 1.7])))
    echo *= 1 + rng.uniform(-0.4, 0.4) * (np.linspace(0, 1, len(echo), dtype=np.float32)[:, None] - 0.5)
    if rng.random() < 0.5:
        echo = echo + rng.normal(0, rng.uniform(0, 0.03), echo.shape)
    grey = np.rint(255 * np.clip(echo, 0, 1)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
