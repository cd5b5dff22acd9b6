"""From a trained Keras model to a verified bundle: split, convert, calibrate, quantize, write, replay.

    from sonoedge.export import export
    bundle = export("runs/mine", formats=["tflite-int8"], out="bundle")

Imports `train` (which it continues) and `edge_runtime` (which defines the bundle), nothing of `benchmarks`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sonoedge import train  # noqa: F401 sets TensorFlow's environment variables

if TYPE_CHECKING:
    from sonoedge.export.api import export
    from sonoedge.export.bundle.exported import ExportedArtifact, ExportedBundle, Promise
    from sonoedge.export.bundle.gate import GateCheck, GateRates, add_gate, check_gate
    from sonoedge.export.bundle.site import SiteCalibration, calibrate_site
    from sonoedge.export.cascade.make import CascadeBundle, make_cascade
    from sonoedge.export.gate.fit import FittedGate

# `cascade` and `gate` are sub-packages: the functions that stand for these commands have verbs for names.
__all__ = [
    "CascadeBundle",
    "ExportedArtifact",
    "ExportedBundle",
    "FittedGate",
    "GateCheck",
    "GateRates",
    "Promise",
    "SiteCalibration",
    "add_gate",
    "calibrate_site",
    "check_gate",
    "export",
    "make_cascade",
]
_HOME = {
    "api": ("export",),
    "bundle.exported": ("ExportedArtifact", "ExportedBundle", "Promise"),
    "bundle.gate": ("GateCheck", "GateRates", "add_gate", "check_gate"),
    "bundle.site": ("SiteCalibration", "calibrate_site"),
    "cascade.make": ("CascadeBundle", "make_cascade"),
    "gate.fit": ("FittedGate",),
}


def __getattr__(name: str) -> Any:
    """A public name, from its module, which is only imported now: TensorFlow takes seconds."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"sonoedge.export.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
