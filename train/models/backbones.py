"""The ImageNet backbones: one table row each, preprocessing as a layer of the graph.

Every backbone takes RGB 0–255. One `keras.layers.Rescaling` per branch gives the range that its ImageNet weights
expect. Each backbone has one graph, whatever its weights: that of Keras with ``weights=None``. The Caffe-trained
ones (VGG, ResNet) want BGR: the input channels of their first convolution are reversed when the weights are loaded.
That is the same function without a channel-shuffling operator on the device.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from sonoedge.edge_runtime.errors import ModelError, UsageError
from sonoedge.train.models import googlenet, lite0
from sonoedge.train.models.keras_files import DOWNLOAD_HOST, cache_folder, imagenet_reachable
from sonoedge.train.models.lesion import with_lesion
from sonoedge.train.records.settings import Maps, Preprocessing

CAFFE_MEAN_RGB = (123.68, 116.779, 103.939)
_TORCH_MEAN_RGB = (0.485, 0.456, 0.406)
_TORCH_STD_RGB = (0.229, 0.224, 0.225)
_STAGES = "stages"


@dataclass(frozen=True)
class Backbone:
    """One row: a network, and the input that its weights were trained on: ``scale * RGB + offset``.

    Attributes:
        application: name of the function in `_OURS`, or in `keras.applications`.
        cache_file: its weights in Keras' cache; None for EfficientNetLite0, whose weights come with a package.
        scale, offset: per channel.
        bgr: whether the weights expect BGR.
        stem: convolution whose weights take the scale, exactly. As an operator of its own the scale takes 3 % of a
            small network's time on a device.
        stages: layers that end the stages before the last, from 1/8 of the image's size on.
        finer: layer whose grid is twice as fine as the last.
    """

    application: str
    cache_file: str | None
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bgr: bool = False
    stem: str = ""
    stages: tuple[str, ...] = ()
    finer: str = ""


_OURS = {"EfficientNetLite0": lite0.EfficientNetLite0, "GoogLeNet": googlenet.GoogLeNet}


def _caffe(application: str, cache_file: str) -> Backbone:
    red, green, blue = CAFFE_MEAN_RGB
    return Backbone(application, cache_file, offset=(-red, -green, -blue), bgr=True)


def _symmetric(application: str, cache_file: str, finer: str = "") -> Backbone:
    return Backbone(application, cache_file, scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3, finer=finer)


def _torch(application: str, cache_file: str) -> Backbone:
    pairs = list(zip(_TORCH_MEAN_RGB, _TORCH_STD_RGB, strict=True))
    scale = tuple(1 / (255.0 * std) for _, std in pairs)
    offset = tuple(-mean / std for mean, std in pairs)
    return Backbone(application, cache_file, scale=_triple(scale), offset=_triple(offset))


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third


_TF_NOTOP = "_weights_tf_dim_ordering_tf_kernels_notop.h5"
BACKBONES: dict[str, Backbone] = {
    "vgg16": _caffe("VGG16", f"vgg16{_TF_NOTOP}"),
    "vgg19": _caffe("VGG19", f"vgg19{_TF_NOTOP}"),
    "efficientnetb0": Backbone(
        "EfficientNetB0",
        "efficientnetb0_notop.h5",
        stages=("block3b_add", "block4c_add", "block5c_add", "block6d_add"),
        finer="block5c_add",
    ),
    "mobilenet": _symmetric("MobileNet", "mobilenet_1_0_224_tf_no_top.h5", "conv_pw_11_relu"),
    "mobilenetv2": _symmetric(
        "MobileNetV2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", "block_12_add"
    ),
    "resnet50v2": _symmetric("ResNet50V2", f"resnet50v2{_TF_NOTOP}"),
    "resnet50": _caffe("ResNet50", f"resnet50{_TF_NOTOP}"),
    "resnet152": _caffe("ResNet152", f"resnet152{_TF_NOTOP}"),
    "densenet121": _torch("DenseNet121", f"densenet121{_TF_NOTOP}"),
    "googlenet": Backbone(
        "GoogLeNet", googlenet.WEIGHTS_FILE, offset=(-123.0, -117.0, -104.0), bgr=True, finer="inception_4e"
    ),
    "inceptionv3": _symmetric("InceptionV3", f"inception_v3{_TF_NOTOP}"),
    "efficientnetlite0": Backbone(
        "EfficientNetLite0", None, (1 / 128,) * 3, (-127 / 128,) * 3, stem="stem_conv", finer="block10_add"
    ),
}
"""Backbones by name. Each gives (N, H, W, C) feature maps, frozen."""


def parse_backbones(text: str) -> tuple[str, ...]:
    """Names from a comma-separated list.

    Raises:
        UsageError: an unknown or repeated name, or none.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in BACKBONES]
    if not names or unknown or len(set(names)) != len(names):
        raise UsageError(f"--backbones takes different names of {', '.join(BACKBONES)}. Received: {text!r}.")
    return names


