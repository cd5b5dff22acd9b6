"""Bundles whose model files are dummies, and changes to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sonoedge.edge_runtime.bundle.checksums import SHA256SUMS, digests_text
from sonoedge.edge_runtime.bundle.contract import (
    GOLDEN,
    MANIFEST,
    MODEL_CARD,
    Artifact,
    Branch,
    Bundle,
    Decision,
    InputSpec,
)
from sonoedge.edge_runtime.bundle.manifest import write_manifest
from sonoedge.edge_runtime.words import INTENDED_USE

FILES = {
    "tflite-fp32/backbone.tflite": b"backbone \x00\xff",
    "tflite-fp32/head.tflite": b"head",
    "openvino-int8/backbone.xml": b"<xml/>",
    "openvino-int8/backbone.bin": b"\x01\x02\x03",
    "openvino-int8/head.xml": b"<xml></xml>",
    GOLDEN: b"PK\x03\x04",
    MODEL_CARD: "# Größe\n".encode(),
}


def artifact(name: str, runtime: str, suffix: str) -> Artifact:
    return Artifact(
        name=name,
        runtime=runtime,
        precision="w8a8",
        recipe={"algorithm": "min-max", "skip": [".*swish.*"]},
        backbone=f"{name}/backbone.{suffix}",
        head=f"{name}/head.{suffix}",
        size_bytes=17,
        threshold=0.4375,
        metrics={"auc": 0.93, "flips": 0, "interval": [0.9, 0.96]},
    )


def build(folder: Path) -> Bundle:
    """A bundle whose model files are dummies: everything but an interpreter accepts it."""
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    bundle = Bundle(
        path=folder,
        name="dummy – Prüfling",
        labels=("benign", "malignant"),
        decision=Decision("threshold", "malignant"),
        input=InputSpec(height=224, width=160),
        branches=(Branch("vgg19", 7, 5, 512), Branch("efficientnetb0", 7, 5, 1280)),
        artifacts=(artifact("tflite-fp32", "tflite", "tflite"), artifact("openvino-int8", "openvino", "xml")),
        provenance={"seed": 7, "versions": {"keras": "3"}},
        intended_use=INTENDED_USE,
    )
    write_manifest(bundle)
    return bundle


def sign(folder: Path) -> None:
    (folder / SHA256SUMS).write_text(digests_text(folder), encoding="utf-8")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change bundle.json and sign it, so that only the schema can object."""
    body = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    replaced = change(body)
    (folder / MANIFEST).write_text(json.dumps(body if replaced is None else replaced), encoding="utf-8")
    sign(folder)


def set_in(*keys: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: Any) -> None:
        for key in keys[:-1]:
            body = body[key]
        body[keys[-1]] = to

    return change


def drop(*keys: str | int) -> Callable[[dict[str, Any]], None]:
    def change(body: Any) -> None:
        for key in keys[:-1]:
            body = body[key]
        del body[keys[-1]]

    return change


BAD_PATHS = [
    "../outside.tflite",
    "tflite-fp32/../../outside.tflite",
    "tflite-fp32/../tflite-fp32/head.tflite",
    "/outside.tflite",
    "..\\outside.tflite",
    "C:\\outside.tflite",
    "C:outside.tflite",
    "./tflite-fp32/head.tflite",
    "tflite-fp32//head.tflite",
    "tflite-fp32/head.tflite/",
]


def policy_file(tmp_path: Path, **body: Any) -> Path:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"policy_version": 1, **body}))
    return path
