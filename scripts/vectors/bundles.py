"""The two bundles of tests/vectors, through `sonoedge export`; needs TensorFlow."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.vectors.generated import CASCADED, DRAWN, VECTORS, drawn, mixed, noise
from sonoedge.edge_runtime.bundle.contract import GATE_FILE, CascadeSpec
from sonoedge.edge_runtime.bundle.manifest import load_bundle, read_manifest, write_manifest
from sonoedge.edge_runtime.files import write_bytes_atomic
from sonoedge.edge_runtime.imaging.image import to_input
from sonoedge.edge_runtime.model.cascade import estimate, logit_threshold
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.gate import features_of

_FITTED = [(("grey", "mixed", "noise")[seed % 3], 60 + seed, 60 + 7 * (seed % 23), seed) for seed in range(120)]


def write_bundle(target: Path) -> None:
    """Write the small bundle: a float and an integer artifact of a few thousand weights, and golden vectors."""
    _export("small", _trained((2, 1), 48, epochs=40), "tflite-int8,tflite-fp32", target)


def write_cascade_bundle(target: Path) -> None:
    """Write the cascade: a smaller int8 model with a smaller input, in front of the small bundle's float file.

    The line is fitted on generated pictures. The margin lies in the widest gap between the estimates of `CASCADED`
    that leaves each model some of both labels. So no interpreter's rounding moves a picture to the other side.
    """
    from sonoedge.export.cascade.bundle import write_cascade
    from sonoedge.export.cascade.fit import fit_cascade

    full = load_bundle(VECTORS / "bundle")
    with tempfile.TemporaryDirectory() as folder:
        _export("student", _trained((2,), 32, epochs=25), "tflite-int8", Path(folder) / "student")
        first = load_bundle(Path(folder) / "student")
        models = Classifier(first, "tflite-int8", threads=1), Classifier(full, "tflite-fp32", threads=1)
        pictures = [mixed(40 + seed % 30, 60, seed, seed) for seed in range(60)]
        logits = [np.array([model.explain_raw(picture)[0].logit for picture in pictures]) for model in models]
        cut = logit_threshold(models[1].artifact.threshold)
        fit = fit_cascade(*logits, cut)
        spec = CascadeSpec("first", "tflite-int8", "tflite-fp32", fit.scale, fit.offset, 0.0, {})
        estimates = [
            estimate(spec, models[0].explain_raw(mixed(*size, seed, rows))[0].logit)
            for size, seed, rows in CASCADED
        ]
        spec = replace(spec, margin=_margin(np.array(estimates) - cut))
        escalated = float(np.mean(np.abs(spec.scale * logits[0] + spec.offset - cut) < spec.margin))
        metrics = {"validation": {"images": len(pictures), "escalated": escalated}}
        write_cascade(first, full, replace(spec, metrics=metrics), target, threads=1)


def write_gates(folder: Path) -> None:
    """Fit the gate of every model below ``folder`` on grey pictures, and renew all sums."""
    from sonoedge.export.gate.fit import distances, fit_gate
    from sonoedge.export.gate.fit import pack as packed

    folders = [path for path in (folder / "first", folder) if path.is_dir()]
    for path in folders:
        bundle = read_manifest(path)
        (path / GATE_FILE).unlink(missing_ok=True)
        write_manifest(bundle)
        models = {a.name: Classifier(bundle, a.name, threads=1) for a in bundle.artifacts}
        gate = fit_gate(_features(models[bundle.artifacts[-1].name], _FITTED), bundle, directions=4)
        limits = {name: _limits(distances(gate, _features(model, DRAWN))) for name, model in models.items()}
        write_bytes_atomic(path / GATE_FILE, packed(gate, limits))
        write_manifest(bundle)


def _features(model: Classifier, pictures: list[tuple[str, int, int, int]]) -> NDArray[np.float32]:
    names = [branch.name for branch in model.bundle.branches]
    return np.stack([features_of(model.explain_raw(drawn(*picture))[1], names) for picture in pictures])


def _limits(distance: NDArray[np.float64]) -> Any:
    """Limits in wide gaps between pictures, so that no interpreter's rounding moves one to the other side."""
    order = np.log(np.sort(distance))
    gaps = np.diff(order)
    # At least a third of the pictures is usual, at least two are flagged, and at least two are refused.
    first = len(order) // 3 + int(np.argmax(gaps[len(order) // 3 : -5]))
    second = first + 2 + int(np.argmax(gaps[first + 2 : -1]))
    warning, threshold = (float(np.exp((order[i] + order[i + 1]) / 2)) for i in (first, second))
    from sonoedge.export.gate.fit import Limits

    return Limits(warning, threshold)


def _margin(distance: NDArray[np.float64]) -> float:
    """The middle of the widest gap between distances from the cut, with both signs on either side of the gap."""
    order = np.sort(np.abs(distance))
    gaps = [
        (above - below, (above + below) / 2)
        for below, above in pairwise(order)
        if all(len(set(distance[side] > 0)) == 2 for side in (np.abs(distance) <= below, np.abs(distance) >= above))
    ]
    return float(max(gaps)[1])


def _trained(grids: tuple[int, ...], size: int, *, epochs: int) -> Any:
    import keras

    from tests.helpers.models import small_model

    keras.utils.set_random_seed(5)
    model = small_model(grids=grids, size=size)
    # Trained to tell steep cones from flat ones: untrained logits almost coincide, and rounding would decide.
    seeds = range(200)
    inputs = np.concatenate([to_input(noise(40 + seed % 30, 60, seed), (size, size)) for seed in seeds])
    model.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy")
    model.fit(inputs, np.array([seed % 2 for seed in seeds], np.float32), epochs=epochs, batch_size=20, verbose=0)
    return model


def _export(name: str, model: Any, formats: str, target: Path) -> None:
    from sonoedge.export.bundle import golden
    from sonoedge.train.simulation.phantoms import generate_phantoms
    from tests.helpers.commands import call

    golden._SIZES = ((48, 48), (60, 81), (31, 40), (64, 50))
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/{name}.keras")
        data = generate_phantoms(Path(folder) / "phantoms", cases_per_class=6)
        arguments = ["--model", f"{folder}/{name}.keras", "--labels", "benign,malignant", "--precision", "w8a8"]
        arguments += ["--format", formats, "--num-calibration-samples", "8", "--quiet"]
        if code := call("export", *arguments, "--calibration-data", data / "benign", "--out", target):
            raise SystemExit(code)
