"""The features that the out-of-domain gate looks at, through Keras and through the files of a bundle."""

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
"""Views of each validation image, if there are few images."""
VIEWS_IN_ALL = 200
"""Views of all validation images together, at most."""

Features = NDArray[np.float32]


def looked_at(model: SplitModel) -> NDArray[np.bool_]:
    """Channels that the gate looks at, bool (C,): if a backbone has several maps, all but those of its last map.

    A backbone's last map has the most channels and would outweigh the others. It knows the classes best, but is the
    worst at telling a photograph from an ultrasound image. A branch with one map is looked at whole.
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

    They are in the order of `train.features.cache.extract_features`. If `train` has run these backbones over the
    images, they come from its cache.

    Raises:
        ImageError: an image cannot be decoded.
    """
    found = extract_features(_branches(model), samples, cache=cache, copies=copies, progress=progress)
    return np.stack(
        [unit_length([found[b.name][i] for b in model.head.branches]) for i in range(len(samples) * (1 + copies))]
    )


def unit_length(pooled: Sequence[Features]) -> Features:
    """The gate's features (C,) from the pooled maps of each branch, as `edge_runtime.model.gate.features_of`."""
    names = [str(number) for number in range(len(pooled))]
    maps = {
        f"map_{name}": vector.reshape(1, 1, -1, vector.shape[-1])
        for name, vector in zip(names, pooled, strict=True)
    }
    return features_of(maps, names)


def _branches(model: SplitModel) -> dict[str, keras.Model]:
    """Per branch, image -> features, with the layers of `train.models.fusion`: they make the cache's key."""
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
    """Features of image files through an artifact: float32 (N, C).

    Args:
        classifier: the open artifact.
        paths: N image files.
        progress: show a bar.
        grey: take the colours out of the images.

    Raises:
        ImageError: an image cannot be decoded.
    """
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
    """At most ``most`` of the indices below ``count``, sorted, the same ones in every run."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])
