"""Changes to the bundles, with words that the error must hold."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from scripts.vectors.generated import VECTORS
from sonoedge.edge_runtime.bundle.manifest import load_bundle
from sonoedge.edge_runtime.model.cascade import first_bundle


def bundle_error_vectors() -> list[dict[str, Any]]:
    """Changes to the small bundle, each with words that the error must hold in every programming language.

    A change is one of: ``delete`` a file, ``add`` an empty file, ``truncate`` a file to half, ``flip`` the last bit
    of a file, ``sums`` (replace text in SHA256SUMS), ``manifest`` (set the value at a path of keys, or with
    ``remove`` remove it, and renew the sums), ``text`` (replace bundle.json and renew the sums), ``replace``
    (replace text in bundle.json and renew the sums). With ``folder``, the bundle in that folder is changed, and
    then the outer sums are renewed.
    """
    manifest = _manifest
    first = load_bundle(VECTORS / "bundle").artifacts[0]
    return [
        {"change": {"delete": "bundle.json"}, "words": ["is not a bundle", "bundle.json"]},
        {"change": {"delete": "SHA256SUMS"}, "words": ["SHA256SUMS", "nothing in it can be trusted"]},
        {"change": {"delete": first.head}, "words": ["incomplete", first.head]},
        {"change": {"delete": "golden.npz"}, "words": ["incomplete", "golden.npz"]},
        {"change": {"add": "notes.txt"}, "words": ["does not list", "notes.txt"]},
        {"change": {"truncate": first.backbone}, "words": [first.backbone, "SHA-256 differs"]},
        {"change": {"flip": "golden.npz"}, "words": ["golden.npz", "SHA-256 differs"]},
        {"change": {"flip": "bundle.json"}, "words": ["bundle.json", "SHA-256 differs"]},
        {"change": {"sums": ["  bundle.json\n", "  ../bundle.json\n"]}, "words": ["plain path", "../bundle.json"]},
        {"change": {"sums": ["  bundle.json\n", " bundle.json\n"]}, "words": ["SHA256SUMS line", "hexadecimal"]},
        {"change": {"sums": ["  bundle.json\n", "  golden.npz\n"]}, "words": ["twice", "golden.npz"]},
        {"change": {"sums": ["  MODEL_CARD.md\n", "  z.md\n"]}, "words": ["not sorted"]},
        {"change": {"text": '{"schema_version": 1,'}, "words": ["bundle.json is not valid JSON"]},
        {"change": {"text": "[]"}, "words": ["must be a JSON object"]},
        {"change": manifest(["schema_version"], 3), "words": ["schema_version 3", "reads 1 and 2", "Update"]},
        {"change": manifest(["colour"], "blue"), "words": ["unknown keys", "colour"]},
        {"change": {"manifest": ["name"], "remove": True}, "words": ["lacks", "name"]},
        {"change": manifest(["name"], 7), "words": ["name has the wrong type"]},
        {"change": manifest(["labels"], ["benign"]), "words": ["at least two different names"]},
        {"change": manifest(["labels"], ["benign", "benign"]), "words": ["at least two different names"]},
        {"change": manifest(["decision", "label"], "odd"), "words": ["decision.label", "odd"]},
        {"change": manifest(["decision", "rule"], "argmax"), "words": ["decides by a threshold", "argmax"]},
        {"change": manifest(["decision"], None), "words": ["decision has the wrong type"]},
        {"change": manifest(["reasons"], ["not_b_mode"]), "words": ["reasons must be"]},
        {"change": manifest(["lesion_map"], {}), "words": ["draws no lesion maps"]},
        {"change": manifest(["site_overlay"], ["labels"]), "words": ["site_overlay must be some of"]},
        {"change": manifest(["site_overlay"], ["threshold", "temperature"]), "words": ["site_overlay must be"]},
        {"change": manifest(["gate"], "other.npz"), "words": ["gate must be", "other.npz"]},
        {"change": manifest(["gate"], None), "words": ["holds domain.npz", "does not name"]},
        {"change": manifest(["gate"], 7), "words": ["gate has the wrong type"]},
        {"change": manifest(["artifacts", 0, "input_dtype"], "int8"), "words": ["float32 only", "int8"]},
        {"change": manifest(["input", "channels"], "BGR"), "words": ["only runs RGB", "BGR"]},
        {"change": manifest(["input", "resize"], "nearest"), "words": ["only runs RGB", "nearest"]},
        {"change": manifest(["input", "height"], 0), "words": ["input size must be positive"]},
        {"change": manifest(["branches"], []), "words": ["at least one branch"]},
        {"change": manifest(["branches", 0, "name"], "Upper Case"), "words": ["branches[0]", "feature map"]},
        {"change": manifest(["artifacts"], []), "words": ["at least one artifact"]},
        {"change": manifest(["artifacts", 0, "runtime"], "caffe"), "words": ["runtime", "caffe", "unknown"]},
        {"change": manifest(["artifacts", 0, "threshold"], 1.5), "words": ["must be a probability", "1.5"]},
        {"change": manifest(["artifacts", 0, "threshold"], True), "words": ["threshold has the wrong type"]},
        {"change": manifest(["artifacts", 0, "head"], "/etc/passwd"), "words": ["plain path", "/etc/passwd"]},
        {"change": manifest(["artifacts", 0, "head"], "a/../b"), "words": ["plain path", "a/../b"]},
        {"change": manifest(["artifacts", 0, "head"], "no.tflite"), "words": ["no.tflite", "does not hold"]},
    ]


def _manifest(path: list[str | int], value: Any) -> dict[str, Any]:
    return {"manifest": path, "value": value}


def cascade_error_vectors() -> list[dict[str, Any]]:
    """Changes to the bundle with a cascade, as in `bundle_error_vectors`."""
    bundle = load_bundle(VECTORS / "cascade")
    spec = bundle.cascade
    assert spec is not None
    model = f"{spec.first}/{first_bundle(bundle).artifact(spec.first_artifact).backbone}"

    def section(key: str, value: Any) -> dict[str, Any]:
        return _manifest(["cascade", key], value)

    def first(change: dict[str, Any]) -> dict[str, Any]:
        return {**change, "folder": spec.first}

    def number(key: str, written: str) -> dict[str, Any]:
        return {"replace": [f'"{key}": {json.dumps(getattr(spec, key))}', f'"{key}": {written}']}

    return [
        {"change": {"flip": model}, "words": [model, "SHA-256 differs"]},
        {"change": {"delete": model}, "words": ["incomplete", model]},
        {"change": {"add": f"{spec.first}/notes.txt"}, "words": ["does not list", f"{spec.first}/notes.txt"]},
        {"change": _manifest(["cascade"], []), "words": ["cascade has the wrong type"]},
        {"change": section("colour", "blue"), "words": ["cascade has unknown keys", "colour"]},
        {"change": {"manifest": ["cascade", "margin"], "remove": True}, "words": ["cascade lacks", "margin"]},
        {"change": section("scale", "2"), "words": ["cascade.scale has the wrong type"]},
        {"change": section("offset", True), "words": ["cascade.offset has the wrong type"]},
        {"change": section("metrics", []), "words": ["cascade.metrics has the wrong type"]},
        {"change": section("scale", 0), "words": ["scale must be positive"]},
        {"change": section("margin", -0.1), "words": ["margin not negative"]},
        {"change": number("margin", "NaN"), "words": ["bundle.json is not valid JSON"]},
        {"change": number("scale", "1e999"), "words": ["must be finite"]},
        {"change": number("offset", "-1e999"), "words": ["must be finite"]},
        {"change": number("margin", "1e999"), "words": ["must be finite"]},
        {"change": section("first", "../first"), "words": ["cascade: names", "lower-case letters"]},
        {"change": section("full_artifact", "tflite-fp16"), "words": ["full_artifact", "tflite-fp16", "none of"]},
        {"change": section("first_artifact", "tflite-fp16"), "words": ["has no artifact", "tflite-fp16", "It has"]},
        {"change": section("first", "tflite-int8"), "words": ["names tflite-int8/", "holds no bundle"]},
        {"change": first({"delete": "bundle.json"}), "words": ["names first/", "holds no bundle"]},
        {"change": first({"delete": "SHA256SUMS"}), "words": ["SHA256SUMS", "nothing in it can be trusted"]},
        {"change": first({"flip": "golden.npz"}), "words": ["golden.npz", "SHA-256 differs"]},
        {"change": first(_manifest(["colour"], "blue")), "words": ["unknown keys", "colour"]},
        {
            "change": first(_manifest(["labels"], ["malignant", "benign"])),
            "words": ["the same labels", "malignant"],
        },
        {"change": first(_manifest(["decision", "label"], "benign")), "words": ["the same labels"]},
        {"change": first(_manifest(["input", "channels"], "BGR")), "words": ["only runs RGB", "BGR"]},
        {
            "change": first(_manifest(["cascade"], {**asdict(spec), "full_artifact": spec.first_artifact})),
            "words": ["is a cascade itself", "plain bundle"],
        },
    ]
