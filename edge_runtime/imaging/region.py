"""The scan area of an ultrasound screen: the lit part without burned-in text, rulers and logos."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.types import Region, UInt8Image

_CELLS = 64  # the search grid; a gap of one cell parts the scan from a line of text
_LIT = 12  # grey level from which a pixel is not background; monitors and JPEG lift black to about 8
_CELL_SHARE = 0.3  # this share of a cell's pixels must be lit; strokes of text cover less
_SMALLEST, _LARGEST = 0.10, 0.97  # shares of the image; a smaller or larger area is no region


def detect_region(image: UInt8Image) -> Region | None:
    """The bounding box of the largest connected lit area of uint8 (height, width, 3).

    Returns None if this box is nearly the whole image, or too small for a scan.
    """
    lit = image.max(axis=2) >= _LIT
    height, width = lit.shape
    step = max(1, -(-max(height, width) // _CELLS))
    padded = np.pad(lit, ((0, -height % step), (0, -width % step)))
    cells = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).mean(axis=(1, 3))
    area = _largest_area(cells >= _CELL_SHARE)
    if not area.any():
        return None
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    # Add one cell on every side, then shrink to the first row or column with pixels of the area.
    top, bottom = max(0, (rows[0] - 1) * step), min(height, (rows[-1] + 2) * step)
    left, right = max(0, (columns[0] - 1) * step), min(width, (columns[-1] + 2) * step)
    own = np.repeat(np.repeat(_grow(area), step, axis=0), step, axis=1)[:height, :width] & lit
    box = own[top:bottom, left:right]
    inner_rows = np.flatnonzero(box.mean(axis=1) > 0.01)
    inner_columns = np.flatnonzero(box.mean(axis=0) > 0.01)
    if not inner_rows.size or not inner_columns.size:
        return None
    region = Region(
        int(left + inner_columns[0]),
        int(top + inner_rows[0]),
        int(left + inner_columns[-1] + 1),
        int(top + inner_rows[-1] + 1),
    )
    share = (region.right - region.left) * (region.bottom - region.top) / (height * width)
    return region if _SMALLEST <= share <= _LARGEST else None


def parse_crop(text: str) -> Region | str:
    """Parse a crop of the command line: ``none``, ``auto``, or ``LEFT,TOP,RIGHT,BOTTOM`` in pixels.

    Raises:
        UsageError: the text is none of these.
    """
    if text in {"none", "auto"}:
        return text
    parts = text.split(",")
    if len(parts) == 4 and all(part.strip().isdecimal() for part in parts):
        left, top, right, bottom = map(int, parts)
        if left < right and top < bottom:
            return Region(left, top, right, bottom)
    raise UsageError(f"A crop is none, auto or LEFT,TOP,RIGHT,BOTTOM in pixels. Received: {text!r}.")


def _largest_area(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest 4-connected set of true cells."""
    open_cells = set(zip(*(axis.tolist() for axis in np.nonzero(cells)), strict=True))
    best: set[tuple[int, int]] = set()
    while open_cells:
        queue = deque([open_cells.pop()])
        found = set(queue)
        while queue:
            row, column = queue.popleft()
            for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if cell in open_cells:
                    open_cells.remove(cell)
                    found.add(cell)
                    queue.append(cell)
        best = max(best, found, key=len)
    area = np.zeros_like(cells)
    for row, column in best:
        area[row, column] = True
    return area


def _grow(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The cells and their neighbours."""
    padded = np.pad(cells, 1)
    return (
        padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    ).astype(bool)
