"""Write tests/vectors: what edge_runtime computes, for the ports to Kotlin and JavaScript to be held against.

    python scripts/write_vectors.py             the JSON and picture files, from edge_runtime alone
    python scripts/write_vectors.py --bundle    the small bundle first, through `sonoedge export` (needs TensorFlow)

Files (arrays are base64 of their C-order little-endian bytes, ``{"dtype", "shape", "data"}``):

    resize.json         generated pictures -> resized pictures
    heat.json           colour table; Grad-CAM maps -> heat maps and overlays
    decision.json       probabilities and thresholds -> labels
    answers.json        the small bundle's artifacts on generated pictures
    pictures.json       the files in pictures/ -> decoded RGB as stored, or null where they are refused
    orientation.json    EXIF orientations -> the upright picture
    bundle_errors.json  changes to the small bundle -> words that the error must hold
    bundle/             a real bundle of a few kilobytes

Generated pictures need no file: see `noise`.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edge_runtime import Classifier, load_bundle
from edge_runtime.colormap import COLORMAP
from edge_runtime.errors import ImageError
from edge_runtime.explain import explanation, heat_map, overlay
from edge_runtime.files import write_bytes_atomic, write_text_atomic
from edge_runtime.image import decode_image, resize, to_input

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


def pack(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON."""
    array = np.ascontiguousarray(array)
    data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def resize_vectors() -> list[dict[str, Any]]:
    """`edge_runtime.image.resize`."""
    return [
        {"source": list(source), "seed": seed, "resized": pack(resize(noise(*source, seed), size))}
        for seed, (source, size) in enumerate(_RESIZES, start=1)
    ]


def heat_vectors() -> dict[str, Any]:
    """`edge_runtime.colormap` and `edge_runtime.explain`: peaks, zeros, one cell; any size."""
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


def answer_vectors() -> list[dict[str, Any]]:
    """What every artifact of the small bundle answers."""
    bundle = load_bundle(VECTORS / "bundle")
    cases = []
    for artifact in bundle.artifacts:
        classifier = Classifier(bundle, artifact.name, threads=1)
        for seed, size in enumerate(_ANSWERED, start=1):
            prediction, outputs = classifier.explain_raw(noise(*size, seed))
            explained = explanation(bundle, outputs, bundle.positive_label)
            cases.append(
                {
                    "artifact": artifact.name,
                    "size": list(size),
                    "seed": seed,
                    "label": prediction.label,
                    "probability": prediction.probability,
                    "logit": prediction.logit,
                    "shares": dict(explained.shares),
                    "cam": pack(outputs["cam"][0]),
                    "branch_cams": {
                        branch.name: pack(outputs[f"cam_{branch.name}"][0]) for branch in bundle.branches
                    },
                }
            )
    return cases


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
    """`edge_runtime.image.decode_image`: the picture, or that it is refused."""
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
    away, and renew the sums), ``text`` (replace bundle.json and renew the sums).
    """

    def manifest(path: list[str | int], value: Any) -> dict[str, Any]:
        return {"manifest": path, "value": value}

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


def write_bundle(target: Path) -> None:
    """Two float and integer artifacts of a few thousand weights, and their golden vectors on small pictures."""
    import keras

    sys.path.insert(0, str(VECTORS.parent))
    from conftest import call, small_model

    from export import golden
    from train.phantoms import generate_phantoms

    golden._SIZES = ((48, 48), (60, 81), (31, 40), (64, 50))
    keras.utils.set_random_seed(5)
    model = small_model(grids=(2, 1), size=48)
    # Trained to tell steep cones from flat ones: untrained logits all but coincide, and rounding would decide.
    seeds = range(200)
    inputs = np.concatenate([to_input(noise(40 + seed % 30, 60, seed), (48, 48)) for seed in seeds])
    model.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy")
    model.fit(inputs, np.array([seed % 2 for seed in seeds], np.float32), epochs=40, batch_size=20, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/small.keras")
        data = generate_phantoms(Path(folder) / "phantoms", cases_per_class=6)
        arguments = ["--model", f"{folder}/small.keras", "--labels", "benign,malignant", "--precision", "w8a8"]
        arguments += ["--format", "tflite-int8,tflite-fp32", "--num-calibration-samples", "8", "--quiet"]
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
        ("answers", answer_vectors()),
        ("pictures", picture_vectors(files)),
        ("orientation", orientation_vectors()),
        ("bundle_errors", bundle_error_vectors()),
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
    parser.add_argument("--bundle", action="store_true", help="export the small bundle anew, too")
    if parser.parse_args(argv).bundle:
        write_bundle(VECTORS / "bundle")
    write(VECTORS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
