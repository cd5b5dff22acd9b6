"""``sonoedge benchmark --device-run``: time a bundle on this machine. edge_runtime and NumPy only."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from sonoedge.benchmarks.measure.candidates import Bar
from sonoedge.benchmarks.measure.environment import machine
from sonoedge.benchmarks.measure.planning import artifact_candidates, checked_threads, make_protocol
from sonoedge.benchmarks.records.journal import Journal
from sonoedge.benchmarks.records.runfile import SCHEMA_VERSION, Run, write_run
from sonoedge.benchmarks.retention.assembly import run_benchmark
from sonoedge.edge_runtime.bundle.checksums import bundle_digest
from sonoedge.edge_runtime.bundle.trust import load_trusted
from sonoedge.edge_runtime.device.replay import load_golden
from sonoedge.edge_runtime.errors import UsageError
from sonoedge.edge_runtime.files import sha256_bytes


def device_run(
    bundle_path: Path, out: Path, *, artifacts: Sequence[str] | None, mode: str, threads: int | None, bar: Bar
) -> Run:
    """Time every artifact that can run here and write the run file; an interrupted run goes on.

    Stages are timed on the bundle's generated golden images, which have several original sizes.

    Args:
        bundle_path: bundle folder.
        out: run file.
        artifacts: names; None takes all that can run here.
        mode: one of `benchmarks.measure.candidates.MODES`, or ``none`` for no latency.
        threads: for interpreters; None takes `edge_runtime.backends.default_threads`.
        bar: shows progress.

    Raises:
        BundleError, UsageError, MissingExtraError: nothing can be measured.
    """
    if out.is_dir():
        raise UsageError(f"--out names a file with --device-run; {out} is a folder.")
    bundle = load_trusted(bundle_path)
    count = checked_threads(threads)
    planned = artifact_candidates(bundle, artifacts, count)
    protocol = make_protocol(mode, count, planned)
    journal = Journal(
        out.with_name(f".{out.name}.partial"),
        fingerprint(
            [
                str(bundle.path.resolve()),
                bundle_digest(bundle.path),
                mode,
                str(count),
                *[p.name for p in planned],
            ]
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        golden = load_golden(bundle)
        images = []
        for i in range(len(golden["reference_logit"])):
            images.append(Path(folder) / f"golden_{i}.png")
            Image.fromarray(golden[f"image_{i}"]).save(images[-1])
        run = run_benchmark(bundle, planned, images, None, protocol, None, {}, journal, bar)
    write_run(run, out)
    journal.remove()
    return run


def fingerprint(parts: Sequence[str]) -> str:
    """One digest of everything on which a stored step depends: ``parts``, schema version, installed packages."""
    return sha256_bytes("\n".join([*parts, str(SCHEMA_VERSION), repr(machine().versions)]).encode())
