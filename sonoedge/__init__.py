"""SonoEdge: train a medical image classifier, shrink it, prove what was kept, and run it on an edge device.

    import sonoedge

    model = sonoedge.load("bundle")
    result = model("frame.png")
    print(result.label, result.probability, result.verdict)
    result.plot().save("heat.png")

On a workstation `sonoedge.train`, `sonoedge.export` and `sonoedge.benchmarks` hand out `train`, `export` and
`benchmark`. Everything that is in no ``__all__`` of these four is private.

Research use only; not a medical device. The first use of a name imports NumPy and Pillow; opening a bundle imports
an interpreter. If one of these cannot be loaded, the command line must still say so.
"""

import importlib
import typing

from sonoedge.edge_runtime import __version__

if typing.TYPE_CHECKING:
    from sonoedge.edge_runtime.api import load
    from sonoedge.edge_runtime.errors import (
        AccuracyError,
        BundleError,
        DataError,
        FrameNeededError,
        ImageError,
        LimitError,
        MissingExtraError,
        ModelError,
        SonoEdgeError,
        TrustError,
        UsageError,
        VerificationError,
    )
    from sonoedge.edge_runtime.explain.gradcam import Explanation
    from sonoedge.edge_runtime.model.assess import Band
    from sonoedge.edge_runtime.model.gate import GateResult
    from sonoedge.edge_runtime.model.predictor import Predictor
    from sonoedge.edge_runtime.model.result import Result

__all__ = [
    "AccuracyError",
    "Band",
    "BundleError",
    "DataError",
    "Explanation",
    "FrameNeededError",
    "GateResult",
    "ImageError",
    "LimitError",
    "MissingExtraError",
    "ModelError",
    "Predictor",
    "Result",
    "SonoEdgeError",
    "TrustError",
    "UsageError",
    "VerificationError",
    "__version__",
    "load",
]

_HOMES = {
    "Band": "model.assess",
    "Explanation": "explain.gradcam",
    "GateResult": "model.gate",
    "Predictor": "model.predictor",
    "Result": "model.result",
    "load": "api",
}
"""The module within `sonoedge.edge_runtime` that defines a name; the others are of ``errors``."""


def __getattr__(name: str) -> typing.Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"sonoedge.edge_runtime.{_HOMES.get(name, 'errors')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