def build_branch(
    name: str, image: Any, *, weights: str, preprocessing: Preprocessing = "native", maps: Maps = "last"
) -> tuple[keras.Model, Any]:
    """Attach a frozen backbone to the input.

    Args:
        name: key of `BACKBONES`; also the name of the sub-model.
        image: symbolic float32 (N, H, W, 3), RGB 0–255.
        weights: ``imagenet``, ``none``, or a folder with ``<name>_notop.weights.h5``.
        preprocessing: ``native`` gives each backbone the input it was trained on; ``unit`` divides by 255 for
            all, as the paper's text says.
        maps: ``last`` gives the last map, as in the paper. ``stages`` adds the maps of earlier stages that the row
            names, averaged down to the grid of the last. They cost nothing: the backbone computes them anyway.
            ``lesion`` gives `train.models.lesion`: maps on a finer grid, weighted by the predicted lesion.

    Returns:
        The sub-model and its symbolic feature map (N, h, w, C).

    Raises:
        ModelError: the weights cannot be found, read or downloaded.
        MissingExtraError: the package with the weights is not installed.
        UsageError: ``lesion`` maps of a backbone that has no finer grid.
    """
    row = BACKBONES[name]
    if weights == "imagenet":
        _require_imagenet(name, row)
    size = tuple(image.shape[1:])
    application = _OURS.get(row.application) or getattr(keras.applications, row.application)
    fresh = partial(application, include_top=False, input_shape=size, name=name)
    if weights == "imagenet":
        model = _in_plain_graph(fresh(weights="imagenet"), fresh)
    else:
        # Weights that come with a package need not lie in the folder, too.
        packaged = row.cache_file is None and weights != "none" and not weights_file(weights, name).is_file()
        model = fresh(weights="imagenet" if packaged else None)
        if weights != "none" and not packaged:
            _load_weights(model, weights_file(weights, name))
    if maps == "stages" and row.stages:
        model = _with_stages(model, row.stages)
    if maps == "lesion":
        if not row.finer:
            able = ", ".join(key for key, other in BACKBONES.items() if other.finer)
            raise UsageError(f"--maps lesion works with the backbones {able}. Received: {name}.")
        model = with_lesion(model, row.finer)
    if preprocessing == "unit":
        scaled = keras.layers.Rescaling(1 / 255.0, name=f"{name}_input")(image)
    else:
        if row.bgr:
            _reverse_input_channels(model)
        scaled = image
        scale, offset = row.scale, row.offset
        if row.stem:
            stem = model.get_layer(row.stem)
            stem.set_weights([stem.get_weights()[0] * np.array(scale, np.float32)[:, None]])
            scale, offset = (1.0,) * 3, _triple([b / a for a, b in zip(scale, offset, strict=True)])
        if scale != (1.0,) * 3 or any(offset):
            layer = keras.layers.Rescaling(list(scale), list(offset), name=f"{name}_input")
            scaled = layer(image)
    model.trainable = False
    return model, model(scaled)


def _in_plain_graph(given: keras.Model, fresh: Callable[..., keras.Model]) -> keras.Model:
    """A model from Keras with its ImageNet weights, in the graph that Keras builds without them."""
    if sum(isinstance(layer, keras.layers.Rescaling) for layer in given.layers) < 2:
        return given
    model = fresh(weights=None)
    model.set_weights(given.get_weights())
    _fold_second_rescaling(model)
    return model


