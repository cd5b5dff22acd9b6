"""SonoEdge on the device: load a bundle, image -> prediction -> heat map.

    from sonoedge.edge_runtime import Classifier
    answer = Classifier("bundle").predict_file("frame.png")

Research use only; not a medical device. The first use of one of these names imports NumPy and Pillow; opening a
bundle imports an interpreter. If one of these packages cannot be loaded, the command line must still say so.
"""

import importlib
import sys
import typing

if typing.TYPE_CHECKING:
    from sonoedge.edge_runtime.bundle.contract import Bundle
    from sonoedge.edge_runtime.bundle.manifest import load_bundle
    from sonoedge.edge_runtime.errors import (
        AccuracyError,
        BundleError,
        DataError,
        ImageError,
        LimitError,
        MissingExtraError,
        ModelError,
        SonoEdgeError,
        TrustError,
        UsageError,
        VerificationError,
    )
    from sonoedge.edge_runtime.explain.gradcam import Explanation, explanation, heat_map, overlay
    from sonoedge.edge_runtime.imaging.image import decode_image, read_image
    from sonoedge.edge_runtime.model.answer import Answer, Prediction
    from sonoedge.edge_runtime.model.assess import Assessment
    from sonoedge.edge_runtime.model.classifier import Classifier

# OpenVINO and NNCF report imports and conversions to their makers if they can import this module; without it they
# work as well. Nothing may leave a machine that sees patients' images.
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
    "LimitError",
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

_MODULES = (
    "errors",
    "bundle.contract",
    "bundle.manifest",
    "explain.gradcam",
    "imaging.image",
    "model.answer",
    "model.assess",
    "model.classifier",
)


def __getattr__(name: str) -> typing.Any:
    if name in __all__:
        for module in _MODULES:
            found = importlib.import_module(f"{__name__}.{module}")
            if hasattr(found, name):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
