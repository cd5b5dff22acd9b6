"""Cached arrays: a file that is not whole is not used.

Every entry is one ``.npz``, whose members have checksums (CRC-32). Entries are written atomically and named by a
digest of all that decides their content. So two processes can use one cache: at worst both compute the same entry.
"""

from __future__ import annotations

import io
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sonoedge.edge_runtime.files import write_bytes_atomic

Arrays = dict[str, NDArray[Any]]


def read_arrays(path: Path) -> Arrays | None:
    """The arrays of an entry by name, or None if there is none. A damaged entry is removed, with a warning."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        tqdm.write(f"warning: the cached {path.name} is damaged and will be computed again.", file=sys.stderr)
        path.unlink(missing_ok=True)
        return None


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write an entry.

    Raises:
        OSError: the cache cannot be written, for example because the disk is full.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes_atomic(path, buffer.getvalue())
