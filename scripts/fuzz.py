"""Fuzz every parser that reads a file of somebody else's: images, DICOM, and the files of a bundle.

    python scripts/fuzz.py --bundle BUNDLE                       every target, 10,000 mutated inputs each
    python scripts/fuzz.py --bundle BUNDLE --engine atheris      coverage-guided (pip install ".[fuzz]")
    python scripts/fuzz.py --bundle BUNDLE --target golden --runs 100000 --seed 7

A target passes when every input gives a result or one of our errors; another exception, a result that breaks the
target's promise, more than --seconds of processor time for one input, or the death of the process is a finding:
the input is kept under --findings, and the exit code is 1. Seeds are generated images and the files of the bundle
(take a small one).
Each target runs in a process of its own with 4 GiB of address space. One JSON line a target.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
TARGETS = ("image", "dicom", "manifest", "sums", "golden", "npy", "flatbuffer", "signature", "policy")
JSON_TARGETS = frozenset({"manifest", "policy"})
MEMORY_BYTES = 4 << 30
MAX_SEED_BYTES = 64_000
_MAGIC = (0, 1, 2, 4, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1)


class Hang(BaseException):
    """One input took too long; a BaseException, so that no parser's own handler swallows it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--engine", choices=("mutate", "atheris"), default="mutate")
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        return fuzz(args.target[0], args)
    bad = 0
    for target in args.target or TARGETS:
        command = [sys.executable, __file__, "--here", "--target", target, "--bundle", str(args.bundle)]
        for name in ("runs", "seed", "seconds", "engine", "findings"):
            command += [f"--{name}", str(getattr(args, name))]
        started = time.time()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        line = next((x for x in reversed(done.stdout.splitlines()) if x.startswith("{")), None)
        body = json.loads(line) if line else atheris_summary(target, args, done.stderr)
        body |= {"seconds": round(time.time() - started, 1)}
        if done.returncode:
            body |= {"exit": done.returncode, "message": done.stderr[-1500:]}
            bad += 1
        print(json.dumps(body), flush=True)
    return int(bad > 0)


