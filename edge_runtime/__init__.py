"""SonoEdge on the device: load a bundle, image -> prediction -> heat map.

    from edge_runtime import Classifier
    prediction = Classifier("bundle").predict_file("frame.png")

Research use only; not a medical device. Imports NumPy and Pillow; an interpreter is imported when a bundle is
opened.
"""

from edge_runtime.bundle import Bundle, load_bundle
from edge_runtime.classifier import Classifier, Prediction
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

__version__ = "0.1.0"

__all__ = [
    "AccuracyError",
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
