"""One of several processes at one cache; called by test_cache.py with a folder of its own and the cache.

Says ``ready`` once everything is imported and begins when a line comes. Computes features, activation ranges,
quantized files and validation logits of the same models as its siblings, and prints digests of what it got.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np


def main(folder: Path, cache: Path) -> None:
    import keras

    from sonoedge.edge_runtime.files import sha256_bytes
    from sonoedge.export.quantize.recipes import Recipe
    from sonoedge.train.features import cache as features
    from tests.helpers.int8_models import SIZE, bench, two_branches

    features.SHARD_IMAGES = 4
    digests = {}
    print("ready", flush=True)
    sys.stdin.readline()
    for seed in (1, 2):
        model = two_branches(None, seed)
        for runtime, suffix in (("tflite", ".tflite"), ("openvino", ".xml")):
            place = bench(folder / f"{runtime}{seed}", model, runtime, images=16, calibrated=6)
            place.source.cache, place.evaluator._cache = cache, cache
            path = place.folder / f"quantized{suffix}"
            place.source.quantizer(runtime).build(path, Recipe())
            runner = place.evaluator.open(path)
            logits = place.evaluator.compare(path, runner, runtime).logits
            digests[f"{runtime} {seed}"] = np.round(logits, 3).tolist()
        branches = {name: keras.Model(model.input, model.get_layer(name).output) for name in ("left", "right")}
        samples = [replace(sample, group="") for sample in place.evaluator.dataset.samples]
        found = features.extract_features(branches, samples, cache=cache / "features")
        assert found["left"].shape == (16, SIZE // 4, SIZE // 4, 6)
        digests[f"features {seed}"] = [sha256_bytes(np.round(x, 4).tobytes()) for x in found.values()]
    print(json.dumps(digests))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
