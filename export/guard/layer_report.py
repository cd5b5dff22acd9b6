"""The layer report: where a quantized backbone departs from the float one, tensor by tensor.

Both files run on the same images with all their intermediate tensors. An error travels: the operators behind a
harmful one inherit it. Operators are therefore ranked by the noise that they *add*: the noise-to-signal ratio of
their result, less the worst such ratio of their inputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sonoedge.edge_runtime.errors import ModelError
from sonoedge.edge_runtime.files import write_text_atomic
from sonoedge.edge_runtime.words import INTENDED_USE
from sonoedge.export.convert.operators import Operator
from sonoedge.export.guard.tensors import open_tensors
from sonoedge.export.memory import released
from sonoedge.train.evaluation.figures import COLORS, save_figure, tidy

MAX_DB = 80.0
"""Signal-to-noise ratios are cut here: above, there is only float32 rounding."""
_NAMED = 8
_NOTABLE_NOISE = 1e-3


@dataclass(frozen=True)
class LayerError:
    """Error of one operator's result, over all images.

    Attributes:
        name, operation: of the operator.
        snr_db: signal-to-noise ratio, at most `MAX_DB`.
        lost_db: how far ``snr_db`` lies below that of the worst input; at least 0.
        added_noise: noise-to-signal ratio (energies), less the largest of the operator's inputs; at least 0.
        cosine: similarity of the two tensors, -1 to 1.
        clipped: share of the float values outside the range that the quantized tensor can hold; None in float.
    """

    name: str
    operation: str
    snr_db: float
    lost_db: float
    added_noise: float
    cosine: float
    clipped: float | None


@released()
def layer_errors(
    runtime: str, float_path: Path, quantized_path: Path, operators: Sequence[Operator], inputs: Iterable[Any]
) -> tuple[LayerError, ...]:
    """Compare two backbones of one runtime.

    Args:
        runtime: ``tflite`` or ``openvino``.
        float_path, quantized_path: files with the same operators.
        operators: of the float one.
        inputs: float32 (1, height, width, 3), a few.

    Returns:
        In execution order, without the operators that one of the files has fused away.

    Raises:
        ModelError: an interpreter refuses a file, or the files share no tensor.
    """
    names = [operator.name for operator in operators]
    exact, rough = (open_tensors(path, runtime, names) for path in (float_path, quantized_path))
    shared = [name for name in exact.names if name in rough.names]
    sums: dict[str, NDArray[np.float64]] = {}
    for model_input in inputs:
        exact.run(model_input)
        rough.run(model_input)
        for name in shared:
            wanted, found = exact.value(name), rough.value(name)
            if found.shape == wanted.shape:
                sums[name] = sums.get(name, np.zeros(6)) + _sums(wanted, found, rough.limits.get(name))
    if not sums:
        raise ModelError("The two backbones have no tensor in common: the layer report needs the same operators.")
    return tuple(
        _layer(operator, sums, operator.name in rough.limits) for operator in operators if operator.name in sums
    )


def _layer(operator: Operator, sums: dict[str, NDArray[np.float64]], quantized: bool) -> LayerError:
    total = sums[operator.name]
    own = _decibel(total[0], total[2])
    read = min((_decibel(*sums[name][[0, 2]]) for name in operator.inputs if name in sums), default=MAX_DB)
    return LayerError(
        name=operator.name,
        operation=operator.operation,
        snr_db=round(own, 2),
        lost_db=round(max(0.0, read - own), 2),
        added_noise=round(max(0.0, 10 ** (-own / 10) - 10 ** (-read / 10)), 8),
        cosine=round(_cosine(total), 6),
        clipped=round(float(total[4] / total[5]), 6) if quantized else None,
    )


def hints(layers: Sequence[LayerError], count: int = _NAMED) -> list[str]:
    """The most harmful operators in words, one line each, at most ``count`` lines."""
    lines = []
    for layer in sorted(layers, key=lambda layer: -layer.added_noise)[:count]:
        if layer.added_noise < _NOTABLE_NOISE:
            break
        where = short_name(layer.name)
        line = f"{layer.operation} in {where} loses {layer.lost_db:.0f} dB (down to {layer.snr_db:.0f} dB)"
        if layer.clipped is not None and layer.clipped >= 0.001:
            line += f"; its range clips {100 * layer.clipped:.1f} % of the values"
        lines.append(line)
    return lines


def write_layer_report(folder: Path, name: str, title: str, layers: Sequence[LayerError]) -> list[str]:
    """Write ``<name>.json``, most harmful first, and ``<name>.png``; returns the hints."""
    ranked = sorted(layers, key=lambda layer: (-layer.added_noise, layer.snr_db))
    words = hints(layers)
    body = {"title": title, "intended_use": INTENDED_USE, "hints": words, "layers": [asdict(x) for x in ranked]}
    write_text_atomic(folder / f"{name}.json", json.dumps(body, indent=1) + "\n")
    _plot(folder / f"{name}.png", title, layers, ranked)
    return words


def short_name(name: str) -> str:
    """The telling part of an operator's path: ``backbone/net/block2a_se_excite/Mul;`` -> ``block2a_se_excite``."""
    parts = [part for part in name.split(";")[0].split("/") if part != "batchnorm"]
    return parts[-2] if len(parts) > 2 else "/".join(parts)


def _plot(path: Path, title: str, layers: Sequence[LayerError], ranked: Sequence[LayerError]) -> None:
    figure = Figure(figsize=(10, 6), layout="constrained")
    along, worst = figure.subplots(2, 1)
    along.plot([layer.snr_db for layer in layers], color=COLORS[0], linewidth=1)
    along.set(title=title, xlabel="operator, in execution order", ylabel="signal to noise / dB")
    shown = [layer for layer in ranked[:_NAMED] if layer.added_noise > 0][::-1]
    labels = [f"{short_name(layer.name)} ({layer.operation})" for layer in shown]
    worst.barh(range(len(shown)), [layer.added_noise for layer in shown], color=COLORS[1])
    worst.set_yticks(range(len(shown)), labels)
    worst.set(xlabel="noise added at the operator, relative to its signal", title="most harmful operators")
    for axes in (along, worst):
        tidy(axes)
    save_figure(figure, path)


def _sums(wanted: NDArray[Any], found: NDArray[Any], limits: tuple[float, float] | None) -> NDArray[np.float64]:
    """Energy of both and of the difference, product, values outside the limits, count."""
    a, b = wanted.reshape(-1), found.reshape(-1)
    outside = 0 if limits is None else np.count_nonzero((a < limits[0]) | (a > limits[1]))
    noise = a - b
    return np.array([a @ a, b @ b, noise @ noise, a @ b, outside, a.size], np.float64)


def _decibel(signal: float, noise: float) -> float:
    if noise <= 0:
        return MAX_DB
    return float(np.clip(10 * np.log10(max(signal, 1e-30) / noise), -MAX_DB, MAX_DB))


def _cosine(total: NDArray[np.float64]) -> float:
    scale = np.sqrt(total[0] * total[1])
    return float(total[3] / scale) if scale > 0 else float(total[2] == 0)
