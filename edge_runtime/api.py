"""The device's Python API: `load`, which `sonoedge` hands out."""

from __future__ import annotations

import os
from pathlib import Path

from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.device.profile import choice
from sonoedge.edge_runtime.model.cascade import open_classifier
from sonoedge.edge_runtime.model.predictor import Predictor


def load(
    bundle: str | os.PathLike[str] | Bundle,
    artifact: str | None = None,
    *,
    threads: int | None = None,
    profile: str | os.PathLike[str] | None = None,
) -> Predictor:
    """Open a bundle: its digests are checked, and this device's policy is enforced.

        model = sonoedge.load("bundle")
        result = model("frame.png")
        print(result.label, result.probability, result.verdict)
        result.plot().save("heat.png")

    Args:
        bundle: its folder.
        artifact: its name; None takes the cascade if there is one, else the first whose interpreter is
            installed.
        threads: for the interpreter; None takes the number of cores, at most four.
        profile: a device profile (``sonoedge benchmark --autotune``), which chooses both.

    Raises:
        BundleError: the bundle is not sound.
        DataError: the profile cannot be read.
        MissingExtraError: no interpreter for it is installed.
        ModelError: the interpreter refuses a file.
        TrustError: the policy refuses the bundle.
        UsageError: there is no such artifact, or the profile is for another bundle.
    """
    if not isinstance(bundle, Bundle):
        bundle = Path(bundle)
        artifact, threads = choice(bundle, artifact, threads, None if profile is None else Path(profile))
    return open_classifier(bundle, artifact, threads=threads)
