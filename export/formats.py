"""The format table: one row and one function a format. Command line, README, benchmark and tests iterate it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.files import write_bytes_atomic

if TYPE_CHECKING:
    from sonoedge.export.convert.splitting import SplitModel
    from sonoedge.export.quantize.activations import Activations
    from sonoedge.export.quantize.calibration import CalibrationSet
    from sonoedge.export.quantize.quantizers import Quantizer
    from sonoedge.export.targets.table import Target


class Source:
    """The model on its way to files: each intermediate form is made once, when a format first asks for it.

    Args:
        model: the split Keras model.
        calibration: representative images, if a format needs them.
        scratch: folder for SavedModels.
        cache: folder for results that the next export can use.
        progress: show bars.
    """

    def __init__(
        self, model: SplitModel, calibration: CalibrationSet | None, scratch: Path, cache: Path, *, progress: bool
    ) -> None:
        self.model, self._calibration, self._scratch, self.cache = model, calibration, scratch, cache
        self._progress = progress

    @property
    def calibration(self) -> CalibrationSet:
        """The representative images; `UsageError` if there are none."""
        if self._calibration is None:
            raise UsageError("This format needs calibration images.")
        return self._calibration

    @cached_property
    def backbone_graph(self) -> Any:
        """The backbone as a frozen graph, image -> branch maps."""
        from sonoedge.export.convert.conversion import freeze

        return freeze(lambda image: self.model.backbone(image, training=False), self.backbone_inputs)

    @cached_property
    def head_graph(self) -> Any:
        """The head as a frozen graph, branch maps -> logit, probability, explanation."""
        from sonoedge.export.convert.conversion import freeze
        from sonoedge.export.convert.head import head_outputs

        return freeze(lambda **maps: head_outputs(self.model.head, maps), self.head_inputs)

    @property
    def backbone_inputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the backbone's inputs by name: ``image`` (1, height, width, 3)."""
        return {"image": (1, *self.model.input_size, 3)}

    @property
    def head_inputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the head's inputs by branch: (1, height, width, channels)."""
        return {b.name: (1, b.height, b.width, b.channels) for b in self.model.head.branches}

    @cached_property
    def backbone_saved_model(self) -> Path:
        """The backbone as a SavedModel."""
        return self._save("backbone", self.backbone_graph)

    @cached_property
    def head_saved_model(self) -> Path:
        """The head as a SavedModel."""
        return self._save("head", self.head_graph)

    @cached_property
    def tflite_float(self) -> bytes:
        """The float32 backbone as a flatbuffer."""
        from sonoedge.export.convert.conversion import to_tflite

        return to_tflite(self.backbone_saved_model)

    @cached_property
    def openvino_float(self) -> Path:
        """Path of the float32 backbone as OpenVINO's .xml, with the .bin beside it."""
        from sonoedge.export.convert.conversion import save_openvino, to_openvino
        from sonoedge.export.convert.graphs import name_openvino_nodes

        path = self._scratch / "openvino-float" / "backbone.xml"
        path.parent.mkdir()
        model = to_openvino(self.backbone_saved_model)
        name_openvino_nodes(model)
        save_openvino(model, path)
        return path

    @cached_property
    def activations(self) -> Activations:
        """Values of the calibration images at every tensor of the backbone, recorded once for all formats."""
        return self._activations_of(self.tflite_float)

    def _activations_of(self, model: bytes) -> Activations:
        from sonoedge.export.quantize.activations import Activations

        size = self.model.input_size
        return Activations(model, self.calibration, size, cache=self.cache, progress=self._progress)

    def quantizer(self, runtime: str, target: Target | None = None) -> Quantizer:
        """The quantizer that builds int8 backbones.

        Args:
            runtime: ``tflite`` or ``openvino``.
            target: hardware that takes integers only; None for processors.

        Raises:
            ModelError: the target does not take an operator of the backbone.
        """
        from sonoedge.export.quantize.quantizers import OpenVINOQuantizer, TFLiteQuantizer

        if target is not None and target.is_integer:
            from sonoedge.export.targets.check import check_operators
            from sonoedge.export.targets.division import without_division

            model = self.tflite_float if "DIV" in target.operators else without_division(self.tflite_float)
            check_operators(model, target)
            return TFLiteQuantizer(model, self._activations_of(model), integer_ends=True)
        if runtime == "tflite":
            return TFLiteQuantizer(self.tflite_float, self.activations)
        return OpenVINOQuantizer(self.openvino_float, self.activations, cache=self.cache)

    def write_float(self, runtime: str, path: Path) -> None:
        """Write the float32 backbone for a runtime, ``tflite`` or ``openvino``."""
        if runtime == "tflite":
            _tflite_fp32(self, path)
        else:
            _openvino_fp32(self, path)

    def write_head(self, runtime: str, path: Path) -> None:
        """Write the float32 head for a runtime, ``tflite``, ``openvino`` or ``onnx``."""
        from sonoedge.export.convert.conversion import save_openvino, to_onnx, to_openvino, to_tflite

        if runtime == "tflite":
            write_bytes_atomic(path, to_tflite(self.head_saved_model))
        elif runtime == "openvino":
            save_openvino(to_openvino(self.head_saved_model), path)
        else:
            write_bytes_atomic(path, to_onnx(self.head_graph, self.head_inputs))

    def _save(self, name: str, graph: Any) -> Path:
        from sonoedge.export.convert.conversion import save_graph

        save_graph(graph, self._scratch / name)
        return self._scratch / name


