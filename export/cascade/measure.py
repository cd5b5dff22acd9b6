"""The data that a cascade is fitted to and judged by: images that both models may be judged on, logits, latency."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from sonoedge.edge_runtime.bundle.contract import Bundle
from sonoedge.edge_runtime.errors import DataError
from sonoedge.edge_runtime.imaging.image import read_image
from sonoedge.edge_runtime.model.cascade import Cascade
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.result import Prediction
from sonoedge.edge_runtime.types import UInt8Image
from sonoedge.export.cascade.fit import Float, agreement

if TYPE_CHECKING:
    from sonoedge.train.data.dataset import Sample

FIRST = "first"
_ROUNDS = 3


def samples_of(subset: str, by_digest: dict[str, Sample], first: Bundle, full: Bundle) -> list[Sample]:
    """Images that the full model's run calls ``subset`` and that the cheap model was not trained on.

    Args:
        subset: ``val`` or ``test``.
        by_digest: the images, by SHA-256.
        first: bundle of the cheap model.
        full: bundle of the full model.

    Raises:
        DataError: none of the images is a validation image, or the cheap model has seen some of the subset.
    """
    wanted = _digests(full, subset)
    seen = _digests(first, "train") | (_digests(first, "val") if subset == "test" else set())
    if overlap := wanted & seen:
        raise DataError(
            f"The cheap model was trained or tuned on {len(overlap)} of the full model's {subset} images: teach it "
            "with the full model's split (sonoedge distill does)."
        )
    digits = len(next(iter(wanted), ""))
    found = [sample for digest, sample in sorted(by_digest.items()) if digest[:digits] in wanted] if digits else []
    if subset == "val" and not found:
        raise DataError("None of these images is a validation image of the full model's run.")
    return found


def _digests(bundle: Bundle, subset: str) -> set[str]:
    training = bundle.provenance.get("training") or {}
    return set((training.get("subsets") or {}).get(subset, ()))


def logits_of(
    models: tuple[Classifier, Classifier], paths: list[Path], subset: str, *, quiet: bool
) -> tuple[Float, Float]:
    """Logits float64 (N,) of the cheap and the full model on N image files; ``subset`` names the bar."""
    from tqdm import tqdm

    rows = []
    for path in tqdm(paths, desc=f"both models, {subset}", unit="image", disable=quiet):
        image = read_image(path)
        rows.append([model.explain_raw(image)[0].logit for model in models])
    first, full = np.array(rows, np.float64).reshape(-1, 2).T
    return first, full


def timings(
    cascade: Cascade, samples: list[Sample], *, threads: int | None, quiet: bool
) -> tuple[dict[str, float], dict[str, Any]]:
    """Time cascade, full model and the full model's float32 file in turns, from the decoded image to the answer.

    Args:
        cascade: open.
        samples: images, at least one.
        threads: of the float32 file's interpreter; None: its default.
        quiet: show no bar.

    Returns:
        Milliseconds and ratios by name; and the agreement of the cascade's decisions with the float32 file's, empty
        if there is no such file.
    """
    from tqdm import tqdm

    bundle, runtime = cascade.bundle, cascade.artifact.runtime
    float_name = next((a.name for a in bundle.artifacts if (a.runtime, a.precision) == (runtime, "fp32")), None)
    floating = Classifier(bundle, float_name, threads=threads) if float_name else None
    times: dict[str, list[float]] = {"cascade": [], "full": [], "float": [], "first": [], "escalated": []}
    labels: list[tuple[str, str]] = []
    paths = [sample.path for sample in samples]
    cascade.full.explain_raw(read_image(paths[0]))
    for turn in range(_ROUNDS):
        for path in tqdm(paths, desc="latency", unit="image", disable=quiet):
            image = read_image(path)
            times["full"].append(_milliseconds(cascade.full, image)[0])
            spent, answer = _milliseconds(cascade, image)
            times["cascade"].append(spent)
            times["first" if answer.artifact.startswith(f"{FIRST}/") else "escalated"].append(spent)
            if floating and turn == 0:
                spent, reference = _milliseconds(floating, image)
                times["float"].append(spent)
                labels.append((reference.label, answer.label))
    found = {f"{name}_mean": float(np.mean(spent)) for name, spent in times.items() if spent}
    found |= {f"{name}_p50": float(np.median(spent)) for name, spent in times.items() if spent}
    found |= {"cascade_max": max(times["cascade"]), "speedup": found["full_mean"] / found["cascade_mean"]}
    if not floating:
        return {name: round(value, 3) for name, value in found.items()}, {}
    found["speedup_over_float"] = found["float_mean"] / found["cascade_mean"]
    positive = np.array(labels) == bundle.positive_label
    against_float = agreement(
        "agreement_with_float", positive[:, 0], positive[:, 1], [sample.group for sample in samples]
    )
    return {name: round(value, 3) for name, value in found.items()}, against_float


def _milliseconds(model: Classifier | Cascade, image: UInt8Image) -> tuple[float, Prediction]:
    start = perf_counter()
    prediction, _ = model.explain_raw(image)
    return 1e3 * (perf_counter() - start), prediction
