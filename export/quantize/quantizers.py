"""Quantizers behind one interface: the accuracy guard builds candidates without knowing the runtime.

A quantizer holds a float backbone and calibration images, and knows the backbone's operators and the branches they
feed. It builds the file that a recipe describes, whole or of one branch only. Results that take long are kept in a
content-addressed cache, so that an interrupted export goes on and a repeated one is quick.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.files import sha256_bytes, sha256_file, write_bytes_atomic
from sonoedge.export.cache import read_arrays, write_arrays
from sonoedge.export.convert.graphs import (
    openvino_branch,
    openvino_bytes,
    openvino_from_bytes,
    openvino_operators,
    read_openvino,
    store_as_float16,
    tflite_branch,
    tflite_operators,
)
from sonoedge.export.convert.operators import Operator
from sonoedge.export.quantize.activations import Activations
from sonoedge.export.quantize.calibration_audit import audit_activations
from sonoedge.export.quantize.quantization import (
    QUANTIZATION_VERSION,
    compress_openvino,
    quantize_openvino,
    quantize_tflite,
    quantized_tensors,
    set_ranges_openvino,
    spare_openvino,
)
from sonoedge.export.quantize.ranges import ActivationStatistics, activation_ranges
from sonoedge.export.quantize.recipes import BASES, FLOAT, FLOAT16, TFLITE_ONLY, Recipe, assignments, range_rules
from sonoedge.export.quantize.recorders import OpenVINORecorder
from sonoedge.export.quantize.rounding import (
    HALF_STEPS,
    ROUNDING_VERSION,
    STEPS,
    Weights,
    with_weights,
    with_weights_openvino,
)

_SIXTEEN_BITS = "extremes"
"""The default range of 16-bit activations: they have steps enough to clip nothing."""
_END = ";"
"""Ends the name of a LiteRT operator, which begins with the name of the tensor that it writes."""


class Quantizer(Protocol):
    """A float backbone that can be built by any recipe.

    Attributes:
        runtime, suffix: of the files it builds.
        operators: in execution order.
        range_rules: rules for ranges that a recipe may name; the first is the default.
        spared: precision of operators that static quantization harms.
        stretches: number of parts into which a search over operators divides a branch; fewer if builds take longer.
    """

    runtime: str
    suffix: str
    operators: tuple[Operator, ...]
    range_rules: tuple[str, ...]
    spared: str
    stretches: int

    def build(self, path: Path, recipe: Recipe, branch: str | None = None) -> None:
        """Write the backbone, or the part of it that one branch needs, as the recipe says.

        Args:
            path: of the file; OpenVINO writes the weights beside it.
            recipe: which operators are quantized how.
            branch: output name; None for the whole backbone.

        Raises:
            ModelError, UsageError: the recipe cannot be followed.
        """
        ...

    def audit(self, recipe: Recipe) -> dict[str, Any]:
        """How well the calibration images determine the recipe's ranges; for JSON, with ``warnings``.

        See `export.quantize.calibration_audit.audit_activations`.
        """
        ...


class _Static(ABC):
    """Static ranges from recorded activations: one recording serves every rule and every recipe."""

    runtime: str
    operators: tuple[Operator, ...]
    range_rules: tuple[str, ...]
    weight_steps: int

    def __init__(self, activations: Activations) -> None:
        self._activations = activations
        self._by_rule: dict[str, dict[str, tuple[float, float]]] = {}
        self._weights: dict[str, dict[str, Weights]] = {}

    @property
    @abstractmethod
    def statistics(self) -> ActivationStatistics:
        """Statistics of the tensors that may be quantized."""

    def audit(self, recipe: Recipe) -> dict[str, Any]:
        """See `Quantizer.audit`."""
        precisions, rules = assignments(recipe, self.operators), self._rules(recipe)
        static = {name.removesuffix(_END) for name, precision in precisions.items() if precision in BASES}
        image, *others = self.statistics.names
        names = [image, *(name for name in others if name in static)]
        return audit_activations(self.statistics.columns({n: n for n in names}), [rules[n] for n in names])

    def _rounded(self, branch: str) -> dict[str, Weights]:
        """See `Activations.rounded`."""
        if branch not in self._weights:
            self._weights[branch] = self._activations.rounded(branch, self.weight_steps)
        return self._weights[branch]

    def _ranges(self, recipe: Recipe) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of every tensor."""
        return {name: self._by(rule)[name] for name, rule in self._rules(recipe).items()}

    def _rules(self, recipe: Recipe) -> dict[str, str]:
        """The rule for the range of every tensor."""
        precisions = assignments(recipe, self.operators)
        rules = dict.fromkeys(self.statistics.names, self._checked_rule(recipe))
        for name, given in range_rules(recipe, self.operators).items():
            own = given or (_SIXTEEN_BITS if precisions[name] == "w8a16" else "")
            if own and name.removesuffix(_END) in rules:
                rules[name.removesuffix(_END)] = own
        return rules

    def _by(self, rule: str) -> dict[str, tuple[float, float]]:
        if rule not in self._by_rule:
            low, high = activation_ranges(self.statistics, rule)
            self._by_rule[rule] = dict(
                zip(self.statistics.names, zip(low.tolist(), high.tolist(), strict=True), strict=True)
            )
        return self._by_rule[rule]

    def _checked_rule(self, recipe: Recipe) -> str:
        rule = recipe.ranges or (_SIXTEEN_BITS if recipe.base == "w8a16" else self.range_rules[0])
        unknown = {rule, *(own.ranges for own in recipe.rules)} - {"", *self.range_rules}
        if unknown:
            known = ", ".join(self.range_rules)
            raise UsageError(f"{self.runtime} knows the ranges {known}. Received: {sorted(unknown)}.")
        return rule


