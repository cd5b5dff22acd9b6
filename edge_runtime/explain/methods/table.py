"""The methods of explanation: name, cost, what they need. Choices and help texts iterate this table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec

from sonoedge.edge_runtime.errors import MissingExtraError, UsageError
from sonoedge.edge_runtime.explain.methods import gradcam, lime, occlusion, rise, scorecam, shap
from sonoedge.edge_runtime.explain.methods.budget import Budget
from sonoedge.edge_runtime.explain.methods.probe import Probe
from sonoedge.edge_runtime.types import Float32Array

GRADCAM = "gradcam"
"""The default: the only method without a further call."""


@dataclass(frozen=True)
class Method:
    """One method of explanation.

    Attributes:
        name: as it is typed.
        title: as it is shown.
        calls: of the whole model, at most.
        values: gives the signed map of the explained class, float32 (h, w), from a probe, a budget and a seed; its
            module names the source.
        says: what the map shows.
        extra: of the distribution that it needs; empty if it runs on the device.
        modules: of the extra, whose absence is told before an image is computed.
    """

    name: str
    title: str
    calls: int
    values: Callable[[Probe, Budget, int], Float32Array]
    says: str
    extra: str = ""
    modules: tuple[str, ...] = ()

    def require(self) -> None:
        """Raise a `MissingExtraError` if a module that the method needs is not installed."""
        for module in self.modules:
            if find_spec(module) is None:
                raise MissingExtraError(module, self.extra)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(GRADCAM, "Grad-CAM", 0, gradcam.values, "which cells of the last maps push the logit"),
        Method(
            "scorecam", "Score-CAM, head only", 0, scorecam.values, "which maps, let through alone, raise the logit"
        ),
        Method("occlusion", "occlusion", 121, occlusion.values, "where a hidden window lowers the logit"),
        Method("rise", "RISE", rise.MASKS, rise.values, "what random masks with a high logit show"),
        Method(
            "lime",
            "LIME",
            lime.SAMPLES,
            lime.values,
            "which superpixels a linear model gives weight",
            "xai",
            ("lime", "skimage"),
        ),
        Method(
            "shap",
            "SHAP",
            shap.ROUNDS[-1],
            shap.values,
            "how the logit is shared out among regions",
            "xai",
            ("shap",),
        ),
    )
}


def method_of(name: str) -> Method:
    """The method of a name.

    Raises:
        UsageError: there is none; the message has the nearest name.
    """
    if name in METHODS:
        return METHODS[name]
    near = get_close_matches(name, METHODS, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"Unknown method {name!r}.{hint} Choose from: {', '.join(METHODS)}.")


def methods_of(names: Sequence[str]) -> list[Method]:
    """The methods of several names, each once; see `method_of`."""
    return [method_of(name) for name in dict.fromkeys(names)]
