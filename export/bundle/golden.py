"""golden.npz: generated images and results that every artifact must reproduce (`edge_runtime.device.replay`)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoedge.edge_runtime.device.replay import relative_error
from sonoedge.edge_runtime.errors import VerificationError
from sonoedge.edge_runtime.imaging.image import to_input
from sonoedge.export.convert.splitting import SplitModel
from sonoedge.train.simulation.phantoms import phantom

# Several original sizes (height, width), so that a wrong resize rule cannot pass; None keeps the phantom's size.
_SIZES: tuple[tuple[int, int] | None, ...] = (None, (224, 224), (96, 131), (600, 800), None, (300, 181))
_SEED = 20_240_913
# Largest logit deviation of a replay on another machine, relative to max(1, |logit|), and of the map (relative).
_REPLAY = {"fp32": (1e-4, 1e-3), "fp16": (1e-2, 2e-2)}
_REPLAY_INTEGER_MAP = 0.25
# The limit for integer files is twice the quantization error measured at export, within these shares of
# max(1, |logit|). Other kernels round differently: two machines that are each off by that error differ by at most
# twice as much. On golden images, LiteRT's own kernels differ from XNNPACK's by 0.2 to 0.4 times the error.
_REPLAY_INTEGER = (0.03, 0.15)
# Largest relative deviation of the float32 map from automatic differentiation. The head is the same in every
# format, so float32 shows whether its gradient is right. Rounded weights can move an untrained model's map by a
# quarter.
_FIDELITY = {"fp32": 1e-3}


def golden_images() -> list[NDArray[np.uint8]]:
    """Phantoms of both classes, uint8 (H, W, 3) of several sizes, always the same ones."""
    images = []
    for i, size in enumerate(_SIZES):
        grey, _ = phantom(np.random.default_rng([_SEED, i]), "malignant" if i % 2 else "benign")
        picture = Image.fromarray(grey)
        if size is not None:
            picture = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
        images.append(np.repeat(np.asarray(picture)[:, :, None], 3, axis=2))
    return images


def reference(
    model: SplitModel, images: list[NDArray[np.uint8]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (N,) of the full Keras model and its fused Grad-CAM before the ReLU (N, h, w), by GradientTape.

    The head's written-out gradient is compared with this result.
    """
    import tensorflow as tf

    names = [branch.name for branch in model.head.branches]
    logits, cams = [], []
    for image in images:
        maps = model.backbone(to_input(image, model.input_size), training=False)
        with tf.GradientTape() as tape:
            tensors = [tf.convert_to_tensor(maps[name]) for name in names]
            for tensor in tensors:
                tape.watch(tensor)
            logit = model.tail(tensors, training=False)
        gradients = tape.gradient(logit, tensors)
        parts = [
            tf.reduce_sum(tf.reduce_mean(gradient, axis=(1, 2), keepdims=True) * tensor, axis=-1)
            for gradient, tensor in zip(gradients, tensors, strict=True)
        ]
        cams.append(_fuse(tf, parts))
        logits.append(float(tf.reshape(logit, ())))
    return np.array(logits, np.float32), np.stack(cams)


def _fuse(tf: Any, parts: list[Any]) -> NDArray[np.float32]:
    height, width = max(part.shape[1] for part in parts), max(part.shape[2] for part in parts)
    resized = [tf.image.resize(part[..., None], (height, width))[0, ..., 0].numpy() for part in parts]
    return np.sum(resized, axis=0, dtype=np.float32)


def tolerances(precision: str, logits: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    """Limits float32 (3,) for `edge_runtime.device.replay`: replay, distance from Keras, map.

    Float formats have fixed limits. Those of integer formats follow from the distance from Keras at export.

    Args:
        precision: of the artifact.
        logits: of the artifact on the golden images, (N,).
        wanted: those of Keras, (N,).
    """
    scale = max(1.0, float(np.abs(wanted).max()))
    if precision in _REPLAY:
        logit, cam = _REPLAY[precision]
        return np.array([logit * scale, logit * scale, cam], np.float32)
    error = float(np.abs(logits - wanted).max())
    low, high = _REPLAY_INTEGER
    replay = min(max(2 * error, low * scale), high * scale)
    return np.array([replay, error + replay, _REPLAY_INTEGER_MAP], np.float32)


def check_maps(artifact: str, precision: str, cams: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Relative error of an artifact's maps (N, h, w) against automatic differentiation of the Keras model.

    Args:
        artifact: its name.
        precision: of the artifact.
        cams: its maps (N, h, w).
        wanted: those of Keras, from `reference`.

    Raises:
        VerificationError: a float32 format deviates: the gradient in its head is not that of the model.
    """
    error = relative_error(cams, wanted)
    limit = _FIDELITY.get(precision, np.inf)
    if not error <= limit:
        raise VerificationError(
            f"The Grad-CAM of {artifact} deviates from the Keras model by {error:.1e} (allowed {limit:.0e}). "
            "Nothing was written."
        )
    return error


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays by name as the bytes of a compressed npz."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
    return buffer.getvalue()
