"""Write tests/vectors: what edge_runtime computes, for the ports to Kotlin and JavaScript to be held against.

    python scripts/write_vectors.py             the JSON and picture files, from edge_runtime alone
    python scripts/write_vectors.py --bundle    both bundles first, through `sonoedge export` (needs TensorFlow)
    python scripts/write_vectors.py --cascade   the same, but the small bundle stays as it is
    python scripts/write_vectors.py --gate      fit the gates of both bundles again

Files (arrays are base64 of their C-order little-endian bytes, ``{"dtype", "shape", "data"}``):

    resize.json         generated pictures -> resized pictures
    heat.json           colour table; Grad-CAM maps -> heat maps and overlays
    decision.json       probabilities and thresholds -> labels
    assess.json         gates, hints, bands and probabilities -> verdicts, all combinations
    quality.json        generated pictures -> measures and hints
    gate.json           feature maps -> distances
    verdicts.json       generated pictures -> the whole answer; nothing of a refused one but why
    answers.json        the small bundle's artifacts on generated pictures
    pictures.json       the files in pictures/ -> decoded RGB as stored, or null where they are refused
    orientation.json    EXIF orientations -> the upright picture
    ed25519.json        keys, messages, signatures -> whether they belong together
    signature.json      SHA256SUMS.sig of the small bundle, allowed signers -> who signed, or words of the error
    bundle_errors.json  changes to the small bundle -> words that the error must hold
    bundle/             a real bundle of a few kilobytes, with a gate
    cascade_answers.json, cascade_decisions.json, cascade_errors.json, cascade/
                        the same for a bundle with a cascade: a smaller model with its own size in front of that one

Generated pictures need no file: see `noise` and `drawn`.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sonoedge.edge_runtime import Classifier, load_bundle
from sonoedge.edge_runtime.bundle.checksums import SIGNATURE, SUMS
from sonoedge.edge_runtime.bundle.contract import CascadeSpec
from sonoedge.edge_runtime.bundle.manifest import read_manifest, write_manifest
from sonoedge.edge_runtime.bundle.signature import raw_public_key, verify_signature
from sonoedge.edge_runtime.errors import BundleError, ImageError, TrustError
from sonoedge.edge_runtime.explain.colormap import COLORMAP
from sonoedge.edge_runtime.explain.gradcam import explanation, heat_map, overlay
from sonoedge.edge_runtime.files import sha256_bytes, write_bytes_atomic, write_text_atomic
from sonoedge.edge_runtime.imaging.image import decode_image, resize, to_input
from sonoedge.edge_runtime.imaging.quality import hints, measure
from sonoedge.edge_runtime.model.assess import Band, assess
from sonoedge.edge_runtime.model.cascade import Cascade, cut_of, estimate, first_bundle
from sonoedge.edge_runtime.model.gate import DOMAIN, Domain, features_of

VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors"
# (height, width) -> (height, width): smaller, larger, one pixel, a line, unchanged, odd, one axis only, a phone's,
# and tall ones, which Pillow 13 resizes down before across.
_RESIZES = [
    ((48, 64), (32, 32)),
    ((20, 30), (48, 48)),
    ((1, 1), (5, 7)),
    ((3, 200), (40, 4)),
    ((32, 32), (32, 32)),
    ((33, 65), (32, 65)),
    ((61, 40), (61, 23)),
    ((768, 1024), (48, 48)),
    ((64, 50), (48, 48)),
    ((170, 44), (32, 32)),
]
_ANSWERED = [(48, 48), (96, 131), (30, 41), (768, 1024)]
_DRAWN = [
    ("grey", 130, 140, 1), ("grey", 130, 140, 2), ("grey", 768, 1024, 3), ("grey", 40, 50, 4),
    ("mixed", 130, 140, 5), ("mixed", 200, 140, 6), ("noise", 130, 140, 5), ("noise", 130, 140, 6),
    ("flat", 130, 140, 90), ("flat", 1, 1, 7), ("flat", 2, 300, 250), ("board", 130, 140, 1),
    ("board", 150, 131, 5), ("ramp", 140, 160, 1), ("ramp", 140, 160, 0),
]  # fmt: skip
_FITTED = [(("grey", "mixed", "noise")[seed % 3], 60 + seed, 60 + 7 * (seed % 23), seed) for seed in range(120)]
_CASCADED = [((64, 60), seed, 8 * seed) for seed in range(9)] + [((768, 1024), 9, 300), ((31, 41), 10, 20)]


def noise(height: int, width: int, seed: int = 1) -> NDArray[np.uint8]:
    """A cone under noise, uint8 (height, width, 3), by whole-number arithmetic that any language repeats.

    Value i (in C order) is ``(n >> 26) + k * (|x - width / 2| * 32 / width + |y - height / 2| * 32 / height)`` with
    ``n = (i + seed) * 2654435761 mod 2^32``, k = 3 for odd seeds, 1 for even ones, all divisions rounded down.
    """
    i = np.arange(height * width * 3, dtype=np.uint64) + np.uint64(seed)
    grain = (i * np.uint64(2654435761) % np.uint64(2**32)) >> np.uint64(26)
    x = np.abs(np.arange(width) - width // 2) * 32 // width
    y = np.abs(np.arange(height) - height // 2) * 32 // height
    ramp = (3 if seed % 2 else 1) * (x[None, :] + y[:, None])
    return (grain.reshape(height, width, 3) + ramp[:, :, None].astype(np.uint64)).astype(np.uint8)


def mixed(height: int, width: int, seed: int, rows: int) -> NDArray[np.uint8]:
    """`noise` of which the first rows are of that seed, the others of the next: neither steep nor flat."""
    return np.concatenate([noise(height, width, seed)[:rows], noise(height, width, seed + 1)[rows:]])


def drawn(kind: str, height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """A generated picture, uint8 (height, width, 3).

    ``noise``: see there. ``grey``: its green channel three times. ``mixed``: that of `mixed`, half of the rows
    each. ``flat``: ``seed`` everywhere. ``board``: 255 where (x // seed + y // seed) is odd, else 0. ``ramp``:
    twice what `noise` adds to its grain, so no speckle.
    """
    y, x = np.indices((height, width))
    if kind == "noise":
        return noise(height, width, seed)
    if kind == "flat":
        plane = np.full((height, width), seed)
    elif kind == "board":
        plane = (x // seed + y // seed) % 2 * 255
    elif kind == "ramp":
        distance = abs(x - width // 2) * 32 // width + abs(y - height // 2) * 32 // height
        plane = 2 * (3 if seed % 2 else 1) * distance
    else:
        picture = noise(height, width, seed) if kind == "grey" else mixed(height, width, seed, height // 2)
        plane = picture[:, :, 1]
    return np.repeat(plane.astype(np.uint8)[:, :, None], 3, axis=2)


def pack(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON."""
    array = np.ascontiguousarray(array)
    data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def resize_vectors() -> list[dict[str, Any]]:
    """`edge_runtime.imaging.image.resize`."""
    return [
        {"source": list(source), "seed": seed, "resized": pack(resize(noise(*source, seed), size))}
        for seed, (source, size) in enumerate(_RESIZES, start=1)
    ]


def heat_vectors() -> dict[str, Any]:
    """`edge_runtime.explain.colormap` and `edge_runtime.explain.gradcam`: peaks, zeros, one cell; any size."""
    rng = np.random.default_rng(7)
    maps = [rng.normal(size=(7, 7)), rng.normal(size=(5, 3)) * 100, np.zeros((7, 7)), [[2.0]], [[-1.0, -2.0]]]
    cases = []
    for seed, (cam, size) in enumerate(zip(maps, [(24, 31), (40, 40), (9, 9), (6, 5), (8, 8)], strict=True)):
        cam = np.asarray(cam, np.float32)
        for positive in (True, False):
            shown = np.maximum(cam if positive else -cam, 0.0)
            heat = heat_map(shown, size)
            over = overlay(noise(*size, seed), heat)
            cases.append(
                {"cam": pack(cam), "positive": positive, "seed": seed, "heat": pack(heat), "overlay": pack(over)}
            )
    return {"colormap": pack(COLORMAP), "cases": cases}


def decision_vectors() -> list[dict[str, Any]]:
    """Thresholds are inclusive: on the threshold a picture is positive."""
    bundle = load_bundle(VECTORS / "bundle")
    pairs = [
        (0.0, 0.0),
        (0.0, 0.5),
        (0.5, 0.5),
        (0.4999999, 0.5),
        (0.5000001, 0.5),
        (1.0, 1.0),
        (0.2, 0.1),
        (0.9, 1.0),
    ]
    return [
        {
            "probability": p,
            "threshold": t,
            "label": bundle.positive_label if p >= t else bundle.negative_label,
        }
        for p, t in pairs
    ]


def assess_vectors() -> dict[str, Any]:
    """`edge_runtime.model.assess.assess` over the product of gates, hints, bands and probabilities, in that order.

    ``expected`` has one character for each combination, a place in ``assessments``; the last factor runs fastest.
    A gate's null distance is not a number; null is no gate, or no band.
    """
    bundle, threshold = load_bundle(VECTORS / "bundle"), 0.5
    gates = [None, *(Domain(distance, 2.0, 1.0) for distance in (0.5, 1.0, 1.25, 2.0, 2.25, float("nan")))]
    gates += [Domain(0.75, 0.5, 3.0), Domain(0.25, 0.5, 3.0)]
    found = [
        (),
        ("flat",),
        ("colour",),
        ("speckle",),
        ("small", "dark", "bright", "overlay"),
        ("colour", "overlay"),
    ]
    bands = [None, Band(0.25, 0.75, 5), Band(0.5, 0.75, 5), Band(0.25, 0.5, 5), Band(0.125, 0.25, 5)]
    probabilities = [0.25, 0.5, 0.75]
    assessments: list[dict[str, Any]] = []
    expected = ""
    for gate in gates:
        for codes in found:
            for band in bands:
                for probability in probabilities:
                    verdict = assess(bundle, probability, threshold, gate=gate, hints=codes, band=band).to_json()
                    if verdict not in assessments:
                        assessments.append(verdict)
                    expected += str(assessments.index(verdict))
    return {
        "labels": list(bundle.labels),
        "positive_label": bundle.positive_label,
        "threshold": threshold,
        "gates": [gate and gate.to_json() for gate in gates],
        "hints": [list(codes) for codes in found],
        "bands": [band and asdict(band) for band in bands],
        "probabilities": probabilities,
        "assessments": assessments,
        "expected": expected,
    }


def quality_vectors() -> list[dict[str, Any]]:
    """`edge_runtime.imaging.quality` of `drawn` pictures."""
    cases = []
    for kind, height, width, seed in _DRAWN:
        picture = drawn(kind, height, width, seed)
        quality = measure(picture)
        cases.append(
            {"picture": [kind, height, width, seed], **asdict(quality), "hints": list(hints(picture, quality))}
        )
    return cases


def gate_vectors() -> list[dict[str, Any]]:
    """The distance of maps under the small bundle's gate, `edge_runtime.model.gate`."""
    bundle = load_bundle(VECTORS / "bundle")
    model, cases = Classifier(bundle, "tflite-fp32", threads=1), []
    for picture in _DRAWN[::5]:
        outputs = model.explain_raw(drawn(*picture))[1]
        maps = {branch.name: outputs[f"map_{branch.name}"] for branch in bundle.branches}
        assert model.gate is not None
        domain = model.gate.check(outputs)
        cases.append(
            {
                "artifact": "tflite-fp32",
                "maps": {name: pack(array) for name, array in maps.items()},
                "distance": domain.distance,
                "warning": domain.warning,
                "threshold": domain.threshold,
            }
        )
    return cases


def verdict_vectors() -> list[dict[str, Any]]:
    """What both bundles answer to `drawn` pictures, with the gate and without; ``views`` of a band or 1."""
    small, cascade = load_bundle(VECTORS / "bundle"), Cascade(load_bundle(VECTORS / "cascade"), threads=1)
    models = [*(("bundle", Classifier(small, a.name, threads=1)) for a in small.artifacts), ("cascade", cascade)]
    cases = []
    for name, model in models:
        for picture in _DRAWN:
            for gated, views in ((True, 1), (False, 1), (True, 5)):
                answer = model.predict(drawn(*picture), gated=gated, views=views)
                body = answer.to_json()
                del body["image"], body["latency_ms"]
                if answer.gate is not None:
                    # Unrounded: the limits are single floats of the file.
                    body["gate"] = {key: getattr(answer.gate, key) for key in body["gate"]}
                cases.append(
                    {
                        "bundle": name,
                        "picture": list(picture),
                        "gated": gated,
                        "views": views,
                        **body,
                        "hints": list(answer.hints),
                        "band": asdict(answer.band) if answer.band else None,
                    }
                )
    return cases


def answer_vectors() -> list[dict[str, Any]]:
    """What every artifact of the small bundle answers."""
    bundle = load_bundle(VECTORS / "bundle")
    classifiers = [Classifier(bundle, artifact.name, threads=1) for artifact in bundle.artifacts]
    return [
        {**_answer(model, noise(*size, seed)), "size": list(size), "seed": seed}
        for model in classifiers
        for seed, size in enumerate(_ANSWERED, start=1)
    ]


def _answer(model: Classifier | Cascade, picture: NDArray[np.uint8]) -> dict[str, Any]:
    prediction, outputs = model.explain_raw(picture)
    bundle = model.decider(prediction).bundle
    explained = explanation(bundle, outputs, bundle.positive_label)
    return {
        "artifact": prediction.artifact,
        "label": prediction.label,
        "probability": prediction.probability,
        "logit": prediction.logit,
        "shares": dict(explained.shares),
        "cam": pack(outputs["cam"][0]),
        "branch_cams": {branch.name: pack(outputs[f"cam_{branch.name}"][0]) for branch in bundle.branches},
    }


def cascade_answer_vectors() -> list[dict[str, Any]]:
    """What the cascade answers to `mixed` pictures, of which both models decide some (`write_cascade_bundle`)."""
    cascade = Cascade(load_bundle(VECTORS / "cascade"), threads=1)
    return [
        {**_answer(cascade, mixed(*size, seed, rows)), "size": list(size), "seed": seed, "rows": rows}
        for size, seed, rows in _CASCADED
    ]


def cascade_decision_vectors() -> list[dict[str, Any]]:
    """Which model decides, and how: the margin is inclusive, thresholds of 0 and 1 are never near, NaN is not sure.

    The cheap model gives ``first_logit`` (null: NaN), the full one, where it is asked, 3.
    """
    bundle = load_bundle(VECTORS / "cascade")
    spec, full = bundle.cascade, bundle.artifacts[0]
    assert spec is not None
    cases = []
    for scale, offset, margin, threshold, first_logit in (
        (2.0, 0.25, 1.25, 0.5, 0.5),
        (2.0, 0.25, float(np.nextafter(1.25, 2.0)), 0.5, 0.5),
        (2.0, 0.25, 0.75, 0.5, -0.5),
        (2.0, 0.25, float(np.nextafter(0.75, 1.0)), 0.5, -0.5),
        (2.0, 0.25, 0.0, 0.5, -0.125),
        (0.5, -1.0, 0.3, 0.2, -0.75),
        (0.5, -1.0, 0.3, 0.2, 0.25),
        (0.5, -1.0, 0.3, 0.2, -2.0),
        (1.0, 0.0, 1e9, 0.0, -50.0),
        (1.0, 0.0, 1e9, 1.0, 50.0),
        (1.0, 0.0, 1e9, 0.5, 50.0),
        (1.0, 0.0, 2.0, 0.99, 3.0),
        (1.0, 0.0, 1.0, 0.5, 1000.0),
        (1.0, 0.0, 1.0, 0.5, -1000.0),
        (1.0, 0.0, 1.0, 0.5, float("nan")),
    ):
        changed = replace(spec, scale=scale, offset=offset, margin=margin, full_artifact=full.name)
        cascade = Cascade(
            replace(bundle, cascade=changed, artifacts=(replace(full, threshold=threshold),)), threads=1
        )
        cascade.first.head, cascade.full.head = (
            _Fixed(cascade.first.head, first_logit),
            _Fixed(cascade.full.head, 3),
        )
        prediction, _ = cascade.explain_raw(noise(8, 8))
        cases.append(
            {
                "scale": scale,
                "offset": offset,
                "margin": margin,
                "threshold": threshold,
                "first_logit": None if np.isnan(first_logit) else first_logit,
                "artifact": prediction.artifact,
                "label": prediction.label,
                "logit": prediction.logit,
                "probability": prediction.probability,
            }
        )
    return cases


class _Fixed:
    """A head that gives one logit, whatever it is shown."""

    def __init__(self, head: Any, logit: float) -> None:
        self._head, self._logit = head, logit

    def run(self, maps: Any) -> Any:
        probability = 1 / (1 + np.exp(-np.float64(np.clip(self._logit, -700, 700))))
        fixed = {"logit": self._logit, "probability": probability}
        return {**self._head.run(maps), **{key: np.full((1, 1), fixed[key], np.float32) for key in fixed}}


def picture_files() -> dict[str, bytes]:
    """Pictures of every kind that a phone may hand over, and some that are none."""
    rgb = Image.fromarray(noise(24, 32))
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(noise(24, 32, 9)[:, :, 0] * 2))
    smooth = Image.fromarray(noise(6, 8)).resize((32, 24), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    png = _encode(rgb, "PNG")
    # A real header that promises 20000x20000 pixels: refused before a pixel is decoded.
    huge = png[:16] + (20_000).to_bytes(4, "big") * 2 + png[24:]
    return {
        "rgb.png": png,
        "grey.png": _encode(rgb.convert("L"), "PNG"),
        "palette.png": _encode(rgb.quantize(16), "PNG"),
        "alpha.png": _encode(alpha, "PNG"),
        "photo.jpg": _encode(smooth, "JPEG", quality=95),
        "exif6.jpg": _encode(smooth, "JPEG", quality=95, exif=exif.tobytes()),
        "truncated.png": png[: len(png) // 2],
        "text.png": b"not a picture\n",
        "empty.png": b"",
        "huge.png": _checksum(huge),
    }


def picture_vectors(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """`edge_runtime.imaging.image.decode_image`: the picture, or that it is refused."""
    cases: list[dict[str, Any]] = []
    for name, data in files.items():
        try:
            cases.append({"file": name, "rgb": pack(decode_image(data, name=name))})
        except ImageError:
            cases.append({"file": name, "rgb": None})
    return cases


def orientation_vectors() -> list[dict[str, Any]]:
    """What the eight EXIF orientations mean, by Pillow."""
    cases = []
    for orientation in range(1, 9):
        image = Image.fromarray(noise(3, 5))
        image.getexif()[0x0112] = orientation
        upright = ImageOps.exif_transpose(image)
        cases.append({"source": [3, 5], "orientation": orientation, "upright": pack(np.asarray(upright))})
    return cases


def bundle_error_vectors() -> list[dict[str, Any]]:
    """Changes to a bundle, each with words that the error sentence must hold in every language.

    A change is one of: ``delete`` a file, ``add`` an empty one, ``truncate`` it to half, ``flip`` its last bit,
    ``sums`` (replace text in SHA256SUMS), ``manifest`` (set the value at a path of keys, or with ``remove`` take it
    away, and renew the sums), ``text`` (replace bundle.json and renew the sums), ``replace`` (replace text in
    bundle.json and renew the sums). With ``folder``, the bundle in that folder is changed, then the outer sums are
    renewed.
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
        {"change": manifest(["schema_version"], 2), "words": ["schema_version 2", "reads 1", "Update"]},
        {"change": manifest(["colour"], "blue"), "words": ["unknown keys", "colour"]},
        {"change": {"manifest": ["name"], "remove": True}, "words": ["lacks", "name"]},
        {"change": manifest(["name"], 7), "words": ["name has the wrong type"]},
        {"change": manifest(["labels"], ["benign"]), "words": ["at least two different names"]},
        {"change": manifest(["labels"], ["benign", "benign"]), "words": ["at least two different names"]},
        {"change": manifest(["positive_label"], "odd"), "words": ["positive_label", "odd"]},
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
        {"change": _manifest(["cascade"], None), "words": ["bundle.json has unknown keys", "cascade"]},
        {"change": _manifest(["cascade"], []), "words": ["cascade must be a JSON object"]},
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
        {"change": first(_manifest(["positive_label"], "benign")), "words": ["the same labels"]},
        {"change": first(_manifest(["input", "channels"], "BGR")), "words": ["only runs RGB", "BGR"]},
        {
            "change": first(_manifest(["cascade"], {**asdict(spec), "full_artifact": spec.first_artifact})),
            "words": ["is a cascade itself", "plain bundle"],
        },
    ]


def ed25519_vectors() -> list[dict[str, Any]]:
    """The three first tests of RFC 8032, 7.1, a kilobyte, and what must not pass."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    order = 2**252 + 27742317777372353535851937790883648493
    cases = []
    for secret, message in (
        ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", b""),
        ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", b"\x72"),
        ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", b"\xaf\x82"),
        ("07" * 32, bytes(range(256)) * 4),
    ):
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
        key, signature = bytes.fromhex(raw_public_key(private.public_key())), private.sign(message)
        again = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
        tried = [
            (key, message, signature),
            (key, message + b"\0", signature),
            (key, message, signature[:32] + again),
        ]
        tried += [(key, message, _flipped(signature, bit)) for bit in (0, 255, 256, 511)]
        tried += [(_flipped(key, bit), message, signature) for bit in (0, 255)]
        for key, message, signature in tried:
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
                valid = True
            except (InvalidSignature, ValueError):
                valid = False
            case = {"key": key.hex(), "message": message.hex(), "signature": signature.hex(), "valid": valid}
            cases.append(case)
    return cases


def signature_vectors() -> list[dict[str, Any]]:
    """`signature`: text of SHA256SUMS.sig (null: none), allowed signers -> ``signer``, or ``words``."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    clinic, other = (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (1, 2))
    keys = {"clinic": raw_public_key(clinic.public_key()), "other": raw_public_key(other.public_key())}
    sums = (VECTORS / "bundle" / SUMS).read_bytes()

    def text(signed: bytes, digest: bytes = sums) -> str:
        body = (
            f"sonoedge-signature 1\nkey {keys['clinic']}\nsums {sha256_bytes(digest)}\nsignature {signed.hex()}\n"
        )
        return f"{body}check {sha256_bytes(body.encode())}\n"

    good = text(clinic.sign(sums))
    only = {"clinic": keys["clinic"]}
    cases: list[dict[str, Any]] = [
        {"file": good, "signers": only, "signer": "clinic"},
        {"file": good, "signers": {"other": keys["other"], "renamed": keys["clinic"]}, "signer": "renamed"},
        {"file": None, "signers": only, "words": ["is not signed", "clinic"]},
        {"file": good, "signers": {"other": keys["other"]}, "words": ["unknown key", keys["clinic"][:16], "other"]},
        {"file": text(other.sign(sums)), "signers": only, "words": ["forged", "clinic"]},
        {"file": text(clinic.sign(sums + b"x")), "signers": only, "words": ["forged", "clinic"]},
        {"file": text(clinic.sign(sums + b"x"), sums + b"x"), "signers": only, "words": ["made for another", SUMS]},
        {"file": good[:-1], "signers": only, "words": ["SHA256SUMS.sig is damaged"]},
        {"file": good.replace("check", "cheek"), "signers": only, "words": ["SHA256SUMS.sig is damaged"]},
        {
            "file": good.replace("signature 1", "signature 2"),
            "signers": only,
            "words": ["SHA256SUMS.sig is damaged"],
        },
        {"file": "", "signers": only, "words": ["SHA256SUMS.sig is damaged"]},
    ]
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            bundle = Path(folder) / "bundle"
            shutil.rmtree(bundle, ignore_errors=True)
            shutil.copytree(VECTORS / "bundle", bundle)
            if case["file"] is not None:
                write_text_atomic(bundle / SIGNATURE, case["file"])
            try:
                assert verify_signature(bundle, case["signers"]) == case["signer"]
            except (BundleError, TrustError) as error:
                assert all(word in str(error) for word in case["words"]), error
    return cases


def _flipped(data: bytes, bit: int) -> bytes:
    return (int.from_bytes(data, "little") ^ (1 << bit)).to_bytes(len(data), "little")


def write_bundle(target: Path) -> None:
    """Two float and integer artifacts of a few thousand weights, and their golden vectors on small pictures."""
    _export("small", _trained((2, 1), 48, epochs=40), "tflite-int8,tflite-fp32", target)


def write_cascade_bundle(target: Path) -> None:
    """A smaller model with a smaller input, int8, in front of the small bundle's float file.

    The line is fitted on generated pictures; the margin lies between those of `_CASCADED`, in the widest gap that
    leaves each model some of both labels, so that no interpreter's rounding moves a picture to the other side.
    """
    from sonoedge.export.cascade.bundle import write_cascade
    from sonoedge.export.cascade.fit import fit_cascade

    full = load_bundle(VECTORS / "bundle")
    with tempfile.TemporaryDirectory() as folder:
        _export("student", _trained((2,), 32, epochs=25), "tflite-int8", Path(folder) / "student")
        first = load_bundle(Path(folder) / "student")
        models = Classifier(first, "tflite-int8", threads=1), Classifier(full, "tflite-fp32", threads=1)
        pictures = [mixed(40 + seed % 30, 60, seed, seed) for seed in range(60)]
        logits = [np.array([model.explain_raw(picture)[0].logit for picture in pictures]) for model in models]
        cut = cut_of(models[1].artifact.threshold)
        fit = fit_cascade(*logits, cut)
        spec = CascadeSpec("first", "tflite-int8", "tflite-fp32", fit.scale, fit.offset, 0.0, {})
        estimates = [
            estimate(spec, models[0].explain_raw(mixed(*size, seed, rows))[0].logit)
            for size, seed, rows in _CASCADED
        ]
        spec = replace(spec, margin=_margin(np.array(estimates) - cut))
        escalated = float(np.mean(np.abs(spec.scale * logits[0] + spec.offset - cut) < spec.margin))
        metrics = {"validation": {"images": len(pictures), "escalated": escalated}}
        write_cascade(first, full, replace(spec, metrics=metrics), target, threads=1)


def write_gates(folder: Path) -> None:
    """Fit the gate of every model below ``folder`` on grey pictures, and renew all sums."""
    from sonoedge.export.gate.fit import distances, fit_gate
    from sonoedge.export.gate.fit import pack as packed

    folders = [path for path in (folder / "first", folder) if path.is_dir()]
    for path in folders:
        (path / DOMAIN).unlink(missing_ok=True)
        bundle = read_manifest(path)
        write_manifest(bundle)
        models = {a.name: Classifier(bundle, a.name, threads=1) for a in bundle.artifacts}
        gate = fit_gate(_features(models[bundle.artifacts[-1].name], _FITTED), bundle, directions=4)
        limits = {name: _limits(distances(gate, _features(model, _DRAWN))) for name, model in models.items()}
        write_bytes_atomic(path / DOMAIN, packed(gate, limits))
        write_manifest(bundle)


def _features(model: Classifier, pictures: list[tuple[str, int, int, int]]) -> NDArray[np.float32]:
    names = [branch.name for branch in model.bundle.branches]
    return np.stack([features_of(model.explain_raw(drawn(*picture))[1], names) for picture in pictures])


def _limits(distance: NDArray[np.float64]) -> Any:
    """Both in wide gaps between pictures, so that no interpreter's rounding moves one to the other side."""
    order = np.log(np.sort(distance))
    gaps = np.diff(order)
    # A third of the pictures and more is usual, two and more are flagged, two and more refused.
    first = len(order) // 3 + int(np.argmax(gaps[len(order) // 3 : -5]))
    second = first + 2 + int(np.argmax(gaps[first + 2 : -1]))
    warning, threshold = (float(np.exp((order[i] + order[i + 1]) / 2)) for i in (first, second))
    from sonoedge.export.gate.fit import Limits

    return Limits(warning, threshold)


def _margin(distance: NDArray[np.float64]) -> float:
    """The middle of the widest gap between distances from the cut that has both signs on both sides."""
    order = np.sort(np.abs(distance))
    gaps = [
        (above - below, (above + below) / 2)
        for below, above in pairwise(order)
        if all(len(set(distance[side] > 0)) == 2 for side in (np.abs(distance) <= below, np.abs(distance) >= above))
    ]
    return float(max(gaps)[1])


def _trained(grids: tuple[int, ...], size: int, *, epochs: int) -> Any:
    import keras

    sys.path.insert(0, str(VECTORS.parent))
    from conftest import small_model

    keras.utils.set_random_seed(5)
    model = small_model(grids=grids, size=size)
    # Trained to tell steep cones from flat ones: untrained logits all but coincide, and rounding would decide.
    seeds = range(200)
    inputs = np.concatenate([to_input(noise(40 + seed % 30, 60, seed), (size, size)) for seed in seeds])
    model.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy")
    model.fit(inputs, np.array([seed % 2 for seed in seeds], np.float32), epochs=epochs, batch_size=20, verbose=0)
    return model


def _export(name: str, model: Any, formats: str, target: Path) -> None:
    from conftest import call

    from sonoedge.export.bundle import golden
    from sonoedge.train.simulation.phantoms import generate_phantoms

    golden._SIZES = ((48, 48), (60, 81), (31, 40), (64, 50))
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/{name}.keras")
        data = generate_phantoms(Path(folder) / "phantoms", cases_per_class=6)
        arguments = ["--model", f"{folder}/{name}.keras", "--labels", "benign,malignant", "--precision", "w8a8"]
        arguments += ["--format", formats, "--num-calibration-samples", "8", "--quiet"]
        if code := call("export", *arguments, "--calibration-data", data / "benign", "--out", target):
            raise SystemExit(code)


def write(folder: Path) -> None:
    """Every JSON and picture file."""
    files = picture_files()
    for name, data in files.items():
        write_bytes_atomic(folder / "pictures" / name, data)
    for name, body in (
        ("resize", resize_vectors()),
        ("heat", heat_vectors()),
        ("decision", decision_vectors()),
        ("assess", assess_vectors()),
        ("quality", quality_vectors()),
        ("gate", gate_vectors()),
        ("verdicts", verdict_vectors()),
        ("answers", answer_vectors()),
        ("pictures", picture_vectors(files)),
        ("orientation", orientation_vectors()),
        ("bundle_errors", bundle_error_vectors()),
        ("cascade_answers", cascade_answer_vectors()),
        ("cascade_decisions", cascade_decision_vectors()),
        ("cascade_errors", cascade_error_vectors()),
        ("ed25519", ed25519_vectors()),
        ("signature", signature_vectors()),
    ):
        write_text_atomic(folder / f"{name}.json", json.dumps(body, indent=1, allow_nan=False) + "\n")


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _checksum(png: bytes) -> bytes:
    """The PNG with the CRC of its header chunk made right again."""
    import zlib

    return png[:29] + zlib.crc32(png[12:29]).to_bytes(4, "big") + png[33:]


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write tests/vectors from edge_runtime.")
    parser.add_argument("--bundle", action="store_true", help="export the small bundle and the cascade anew, too")
    parser.add_argument("--cascade", action="store_true", help="export the cascade anew, too")
    parser.add_argument("--gate", action="store_true", help="fit the gates of both bundles again")
    args = parser.parse_args(argv)
    if args.bundle:
        write_bundle(VECTORS / "bundle")
    if args.bundle or args.cascade:
        write_cascade_bundle(VECTORS / "cascade")
    if args.bundle or args.cascade or args.gate:
        write_gates(VECTORS / "bundle")
        write_gates(VECTORS / "cascade")
    write(VECTORS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
