"""The artifact with its own head and with a random one, side by side: the backbone runs once for both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sonoedge.edge_runtime.explain.gradcam import stretch
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.types import Float32Array


@dataclass
class TwoHeads:
    """Logits of inputs by the artifact's own head, and by a random linear head on the pooled maps.

    Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018: a map that stays the same if the weights behind
    it are random explains the image, not the model. What was asked before is remembered, so that a method that asks
    both heads about the same masks runs the backbone once.
    """

    classifier: Classifier
    seed: int = 0
    _known: dict[bytes, tuple[float, float]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self._weights = {b.name: rng.normal(size=b.channels) for b in self.classifier.bundle.branches}

    def own(self, model_input: Float32Array) -> float:
        """The logit of an input (1, height, width, 3)."""
        return self._both(model_input)[0]

    def random(self, model_input: Float32Array) -> float:
        """The random head's logit of an input."""
        return self._both(model_input)[1]

    def random_of_maps(self, maps: Mapping[str, Float32Array]) -> float:
        """The random head's logit of feature maps."""
        return float(sum(maps[name].mean(axis=(0, 1, 2)) @ weights for name, weights in self._weights.items()))

    def forget(self) -> None:
        """Before the next image."""
        self._known.clear()

    def random_outputs(self, outputs: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
        """What the random head would give for an image: logit and Grad-CAM map, and the maps as they are."""
        maps = {name: outputs[f"map_{name}"] for name in self._weights}
        grid = tuple(max(array.shape[axis] for array in maps.values()) for axis in (1, 2))
        cam = np.zeros(grid, np.float32)
        for name, weights in self._weights.items():
            one = (maps[name][0] @ weights / (maps[name].shape[1] * maps[name].shape[2])).astype(np.float32)
            cam += stretch(one[:, :, None], (grid[0], grid[1]))[:, :, 0]
        logit = np.full((1, 1), self.random_of_maps(maps), np.float32)
        return {"logit": logit, "cam": cam[None], **{f"map_{name}": array for name, array in maps.items()}}

    def _both(self, model_input: Float32Array) -> tuple[float, float]:
        key = hashlib.blake2b(model_input.tobytes(), digest_size=16).digest()
        if key not in self._known:
            maps = self.classifier.backbone.run({"image": model_input})
            own = float(self.classifier.head.run(maps)["logit"].reshape(()))
            self._known[key] = own, self.random_of_maps(maps)
        return self._known[key]
