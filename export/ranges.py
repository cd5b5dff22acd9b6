"""Activation ranges of a float TensorFlow Lite backbone: recorded once, turned into quantizer input by any rule.

Per image and activation tensor the smallest and largest value and a few sampled values are kept, not only a running
summary. Every rule for choosing ranges, the share of values they would clip, and their stability between draws of
calibration images follow from one pass, which is stored image by image: an interrupted one goes on where it was,
and another run on the same backbones sees no image twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.backends import default_threads
from edge_runtime.errors import ModelError
from edge_runtime.files import sha256_bytes
from export.cache import read_arrays, write_arrays
from export.graphs import pack_tflite, parse_tflite, tflite_text
from train.quiet import quiet

Float = NDArray[np.float32]
RangeRule = Literal["average", "extremes", "percentile", "mse"]
RANGE_RULES: tuple[str, ...] = get_args(RangeRule)
SAMPLES_PER_IMAGE = 128
"""Values of every tensor kept of each image: 38,400 of 300 images, enough for a share of one in a thousand."""
PERCENTILE = 99.9
_VERSION = "2"
_SHRINK = np.linspace(0.30, 1.0, 36, dtype=np.float32)
_LEAST_SQUARES_SAMPLES = 8192


@dataclass(frozen=True)
class ActivationStatistics:
    """What was seen at every activation tensor.

    Attributes:
        names: T tensors, the image first.
        minima, maxima: float32 (images, T).
        samples: float32 (images, T, `SAMPLES_PER_IMAGE`), evenly spread values of each tensor.
    """

    names: tuple[str, ...]
    minima: Float
    maxima: Float
    samples: Float

    def select(self, images: NDArray[np.int64]) -> ActivationStatistics:
        """The same of some of the images."""
        return ActivationStatistics(self.names, self.minima[images], self.maxima[images], self.samples[images])


def collect_statistics(
    model: bytes,
    inputs: Iterable[Float],
    digests: Sequence[str],
    *,
    cache: Path | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> ActivationStatistics:
    """Run a float backbone over calibration images and record its activations.

    Args:
        model: flatbuffer with one input, the image.
        inputs: float32 (1, height, width, 3), 0–255; read lazily, one by one.
        digests: SHA-256 of every image file, in the order of the inputs: the key of the cache.
        cache: folder of finished images.
    """
    key = sha256_bytes(model)
    recorder: _Recorder | None = None
    parts: list[ActivationStatistics] = []
    with tqdm(total=len(digests), desc="calibration", unit="img", disable=not progress) as bar:
        for digest, model_input in zip(digests, inputs, strict=True):
            described = "\n".join([_VERSION, str(SAMPLES_PER_IMAGE), key, digest])
            path = None if cache is None else cache / f"activations-{sha256_bytes(described.encode())[:32]}.npz"
            known = None if path is None else read_arrays(path)
            if known is not None:
                parts.append(ActivationStatistics(tuple(map(str, known.pop("names"))), **known))
            else:
                recorder = recorder or _Recorder(model, threads or default_threads())
                parts.append(recorder.record(model_input, int(digest[:8], 16)))
                if path is not None:
                    write_arrays(path, **vars(parts[-1]) | {"names": np.array(parts[-1].names)})
            bar.update(1)
    return ActivationStatistics(
        parts[0].names,
        np.concatenate([part.minima for part in parts]),
        np.concatenate([part.maxima for part in parts]),
        np.concatenate([part.samples for part in parts]),
    )


def activation_ranges(statistics: ActivationStatistics, rule: str) -> tuple[Float, Float]:
    """Lower and upper end of every tensor's range, float32 (T,) each; the image is always 0–255.

    ``average`` of the images' extremes; the ``extremes`` of all images; the ``percentile`` range that leaves out
    one value in a thousand; the range of least squared rounding and clipping error (``mse``).
    """
    if rule == "average":
        low, high = statistics.minima.mean(axis=0), statistics.maxima.mean(axis=0)
    else:
        low, high = statistics.minima.min(axis=0), statistics.maxima.max(axis=0)
        values = statistics.samples.swapaxes(0, 1).reshape(len(statistics.names), -1)
        if rule == "percentile":
            outside = (100 - PERCENTILE) / 2
            low, high = np.percentile(values, (outside, 100 - outside), axis=1)
        elif rule == "mse":
            low, high = _least_squares(values, low, high)
    # Zero must be representable (padding), and it is what an operator without activity gives.
    low, high = np.minimum(low, 0).astype(np.float32), np.maximum(high, 0).astype(np.float32)
    # By definition: scale 1 and zero point 0, so that pixels are exact.
    low[0], high[0] = 0.0, 255.0
    return low, high


def quantizer_ranges(statistics: ActivationStatistics, rule: str) -> dict[str, dict[str, Float]]:
    """`activation_ranges` in the form litert-quantizer takes."""
    low, high = activation_ranges(statistics, rule)
    return {name: {"min": low[i : i + 1], "max": high[i : i + 1]} for i, name in enumerate(statistics.names)}


def clipped_share(statistics: ActivationStatistics, low: Float, high: Float) -> Float:
    """Share of the sampled values outside a range, by tensor (T,)."""
    outside = (statistics.samples < low[:, None]) | (statistics.samples > high[:, None])
    return outside.mean(axis=(0, 2)).astype(np.float32)


def _least_squares(values: Float, low: Float, high: Float) -> tuple[Any, Any]:
    """Shrink each range by the common factor with the least squared error of 8-bit rounding and clipping."""
    values = values[:, :: max(1, values.shape[1] // _LEAST_SQUARES_SAMPLES)]
    best = np.full(len(values), np.inf)
    factor = np.ones(len(values))
    low, high = np.minimum(low, 0).astype(np.float32), np.maximum(high, 0).astype(np.float32)
    for shrink in _SHRINK:
        scale = np.maximum((high - low) * shrink / 255, 1e-12)[:, None]
        zero = np.rint(-low[:, None] * shrink / scale)
        rounded = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
        error = np.square(rounded - values).mean(axis=1)
        better = error < best
        best, factor = np.where(better, error, best), np.where(better, shrink, factor)
    return low * factor, high * factor


class _Recorder:
    """An interpreter that keeps all intermediate tensors: each operator's result is an output of its graph.

    The interpreter's own way of preserving tensors leaves out XNNPACK's kernels, and is slower.
    """

    def __init__(self, model: bytes, threads: int) -> None:
        parsed = parse_tflite(model)
        graph = parsed.subgraphs[0]
        results = [int(i) for op in graph.operators for i in op.outputs if i >= 0]
        self._indices = [int(i) for i in graph.inputs] + results
        self.names = tuple(tflite_text(graph.tensors[i].name) for i in self._indices)
        graph.outputs, parsed.signatureDefs = results, []
        with quiet():
            try:
                self._interpreter = Interpreter(model_content=pack_tflite(parsed), num_threads=threads)
                self._interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise ModelError(f"The float backbone cannot be run for calibration: {error}") from error
        self._views = [self._interpreter.tensor(i) for i in self._indices]

    def record(self, model_input: Float, number: int) -> ActivationStatistics:
        """Statistics of one image; ``number`` decides which values are sampled: its own, whatever came before."""
        self._interpreter.set_tensor(self._indices[0], model_input)
        self._interpreter.invoke()
        # Views, not copies: 40 M values a frame. They must be gone before the next invocation.
        values = [view().reshape(-1) for view in self._views]
        minima, maxima = ([[end(value) for value in values]] for end in (np.min, np.max))
        samples = [[_spread(value, number) for value in values]]
        return ActivationStatistics(
            self.names, np.array(minima, np.float32), np.array(maxima, np.float32), np.array(samples, np.float32)
        )


def _spread(values: Float, number: int) -> Float:
    """`SAMPLES_PER_IMAGE` values at even distances, elsewhere for every image."""
    steps = np.arange(SAMPLES_PER_IMAGE) * len(values) // SAMPLES_PER_IMAGE
    # A prime stride: neighbouring images must not sample the same channel of channels-last maps.
    return values[(steps + 7919 * number) % len(values)]
