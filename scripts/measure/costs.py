"""The cost of SonoEdge itself, as ratios measured in one run: ``python scripts/measure/costs.py``.

training    24 epochs by the paper's protocol on cached features, against one forward pass over the images, and
            against the same fit without the cache
predict     backbone and head through `Classifier`, against the raw interpreter's invoke of the backbone
import      ``import sonoedge; sonoedge.load``, over ``import numpy, PIL.Image``
memory      peak resident memory of ``sonoedge train`` on simulated images
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from sonoedge.benchmarks.measure.environment import how_made, this_command
from sonoedge.edge_runtime.backends import default_threads
from sonoedge.edge_runtime.backends.tflite import load_interpreter_class
from sonoedge.edge_runtime.device.latency import measure
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.train.quiet import quiet
from sonoedge.train.records.run_card import read_card


def main(argv: list[str] | None = None) -> int:
    """Measure and print; exit code 0 whatever the figures are."""
    parser = argparse.ArgumentParser(
        prog="python scripts/measure/costs.py", description="What SonoEdge itself costs."
    )
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--weights", default="imagenet", help="imagenet, none or a folder (default: %(default)s)")
    parser.add_argument("--about-weights", metavar="TEXT", help="what the weights are, for the JSON")
    parser.add_argument("--bundle", type=Path, default=Path("bundle"), help="bundle folder (default: ./bundle)")
    parser.add_argument("--out", type=Path, default=Path("costs.json"), help="default: ./costs.json")
    parser.add_argument("--uncached-images", type=int, default=96, help="images of the uncached fit (default: 96)")
    parser.add_argument("--memory-images", type=int, default=1200, help="simulated images (default: 1200; 0: skip)")
    args = parser.parse_args(argv)
    made = how_made(
        [this_command("python scripts/measure/costs.py", argv)], weights=args.about_weights or args.weights
    )
    results: dict[str, Any] = {**made, "data": args.data.resolve().name}
    results |= {"import": import_cost(), "predict": predict_cost(args.bundle)}
    results["training"] = training_cost(args.data, args.weights, args.uncached_images)
    if args.memory_images:
        results["memory"] = memory_cost(args.memory_images, args.weights)
    write_text_atomic(args.out, json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    return 0


def import_cost(repeats: int = 15) -> dict[str, float]:
    """Median seconds of the two imports in fresh interpreters, in turns."""
    base = "import numpy, PIL.Image"
    # A bare `import sonoedge` leaves everything for later.
    ours = f"{base}; import sonoedge; sonoedge.load, sonoedge.Result"
    seconds: dict[str, list[float]] = {base: [], ours: []}
    for _ in range(repeats):
        for statement, found in seconds.items():
            start = perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            found.append(perf_counter() - start)
    before, after = median(seconds[base]), median(seconds[ours])
    return {"numpy_pillow_s": round(before, 4), "added_s": round(after - before, 4)}


def predict_cost(bundle: Path, runs: int = 150) -> dict[str, dict[str, float]]:
    """Per TensorFlow Lite artifact: p50 in ms of the raw backbone invoke and of everything after the resize."""
    results = {}
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    names = [artifact.name for artifact in Classifier(bundle).bundle.artifacts if artifact.runtime == "tflite"]
    for name in names:
        classifier = Classifier(bundle, name)
        invoke = raw_invoke(bundle / classifier.artifact.backbone)
        ours: list[float] = []

        def predict(classifier: Classifier = classifier, ours: list[float] = ours) -> None:
            latency = classifier.explain_raw(frame)[0].latency_ms
            ours.append(latency["invoke"] + latency["head"])

        raw = measure({"raw": invoke, "predict": predict}, runs=runs)["raw"].p50_ms
        p50 = float(np.median(ours))
        results[name] = {"raw_invoke_ms": raw, "predict_ms": round(p50, 3), "ratio": round(p50 / raw, 4)}
    return results


def raw_invoke(path: Path) -> Callable[[], None]:
    """A call of the interpreter's bare invoke, as a user would time it without SonoEdge."""
    interpreter_class, _ = load_interpreter_class()
    interpreter = interpreter_class(model_path=str(path), num_threads=default_threads())
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    return lambda: interpreter.invoke()


