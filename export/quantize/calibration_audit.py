"""The calibration audit: are these images fit to tell the quantizer what activations look like?

The audit has two parts. `audit_images` looks at the images: how many there are, of which classes, how many copies,
and whether one is a copy of a validation or test image. `audit_activations` looks at the activations of the float
backbone: how much the ranges clip, and how far they move from one draw of images to the next. Each warning gives a
number. Only a finding that makes the export meaningless is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sonoedge.edge_runtime.errors import DataError, few
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.export.quantize.ranges import ActivationStatistics, activation_ranges, clipped_share
from sonoedge.train.data.grouping import near_duplicate_pairs, pairs_with_equal, thumbnail

FEW_SAMPLES = 100
"""Warn if there are fewer images."""
IMBALANCE = 3.0
"""Warn if one class has more than this many times the images of another."""
CLIPPED = 0.01
"""Warn if a range clips a larger share of the values."""
SPREAD = 0.10
"""Warn if ranges differ by a larger share of their width between draws of images."""
_SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class HeldOut:
    """Validation and test images: paths and SHA-256, in the same order."""

    paths: tuple[Path, ...]
    digests: tuple[str, ...]


@dataclass(frozen=True)
class ImageAudit:
    """Findings about calibration images.

    Attributes:
        images: how many.
        classes: images by class name; empty if the classes are unknown.
        identical, near_duplicates: number of pairs within the set.
        near_held_out: images that show the same view as a validation or test image; None if not compared.
        warnings: lines to print.
    """

    images: int
    classes: Mapping[str, int]
    identical: int
    near_duplicates: int
    near_held_out: int | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Facts for the bundle's provenance: plain JSON types."""
        return {
            "classes": dict(self.classes),
            "identical_pairs": self.identical,
            "near_duplicate_pairs": self.near_duplicates,
            "near_held_out": self.near_held_out,
        }


def audit_images(
    paths: Sequence[Path],
    digests: Sequence[str],
    classes: Mapping[str, int],
    held_out: HeldOut | None,
    *,
    progress: bool = False,
) -> ImageAudit:
    """Look at calibration images.

    Args:
        paths, digests: files and their SHA-256.
        classes: images by class name, with every known class; empty if unknown.
        held_out: validation and test images of the run; None for a bare model.
        progress: show a bar.

    Raises:
        DataError: a calibration image is a validation or test image.
        ImageError: an image cannot be decoded.
    """
    known = set(held_out.digests) if held_out else set()
    leaked = [path for path, digest in zip(paths, digests, strict=True) if digest in known]
    if leaked:
        raise DataError(
            f"{len(leaked)} of {len(paths)} calibration images are validation or test images of this run: "
            f"{few([path.name for path in leaked])}. Calibrating on them would make every figure about them "
            "meaningless."
        )
    files = [*paths, *(held_out.paths if held_out else ())]
    bar = tqdm(files, desc="calibration audit", unit="img", disable=not progress, leave=False)
    thumbnails = np.stack([thumbnail(read_image(path)) for path in bar])
    count = len(paths)
    pairs = near_duplicate_pairs(thumbnails)
    within = [pair for pair in pairs if pair[1] < count]
    near = {i for i, j in pairs if i < count <= j} if held_out else None
    identical = len(pairs_with_equal(list(digests)))
    warnings = [*_count_warnings(count, classes)]
    if identical:
        warnings.append(f"{identical} of {count} calibration images are copies of another one, byte for byte.")
    if len(within) > identical:
        alike = len({i for pair in within for i in pair})
        warnings.append(f"{alike} of {count} calibration images show a view that another one shows too.")
    if near:
        warnings.append(
            f"{len(near)} of {count} calibration images show the same view as a validation or test image, for "
            f"example {paths[min(near)].name}: figures on those subsets are optimistic."
        )
    return ImageAudit(count, classes, identical, len(within), None if near is None else len(near), tuple(warnings))


def audit_activations(statistics: ActivationStatistics, rules: str | Sequence[str]) -> dict[str, Any]:
    """Measure how well the images determine the ranges of T tensors.

    Args:
        statistics: of T tensors.
        rules: one range rule for all tensors, or one for each.

    Returns:
        Plain JSON types. ``clipped_share`` is the share of values outside a range, the mean over the tensors.
        ``range_spread_median`` is the median over the tensors of the spread of a range: the largest difference in
        width between three draws of half of the images, relative to the mean width. ``worst_clipped`` and
        ``worst_spread`` name the worst tensor with its figure. ``warnings`` are lines to print.
    """
    low, high = activation_ranges(statistics, rules)
    clipped = clipped_share(statistics, low, high)
    spread = _spread(statistics, rules)
    worst_clipped, worst_spread = int(np.argmax(clipped)), int(np.argmax(spread))
    warnings = []
    saturated = int((clipped > CLIPPED).sum())
    if saturated:
        warnings.append(
            f"{saturated} of {len(clipped)} activation ranges clip more than {100 * CLIPPED:g} % of the values; "
            f"the worst, {statistics.names[worst_clipped].split(';')[0]}, {100 * clipped[worst_clipped]:.1f} %."
        )
    unstable = int((spread > SPREAD).sum())
    if unstable > len(spread) // 10:
        warnings.append(
            f"{unstable} of {len(spread)} activation ranges differ by more than {100 * SPREAD:g} % between three "
            f"draws of {_half(statistics)} images: more calibration images would help."
        )
    return {
        "range_rules": sorted({rules} if isinstance(rules, str) else set(rules)),
        "clipped_share": round(float(clipped.mean()), 6),
        "worst_clipped": [statistics.names[worst_clipped], round(float(clipped[worst_clipped]), 6)],
        "range_spread_median": round(float(np.median(spread)), 4),
        "worst_spread": [statistics.names[worst_spread], round(float(spread[worst_spread]), 4)],
        "warnings": warnings,
    }


def _count_warnings(count: int, classes: Mapping[str, int]) -> list[str]:
    warnings = []
    if count < FEW_SAMPLES:
        warnings.append(f"only {count} calibration images; under {FEW_SAMPLES} the ranges are unreliable.")
    counts = Counter(classes)
    missing = [name for name, number in counts.items() if not number]
    if missing:
        shown = ", ".join(f"{number} {name}" for name, number in counts.items())
        warnings.append(f"no calibration image of class {', '.join(missing)} ({shown}).")
    elif counts and max(counts.values()) > IMBALANCE * min(counts.values()):
        shown = ", ".join(f"{number} {name}" for name, number in counts.items())
        warnings.append(f"the classes of the calibration images are out of balance: {shown}.")
    return warnings


def _half(statistics: ActivationStatistics) -> int:
    return max(1, len(statistics.minima) // 2)


def _spread(statistics: ActivationStatistics, rules: str | Sequence[str]) -> NDArray[np.float64]:
    widths = []
    for seed in _SEEDS:
        chosen = np.random.default_rng(seed).permutation(len(statistics.minima))[: _half(statistics)]
        low, high = activation_ranges(statistics.select(chosen), rules)
        widths.append(high.astype(np.float64) - low)
    table = np.stack(widths)
    return np.asarray(np.ptp(table, axis=0) / np.maximum(table.mean(axis=0), 1e-12))
