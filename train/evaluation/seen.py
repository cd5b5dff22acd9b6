"""Which images a run has seen in training or validation: the same bytes, or another copy of the same picture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sonoedge.edge_runtime.files import sha256_file
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.train.data.copies import centre_square, copy_pairs
from sonoedge.train.data.dataset import Dataset
from sonoedge.train.data.grouping import near_duplicate_pairs, thumbnail
from sonoedge.train.data.split import path_of, subset_of
from sonoedge.train.evaluation.run_folder import Run


@dataclass(frozen=True)
class Seen:
    """Rows of a data set that a run has seen.

    Attributes:
        identical: rows with the same bytes as an image of the run.
        copies: rows with other bytes that show a picture of the run turned, mirrored, sharpened, rescaled or as it
            is.
        not_compared: images of the run that are no longer where it read them; copies of these are not found.
    """

    identical: frozenset[int]
    copies: frozenset[int]
    not_compared: int

    @property
    def rows(self) -> frozenset[int]:
        """All rows that the run has seen."""
        return self.identical | self.copies


def find_seen(run: Run, dataset: Dataset, *, progress: bool = False) -> Seen:
    """Compare a data set with the run's training and validation images, by the evidence of ``sonoedge audit``.

    Raises:
        ImageError: an image cannot be decoded.
    """
    known = {digest for digest, subset in subset_of(run.split).items() if subset != "test"}
    identical = frozenset(i for i, sample in enumerate(dataset.samples) if sample.sha256 in known)
    candidates = [i for i in range(len(dataset)) if i not in identical]
    sources = _sources(run, dataset, known)
    copies: set[int] = set()
    if candidates and sources:
        paths = [*sources.values(), *(dataset.samples[i].path for i in candidates)]
        pairs = _pairs(paths, progress)
        first = len(sources)
        copies = {candidates[b - first] for a, b in pairs if a < first <= b}
    return Seen(identical, frozenset(copies), len(known) - len(sources))


def _sources(run: Run, dataset: Dataset, known: set[str]) -> dict[str, Path]:
    """Where the run's images can be read, by SHA-256: among the data, or where the run read them."""
    found = {sample.sha256: sample.path for sample in dataset.samples if sample.sha256 in known}
    for entry in run.split.entries:
        path = path_of(run.split, entry)
        if entry.sha256 in known - found.keys() and path.is_file() and sha256_file(path) == entry.sha256:
            found[entry.sha256] = path
    return found


def _pairs(paths: list[Path], progress: bool) -> list[tuple[int, int]]:
    """Index pairs ``(i, j)``, ``i < j``, of images that show the same content."""
    from tqdm import tqdm

    def fingerprints(path: Path) -> tuple[np.ndarray, np.ndarray]:
        image = read_image(path)
        return thumbnail(image), centre_square(image)

    with ThreadPoolExecutor(max_workers=2) as pool:
        read = pool.map(fingerprints, paths)
        both = list(tqdm(read, "looking for copies", len(paths), disable=None if progress else True))
    pairs = near_duplicate_pairs(np.stack([small for small, _ in both]), invariant=True)
    return pairs + [(pair.first, pair.second) for pair in copy_pairs(np.stack([square for _, square in both]))]