def training_cost(data: Path, weights: str, uncached_images: int) -> dict[str, float]:
    """Seconds and ratios of the three ways to fit the paper's protocol."""
    with quiet():
        import keras

        from sonoedge.train.data.dataset import load_dataset
        from sonoedge.train.data.split import apply_split, make_split
        from sonoedge.train.features.cache import extract_features
        from sonoedge.train.fitting.feature_set import FeatureSet
        from sonoedge.train.fitting.fine_tuning import ImageBatches
        from sonoedge.train.fitting.heads import fit_keras, fit_paper
        from sonoedge.train.models.fusion import build_model
        from sonoedge.train.records.settings import PAPER

    dataset = load_dataset(data)
    subsets = apply_split(dataset, make_split(dataset))
    backbones = ("vgg19", "efficientnetb0")
    model = build_model(backbones, weights=weights)
    batches = ImageBatches(dataset.samples, (224, 224), PAPER.batch_size, seed=None)
    model.full.predict_on_batch(batches[0][0])  # traces the graph: not part of a forward pass
    start = perf_counter()
    for i in range(len(batches)):
        model.full.predict_on_batch(batches[i][0])
    forward_s = perf_counter() - start

    def cached_fit(train: Any, val: Any) -> float:
        keras.utils.set_random_seed(0)
        fresh = build_model(backbones, weights=weights)
        for branch in fresh.branches.values():
            branch.predict_on_batch(batches[0][0])
        with tempfile.TemporaryDirectory() as cache:
            start = perf_counter()
            sets = [
                FeatureSet(extract_features(fresh.branches, part.samples, cache=Path(cache)), part.y)
                for part in (train, val)
            ]
            fit_paper(fresh, *sets, seed=0, progress=False)
            return perf_counter() - start

    # All images take part, as in the forward pass; which of them validate does not matter to the clock.
    order = np.random.default_rng(0).permutation(len(dataset))
    cut = len(dataset) * 7 // 10
    cached_s = cached_fit(dataset.select(order[:cut]), dataset.select(order[cut:]))
    some_train = subsets["train"].select(range(uncached_images * 4 // 5))
    some_val = subsets["val"].select(range(uncached_images - len(some_train)))
    cached_some_s = cached_fit(some_train, some_val)
    start = perf_counter()
    fit_keras(
        model.full,
        ImageBatches(some_train.samples, (224, 224), PAPER.batch_size, seed=0),
        ImageBatches(some_val.samples, (224, 224), PAPER.batch_size, seed=None),
        PAPER,
        some_train.y,
        progress=False,
    )
    uncached_s = perf_counter() - start
    return {
        "images": len(dataset),
        "forward_s": round(forward_s, 2),
        "cached_24_epochs_s": round(cached_s, 2),
        "cached_over_forward": round(cached_s / forward_s, 3),
        "uncached_images": len(some_train) + len(some_val),
        "uncached_24_epochs_s": round(uncached_s, 2),
        "cached_same_images_s": round(cached_some_s, 2),
        "uncached_over_cached": round(uncached_s / cached_some_s, 2),
    }


def memory_cost(images: int, weights: str) -> dict[str, float]:
    """Peak memory of the train command on that many simulated images, from its run card, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "phantoms", Path(folder) / "run"
        sonoedge = [sys.executable, "-m", "sonoedge.edge_runtime"]
        subprocess.run([*sonoedge, "phantoms", "--out", str(data), "--cases", str(images // 4)], check=True)
        command = [*sonoedge, "train", "--data", str(data), "--weights", weights, "--out", str(out), "--quiet"]
        subprocess.run([*command, "--feature-cache", str(Path(folder) / "cache")], check=True)
        return {"images": images, "peak_bytes": read_card(out / "run.json").peak_memory_bytes or 0}


if __name__ == "__main__":
    sys.exit(main())
