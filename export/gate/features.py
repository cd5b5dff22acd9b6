"""What the out-of-domain gate looks at: features of images, through Keras and through the files of a bundle."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.gate import features_of
from sonoedge.edge_runtime.types import UInt8Image
from sonoedge.export.convert.logit import producer
from sonoedge.export.convert.splitting import SplitModel
from sonoedge.export.gate.views import another_view
from sonoedge.train.data.dataset import Sample
from sonoedge.train.features.cache import extract_features
from sonoedge.train.models.backbones import map_channels

VIEWS = 2
"""Views of each validation image, while there are few images."""
VIEWS_IN_ALL = 200

Features = NDArray[np.float32]


def looked_at(model: SplitModel) -> NDArray[np.bool_]:
    """Channels that the gate looks at, bool (C,): of several maps of one backbone, all but the last.

    A backbone's last map has the most channels, knows the classes best, and tells a photograph from an ultrasound
    image worst; with it, the others are drowned. Where a branch has one map, that is looked at.
    """
    parts = []
    for branch in model.head.branches:
        tensor = model.backbone.output[branch.name]
        channels: tuple[int, ...] = (branch.channels,)
        if isinstance(layer := _backbone_of(tensor), keras.Model):
            channels = map_channels(layer)
        parts.append(np.arange(sum(channels)) >= (channels[0] if len(channels) > 1 else 0))
    return np.concatenate(parts)


def _backbone_of(tensor: Any) -> keras.layers.Layer:
    layer, inputs = producer(tensor)
    return producer(inputs[0])[0] if isinstance(layer, keras.layers.Identity) else layer


def float_features(
    model: SplitModel, samples: Sequence[Sample], cache: Path, *, copies: int = 0, progress: bool = False
) -> Features:
    """Features of images, and of their augmented copies, from Keras: float32 (N * (1 + copies), C).

    In the order of `extract_features`, whose cache holds them where `train` has run these backbones over them.
    """
    found = extract_features(_branches(model), samples, cache=cache, copies=copies, progress=progress)
    return np.stack(
        [unit_length([found[b.name][i] for b in model.head.branches]) for i in range(len(samples) * (1 + copies))]
    )


def unit_length(pooled: Sequence[Features]) -> Features:
    """Pooled maps (C,) of each branch as `features_of` gives them."""
    names = [str(number) for number in range(len(pooled))]
    maps = {
        f"map_{name}": vector.reshape(1, 1, -1, vector.shape[-1])
        for name, vector in zip(names, pooled, strict=True)
    }
    return features_of(maps, names)


def _branches(model: SplitModel) -> dict[str, keras.Model]:
    """Per branch, image -> features, as in `train.models.fusion`: the cache's key is made of the layers."""
    flat = getattr(model.head, "join", "gap") == "flatten"
    pool = keras.layers.Identity() if flat else keras.layers.GlobalAveragePooling2D()
    branches = {}
    for name, tensor in model.backbone.output.items():
        layer, inputs = producer(tensor)
        origin = inputs[0] if isinstance(layer, keras.layers.Identity) else tensor
        branches[name] = keras.Model(model.full.inputs[0], pool(origin))
    return branches


def file_features(
    classifier: Classifier, paths: Iterable[Path], *, progress: bool = False, grey: bool = False
) -> Features:
    """Features of image files through an artifact: float32 (N, C)."""
    from tqdm import tqdm

    rows = []
    for path in tqdm(list(paths), desc=classifier.artifact.name, unit="img", disable=not progress, leave=False):
        image = read_image(path)
        rows.append(image_features(classifier, grey_image(image) if grey else image))
    return np.stack(rows)


def grey_image(image: UInt8Image) -> UInt8Image:
    """An image without its colours, uint8 (height, width, 3)."""
    return np.repeat(np.rint(image.mean(axis=2, keepdims=True)).astype(np.uint8), 3, axis=2)


def view_features(classifier: Classifier, paths: Sequence[Path], *, progress: bool = False) -> Features:
    """Features of `VIEWS` views of each image, `VIEWS_IN_ALL` at most: float32 (N, C)."""
    from tqdm import tqdm

    asked = [(path, view) for view in range(VIEWS) for path in paths]
    # View by view: fewer views of every image, rather than many of some.
    asked = (
        asked[:VIEWS_IN_ALL] if len(paths) <= VIEWS_IN_ALL else [asked[i] for i in spread(len(paths), VIEWS_IN_ALL)]
    )
    rows = []
    for path, view in tqdm(asked, desc="views", unit="img", disable=not progress, leave=False):
        image = read_image(path)
        rows.append(image_features(classifier, another_view(image, (zlib.crc32(image.tobytes()), view))))
    return np.stack(rows)


def image_features(classifier: Classifier, image: UInt8Image) -> Features:
    """Features of one image through an artifact: float32 (C,)."""
    return features_of(classifier.explain_raw(image)[1], [branch.name for branch in classifier.bundle.branches])


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of ``count`` indices, in order, the same ones in every run."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])
