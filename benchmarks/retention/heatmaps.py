"""How similar the heat maps of an artifact and of the reference are, image by image, and a gallery of both."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoedge.benchmarks.records.runfile import Picture
from sonoedge.edge_runtime.explain.gradcam import heat_map, overlay, stretch
from sonoedge.edge_runtime.imaging.image import read_image

Maps = Sequence[NDArray[np.float32]]
_WIDTH = 200
_QUALITY = 78


def shown_maps(cams: Sequence[Any], positive: Sequence[bool]) -> list[NDArray[np.float32]]:
    """The maps (H, W) that a reader sees: for the class that the reference decides, negative parts set to 0."""
    return [
        np.maximum(np.asarray(cam, np.float32) * np.float32(1 if sign else -1), 0)
        for cam, sign in zip(cams, positive, strict=True)
    ]


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Cosine of two maps of one shape; NaN if one map is zero."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm > 0 else float("nan")


def agreement(reference: Maps, maps: Maps) -> list[float | None]:
    """Cosine of each pair of shown maps, on the finer of their grids; None if only one of the two is zero.

    Two zero maps agree: their cosine counts as 1.
    """
    result: list[float | None] = []
    for a, b in zip(reference, maps, strict=True):
        if a.any() and b.any():
            size = (max(a.shape[0], b.shape[0]), max(a.shape[1], b.shape[1]))
            first, second = (stretch(m[:, :, None], size)[:, :, 0] for m in (a, b))
            result.append(round(cosine(first, second), 6))
        else:
            result.append(None if a.any() or b.any() else 1.0)
    return result


def gallery(
    paths: Sequence[Path],
    labels: Sequence[str],
    maps: Mapping[str, Maps],
    probabilities: Mapping[str, NDArray[np.float64]],
    ranks: Sequence[float | None],
    *,
    count: int = 6,
) -> tuple[Picture, ...]:
    """Images spread over the whole range of agreement, from the worst to the best; none is picked by eye.

    Args:
        paths: image files.
        labels: their true class.
        maps: by artifact, as from `shown_maps`; the first is the reference.
        probabilities: by artifact (N,).
        ranks: agreement by which the images are chosen; None counts as the worst.
        count: number of pictures, at most.
    """
    order = sorted(range(len(paths)), key=lambda i: -2.0 if ranks[i] is None else ranks[i])  # type: ignore[arg-type, return-value]
    steps = np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))
    pictures = []
    for step in steps:
        i = order[step]
        image = read_image(paths[i])
        place = "lowest agreement" if step == 0 else "highest agreement" if step == len(order) - 1 else (
            f"{round(100 * step / (len(order) - 1))} % of the images agree less"
        )  # fmt: skip
        rank = "undefined" if ranks[i] is None else f"{ranks[i]:.3f}"
        pictures.append(
            Picture(
                caption=f"truth: {labels[i]}; cosine {rank} ({place})",
                image=_data_uri(image),
                overlays={n: _data_uri(overlay(image, heat_map(m[i], image.shape[:2]))) for n, m in maps.items()},
                probabilities={name: round(float(values[i]), 4) for name, values in probabilities.items()},
            )
        )
    return tuple(pictures)


def _data_uri(image: NDArray[np.uint8]) -> str:
    picture = Image.fromarray(image)
    height = max(1, round(picture.height * _WIDTH / picture.width))
    buffer = io.BytesIO()
    picture.resize((_WIDTH, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
