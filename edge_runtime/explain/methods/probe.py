"""What a method may ask of the model about one image: logits, counted, and never a probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoedge.edge_runtime.types import Float32Array


@dataclass
class Probe:
    """One image and its model.

    Attributes:
        image: the model's input, float32 (height, width, 3), 0–255.
        outputs: of the head for the image, and its feature maps as ``map_<branch>``, float32 (1, h, w, C).
        sign: 1.0 to explain the positive label, -1.0 for the other one.
        score: the logit of a prepared input, float32 (1, height, width, 3).
        score_of_maps: the logit of feature maps by branch; the head alone runs.
        calls: how often the whole model ran.
        head_calls: how often the head ran alone.
    """

    image: Float32Array
    outputs: Mapping[str, Float32Array]
    sign: float
    score: Callable[[Float32Array], float]
    score_of_maps: Callable[[Mapping[str, Float32Array]], float]
    calls: int = field(default=0, init=False)
    head_calls: int = field(default=0, init=False)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the model's input."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def maps(self) -> dict[str, Float32Array]:
        """The feature maps of the image by branch."""
        return {name.removeprefix("map_"): maps for name, maps in self.outputs.items() if name.startswith("map_")}

    @property
    def logit(self) -> float:
        """The logit of the explained class for the whole image; known without a call."""
        return self.sign * float(self.outputs["logit"].reshape(()))

    @property
    def hidden(self) -> Float32Array:
        """What a hidden pixel looks like, float32 (3,): the image's mean colour.

        It is the same for all methods, so that they differ in nothing but the method. Black would be a drawing of a
        cyst, which is a finding.
        """
        return self.image.mean(axis=(0, 1))

    def logit_of(self, image: Float32Array) -> float:
        """The logit of the explained class for another picture, float32 (height, width, 3)."""
        self.calls += 1
        return self.sign * self.score(np.ascontiguousarray(image[None], np.float32))

    def logit_where(self, shown: NDArray[Any]) -> float:
        """The logit if the image is seen through a mask (height, width): 1 shows a pixel, 0 hides it."""
        weight = shown[:, :, None].astype(np.float32)
        return self.logit_of(self.image * weight + self.hidden * (1.0 - weight))

    def logit_of_maps(self, maps: Mapping[str, Float32Array]) -> float:
        """The logit of the explained class for other feature maps; the backbone does not run."""
        self.head_calls += 1
        return self.sign * self.score_of_maps(maps)
