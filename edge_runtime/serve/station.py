"""The answer to one image, computed by one of a fixed number of open interpreters."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, bundle_digest
from sonoedge.edge_runtime.bundle.contract import GATE_FILE, Bundle
from sonoedge.edge_runtime.bundle.site import in_use
from sonoedge.edge_runtime.bundle.trust import load_trusted
from sonoedge.edge_runtime.errors import DataError, ImageError
from sonoedge.edge_runtime.explain.colormap import COLORMAP
from sonoedge.edge_runtime.explain.gradcam import explanation
from sonoedge.edge_runtime.files import keep_from_removal
from sonoedge.edge_runtime.imaging.image import decode_image, is_dicom, to_input
from sonoedge.edge_runtime.imaging.quality import hint_texts
from sonoedge.edge_runtime.imaging.region import detect_region
from sonoedge.edge_runtime.model.cascade import Cascade, open_classifier
from sonoedge.edge_runtime.model.classifier import Classifier
from sonoedge.edge_runtime.model.drift import Drift
from sonoedge.edge_runtime.types import Region, UInt8Image
from sonoedge.edge_runtime.words import INTENDED_USE, words

MAX_PIXELS = 25_000_000
MIN_SIDE = 16
_PREVIEW_SIDE = 1280
UPLOAD_NAME = "upload"
"""Every answer holds this in place of the client's file name, which can hold a patient's name."""


@dataclass(frozen=True)
class AnswerOptions:
    """Options of a request.

    Attributes:
        explain: add Grad-CAM maps and the branches' shares.
        peak: with ``explain``, add the position of the heat map's peak; live frames leave it out.
        views: 1 for the frame alone; 2 to 9 for a band over shifted crops, which may make the answer ``uncertain``.
        crop: classify only the scan area, as the DICOM file states it or as it is detected.
        preview: add the decoded picture as JPEG, for formats that a browser cannot show.
        frame: number, from 1, in a file of several frames; such files need one.
    """

    explain: bool = False
    peak: bool = True
    views: int = 1
    crop: bool = False
    preview: bool = False
    frame: int | None = None


class Station:
    """A bundle and its interpreters. Call `open` first; it takes time, because it checks the digests of the bundle.

    Args:
        path: of the bundle.
        artifact: name; None takes the cascade, or the first that can run here.
        workers: frames computed at the same time, each by an interpreter of its own.
        threads: per interpreter; None takes `edge_runtime.backends.default_threads`.
    """

    bundle: Bundle
    digest: str

    def __init__(self, path: Path, artifact: str | None, *, workers: int = 1, threads: int | None = None) -> None:
        self._path, self._artifact, self._threads = path, artifact, threads
        self.workers = workers
        # One thread more than interpreters: it decodes the next frame while all interpreters are busy.
        self.executor = ThreadPoolExecutor(workers + 1, thread_name_prefix="station")
        self._classifiers: SimpleQueue[Classifier | Cascade] = SimpleQueue()
        self._hold: int | None = None

    def open(self) -> None:
        """Check the bundle and open the interpreters; raises what `open_classifier` raises."""
        self.bundle = in_use(load_trusted(self._path))
        # Browsers ask for its files at any time: an update must not remove them while we run.
        self._hold = keep_from_removal(self.bundle.path)
        self.digest = bundle_digest(self.bundle.path)
        for _ in range(self.workers):
            classifier = open_classifier(self.bundle, self._artifact, threads=self._threads)
            self._classifiers.put(classifier)
        self.artifact = classifier.artifact
        self.input_size = classifier.input_size
        self.device = classifier.models[self.artifact.name].backbone.device
        self.gated = classifier.gated
        self.drifts = {name: Drift(model.gate) for name, model in classifier.models.items() if model.gate}

    def close(self) -> None:
        """Finish the frames in work and end the threads."""
        self.executor.shutdown(wait=True, cancel_futures=True)
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    def describe(self) -> dict[str, Any]:
        """The bundle for the page, ready for JSON: identity, input, threshold, files, colours, texts."""
        sums = (self.bundle.path / SHA256SUMS).read_text(encoding="utf-8").splitlines()
        digests = {line[66:]: line[:64] for line in sums}
        files = [a for a in self.bundle.artifacts if a.runtime == "tflite"]
        return {
            "name": self.bundle.name,
            "digest": self.digest,
            "labels": list(self.bundle.labels),
            "positive_label": self.bundle.positive_label,
            "input": asdict(self.bundle.input),
            "branches": [asdict(branch) for branch in self.bundle.branches],
            "artifact": self.artifact.name,
            "precision": self.artifact.precision,
            "runtime": self.artifact.runtime,
            "device": self.device,
            "threshold": self.artifact.threshold,
            "site": self.bundle.site.site if self.bundle.site else None,
            "domain_gate": self.gated,
            "browser_artifacts": [
                {
                    "name": a.name,
                    "precision": a.precision,
                    "threshold": a.threshold,
                    "size_bytes": a.size_bytes,
                    "backbone": {"path": a.backbone, "sha256": digests[a.backbone]},
                    "head": {"path": a.head, "sha256": digests[a.head]},
                    "gate": {"path": GATE_FILE, "sha256": digests[GATE_FILE]} if GATE_FILE in digests else None,
                }
                for a in files
                if a.input_dtype == "float32"  # the interpreter in browsers refuses int8 inputs
            ],
            "int8_only": bool(files) and all(a.input_dtype == "int8" for a in files),
            "colormap": np.rint(COLORMAP).astype(int).tolist(),
            "words": words(),
            "intended_use": INTENDED_USE,
        }

    def answer(self, data: bytes, wanted: AnswerOptions) -> dict[str, Any]:
        """The answer to one image, ready for JSON. Call this in a thread of ``executor``.

        Args:
            data: the bytes of an image file.
            wanted: options of the request.

        Raises:
            FrameNeededError: the file holds several frames, and ``wanted`` names none.
            ImageError: the bytes are no acceptable image.
            MissingExtraError: the file is DICOM and pydicom is not installed.
            ModelError: the model's answer is NaN or infinite.
        """
        start = perf_counter()
        image = decode_image(data, name="The image", max_pixels=MAX_PIXELS, frame=wanted.frame)
        decode_ms = 1e3 * (perf_counter() - start)
        if min(image.shape[:2]) < MIN_SIDE:
            raise ImageError(
                f"The image has {image.shape[1]}x{image.shape[0]} pixels. At least {MIN_SIDE} each way."
            )
        region = _region(data, image) if wanted.crop else None
        frame = region.crop(image) if region else image
        # Resize before waiting for an interpreter, so that a free interpreter can start at once.
        start = perf_counter()
        model_input = to_input(frame, self.input_size)
        resize_ms = 1e3 * (perf_counter() - start)
        classifier = self._classifiers.get()
        try:
            answer = classifier.predict_prepared(
                model_input, frame, name=UPLOAD_NAME, decode_ms=decode_ms, resize_ms=resize_ms, views=wanted.views
            )
        finally:
            self._classifiers.put(classifier)
        if answer.features is not None:
            self.drifts[answer.artifact].add(answer.features)
        body = {
            **answer.to_json(),
            "band": asdict(answer.band) if answer.band else None,
            "hints": hint_texts(answer.hints),
            "image_size": list(image.shape[:2]),
            "crop": [region.left, region.top, region.right, region.bottom] if region else None,
            "intended_use": INTENDED_USE,
        }
        if wanted.explain:
            bundle = classifier.deciding_model(answer).bundle
            body["explanation"] = (
                _explanation(bundle, answer.outputs, frame, peak=wanted.peak) if answer.outputs else None
            )
        if wanted.preview:
            body["preview"] = _preview(image)
        return body


def _explanation(bundle: Bundle, outputs: Mapping[str, Any], frame: UInt8Image, *, peak: bool) -> dict[str, Any]:
    """The shares, and signed maps on their own grids; values above zero speak for the positive label."""
    result = explanation(bundle, outputs, bundle.positive_label)
    maps = {"fused": outputs["cam"], **{branch.name: outputs[f"cam_{branch.name}"] for branch in bundle.branches}}
    return {
        **(result.to_json(frame.shape[:2]) if peak else {"logit_shares": dict(result.shares)}),
        "maps": {name: [[float(f"{v:.6g}") for v in row] for row in grid[0]] for name, grid in maps.items()},
    }


def _region(data: bytes, image: UInt8Image) -> Region | None:
    """The scan area: as a DICOM file states it, else as detected in the picture."""
    if is_dicom(data):
        from sonoedge.edge_runtime.dicom.read import read_dicom

        try:
            if region := read_dicom(data).region:
                return region
        except DataError:
            pass
    return detect_region(image)


def _preview(image: UInt8Image) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
