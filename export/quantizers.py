"""Quantizers behind one interface: the accuracy guard builds candidates without knowing the runtime.

A quantizer holds a float backbone and calibration images, knows the backbone's operators and the branches they
feed, and builds the file that a recipe describes, whole or of one branch only. What takes long is kept in a
content-addressed cache, so that an interrupted export goes on and a repeated one is quick.
"""

from __future__ import annotations

import json
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge_runtime.errors import UsageError
from edge_runtime.files import sha256_bytes, sha256_file, write_bytes_atomic
from export.cache import read_arrays, write_arrays
from export.calibration import CalibrationSet
from export.calibration_audit import audit_activations
from export.graphs import (
    openvino_branch,
    openvino_bytes,
    openvino_from_bytes,
    openvino_operators,
    read_openvino,
    store_as_float16,
    tflite_branch,
    tflite_operators,
)
from export.quantization import (
    QUANTIZATION_VERSION,
    compress_openvino,
    quantize_openvino,
    quantize_tflite,
    spare_openvino,
)
from export.ranges import ActivationStatistics, collect_statistics, quantizer_ranges
from export.recipes import FLOAT, FLOAT16, TFLITE_ONLY, Operator, Recipe, assignments, range_rules

_SIXTEEN_BITS = "extremes"
"""The default range of 16-bit activations: they have steps enough to clip nothing."""


class Quantizer(Protocol):
    """A float backbone that can be built by any recipe.

    Attributes:
        runtime, suffix: of the files it builds.
        operators: in execution order.
        range_rules: what a recipe may say about ranges; the first is the default.
        ranges_by_operator: whether a recipe's rules may have ranges of their own.
        spared: precision of operators that static quantization harms.
        stretches: into how many parts a search over operators divides a branch: fewer where a build takes longer.
    """

    runtime: str
    suffix: str
    operators: tuple[Operator, ...]
    range_rules: tuple[str, ...]
    ranges_by_operator: bool
    spared: str
    stretches: int

    def build(self, path: Path, recipe: Recipe, branch: str | None = None) -> None:
        """Write the backbone, or the part of it that one branch needs, as the recipe says.

        Args:
            path: of the file; OpenVINO writes weights beside it.
            recipe: what is quantized how.
            branch: output name.

        Raises:
            ModelError, UsageError: the recipe cannot be followed.
        """
        ...

    def audit(self, recipe: Recipe) -> dict[str, Any] | None:
        """What the calibration images say about the recipe's ranges, with ``warnings``; None where unknown."""
        ...


class TFLiteQuantizer:
    """LiteRT post-training quantization of a float32 flatbuffer; one calibration serves every recipe."""

    runtime, suffix, stretches, ranges_by_operator = "tflite", ".tflite", 24, True
    # Not float16: the browsers' interpreter leaves such operators to its slow kernels, which round otherwise.
    spared: str = FLOAT
    range_rules: tuple[str, ...] = ("percentile", "mse", "average", "extremes")

    def __init__(
        self,
        float_model: bytes,
        calibration: CalibrationSet,
        size: tuple[int, int],
        *,
        cache: Path,
        progress: bool,
    ) -> None:
        self.operators = tflite_operators(float_model)
        self._models: dict[str | None, bytes] = {None: float_model}
        self._ranges: dict[str, dict[str, Any]] = {}
        self._calibration, self._size, self._cache, self._progress = calibration, size, cache, progress

    @cached_property
    def statistics(self) -> ActivationStatistics:
        """Activations of the calibration images."""
        return collect_statistics(
            self._models[None],
            self._calibration.inputs(self._size),
            self._calibration.digests,
            cache=self._cache,
            progress=self._progress,
        )

    def build(self, path: Path, recipe: Recipe, branch: str | None = None) -> None:
        """See `Quantizer.build`."""
        precisions = assignments(recipe, self.operators)
        rule = _checked_rule(recipe, self)
        if branch not in self._models and branch is not None:
            self._models[branch] = tflite_branch(self._models[None], branch)
        model = self._models[branch]
        if branch is not None:
            inside = {operator.name for operator in self.operators if branch in operator.branches}
            precisions = {name: precision for name, precision in precisions.items() if name in inside}
        if set(precisions.values()) <= {FLOAT}:
            write_bytes_atomic(path, model)
            return
        ranges = dict(self._tensor_ranges(rule))
        for name, given in range_rules(recipe, self.operators).items():
            own = given or (_SIXTEEN_BITS if precisions.get(name) == "w8a16" else "")
            # An operator is called after the tensor that it writes, and a semicolon.
            tensor = name.removesuffix(";")
            if own and own != rule and tensor in ranges:
                ranges[tensor] = self._tensor_ranges(own)[tensor]
        write_bytes_atomic(path, quantize_tflite(model, precisions, recipe.base, ranges))

    def _tensor_ranges(self, rule: str) -> dict[str, Any]:
        if rule not in self._ranges:
            self._ranges[rule] = quantizer_ranges(self.statistics, rule)
        return self._ranges[rule]

    def audit(self, recipe: Recipe) -> dict[str, Any] | None:
        """See `Quantizer.audit`."""
        return audit_activations(self.statistics, _checked_rule(recipe, self))


