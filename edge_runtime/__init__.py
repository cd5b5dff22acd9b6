"""SonoEdge on the device: load a bundle, image -> prediction -> heat map.

    from edge_runtime import Classifier
    answer = Classifier("bundle").predict_file("frame.png")

Research use only; not a medical device. NumPy and Pillow are imported with the first of these names, an interpreter
when a bundle is opened: the command line must be able to say a sentence where one of them cannot be loaded.
"""

import importlib
import sys
import typing

if typing.TYPE_CHECKING:
    from edge_runtime.answer import Answer, Prediction
    from edge_runtime.assess import Assessment
    from edge_runtime.bundle import Bundle
    from edge_runtime.classifier import Classifier
    from edge_runtime.errors import (
        AccuracyError,
        BundleError,
        DataError,
        ImageError,
        MissingExtraError,
        ModelError,
        SonoEdgeError,
        TrustError,
        UsageError,
        VerificationError,
    )
    from edge_runtime.explain import Explanation, explanation, heat_map, overlay
    from edge_runtime.image import decode_image, read_image
    from edge_runtime.manifest import load_bundle

# OpenVINO and NNCF report imports and conversions to their makers as long as this module can be imported, and do
# without where it cannot. Nothing leaves a machine that sees patients' images.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

__version__ = "0.1.0"

__all__ = [
    "AccuracyError",
    "Answer",
    "Assessment",
    "Bundle",
    "BundleError",
    "Classifier",
    "DataError",
    "Explanation",
    "ImageError",
    "MissingExtraError",
    "ModelError",
    "Prediction",
    "SonoEdgeError",
    "TrustError",
    "UsageError",
    "VerificationError",
    "decode_image",
    "explanation",
    "heat_map",
    "load_bundle",
    "overlay",
    "read_image",
]

_MODULES = ("errors", "answer", "assess", "bundle", "manifest", "classifier", "explain", "image")


def __getattr__(name: str) -> typing.Any:
    if name in __all__:
        for module in _MODULES:
            found = importlib.import_module(f"{__name__}.{module}")
            if hasattr(found, name):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
