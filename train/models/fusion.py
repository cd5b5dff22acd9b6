"""The paper's fusion model, from any list of backbones.

image (N, H, W, 3) RGB 0–255 -> each backbone's maps -> concatenated on channels (``features``) -> pooled ->
Dense–ReLU–Dropout … -> ``logit`` (N, 1) -> ``probability`` (N, 1). If the grids of the backbones differ, each map
is pooled first and the vectors are concatenated: the result is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from sonoedge.edge_runtime.errors import ModelError, UsageError
from sonoedge.train.models.backbones import build_branch
from sonoedge.train.records.settings import Maps, Pooling, Preprocessing


@dataclass(frozen=True)
class HeadSpec:
    """The classifier on the features. The paper gives no widths; these are ours.

    Attributes:
        pooling: ``gap`` (global average pooling) or ``flatten``.
        units: widths of the hidden dense layers.
        dropout: rate after each of them, 0–1.
    """

    pooling: Pooling = "gap"
    units: tuple[int, ...] = (256,)
    dropout: float = 0.5


@dataclass(frozen=True)
class Head:
    """The classifier alone.

    Attributes:
        head: the branches' features, in order -> probability (N, 1).
        head_logit: the branches' features, in order -> logit (N, 1).
    """

    head: keras.Model
    head_logit: keras.Model


@dataclass(frozen=True)
class FusionModel(Head):
    """The full model and its parts, which share their layers: training ``head`` trains ``full``.

    Attributes:
        full: image (N, H, W, 3) -> probability (N, 1).
        branches: per backbone, image -> pooled features (N, C), or maps (N, h, w, C) for a flatten head.
        backbones: the frozen sub-models.
    """

    full: keras.Model
    branches: dict[str, keras.Model]
    backbones: dict[str, keras.Model]


def build_model(
    backbones: Sequence[str],
    *,
    weights: str,
    input_size: tuple[int, int] = (224, 224),
    head: HeadSpec | None = None,
    preprocessing: Preprocessing = "native",
    maps: Maps = "last",
) -> FusionModel:
    """Build the fused classifier.

    Args:
        backbones: keys of `train.models.backbones.BACKBONES`.
        weights, preprocessing, maps: see `train.models.backbones.build_branch`.
        input_size: (height, width) in pixels.
        head: the default one if None.

    Raises:
        MissingExtraError, ModelError: the weights cannot be had; see `train.models.backbones.build_branch`.
        UsageError: a flatten head on backbones of different grids.
    """
    spec = head or HeadSpec()
    image = keras.Input((*input_size, 3), name="image")
    parts = {
        name: build_branch(name, image, weights=weights, preprocessing=preprocessing, maps=maps)
        for name in backbones
    }
    features = {name: feature_map for name, (_, feature_map) in parts.items()}
    grids = {tuple(feature_map.shape[1:3]) for feature_map in features.values()}
    if spec.pooling == "flatten" and len(grids) > 1:
        raise UsageError(f"A flatten head needs one grid for all backbones. Received: {sorted(grids)}.")
    layers = _head_layers(spec)
    joined = _join(list(features.values()), spec, one_grid=len(grids) == 1)
    full = keras.Model(image, _apply(layers, joined)[-1], name="sonoedge")

    pool = keras.layers.GlobalAveragePooling2D() if spec.pooling == "gap" else keras.layers.Identity()
    branches = {
        name: keras.Model(image, pool(feature_map), name=f"{name}_branch") for name, feature_map in features.items()
    }
    shapes = {name: tuple(branch.output.shape[1:]) for name, branch in branches.items()}
    alone = _head_alone(shapes, layers, spec)
    return FusionModel(
        alone.head,
        alone.head_logit,
        full,
        branches,
        backbones={name: model for name, (model, _) in parts.items()},
    )


def build_head(shapes: Mapping[str, tuple[int, ...]], spec: HeadSpec | None = None) -> Head:
    """A head without its backbones, to be trained on cached features.

    Args:
        shapes: per backbone, the shape of one image's features: (C,), or (h, w, C) for a flatten head.
        spec: the default one if None.
    """
    spec = spec or HeadSpec()
    return _head_alone(shapes, _head_layers(spec), spec)


def _head_alone(
    shapes: Mapping[str, tuple[int, ...]], layers: Sequence[keras.layers.Layer], spec: HeadSpec
) -> Head:
    inputs = [keras.Input(shape, name=name) for name, shape in shapes.items()]
    joined = inputs[0] if len(inputs) == 1 else keras.layers.Concatenate()(inputs)
    if spec.pooling == "flatten":
        joined = keras.layers.Flatten()(joined)
    *_, logit, probability = _apply(layers, joined)
    return Head(keras.Model(inputs, probability, name="head"), keras.Model(inputs, logit, name="head_logit"))


def load_model(path: str | Path) -> keras.Model:
    """Read ``model.keras``, from the file or the run folder that holds it.

    Raises:
        ModelError: there is no such file, or Keras cannot read it.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.keras"
    if not path.is_file():
        raise ModelError(f"No such model file: {path}")
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path} cannot be read as a Keras model: {str(error).splitlines()[0]}") from error