class OpenVINOQuantizer:
    """NNCF post-training quantization of an OpenVINO file.

    Each range rule is calibrated once, for a fully quantized model; every recipe takes quantizers out of it again.
    """

    runtime, suffix, stretches, ranges_by_operator = "openvino", ".xml", 8, False
    spared: str = FLOAT16
    # With a zero point first: swish needs it, and after ReLU both are the same.
    range_rules: tuple[str, ...] = ("asymmetric", "symmetric")

    def __init__(
        self,
        float_model: Path,
        calibration: CalibrationSet,
        size: tuple[int, int],
        *,
        cache: Path,
    ) -> None:
        self._model, self._calibration, self._size, self._cache = float_model, calibration, size, cache
        self._digest = sha256_file(float_model) + sha256_file(float_model.with_suffix(".bin"))
        self._quantized: dict[str, tuple[bytes, bytes]] = {}
        self.operators = openvino_operators(read_openvino(float_model))

    def build(self, path: Path, recipe: Recipe, branch: str | None = None) -> None:
        """See `Quantizer.build`."""
        from export.conversion import save_openvino

        rule = _checked_rule(recipe, self)
        precisions = assignments(recipe, self.operators)
        if foreign := sorted(set(TFLITE_ONLY) & set(precisions.values())):
            raise UsageError(
                f"TensorFlow Lite alone has {', '.join(foreign)}; OpenVINO has w8a8, float16 and float."
            )
        if any(own.ranges not in {"", recipe.ranges} for own in recipe.rules):
            raise UsageError("OpenVINO has one rule for all ranges: a recipe's rules cannot have their own.")
        spared = {name for name, precision in precisions.items() if precision in {FLOAT, FLOAT16}}
        exact = read_openvino(self._model)
        if spared == set(precisions):
            model = exact
        else:
            model = openvino_from_bytes(*self._calibrated(rule))
            spare_openvino(model, exact, spared)
        if branch is not None:
            model = openvino_branch(model, branch)
        compress_openvino(model)
        store_as_float16(model, {name for name, precision in precisions.items() if precision == FLOAT16})
        save_openvino(model, path)

    def audit(self, recipe: Recipe) -> dict[str, Any] | None:
        """None: NNCF keeps its statistics to itself."""
        return None

    def _calibrated(self, rule: str) -> tuple[bytes, bytes]:
        """The fully quantized model by a range rule: the bytes of its .xml and of its .bin."""
        if rule not in self._quantized:
            versions = [f"{package} {version(package)}" for package in ("nncf", "openvino")]
            described = [QUANTIZATION_VERSION, *versions, self._digest, self._calibration.digest, rule]
            cached = self._cache / f"openvino-{sha256_bytes(json.dumps(described).encode())[:32]}.npz"
            known = read_arrays(cached)
            if known is None:
                inputs = list(self._calibration.inputs(self._size))
                model = quantize_openvino(read_openvino(self._model), inputs, asymmetric=rule == "asymmetric")
                xml, weights = openvino_bytes(model)
                known = {"xml": np.frombuffer(xml, np.uint8), "bin": np.frombuffer(weights, np.uint8)}
                write_arrays(cached, **known)
            self._quantized[rule] = known["xml"].tobytes(), known["bin"].tobytes()
        return self._quantized[rule]


def _checked_rule(recipe: Recipe, quantizer: Quantizer) -> str:
    wide = recipe.base == "w8a16" and _SIXTEEN_BITS in quantizer.range_rules
    rule = recipe.ranges or (_SIXTEEN_BITS if wide else quantizer.range_rules[0])
    unknown = {rule, *(own.ranges for own in recipe.rules)} - {"", *quantizer.range_rules}
    if unknown:
        raise UsageError(
            f"{quantizer.runtime} knows the ranges {', '.join(quantizer.range_rules)}. Received: {sorted(unknown)}."
        )
    return rule