def _fold_second_rescaling(model: keras.Model) -> None:
    """Divide by the square root of the standard deviation once more, in the weights.

    The Normalization of Keras' ImageNet EfficientNets holds the standard deviation as its variance, and so divides
    by the square root of the standard deviation. Keras adds a Rescaling that divides by it again, but only in
    graphs with ``weights="imagenet"``.
    """
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance, count = layer.get_weights()
    layer.set_weights([mean, variance * np.array(_TORCH_STD_RGB, variance.dtype), count])
    layer.finalize_state()


def _with_stages(model: keras.Model, stages: Sequence[str]) -> keras.Model:
    """Join the last map and those of earlier stages on one grid; their means are those on their own grids."""
    last = model.output
    parts = [last]
    for name in stages:
        value = model.get_layer(name).output
        factor = tuple(math.ceil(have / want) for have, want in zip(value.shape[1:3], last.shape[1:3], strict=True))
        if factor != (1, 1):
            value = keras.layers.AveragePooling2D(factor, padding="same", name=f"{name}_pool")(value)
        parts.append(value)
    return keras.Model(model.input, keras.layers.Concatenate(name=_STAGES)(parts), name=model.name)


def map_channels(backbone: keras.Model) -> tuple[int, ...]:
    """Channels of each map that `build_branch` joined into the sub-model's output; the last map's come first."""
    last = backbone.layers[-1]
    joined = last.input if last.name == _STAGES else [backbone.output]
    return tuple(int(value.shape[-1]) for value in joined)


def weights_file(folder: str | Path, name: str) -> Path:
    """Path of a backbone's weights in the folder of ``--weights DIR``; arrays of NumPy keep their file's name."""
    own = BACKBONES[name].cache_file or ""
    return Path(folder) / (own if own.endswith(".npz") else f"{name}_notop.weights.h5")


def imagenet_at_hand(names: Sequence[str]) -> bool:
    """Whether the ImageNet files of all these backbones are in Keras' cache already."""
    return all(_cached(BACKBONES[name]) for name in names)


def imagenet_available(name: str) -> bool:
    """Whether a backbone's ImageNet weights are in Keras' cache or can be downloaded; Keras does not have ours."""
    row = BACKBONES[name]
    return _cached(row) or (row.application not in _OURS and imagenet_reachable())


def weights_digest(model: keras.Model) -> str:
    """SHA-256 over a model's weights in order (float32 bytes and shapes)."""
    digest = hashlib.sha256()
    for weight in model.weights:
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(weight), np.float32)
        digest.update(str(array.shape).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _cached(row: Backbone) -> bool:
    """Whether the weights are in Keras' cache; also true if a package holds them (`train.models.lite0_weights`)."""
    return row.cache_file is None or (cache_folder() / row.cache_file).is_file()


def _require_imagenet(name: str, row: Backbone) -> None:
    if not imagenet_available(name):
        raise ModelError(
            f"The ImageNet weights of {name} are neither in Keras' cache nor can they be downloaded from "
            f"{DOWNLOAD_HOST}. Offline: copy {row.cache_file} into {cache_folder()}, or use --weights DIR with "
            f"{weights_file('', name)}, or --weights none (untrained backbones: good for trying the pipeline, not "
            "for accuracy)."
        )


def _load_weights(model: keras.Model, path: Path) -> None:
    if path.suffix == ".npz":
        googlenet.set_weights(model, path)
        return
    if not path.is_file():
        raise ModelError(f"No such weights file: {path}")
    try:
        with warnings.catch_warnings():
            # Keras only warns if it leaves some layers as they were.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
            with h5py.File(path) as file:
                rescalings = sum(name.startswith("rescaling") for name in file["layers"])
    except (OSError, ValueError, KeyError, UserWarning) as error:
        message = str(error).splitlines()[0]
        raise ModelError(f"{path} does not fit {model.name}: {message}") from error
    if rescalings == 2 and sum(isinstance(layer, keras.layers.Rescaling) for layer in model.layers) == 1:
        # Saved from Keras' ImageNet model: the file lists its layers, also those without weights.
        _fold_second_rescaling(model)


def _reverse_input_channels(model: keras.Model) -> None:
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    kernel, *rest = first.get_weights()
    first.set_weights([kernel[:, :, ::-1, :], *rest])
