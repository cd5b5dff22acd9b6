"""The files of an explained image: two pictures, the numbers behind them, and a summary.

<stem>.overlay.png   the map over the image
<stem>.panel.png     image, overlay, then an overlay per branch if there are several; mask outlined
<stem>.npz           cam, cam_<branch>: float32 on their own grids, in units of the logit;
                     heat: float16 (height, width) of the image, 0–1
<stem>.json          the prediction, the class explained, peak, area, shares of the logit
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoedge.edge_runtime.explain.gradcam import FUSED, Explanation, heat_map, overlay, panel, unit_map
from sonoedge.edge_runtime.files import write_bytes_atomic
from sonoedge.edge_runtime.types import Float32Array, UInt8Image
from sonoedge.edge_runtime.words import INTENDED_USE

_SUFFIXES = (".overlay.png", ".panel.png", ".npz", ".json")


def write_explanation(
    stem: Path,
    image: UInt8Image,
    result: Explanation,
    summary: Mapping[str, Any],
    *,
    branch: str = FUSED,
    mask: NDArray[np.bool_] | None = None,
    opacity: float = 0.5,
) -> dict[str, Any]:
    """Write the files of one image, each atomically.

    Args:
        stem: path without suffix.
        image: uint8 (height, width, 3).
        result: the explanation.
        summary: further keys for the JSON file, for example the prediction.
        branch: name of the branch whose map the overlay shows and ``heat`` holds; ``fused`` for the sum.
        mask: bool, outlined in the panel; of any size.
        opacity: of the hottest spot, 0–1.

    Returns:
        The content of the JSON file.

    Raises:
        UsageError: there is no such branch.
    """
    size = (image.shape[0], image.shape[1])
    views = panel_views(result, branch)
    body = {
        **summary,
        **result.to_json(size, branch),
        "panel": ["image", *views],
        "intended_use": INTENDED_USE,
    }
    units = {name: unit_map(cam, size) for name, cam in views.items()}
    arrays: dict[str, Any] = {"cam": result.cam}
    arrays |= {f"cam_{name}": cam for name, cam in result.branch_cams.items()}
    arrays["heat"] = heat_map(result.map_of(branch), size).astype(np.float16)
    contents = (
        _png(overlay(image, units[branch], opacity=opacity)),
        _png(panel(image, list(units.values()), mask, opacity=opacity)),
        _npz(arrays),
        _json(body),
    )
    for path, data in zip(explanation_files(stem), contents, strict=True):
        write_bytes_atomic(path, data)
    return body


def explanation_files(stem: Path) -> list[Path]:
    """The files of an image: overlay, panel, arrays, summary."""
    return [stem.with_name(stem.name + suffix) for suffix in _SUFFIXES]


def remove_explanation(stem: Path) -> None:
    """Delete an earlier run's files of an image that is refused now: a heat map without an answer misleads."""
    for path in explanation_files(stem):
        path.unlink(missing_ok=True)


def write_refusal(stem: Path, summary: Mapping[str, Any]) -> Path:
    """Write only the summary of an image that was refused, and delete its other files of an earlier run."""
    remove_explanation(stem)
    path = explanation_files(stem)[-1]
    write_bytes_atomic(path, _json({**summary, "intended_use": INTENDED_USE}))
    return path


def panel_views(result: Explanation, branch: str = FUSED) -> dict[str, Float32Array]:
    """The maps of a panel by name, in order: one branch alone, or the sum and then the branches."""
    if branch != FUSED or len(result.branch_cams) < 2:
        return {branch: result.map_of(branch)}
    return {FUSED: result.cam, **result.branch_cams}


def _png(image: UInt8Image) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _json(body: Mapping[str, Any]) -> bytes:
    return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
    return buffer.getvalue()