class TFLiteQuantizer(_Static):
    """LiteRT post-training quantization of a float32 flatbuffer.

    Args:
        float_model: the flatbuffer.
        activations: of the same flatbuffer.
        integer_ends: inputs and outputs are integers; otherwise they are float32.
    """

    runtime, suffix, stretches = "tflite", ".tflite", 24
    weight_steps = STEPS
    # Not float16: the interpreter in browsers runs such operators with slow kernels, which round differently.
    spared: str = FLOAT
    range_rules: tuple[str, ...] = ("percentile", "mse", "average", "extremes")

    def __init__(self, float_model: bytes, activations: Activations, *, integer_ends: bool = False) -> None:
        super().__init__(activations)
        self.operators = tflite_operators(float_model)
        self._integer_ends = integer_ends
        self._models: dict[str | None, bytes] = {None: float_model}

    @property
    def statistics(self) -> ActivationStatistics:
        """Activations of the calibration images."""
        return self._activations.statistics

    def build(self, path: Path, recipe: Recipe, branch: str | None = None) -> None:
        """See `Quantizer.build`."""
        precisions = assignments(recipe, self.operators)
        self._checked_rule(recipe)
        model = self._model(branch)
        if branch is not None:
            inside = {operator.name for operator in self.operators if branch in operator.branches}
            precisions = {name: precision for name, precision in precisions.items() if name in inside}
        if set(precisions.values()) <= {FLOAT}:
            write_bytes_atomic(path, model)
            return
        if recipe.rounding == "fitted":
            rounded = {name for name, precision in precisions.items() if precision not in {FLOAT, FLOAT16}}
            branches = {b for op in self.operators if op.name in rounded for b in op.branches}
            own = {name: weights for b in sorted(branches) for name, weights in self._rounded(b).items()}
            model = with_weights(model, {name: own[name] for name in own.keys() & rounded})
        ranges = self._ranges(recipe)
        quantized = quantize_tflite(model, precisions, recipe.base, ranges, integer_ends=self._integer_ends)
        write_bytes_atomic(path, quantized)

    def _model(self, branch: str | None) -> bytes:
        """The float32 flatbuffer, whole or of one branch."""
        if branch not in self._models and branch is not None:
            self._models[branch] = tflite_branch(self._models[None], branch)
        return self._models[branch]


