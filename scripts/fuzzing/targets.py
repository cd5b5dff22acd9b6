"""The targets of the fuzzer: parsers, their promises, and valid inputs to start from."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

TARGETS = ("image", "dicom", "manifest", "sums", "golden", "npy", "flatbuffer", "signature", "policy")
JSON_TARGETS = frozenset({"manifest", "policy"})
MAX_SEED_BYTES = 64_000


def checker(target: str, bundle: Path) -> Callable[[bytes], bool]:
    """The function that gives an input to a target and returns whether the target accepts it.

    It raises what the target raises, except our own error, and `AssertionError` if a result breaks the promise.

    Args:
        target: one of `TARGETS`.
        bundle: folder; some targets need its files.
    """
    import numpy as np

    from sonoedge.edge_runtime.backends import flatbuffer
    from sonoedge.edge_runtime.bundle import checksums as sums
    from sonoedge.edge_runtime.bundle import manifest as manifests
    from sonoedge.edge_runtime.bundle import signature as signatures
    from sonoedge.edge_runtime.bundle import trust
    from sonoedge.edge_runtime.device import replay as verify
    from sonoedge.edge_runtime.errors import BundleError, ImageError, ModelError, UsageError
    from sonoedge.edge_runtime.imaging import image

    scratch = Path(tempfile.mkdtemp(prefix="sonoedge-fuzz-"))
    (scratch / sums.SHA256SUMS).write_bytes((bundle / sums.SHA256SUMS).read_bytes())
    names = [artifact.name for artifact in manifests.read_manifest(bundle).artifacts]

    def decode(data: bytes) -> None:
        pixels = image.decode_image(data)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size

    def manifest(data: bytes) -> None:
        parsed = manifests.decode_manifest(data, bundle)
        assert parsed.artifacts and parsed.branches and parsed.positive_label in parsed.labels

    def sums_file(data: bytes) -> None:
        digests = sums.parse_digests(data)
        assert "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode() == data

    def golden(data: bytes) -> None:
        assert verify.golden_images(verify.parse_golden(data, names))

    members = unzip(small_golden(bundle)) if target == "npy" else {}

    def npy(data: bytes) -> None:
        # The input is one array of the zip file, whose checksums are right.
        golden(rezip({**members, "reference_logit.npy": data}))

    def signature(data: bytes) -> None:
        (scratch / sums.SIGNATURE).write_bytes(data)
        found = signatures.read_signature(scratch)
        assert found is not None and len(found.signature) == 128

    def policy(data: bytes) -> None:
        (scratch / "policy.json").write_bytes(data)
        trust.read_policy(scratch / "policy.json")

    actions: dict[str, tuple[Callable[[bytes], Any], type[Exception]]] = {
        "image": (decode, ImageError),
        "dicom": (decode, ImageError),
        "manifest": (manifest, BundleError),
        "sums": (sums_file, BundleError),
        "golden": (golden, BundleError),
        "npy": (npy, BundleError),
        "flatbuffer": (flatbuffer.check_tflite, ModelError),
        "signature": (signature, BundleError),
        "policy": (policy, UsageError),
    }
    action, refusal = actions[target]

    def check(data: bytes) -> bool:
        try:
            action(data)
        except refusal:
            return False
        return True

    return check


def seeds(target: str, bundle: Path) -> list[bytes]:
    """Valid inputs of a target to start from."""
    from sonoedge.edge_runtime import files
    from sonoedge.edge_runtime.bundle import checksums as sums
    from sonoedge.edge_runtime.bundle import contract as bundles

    if target in {"image", "dicom"}:
        from tests.helpers.pictures import sample_dicoms, sample_files

        return list((sample_files() if target == "image" else sample_dicoms()).values())
    if target == "flatbuffer":
        files = sorted(bundle.glob("tflite-*/*.tflite"), key=lambda p: p.stat().st_size)
        return [path.read_bytes() for path in files if path.stat().st_size <= MAX_SEED_BYTES]
    if target == "signature":
        body = f"sonoedge-signature 1\nkey {'ab' * 32}\nsums {files.sha256_file(bundle / sums.SHA256SUMS)}\n"
        body += f"signature {'cd' * 64}\n"
        return [f"{body}check {files.sha256_bytes(body.encode())}\n".encode()]
    if target == "policy":
        whole = {
            "policy_version": 1,
            "allowed_signers": {"a": "ab" * 32},
            "minimum_schema_version": 1,
            "required_metrics": {"training.test.auc.1": {"min": 0.5, "max": 1}},
        }
        return [json.dumps(whole).encode(), b'{"policy_version": 1}']
    if target == "golden":
        return [small_golden(bundle)]
    if target == "npy":
        return list(unzip(small_golden(bundle)).values())
    return [(bundle / (bundles.MANIFEST if target == "manifest" else sums.SHA256SUMS)).read_bytes()]


def small_golden(bundle: Path) -> bytes:
    """Bytes of the bundle's golden.npz with its images cut to 8 x 8: headers matter here, not pixels."""
    import numpy as np

    with np.load(bundle / "golden.npz", allow_pickle=False) as arrays:
        cut = {name: arrays[name][:8, :8] if name.startswith("image_") else arrays[name] for name in arrays.files}
    buffer = io.BytesIO()
    np.savez(buffer, **cut)
    return buffer.getvalue()


def unzip(data: bytes) -> dict[str, bytes]:
    """Name -> content of a zip file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(members: dict[str, bytes]) -> bytes:
    """Bytes of a zip file of the members, not compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()
