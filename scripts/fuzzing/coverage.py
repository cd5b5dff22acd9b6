"""libFuzzer's loop, guided by coverage."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.fuzzing.mutations import mutate_json
from scripts.fuzzing.targets import JSON_TARGETS, checker, seeds


def with_atheris(target: str, args: argparse.Namespace) -> int:
    """Run libFuzzer's loop with the coverage of our Python code, Pillow, pydicom and two parsers below them.

    libFuzzer ends the process: the loop does not return.
    """
    import atheris

    # Parsers of the standard library that were imported already would not be instrumented.
    sys.modules.pop("zipfile", None)
    with atheris.instrument_imports(include=["sonoedge", "PIL", "pydicom", "numpy.lib._format_impl", "zipfile"]):
        check = checker(target, args.bundle)
        samples = seeds(target, args.bundle)
        # Decoders are imported when the first file needs them: once here, where they get instrumented.
        for data in samples:
            check(data)
    corpus = Path(tempfile.mkdtemp(prefix="sonoedge-corpus-"))
    for number, data in enumerate(samples):
        (corpus / str(number)).write_bytes(data)
    options = [f"-runs={args.runs}", f"-seed={args.seed}", f"-timeout={args.seconds}"]
    # Room to grow: libFuzzer cuts longer inputs, and a cut zip file is no zip file.
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
    """The check without its result: libFuzzer takes functions that return nothing."""

    def run(data: bytes) -> None:
        check(data)

    return run


def atheris_summary(target: str, args: argparse.Namespace, log: str) -> dict[str, Any]:
    """The target's JSON line, from libFuzzer's log: its loop does not return."""
    stats = dict(line.removeprefix("stat::").split(":") for line in log.splitlines() if line.startswith("stat::"))
    last = next((line for line in reversed(log.splitlines()) if " cov: " in line), "")
    words = last.split()
    coverage = {key[:-1]: words[i + 1] for i, key in enumerate(words) if key in {"cov:", "ft:", "corp:"}}
    inputs = int(stats.get("number_of_executed_units", 0))
    return {"target": target, "engine": args.engine, "seed": args.seed, "inputs": inputs, **coverage}
