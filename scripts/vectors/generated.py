"""Pictures that need no file (see `noise` and `drawn`), and arrays as JSON."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "vectors"
DRAWN = [
    ("grey", 130, 140, 1), ("grey", 130, 140, 2), ("grey", 768, 1024, 3), ("grey", 40, 50, 4),
    ("mixed", 130, 140, 5), ("mixed", 200, 140, 6), ("noise", 130, 140, 5), ("noise", 130, 140, 6),
    ("flat", 130, 140, 90), ("flat", 1, 1, 7), ("flat", 2, 300, 250), ("board", 130, 140, 1),
    ("board", 150, 131, 5), ("ramp", 140, 160, 1), ("ramp", 140, 160, 0),
]  # fmt: skip
CASCADED = [((64, 60), seed, 8 * seed) for seed in range(9)] + [((768, 1024), 9, 300), ((31, 41), 10, 20)]


def noise(height: int, width: int, seed: int = 1) -> NDArray[np.uint8]:
    """A cone under noise, uint8 (height, width, 3), by whole-number arithmetic that any language repeats.

    Value i (in C order) is ``(n >> 26) + k * (|x - width / 2| * 32 / width + |y - height / 2| * 32 / height)`` with
    ``n = (i + seed) * 2654435761 mod 2^32``, k = 3 for odd seeds, 1 for even ones, all divisions rounded down.
    """
    i = np.arange(height * width * 3, dtype=np.uint64) + np.uint64(seed)
    grain = (i * np.uint64(2654435761) % np.uint64(2**32)) >> np.uint64(26)
    x = np.abs(np.arange(width) - width // 2) * 32 // width
    y = np.abs(np.arange(height) - height // 2) * 32 // height
    ramp = (3 if seed % 2 else 1) * (x[None, :] + y[:, None])
    return (grain.reshape(height, width, 3) + ramp[:, :, None].astype(np.uint64)).astype(np.uint8)


def mixed(height: int, width: int, seed: int, rows: int) -> NDArray[np.uint8]:
    """`noise` with the first ``rows`` rows from ``seed``, the others from the next seed: neither steep nor flat."""
    return np.concatenate([noise(height, width, seed)[:rows], noise(height, width, seed + 1)[rows:]])


def drawn(kind: str, height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """A generated picture, uint8 (height, width, 3).

    ``noise``: see `noise`. ``grey``: the green channel of `noise`, three times. ``mixed``: the green channel of
    `mixed`, three times, with half of the rows each. ``flat``: ``seed`` everywhere. ``board``: 255 if
    (x // seed + y // seed) is odd, else 0. ``ramp``: twice the cone of `noise`, without grain, so no speckle.
    """
    y, x = np.indices((height, width))
    if kind == "noise":
        return noise(height, width, seed)
    if kind == "flat":
        plane = np.full((height, width), seed)
    elif kind == "board":
        plane = (x // seed + y // seed) % 2 * 255
    elif kind == "ramp":
        distance = abs(x - width // 2) * 32 // width + abs(y - height // 2) * 32 // height
        plane = 2 * (3 if seed % 2 else 1) * distance
    else:
        picture = noise(height, width, seed) if kind == "grey" else mixed(height, width, seed, height // 2)
        plane = picture[:, :, 1]
    return np.repeat(plane.astype(np.uint8)[:, :, None], 3, axis=2)


def pack(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON: ``dtype``, ``shape`` and base64 ``data`` of its little-endian bytes in C order."""
    array = np.ascontiguousarray(array)
    data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}
