"""Peers, measured in the same run: the default int8 of other quantizers, and other tools for timing.

Each peer is made as its documentation shows, with its defaults, from the run's own model and training images. Files
are cached by the digest of their sources.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoedge.benchmarks.measure.candidates import Bar, Planned
from sonoedge.benchmarks.measure.opening import Spec
from sonoedge.benchmarks.measure.planning import backbone_bytes
from sonoedge.edge_runtime.bundle.contract import Artifact, Bundle
from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.files import sha256_bytes, sha256_file, write_bytes_atomic
from sonoedge.edge_runtime.model.classifier import preprocess_file
from sonoedge.train.evaluation.run_folder import Run
from sonoedge.train.quiet import quiet

CALIBRATION_IMAGES = 64
Float32 = NDArray[np.float32]


def peers(
    run: Run, bundle: Bundle, artifacts: Sequence[str], data_root: Path | None, threads: int, bar: Bar
) -> list[Planned]:
    """Peers whose packages are installed; a peer that cannot be made is listed with the reason.

    Args:
        run: gives the Keras model and the calibration images.
        bundle: of the run.
        artifacts: names of the artifacts that are measured.
        data_root: folder of the training images; None takes the one that the run names.
        threads: for interpreters.
        bar: shows progress.
    """
    from sonoedge.export.quantize.calibration import calibration_from_run
    from sonoedge.train.evaluation.run_folder import load_subsets

    chosen = [bundle.artifact(name) for name in artifacts]
    found = _benchmark_apps(bundle, chosen, threads)
    try:
        calibration = calibration_from_run(load_subsets(run, data_root), count=CALIBRATION_IMAGES, seed=0)
    except DataError as error:
        return [*found, _failed("TFLite converter, int8", "tflite", f"no calibration images: {error}")]
    size = (bundle.input.height, bundle.input.width)
    key = sha256_bytes(f"{sha256_file(run.model_path)} {calibration.digest} 1".encode())[:16]
    recipe = f"defaults, {len(calibration.paths)} calibration images"

    def inputs() -> Iterator[Float32]:
        for path in bar(calibration.paths, "calibrating a peer"):
            yield preprocess_file(path, size)

    if find_spec("tensorflow"):
        path = _cache() / f"tflite-converter-{key}.tflite"
        spec = Spec("file", str(path), "", str(bundle.path), "tflite", threads)
        note = f"the whole Keras model through TensorFlow's converter, {recipe}; its probability has steps of 1/256"
        found.append(
            _made("TFLite converter, int8", path, spec, run.threshold, note, lambda: _converter(run, inputs, path))
        )
    source = next((a for a in chosen if a.runtime == "onnx" and a.precision == "fp32"), None)
    if source is not None and find_spec("onnxruntime") and find_spec("onnx"):
        path = _cache() / f"onnxruntime-{key}-{sha256_file(bundle.path / source.backbone)[:16]}.onnx"
        spec = Spec("backbone", str(path), source.name, str(bundle.path), "onnx", threads)
        note = f"ONNX Runtime's static quantization of the backbone, {recipe}, with our float head"
        origin = bundle.path / source.backbone
        found.append(
            _made("ONNX Runtime, int8", path, spec, run.threshold, note, lambda: _onnxruntime(origin, inputs, path))
        )
    return found


def _benchmark_apps(bundle: Bundle, artifacts: Sequence[Artifact], threads: int) -> list[Planned]:
    return [
        Planned(
            f"{a.name}, benchmark_app", "bare", a.runtime, a.precision, backbone_bytes(bundle, a),
            a.threshold, None, of=a.name, app_path=bundle.path / a.backbone,
            note=f"OpenVINO's benchmark_app on the same backbone file, {threads} threads; median of each round",
        )
        for a in artifacts
        if a.runtime == "openvino" and find_spec("openvino")
    ]  # fmt: skip


def _made(name: str, path: Path, spec: Spec, threshold: float, note: str, make: Callable[[], None]) -> Planned:
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with quiet():
                make()
        size = path.stat().st_size
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        lines = str(error).splitlines() or [repr(error)]
        return _failed(name, spec.runtime, f"could not be made: {lines[0]}")
    return Planned(name, "peer", spec.runtime, "w8a8", size, threshold, spec, note=note, scores=True)


def _failed(name: str, runtime: str, why: str) -> Planned:
    return Planned(name, "peer", runtime, "w8a8", 0, 0.5, None, error=why)


def _converter(run: Run, inputs: Callable[[], Iterator[Float32]], path: Path) -> None:
    import tensorflow as tf

    from sonoedge.train.models.fusion import load_model

    model = load_model(run.path)
    # A fixed batch of one, as in our own files.
    image = tf.keras.Input(batch_shape=(1, *model.input_shape[1:]))
    converter = tf.lite.TFLiteConverter.from_keras_model(tf.keras.Model(image, model(image, training=False)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([value] for value in inputs())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    write_bytes_atomic(path, converter.convert())


def _onnxruntime(source: Path, inputs: Callable[[], Iterator[Float32]], path: Path) -> None:
    import tempfile

    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        """One prepared image at a time."""

        def __init__(self) -> None:
            self._inputs = inputs()

        def get_next(self) -> dict[str, Float32] | None:
            value = next(self._inputs, None)
            return None if value is None else {"image": value}

    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(quantized), Reader())
        write_bytes_atomic(path, quantized.read_bytes())


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sonoedge" / "peers"
