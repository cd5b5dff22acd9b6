"""What calibration images say about a float backbone, recorded once for all formats: activations, and weights.

They are recorded in LiteRT and cached image by image. An interrupted pass goes on where it was, and another run on
the same backbones runs no image twice. OpenVINO runs the same backbone, so its tensors are looked up among LiteRT's
by their values. Only tensors that are not found take a pass of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sonoedge.edge_runtime.files import sha256_bytes
from sonoedge.export.cache import read_arrays, write_arrays
from sonoedge.export.convert.graphs import tflite_branch
from sonoedge.export.quantize.calibration import CalibrationSet
from sonoedge.export.quantize.ranges import SAMPLES_PER_IMAGE, ActivationStatistics, Float
from sonoedge.export.quantize.recorders import OpenVINORecorder, Recorder, TFLiteRecorder, same_tensors
from sonoedge.export.quantize.rounding import ROUNDING_VERSION, Weights, round_weights

_VERSION = "2"
_COMPARED_IMAGES = 2
_ROUNDING_IMAGES = 150


class Activations:
    """Values of the calibration images at the tensors of a float32 backbone; recorded when first asked for.

    Args:
        model: the backbone as a flatbuffer.
        calibration: the images.
        size: (height, width) of the input.
        cache: folder of finished images.
        progress: show a bar.
    """

    def __init__(
        self, model: bytes, calibration: CalibrationSet, size: tuple[int, int], *, cache: Path, progress: bool
    ) -> None:
        self.model, self._calibration, self._size = model, calibration, size
        self._cache, self._progress = cache, progress

    @property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of the images."""
        return self._calibration.digests

    def first(self, count: int) -> list[Float]:
        """The first inputs, float32 (1, height, width, 3), 0–255."""
        return list(islice(self._calibration.inputs(self._size), count))

    @cached_property
    def statistics(self) -> ActivationStatistics:
        """Statistics of the flatbuffer's tensors, the image first."""
        return self._collect(lambda: TFLiteRecorder(self.model), sha256_bytes(self.model))

    def of_openvino(self, recorder: OpenVINORecorder, digest: str) -> ActivationStatistics:
        """Statistics of an OpenVINO model's tensors by its own names, the image first.

        Args:
            recorder: records the wanted tensors of the model.
            digest: of the model.
        """
        mine = same_tensors(recorder, TFLiteRecorder(self.model), self.first(_COMPARED_IMAGES))
        known = self.statistics
        image = next((name for name, theirs in mine.items() if theirs == known.names[0]), known.names[0])
        columns = {image: known.names[0]} | {name: mine[name] for name in recorder.names if name in mine}
        found = known.columns(columns)
        missing = [name for name in recorder.names if name not in columns]
        if not missing:
            return found
        alone = self._collect(lambda: recorder.only(missing), "\n".join([digest, *missing]))
        return found.beside(alone)

    def rounded(self, branch: str, steps: int) -> dict[str, Weights]:
        """Weights of a branch, rounded for the images, by operator name; see `export.quantize.rounding`.

        Args:
            branch: output of the backbone.
            steps: from zero to the largest weight of a filter.
        """
        model, digests = tflite_branch(self.model, branch), self.digests
        stride = -(-len(digests) // _ROUNDING_IMAGES)
        described = [ROUNDING_VERSION, str(steps), sha256_bytes(model), str(self._size), *digests[::stride]]
        path = self._cache / f"rounded-{sha256_bytes(chr(10).join(described).encode())[:32]}.npz"
        known = read_arrays(path)
        if known is None:
            inputs, total = islice(self._calibration.inputs(self._size), 0, None, stride), len(digests[::stride])
            bar = tqdm(inputs, desc="rounding", total=total, disable=not self._progress, leave=False)
            found = round_weights(model, bar, steps)
            known = {f"{part} {name}": array for name, own in found.items() for part, array in vars(own).items()}
            write_arrays(path, **known)
        names = [key.removeprefix("kernel ") for key in known if key.startswith("kernel ")]
        return {name: Weights(known[f"kernel {name}"], known[f"bias {name}"]) for name in names}

    def _collect(self, recorder: Callable[[], Recorder], key: str) -> ActivationStatistics:
        inputs = self._calibration.inputs(self._size)
        return collect_statistics(
            recorder, key, inputs, self._calibration.digests, cache=self._cache, progress=self._progress
        )


def collect_statistics(
    open_recorder: Callable[[], Recorder],
    key: str,
    inputs: Iterable[Float],
    digests: Sequence[str],
    *,
    cache: Path | None = None,
    progress: bool = False,
) -> ActivationStatistics:
    """Run a float backbone over calibration images and record its activations.

    Args:
        open_recorder: opens the backbone; called only if an image is not in the cache.
        key: digest of the backbone and of what is recorded; part of the cache's key.
        inputs: float32 (1, height, width, 3), 0–255; read lazily, one by one.
        digests: SHA-256 of every image file, in the order of the inputs; the other part of the key.
        cache: folder of finished images; None: nothing is cached.
        progress: show a bar.

    Raises:
        ModelError: the interpreter refuses the backbone.
        OSError: the cache cannot be written.
    """
    recorder: Recorder | None = None
    parts: list[ActivationStatistics] = []
    with tqdm(total=len(digests), desc="calibration", unit="img", disable=not progress) as bar:
        for digest, model_input in zip(digests, inputs, strict=True):
            described = "\n".join([_VERSION, str(SAMPLES_PER_IMAGE), key, digest])
            path = None if cache is None else cache / f"activations-{sha256_bytes(described.encode())[:32]}.npz"
            known = None if path is None else read_arrays(path)
            if known is not None:
                parts.append(ActivationStatistics(tuple(map(str, known.pop("names"))), **known))
            else:
                recorder = recorder or open_recorder()
                parts.append(_recorded(recorder, model_input, int(digest[:8], 16)))
                if path is not None:
                    write_arrays(path, **vars(parts[-1]) | {"names": np.array(parts[-1].names)})
            bar.update(1)
    return ActivationStatistics(
        parts[0].names,
        np.concatenate([part.minima for part in parts]),
        np.concatenate([part.maxima for part in parts]),
        np.concatenate([part.samples for part in parts]),
    )


def _recorded(recorder: Recorder, model_input: Float, number: int) -> ActivationStatistics:
    """Statistics of one image. ``number`` depends on the image alone and decides which values are sampled."""
    values = recorder.values(model_input)
    minima, maxima = ([[end(value) for value in values]] for end in (np.min, np.max))
    samples = [[_spread(value, number) for value in values]]
    return ActivationStatistics(
        recorder.names, np.array(minima, np.float32), np.array(maxima, np.float32), np.array(samples, np.float32)
    )


def _spread(values: Float, number: int) -> Float:
    """`SAMPLES_PER_IMAGE` values at even distances; they start at another place for every image."""
    steps = np.arange(SAMPLES_PER_IMAGE) * len(values) // SAMPLES_PER_IMAGE
    # A prime stride: neighbouring images must not sample the same channel of channels-last maps.
    return values[(steps + 7919 * number) % len(values)]
