"""Pictures of explanations: one image per row, one map per column, the lesion outlined (the paper's Figs. 8–10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

from sonoedge.edge_runtime.explain.gradcam import contour, overlay, unit_map
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.edge_runtime.imaging.masks import read_mask
from sonoedge.edge_runtime.types import Float32Array, UInt8Image
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.train.data.dataset import Dataset


def spread_choice(dataset: Dataset, per_class: int) -> list[int]:
    """Indices of the first ``per_class`` images of each class by digest, so that nobody picks them by eye."""
    order = sorted(range(len(dataset)), key=lambda i: dataset.samples[i].sha256)
    return [i for k in range(len(dataset.labels)) for i in [i for i in order if dataset.y[i] == k][:per_class]]


def draw_panels(
    dataset: Dataset, maps: Mapping[str, Float32Array], captions: Sequence[str], path: Path, *, title: str
) -> None:
    """Write a picture of images and their maps.

    Args:
        dataset: N images.
        maps: by name of the column, maps >= 0 (N, h, w).
        captions: of the N rows.
        path: PNG file.
        title: heading of the picture.
    """
    columns = ["image and lesion", *maps]
    figure, axes = plt.subplots(
        len(dataset), len(columns), figsize=(2.1 * len(columns), 2.25 * len(dataset) + 0.5), squeeze=False
    )
    for i, sample in enumerate(dataset.samples):
        image = read_image(sample.path)
        size = (image.shape[0], image.shape[1])
        views = [image, *(overlay(image, unit_map(found[i], size)) for found in maps.values())]
        if sample.mask_path is not None:
            mask = read_mask(sample.mask_path, size)
            views = [contour(view, mask) for view in views]
        for j, (view, column) in enumerate(zip(views, columns, strict=True)):
            axis = axes[i][j]
            axis.imshow(_square(view))
            axis.set_xticks([])
            axis.set_yticks([])
            if i == 0:
                axis.set_title(column, fontsize=9)
            if j > 0 and not list(maps.values())[j - 1][i].any():
                axis.set_xlabel("zero map", fontsize=7)
        axes[i][0].set_ylabel(captions[i], fontsize=7)
    heading = figure.suptitle(f"{title}\n{INTENDED_USE}", fontsize=8, y=1 - 0.12 / figure.get_figheight(), va="top")
    heading.set_in_layout(False)  # the next call leaves room for the heading
    # Leave half an inch above the first row, for the two lines of the heading.
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.5 / figure.get_figheight()))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _square(view: UInt8Image) -> UInt8Image:
    """The view padded with white to a square, so that all rows of a figure have one height."""
    side = max(view.shape[:2])
    canvas = np.full((side, side, 3), 255, np.uint8)
    canvas[: view.shape[0], : view.shape[1]] = view
    return canvas