class OpenVINOQuantizer(_Static):
    """Post-training quantization of an OpenVINO file: NNCF places the quantizers, the ranges are ours."""

    runtime, suffix, stretches = "openvino", ".xml", 8
    # A file must answer alike on every machine.
    weight_steps = HALF_STEPS
    spared: str = FLOAT16
    range_rules: tuple[str, ...] = ("average", "extremes", "percentile", "mse")

    def __init__(self, float_model: Path, activations: Activations, *, cache: Path) -> None:
        super().__init__(activations)
        self._model, self._cache = float_model, cache
        self._whole: dict[str, tuple[bytes, bytes]] = {}
        self._digest = sha256_file(float_model) + sha256_file(float_model.with_suffix(".bin"))
        self.operators = openvino_operators(read_openvino(float_model))

    @cached_property
    def statistics(self) -> ActivationStatistics:
        """Activations of the calibration images at the tensors that are quantized."""
        names = quantized_tensors(openvino_from_bytes(*self._quantized("nearest")))
        return self._activations.of_openvino(OpenVINORecorder(read_openvino(self._model), names), self._digest)

    def build(self, path: Path, recipe: Recipe, branch: str | None = None) -> None:
        """See `Quantizer.build`."""
        from sonoedge.export.convert.conversion import save_openvino

        self._checked_rule(recipe)
        precisions = assignments(recipe, self.operators)
        if foreign := sorted(set(TFLITE_ONLY) & set(precisions.values())):
            raise UsageError(
                f"TensorFlow Lite alone has {', '.join(foreign)}; OpenVINO has w8a8, float16 and float."
            )
        spared = {name for name, precision in precisions.items() if precision in {FLOAT, FLOAT16}}
        if spared == set(precisions):
            model = read_openvino(self._model)
        else:
            model = openvino_from_bytes(*self._quantized(recipe.rounding))
            set_ranges_openvino(model, self._ranges(recipe))
            spare_openvino(model, spared)
        if branch is not None:
            model = openvino_branch(model, branch)
        compress_openvino(model)
        store_as_float16(model, {name for name, precision in precisions.items() if precision == FLOAT16})
        save_openvino(model, path)

    def _quantized(self, rounding: str) -> tuple[bytes, bytes]:
        """The fully quantized model, without ranges: the bytes of its .xml and of its .bin."""
        if rounding not in self._whole:
            self._whole[rounding] = self._quantize(rounding)
        return self._whole[rounding]

    def _quantize(self, rounding: str) -> tuple[bytes, bytes]:
        """The same from the cache on disk, where it is put first if it is not there."""
        fitted = rounding == "fitted"
        versions = [f"{package} {version(package)}" for package in ("nncf", "openvino")]
        described = [QUANTIZATION_VERSION, *versions, self._digest]
        described += [ROUNDING_VERSION, *self._activations.digests] if fitted else []
        cached = self._cache / f"openvino-{sha256_bytes(json.dumps(described).encode())[:32]}.npz"
        known = read_arrays(cached)
        if known is None:
            model = read_openvino(self._model)
            for branch in sorted({b for op in self.operators for b in op.branches}) if fitted else ():
                with_weights_openvino(model, self._activations.model, self._rounded(branch))
            steps = self.weight_steps if fitted else None
            model = quantize_openvino(model, self._activations.first(1)[0], steps)
            xml, weights = openvino_bytes(model)
            known = {"xml": np.frombuffer(xml, np.uint8), "bin": np.frombuffer(weights, np.uint8)}
            write_arrays(cached, **known)
        return known["xml"].tobytes(), known["bin"].tobytes()