def open_model(path: str | Path) -> FusionModel:
    """Read ``model.keras`` and take it apart into the parts that `build_model` had put together.

    Raises:
        ModelError: the file cannot be read, or `build_model` did not make the model.
    """
    full = load_model(path)
    backbones = {layer.name: layer for layer in full.layers if isinstance(layer, keras.Model)}
    names = [layer.name for layer in full.layers]
    if not backbones or not {"features", "logit", "probability"} <= set(names):
        raise ModelError(f"{path} is not a model of sonoedge train.")
    spec = HeadSpec("flatten" if "flatten" in names else "gap")
    pool = keras.layers.GlobalAveragePooling2D() if spec.pooling == "gap" else keras.layers.Identity()
    image = full.inputs[0]
    branches = {
        name: keras.Model(image, pool(backbone(backbone_input(full, name))), name=f"{name}_branch")
        for name, backbone in backbones.items()
    }
    shapes = {name: tuple(branch.output.shape[1:]) for name, branch in branches.items()}
    dense = [layer for layer in full.layers if isinstance(layer, keras.layers.Dense | keras.layers.Dropout)]
    alone = _head_alone(shapes, [*dense, full.get_layer("probability")], spec)
    return FusionModel(alone.head, alone.head_logit, full, branches, backbones)


def backbone_input(full: keras.Model, name: str) -> Any:
    """The input of a backbone within a whole model, rescaled if the backbone needs it: symbolic (N, H, W, 3)."""
    image = full.inputs[0]
    scaling = next((layer for layer in full.layers if layer.name == f"{name}_input"), None)
    return image if scaling is None else scaling(image)


def logit_model(model: keras.Model) -> keras.Model:
    """The model image (N, H, W, 3) -> logit (N, 1) of a whole model image -> probability; they share layers."""
    return keras.Model(model.inputs[0], model.get_layer("logit").output)


def _head_layers(spec: HeadSpec) -> list[keras.layers.Layer]:
    layers: list[keras.layers.Layer] = []
    for number, units in enumerate(spec.units, start=1):
        layers.append(keras.layers.Dense(units, activation="relu", name=f"fc{number}"))
        layers.append(keras.layers.Dropout(spec.dropout, name=f"dropout{number}"))
    # Loss and probability in float32 also under mixed precision.
    layers.append(keras.layers.Dense(1, name="logit", dtype="float32"))
    layers.append(keras.layers.Activation("sigmoid", name="probability", dtype="float32"))
    return layers


def _apply(layers: Sequence[keras.layers.Layer], value: Any) -> list[Any]:
    values = [value]
    for layer in layers:
        values.append(layer(values[-1]))
    return values


def _join(maps: list[Any], spec: HeadSpec, *, one_grid: bool) -> Any:
    if one_grid:
        # Identity keeps the name `features` if there is nothing to concatenate.
        join = (
            keras.layers.Concatenate(name="features") if len(maps) > 1 else keras.layers.Identity(name="features")
        )
        joined = join(maps) if len(maps) > 1 else join(maps[0])
        if spec.pooling == "flatten":
            return keras.layers.Flatten(name="flatten")(joined)
        return keras.layers.GlobalAveragePooling2D(name="pool")(joined)
    pooled = [keras.layers.GlobalAveragePooling2D()(feature_map) for feature_map in maps]
    return keras.layers.Concatenate(name="features")(pooled)