@dataclass(frozen=True)
class ExportFormat:
    """One row.

    Attributes:
        name: what the user types, and the artifact's name.
        runtime, suffix: interpreter and file suffix of backbone and head.
        precision: weights and activations of the backbone; the head is float32 in every format.
        needs_calibration: whether its export needs images.
        extra: the extra of this package that installs its interpreter on the device.
        write_backbone: writes the backbone to a path and returns the recipe for the bundle; None for int8 formats,
            whose files the accuracy guard chooses (see `export.guard.search`).
        logit_tolerance: largest deviation from Keras in the logit, relative to max(1, |logit|); None if it can only
            be measured.
    """

    name: str
    runtime: str
    suffix: str
    precision: str
    needs_calibration: bool
    extra: str
    write_backbone: Callable[[Source, Path], dict[str, Any]] | None
    logit_tolerance: float | None

    @property
    def is_measured(self) -> bool:
        """Whether its loss and its threshold are measured on validation images."""
        return self.logit_tolerance is None


def _tflite_fp32(source: Source, path: Path) -> dict[str, Any]:
    write_bytes_atomic(path, source.tflite_float)
    return {}


def _tflite_fp16(source: Source, path: Path) -> dict[str, Any]:
    from sonoedge.export.convert.conversion import to_tflite

    write_bytes_atomic(path, to_tflite(source.backbone_saved_model, float16=True))
    return {"weights": "float16", "arithmetic": "float32"}


def _tflite_dynamic(source: Source, path: Path) -> dict[str, Any]:
    from sonoedge.export.convert.conversion import to_tflite

    write_bytes_atomic(path, to_tflite(source.backbone_saved_model, dynamic=True))
    return {"weights": "int8 per channel", "activations": "int8, range measured at run time"}


def _openvino_fp32(source: Source, path: Path) -> dict[str, Any]:
    for file in (source.openvino_float, source.openvino_float.with_suffix(".bin")):
        shutil.copyfile(file, path.with_suffix(file.suffix))
    return {}


def _openvino_fp16(source: Source, path: Path) -> dict[str, Any]:
    from sonoedge.export.convert.conversion import save_openvino, to_openvino

    save_openvino(to_openvino(source.backbone_saved_model), path, float16=True)
    return {"weights": "float16", "arithmetic": "float32"}


def _onnx_fp32(source: Source, path: Path) -> dict[str, Any]:
    from sonoedge.export.convert.conversion import to_onnx

    write_bytes_atomic(path, to_onnx(source.backbone_graph, source.backbone_inputs))
    return {}


FORMATS: dict[str, ExportFormat] = {
    row.name: row
    for row in (
        ExportFormat("tflite-int8", "tflite", ".tflite", "int8", True, "litert", None, None),
        ExportFormat("tflite-fp16", "tflite", ".tflite", "fp16", False, "litert", _tflite_fp16, 1e-2),
        ExportFormat("tflite-dynamic", "tflite", ".tflite", "dynamic", False, "litert", _tflite_dynamic, None),
        ExportFormat("tflite-fp32", "tflite", ".tflite", "fp32", False, "litert", _tflite_fp32, 1e-4),
        ExportFormat("openvino-int8", "openvino", ".xml", "int8", True, "openvino", None, None),
        ExportFormat("openvino-fp16", "openvino", ".xml", "fp16", False, "openvino", _openvino_fp16, 1e-2),
        ExportFormat("openvino-fp32", "openvino", ".xml", "fp32", False, "openvino", _openvino_fp32, 1e-4),
        ExportFormat("onnx-fp32", "onnx", ".onnx", "fp32", False, "onnx", _onnx_fp32, 1e-4),
    )
}
"""Formats by name, in the order in which a device should prefer them."""


def parse_formats(text: str) -> tuple[ExportFormat, ...]:
    """Rows of a comma-separated list of names, or of ``all``; in table order.

    Raises:
        UsageError: an unknown name, or none.
    """
    names = {name.strip() for name in text.split(",") if name.strip()}
    if names == {"all"}:
        names = set(FORMATS)
    unknown = sorted(names - set(FORMATS))
    if unknown or not names:
        raise UsageError(f"Unknown format {', '.join(unknown) or text!r}. Formats: {', '.join(FORMATS)}, all.")
    return tuple(row for row in FORMATS.values() if row.name in names)


def with_precision(rows: tuple[ExportFormat, ...], precision: str) -> tuple[ExportFormat, ...]:
    """The rows, with each int8 format replaced by the format of the same runtime with another precision.

    Args:
        rows: of `FORMATS`.
        precision: ``fp32``, ``fp16`` or ``dynamic``.

    Raises:
        UsageError: a runtime has no such format.
    """
    named = {row.name: row for row in rows if not row.needs_calibration}
    for row in rows:
        if row.needs_calibration:
            found = [r for r in FORMATS.values() if r.runtime == row.runtime and r.precision == precision]
            if not found:
                raise UsageError(
                    f"There is no {precision} format for {row.runtime}. Formats: {', '.join(FORMATS)}."
                )
            named[found[0].name] = found[0]
    return tuple(row for row in FORMATS.values() if row.name in named)
