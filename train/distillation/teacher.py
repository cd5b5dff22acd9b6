"""What a student learns from: the teacher's first dense layer, applied at every position of its feature map.

With average pooling, pooling and a dense layer commute: the mean over positions of ``maps @ W1``, plus the bias, is
the output of the first dense layer before its activation. So these *hidden maps* (N, h, w, U) hold all that the
head knows of an image: its logit, and its Grad-CAM, which is a weighted sum of them. They are cached like features.
A student whose head has the same widths is compared with them unit by unit, whatever its own channels are.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.train.evaluation.run_folder import Run
from sonoedge.train.models.fusion import load_model

HIDDEN = "hidden"
Maps = NDArray[np.float32]
Dense = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Teacher:
    """A trained model as a student sees it.

    Attributes:
        hidden: image (N, H, W, 3) -> hidden maps (N, h, w, U), before the bias.
        dense: kernel and bias of every dense layer of the head, the first and the logit's included.
        dropout: rate in the head, 0–1.
        input_size: (height, width) in pixels.
    """

    hidden: keras.Model
    dense: tuple[Dense, ...]
    dropout: float
    input_size: tuple[int, int]

    @property
    def units(self) -> tuple[int, ...]:
        """Widths of the hidden dense layers."""
        return tuple(int(bias.size) for _, bias in self.dense[:-1])

    def logits(self, maps: Maps) -> NDArray[np.float64]:
        """Logits (N,) from hidden maps."""
        return np.asarray(self._seen(maps)[-1].reshape(-1), np.float64)

    def cams(self, maps: Maps) -> Maps:
        """Grad-CAM of the logit (N, h, w), signed, up to the constant 1 / (h w)."""
        values = self._seen(maps)
        gradient = np.ones_like(values[-1])
        for (kernel, _), before in zip(self.dense[:0:-1], values[-2::-1], strict=True):
            gradient = (gradient @ kernel.T) * (before > 0)
        return np.einsum("nhwu,nu->nhw", maps, gradient).astype(np.float32)

    def _seen(self, maps: Maps) -> list[NDArray[np.float64]]:
        """What every dense layer gives before its activation (N, U); the logit last."""
        values = [maps.mean(axis=(1, 2), dtype=np.float64) + self.dense[0][1]]
        for kernel, bias in self.dense[1:]:
            values.append(np.maximum(values[-1], 0) @ kernel + bias)
        return values


def open_teacher(run: Run) -> Teacher:
    """Read a run's model as a teacher.

    Raises:
        ModelError: the model cannot be read, or its head is not average pooling of one grid, then dense layers with
            ReLU.
    """
    model = load_model(run.model_path)
    names = {layer.name for layer in model.layers}
    chain = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    plain = chain and chain[-1].name == "logit" and all(layer.activation.__name__ == "relu" for layer in chain[:-1])
    if not ({"features", "pool"} <= names and plain and len(model.get_layer("features").output.shape) == 4):
        raise ModelError(
            f"{run.path} cannot teach: its head must be global average pooling of one grid, then dense layers with "
            "ReLU. Train it with --pooling gap."
        )
    dense = tuple((np.asarray(layer.kernel), np.asarray(layer.bias)) for layer in chain)
    kernel = dense[0][0]
    project = keras.layers.Conv2D(kernel.shape[1], 1, use_bias=False, name="project")
    hidden = keras.Model(model.inputs[0], project(model.get_layer("features").output), name=HIDDEN)
    project.set_weights([kernel[None, None]])
    hidden.trainable = False
    dropout = next((layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)), 0.0)
    height, width = model.input_shape[1:3]
    return Teacher(hidden, dense, float(dropout), (height, width))