def fuzz(target: str, args: argparse.Namespace) -> int:
    """One target in this process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    args.findings.mkdir(parents=True, exist_ok=True)
    if args.engine == "atheris":
        return with_atheris(target, args)
    check = checker(target, args.bundle)
    samples = seeds(target, args.bundle)
    signal.signal(signal.SIGPROF, hang)
    source = random.Random(f"{target} {args.seed}")
    last = args.findings / f"{target}.running"
    count = {"accepted": 0, "refused": 0}
    findings: dict[str, str] = {}
    slowest = 0.0
    for _ in range(args.runs):
        data = mutate(source, samples)
        if target in JSON_TARGETS and source.random() < 0.5:
            data = mutate_json(source, source.choice(samples))
        # Should the process die, this is the input that killed it.
        last.write_bytes(data)
        started = time.perf_counter()
        # Processor time: on a busy machine a moment can take long.
        signal.setitimer(signal.ITIMER_PROF, args.seconds)
        try:
            count["accepted" if check(data) else "refused"] += 1
        except (Exception, Hang) as error:  # noqa: BLE001 – whatever comes through is the finding
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {str(error)[:200]}"
            if kind not in findings:
                findings[kind] = keep(args.findings, target, data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, time.perf_counter() - started)
    last.unlink()
    body = {"target": target, "engine": "mutate", "seed": args.seed, "inputs": args.runs, "seeds": len(samples)}
    print(json.dumps({**body, **count, "slowest_ms": round(1e3 * slowest, 1), "findings": findings}))
    return int(bool(findings))


def checker(target: str, bundle: Path) -> Callable[[bytes], bool]:
    """Whether an input was accepted; anything but a result or one of our errors is an exception."""
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
    (scratch / sums.SUMS).write_bytes((bundle / sums.SUMS).read_bytes())
    names = [artifact.name for artifact in manifests.read_manifest(bundle).artifacts]

    def decode(data: bytes) -> None:
        pixels = image.decode_image(data)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size

    def manifest(data: bytes) -> None:
        parsed = manifests.decode_manifest(data, bundle)
        assert parsed.artifacts and parsed.branches and parsed.positive_label in parsed.labels

    def sums_file(data: bytes) -> None:
        digests = sums.parse_sums(data)
        assert "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode() == data

    def golden(data: bytes) -> None:
        assert verify.golden_images(verify.parse_golden(data, names))

    members = unzip(small_golden(bundle)) if target == "npy" else {}

    def npy(data: bytes) -> None:
        # Behind the checksums of the zip file: one array of it is the input.
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
    """Sound inputs to start from."""
    from sonoedge.edge_runtime import files
    from sonoedge.edge_runtime.bundle import checksums as sums
    from sonoedge.edge_runtime.bundle import contract as bundles

    if target in {"image", "dicom"}:
        import test_edge_image as samples

        return list((samples.sample_files() if target == "image" else samples.sample_dicoms()).values())
    if target == "flatbuffer":
        files = sorted(bundle.glob("tflite-*/*.tflite"), key=lambda p: p.stat().st_size)
        return [path.read_bytes() for path in files if path.stat().st_size <= MAX_SEED_BYTES]
    if target == "signature":
        body = f"sonoedge-signature 1\nkey {'ab' * 32}\nsums {files.sha256_file(bundle / sums.SUMS)}\n"
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
    return [(bundle / (bundles.MANIFEST if target == "manifest" else sums.SUMS)).read_bytes()]


def small_golden(bundle: Path) -> bytes:
    """golden.npz of the bundle with its images cut to 8 x 8: headers matter here, not pixels."""
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
    """A zip file of the members, not compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def mutate(source: random.Random, samples: list[bytes]) -> bytes:
    """One to eight changes of a sample: bits, bytes, magic numbers, cuts, copies, insertions, splices, text."""
    data = bytearray(source.choice(samples))
    for _ in range(source.choice((1, 1, 1, 2, 3, 8))):
        if not data:
            return bytes(source.randbytes(source.randrange(64)))
        at = source.randrange(len(data))
        kind = source.randrange(9)
        if kind == 0:
            data[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            data[at] = source.randrange(256)
        elif kind == 2:
            size = source.choice((1, 2, 4, 8))
            value = source.choice(_MAGIC) & ((1 << 8 * size) - 1)
            data[at : at + size] = value.to_bytes(size, source.choice(("little", "big")))
        elif kind == 3:
            del data[at : at + source.choice((1, 4, 16, 256))]
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            data[at:at] = source.randbytes(source.choice((1, 2, 4, 64)))
        elif kind == 6:
            length = source.choice((1, 4, 32, 512))
            start = source.randrange(len(data))
            data[at : at + length] = data[start : start + length]
        elif kind == 7:
            other = source.choice(samples)
            data[at:] = other[source.randrange(len(other)) :]
        else:
            text = (
                b"null",
                b"-1",
                b"1e999",
                b"NaN",
                b"[]",
                b"{}",
                b'"',
                b"../",
                b"\\u0000",
                b"9" * 5000,
                b"[" * 3000,
            )
            data[at : at + source.choice((0, 1, 4))] = source.choice(text)
    return bytes(data)


def mutate_json(source: random.Random, data: bytes) -> bytes:
    """One to three nodes replaced, removed, doubled or renamed: text that is JSON still, for what comes after."""
    try:
        tree = json.loads(data)
    except ValueError:
        return data
    odd = (None, True, -1, 0, 0.5, 1e308, 2**70, "", "../x", "\u0000", "x" * 300, [], {}, [[]], {"a": 1})
    for _ in range(source.choice((1, 1, 2, 3))):
        places = []
        nodes = [tree]
        while nodes:
            node = nodes.pop()
            if isinstance(node, dict | list):
                keys = list(node) if isinstance(node, dict) else list(range(len(node)))
                places += [(node, key) for key in keys]
                nodes += [node[key] for key in keys]
        if not places:
            break
        node, key = source.choice(places)
        kind = source.randrange(4)
        if kind == 0:
            node[key] = copy.deepcopy(source.choice(odd))
        elif kind == 1:
            del node[key]
        elif kind == 2:
            other, name = source.choice(places)
            if name in other if isinstance(other, dict) else name < len(other):
                node[key] = copy.deepcopy(other[name])
        elif isinstance(node, dict):
            node[source.choice(("", "x", str(key).upper()))] = node.pop(key)
        else:
            node.append(node[key])
    return json.dumps(tree).encode()


def with_atheris(target: str, args: argparse.Namespace) -> int:
    """libFuzzer's loop with the coverage of our Python code and, for images, of Pillow's and pydicom's."""
    import atheris

    # Parsers of the standard library that were imported already would not be instrumented.
    sys.modules.pop("zipfile", None)
    with atheris.instrument_imports(
        include=["edge_runtime", "PIL", "pydicom", "numpy.lib._format_impl", "zipfile"]
    ):
        check = checker(target, args.bundle)
        samples = seeds(target, args.bundle)
        # Decoders are imported when the first file needs them: once here, where they get instrumented.
        for data in samples:
            check(data)
    corpus = Path(tempfile.mkdtemp(prefix="sonoedge-corpus-"))
    for number, data in enumerate(samples):
        (corpus / str(number)).write_bytes(data)
    options = [f"-runs={args.runs}", f"-seed={args.seed}", f"-timeout={args.seconds}"]
    # Room to grow; what is longer would be cut, and a cut zip file is none.
    options += [f"-max_len={max(4096, 2 * max(map(len, samples)))}"]
    options += [f"-artifact_prefix={args.findings}/{target}-", "-rss_limit_mb=0", "-print_final_stats=1"]

    def structured(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        changed = mutate_json(chance, data) if chance.random() < 0.5 else atheris.Mutate(data, max_size)
        return changed if len(changed) <= max_size else atheris.Mutate(data, max_size)

    more = {"custom_mutator": structured} if target in JSON_TARGETS else {}
    atheris.Setup([sys.argv[0], *options, str(corpus)], check_only(check), **more)
    atheris.Fuzz()
    return 0


def check_only(check: Callable[[bytes], bool]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        check(data)

    return run


def atheris_summary(target: str, args: argparse.Namespace, log: str) -> dict[str, Any]:
    """From libFuzzer's log, since its loop does not come back."""
    stats = dict(line.removeprefix("stat::").split(":") for line in log.splitlines() if line.startswith("stat::"))
    last = next((line for line in reversed(log.splitlines()) if " cov: " in line), "")
    words = last.split()
    coverage = {key[:-1]: words[i + 1] for i, key in enumerate(words) if key in {"cov:", "ft:", "corp:"}}
    inputs = int(stats.get("number_of_executed_units", 0))
    return {"target": target, "engine": args.engine, "seed": args.seed, "inputs": inputs, **coverage}


def keep(folder: Path, target: str, data: bytes) -> str:
    path = folder / f"{target}-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return str(path)


def hang(signum: int, frame: Any) -> None:
    raise Hang("took too long")


if __name__ == "__main__":
    sys.exit(main())
