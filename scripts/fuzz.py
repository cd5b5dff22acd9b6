"""Fuzz every parser that reads foreign files: images, DICOM, and the files of a bundle.

    python scripts/fuzz.py --bundle BUNDLE                       every target, 10,000 mutated inputs each
    python scripts/fuzz.py --bundle BUNDLE --engine atheris      coverage-guided (pip install ".[fuzz]")
    python scripts/fuzz.py --bundle BUNDLE --target golden --runs 100000 --seed 7

A target passes if every input gives a result or one of our errors. A finding is another exception, a result that
breaks the target's promise, more than --seconds of processor time for one input, or the death of the process: the
input is kept under --findings, and the exit code is 1. Seeds are generated images and the files of the bundle (take
a small one). Each target runs in a process of its own with 4 GiB of address space and prints one JSON line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.fuzzing.coverage import atheris_summary, with_atheris  # noqa: E402
from scripts.fuzzing.mutations import mutate, mutate_json  # noqa: E402
from scripts.fuzzing.targets import JSON_TARGETS, TARGETS, checker, seeds  # noqa: E402

MEMORY_BYTES = 4 << 30
"""Address space of each target's process."""


class Hang(BaseException):
    """One input took too long; a BaseException, so that no parser's own handler swallows it."""


def main() -> int:
    """Fuzz the targets, each in a process of its own; exit code 1 if there is a finding."""
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
    """Fuzz one target in this process and print its JSON line; returns the exit code."""
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
        # If the process dies, this file holds the input that killed it.
        last.write_bytes(data)
        started = time.perf_counter()
        # Processor time: on a busy machine wall-clock time says little.
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


def keep(folder: Path, target: str, data: bytes) -> str:
    """Keep an input in a file named by its digest; returns the path."""
    path = folder / f"{target}-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return str(path)


def hang(signum: int, frame: Any) -> None:
    """Signal handler that ends an input that takes too long."""
    raise Hang("took too long")


if __name__ == "__main__":
    sys.exit(main())
